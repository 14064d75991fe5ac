/* schedule.c - see schedule.h. */
#include "csrc/cuda/schedule.h"

#include "kernels/shared/params.h"

enum {
  ARRAY_ALIGNMENT = 256,
  /* With this many tiles per CTA a plain stride balances well enough. */
  TILES_PER_WORKER = 2,
  SHARED_BYTES_RESERVED = 1024 /* of a multiprocessor's shared memory, for each CTA */
};

/* CTAs that a multiprocessor holds at once. */
static int32_t ctas_of(const fv_cuda_facts *facts, const fv_cuda_row *row) {
  int64_t room = facts->shared_bytes_sm / (row->shared_bytes + SHARED_BYTES_RESERVED);
  return (int32_t)fv_clamp(room, 1, row->ctas);
}

/* While a warp of a narrow tile waits for keys or computes with them, its values are in flight, and
 * the other way round. So at least the smaller of the two halves, k's and v's, is in flight. */
int64_t fv_cuda_bytes_in_flight(const fv_cuda_facts *facts, const fv_cuda_row *row) {
  int64_t keys = (int64_t)FV_NARROW_WARPS * FV_NARROW_KEYS(row->dim);
  return row->kv_bytes * keys * fv_min(row->dim, row->dim_v) * ctas_of(facts, row);
}

/* With a limit sm_count below the device's, one CTA per allowed multiprocessor: a CTA never runs
 * on more than one. CTAs go to idle multiprocessors first, so they spread over all that are
 * allowed. */
static int32_t workers_of(const fv_cuda_facts *facts, const fv_cuda_row *row, int32_t sm_count) {
  bool limits = sm_count && sm_count < facts->sm_count;
  return limits ? sm_count : facts->sm_count * ctas_of(facts, row);
}

static int64_t bounded(__int128 x) {
  return x > INT64_MAX ? INT64_MAX : (int64_t)x;
}

/* ---- Whether, and how ---- */

static bool is_narrow(const fv_problem *p) {
  return p->rows * p->group <= FV_NARROW_ROWS && p->args.reproducible != FOVEA_REPRODUCIBLE_PHASE;
}

/* Whether sequences differ in their rows. */
static bool has_own_rows(const fv_problem *p) {
  return p->q_packed || p->args.sequences.q_lengths;
}

/* Whether the device schedules the work: if only it knows the lengths, if tiles are narrow, or if
 * there are too few tiles to keep it busy. Under BATCH and PHASE this choice must not depend on
 * device or batch, or bits would. */
static bool is_scheduled(const fv_problem *p, int64_t tiles, int32_t workers) {
  if (has_own_rows(p) || p->kv_packed || p->args.sequences.pages.offsets || is_narrow(p))
    return true;
  return p->args.reproducible == FOVEA_REPRODUCIBLE_RUN &&
         tiles < (int64_t)TILES_PER_WORKER * workers;
}

static uint32_t cut_of(const fv_problem *p) {
  if (p->args.reproducible == FOVEA_REPRODUCIBLE_PHASE) return FV_FLAG_WHOLE;
  return p->args.reproducible == FOVEA_REPRODUCIBLE_BATCH ? FV_FLAG_CHUNKS : 0;
}

/* ---- The lines ---- */

/* Wide tiles of one kv head, at most. A tile never crosses a sequence, so a packed batch can have
 * one ragged tile per sequence. The sum over sequences of ceil(rows_s / tile) is at most this. */
static int64_t wide_tiles(const fv_problem *p, int32_t tile_q) {
  __int128 rows = (__int128)p->rows * p->group;
  __int128 tiles = (rows + tile_q - 1) / tile_q;
  return bounded(p->q_packed ? tiles + p->sequences : tiles * p->sequences);
}

/* If all sequences have the same number of rows, all are wide or all are narrow. */
static bool has_line(const fv_problem *p, int line) {
  if (p->args.reproducible == FOVEA_REPRODUCIBLE_PHASE) return line == FV_WIDE;
  return has_own_rows(p) || is_narrow(p) == (line == FV_NARROW);
}

/* ---- Places for partials ---- */

static int64_t floats_of_partial(const fv_cuda_row *row, int line) {
  int64_t rows = line == FV_NARROW ? FV_NARROW_ROWS : row->kernel.tile_q;
  return FV_PARTIAL_FLOATS(row->dim_v, rows);
}

/* A CTA parks one wide partial, or each of its warps parks a narrow one. */
static int64_t floats_parked(const fv_cuda_row *row, int32_t workers) {
  return workers * floats_of_partial(row, FV_WIDE);
}

static int64_t chunks_at_most(int64_t len_kv) {
  return fv_clamp(fv_ceil_div(len_kv, FV_CHUNK_KEYS), 1, FV_CHUNKS);
}

/* Each sequence and kv head has one narrow tile. A sequence of one chunk needs no place. */
static int64_t partials_of_chunks(int64_t sequences, int64_t heads_kv, int64_t len_kv) {
  int64_t chunks = chunks_at_most(len_kv);
  return chunks > 1 ? bounded((__int128)sequences * heads_kv * chunks) : 0;
}

/* Only narrow tiles are split into chunks. With packed keys none is: the host has no bound on their
 * lengths. */
static int64_t partials_of_line(const fv_problem *p, uint32_t cut, int line, int32_t workers) {
  if (!cut) return 2 * (int64_t)workers;
  if (cut == FV_FLAG_WHOLE || line == FV_WIDE || p->kv_packed) return 0;
  return partials_of_chunks(p->sequences, p->heads_kv, p->kv_capacity);
}

static fv_cuda_plan plan_lines(const fv_problem *p, const fv_cuda_row *row, int32_t workers) {
  fv_cuda_plan cuda = {.scheduled = true, .cut = cut_of(p)};
  for (int line = 0; line < FV_LINES; ++line) {
    if (!has_line(p, line)) continue;
    cuda.lines[line] =
        (fv_cuda_line){.tiles = line == FV_WIDE ? wide_tiles(p, row->kernel.tile_q) : p->sequences,
                       .partials = partials_of_line(p, cuda.cut, line, workers),
                       .partial_floats = floats_of_partial(row, line)};
  }
  return cuda;
}

/* ---- The workspace ---- */

static size_t place(fv_cuda_layout *layout, __int128 count, size_t size) {
  size_t begin = layout->bytes;
  __int128 bytes = count * (__int128)size + ARRAY_ALIGNMENT - 1;
  layout->bytes = (size_t)bounded(bytes / ARRAY_ALIGNMENT * ARRAY_ALIGNMENT + (__int128)begin);
  return begin;
}

static void lay_out(int64_t sequences, fv_cuda_plan *cuda) {
  const fv_cuda_line *lines = cuda->lines;
  fv_cuda_layout layout = {0};
  __int128 partials = (__int128)lines[FV_WIDE].partials + lines[FV_NARROW].partials;
  layout.parked = place(&layout, cuda->parked_floats, sizeof(float));
  if (cuda->scheduled) {
    layout.totals = place(&layout, FV_LINES, sizeof(fv_placed_line));
    layout.sequences = place(&layout, sequences, sizeof(fv_placed_sequence));
    layout.arrived = place(&layout, partials, sizeof(uint32_t));
  }
  for (int line = 0; cuda->scheduled && line < FV_LINES; ++line) {
    __int128 floats = (__int128)lines[line].partials * lines[line].partial_floats;
    layout.tiles[line] = place(&layout, lines[line].tiles, sizeof(fv_placed_tile));
    layout.partials[line] = place(&layout, floats, sizeof(float));
  }
  cuda->layout = layout;
}

/* No more CTAs than there can be units. */
static int32_t fewer_workers(const fv_problem *p, const fv_cuda_row *row, int64_t tiles,
                             int32_t workers) {
  int64_t key_tiles = fv_max(1, fv_ceil_div(p->kv_capacity, row->kernel.tile_kv));
  return (int32_t)fv_clamp(bounded((__int128)tiles * key_tiles), 1, workers);
}

void fv_schedule_cuda(const fv_cuda_facts *facts, const fv_problem *problem, const fv_cuda_row *row,
                      fv_plan *plan) {
  int64_t tiles = wide_tiles(problem, row->kernel.tile_q);
  int32_t workers = workers_of(facts, row, problem->args.sm_count);
  plan->tiles_bound = bounded((__int128)tiles * problem->heads_kv);
  plan->cuda = (fv_cuda_plan){0};
  bool parks = problem->kv_capacity > FV_PARK_KEYS, limited = problem->args.sm_count || parks;
  plan->workers = (int32_t)fv_min(plan->tiles_bound, limited ? workers : INT32_MAX);
  if (is_scheduled(problem, plan->tiles_bound, workers)) {
    plan->workers = fewer_workers(problem, row, plan->tiles_bound, workers);
    plan->cuda = plan_lines(problem, row, plan->workers);
    plan->cuda.bytes_in_flight = fv_cuda_bytes_in_flight(facts, row);
  }
  if (parks) plan->cuda.parked_floats = floats_parked(row, plan->workers);
  lay_out(problem->sequences, &plan->cuda);
  plan->workspace_bytes = plan->cuda.layout.bytes;
}

/* The most that calls within the limits need, if tiles are split where shares end (cut is 0) or
 * into chunks. Tiles are counted as if one kv head had all query heads. Parking always counts:
 * packed keys may exceed the limit of a sequence, and the host does not know whose they are. So a
 * row may be long whatever the limits say. */
static fv_cuda_plan lines_within(const fovea_limits *limits, const fv_cuda_row *row,
                                 int32_t workers, uint32_t cut) {
  __int128 rows = (__int128)limits->total_q * limits->heads_q;
  int32_t tile_q = row->kernel.tile_q;
  int64_t tiles = bounded((rows + tile_q - 1) / tile_q + limits->sequences);
  int64_t chunks = partials_of_chunks(limits->sequences, limits->heads_kv, limits->len_kv);
  int64_t shares = 2 * (int64_t)workers;
  return (fv_cuda_plan){
      .scheduled = true,
      .cut = cut,
      .parked_floats = floats_parked(row, workers),
      .lines = {[FV_WIDE] = {tiles, cut ? 0 : shares, floats_of_partial(row, FV_WIDE)},
                [FV_NARROW] = {limits->sequences, cut ? chunks : shares,
                               floats_of_partial(row, FV_NARROW)}}};
}

size_t fv_cuda_workspace(const fv_cuda_facts *facts, const fovea_limits *limits) {
  size_t most = 0;
  for (int32_t i = 0; fv_cuda_row_at(i); ++i) {
    const fv_cuda_row *row = fv_cuda_row_at(i);
    if (!fv_plan_cuda_can_choose(facts, limits, i)) continue;
    int32_t workers = workers_of(facts, row, limits->sm_count);
    for (uint32_t cut = 0; cut <= FV_FLAG_CHUNKS; cut += FV_FLAG_CHUNKS) {
      fv_cuda_plan bound = lines_within(limits, row, workers, cut);
      lay_out(limits->sequences, &bound);
      if (bound.layout.bytes > most) most = bound.layout.bytes;
    }
  }
  return most;
}

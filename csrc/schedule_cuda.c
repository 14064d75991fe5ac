/* schedule_cuda.c - see schedule_cuda.h. */
#include "schedule_cuda.h"

#include "../kernels/params.h"

enum {
  PART_ALIGNMENT = 256,
  /* Without offsets, tiles of rows in number make a schedule needless: each is its CTA's. */
  TILES_PER_WORKER = 2,
  SHARED_BYTES_RESERVED = 1024 /* per CTA, of a multiprocessor's */
};

/* CTAs that a multiprocessor can hold at once: registers allow two of every row. */
static int32_t ctas_of(const fv_cuda_facts *facts, const fv_cuda_row *row) {
  return 2 * (row->shared_bytes + SHARED_BYTES_RESERVED) <= facts->shared_bytes_sm ? 2 : 1;
}

/* Blocks go to idle multiprocessors first, so no more blocks than allowed multiprocessors use no more
 * of them. */
static int32_t workers_of(const fv_cuda_facts *facts, const fv_cuda_row *row, int32_t sm_count) {
  return sm_count ? sm_count : facts->sm_count * ctas_of(facts, row);
}

static int64_t bounded(__int128 x) {
  return x > INT64_MAX ? INT64_MAX : (int64_t)x;
}

/* ---- Whether, and how ---- */

static bool is_narrow(const fv_problem *p) {
  return p->rows * p->group <= FV_NARROW_ROWS && p->args.reproducible != FOVEA_REPRODUCIBLE_PHASE;
}

/* Lengths that only the device knows, or fewer tiles than keep the device busy. What is computed with
 * a row's bits in view alone must not depend on the device or the batch. */
static bool is_scheduled(const fv_problem *p, int64_t tiles, int32_t workers) {
  if (p->q_packed || p->kv_packed || p->args.pages.offsets || is_narrow(p)) return true;
  return p->args.reproducible == FOVEA_REPRODUCIBLE_RUN &&
         tiles < (int64_t)TILES_PER_WORKER * workers;
}

static uint32_t cut_of(const fv_problem *p) {
  if (p->args.reproducible == FOVEA_REPRODUCIBLE_PHASE) return FV_FLAG_WHOLE;
  return p->args.reproducible == FOVEA_REPRODUCIBLE_BATCH ? FV_FLAG_CHUNKS : 0;
}

/* Tiles of one kv head never cross a sequence. A packed batch can leave one ragged tile per sequence;
 * the sum over sequences of ceil(rows_s / tile) is at most this. */
static int64_t tiles_of(const fv_problem *p, int32_t tile_q) {
  __int128 rows = (__int128)p->rows * p->group;
  __int128 tiles = (rows + tile_q - 1) / tile_q;
  return bounded(p->q_packed ? tiles + p->sequences : tiles * p->sequences);
}

/* ---- Places for parts ---- */

/* Floats of one part's O, base and sum, as kernels/parts/part.cuh lays them. */
static int64_t floats_of_part(int32_t dim_v, bool narrow) {
  return (narrow ? 32 : 128) * (int64_t)(dim_v / 2 + 4);
}

static int64_t chunks_at_most(int64_t len_kv) {
  return fv_clamp(fv_ceil_div(len_kv, FV_CHUNK_KEYS), 1, FV_CHUNKS);
}

/* Narrow tiles of one kv head: one a sequence. A sequence that is one chunk needs no place. */
static int64_t slots_of_chunks(int64_t sequences, int64_t heads_kv, int64_t len_kv) {
  int64_t chunks = chunks_at_most(len_kv);
  return chunks > 1 ? bounded((__int128)sequences * heads_kv * chunks) : 0;
}

static void find_slots(const fv_problem *p, const fv_cuda_row *row, int32_t workers,
                       fv_plan_schedule *s) {
  bool chunks = s->cut == FV_FLAG_CHUNKS;
  s->slot_floats = floats_of_part(row->dim_v, chunks || is_narrow(p));
  s->slots = 0;
  if (chunks && !p->kv_packed) {
    s->slots = slots_of_chunks(p->sequences, p->heads_kv, p->kv_room);
  }
  if (!s->cut) s->slots = 2 * (int64_t)workers;
}

/* ---- The workspace ---- */

static size_t place(fv_cuda_layout *layout, __int128 count, size_t size) {
  size_t begin = layout->bytes;
  __int128 bytes = count * (__int128)size + PART_ALIGNMENT - 1;
  layout->bytes = (size_t)bounded(bytes / PART_ALIGNMENT * PART_ALIGNMENT + (__int128)begin);
  return begin;
}

fv_cuda_layout fv_cuda_layout_of(int64_t sequences, const fv_plan_schedule *schedule) {
  fv_cuda_layout layout = {0};
  layout.totals = place(&layout, 2, sizeof(int64_t));
  layout.sequences = place(&layout, sequences, sizeof(fv_placed_sequence));
  layout.tiles = place(&layout, schedule->tiles, sizeof(fv_placed_tile));
  layout.arrived = place(&layout, schedule->slots, sizeof(uint32_t));
  layout.partials =
      place(&layout, (__int128)schedule->slots * schedule->slot_floats, sizeof(float));
  return layout;
}

/* No more CTAs than there can be units of work. */
static int32_t fewer_workers(const fv_problem *p, const fv_cuda_row *row, int64_t tiles,
                             int32_t workers) {
  int64_t key_tiles = fv_max(1, fv_ceil_div(p->kv_room, row->kernel.tile_kv));
  return (int32_t)fv_clamp(bounded((__int128)tiles * key_tiles), 1, workers);
}

void fv_schedule_cuda(const fv_cuda_facts *facts, const fv_problem *problem, const fv_cuda_row *row,
                      fv_plan *plan) {
  int64_t tiles = tiles_of(problem, row->kernel.tile_q);
  int32_t workers = workers_of(facts, row, problem->args.sm_count);
  plan->tiles_bound = bounded((__int128)tiles * problem->heads_kv);
  plan->schedule = (fv_plan_schedule){0};
  plan->workspace_bytes = 0;
  plan->workers = (int32_t)fv_min(plan->tiles_bound, problem->args.sm_count ? workers : INT32_MAX);
  if (!is_scheduled(problem, plan->tiles_bound, workers)) return;
  plan->workers = fewer_workers(problem, row, plan->tiles_bound, workers);
  plan->schedule = (fv_plan_schedule){.on = true, .cut = cut_of(problem), .tiles = tiles};
  find_slots(problem, row, plan->workers, &plan->schedule);
  plan->workspace_bytes = fv_cuda_layout_of(problem->sequences, &plan->schedule).bytes;
}

/* The larger of what calls with either kind of cut need; tiles as if one kv head had all query heads. */
size_t fv_cuda_workspace(const fv_cuda_facts *facts, const fovea_limits *limits) {
  size_t most = 0;
  __int128 rows = (__int128)limits->total_q * limits->heads_q;
  int64_t tiles = bounded((rows + FV_CUDA_TILE_Q - 1) / FV_CUDA_TILE_Q + limits->sequences);
  for (int32_t i = 0; fv_cuda_row_at(i); ++i) {
    const fv_cuda_row *row = fv_cuda_row_at(i);
    if (!fv_plan_cuda_can_choose(facts, limits, i)) continue;
    int64_t workers = workers_of(facts, row, limits->sm_count);
    fv_plan_schedule shares = {
        .tiles = tiles, .slots = 2 * workers, .slot_floats = floats_of_part(row->dim_v, false)};
    fv_plan_schedule chunks = {
        .tiles = tiles,
        .slots = slots_of_chunks(limits->sequences, limits->heads_kv, limits->len_kv),
        .slot_floats = floats_of_part(row->dim_v, true)};
    size_t of_shares = fv_cuda_layout_of(limits->sequences, &shares).bytes;
    size_t of_chunks = fv_cuda_layout_of(limits->sequences, &chunks).bytes;
    most = of_shares > most ? of_shares : most;
    most = of_chunks > most ? of_chunks : most;
  }
  return most;
}

/* plan.c - see plan.h. */
#include "csrc/cpu/plan.h"

#include <stdio.h>

#include "csrc/cpu/tile_scratch.h"

static const fv_cpu_row rows[] = {
#define FV_CPU_ROW(name, isa, tile_q, tile_kv) {{#name, tile_q, tile_kv}, FV_ISA_##isa},
#include "csrc/cpu/kernels.def"
#undef FV_CPU_ROW
};

enum { ROW_COUNT = sizeof rows / sizeof rows[0] };

const fv_cpu_row *fv_cpu_row_at(int32_t index) {
  return index >= 0 && index < ROW_COUNT ? &rows[index] : NULL;
}

int32_t fv_cpu_row_count(void) {
  return ROW_COUNT;
}

/* The first row that the processor can run. Rows are ordered best first; the last runs anywhere. */
static const fv_kernel *choose_kernel(const fv_cpu_facts *facts) {
  int i = 0;
  while (i < ROW_COUNT - 1 && rows[i].isa > facts->isa) ++i;
  return &rows[i].kernel;
}

static void explain_choice(const fv_cpu_facts *facts, const fv_problem *problem, fv_plan *plan) {
  const char *isa = fv_isa_name(facts->isa);
  if (problem->args.reproducible == FOVEA_REPRODUCIBLE_PHASE) {
    snprintf(plan->reason, sizeof plan->reason,
             "covers every dtype, shape and mask; instruction set %s; phase: few rows are packed "
             "as tiles, 1.5 to 3 times slower than streamed",
             isa);
  } else {
    snprintf(plan->reason, sizeof plan->reason,
             "covers every dtype, shape and mask; instruction set %s", isa);
  }
}

/* `rows` rounded up to whole panels: at least one panel, at most tile_q. */
static int32_t tile_of_rows(const fv_kernel *kernel, __int128 rows) {
  __int128 panels = (rows + FV_PANEL_ROWS_MAX - 1) / FV_PANEL_ROWS_MAX;
  __int128 tile = (panels > 0 ? panels : 1) * FV_PANEL_ROWS_MAX;
  return tile < kernel->tile_q ? (int32_t)tile : kernel->tile_q;
}

/* The smallest tile if rows are many: a twelfth of 576, the tile_q of all CPU kernels. */
enum { TILE_Q_MIN = 48 };

/* The largest tile that still leaves 4 tiles per thread, to balance the threads, or else the
 * smallest. Large tiles are better since keys are packed once per tile. Each candidate is a
 * multiple of FV_PANEL_ROWS_MAX. */
static int32_t choose_tile_q(const fv_cpu_facts *facts, const fv_kernel *kernel,
                             const fv_problem *problem) {
  static const int32_t parts[] = {1, 2, 3, 6, 12}; /* tile_q / 12 is TILE_Q_MIN */
  __int128 rows = (__int128)problem->rows * problem->group;
  int64_t sequences = problem->q_packed ? 1 : problem->sequences;
  for (int i = 0; i < 5; ++i) {
    int32_t tile_q = kernel->tile_q / parts[i];
    __int128 tiles = (rows + tile_q - 1) / tile_q * sequences * problem->heads_kv;
    if (facts->threads == 1 || tiles >= 4 * (__int128)facts->threads || i == 4) {
      return tile_q < tile_of_rows(kernel, rows) ? tile_q : tile_of_rows(kernel, rows);
    }
  }
  return kernel->tile_q;
}

static void size_scratch(const fv_problem *problem, fv_plan *plan) {
  plan->tile_kv = fv_class_tile(fv_dim_class(problem->dim, problem->dim_v));
  plan->cpu.scratch_bytes =
      fv_tile_scratch_bytes(plan->tile_q, plan->tile_kv, problem->dim, problem->dim_v);
}

/* Upper bounds of the work of a call, whatever its lengths are. */
typedef struct work_bound {
  __int128 rows;    /* of all sequences and query heads */
  __int128 streams; /* of keys: sequences with rows times kv heads */
  __int128 tiles;   /* of query rows; a stream that is not split counts as a tile */
} work_bound;

static __int128 least(__int128 a, __int128 b) {
  return a < b ? a : b;
}

static work_bound work_of_problem(const fv_problem *problem, int64_t tiles) {
  __int128 total = (__int128)problem->rows * (problem->q_packed ? 1 : problem->sequences);
  work_bound work = {.rows = total * problem->heads_q};
  work.streams = least(problem->sequences, total) * problem->heads_kv;
  work.tiles = least(tiles, work.rows);
  return work;
}

/* The same for all problems within the limits. A tile_q below TILE_Q_MIN holds all rows of a
 * sequence and kv head, so each of those is one tile. */
static work_bound work_of_limits(const fovea_limits *limits) {
  work_bound work = {.rows = (__int128)limits->total_q * limits->heads_q};
  __int128 ragged = ((__int128)limits->sequences + 1) * limits->heads_kv;
  work.streams = least(limits->sequences, limits->total_q) * limits->heads_kv;
  work.tiles = least((work.rows + TILE_Q_MIN - 1) / TILE_Q_MIN + ragged, work.rows);
  return work;
}

/* What splitting needs: the most streams that are split, and the size of a partial. Nothing is
 * split if there are FV_SPLIT_STREAMS streams per thread, or only one thread. */
typedef struct split_bound {
  int64_t streams;
  size_t partial_bytes;
} split_bound;

static split_bound split_bound_for(const fv_cpu_facts *facts, const work_bound *work, __int128 rows,
                                   int32_t dim_v) {
  int64_t most = facts->threads > 1 ? (int64_t)FV_SPLIT_STREAMS * facts->threads - 1 : 0;
  int32_t stream_rows = (int32_t)least(rows, FV_STREAM_ROWS);
  return (split_bound){(int64_t)least(work->streams, most), fv_partial_bytes(stream_rows, dim_v)};
}

static size_t split_bytes(split_bound bound) {
  return (size_t)bound.streams * FV_STREAM_CHUNKS * bound.partial_bytes;
}

/* No more threads than work tiles: tiles, and for each split stream its chunks instead. */
static int32_t workers_for(const fv_cpu_facts *facts, const work_bound *work,
                           int64_t max_split_streams) {
  __int128 work_tiles = work->tiles + (__int128)max_split_streams * (FV_STREAM_CHUNKS - 1);
  return (int32_t)least(facts->threads, work_tiles > 0 ? work_tiles : 1);
}

/* PHASE uses no streams. Unless q is packed all sequences have the same number of rows, which is
 * known here. */
static void plan_streams(const fv_cpu_facts *facts, const fv_problem *problem, fv_plan *plan) {
  __int128 rows = (__int128)problem->rows * problem->group;
  work_bound work = work_of_problem(problem, plan->tiles_bound);
  bool none = problem->args.reproducible == FOVEA_REPRODUCIBLE_PHASE ||
              problem->group > FV_STREAM_ROWS || (!problem->q_packed && rows > FV_STREAM_ROWS);
  split_bound bound = split_bound_for(facts, &work, rows, problem->dim_v);
  plan->cpu.max_split_streams = none ? 0 : bound.streams;
  plan->cpu.stream_rows = FV_STREAM_ROWS;
  plan->cpu.partial_bytes = bound.partial_bytes;
  plan->workers = workers_for(facts, &work, plan->cpu.max_split_streams);
  plan->workspace_bytes = plan->cpu.scratch_bytes * (size_t)plan->workers;
  if (!none) plan->workspace_bytes += split_bytes(bound);
}

void fv_plan_cpu(const fv_cpu_facts *facts, const fv_problem *problem, fv_plan *plan) {
  const fv_kernel *kernel = choose_kernel(facts);
  *plan = (fv_plan){.kernel = kernel, .tile_q = choose_tile_q(facts, kernel, problem)};
  plan->tiles_bound = fv_plan_tiles_bound(problem, plan->tile_q);
  size_scratch(problem, plan);
  plan_streams(facts, problem, plan);
  explain_choice(facts, problem, plan);
}

size_t fv_cpu_workspace(const fv_cpu_facts *facts, const fovea_limits *limits) {
  const fv_kernel *kernel = choose_kernel(facts);
  /* All query heads may share one kv head, so one tile may hold all rows. */
  work_bound work = work_of_limits(limits);
  split_bound bound = split_bound_for(facts, &work, work.rows, limits->dim_v);
  size_t scratch_bytes =
      fv_tile_scratch_bound(tile_of_rows(kernel, work.rows), limits->dim, limits->dim_v);
  return scratch_bytes * (size_t)workers_for(facts, &work, bound.streams) + split_bytes(bound);
}

/* naive_layer.c - the layer by steps with their results in memory: three products that project, the
 * naive attention, and a product that projects back.
 *
 * Weights are widened once, when the pipeline is opened, as a careful user would keep them; tokens
 * in each call. Blocks of rows are shared out among the threads, each of which calls OpenBLAS on
 * its own. */
#include <cblas.h>
#include <stdlib.h>
#include <string.h>

#include "bench/pipelines/pipeline.h"
#include "bench/pipelines/vector.h"

enum { X, Q, K, V, JOINED, OUT, MATRICES };

typedef struct naive_layer {
  fv_bench_tensors tensors;
  fv_pool *pool;
  int threads;
  float *at[MATRICES]; /* [tokens, model] */
  float *weights, *biases;
  void *memory;
  size_t bytes;
  fv_bench_tensors inner; /* q, k, v and the heads' results, in f32 */
  void *attention;
} naive_layer;

static int64_t tokens_of(const fv_bench_problem *p) {
  return p->batch * p->len_q;
}

static size_t memory_bytes(const fv_bench_problem *p) {
  int64_t model = fv_bench_model(p);
  return (size_t)(MATRICES * tokens_of(p) * model + fv_bench_projection_count(p)) * sizeof(float);
}

static fv_bench_problem inner_problem(const fv_bench_problem *p) {
  fv_bench_problem inner = *p;
  inner.kind = FV_BENCH_PREFILL;
  inner.dtype = FOVEA_F32;
  return inner;
}

static double layer_scratch(const fv_bench_machine *machine, const fv_bench_problem *problem) {
  fv_bench_problem inner = inner_problem(problem);
  return (double)memory_bytes(problem) + fv_bench_naive_cpu.scratch_bytes(machine, &inner);
}

/* ---- Conversion ---- */

static void to_f32(float *to, const void *from, int64_t count, fovea_dtype dtype) {
  if (dtype == FOVEA_F32) {
    memcpy(to, from, (size_t)count * sizeof *to);
  } else {
    fv_bench_widen(to, from, count, dtype);
  }
}

static void from_f32(void *to, const float *from, int64_t count, fovea_dtype dtype) {
  if (dtype == FOVEA_F32) {
    memcpy(to, from, (size_t)count * sizeof *from);
  } else {
    fv_bench_narrow(to, from, count, dtype);
  }
}

/* ---- State ---- */

static void close_layer(void *opaque) {
  naive_layer *state = opaque;
  if (!state) return;
  if (state->attention) fv_bench_naive_cpu.close(state->attention);
  fv_bench_unmap(state->memory, state->bytes);
  free(state);
}

static void place(naive_layer *state) {
  const fv_bench_problem *p = &state->tensors.problem;
  int64_t model = fv_bench_model(p), count = tokens_of(p) * model;
  float *next = state->memory;
  for (int n = 0; n < MATRICES; ++n, next += count) state->at[n] = next;
  state->weights = next;
  state->biases = next + 4 * model * model;
  to_f32(state->weights, state->tensors.projections, fv_bench_projection_count(p), p->dtype);
  state->inner = (fv_bench_tensors){.problem = inner_problem(p),
                                    .q = state->at[Q],
                                    .k = state->at[K],
                                    .v = state->at[V],
                                    .out = state->at[JOINED],
                                    .q_count = count,
                                    .kv_count = count};
}

static void *open_layer(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  naive_layer *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->tensors = *tensors;
  state->pool = machine->pool;
  state->threads = machine->threads;
  state->bytes = memory_bytes(&tensors->problem);
  state->memory = fv_bench_map(state->bytes);
  if (state->memory) {
    place(state);
    state->attention = fv_bench_naive_cpu.open(machine, &state->inner);
  }
  if (state->attention) return state;
  close_layer(state);
  return NULL;
}

/* ---- Steps ---- */

/* Rows [begin, end) of one of the blocks that the threads share. */
typedef struct rows {
  int64_t begin, end;
} rows;

static rows block_of(const naive_layer *state, int64_t index) {
  int64_t tokens = tokens_of(&state->tensors.problem);
  return (rows){tokens * index / state->threads, tokens * (index + 1) / state->threads};
}

static void project(const naive_layer *state, int n, rows block, int from, int to) {
  int64_t model = fv_bench_model(&state->tensors.problem);
  blasint count = (blasint)(block.end - block.begin), width = (blasint)model;
  float *result = state->at[to] + block.begin * model;
  for (int64_t row = 0; row < count; ++row) {
    memcpy(result + row * model, state->biases + n * model, (size_t)model * sizeof *result);
  }
  if (!count) return;
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, count, width, width, 1,
              state->at[from] + block.begin * model, width, state->weights + n * model * model,
              width, 1, result, width);
}

static void project_in(void *context, int64_t index) {
  const naive_layer *state = context;
  const fv_bench_problem *p = &state->tensors.problem;
  rows block = block_of(state, index);
  int64_t model = fv_bench_model(p), first = block.begin * model;
  const char *x = (const char *)state->tensors.q + first * fv_bench_dtype_bytes(p->dtype);
  to_f32(state->at[X] + first, x, (block.end - block.begin) * model, p->dtype);
  for (int n = 0; n < 3; ++n) project(state, n, block, X, Q + n);
}

static void project_out(void *context, int64_t index) {
  const naive_layer *state = context;
  const fv_bench_problem *p = &state->tensors.problem;
  rows block = block_of(state, index);
  int64_t model = fv_bench_model(p), first = block.begin * model;
  char *out = (char *)state->tensors.out + first * fv_bench_dtype_bytes(p->dtype);
  project(state, 3, block, JOINED, OUT);
  from_f32(out, state->at[OUT] + first, (block.end - block.begin) * model, p->dtype);
}

static bool run_layer(void *opaque) {
  naive_layer *state = opaque;
  openblas_set_num_threads(1); /* each of our threads calls it by itself */
  fv_pool_run(state->pool, state->threads, project_in, state);
  if (!fv_bench_naive_cpu.run(state->attention)) return false;
  fv_pool_run(state->pool, state->threads, project_out, state);
  return true;
}

const fv_bench_pipeline fv_bench_naive_layer_cpu = {.device = "cpu",
                                                    .name = "naive",
                                                    .scratch_bytes = layer_scratch,
                                                    .open = open_layer,
                                                    .run = run_layer,
                                                    .close = close_layer,
                                                    .covers = fv_bench_is_layer};

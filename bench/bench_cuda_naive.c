/* bench_cuda_naive.c - the opponent on a GPU: attention as three launches.
 *
 *   scores  = q k^T * scale      one batched product, stored in the tensors' dtype
 *   weights = softmax(scores)    in place; hidden keys get 0
 *   out     = weights v          one batched product
 *
 * In decoding the query heads of a key head are the rows of one product; in prefill each query head
 * is a product of its own, and those of a group read the same keys. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench_cuda.h"

typedef struct naive_state {
  fv_bench_cuda *cuda;
  fovea_dtype dtype;
  void *scores; /* [batch, heads_q, len_q, len_kv] */
  fv_bench_product keys, values;
  fv_bench_rows softmax;
} naive_state;

static double naive_scratch(const fv_bench_machine *machine, const fv_bench_problem *p) {
  (void)machine;
  return (double)(p->batch * p->heads_q * p->len_q * p->len_kv) *
         (double)fv_bench_dtype_bytes(p->dtype);
}

/* [batch, len, heads, dim] as matrices [len, dim]. */
static fv_bench_matrices sequences(void *data, int64_t len, int64_t heads, int64_t dim) {
  return (fv_bench_matrices){data, len * heads * dim, dim, heads * dim};
}

static void describe(naive_state *state, const fv_bench_tensors *t) {
  const fv_bench_problem *p = &t->problem;
  int64_t group = p->heads_q / p->heads_kv, scores = p->len_q * p->len_kv;
  bool folded = p->len_q == 1;
  int64_t heads = folded ? p->heads_kv : p->heads_q, rows = folded ? group : p->len_q;
  fv_bench_matrices q = sequences(t->q, p->len_q, p->heads_q, p->dim);
  if (folded) q.head = group * p->dim, q.row = p->dim;
  fv_bench_matrices out = q;
  out.data = t->out;
  fv_bench_matrices weights = {state->scores, p->heads_q * scores, scores, p->len_kv};
  if (folded) weights.head = group * p->len_kv;
  fv_bench_product product = {
      .batch = p->batch, .heads = heads, .group = folded ? 1 : group, .rows = rows, .factor = 1};
  state->keys = state->values = product;
  state->keys.a = q, state->keys.c = weights;
  state->keys.b = sequences(t->k, p->len_kv, p->heads_kv, p->dim);
  state->keys.columns = p->len_kv, state->keys.depth = p->dim, state->keys.b_transposed = 1;
  state->keys.factor = 1 / sqrtf((float)p->dim);
  state->values.a = weights, state->values.c = out;
  state->values.b = sequences(t->v, p->len_kv, p->heads_kv, p->dim);
  state->values.columns = p->dim, state->values.depth = p->len_kv;
  state->softmax = (fv_bench_rows){state->scores, p->batch * p->heads_q * p->len_q, p->len_kv,
                                   p->len_q, p->causal};
}

static void close_naive(void *opaque) {
  naive_state *state = opaque;
  if (!state) return;
  fv_bench_cuda_free(state->cuda, state->scores);
  free(state);
}

static void *open_naive(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  naive_state *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->cuda = (fv_bench_cuda *)machine->place;
  state->dtype = tensors->problem.dtype;
  size_t bytes = (size_t)naive_scratch(machine, &tensors->problem);
  state->scores = fv_bench_cuda_allocate(state->cuda, bytes);
  if (!state->scores) {
    close_naive(state);
    return NULL;
  }
  describe(state, tensors);
  return state;
}

static bool normalise(naive_state *state) {
  unsigned grid[3] = {(unsigned)state->softmax.rows, 1, 1}, block[2] = {FV_BENCH_ROW_THREADS, 1};
  return fv_bench_cuda_launch(state->cuda, FV_BENCH_NORMALISE, state->dtype, grid, block,
                              &state->softmax);
}

static bool run_naive(void *opaque) {
  naive_state *state = opaque;
  const fv_bench_products *products = state->cuda->products;
  return products->multiply_keys(state->cuda, &state->keys, state->dtype) && normalise(state) &&
         products->multiply_values(state->cuda, &state->values, state->dtype);
}

const fv_bench_pipeline fv_bench_naive_cuda = {"cuda",    "naive",     naive_scratch, open_naive,
                                               run_naive, close_naive, true};

/* ---- What the device itself can do ---- */

enum { PEAK_SIDE = 8192 };

typedef struct peak_state {
  fv_bench_cuda *cuda;
  void *memory; /* three square matrices; NULL: not measured */
  fv_bench_product product;
  fovea_dtype dtype;
} peak_state;

typedef struct read_state {
  fv_bench_cuda *cuda;
  const fv_bench_tensors *tensors;
  void *sink;
} read_state;

/* One problem is under way at a time. */
static peak_state peak;
static read_state reading;

static bool run_peak(void *opaque) {
  peak_state *state = opaque;
  return state->cuda->products->multiply_values(state->cuda, &state->product, state->dtype);
}

/* A product of plain kernels is no measure of the device. Operands are copies of the tensors, as far
 * as those reach: zeros would be multiplied with less power, and so faster. */
static bool open_peak(fv_bench_cuda *cuda, const fv_bench_tensors *there) {
  const size_t matrix = (size_t)2 * PEAK_SIDE * PEAK_SIDE;
  size_t have = (size_t)there->kv_count * 2, copied = 0;
  peak = (peak_state){.cuda = cuda, .dtype = there->problem.dtype};
  peak.memory = fv_bench_cuda_allocate(cuda, 3 * matrix);
  char *host = malloc(2 * matrix);
  bool done = peak.memory && host;
  size_t once = have < 2 * matrix ? have : 2 * matrix;
  if (done) {
    CUresult result = cuda->driver->cuMemcpyDtoH(host, (CUdeviceptr)there->k, once);
    done = fv_bench_cuda_ok(cuda, result, "cuMemcpyDtoH");
  }
  for (copied = once; done && copied < 2 * matrix; ++copied) host[copied] = host[copied - once];
  if (done) {
    CUresult result = cuda->driver->cuMemcpyHtoD((CUdeviceptr)peak.memory, host, 2 * matrix);
    done = fv_bench_cuda_ok(cuda, result, "cuMemcpyHtoD");
  }
  free(host);
  char *at = peak.memory;
  peak.product = (fv_bench_product){.a = {at, 0, 0, PEAK_SIDE},
                                    .b = {at + matrix, 0, 0, PEAK_SIDE},
                                    .c = {at + 2 * matrix, 0, 0, PEAK_SIDE},
                                    .batch = 1,
                                    .heads = 1,
                                    .group = 1,
                                    .rows = PEAK_SIDE,
                                    .columns = PEAK_SIDE,
                                    .depth = PEAK_SIDE,
                                    .factor = 1.0f / PEAK_SIDE};
  return done;
}

static bool read_one(const read_state *state, const void *data, int64_t bytes) {
  fv_bench_bytes params = {data, bytes / 16, state->sink};
  unsigned grid[3] = {(unsigned)(8 * state->cuda->multiprocessors), 1, 1};
  unsigned block[2] = {FV_BENCH_READ_THREADS, 1};
  return fv_bench_cuda_launch(state->cuda, FV_BENCH_READ, FOVEA_F16, grid, block, &params);
}

static bool run_read(void *opaque) {
  const read_state *state = opaque;
  int64_t bytes = state->tensors->kv_count * fv_bench_dtype_bytes(state->tensors->problem.dtype);
  return read_one(state, state->tensors->k, bytes) && read_one(state, state->tensors->v, bytes);
}

void fv_bench_cuda_measures_free(void) {
  if (peak.cuda) fv_bench_cuda_free(peak.cuda, peak.memory);
  if (reading.cuda) fv_bench_cuda_free(reading.cuda, reading.sink);
  peak = (peak_state){0};
  reading = (read_state){0};
}

int fv_bench_cuda_measures(const fv_bench_place *place, const fv_bench_tensors *there,
                           fv_bench_contestant *contestants) {
  fv_bench_cuda *cuda = (fv_bench_cuda *)place;
  const double side = PEAK_SIDE;
  int count = 0;
  if (cuda->cublas && !open_peak(cuda, there)) return -1;
  if (cuda->cublas) {
    contestants[count++] = (fv_bench_contestant){
        .pipeline = "peak", .run = run_peak, .state = &peak, .flops = 2 * side * side * side};
  }
  if (!there->problem.decode) return count;
  reading = (read_state){cuda, there, fv_bench_cuda_allocate(cuda, 16)};
  if (!reading.sink) return -1;
  contestants[count++] = (fv_bench_contestant){.pipeline = "read",
                                               .run = run_read,
                                               .state = &reading,
                                               .bytes = fv_bench_kv_bytes(&there->problem)};
  for (int i = 0; i < count; ++i) {
    if (!contestants[i].run(contestants[i].state)) return -1;
  }
  return count;
}

/* bench_naive.c - the opponent: attention as three steps, each with its result in memory.
 *
 *   scores  = q k^T * scale      one sgemm per query head and block of rows
 *   weights = softmax(scores)    in place; hidden keys get 0
 *   out     = weights v          one sgemm likewise
 *
 * It is written as a careful user of a BLAS would. Heads and blocks of rows are shared out among as
 * many threads as fovea has, each calling OpenBLAS on its own, which beats OpenBLAS's own threads
 * where there are many small products. Keys are not copied per query head: strides reach them, and
 * in decoding the query heads of a key head are the rows of one product (4 rows: 2.4 times as fast
 * as a gemv for each, OpenBLAS 0.3.21; one row is a gemv). The scale is part of the product. 16-bit
 * tensors are widened first, all of them once, and the result is rounded once: Debian's OpenBLAS
 * multiplies f32 only. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>

#include "bench_pipeline.h"
#include "bench_vector.h"

enum { CONVERT_CHUNK = 1 << 15, LEAST_ROWS = 64 };

typedef struct naive_state {
  fv_bench_tensors tensors;
  fv_pool *pool;
  float *q, *k, *v, *out; /* f32: the tensors themselves, or scratch */
  float *scores;          /* [batch, heads_q, len_q, len_kv] */
  float *widened;         /* NULL for f32: q, k, v and out in one piece */
  size_t scores_bytes, widened_bytes;
  int64_t blocks, rows; /* blocks of rows per head, and rows in all but the last */
} naive_state;

static size_t scores_bytes(const fv_bench_problem *p) {
  return (size_t)(p->batch * p->heads_q * p->len_q * p->len_kv) * sizeof(float);
}

static size_t widened_bytes(const fv_bench_problem *p) {
  if (p->dtype == FOVEA_F32) return 0;
  int64_t queries = p->len_q * p->heads_q, keys = p->len_kv * p->heads_kv;
  return (size_t)(2 * p->batch * (queries + keys) * p->dim) * sizeof(float);
}

static double naive_scratch(const fv_bench_machine *machine, const fv_bench_problem *problem) {
  (void)machine;
  return (double)scores_bytes(problem) + (double)widened_bytes(problem);
}

/* A head is cut into blocks of rows only if there are too few heads to keep the threads busy. */
static void choose_blocks(naive_state *state, int threads) {
  const fv_bench_problem *p = &state->tensors.problem;
  int64_t heads = p->batch * p->heads_q, wanted = 4 * (int64_t)threads;
  int64_t blocks = heads >= wanted ? 1 : (wanted + heads - 1) / heads;
  int64_t most = (p->len_q + LEAST_ROWS - 1) / LEAST_ROWS;
  if (blocks > most) blocks = most;
  state->rows = (p->len_q + blocks - 1) / blocks;
  state->blocks = (p->len_q + state->rows - 1) / state->rows;
}

static void place(naive_state *state) {
  const fv_bench_tensors *tensors = &state->tensors;
  if (tensors->problem.dtype == FOVEA_F32) {
    state->q = tensors->q, state->k = tensors->k, state->v = tensors->v, state->out = tensors->out;
    return;
  }
  state->q = state->widened;
  state->out = state->q + tensors->q_count;
  state->k = state->out + tensors->q_count;
  state->v = state->k + tensors->kv_count;
}

static void close_naive(void *opaque) {
  naive_state *state = opaque;
  if (!state) return;
  fv_bench_unmap(state->scores, state->scores_bytes);
  fv_bench_unmap(state->widened, state->widened_bytes);
  free(state);
}

static void *open_naive(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  naive_state *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->tensors = *tensors;
  state->pool = machine->pool;
  state->scores_bytes = scores_bytes(&tensors->problem);
  state->widened_bytes = widened_bytes(&tensors->problem);
  state->scores = fv_bench_map(state->scores_bytes);
  if (state->widened_bytes) state->widened = fv_bench_map(state->widened_bytes);
  if (!state->scores || (state->widened_bytes && !state->widened)) {
    close_naive(state);
    return NULL;
  }
  choose_blocks(state, machine->threads);
  place(state);
  openblas_set_num_threads(1); /* each of ours calls it by itself */
  return state;
}

/* ---- Conversion ---- */

typedef struct conversion {
  float *wide;
  uint16_t *narrow;
  int64_t count;
  fovea_dtype dtype;
  bool widen;
} conversion;

static void convert_chunk(void *context, int64_t index) {
  const conversion *job = context;
  int64_t begin = index * CONVERT_CHUNK, left = job->count - begin;
  int64_t count = left < CONVERT_CHUNK ? left : CONVERT_CHUNK;
  if (job->widen) fv_bench_widen(job->wide + begin, job->narrow + begin, count, job->dtype);
  if (!job->widen) fv_bench_narrow(job->narrow + begin, job->wide + begin, count, job->dtype);
}

static void convert(const naive_state *state, float *wide, void *narrow, int64_t count,
                    bool widen) {
  conversion job = {wide, narrow, count, state->tensors.problem.dtype, widen};
  fv_pool_run(state->pool, (count + CONVERT_CHUNK - 1) / CONVERT_CHUNK, convert_chunk, &job);
}

/* ---- The three steps ---- */

/* One product's place: rows of q and out, keys, and their scores. A row of q is a position; in
 * decoding it is a query head of the key head's group. */
typedef struct product {
  int64_t rows, row_stride, key_stride;
  int64_t first_row; /* position */
  int64_t q_at, kv_at, scores_at;
} product;

static int64_t product_count(const naive_state *state) {
  const fv_bench_problem *p = &state->tensors.problem;
  return p->len_q == 1 ? p->batch * p->heads_kv : p->batch * p->heads_q * state->blocks;
}

static product decode_product(const fv_bench_problem *p, int64_t index) {
  int64_t group = p->heads_q / p->heads_kv, b = index / p->heads_kv, head = index % p->heads_kv;
  product at = {.rows = group, .row_stride = p->dim, .key_stride = p->heads_kv * p->dim};
  at.q_at = (b * p->heads_q + head * group) * p->dim;
  at.kv_at = (b * p->len_kv * p->heads_kv + head) * p->dim;
  at.scores_at = (b * p->heads_q + head * group) * p->len_kv;
  return at;
}

static product product_at(const naive_state *state, int64_t index) {
  const fv_bench_problem *p = &state->tensors.problem;
  if (p->len_q == 1) return decode_product(p, index);
  int64_t block = index % state->blocks, unit = index / state->blocks;
  int64_t b = unit / p->heads_q, head = unit % p->heads_q;
  int64_t kv_head = head / (p->heads_q / p->heads_kv), left = p->len_q - block * state->rows;
  product at = {.rows = left < state->rows ? left : state->rows,
                .row_stride = p->heads_q * p->dim,
                .key_stride = p->heads_kv * p->dim,
                .first_row = block * state->rows};
  at.q_at = ((b * p->len_q + at.first_row) * p->heads_q + head) * p->dim;
  at.kv_at = (b * p->len_kv * p->heads_kv + kv_head) * p->dim;
  at.scores_at = (unit * p->len_q + at.first_row) * p->len_kv;
  return at;
}

static void multiply_keys(void *context, int64_t index) {
  const naive_state *state = context;
  product at = product_at(state, index);
  blasint keys = (blasint)state->tensors.problem.len_kv, dim = (blasint)state->tensors.problem.dim;
  float scale = 1 / sqrtf((float)dim);
  if (at.rows == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, keys, dim, scale, state->k + at.kv_at,
                (blasint)at.key_stride, state->q + at.q_at, 1, 0, state->scores + at.scores_at, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)at.rows, keys, dim, scale,
              state->q + at.q_at, (blasint)at.row_stride, state->k + at.kv_at,
              (blasint)at.key_stride, 0, state->scores + at.scores_at, keys);
}

static void normalise(void *context, int64_t index) {
  const naive_state *state = context;
  const fv_bench_problem *p = &state->tensors.problem;
  product at = product_at(state, index);
  for (int64_t row = 0; row < at.rows; ++row) {
    int64_t visible = p->len_kv;
    if (p->causal && p->len_q > 1) visible = p->len_kv - p->len_q + at.first_row + row + 1;
    fv_bench_softmax(state->scores + at.scores_at + row * p->len_kv, visible, p->len_kv);
  }
}

static void multiply_values(void *context, int64_t index) {
  const naive_state *state = context;
  product at = product_at(state, index);
  blasint keys = (blasint)state->tensors.problem.len_kv, dim = (blasint)state->tensors.problem.dim;
  if (at.rows == 1) {
    cblas_sgemv(CblasRowMajor, CblasTrans, keys, dim, 1, state->v + at.kv_at,
                (blasint)at.key_stride, state->scores + at.scores_at, 1, 0, state->out + at.q_at,
                1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)at.rows, dim, keys, 1,
              state->scores + at.scores_at, keys, state->v + at.kv_at, (blasint)at.key_stride, 0,
              state->out + at.q_at, (blasint)at.row_stride);
}

static bool run_naive(void *opaque) {
  naive_state *state = opaque;
  const fv_bench_tensors *tensors = &state->tensors;
  int64_t count = product_count(state);
  if (state->widened) {
    convert(state, state->q, tensors->q, tensors->q_count, true);
    convert(state, state->k, tensors->k, tensors->kv_count, true);
    convert(state, state->v, tensors->v, tensors->kv_count, true);
  }
  fv_pool_run(state->pool, count, multiply_keys, state);
  fv_pool_run(state->pool, count, normalise, state);
  fv_pool_run(state->pool, count, multiply_values, state);
  if (state->widened) convert(state, state->out, tensors->out, tensors->q_count, false);
  return true;
}

const fv_bench_pipeline fv_bench_naive_cpu = {"cpu",      "naive",   naive_scratch,
                                              open_naive, run_naive, close_naive};

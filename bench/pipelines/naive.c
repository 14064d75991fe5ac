/* naive.c - the opponent: attention as three steps, each with its result in memory.
 *
 *   scores  = q k^T * scale      one sgemm per sequence, query head and block of rows
 *   weights = softmax(scores)    in place; hidden keys get 0
 *   out     = weights v          one sgemm likewise
 *
 * It is written as a careful user of a BLAS would write it. Heads and blocks of rows are shared out
 * among as many threads as fovea has. Each thread calls OpenBLAS on its own, which beats OpenBLAS's
 * own threads on many small products. Keys are not copied per query head: strides reach them. In
 * decoding the query heads of a kv head are the rows of one product (4 rows: 2.4 times as fast as a
 * gemv for each, OpenBLAS 0.3.21; one row is a gemv). The scale is part of the product. Debian's
 * OpenBLAS multiplies f32 only, so 16-bit tensors are widened first, all of them once, and the
 * result is rounded once.
 *
 * Additive scores take the place of the first product by three steps: a tensor of rows, keys and
 * hidden units gets the sums q + k, then their tanh, and is multiplied by the score vector.
 *
 * Unequal sequences are products of their own lengths, without padding. A BLAS follows no page
 * table, so keys and values in pages are first gathered into contiguous memory per sequence, and
 * widened on the way. Attention without a fused kernel has this cost, so it is timed. */
#include <cblas.h>
#include <math.h>
#include <stdlib.h>

#include "bench/pipelines/pipeline.h"
#include "bench/pipelines/vector.h"
#include "bench/pipelines/wide.h"

enum { ROWS_MIN = 64 };

/* One product's place: rows of q and out, keys, and their scores. A row of q is a position; in
 * decoding it is a query head of the kv head's group. */
typedef struct product {
  int64_t head; /* the first query head */
  int64_t rows, keys, row_stride;
  int64_t visible, step; /* keys that the first row sees; how many more each next one does */
  int64_t q_at, kv_at, scores_at;
} product;

typedef struct naive_state {
  fv_bench_tensors tensors;
  fv_bench_wide wide;
  fv_pool *pool;
  float *scores; /* of each sequence [heads_q, rows, keys] */
  size_t scores_bytes;
  float *hidden; /* of each score [dim]; NULL: scores are dot products */
  size_t hidden_bytes;
  product *products;
  int64_t count;
} naive_state;

static size_t scores_bytes(const fv_bench_problem *p) {
  int64_t pairs = 0;
  for (int64_t s = 0; s < p->batch; ++s) pairs += fv_bench_rows_of(p, s) * fv_bench_keys_of(p, s);
  return (size_t)(p->heads_q * pairs) * sizeof(float);
}

static size_t hidden_bytes(const fv_bench_problem *p) {
  return p->kind == FV_BENCH_ADDITIVE ? scores_bytes(p) * (size_t)p->dim : 0;
}

static double naive_scratch(const fv_bench_machine *machine, const fv_bench_problem *problem) {
  (void)machine;
  return (double)scores_bytes(problem) + (double)hidden_bytes(problem) +
         (double)fv_bench_wide_bytes(problem);
}

/* ---- The list of products ---- */

/* A sequence, and where its rows, keys and scores begin. */
typedef struct sequence {
  int64_t rows, keys, first_row, first_key, scores_at;
} sequence;

static product decode_product(const fv_bench_problem *p, const sequence *s, int64_t head) {
  int64_t group = p->heads_q / p->heads_kv;
  return (product){.head = head * group,
                   .rows = group,
                   .keys = s->keys,
                   .row_stride = p->dim,
                   .visible = s->keys,
                   .q_at = (s->first_row * p->heads_q + head * group) * p->dim,
                   .kv_at = (s->first_key * p->heads_kv + head) * p->dim,
                   .scores_at = s->scores_at + head * group * s->keys};
}

static product prefill_product(const fv_bench_problem *p, const sequence *s, int64_t head,
                               int64_t first, int64_t rows) {
  int64_t kv_head = head / (p->heads_q / p->heads_kv);
  return (product){.head = head,
                   .rows = rows,
                   .keys = s->keys,
                   .row_stride = p->heads_q * p->dim,
                   .visible = p->causal ? s->keys - s->rows + first + 1 : s->keys,
                   .step = p->causal,
                   .q_at = ((s->first_row + first) * p->heads_q + head) * p->dim,
                   .kv_at = (s->first_key * p->heads_kv + kv_head) * p->dim,
                   .scores_at = s->scores_at + (head * s->rows + first) * s->keys};
}

/* A head is cut into blocks of rows only if there are too few heads to keep the threads busy. */
static int64_t blocks_of_heads(const fv_bench_problem *p, int threads) {
  int64_t heads = 0, wanted = 4 * (int64_t)threads;
  for (int64_t s = 0; s < p->batch; ++s) heads += fv_bench_rows_of(p, s) > 1 ? p->heads_q : 0;
  return heads >= wanted || !heads ? 1 : (wanted + heads - 1) / heads;
}

static void list_sequence(naive_state *state, const sequence *s, int64_t blocks) {
  const fv_bench_problem *p = &state->tensors.problem;
  if (s->rows == 1 && !state->hidden) {
    for (int64_t head = 0; head < p->heads_kv; ++head) {
      state->products[state->count++] = decode_product(p, s, head);
    }
    return;
  }
  int64_t most = (s->rows + ROWS_MIN - 1) / ROWS_MIN;
  if (blocks > most) blocks = most;
  int64_t block = (s->rows + blocks - 1) / blocks;
  for (int64_t head = 0; head < p->heads_q; ++head) {
    for (int64_t first = 0; first < s->rows; first += block) {
      int64_t left = s->rows - first;
      state->products[state->count++] =
          prefill_product(p, s, head, first, left < block ? left : block);
    }
  }
}

static bool list_products(naive_state *state, int threads) {
  const fv_bench_problem *p = &state->tensors.problem;
  int64_t blocks = blocks_of_heads(p, threads);
  sequence at = {0};
  state->products = malloc((size_t)(p->batch * p->heads_q * blocks) * sizeof *state->products);
  for (int64_t s = 0; state->products && s < p->batch; ++s) {
    at.rows = fv_bench_rows_of(p, s), at.keys = fv_bench_keys_of(p, s);
    list_sequence(state, &at, blocks);
    at.first_row += at.rows, at.first_key += at.keys;
    at.scores_at += p->heads_q * at.rows * at.keys;
  }
  return state->products != NULL;
}

/* ---- State ---- */

static void close_naive(void *opaque) {
  naive_state *state = opaque;
  if (!state) return;
  fv_bench_unmap(state->scores, state->scores_bytes);
  fv_bench_unmap(state->hidden, state->hidden_bytes);
  fv_bench_wide_close(&state->wide);
  free(state->products);
  free(state);
}

static void *open_naive(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  naive_state *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->tensors = *tensors;
  state->pool = machine->pool;
  state->scores_bytes = scores_bytes(&tensors->problem);
  state->scores = fv_bench_map(state->scores_bytes);
  state->hidden_bytes = hidden_bytes(&tensors->problem);
  if (state->hidden_bytes) state->hidden = fv_bench_map(state->hidden_bytes);
  bool mapped = state->scores && (state->hidden || !state->hidden_bytes);
  bool wide = fv_bench_wide_open(&state->wide, &state->tensors, machine->pool);
  if (!wide || !mapped || !list_products(state, machine->threads)) {
    close_naive(state);
    return NULL;
  }
  openblas_set_num_threads(1); /* each of our threads calls it by itself */
  return state;
}

/* ---- Additive scores ---- */

static float *hidden_of(const naive_state *state, const product *at) {
  return state->hidden + at->scores_at * state->tensors.problem.dim;
}

static void add_queries_to_keys(void *context, int64_t index) {
  const naive_state *state = context;
  const product *at = &state->products[index];
  const fv_bench_problem *p = &state->tensors.problem;
  float *sums = hidden_of(state, at);
  for (int64_t row = 0; row < at->rows; ++row) {
    const float *q = state->wide.q + at->q_at + row * at->row_stride;
    const float *k = state->wide.k + at->kv_at;
    for (int64_t key = 0; key < at->keys; ++key, sums += p->dim) {
      fv_bench_add(sums, q, k + key * p->heads_kv * p->dim, p->dim);
    }
  }
}

static void take_tanh(void *context, int64_t index) {
  const naive_state *state = context;
  const product *at = &state->products[index];
  fv_bench_tanh(hidden_of(state, at), at->rows * at->keys * state->tensors.problem.dim);
}

static void multiply_score_vector(void *context, int64_t index) {
  const naive_state *state = context;
  const product *at = &state->products[index];
  blasint dim = (blasint)state->tensors.problem.dim;
  cblas_sgemv(CblasRowMajor, CblasNoTrans, (blasint)(at->rows * at->keys), dim, 1,
              hidden_of(state, at), dim, state->tensors.score_vector + at->head * dim, 1, 0,
              state->scores + at->scores_at, 1);
}

/* ---- The three steps ---- */

static void multiply_keys(void *context, int64_t index) {
  const naive_state *state = context;
  const product *at = &state->products[index];
  const fv_bench_problem *p = &state->tensors.problem;
  blasint keys = (blasint)at->keys, dim = (blasint)p->dim;
  blasint key_stride = (blasint)(p->heads_kv * p->dim);
  const float *q = state->wide.q + at->q_at, *k = state->wide.k + at->kv_at;
  float *scores = state->scores + at->scores_at, scale = 1 / sqrtf((float)dim);
  if (at->rows == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, keys, dim, scale, k, key_stride, q, 1, 0, scores, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)at->rows, keys, dim, scale, q,
              (blasint)at->row_stride, k, key_stride, 0, scores, keys);
}

static void normalise(void *context, int64_t index) {
  const naive_state *state = context;
  const product *at = &state->products[index];
  for (int64_t row = 0; row < at->rows; ++row) {
    fv_bench_softmax(state->scores + at->scores_at + row * at->keys, at->visible + row * at->step,
                     at->keys);
  }
}

static void multiply_values(void *context, int64_t index) {
  const naive_state *state = context;
  const product *at = &state->products[index];
  const fv_bench_problem *p = &state->tensors.problem;
  blasint keys = (blasint)at->keys, dim = (blasint)p->dim;
  blasint key_stride = (blasint)(p->heads_kv * p->dim);
  const float *scores = state->scores + at->scores_at, *v = state->wide.v + at->kv_at;
  float *out = state->wide.out + at->q_at;
  if (at->rows == 1) {
    cblas_sgemv(CblasRowMajor, CblasTrans, keys, dim, 1, v, key_stride, scores, 1, 0, out, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)at->rows, dim, keys, 1, scores,
              keys, v, key_stride, 0, out, (blasint)at->row_stride);
}

static void compute_scores(naive_state *state) {
  if (!state->hidden) {
    fv_pool_run(state->pool, state->count, multiply_keys, state);
    return;
  }
  fv_pool_run(state->pool, state->count, add_queries_to_keys, state);
  fv_pool_run(state->pool, state->count, take_tanh, state);
  fv_pool_run(state->pool, state->count, multiply_score_vector, state);
}

static bool run_naive(void *opaque) {
  naive_state *state = opaque;
  fv_bench_wide_fill(&state->wide);
  compute_scores(state);
  fv_pool_run(state->pool, state->count, normalise, state);
  fv_pool_run(state->pool, state->count, multiply_values, state);
  fv_bench_wide_finish(&state->wide);
  return true;
}

const fv_bench_pipeline fv_bench_naive_cpu = {.device = "cpu",
                                              .name = "naive",
                                              .scratch_bytes = naive_scratch,
                                              .open = open_naive,
                                              .run = run_naive,
                                              .close = close_naive,
                                              .covers = fv_bench_is_attention};

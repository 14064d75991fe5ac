/* naive.c - the opponent on a GPU: attention as three launches.
 *
 *   scores  = q k^T * scale      one batched product, stored in the tensors' dtype
 *   weights = softmax(scores)    in place; hidden keys get 0
 *   out     = weights v          one batched product
 *
 * In decoding the query heads of a kv head are the rows of one product. In prefill each query head
 * is a product of its own, and those of a group read the same keys.
 *
 * Unequal sequences make spans, each with launches of its own. A packed prompt is a span by itself,
 * of its exact lengths. All rows that decode are one span. cuBLAS follows no page table, so their
 * keys and values are first gathered, and padded to the longest sequence. The padding is multiplied
 * in vain, but 256 exact products would be 512 launches. Attention without a fused kernel has the
 * costs of gathering and padding, so they are timed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/gpu/device.h"

/* Sequences that share launches. */
typedef struct span {
  int64_t first, count;
  int64_t rows, keys; /* of each; keys as they lie in memory, padding included */
} span;

typedef struct part {
  fv_bench_gathering gathering;
  fv_bench_product keys, values;
  fv_bench_score_rows softmax;
  unsigned pages; /* of the longest sequence; 0: nothing is gathered */
} part;

typedef struct naive_state {
  fv_bench_cuda *cuda;
  fovea_dtype dtype;
  /* For one span at a time. */
  void *scores;     /* [count, heads_q, rows, keys] */
  void *gathered_k; /* [count, keys, heads_kv, dim]; NULL: there are no pages */
  void *gathered_v;
  int64_t count;
  part *parts;
} naive_state;

/* ---- Spans ---- */

static int64_t round_up(int64_t number, int64_t step) {
  return (number + step - 1) / step * step;
}

static int64_t count_spans(const fv_bench_problem *p) {
  if (p->kind == FV_BENCH_PACKED) return p->batch;
  return p->kind == FV_BENCH_MIXED && p->batch > 1 ? 2 : 1;
}

/* Scores of gathered keys are as wide as the gathered keys, and rows of scores are a multiple of 16
 * bytes. */
static int64_t longest_of(const fv_bench_problem *p, int64_t first, int64_t count) {
  int64_t longest = 0;
  for (int64_t s = first; s < first + count; ++s) {
    int64_t keys = fv_bench_keys_of(p, s);
    if (keys > longest) longest = keys;
  }
  return p->page_len ? round_up(longest, 8) : longest;
}

static span span_at(const fv_bench_problem *p, int64_t index) {
  span at = {.count = p->batch};
  if (p->kind == FV_BENCH_PACKED) at = (span){.first = index, .count = 1};
  if (p->kind == FV_BENCH_MIXED) at = (span){.first = index, .count = index ? p->batch - 1 : 1};
  at.rows = fv_bench_rows_of(p, at.first);
  at.keys = longest_of(p, at.first, at.count);
  return at;
}

static int64_t elements_of_scores(const fv_bench_problem *p, const span *at) {
  return at->count * p->heads_q * at->rows * round_up(at->keys, 8);
}

static int64_t elements_of_keys(const fv_bench_problem *p, const span *at) {
  return p->page_len ? at->count * at->keys * p->heads_kv * p->dim : 0;
}

/* The sizes of the largest spans: all spans use the same memory in turn. */
static void count_elements(const fv_bench_problem *p, int64_t *scores, int64_t *keys) {
  *scores = *keys = 0;
  for (int64_t i = 0; i < count_spans(p); ++i) {
    span at = span_at(p, i);
    int64_t of_scores = elements_of_scores(p, &at), of_keys = elements_of_keys(p, &at);
    if (of_scores > *scores) *scores = of_scores;
    if (of_keys > *keys) *keys = of_keys;
  }
}

static double naive_scratch(const fv_bench_machine *machine, const fv_bench_problem *p) {
  int64_t scores, keys;
  (void)machine;
  count_elements(p, &scores, &keys);
  return (double)(scores + 2 * keys) * (double)fv_bench_dtype_bytes(p->dtype);
}

/* ---- What is launched ---- */

/* All tensors here have 16 bits. */
static void *element(void *data, int64_t index) {
  return (char *)data + 2 * index;
}

/* [count, len, heads, dim] as matrices [len, dim]. */
static fv_bench_matrices matrices(void *data, int64_t len, int64_t heads, int64_t dim) {
  return (fv_bench_matrices){data, len * heads * dim, dim, heads * dim};
}

/* Gathers keys and values of a span's sequences from pages to the place where the products find
 * them. */
static void describe_gathering(const fv_bench_tensors *t, const span *at, const naive_state *state,
                               part *made) {
  const fv_bench_problem *p = &t->problem;
  made->pages = (unsigned)((at->keys + p->page_len - 1) / p->page_len);
  made->gathering =
      (fv_bench_gathering){.k = t->k,
                           .v = t->v,
                           .k_to = state->gathered_k,
                           .v_to = state->gathered_v,
                           .page_ids = t->index.page_ids + at->first * t->index.row_stride,
                           .lengths = t->index.kv_lengths + at->first,
                           .row_stride = t->index.row_stride,
                           .page_len = p->page_len,
                           .chunks = p->heads_kv * p->dim / 8,
                           .keys = at->keys};
}

/* first_key: of the span in the tensor, if there are no pages. */
static void describe_keys(const fv_bench_tensors *t, const span *at, int64_t first_key,
                          const naive_state *state, part *made) {
  const fv_bench_problem *p = &t->problem;
  int64_t begin = first_key * p->heads_kv * p->dim;
  void *k = state->gathered_k, *v = state->gathered_v;
  if (p->page_len) describe_gathering(t, at, state, made);
  if (!p->page_len) k = element(t->k, begin), v = element(t->v, begin);
  made->keys.b = matrices(k, at->keys, p->heads_kv, p->dim);
  made->values.b = matrices(v, at->keys, p->heads_kv, p->dim);
}

static void describe_rows(const fv_bench_tensors *t, const span *at, int64_t first_row,
                          const naive_state *state, part *made) {
  const fv_bench_problem *p = &t->problem;
  int64_t group = p->heads_q / p->heads_kv, row = round_up(at->keys, 8);
  bool folded = at->rows == 1;
  int64_t begin = first_row * p->heads_q * p->dim;
  fv_bench_matrices q = matrices(element(t->q, begin), at->rows, p->heads_q, p->dim);
  fv_bench_matrices weights = {state->scores, p->heads_q * at->rows * row, at->rows * row, row};
  if (folded) q.head = group * p->dim, q.row = p->dim, weights.head = group * row;
  fv_bench_product product = {.batch = at->count,
                              .heads = folded ? p->heads_kv : p->heads_q,
                              .group = folded ? 1 : group,
                              .rows = folded ? group : at->rows,
                              .factor = 1};
  made->keys = made->values = product;
  made->keys.a = q, made->keys.c = weights;
  made->keys.columns = at->keys, made->keys.depth = p->dim, made->keys.b_transposed = 1;
  made->keys.factor = 1 / sqrtf((float)p->dim);
  made->values.a = weights, made->values.c = q;
  made->values.c.data = element(t->out, begin);
  made->values.columns = p->dim, made->values.depth = at->keys;
  made->softmax = (fv_bench_score_rows){.scores = state->scores,
                                        .rows = at->count * p->heads_q * at->rows,
                                        .row = row,
                                        .keys = at->keys,
                                        .len_q = at->rows,
                                        .rows_each = p->heads_q * at->rows,
                                        .causal = p->causal};
  if (t->index.kv_lengths) made->softmax.lengths = t->index.kv_lengths + at->first;
}

static void describe(naive_state *state, const fv_bench_tensors *t) {
  const fv_bench_problem *p = &t->problem;
  int64_t first_row = 0, first_key = 0;
  for (int64_t i = 0; i < state->count; ++i) {
    span at = span_at(p, i);
    describe_rows(t, &at, first_row, state, &state->parts[i]);
    describe_keys(t, &at, first_key, state, &state->parts[i]);
    first_row += at.count * at.rows;
    first_key += at.count * at.keys;
  }
}

/* ---- State ---- */

static void close_naive(void *opaque) {
  naive_state *state = opaque;
  if (!state) return;
  fv_bench_cuda_free(state->cuda, state->scores);
  fv_bench_cuda_free(state->cuda, state->gathered_k);
  fv_bench_cuda_free(state->cuda, state->gathered_v);
  free(state->parts);
  free(state);
}

/* Zeros: padding must consist of numbers, so that the hidden keys' weights of 0 make them 0. */
static bool allocate(naive_state *state, const fv_bench_problem *p) {
  int64_t scores, keys;
  count_elements(p, &scores, &keys);
  state->count = count_spans(p);
  state->parts = calloc((size_t)state->count, sizeof *state->parts);
  state->scores = fv_bench_cuda_allocate_zeros(state->cuda, 2 * (size_t)scores);
  if (!keys) return state->parts && state->scores;
  state->gathered_k = fv_bench_cuda_allocate_zeros(state->cuda, 2 * (size_t)keys);
  state->gathered_v = fv_bench_cuda_allocate_zeros(state->cuda, 2 * (size_t)keys);
  return state->parts && state->scores && state->gathered_k && state->gathered_v;
}

static void *open_naive(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  naive_state *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->cuda = (fv_bench_cuda *)machine->place;
  state->dtype = tensors->problem.dtype;
  if (!allocate(state, &tensors->problem)) {
    close_naive(state);
    return NULL;
  }
  describe(state, tensors);
  return state;
}

/* ---- The launches ---- */

static bool gather(const naive_state *state, part *at) {
  if (!at->pages) return true;
  unsigned grid[3] = {at->pages, (unsigned)at->keys.batch, 2},
           block[2] = {FV_BENCH_READ_THREADS, 1};
  return fv_bench_cuda_launch(state->cuda, FV_BENCH_GATHER, state->dtype, grid, block,
                              &at->gathering);
}

static bool normalise(const naive_state *state, part *at) {
  unsigned grid[3] = {(unsigned)at->softmax.rows, 1, 1}, block[2] = {FV_BENCH_ROW_THREADS, 1};
  return fv_bench_cuda_launch(state->cuda, FV_BENCH_NORMALISE, state->dtype, grid, block,
                              &at->softmax);
}

static bool run_naive(void *opaque) {
  naive_state *state = opaque;
  const fv_bench_products *products = state->cuda->products;
  bool done = true;
  for (part *at = state->parts; done && at < state->parts + state->count; ++at) {
    done = gather(state, at) && products->multiply_keys(state->cuda, &at->keys, state->dtype) &&
           normalise(state, at) &&
           products->multiply_values(state->cuda, &at->values, state->dtype);
  }
  return done;
}

const fv_bench_pipeline fv_bench_naive_cuda = {.device = "cuda",
                                               .name = "naive",
                                               .scratch_bytes = naive_scratch,
                                               .open = open_naive,
                                               .run = run_naive,
                                               .close = close_naive,
                                               .narrow_scores = true};

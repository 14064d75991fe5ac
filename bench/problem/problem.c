/* problem.c - see problem.h. */
#include "bench/problem/problem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const kind_names[FV_BENCH_KINDS] = {"prefill", "decode",   "packed", "paged",
                                                       "mixed",   "additive", "layer"};

const char *fv_bench_kind_name(fv_bench_kind kind) {
  return kind_names[kind];
}

bool fv_bench_is_dense(const fv_bench_problem *problem) {
  return problem->kind == FV_BENCH_PREFILL || problem->kind == FV_BENCH_DECODE ||
         problem->kind == FV_BENCH_ADDITIVE || problem->kind == FV_BENCH_LAYER;
}

bool fv_bench_is_layer(const fv_bench_problem *problem) {
  return problem->kind == FV_BENCH_LAYER;
}

bool fv_bench_is_attention(const fv_bench_problem *problem) {
  return problem->kind != FV_BENCH_LAYER;
}

int64_t fv_bench_model(const fv_bench_problem *problem) {
  return problem->heads_q * problem->dim;
}

int64_t fv_bench_projection_count(const fv_bench_problem *problem) {
  return 4 * fv_bench_model(problem) * (fv_bench_model(problem) + 1);
}

bool fv_bench_is_decoding(const fv_bench_problem *problem) {
  return problem->kind == FV_BENCH_DECODE || problem->kind == FV_BENCH_PAGED ||
         problem->kind == FV_BENCH_MIXED;
}

/* ---- Lengths ---- */

/* The fractional parts of multiples of the golden ratio are as evenly spread as those of any
 * sequence. A batch of any size thus has its share of short and long sequences. 2654435769 is 2^32
 * over that ratio. */
static int64_t len_of(int64_t longest, int64_t sequence) {
  uint64_t fraction = (uint32_t)sequence * UINT32_C(2654435769);
  return longest - (int64_t)((uint64_t)(longest - longest / 16) * fraction >> 32);
}

int64_t fv_bench_rows_of(const fv_bench_problem *problem, int64_t sequence) {
  if (problem->kind == FV_BENCH_PACKED) return len_of(problem->len_q, sequence);
  if (problem->kind == FV_BENCH_MIXED && sequence > 0) return 1;
  return problem->len_q;
}

int64_t fv_bench_keys_of(const fv_bench_problem *problem, int64_t sequence) {
  return fv_bench_is_dense(problem) ? problem->len_kv : len_of(problem->len_kv, sequence);
}

int64_t fv_bench_pages_of(const fv_bench_problem *problem, int64_t sequence) {
  if (!problem->page_len) return 0;
  return (fv_bench_keys_of(problem, sequence) + problem->page_len - 1) / problem->page_len;
}

static int64_t sum_of(const fv_bench_problem *problem,
                      int64_t (*part)(const fv_bench_problem *, int64_t)) {
  int64_t sum = 0;
  for (int64_t s = 0; s < problem->batch; ++s) sum += part(problem, s);
  return sum;
}

int64_t fv_bench_rows(const fv_bench_problem *problem) {
  return sum_of(problem, fv_bench_rows_of);
}

int64_t fv_bench_keys(const fv_bench_problem *problem) {
  return sum_of(problem, fv_bench_keys_of);
}

int64_t fv_bench_pages(const fv_bench_problem *problem) {
  return sum_of(problem, fv_bench_pages_of);
}

/* ---- Work ---- */

/* Row i of a causal problem sees keys 0 to keys - rows + i, if they exist. */
int64_t fv_bench_pairs(const fv_bench_problem *problem, int64_t sequence) {
  int64_t rows = fv_bench_rows_of(problem, sequence), keys = fv_bench_keys_of(problem, sequence);
  if (!problem->causal) return rows * keys;
  int64_t seeing = rows < keys ? rows : keys; /* with fewer keys than rows the first see none */
  return seeing * keys - seeing * (seeing - 1) / 2;
}

/* Four products of a token with a matrix. */
static double projection_flops(const fv_bench_problem *problem) {
  double model = (double)fv_bench_model(problem);
  return 8 * model * model * (double)fv_bench_rows(problem);
}

double fv_bench_flops(const fv_bench_problem *problem) {
  double per_unit = problem->kind == FV_BENCH_ADDITIVE ? 5 : 4;
  double attention = per_unit * (double)problem->heads_q * (double)problem->dim *
                     (double)sum_of(problem, fv_bench_pairs);
  return attention + (fv_bench_is_layer(problem) ? projection_flops(problem) : 0);
}

int64_t fv_bench_dtype_bytes(fovea_dtype dtype) {
  return dtype == FOVEA_F32 ? 4 : 2;
}

double fv_bench_kv_bytes(const fv_bench_problem *problem) {
  return 2.0 * (double)fv_bench_keys(problem) * (double)problem->heads_kv * (double)problem->dim *
         (double)fv_bench_dtype_bytes(problem->dtype);
}

const char *fv_bench_dtype_name(fovea_dtype dtype) {
  return dtype == FOVEA_F32 ? "f32" : dtype == FOVEA_F16 ? "f16" : "bf16";
}

/* ---- Names ---- */

void fv_bench_row_name(const fv_bench_row_key *key, char name[FV_BENCH_NAME]) {
  const fv_bench_problem *p = &key->problem;
  char page[32] = "";
  if (p->page_len) snprintf(page, sizeof page, "/page:%" PRId64, p->page_len);
  snprintf(name, FV_BENCH_NAME,
           "%s/%s/%s/batch:%" PRId64 "/heads:%" PRId64 ":%" PRId64 "/len:%" PRId64 ":%" PRId64
           "%s/dim:%" PRId64 "/%s/%s/%s",
           key->device, key->pipeline, fv_bench_kind_name(p->kind), p->batch, p->heads_q,
           p->heads_kv, p->len_q, p->len_kv, page, p->dim, fv_bench_dtype_name(p->dtype),
           p->causal ? "causal" : "full", p->cold ? "cold" : "warm");
}

/* The index of the word among some words; -1 if it is none of them. */
static int word_index(const char *word, const char *const *words, int count) {
  for (int i = 0; i < count; ++i) {
    if (!strcmp(word, words[i])) return i;
  }
  return -1;
}

/* Reads "device/pipeline/kind/batch:N/heads:N:N/len:N:N", and "/page:N" if it is there. Returns the
 * end of it; NULL if it is something else. */
static const char *parse_batch(const char *name, fv_bench_row_key *key) {
  char kind[FV_BENCH_WORD];
  fv_bench_problem *p = &key->problem;
  int end = 0, end_of_page = 0;
  int fields = sscanf(name,
                      "%23[^/]/%23[^/]/%23[^/]/batch:%" SCNd64 "/heads:%" SCNd64 ":%" SCNd64
                      "/len:%" SCNd64 ":%" SCNd64 "%n",
                      key->device, key->pipeline, kind, &p->batch, &p->heads_q, &p->heads_kv,
                      &p->len_q, &p->len_kv, &end);
  int index = fields == 8 ? word_index(kind, kind_names, FV_BENCH_KINDS) : -1;
  if (index < 0) return NULL;
  p->kind = (fv_bench_kind)index;
  if (sscanf(name + end, "/page:%" SCNd64 "%n", &p->page_len, &end_of_page) == 1) {
    return p->page_len > 0 ? name + end + end_of_page : NULL;
  }
  return name + end;
}

/* Reads "/dim:N/dtype/mask/cache", with nothing after it. */
static bool parse_rest(const char *text, fv_bench_problem *p) {
  static const fovea_dtype dtypes[] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
  static const char *const dtype_names[] = {"f32", "f16", "bf16"};
  static const char *const masks[] = {"full", "causal"}, *const caches[] = {"warm", "cold"};
  char dtype[FV_BENCH_WORD], mask[FV_BENCH_WORD], cache[FV_BENCH_WORD];
  int end = 0;
  int fields = sscanf(text, "/dim:%" SCNd64 "/%23[^/]/%23[^/]/%23[a-z]%n", &p->dim, dtype, mask,
                      cache, &end);
  if (fields != 4 || text[end]) return false;
  int type = word_index(dtype, dtype_names, 3), causal = word_index(mask, masks, 2);
  int cold = word_index(cache, caches, 2);
  if (type < 0 || causal < 0 || cold < 0) return false;
  p->dtype = dtypes[type], p->causal = causal, p->cold = cold;
  return true;
}

static bool is_possible(const fv_bench_problem *p) {
  bool paged = p->kind == FV_BENCH_PAGED || p->kind == FV_BENCH_MIXED;
  if (paged != (p->page_len > 0)) return false;
  if (p->kind == FV_BENCH_PACKED && p->len_q != p->len_kv) return false;
  if (p->kind == FV_BENCH_PAGED && p->len_q != 1) return false;
  if (p->kind == FV_BENCH_MIXED && p->len_q > p->len_kv) return false;
  bool square = p->len_q == p->len_kv && p->heads_q == p->heads_kv;
  if (p->kind == FV_BENCH_LAYER && !square) return false;
  return p->batch > 0 && p->heads_q > 0 && p->heads_kv > 0 && p->len_q > 0 && p->len_kv > 0 &&
         p->dim > 0;
}

bool fv_bench_row_parse(const char *name, fv_bench_row_key *key) {
  memset(key, 0, sizeof *key);
  const char *rest = parse_batch(name, key);
  return rest && parse_rest(rest, &key->problem) && is_possible(&key->problem);
}

bool fv_bench_problem_same(const fv_bench_problem *a, const fv_bench_problem *b) {
  return a->batch == b->batch && a->heads_q == b->heads_q && a->heads_kv == b->heads_kv &&
         a->len_q == b->len_q && a->len_kv == b->len_kv && a->page_len == b->page_len &&
         a->dim == b->dim && a->dtype == b->dtype && a->kind == b->kind && a->causal == b->causal &&
         a->cold == b->cold;
}

/* bench_problem.c - see bench_problem.h. */
#include "bench_problem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Row i of a causal problem sees keys 0 to len_kv - len_q + i, as far as they exist. */
int64_t fv_bench_pairs(const fv_bench_problem *problem) {
  int64_t rows = problem->len_q, keys = problem->len_kv;
  if (!problem->causal) return rows * keys;
  int64_t seeing = rows < keys ? rows : keys; /* with fewer keys than rows the first see none */
  return seeing * keys - seeing * (seeing - 1) / 2;
}

double fv_bench_flops(const fv_bench_problem *problem) {
  return 4.0 * (double)problem->batch * (double)problem->heads_q * (double)problem->dim *
         (double)fv_bench_pairs(problem);
}

int64_t fv_bench_dtype_bytes(fovea_dtype dtype) {
  return dtype == FOVEA_F32 ? 4 : 2;
}

double fv_bench_kv_bytes(const fv_bench_problem *problem) {
  return 2.0 * (double)problem->batch * (double)problem->len_kv * (double)problem->heads_kv *
         (double)problem->dim * (double)fv_bench_dtype_bytes(problem->dtype);
}

const char *fv_bench_dtype_name(fovea_dtype dtype) {
  return dtype == FOVEA_F32 ? "f32" : dtype == FOVEA_F16 ? "f16" : "bf16";
}

void fv_bench_row_name(const fv_bench_row_key *key, char name[FV_BENCH_NAME]) {
  const fv_bench_problem *p = &key->problem;
  snprintf(name, FV_BENCH_NAME,
           "%s/%s/%s/batch:%" PRId64 "/heads:%" PRId64 ":%" PRId64 "/len:%" PRId64 ":%" PRId64
           "/dim:%" PRId64 "/%s/%s/%s",
           key->device, key->pipeline, p->decode ? "decode" : "prefill", p->batch, p->heads_q,
           p->heads_kv, p->len_q, p->len_kv, p->dim, fv_bench_dtype_name(p->dtype),
           p->causal ? "causal" : "full", p->cold ? "cold" : "warm");
}

/* One of two or three words; -1 if it is none of them. */
static int word_index(const char *word, const char *a, const char *b, const char *c) {
  if (!strcmp(word, a)) return 0;
  if (!strcmp(word, b)) return 1;
  return c && !strcmp(word, c) ? 2 : -1;
}

bool fv_bench_row_parse(const char *name, fv_bench_row_key *key) {
  char phase[FV_BENCH_WORD], dtype[FV_BENCH_WORD], mask[FV_BENCH_WORD], cache[FV_BENCH_WORD];
  fv_bench_problem *p = &key->problem;
  static const fovea_dtype dtypes[] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
  int end = 0;
  memset(key, 0, sizeof *key);
  int fields = sscanf(name,
                      "%23[^/]/%23[^/]/%23[^/]/batch:%" SCNd64 "/heads:%" SCNd64 ":%" SCNd64
                      "/len:%" SCNd64 ":%" SCNd64 "/dim:%" SCNd64 "/%23[^/]/%23[^/]/%23[a-z]%n",
                      key->device, key->pipeline, phase, &p->batch, &p->heads_q, &p->heads_kv,
                      &p->len_q, &p->len_kv, &p->dim, dtype, mask, cache, &end);
  if (fields != 12 || name[end]) return false;
  int decode = word_index(phase, "prefill", "decode", NULL);
  int type = word_index(dtype, "f32", "f16", "bf16");
  int causal = word_index(mask, "full", "causal", NULL);
  int cold = word_index(cache, "warm", "cold", NULL);
  if (decode < 0 || type < 0 || causal < 0 || cold < 0) return false;
  p->decode = decode, p->dtype = dtypes[type], p->causal = causal, p->cold = cold;
  return p->batch > 0 && p->heads_q > 0 && p->heads_kv > 0 && p->len_q > 0 && p->len_kv > 0 &&
         p->dim > 0;
}

bool fv_bench_problem_same(const fv_bench_problem *a, const fv_bench_problem *b) {
  return a->batch == b->batch && a->heads_q == b->heads_q && a->heads_kv == b->heads_kv &&
         a->len_q == b->len_q && a->len_kv == b->len_kv && a->dim == b->dim &&
         a->dtype == b->dtype && a->decode == b->decode && a->causal == b->causal &&
         a->cold == b->cold;
}

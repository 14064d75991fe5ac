/* group.c - see group.h. */
#include "bench/report/group.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool fv_bench_group_same(const fv_bench_problem *a, const fv_bench_problem *b) {
  if (a->kind != b->kind || a->dtype != b->dtype || a->dim != b->dim) return false;
  int64_t group_a = a->heads_q / a->heads_kv, group_b = b->heads_q / b->heads_kv;
  return group_a == group_b && a->page_len == b->page_len && a->causal == b->causal &&
         a->cold == b->cold;
}

void fv_bench_group_title(const fv_bench_problem *problem, char *title, size_t bytes) {
  static const char *const kinds[FV_BENCH_KINDS] = {
      "prefill",     "decode",          "packed prefill",  "paged decode",
      "mixed batch", "additive scores", "multi-head layer"};
  int64_t group = problem->heads_q / problem->heads_kv;
  const char *state = problem->causal ? "causal" : "full";
  char pages[48] = "", heads[64] = "";
  if (fv_bench_is_decoding(problem)) state = problem->cold ? "from memory" : "from cache";
  if (problem->page_len) snprintf(pages, sizeof pages, ", pages of %" PRId64, problem->page_len);
  if (group > 1) snprintf(heads, sizeof heads, ", %" PRId64 " query heads per kv head", group);
  snprintf(title, bytes, "%s %s, %s%s, dim %" PRId64 "%s", kinds[problem->kind],
           fv_bench_dtype_name(problem->dtype), state, pages, problem->dim, heads);
}

const char *fv_bench_group_shape_title(fv_bench_kind kind) {
  static const char *const titles[FV_BENCH_KINDS] = {"batch x heads x len",
                                                     "batch x heads x keys",
                                                     "batch x heads x longest",
                                                     "batch x heads x most keys",
                                                     "chunk + rows x heads x most keys",
                                                     "batch x heads x len",
                                                     "batch x heads x len"};
  return titles[kind];
}

void fv_bench_group_shape(const fv_bench_problem *problem, char *shape, size_t bytes) {
  char chunk[32] = "";
  int64_t batch = problem->batch;
  if (problem->kind == FV_BENCH_MIXED) {
    snprintf(chunk, sizeof chunk, "%" PRId64 " + ", problem->len_q);
    batch -= 1;
  }
  snprintf(shape, bytes, "%s%" PRId64 " x %" PRId64 "/%" PRId64 " x %" PRId64, chunk, batch,
           problem->heads_q, problem->heads_kv, problem->len_kv);
}

bool fv_bench_group_any_unequal(const fv_bench_result *result) {
  for (size_t i = 0; i < result->row_count; ++i) {
    if (!fv_bench_is_dense(&result->rows[i].key.problem)) return true;
  }
  return false;
}

bool fv_bench_group_any(const fv_bench_result *result, fv_bench_kind kind) {
  for (size_t i = 0; i < result->row_count; ++i) {
    if (result->rows[i].key.problem.kind == kind) return true;
  }
  return false;
}

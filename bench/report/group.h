/* group.h - which rows of a report share a table, and the words above and beside them. */
#ifndef FOVEA_BENCH_REPORT_GROUP_H
#define FOVEA_BENCH_REPORT_GROUP_H

#include "bench/report/result.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Same kind, dtype, mask, ratio of heads, dim, page length and state of the cache. */
bool fv_bench_group_same(const fv_bench_problem *a, const fv_bench_problem *b);

/* "decode bf16, from memory, dim 128, 4 query heads per kv head" */
void fv_bench_group_title(const fv_bench_problem *problem, char *title, size_t bytes);

/* Writes what tells the problems of a group apart, and the title of that column. */
const char *fv_bench_group_shape_title(fv_bench_kind kind);
void fv_bench_group_shape(const fv_bench_problem *problem, char *shape, size_t bytes);

/* Does the report have batches of unequal sequences? */
bool fv_bench_group_any_unequal(const fv_bench_result *result);

/* Does it have such problems? */
bool fv_bench_group_any(const fv_bench_result *result, fv_bench_kind kind);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_REPORT_GROUP_H */

/* bench_check.h - do two pipelines compute the same? Asked before anything is timed. */
#ifndef FV_BENCH_CHECK_H
#define FV_BENCH_CHECK_H

#include "bench_problem.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How far two right results may be apart in any element, for inputs in [-1, 1]. */
double fv_bench_allowance(const fv_bench_problem *problem);

/* The largest distance between two results of count elements; infinity if either has a NaN. */
double fv_bench_distance(const void *a, const void *b, int64_t count, fovea_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif /* FV_BENCH_CHECK_H */

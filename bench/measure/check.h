/* check.h - do two pipelines compute the same? Asked before anything is timed. */
#ifndef FOVEA_BENCH_MEASURE_CHECK_H
#define FOVEA_BENCH_MEASURE_CHECK_H

#include "bench/problem/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How far two right results may be apart in any element, for inputs in [-1, 1]. */
double fv_bench_allowance(const fv_bench_problem *problem);

/* An addition to it for a pipeline that keeps scores in the tensors' dtype; 0 for f32. */
double fv_bench_score_allowance(const fv_bench_problem *problem);

/* The same for the root mean square of the distance, as a part of that of the results. It is much
 * sharper: errors independent of the values average out as the values do. */
double fv_bench_typical_allowance(const fv_bench_problem *problem);
double fv_bench_typical_distance(const void *expected, const void *got, int64_t count,
                                 fovea_dtype dtype);

/* Additions to both for caches that are rounded to multiples of `step` times a block's largest. */
double fv_bench_largest_rounding(double step);
double fv_bench_typical_rounding(double step);

/* The largest distance between two results of count elements; infinity if either has a NaN. */
double fv_bench_distance(const void *a, const void *b, int64_t count, fovea_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_MEASURE_CHECK_H */

/* peak.h - what the machine itself can do: multiply and add, and read memory. Both are timed
 * between the contestants, so that a share of the peak refers to the peak of the same minute. */
#ifndef FOVEA_BENCH_MEASURE_PEAK_H
#define FOVEA_BENCH_MEASURE_PEAK_H

#include "bench/problem/tensors.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Products and sums in registers, on all threads. isa: "avx512", "avx2" or "portable" (SSE2 on
 * x86-64, products and sums apart); any other name counts as portable. */
typedef struct fv_bench_peak {
  fv_pool *pool;
  void (*loop)(void *context, int64_t index);
  double flops; /* of one run: some milliseconds */
  int64_t parts;
} fv_bench_peak;

void fv_bench_peak_open(fv_bench_peak *peak, fv_pool *pool, const char *isa);
bool fv_bench_peak_run(void *peak);

/* The widest of the names above that the processor can run. */
const char *fv_bench_peak_widest(void);

/* Reads keys and values once, on all threads. */
typedef struct fv_bench_read {
  fv_pool *pool;
  const fv_bench_tensors *tensors;
} fv_bench_read;

bool fv_bench_read_run(void *read);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_MEASURE_PEAK_H */

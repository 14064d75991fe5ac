/* host.h - the host time of a call: check, plan, launch, on a driver that does nothing. */
#ifndef FOVEA_BENCH_MEASURE_HOST_H
#define FOVEA_BENCH_MEASURE_HOST_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_bench_host_cost {
  double microseconds; /* of a call: the median of the rounds */
  double spread;       /* half the distance of the quartiles, as a part of the median */
  int64_t calls, allocations;
} fv_bench_host_cost;

/* Measures fovea_attention in prefill and in decoding. If FOVEA_CUDA_DRIVER is not set, it becomes
 * the fovea-null-driver.so beside this program. False: the reason is on stderr. */
bool fv_bench_host_measure(fv_bench_host_cost *prefill, fv_bench_host_cost *decode);

/* How many allocations this program's own code has asked for, all threads together. */
int64_t fv_bench_host_allocations(void);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_MEASURE_HOST_H */

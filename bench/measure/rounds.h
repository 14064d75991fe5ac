/* rounds.h - times contestants in turns: A B C, A B C, ... in one process. Whatever the machine
 * does meanwhile affects all of them. */
#ifndef FOVEA_BENCH_MEASURE_ROUNDS_H
#define FOVEA_BENCH_MEASURE_ROUNDS_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FV_BENCH_REPETITIONS_MAX = 99, FV_BENCH_REPETITIONS_MIN = 9 };

typedef struct fv_bench_contestant {
  const char *pipeline;
  bool (*run)(void *state); /* false: it failed, and has said why */
  void *state;
  double flops, bytes; /* of one run */
  double peak_bytes;   /* memory it took besides the tensors; 0: not measured */
  /* Filled in: for each round the mean of its runs */
  int64_t iterations;
  double seconds[FV_BENCH_REPETITIONS_MAX], cpu_seconds[FV_BENCH_REPETITIONS_MAX];
} fv_bench_contestant;

typedef struct fv_bench_timing {
  int repetitions;
  double least_seconds;         /* a sample in a warm cache repeats its run for this long */
  void (*flush)(void *context); /* called before each sample, which then is one run; or NULL */
  void *flush_context;
  /* Seconds that `iterations` runs in a row take, by a device's own clock. NULL: the processor's
   * clock is used. */
  bool (*measure)(void *context, fv_bench_contestant *contestant, int64_t iterations,
                  double *seconds);
  void *measure_context;
  /* Before each sample, until threads that wait for more work by spinning have given up; below 1.
   * 0: 2 ms. */
  double settle_seconds;
} fv_bench_timing;

/* Every contestant must have run once before. False if one failed. */
bool fv_bench_rounds(fv_bench_contestant *contestants, int count, const fv_bench_timing *timing);

double fv_bench_clock(void);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_MEASURE_ROUNDS_H */

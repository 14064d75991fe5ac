/* rounds.c - see rounds.h. */
#include "bench/measure/rounds.h"

#include <math.h>
#include <time.h>

/* Samples shorter than this follow a run that is not timed. That run brings data back into the
 * caches that the contestant before has used, and wakes the threads. */
static const double longest_to_precede = 0.02;

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

double fv_bench_clock(void) {
  return now(CLOCK_MONOTONIC);
}

/* Pools here spin for 30 us. */
static void settle(const fv_bench_timing *timing) {
  struct timespec pause = {
      0, timing->settle_seconds > 0 ? (long)(1e9 * timing->settle_seconds) : 2000000};
  nanosleep(&pause, NULL);
}

static bool measure(fv_bench_contestant *contestant, const fv_bench_timing *timing,
                    int64_t iterations, double *seconds) {
  if (timing->measure) {
    return timing->measure(timing->measure_context, contestant, iterations, seconds);
  }
  bool done = true;
  double start = fv_bench_clock();
  for (int64_t i = 0; i < iterations && done; ++i) done = contestant->run(contestant->state);
  *seconds = fv_bench_clock() - start;
  return done;
}

static bool run_once(fv_bench_contestant *contestant, const fv_bench_timing *timing,
                     double *seconds) {
  if (timing->flush) timing->flush(timing->flush_context);
  return measure(contestant, timing, 1, seconds);
}

/* How many runs make a sample, from the faster of two runs: the first may still find caches cold.
 */
static bool choose_iterations(fv_bench_contestant *contestant, const fv_bench_timing *timing) {
  double first, second;
  contestant->iterations = 1;
  if (timing->flush) return true;
  if (!run_once(contestant, timing, &first)) return false;
  if (first > timing->least_seconds) return true;
  if (!run_once(contestant, timing, &second)) return false;
  double runs = ceil(timing->least_seconds / fmax(fmin(first, second), 1e-7));
  contestant->iterations = runs < 1 ? 1 : (int64_t)runs;
  return true;
}

static bool sample(fv_bench_contestant *contestant, const fv_bench_timing *timing, int round) {
  double expected = round ? contestant->seconds[round - 1] : 0;
  bool done = true;
  settle(timing);
  if (timing->flush) timing->flush(timing->flush_context);
  if (!timing->flush && expected < longest_to_precede) done = contestant->run(contestant->state);
  double seconds = 0, cpu_start = now(CLOCK_PROCESS_CPUTIME_ID);
  done = done && measure(contestant, timing, contestant->iterations, &seconds);
  double cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
  contestant->seconds[round] = seconds / (double)contestant->iterations;
  contestant->cpu_seconds[round] = cpu / (double)contestant->iterations;
  return done;
}

bool fv_bench_rounds(fv_bench_contestant *contestants, int count, const fv_bench_timing *timing) {
  for (int i = 0; i < count; ++i) {
    if (!choose_iterations(&contestants[i], timing)) return false;
  }
  for (int round = 0; round < timing->repetitions; ++round) {
    for (int i = 0; i < count; ++i) {
      if (!sample(&contestants[i], timing, round)) return false;
    }
  }
  return true;
}

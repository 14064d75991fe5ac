/* options.h - what fovea-bench was asked to do, and how it ends. */
#ifndef FOVEA_BENCH_OPTIONS_H
#define FOVEA_BENCH_OPTIONS_H

#include "bench/problem/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { EXIT_WRONG = 1, EXIT_USAGE = 2, EXIT_INPUT = 3, EXIT_DEVICE = 4, EXIT_OUTPUT = 5 };

typedef struct fv_bench_options {
  fv_bench_grid grid;
  int threads, repetitions;
  const char *filter, *output;
  const char *words[3]; /* a command and its operands */
  int word_count;
  bool break_naive;
  bool cuda, host; /* --device cuda, --host */
} fv_bench_options;

/* Ends the program if the arguments are wrong or ask for help. */
fv_bench_options fv_bench_options_of(int argc, char **argv);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_OPTIONS_H */

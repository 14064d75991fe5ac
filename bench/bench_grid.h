/* bench_grid.h - which problems are timed.
 *
 *   quick     a minute: does it work, and is it roughly as it was?
 *   default   five minutes on 2 cores: f32 and bf16, the lengths that servers see
 *   full      half an hour on 2 cores: what committed results mean */
#ifndef FV_BENCH_GRID_H
#define FV_BENCH_GRID_H

#include <stddef.h>

#include "bench_problem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fv_bench_grid { FV_BENCH_QUICK, FV_BENCH_DEFAULT, FV_BENCH_FULL } fv_bench_grid;

typedef struct fv_bench_problems {
  fv_bench_problem *at;
  size_t count;
} fv_bench_problems;

/* The problems of a grid for a machine with this last-level cache: decoding is timed in a warm
 * cache only where half of it holds the keys and values. The order is that of the tables. Free
 * `at`. NULL: out of memory. */
fv_bench_problems fv_bench_grid_problems(fv_bench_grid grid, double cache_bytes);

const char *fv_bench_grid_name(fv_bench_grid grid);

#ifdef __cplusplus
}
#endif
#endif /* FV_BENCH_GRID_H */

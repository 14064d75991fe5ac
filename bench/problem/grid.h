/* grid.h - which problems are timed.
 *
 *   quick     a minute: does it work, and is it roughly as it was?
 *   default   five minutes on 2 cores: f32 and bf16, the lengths that servers see
 *   full      half an hour on 2 cores: what committed results mean */
#ifndef FOVEA_BENCH_PROBLEM_GRID_H
#define FOVEA_BENCH_PROBLEM_GRID_H

#include <stddef.h>

#include "bench/problem/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fv_bench_grid { FV_BENCH_QUICK, FV_BENCH_DEFAULT, FV_BENCH_FULL } fv_bench_grid;

/* A batch as servers have it, without its dtype: packed (causal), paged or mixed. */
typedef struct fv_bench_served {
  fv_bench_kind kind;
  int64_t batch, heads_q, heads_kv, len_q, len_kv, dim;
} fv_bench_served;

enum { FV_BENCH_SERVED_MAX = 10 };

/* In pages of 16 keys, as in most servers, and from memory: a processor's cache cannot hold the KV
 * caches of that many sequences. Packed prompts have just been computed, and are warm. */
fv_bench_problem fv_bench_grid_served(const fv_bench_served *shape, fovea_dtype dtype);

typedef struct fv_bench_problems {
  fv_bench_problem *at;
  size_t count;
} fv_bench_problems;

/* The problems of a grid for a machine with this last-level cache, in the order of the tables.
 * Decoding is timed in a warm cache only if keys and values fit in half of it. Free `at`. NULL: out
 * of memory. */
fv_bench_problems fv_bench_grid_problems(fv_bench_grid grid, double cache_bytes);

/* The same for a GPU. */
fv_bench_problems fv_bench_grid_cuda_problems(fv_bench_grid grid);

const char *fv_bench_grid_name(fv_bench_grid grid);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_PROBLEM_GRID_H */

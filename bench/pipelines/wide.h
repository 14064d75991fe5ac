/* wide.h - tensors in the form a BLAS takes: f32, and each sequence's keys in one run of memory. */
#ifndef FOVEA_BENCH_PIPELINES_WIDE_H
#define FOVEA_BENCH_PIPELINES_WIDE_H

#include "bench/problem/tensors.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sequences lie one after the other: q and out [rows of all, heads_q, dim], k and v [keys of all,
 * heads_kv, dim]. A tensor that has this form already, f32 without pages, is used where it lies. */
typedef struct fv_bench_wide {
  const fv_bench_tensors *tensors; /* must outlive it */
  fv_pool *pool;
  float *q, *k, *v, *out;
  void *memory; /* what is not the tensors' own; NULL: nothing */
  size_t bytes;
  int64_t *first_keys; /* [batch], paged: the number of each sequence's first key */
} fv_bench_wide;

size_t fv_bench_wide_bytes(const fv_bench_problem *problem);

/* False: out of memory. Nothing is filled in yet. */
bool fv_bench_wide_open(fv_bench_wide *wide, const fv_bench_tensors *tensors, fv_pool *pool);
void fv_bench_wide_close(fv_bench_wide *wide);

/* Widens q, k and v, and gathers keys and values from their pages, in one pass over each. */
void fv_bench_wide_fill(const fv_bench_wide *wide);

/* Rounds out to the tensors' type. */
void fv_bench_wide_finish(const fv_bench_wide *wide);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_PIPELINES_WIDE_H */

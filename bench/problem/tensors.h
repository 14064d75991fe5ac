/* tensors.h - memory and contents of a problem's tensors. */
#ifndef FOVEA_BENCH_PROBLEM_TENSORS_H
#define FOVEA_BENCH_PROBLEM_TENSORS_H

#include <stddef.h>

#include "bench/problem/index.h"
#include "csrc/host/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fresh zero pages straight from the system. The memory that a pipeline needs then shows in the
 * process's size, and is gone afterwards. NULL: out of memory. */
void *fv_bench_map(size_t bytes);
void fv_bench_unmap(void *memory, size_t bytes);

/* Contiguous: [batch, len, heads, dim]; packed [rows or keys of all, heads, dim]; a paged cache
 * [pages, page_len, heads, dim]. */
typedef struct fv_bench_tensors {
  fv_bench_problem problem;
  void *q, *k, *v, *out;     /* of a layer: its tokens, nothing, nothing, its result */
  int64_t q_count, kv_count; /* elements of q (and out), and of k (and v) */
  float *score_vector;       /* of additive scores [heads_q, dim]; NULL: dot products */
  void *projections;         /* of a layer: of q, k, v and out [4, model, model] as [out, in], then
                              * biases [4, model], in the problem's dtype; NULL: it is no layer */
  fv_bench_index index;
} fv_bench_tensors;

/* Uniform random numbers in [-1, 1), the same on every machine. Multiplying zeros would take less
 * power, and so less time. Those of score_vector are divided by sqrt(dim), which the scale of dot
 * products does there. Projections are multiplied by sqrt(3 / model), which makes their variance
 * 1 / model: projected tokens have the tokens' own. out is NaN. False: out of memory. */
bool fv_bench_tensors_make(fv_bench_tensors *tensors, const fv_bench_problem *problem,
                           fv_pool *pool);
void fv_bench_tensors_free(fv_bench_tensors *tensors);

/* Bytes of k and v; in pages somewhat more than those of the sequences' keys. */
double fv_bench_tensors_kv_bytes(const fv_bench_tensors *tensors);

/* Takes keys and values out of all caches of the processor. */
void fv_bench_tensors_flush(const fv_bench_tensors *tensors);

/* 64 random bits that depend on seed and index alone. */
uint64_t fv_bench_random(uint64_t seed, int64_t index);

/* Fills count elements of any dtype: element i depends on seed and i alone. */
void fv_bench_fill(void *data, int64_t count, fovea_dtype dtype, uint64_t seed, fv_pool *pool);

/* Takes memory out of all caches. Exported: measure/peer.h. */
FOVEA_API void fv_bench_flush(const void *memory, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_PROBLEM_TENSORS_H */

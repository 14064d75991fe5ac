/* index.h - the numbers that say which rows, keys and pages belong to which sequence, in the form
 * that the call reads. */
#ifndef FOVEA_BENCH_PROBLEM_INDEX_H
#define FOVEA_BENCH_PROBLEM_INDEX_H

#include "bench/problem/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One allocation, and the arrays in it, as fovea_attention_args has them. NULL: the problem has no
 * such array. */
typedef struct fv_bench_index {
  int32_t *numbers;
  int64_t count; /* 0: dense tensors need none */
  int32_t *q_offsets, *kv_offsets, *kv_lengths;
  int32_t *page_ids;         /* [batch, row_stride] */
  int64_t row_stride, pages; /* of the longest sequence; of the cache */
} fv_bench_index;

/* The index of a problem in memory, of any device, that begins at `numbers`. NULL: only the counts
 * are set. */
fv_bench_index fv_bench_index_at(const fv_bench_problem *problem, int32_t *numbers);

/* Writes all arrays. Each page of the cache belongs to one sequence, in an order drawn at random.
 * Entries of the table without a page are -1. */
void fv_bench_index_fill(const fv_bench_index *index, const fv_bench_problem *problem);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_PROBLEM_INDEX_H */

/* params.h - what the host passes to the naive pipeline's kernels: structs by value, the same on
 * both sides. Strides count elements. */
#ifndef FOVEA_BENCH_GPU_PARAMS_H
#define FOVEA_BENCH_GPU_PARAMS_H

#include <stdint.h>

/* Matrices, one per (sequence, head), rows contiguous. */
typedef struct fv_bench_matrices {
  void *data;
  int64_t batch, head, row;
} fv_bench_matrices;

/* c = factor * a b for each of batch * heads; `group` heads share one b. */
typedef struct fv_bench_product {
  fv_bench_matrices a, b,
      c; /* [rows, depth], [columns, depth] or [depth, columns], [rows, columns] */
  int64_t batch, heads, group;
  int64_t rows, columns, depth;
  int32_t b_transposed; /* b is [columns, depth] */
  float factor;
} fv_bench_product;

/* Softmax in place of rows [sequences, heads_q, len_q, row]. Keys that are hidden or past the
 * sequence's end become 0. */
typedef struct fv_bench_score_rows {
  void *scores;
  int64_t rows, row;      /* of all heads of all sequences; elements of one, a multiple of 8 */
  int64_t keys, len_q;    /* of each sequence */
  const int32_t *lengths; /* [sequences]: keys of each; NULL: all have `keys` */
  int64_t rows_each;      /* heads_q * len_q */
  int64_t causal;         /* bottom-right */
} fv_bench_score_rows;

/* Keys and values of all heads, gathered from pages into [sequences, keys, heads, dim]. */
typedef struct fv_bench_gathering {
  const void *k, *v;
  void *k_to, *v_to;
  const int32_t *page_ids, *lengths; /* of the first sequence */
  int64_t row_stride, page_len;      /* of the table; keys of a page */
  int64_t chunks, keys;              /* of 16 bytes in a key; from a sequence to the next */
} fv_bench_gathering;

typedef struct fv_bench_bytes {
  const void *data;
  int64_t chunks; /* of 16 bytes */
  uint32_t *sink; /* written if a sum has an impossible value */
} fv_bench_bytes;

enum { FV_BENCH_PRODUCT_SIDE = 16, FV_BENCH_ROW_THREADS = 128, FV_BENCH_READ_THREADS = 256 };

#endif /* FOVEA_BENCH_GPU_PARAMS_H */

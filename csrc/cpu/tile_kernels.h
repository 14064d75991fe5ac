/* tile_kernels.h - the inner loops of the CPU backend, one table per instruction set.
 *
 * The accumulators of one product hold a panel of rows times a panel of columns. A panel of rows is
 * panel_rows query rows; a panel of columns is panel_columns keys or columns of v. The instruction
 * set decides both numbers.
 *
 * No result depends on them: the same sequence of operations computes every element, whatever rows
 * and keys share its panel. That makes a row's bits independent of the batch. */
#ifndef FOVEA_CSRC_CPU_TILE_KERNELS_H
#define FOVEA_CSRC_CPU_TILE_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  FV_TILE_KV_MAX = 512,      /* maximum keys per tile */
  FV_STREAM_KEYS = 64,       /* keys per tile of a stream: k and v of 128 dims are 64 KiB */
  FV_BLOCK_KEYS = 64,        /* keys whose products are summed from zero in f32 */
  FV_BLOCK_DIMS = 64,        /* elements of q and k likewise, in a score */
  FV_PANEL_ROWS_MAX = 12,    /* every panel_rows divides it */
  FV_PANEL_COLUMNS_MAX = 32, /* every panel_columns divides it */
  /* Floats from one row of scores to the next. The 16 beyond a tile put rows into different cache
   * sets. */
  FV_SCORE_STRIDE = FV_TILE_KV_MAX + 16
};

/* A row's state of online softmax. */
typedef struct fv_row_state {
  double sum;
  float maximum; /* of the scores, or of natural logits if the job turns scores into those */
} fv_row_state;

/* The factor that makes sums relative to one maximum relative to the next. It is a double: if the
 * maximum creeps up from tile to tile, thousands of factors follow each other, and f32 factors
 * would all be off in the same direction. */
static inline double fv_rescale(float before, float after, float factor) {
  if (before == after) return 1;
  if (before == -INFINITY) return 0; /* nothing is summed yet */
  return exp2(((double)before - (double)after) * (double)factor);
}

/* What a panel of rows sees of a tile's keys. */
typedef struct fv_panel_window {
  int32_t begin, end;                                      /* keys that every row sees */
  int32_t low[FV_PANEL_ROWS_MAX], high[FV_PANEL_ROWS_MAX]; /* row r sees [low[r], high[r]) only */
} fv_panel_window;

/* Indices [begin, end) of keys in a tile. */
typedef struct fv_tile_range {
  int32_t begin, end;
} fv_tile_range;

/* Sums of weighted values [rows][stride], and what a product does to them: out * rescale + product.
 * If rescale [rows] is NULL, out is not read and counts as 0. */
typedef struct fv_sums {
  double *out;
  int32_t stride;
  const double *rescale;
} fv_sums;

/* Rows of k or v that are read in place: `keys` addresses of rows of f32, f16, bf16 or blocks. keys
 * is a multiple of panel_columns. `ahead` is NULL, or has as many addresses to fetch into the
 * cache. */
typedef struct fv_key_rows {
  const void *const *rows, *const *ahead;
  uint32_t dtype;
  int32_t keys;
} fv_key_rows;

typedef struct fv_tile_kernels {
  int32_t panel_rows, panel_columns, lanes; /* panel_columns = 2 * lanes */
  bool reads_blocks;                        /* rows of q8_0 and q4_0, in place */

  /* to[i] = value of from[i], exact; dtype is a fovea_dtype. count is a multiple of 8, and whole
   * blocks. */
  void (*widen)(float *to, const void *from, uint32_t dtype, int64_t count);

  /* to[i] = from[i], rounded to nearest even; dtype is f32, f16 or bf16. In f16 and bf16 every NaN
   * becomes the NaN that numeric.h names. count is a multiple of 8. */
  void (*narrow)(void *to, const float *from, uint32_t dtype, int64_t count);

  /* to[i] = from[i] * factor, rounded, + 0, which turns -0 into 0. count is a multiple of 8. */
  void (*scale_sums)(float *to, const double *from, double factor, int32_t count);

  /* to [dim][panel_columns] = rows [panel_columns][dim] transposed; dtype is f32, f16, bf16, or
   * with reads_blocks q8_0 or q4_0. */
  void (*pack_keys)(float *to, const void *const *rows, uint32_t dtype, int32_t dim);

  /* v [column panels][tile_kv][panel_columns] = rows [begin..end)[dim_v], padded with zeros. */
  void (*pack_values)(float *v, const void *const *rows, uint32_t dtype, int32_t tile_kv,
                      int32_t begin, int32_t end, int32_t dim_v);

  /* scores [panel_rows][keys] = q [panel_rows][dim] times k, and -inf outside the rows' windows
   * (NULL: they see all). Blocks of FV_BLOCK_DIMS are summed from zero in the order of d, and added
   * in order. maxima [panel_rows] receives each row's largest score. keys.begin is a multiple of
   * panel_columns, keys.end of lanes. */
  void (*score)(float *scores, float *maxima, const float *q, const float *k, int32_t dim,
                fv_tile_range keys, const fv_panel_window *window);

  /* The additive scores of `rows` rows, at most panel_rows: scores [rows][keys] = the sum over d of
   * vectors[row][d] * tanh(q[row][d] + k[d]). q and k are as in `score`, in whole steps of dims;
   * dim itself may be any. Blocks are summed as there. */
  void (*score_additive)(float *scores, const float *q, const float *const *vectors, int32_t rows,
                         int32_t dim, const float *k, fv_tile_range keys);

  /* The largest of the scores of `keys`. A NaN is never larger. Here and in softmax keys.begin is a
   * multiple of panel_columns, keys.end of lanes. */
  float (*largest)(const float *scores, fv_tile_range keys);

  /* One step of online softmax for `rows` rows, at most FV_PANEL_ROWS_MAX. `largest` has each row's
   * largest score of the tile. scores [rows][keys] become exp2((scores - maximum) * factor), 0 for
   * -inf. states [rows] are updated. rescale [rows] receives the factors for earlier sums and
   * outputs. */
  void (*softmax)(float *scores, int32_t rows, fv_tile_range keys, const float *largest,
                  float factor, fv_row_state *states, double *rescale);

  /* Adds weights [panel_rows][keys] times v to `sums` of panel_rows rows and `columns` columns,
   * padded. Blocks of FV_BLOCK_KEYS are summed from zero in the order of keys, and added in order.
   * An odd begin or end of keys is rounded outwards: the caller gives the extra key a weight of
   * 0. */
  void (*accumulate)(fv_sums sums, const float *weights, const float *v, int32_t tile_kv,
                     fv_tile_range keys, int32_t columns);

  /* scores[0..count) become softcap * tanh(scores * scale / softcap), or scores * scale if softcap
   * is 0. */
  void (*scale_scores)(float *scores, int32_t count, float scale, float softcap);

  /* scores [rows][k.keys] = q [rows][dim] times k, for at most FV_PANEL_ROWS_MAX rows. */
  void (*stream_scores)(float *scores, const float *q, int32_t rows, int32_t dim, fv_key_rows k);

  /* Adds weights [rows][v.keys] times v, summed from zero in the order of keys, to `sums` of `rows`
   * rows. sums.rescale is not NULL. */
  void (*stream_values)(fv_sums sums, const float *weights, int32_t rows, int32_t dim_v,
                        fv_key_rows v);
} fv_tile_kernels;

extern const fv_tile_kernels fv_tile_kernels_portable;
extern const fv_tile_kernels fv_tile_kernels_avx2;   /* x86-64 only */
extern const fv_tile_kernels fv_tile_kernels_avx512; /* x86-64 only */

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CPU_TILE_KERNELS_H */

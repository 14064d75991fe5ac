/* tile_kernels.h - the inner loops of the CPU backend, one table per instruction set.
 *
 * A panel of rows is panel_rows query rows, a panel of columns panel_columns keys or columns of v:
 * what the accumulators of one product hold. Both are powers of the instruction set, and no result
 * depends on them: every element is computed by the same sequence of operations, whatever rows and
 * keys share its panel. That is what makes a row's bits independent of the batch. */
#ifndef FV_TILE_KERNELS_H
#define FV_TILE_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  FV_TILE_KV_MAX = 512,      /* keys per tile at most */
  FV_STREAM_KEYS = 64,       /* keys per tile of a stream: k and v of 128 dims are 64 KiB */
  FV_BLOCK_KEYS = 64,        /* keys whose products are summed from zero in f32 */
  FV_BLOCK_DIMS = 64,        /* dims likewise, in a score */
  FV_PANEL_ROWS_MAX = 12,    /* every panel_rows divides it */
  FV_PANEL_COLUMNS_MAX = 32, /* every panel_columns divides it */
  /* From row to row of scores. The 16 beyond a tile keep rows off each other's cache sets. */
  FV_SCORE_STRIDE = FV_TILE_KV_MAX + 16
};

/* A row's state of online softmax. */
typedef struct fv_row_state {
  double sum;
  float maximum; /* of the scores, or of logits if the job's scores are logits */
} fv_row_state;

/* What sums relative to one maximum are multiplied by to be relative to the next. In double: where
 * the maximum creeps up from tile to tile, thousands of these follow each other, and an f32 would
 * be off in the same direction each time. */
static inline double fv_rescale(float before, float after, float factor) {
  if (before == after) return 1;
  if (before == -INFINITY) return 0; /* there are no sums yet */
  return exp2(((double)before - (double)after) * (double)factor);
}

/* What a panel of rows sees of a tile's keys. */
typedef struct fv_panel_window {
  int32_t begin, end;                                      /* keys that every row sees */
  int32_t low[FV_PANEL_ROWS_MAX], high[FV_PANEL_ROWS_MAX]; /* each row sees [low, high) alone */
} fv_panel_window;

typedef struct fv_tile_kernels {
  int32_t panel_rows, panel_columns, lanes; /* panel_columns are 2 vectors of lanes */

  /* to[i] = value of from[i], exact; dtype is a fovea_dtype. count is a multiple of 8. */
  void (*widen)(float *to, const void *from, uint32_t dtype, int64_t count);

  /* to[i] = from[i], rounded to nearest even; dtype is f32, f16 or bf16. NaN becomes the one that
   * numeric.h names. count is a multiple of 8. */
  void (*narrow)(void *to, const float *from, uint32_t dtype, int64_t count);

  /* to[i] = from[i] * factor, rounded, + 0, which makes -0 an 0. count is a multiple of 8. */
  void (*scale_sums)(float *to, const double *from, double factor, int32_t count);

  /* to [dim][panel_columns] = rows [panel_columns][dim] transposed; dtype is f32, f16 or bf16. */
  void (*pack_keys)(float *to, const void *const *rows, uint32_t dtype, int32_t dim);

  /* v [column panels][tile_kv][panel_columns] = rows [begin..end)[dim_v], padded with zeros. */
  void (*pack_values)(float *v, const void *const *rows, uint32_t dtype, int32_t tile_kv,
                      int32_t begin, int32_t end, int32_t dim_v);

  /* scores [panel_rows][begin..end) = q [panel_rows][dim] times k, blocks of FV_BLOCK_DIMS from
   * zero in the order of d, added in order, and -inf outside the rows' windows (NULL: they see
   * all); maxima [panel_rows] receives each row's largest. begin is a multiple of panel_columns,
   * end of lanes. */
  void (*score)(float *scores, float *maxima, const float *q, const float *k, int32_t dim,
                int32_t begin, int32_t end, const fv_panel_window *window);

  /* The largest of scores[begin..end); a NaN is never larger. Here and below begin is a multiple of
   * panel_columns, end of lanes. */
  float (*largest)(const float *scores, int32_t begin, int32_t end);

  /* One step of online softmax for `rows` rows, at most FV_PANEL_ROWS_MAX, whose largest scores of
   * the tile are given. scores [rows][begin..end) become exp2((scores - maximum) * factor), 0 for
   * -inf; states [rows] are brought up to date; rescale [rows] receives what earlier sums and
   * outputs are to be multiplied by. */
  void (*softmax)(float *scores, int32_t rows, int32_t begin, int32_t end, const float *largest,
                  float factor, fv_row_state *states, double *rescale);

  /* out = out * rescale + weights [panel_rows][begin..end) times v, for panel_rows rows of out
   * [panel_rows][stride], rescale [panel_rows] and `columns` columns, padded: blocks of
   * FV_BLOCK_KEYS from zero in the order of keys, added in order. begin and end are any; a key
   * before or after them that makes their numbers even is there with a weight of 0. Without rescale
   * (NULL) out is not read, but taken for 0. */
  void (*accumulate)(double *out, int32_t stride, const double *rescale, const float *weights,
                     const float *v, int32_t tile_kv, int32_t begin, int32_t end, int32_t columns);

  /* scores[0..count) become softcap * tanh(scores * scale / softcap), or without a softcap (0)
   * scores * scale. */
  void (*scale_scores)(float *scores, int32_t count, float scale, float softcap);

  /* Few rows, at most FV_PANEL_ROWS_MAX; k and v are `keys` addresses of rows of f32, f16 or bf16;
   * `ahead` are as many addresses to fetch into the cache, or NULL. keys is a multiple of
   * panel_columns. scores [rows][keys] = q [rows][dim] times k. */
  void (*stream_scores)(float *scores, const float *q, const void *const *k,
                        const void *const *ahead, uint32_t dtype, int32_t rows, int32_t keys,
                        int32_t dim);

  /* out [rows][stride] = out * rescale + weights [rows][keys] times v, from zero in the order of
   * keys. */
  void (*stream_values)(double *out, int32_t stride, const double *rescale, const float *weights,
                        const void *const *v, const void *const *ahead, uint32_t dtype,
                        int32_t rows, int32_t keys, int32_t dim_v);
} fv_tile_kernels;

extern const fv_tile_kernels fv_tile_kernels_portable;
extern const fv_tile_kernels fv_tile_kernels_avx2;   /* x86-64 only */
extern const fv_tile_kernels fv_tile_kernels_avx512; /* x86-64 only */

#ifdef __cplusplus
}
#endif

#endif /* FV_TILE_KERNELS_H */

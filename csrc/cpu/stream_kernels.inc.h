/* stream_kernels.inc.h - the part of tile_kernels.inc.h for few rows: k and v are read in place,
 * once for each 4, 2 or 1 query rows. Packing them would cost more than it saves.
 *
 * Scores: the dim runs across the lanes, and one fixed tree sums the lanes. Blocks of rows x keys
 * are 1 x 8, 2 x 4 and 4 x 3, which takes 12 accumulators, 3 keys and a query of 16 registers. With
 * 32 registers the last is 4 x 4.
 *
 * Values: a block of rows and columns stays in registers for 8 keys. All 64 keys of a tile at once
 * would load and store less. But rows of k and v are often a power of two apart, and 64 lines of
 * one cache set do not stay cached.
 *
 * While a tile is computed, the next one of the same tensor is fetched into the second-level cache.
 * Hardware prefetchers do not do that: they stop at the ends of rows and pages. */

/* Elements [d, d + FV_ROW_LANES) of a row. If not `whole`: 8 elements, then zeros. */
ALWAYS_INLINE f32r load_part(const void *row, const uint32_t dtype, int32_t d, const bool whole) {
  return whole ? load_lanes(row, dtype, d) : load_half(row, dtype, d);
}
ALWAYS_INLINE f32r splat_row(float x) {
  return x - (f32r){0};
}
ALWAYS_INLINE f32r load_row(const float *from) {
  return *(const f32r_unaligned *)from;
}
ALWAYS_INLINE void store_row(float *to, f32r x) {
  *(f32r_unaligned *)to = x;
}

/* ---- Prefetch ---- */

/* Prefetches the cache lines that begin in bytes [begin, end) of a row. */
ALWAYS_INLINE void fetch(const void *row, int32_t begin, int32_t end) {
  for (int32_t offset = (begin + 63) / 64 * 64; offset < end; offset += 64) {
    __builtin_prefetch((const char *)row + offset, 0, 2);
  }
}

/* ---- Scores ---- */

ALWAYS_INLINE void stream_step(f32r acc[4][8], const float *q, const void *const *k,
                               const uint32_t dtype, int32_t dim, int32_t d, const bool whole,
                               const int rows, const int keys) {
  f32r x[8];
  for (int j = 0; j < keys; ++j) x[j] = load_part(k[j], dtype, d, whole);
  for (int r = 0; r < rows; ++r) {
    f32r factor = load_part(q + (int64_t)r * dim, FOVEA_F32, d, whole);
    for (int j = 0; j < keys; ++j) acc[r][j] = fv_multiply_add_row(factor, x[j], acc[r][j]);
  }
}

/* scores [rows][keys] = q [rows][dim] times k [keys][dim]. */
ALWAYS_INLINE void stream_block(float *scores, const float *q, const void *const *k,
                                const uint32_t dtype, int32_t dim, const int rows, const int keys) {
  f32r acc[4][8] = {{{0}}};
  int32_t d = 0;
  for (; d + FV_ROW_LANES <= dim; d += FV_ROW_LANES) {
    stream_step(acc, q, k, dtype, dim, d, true, rows, keys);
  }
  if (FV_ROW_LANES > 8 && d < dim) stream_step(acc, q, k, dtype, dim, d, false, rows, keys);
  if (keys % 4 == 0) {
    for (int r = 0; r < rows; ++r) {
      for (int j = 0; j < keys; j += 4) {
        *(f32x4_unaligned *)(scores + r * FV_SCORE_STRIDE + j) =
            sum_four(acc[r][j], acc[r][j + 1], acc[r][j + 2], acc[r][j + 3]);
      }
    }
  } else {
    for (int j = 0; j < keys; ++j) {
      f32x4 sums = sum_four(acc[0][j], acc[1][j], acc[2][j], acc[3][j]);
      for (int r = 0; r < 4; ++r) scores[r * FV_SCORE_STRIDE + j] = sums[r];
    }
  }
}

/* `ahead` has a row to fetch meanwhile for each key; NULL: none. */
ALWAYS_INLINE void stream_rows(float *scores, const float *q, const void *const *k,
                               const void *const *ahead, const uint32_t dtype, int32_t keys,
                               int32_t dim, const int rows, const int block) {
  int32_t row_bytes = dim * (dtype == FOVEA_F32 ? 4 : 2), j = 0;
  for (; j + block <= keys; j += block) {
    for (int i = 0; ahead && i < block; ++i) fetch(ahead[j + i], 0, row_bytes);
    stream_block(scores + j, q, k + j, dtype, dim, rows, block);
  }
  for (; j < keys; ++j) {
    if (ahead) fetch(ahead[j], 0, row_bytes);
    stream_block(scores + j, q, k + j, dtype, dim, rows, 1);
  }
}

ALWAYS_INLINE void stream_scores_typed(float *scores, const float *q, const void *const *k,
                                       const void *const *ahead, const uint32_t dtype, int32_t rows,
                                       int32_t keys, int32_t dim) {
  while (rows > 0) {
    int32_t done = rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
    if (done == 4) {
      stream_rows(scores, q, k, ahead, dtype, keys, dim, 4, FV_ROW_KEYS);
    } else if (done == 2) {
      stream_rows(scores, q, k, ahead, dtype, keys, dim, 2, 4);
    } else {
      stream_rows(scores, q, k, ahead, dtype, keys, dim, 1, 8);
    }
    scores += done * FV_SCORE_STRIDE;
    q += (int64_t)done * dim;
    rows -= done;
    ahead = NULL; /* the first rows fetched them */
  }
}

static void stream_scores(float *scores, const float *q, const void *const *k,
                          const void *const *ahead, uint32_t dtype, int32_t rows, int32_t keys,
                          int32_t dim) {
  if (dtype == FOVEA_F32) {
    stream_scores_typed(scores, q, k, ahead, FOVEA_F32, rows, keys, dim);
  } else if (dtype == FOVEA_F16) {
    stream_scores_typed(scores, q, k, ahead, FOVEA_F16, rows, keys, dim);
  } else {
    stream_scores_typed(scores, q, k, ahead, FOVEA_BF16, rows, keys, dim);
  }
}

/* ---- Values ---- */

enum { VALUE_KEYS = 8 }; /* panel_columns is a multiple of it */

/* Floats from one row of sums to the next. */
enum { SUMS_STRIDE = (FV_DIM_V_MAX + FV_ROW_LANES - 1) / FV_ROW_LANES * FV_ROW_LANES };

/* Adds 8 keys to a block of sums [rows][vectors] from column `column` on. With first_keys the sums
 * start from zero. If not `whole` the block is one vector, half of it zeros. It fetches the same
 * columns of the rows ahead: whole rows at once would fill the queues. */
ALWAYS_INLINE void value_block(float *sums, bool first_keys, const float *weights,
                               const void *const *v, const void *const *ahead, const uint32_t dtype,
                               int32_t column, const bool whole, const int rows,
                               const int vectors) {
  const int32_t size = dtype == FOVEA_F32 ? 4 : 2;
  const int32_t first = (column * size + 63) / 64 * 64, bytes = FV_ROW_LANES * vectors * size;
  const int32_t lines = bytes % 64 ? (column * size + bytes + 63 - first) / 64 : bytes / 64;
  f32r acc[4][8] = {{{0}}};
  sums += column;
  for (int r = 0; !first_keys && r < rows; ++r) {
    for (int c = 0; c < vectors; ++c) {
      acc[r][c] = load_row(sums + r * SUMS_STRIDE + FV_ROW_LANES * c);
    }
  }
  for (int32_t j = 0; j < VALUE_KEYS; ++j) {
    f32r x[8];
    for (int i = 0; ahead && i < lines; ++i) {
      __builtin_prefetch((const char *)ahead[j] + first + 64 * i, 0, 2);
    }
    for (int c = 0; c < vectors; ++c) {
      x[c] = load_part(v[j], dtype, column + FV_ROW_LANES * c, whole);
    }
    for (int r = 0; r < rows; ++r) {
      f32r factor = splat_row(weights[r * FV_SCORE_STRIDE + j]);
      for (int c = 0; c < vectors; ++c) acc[r][c] = fv_multiply_add_row(factor, x[c], acc[r][c]);
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < vectors; ++c) {
      store_row(sums + r * SUMS_STRIDE + FV_ROW_LANES * c, acc[r][c]);
    }
  }
}

/* All columns of a few rows: `most` vectors at a time, then 2, then 1. out is padded to whole
 * vectors. */
ALWAYS_INLINE void value_rows(double *out, int32_t stride, const double *rescale,
                              const float *weights, const void *const *v, const void *const *ahead,
                              const uint32_t dtype, int32_t keys, int32_t dim_v, const int rows,
                              const int most) {
  const int32_t wide = FV_ROW_LANES * most, narrow = FV_ROW_LANES * 2;
  float sums[4 * SUMS_STRIDE];
  for (int32_t j = 0; j < keys; j += VALUE_KEYS) {
    const void *const *next = ahead ? ahead + j : NULL;
    int32_t d = 0;
    for (; d + wide <= dim_v; d += wide) {
      value_block(sums, j == 0, weights + j, v + j, next, dtype, d, true, rows, most);
    }
    for (; d + narrow <= dim_v; d += narrow) {
      value_block(sums, j == 0, weights + j, v + j, next, dtype, d, true, rows, 2);
    }
    for (; d + FV_ROW_LANES <= dim_v; d += FV_ROW_LANES) {
      value_block(sums, j == 0, weights + j, v + j, next, dtype, d, true, rows, 1);
    }
    if (FV_ROW_LANES > 8 && d < dim_v) {
      value_block(sums, j == 0, weights + j, v + j, next, dtype, d, false, rows, 1);
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int32_t d = 0; d < dim_v; d += FV_LANES) {
      join(out + (int64_t)r * stride + d, rescale + r, load(sums + r * SUMS_STRIDE + d));
    }
  }
}

ALWAYS_INLINE void stream_values_typed(double *out, int32_t stride, const double *rescale,
                                       const float *weights, const void *const *v,
                                       const void *const *ahead, const uint32_t dtype, int32_t rows,
                                       int32_t keys, int32_t dim_v) {
  while (rows > 0) {
    int32_t done = rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
    if (done == 4) {
      value_rows(out, stride, rescale, weights, v, ahead, dtype, keys, dim_v, 4, FV_ROW_VECTORS);
    } else if (done == 2) {
      value_rows(out, stride, rescale, weights, v, ahead, dtype, keys, dim_v, 2, 4);
    } else {
      value_rows(out, stride, rescale, weights, v, ahead, dtype, keys, dim_v, 1, 8);
    }
    out += (int64_t)done * stride;
    rescale += done;
    weights += done * FV_SCORE_STRIDE;
    rows -= done;
    ahead = NULL;
  }
}

static void stream_values(double *out, int32_t stride, const double *rescale, const float *weights,
                          const void *const *v, const void *const *ahead, uint32_t dtype,
                          int32_t rows, int32_t keys, int32_t dim_v) {
  if (dtype == FOVEA_F32) {
    stream_values_typed(out, stride, rescale, weights, v, ahead, FOVEA_F32, rows, keys, dim_v);
  } else if (dtype == FOVEA_F16) {
    stream_values_typed(out, stride, rescale, weights, v, ahead, FOVEA_F16, rows, keys, dim_v);
  } else {
    stream_values_typed(out, stride, rescale, weights, v, ahead, FOVEA_BF16, rows, keys, dim_v);
  }
}

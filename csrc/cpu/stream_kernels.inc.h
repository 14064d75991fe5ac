/* stream_kernels.inc.h - the part of tile_kernels.inc.h for few rows: k and v are read where they
 * lie, once or twice, since packing them would cost more than it saves.
 *
 * Scores: the dim runs across the lanes, and sums of lanes follow one tree. Blocks of rows x keys
 * are 1 x 8, 2 x 4 and 4 x 3 (12 accumulators, 3 keys and a query of 16 registers). Values: a
 * block of rows and columns stays in registers while 8 keys go by. (All 64 keys of a tile at once
 * would load and store less, but rows of k and v are often a power of two apart, and 64 lines of
 * one cache set do not stay.) While a tile is computed the next
 * one of the same tensor is fetched into the second-level cache: hardware prefetchers stop at the
 * ends of rows and pages. */

ALWAYS_INLINE f32x8 splat8(float x) {
  return x - (f32x8){0};
}
ALWAYS_INLINE f32x8 load8(const float *from) {
  return *(const f32x8_unaligned *)from;
}
ALWAYS_INLINE void store8(float *to, f32x8 x) {
  *(f32x8_unaligned *)to = x;
}

/* ---- Prefetch ---- */

/* The cache lines of row [begin, end), in bytes; a line belongs to where it begins. */
ALWAYS_INLINE void fetch(const void *row, int32_t begin, int32_t end) {
  for (int32_t offset = (begin + 63) / 64 * 64; offset < end; offset += 64) {
    __builtin_prefetch((const char *)row + offset, 0, 2);
  }
}

/* ---- Scores ---- */

ALWAYS_INLINE f32x4 fold(f32x8 x) {
  union {
    f32x8 whole;
    f32x4 half[2];
  } parts = {x};
  return parts.half[0] + parts.half[1];
}

ALWAYS_INLINE f32x4 add_pairs(f32x4 a, f32x4 b) {
  return SHUFFLE4(a, b, 0, 2, 4, 6) + SHUFFLE4(a, b, 1, 3, 5, 7);
}

/* The sums of the lanes of four vectors. */
ALWAYS_INLINE f32x4 sum_four(f32x8 a, f32x8 b, f32x8 c, f32x8 d) {
  return add_pairs(add_pairs(fold(a), fold(b)), add_pairs(fold(c), fold(d)));
}

/* scores [rows][keys] = q [rows][dim] times k [keys][dim]. */
ALWAYS_INLINE void stream_block(float *scores, const float *q, const void *const *k,
                                const uint32_t dtype, int32_t dim, const int rows, const int keys) {
  f32x8 acc[4][8] = {{{0}}};
  for (int32_t d = 0; d < dim; d += 8) {
    f32x8 x[8];
    for (int j = 0; j < keys; ++j) x[j] = load_typed(k[j], dtype, d);
    for (int r = 0; r < rows; ++r) {
      f32x8 factor = load8(q + (int64_t)r * dim + d);
      for (int j = 0; j < keys; ++j) acc[r][j] = fv_multiply_add8(factor, x[j], acc[r][j]);
    }
  }
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

/* `ahead`, the rows to fetch meanwhile, has an entry for every key; NULL: none. */
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
      stream_rows(scores, q, k, ahead, dtype, keys, dim, 4, 3);
    } else if (done == 2) {
      stream_rows(scores, q, k, ahead, dtype, keys, dim, 2, 4);
    } else {
      stream_rows(scores, q, k, ahead, dtype, keys, dim, 1, 8);
    }
    scores += done * FV_SCORE_STRIDE;
    q += (int64_t)done * dim;
    rows -= done;
    ahead = NULL; /* fetched by now */
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

/* One block of out [rows][8 * vectors] from column `column` on. It fetches the same columns of the
 * rows ahead: all of them at once would fill the queues. */
ALWAYS_INLINE void value_block(float *out, int32_t stride, const float *weights,
                               const void *const *v, const void *const *ahead, const uint32_t dtype,
                               int32_t keys, int32_t column, const int rows, const int vectors) {
  const int32_t size = dtype == FOVEA_F32 ? 4 : 2;
  f32x8 acc[4][8];
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < vectors; ++c) acc[r][c] = load8(out + (int64_t)r * stride + column + 8 * c);
  }
  for (int32_t j = 0; j < keys; ++j) {
    f32x8 x[8];
    if (ahead) fetch(ahead[j], column * size, (column + 8 * vectors) * size);
    for (int c = 0; c < vectors; ++c) x[c] = load_typed(v[j], dtype, column + 8 * c);
    for (int r = 0; r < rows; ++r) {
      f32x8 factor = splat8(weights[r * FV_SCORE_STRIDE + j]);
      for (int c = 0; c < vectors; ++c) acc[r][c] = fv_multiply_add8(factor, x[c], acc[r][c]);
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int c = 0; c < vectors; ++c) {
      store8(out + (int64_t)r * stride + column + 8 * c, acc[r][c]);
    }
  }
}

enum { VALUE_KEYS = 8 }; /* panel_columns is a multiple of it */

/* All columns of some rows, `most` vectors at a time as long as there are so many. */
ALWAYS_INLINE void value_rows(float *out, int32_t stride, const float *rescale,
                              const float *weights, const void *const *v, const void *const *ahead,
                              const uint32_t dtype, int32_t keys, int32_t dim_v, const int rows,
                              const int most) {
  for (int r = 0; r < rows; ++r) {
    float *row = out + (int64_t)r * stride;
    for (int32_t d = 0; d < dim_v; d += 8) store8(row + d, load8(row + d) * splat8(rescale[r]));
  }
  for (int32_t j = 0; j < keys; j += VALUE_KEYS) {
    const void *const *next = ahead ? ahead + j : NULL;
    int32_t column = 0;
    for (; column + 8 * most <= dim_v; column += 8 * most) {
      value_block(out, stride, weights + j, v + j, next, dtype, VALUE_KEYS, column, rows, most);
    }
    for (; column < dim_v; column += 8) {
      value_block(out, stride, weights + j, v + j, next, dtype, VALUE_KEYS, column, rows, 1);
    }
  }
}

ALWAYS_INLINE void stream_values_typed(float *out, int32_t stride, const float *rescale,
                                       const float *weights, const void *const *v,
                                       const void *const *ahead, const uint32_t dtype, int32_t rows,
                                       int32_t keys, int32_t dim_v) {
  while (rows > 0) {
    int32_t done = rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
    if (done == 4) {
      value_rows(out, stride, rescale, weights, v, ahead, dtype, keys, dim_v, 4, 2);
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

static void stream_values(float *out, int32_t stride, const float *rescale, const float *weights,
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

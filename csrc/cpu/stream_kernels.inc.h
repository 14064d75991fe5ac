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
/* Elements [first + i, ...) of a row, where first is a multiple of 32 if the row is blocks. With an
 * i that is known at compile time the vectors of a block convert its scale once. */
ALWAYS_INLINE f32r load_vector(const void *row, const uint32_t dtype, int32_t first, int32_t i,
                               const bool whole) {
  if (!fv_dtype_is_blocks(dtype)) return load_part(row, dtype, first + i, whole);
  return load_lanes((const char *)row + fv_dtype_size(dtype, first), dtype, i);
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

/* The same rows from row `first` on. `typed` gives them a dtype that is known at compile time. */
ALWAYS_INLINE fv_key_rows rows_from(fv_key_rows rows, int32_t first) {
  rows.rows += first;
  if (rows.ahead) rows.ahead += first;
  return rows;
}
ALWAYS_INLINE fv_key_rows typed(fv_key_rows rows, const uint32_t dtype) {
  rows.dtype = dtype;
  return rows;
}

/* ---- Prefetch ---- */

/* Prefetches the cache lines that begin in bytes [begin, end) of a row. */
ALWAYS_INLINE void fetch(const void *row, int32_t begin, int32_t end) {
  for (int32_t offset = (begin + 63) / 64 * 64; offset < end; offset += 64) {
    __builtin_prefetch((const char *)row + offset, 0, 2);
  }
}

/* Bytes before element d of a row; of blocks about as many. */
ALWAYS_INLINE int32_t bytes_before(const uint32_t dtype, int32_t d) {
  return d * (int32_t)fv_dtype_block_bytes(dtype) >> fv_dtype_block_shift(dtype);
}

/* ---- Scores ---- */

ALWAYS_INLINE void stream_step(f32r acc[4][8], const row_panel q, const fv_key_rows k, int32_t d,
                               const bool whole, const int rows, const int keys) {
  f32r x[8];
  for (int j = 0; j < keys; ++j) x[j] = load_part(k.rows[j], k.dtype, d, whole);
  for (int r = 0; r < rows; ++r) {
    f32r factor = load_part(q.data + r * q.stride, FOVEA_F32, d, whole);
    for (int j = 0; j < keys; ++j) acc[r][j] = fv_multiply_add_row(factor, x[j], acc[r][j]);
  }
}

/* The step of vector i of the block of keys that begins at element d. */
ALWAYS_INLINE void block_step(f32r acc[4][8], const row_panel q, const fv_key_rows k, int32_t d,
                              const int i, const int rows, const int keys) {
  f32r x[8];
  for (int j = 0; j < keys; ++j) x[j] = load_vector(k.rows[j], k.dtype, d, i * FV_ROW_LANES, true);
  for (int r = 0; r < rows; ++r) {
    f32r factor = load_lanes(q.data + r * q.stride, FOVEA_F32, d + i * FV_ROW_LANES);
    for (int j = 0; j < keys; ++j) acc[r][j] = fv_multiply_add_row(factor, x[j], acc[r][j]);
  }
}

/* All steps of the block: 2 or 4. A pragma to unroll a loop would make gcc lengthen the other
 * types' loops as well, by 5 %. */
ALWAYS_INLINE void stream_blocks(f32r acc[4][8], const row_panel q, const fv_key_rows k, int32_t d,
                                 const int rows, const int keys) {
  block_step(acc, q, k, d, 0, rows, keys);
  block_step(acc, q, k, d, 1, rows, keys);
  if (FV_BLOCK_LEN / FV_ROW_LANES == 2) return;
  block_step(acc, q, k, d, 2, rows, keys);
  block_step(acc, q, k, d, 3, rows, keys);
}

/* scores [rows][keys] = q [rows][dim] times the first `keys` of k. q's rows lie dim apart. */
ALWAYS_INLINE void stream_block(float *scores, const row_panel q, const fv_key_rows k,
                                const int rows, const int keys) {
  f32r acc[4][8] = {{{0}}};
  int32_t d = 0;
  if (fv_dtype_is_blocks(k.dtype)) {
    for (; d < q.stride; d += FV_BLOCK_LEN) stream_blocks(acc, q, k, d, rows, keys);
  } else {
    for (; d + FV_ROW_LANES <= q.stride; d += FV_ROW_LANES) {
      stream_step(acc, q, k, d, true, rows, keys);
    }
    if (FV_ROW_LANES > 8 && d < q.stride) stream_step(acc, q, k, d, false, rows, keys);
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

ALWAYS_INLINE void stream_rows(float *scores, const row_panel q, const fv_key_rows k,
                               const int rows, const int block) {
  int32_t row_bytes = bytes_before(k.dtype, (int32_t)q.stride), j = 0;
  for (; j + block <= k.keys; j += block) {
    for (int i = 0; k.ahead && i < block; ++i) fetch(k.ahead[j + i], 0, row_bytes);
    stream_block(scores + j, q, rows_from(k, j), rows, block);
  }
  for (; j < k.keys; ++j) {
    if (k.ahead) fetch(k.ahead[j], 0, row_bytes);
    stream_block(scores + j, q, rows_from(k, j), rows, 1);
  }
}

ALWAYS_INLINE void stream_scores_typed(float *scores, row_panel q, int32_t rows, fv_key_rows k) {
  while (rows > 0) {
    int32_t done = rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
    if (done == 4) {
      stream_rows(scores, q, k, 4, FV_ROW_KEYS);
    } else if (done == 2) {
      stream_rows(scores, q, k, 2, 4);
    } else {
      stream_rows(scores, q, k, 1, 8);
    }
    scores += done * FV_SCORE_STRIDE;
    q.data += done * q.stride;
    rows -= done;
    k.ahead = NULL; /* the first rows fetched them */
  }
}

static void stream_scores(float *scores, const float *q, int32_t rows, int32_t dim, fv_key_rows k) {
  const row_panel queries = {q, dim};
  if (k.dtype == FOVEA_F32) {
    stream_scores_typed(scores, queries, rows, typed(k, FOVEA_F32));
  } else if (k.dtype == FOVEA_F16) {
    stream_scores_typed(scores, queries, rows, typed(k, FOVEA_F16));
  } else if (FV_READS_BLOCKS && k.dtype == FOVEA_Q8_0) {
    stream_scores_typed(scores, queries, rows, typed(k, FOVEA_Q8_0));
  } else if (FV_READS_BLOCKS && k.dtype == FOVEA_Q4_0) {
    stream_scores_typed(scores, queries, rows, typed(k, FOVEA_Q4_0));
  } else {
    stream_scores_typed(scores, queries, rows, typed(k, FOVEA_BF16));
  }
}

/* ---- Values ---- */

enum { VALUE_KEYS = 8 }; /* panel_columns is a multiple of it */

/* Floats from one row of sums to the next. */
enum { SUMS_STRIDE = (FV_DIM_V_MAX + FV_ROW_LANES - 1) / FV_ROW_LANES * FV_ROW_LANES };

/* Some columns of v: `vectors` vectors from `begin` on. If not `whole` it is one vector, half of it
 * zeros. */
typedef struct column_block {
  int32_t begin;
  int vectors;
  bool whole;
} column_block;

/* Adds 8 keys to a block of sums [rows][columns]. With first_keys the sums start from zero. It
 * fetches the same columns of the rows ahead: whole rows at once would fill the queues. */
ALWAYS_INLINE void value_block(float *sums, bool first_keys, const float *weights,
                               const fv_key_rows v, const column_block columns, const int rows) {
  const int32_t column = columns.begin, begin = bytes_before(v.dtype, column);
  const int vectors = columns.vectors;
  const int32_t first = (begin + 63) / 64 * 64,
                bytes = bytes_before(v.dtype, FV_ROW_LANES * vectors);
  const int32_t lines = bytes % 64 ? (begin + bytes + 63 - first) / 64 : bytes / 64;
  /* Where the columns begin in a block. If all blocks of columns are whole, so do they. */
  const bool aligned =
      !fv_dtype_is_blocks(v.dtype) || FV_ROW_LANES * FV_ROW_VECTORS % FV_BLOCK_LEN == 0;
  const int32_t within = aligned ? 0 : column & (FV_BLOCK_LEN - 1);
  f32r acc[4][8] = {{{0}}};
  sums += column;
  for (int r = 0; !first_keys && r < rows; ++r) {
    for (int c = 0; c < vectors; ++c) {
      acc[r][c] = load_row(sums + r * SUMS_STRIDE + FV_ROW_LANES * c);
    }
  }
  for (int32_t j = 0; j < VALUE_KEYS; ++j) {
    f32r x[8];
    for (int i = 0; v.ahead && i < lines; ++i) {
      __builtin_prefetch((const char *)v.ahead[j] + first + 64 * i, 0, 2);
    }
    for (int c = 0; c < vectors; ++c) {
      x[c] = load_vector(v.rows[j], v.dtype, column, within + FV_ROW_LANES * c, columns.whole);
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

/* All columns of a few rows: `max_vectors` vectors at a time, then 2, then 1. Rows of sums.out are
 * padded to whole vectors. */
ALWAYS_INLINE void value_rows(fv_sums sums, const float *weights, const int rows, int32_t dim_v,
                              const fv_key_rows v, const int max_vectors) {
  const int32_t wide = FV_ROW_LANES * max_vectors, narrow = FV_ROW_LANES * 2;
  float product[4 * SUMS_STRIDE];
  for (int32_t j = 0; j < v.keys; j += VALUE_KEYS) {
    const fv_key_rows next = rows_from(v, j);
    const float *w = weights + j;
    int32_t d = 0;
    for (; d + wide <= dim_v; d += wide) {
      value_block(product, j == 0, w, next, (column_block){d, max_vectors, true}, rows);
    }
    for (; d + narrow <= dim_v; d += narrow) {
      value_block(product, j == 0, w, next, (column_block){d, 2, true}, rows);
    }
    for (; d + FV_ROW_LANES <= dim_v; d += FV_ROW_LANES) {
      value_block(product, j == 0, w, next, (column_block){d, 1, true}, rows);
    }
    if (FV_ROW_LANES > 8 && d < dim_v) {
      value_block(product, j == 0, w, next, (column_block){d, 1, false}, rows);
    }
  }
  for (int r = 0; r < rows; ++r) {
    double *out = sums.out + (int64_t)r * sums.stride;
    for (int32_t d = 0; d < dim_v; d += FV_LANES) {
      join(out + d, sums.rescale + r, load(product + r * SUMS_STRIDE + d));
    }
  }
}

ALWAYS_INLINE void stream_values_typed(fv_sums sums, const float *weights, int32_t rows,
                                       int32_t dim_v, fv_key_rows v) {
  while (rows > 0) {
    int32_t done = rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
    if (done == 4) {
      value_rows(sums, weights, 4, dim_v, v, FV_ROW_VECTORS);
    } else if (done == 2) {
      value_rows(sums, weights, 2, dim_v, v, 4);
    } else {
      value_rows(sums, weights, 1, dim_v, v, 8);
    }
    sums.out += (int64_t)done * sums.stride;
    sums.rescale += done;
    weights += done * FV_SCORE_STRIDE;
    rows -= done;
    v.ahead = NULL;
  }
}

static void stream_values(fv_sums sums, const float *weights, int32_t rows, int32_t dim_v,
                          fv_key_rows v) {
  if (v.dtype == FOVEA_F32) {
    stream_values_typed(sums, weights, rows, dim_v, typed(v, FOVEA_F32));
  } else if (v.dtype == FOVEA_F16) {
    stream_values_typed(sums, weights, rows, dim_v, typed(v, FOVEA_F16));
  } else if (FV_READS_BLOCKS && v.dtype == FOVEA_Q8_0) {
    stream_values_typed(sums, weights, rows, dim_v, typed(v, FOVEA_Q8_0));
  } else if (FV_READS_BLOCKS && v.dtype == FOVEA_Q4_0) {
    stream_values_typed(sums, weights, rows, dim_v, typed(v, FOVEA_Q4_0));
  } else {
    stream_values_typed(sums, weights, rows, dim_v, typed(v, FOVEA_BF16));
  }
}

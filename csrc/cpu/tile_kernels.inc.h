/* tile_kernels.inc.h - the inner loops, written once with vector types and compiled once per
 * instruction set. Before including it define
 *   FV_TILE_TABLE              the name of the table to fill
 *   FV_LANES                   floats of a vector; tile_vector.h is included
 *   FV_PANEL_ROWS              rows of a panel, a multiple of 3: with two vectors of columns the
 *                              accumulators and the operands just fit into the registers
 *   fv_multiply_add(a, b, c)   a * b + c on f32v: fused if the processor can
 *   fv_larger(a, b)            a > b ? a : b on f32v
 *   fv_smaller(a, b)           a < b ? a : b on f32v
 *   fv_any(mask)               whether any lane of the comparison is true
 *   fv_low_half(x), fv_high_half(x), fv_narrow_halves(low, high)  of f32v, as f64v, and back
 *   fv_multiply_add_wide(a, b, c)  as fv_multiply_add, on f64v
 *   fv_scale(a, b)             a * 2^b, rounded once; not defined if the processor cannot
 *   fv_multiply_add_row(a, b, c)  as fv_multiply_add, on f32r
 *   FV_ROW_LANES               floats of f32r
 *   FV_ROW_KEYS, FV_ROW_VECTORS  keys and vectors of values that 4 rows take at a time
 *   FV_READS_BLOCKS            whether load_typed and load_lanes take q8_0 and q4_0
 * and these functions:
 *   widen_f16(to, from, count), narrow_f16(to, from, count)
 *   transpose(to, stride, rows, dtype, dim)   to[d * stride + r] = rows[r][d] for r < 8
 *   load_typed(from, dtype, d)  elements d to d + 7 of a row of f32, f16, bf16 or blocks
 *   load_lanes(from, dtype, d)  FV_ROW_LANES of them
 *   load_half(from, dtype, d)   8 of them, then zeros
 *   sum_four(a, b, c, d)        the sums of the lanes of four f32r: pairs two lanes apart, their
 *                               sums one apart, then quarters; as f32x4 */
#include <math.h>

#include "csrc/cpu/tile_kernels.h"
#include "csrc/cpu/tile_scratch.h"
#include "csrc/host/element.h"

enum { PANEL_ROWS = FV_PANEL_ROWS, PANEL_COLUMNS = 2 * FV_LANES };

#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE f32v splat(float x) {
  return x - (f32v){0};
}
ALWAYS_INLINE f32v load(const float *from) {
  return *(const f32v_unaligned *)from;
}
ALWAYS_INLINE void store(float *to, f32v x) {
  *(f32v_unaligned *)to = x;
}
ALWAYS_INLINE f64v splat_wide(double x) {
  return x - (f64v){0};
}
ALWAYS_INLINE f64v load_wide(const double *from) {
  return *(const f64v_unaligned *)from;
}
ALWAYS_INLINE void store_wide(double *to, f64v x) {
  *(f64v_unaligned *)to = x;
}

/* to = to * rescale + x. If rescale is NULL, `to` counts as 0. */
ALWAYS_INLINE void join(double *to, const double *rescale, f32v x) {
  f64v low = fv_low_half(x), high = fv_high_half(x);
  if (rescale) {
    low = fv_multiply_add_wide(load_wide(to), splat_wide(*rescale), low);
    high = fv_multiply_add_wide(load_wide(to + FV_LANES / 2), splat_wide(*rescale), high);
  }
  store_wide(to, low);
  store_wide(to + FV_LANES / 2, high);
}

/* ---- Across lanes ---- */

enum { QUARTERS = FV_LANES / 4 };

typedef union lane_quarters {
  f32v whole;
  f32x4 quarter[QUARTERS];
} lane_quarters;

/* Sums the lanes pairwise, always in the same tree. */
ALWAYS_INLINE float sum_lanes(f32v x) {
  lane_quarters parts = {x};
  for (int width = QUARTERS / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) parts.quarter[i] += parts.quarter[i + width];
  }
  f32x4 pairs = parts.quarter[0];
  pairs += SHUFFLE4(pairs, pairs, 2, 3, 0, 1);
  return pairs[0] + pairs[1];
}

ALWAYS_INLINE f32x4 larger4(f32x4 a, f32x4 b) {
  i32x4 mask = a > b;
  return (f32x4)((mask & (i32x4)a) | (~mask & (i32x4)b));
}

/* No lane is a NaN. */
ALWAYS_INLINE float largest_lane(f32v x) {
  lane_quarters parts = {x};
  for (int width = QUARTERS / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) {
      parts.quarter[i] = larger4(parts.quarter[i], parts.quarter[i + width]);
    }
  }
  f32x4 pairs = parts.quarter[0];
  pairs = larger4(pairs, SHUFFLE4(pairs, pairs, 2, 3, 0, 1));
  return pairs[0] > pairs[1] ? pairs[0] : pairs[1];
}

/* ---- Between memory's types and f32 ---- */

static void widen_e4m3(float *to, const uint8_t *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_e4m3_to_f32(from[i]);
}

static void widen_e5m2(float *to, const uint8_t *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_e5m2_to_f32(from[i]);
}

static void widen_q8_0(float *to, const uint8_t *block, int64_t count) {
  for (int64_t i = 0; i < count; i += FV_BLOCK_LEN, block += FV_BLOCK_SCALE_BYTES + FV_BLOCK_LEN) {
    const float scale = fv_block_scale(block);
    const int8_t *codes = (const int8_t *)block + FV_BLOCK_SCALE_BYTES;
    for (int j = 0; j < FV_BLOCK_LEN; ++j) to[i + j] = scale * (float)codes[j];
  }
}

static void widen_q4_0(float *to, const uint8_t *block, int64_t count) {
  enum { HALF = FV_BLOCK_LEN / 2 };
  for (int64_t i = 0; i < count; i += FV_BLOCK_LEN, block += FV_BLOCK_SCALE_BYTES + HALF) {
    const float scale = fv_block_scale(block);
    const uint8_t *bytes = block + FV_BLOCK_SCALE_BYTES;
    int8_t codes[FV_BLOCK_LEN];
    for (int j = 0; j < HALF; ++j) codes[j] = (int8_t)((bytes[j] & 15) - 8);
    for (int j = 0; j < HALF; ++j) codes[HALF + j] = (int8_t)((bytes[j] >> 4) - 8);
    for (int j = 0; j < FV_BLOCK_LEN; ++j) to[i + j] = scale * (float)codes[j];
  }
}

static void widen(float *to, const void *from, uint32_t dtype, int64_t count) {
  const uint16_t *halves = from;
  const int8_t *bytes = from;
  switch (dtype) {
    case FOVEA_F32:
      memcpy(to, from, (size_t)count * sizeof *to);
      break;
    case FOVEA_F16:
      widen_f16(to, halves, count);
      break;
    case FOVEA_BF16:
      for (int64_t i = 0; i < count; ++i) to[i] = fv_bf16_to_f32(halves[i]);
      break;
    case FOVEA_E4M3:
      widen_e4m3(to, from, count);
      break;
    case FOVEA_E5M2:
      widen_e5m2(to, from, count);
      break;
    case FOVEA_Q8_0:
      widen_q8_0(to, from, count);
      break;
    case FOVEA_Q4_0:
      widen_q4_0(to, from, count);
      break;
    default:
      for (int64_t i = 0; i < count; ++i) to[i] = fv_i8_to_f32(bytes[i]);
      break;
  }
}

/* Keeps the upper half of the bits, rounded to nearest even. A carry into the exponent is right:
 * past the largest finite number it gives infinity. */
static void narrow_bf16(uint16_t *to, const float *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits = fv_bits_from_f32(from[i]);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    to[i] = (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : rounded);
  }
}

static void narrow(void *to, const float *from, uint32_t dtype, int64_t count) {
  if (dtype == FOVEA_F32) {
    memcpy(to, from, (size_t)count * sizeof *from);
  } else if (dtype == FOVEA_F16) {
    narrow_f16(to, from, count);
  } else {
    narrow_bf16(to, from, count);
  }
}

/* ---- Packing ---- */

static void pack_keys(float *to, const void *const *rows, uint32_t dtype, int32_t dim) {
  for (int32_t r = 0; r < PANEL_COLUMNS; r += 8) {
    transpose(to + r, PANEL_COLUMNS, rows + r, dtype, dim);
  }
}

ALWAYS_INLINE void pack_values_typed(float *v, const void *const *rows, const uint32_t dtype,
                                     int32_t tile_kv, int32_t begin, int32_t end, int32_t dim_v) {
  int64_t panel = (int64_t)tile_kv * PANEL_COLUMNS;
  for (int32_t j = begin; j < end; ++j) {
    float *to = v + (int64_t)j * PANEL_COLUMNS;
    int32_t d = 0;
    for (; d + PANEL_COLUMNS <= dim_v; d += PANEL_COLUMNS, to += panel) {
      for (int32_t c = 0; c < PANEL_COLUMNS; c += 8) {
        *(f32x8_unaligned *)(to + c) = load_typed(rows[j], dtype, d + c);
      }
    }
    if (d == dim_v) continue;
    widen(to, (const char *)rows[j] + fv_dtype_size(dtype, d), dtype, dim_v - d);
    memset(to + dim_v - d, 0, (size_t)(PANEL_COLUMNS - (dim_v - d)) * sizeof *to);
  }
}

static void pack_values(float *v, const void *const *rows, uint32_t dtype, int32_t tile_kv,
                        int32_t begin, int32_t end, int32_t dim_v) {
  if (dtype == FOVEA_F32) {
    pack_values_typed(v, rows, FOVEA_F32, tile_kv, begin, end, dim_v);
  } else if (dtype == FOVEA_F16) {
    pack_values_typed(v, rows, FOVEA_F16, tile_kv, begin, end, dim_v);
  } else if (FV_READS_BLOCKS && dtype == FOVEA_Q8_0) {
    pack_values_typed(v, rows, FOVEA_Q8_0, tile_kv, begin, end, dim_v);
  } else if (FV_READS_BLOCKS && dtype == FOVEA_Q4_0) {
    pack_values_typed(v, rows, FOVEA_Q4_0, tile_kv, begin, end, dim_v);
  } else {
    pack_values_typed(v, rows, FOVEA_BF16, tile_kv, begin, end, dim_v);
  }
}

/* ---- Products ---- */

/* acc [PANEL_ROWS][vectors] += a [PANEL_ROWS] times b [PANEL_COLUMNS]: column d of a times row d of
 * b. Rows of a are addressed in threes, as base, base + row and base + 2 rows: that takes few
 * registers. */
ALWAYS_INLINE void multiply_step(f32v acc[][2], const float *const *base, const int64_t a_row,
                                 const float *b, int64_t d, const int vectors) {
  f32v x[2];
  for (int c = 0; c < vectors; ++c) x[c] = load(b + d * PANEL_COLUMNS + c * FV_LANES);
  for (int r = 0; r < PANEL_ROWS; ++r) {
    f32v factor = splat(base[r / 3][d + r % 3 * a_row]);
    for (int c = 0; c < vectors; ++c) acc[r][c] = fv_multiply_add(factor, x[c], acc[r][c]);
  }
}

/* Row r begins at data + r * stride. */
typedef struct row_panel {
  const float *data;
  int64_t stride;
} row_panel;

/* acc [PANEL_ROWS][vectors] = a [PANEL_ROWS][begin..end) times b [begin..end)[PANEL_COLUMNS],
 * summed from zero in order. Only the first `vectors` vectors of b's rows count. The number of
 * steps is even: counting each step would take a tenth of the instructions. */
ALWAYS_INLINE void multiply_block(f32v acc[][2], const row_panel a, const float *b, int64_t begin,
                                  int64_t end, const int vectors) {
  const float *base[PANEL_ROWS / 3];
  for (int i = 0; i < PANEL_ROWS / 3; ++i) base[i] = a.data + 3 * i * a.stride;
  for (int r = 0; r < PANEL_ROWS; ++r) acc[r][0] = acc[r][1] = (f32v){0};
  for (int64_t d = begin; d < end; d += 2) {
    multiply_step(acc, base, a.stride, b, d, vectors);
    multiply_step(acc, base, a.stride, b, d + 1, vectors);
  }
}

/* The same in blocks that end at multiples of `size`, added in order. A chain of `size` terms
 * rounds little; a chain of thousands would lose the small terms. */
ALWAYS_INLINE void multiply_panel(f32v acc[][2], const row_panel a, const float *b, int64_t begin,
                                  int64_t end, const int size, const int vectors) {
  int64_t next = (begin / size + 1) * size;
  multiply_block(acc, a, b, begin, next < end ? next : end, vectors);
  for (; next < end; next += size) {
    f32v sums[PANEL_ROWS][2];
    memcpy(sums, acc, sizeof sums);
    multiply_block(acc, a, b, next, next + size < end ? next + size : end, vectors);
    for (int r = 0; r < PANEL_ROWS; ++r) {
      for (int c = 0; c < vectors; ++c) acc[r][c] += sums[r][c];
    }
  }
}

/* The scores of the keys at `index`, -inf outside [low, high). */
ALWAYS_INLINE f32v hide_outside(f32v scores, i32v index, int32_t low, int32_t high) {
  u32v outside = (u32v)((index < low) | (index >= high));
  return (f32v)((~outside & (u32v)scores) | (outside & (u32v)splat(-INFINITY)));
}

/* Scores the columns from `column` on; `window` as in score. q's rows lie dim apart. */
ALWAYS_INLINE void score_columns(float *scores, f32v *best, const row_panel q, const float *k,
                                 int32_t column, const int vectors, const fv_panel_window *window) {
  f32v acc[PANEL_ROWS][2];
  const int64_t dim = q.stride;
  multiply_panel(acc, q, k + column * dim, 0, dim, FV_BLOCK_DIMS, vectors);
  i32v index = {0};
  for (int lane = 0; window && lane < FV_LANES; ++lane) index[lane] = column + lane;
  for (int r = 0; r < PANEL_ROWS; ++r) {
    for (int c = 0; c < vectors; ++c) {
      if (window) {
        acc[r][c] = hide_outside(acc[r][c], index + c * FV_LANES, window->low[r], window->high[r]);
      }
      best[r] = fv_larger(acc[r][c], best[r]);
      store(scores + r * FV_SCORE_STRIDE + column + c * FV_LANES, acc[r][c]);
    }
  }
}

ALWAYS_INLINE bool every_row_sees(const fv_panel_window *window, int32_t column, int vectors) {
  return !window || (column >= window->begin && column + vectors * FV_LANES <= window->end);
}

static void score(float *scores, float *maxima, const float *q, const float *k, int32_t dim,
                  fv_tile_range keys, const fv_panel_window *window) {
  const row_panel rows = {q, dim};
  f32v best[PANEL_ROWS];
  for (int r = 0; r < PANEL_ROWS; ++r) best[r] = splat(-INFINITY);
  int32_t column = keys.begin;
  for (; column + PANEL_COLUMNS <= keys.end; column += PANEL_COLUMNS) {
    if (every_row_sees(window, column, 2)) {
      score_columns(scores, best, rows, k, column, 2, NULL);
    } else {
      score_columns(scores, best, rows, k, column, 2, window);
    }
  }
  if (column < keys.end && every_row_sees(window, column, 1)) {
    score_columns(scores, best, rows, k, column, 1, NULL);
  } else if (column < keys.end) {
    score_columns(scores, best, rows, k, column, 1, window);
  }
  for (int r = 0; r < PANEL_ROWS; ++r) maxima[r] = largest_lane(best[r]);
}

/* One panel of columns: v is the panel, sums.out its first column. */
ALWAYS_INLINE void accumulate_columns(fv_sums sums, const float *weights, const float *v,
                                      fv_tile_range keys, const int vectors) {
  const row_panel rows = {weights, FV_SCORE_STRIDE};
  f32v acc[PANEL_ROWS][2];
  int32_t begin = keys.begin / 2 * 2, end = (keys.end + 1) / 2 * 2;
  multiply_panel(acc, rows, v, begin, end, FV_BLOCK_KEYS, vectors);
  for (int r = 0; r < PANEL_ROWS; ++r) {
    const double *rescale = sums.rescale ? sums.rescale + r : NULL;
    for (int c = 0; c < vectors; ++c) {
      join(sums.out + (int64_t)r * sums.stride + c * FV_LANES, rescale, acc[r][c]);
    }
  }
}

static void accumulate(fv_sums sums, const float *weights, const float *v, int32_t tile_kv,
                       fv_tile_range keys, int32_t columns) {
  const int64_t panel = (int64_t)PANEL_COLUMNS * tile_kv;
  for (; columns > FV_LANES; columns -= PANEL_COLUMNS, sums.out += PANEL_COLUMNS, v += panel) {
    accumulate_columns(sums, weights, v, keys, 2);
  }
  if (columns > 0) accumulate_columns(sums, weights, v, keys, 1);
}

/* ---- Results ---- */

static void scale_sums(float *to, const double *from, double factor, int32_t count) {
  f64v factors = splat_wide(factor);
  int32_t d = 0;
  for (; d + FV_LANES <= count; d += FV_LANES) {
    f64v low = load_wide(from + d), high = load_wide(from + d + FV_LANES / 2);
    store(to + d, fv_narrow_halves(low * factors, high * factors) + splat(0.0f));
  }
  for (; d < count; ++d) to[d] = (float)(from[d] * factor) + 0.0f;
}

#include "csrc/cpu/additive_kernels.inc.h"
#include "csrc/cpu/softmax_kernels.inc.h"
#include "csrc/cpu/stream_kernels.inc.h"

const fv_tile_kernels FV_TILE_TABLE = {
    .panel_rows = PANEL_ROWS,
    .panel_columns = PANEL_COLUMNS,
    .lanes = FV_LANES,
    .reads_blocks = FV_READS_BLOCKS,
    .widen = widen,
    .narrow = narrow,
    .scale_sums = scale_sums,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
    .score = score,
    .score_additive = score_additive,
    .largest = largest,
    .softmax = softmax,
    .accumulate = accumulate,
    .scale_scores = scale_scores,
    .stream_scores = stream_scores,
    .stream_values = stream_values,
};

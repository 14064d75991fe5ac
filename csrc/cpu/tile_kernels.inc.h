/* tile_kernels.inc.h - the inner loops, written once with vector types and compiled once per
 * instruction set. Before including it define
 *   FV_TILE_TABLE              the name of the table to fill
 *   FV_LANES                   floats of a vector; tile_vector.h is included
 *   FV_PANEL_ROWS              rows of a panel: with two vectors of columns, as many accumulators
 *                              as fit into the registers beside the operands
 *   fv_multiply_add(a, b, c)   a * b + c on f32v: fused where the processor can
 *   fv_larger(a, b)            a > b ? a : b on f32v
 *   fv_smaller(a, b)           a < b ? a : b on f32v
 *   fv_any(mask)               whether a lane of the comparison is true
 *   fv_multiply_add8(a, b, c)  as fv_multiply_add on vectors of 8 floats
 * and these functions:
 *   widen_f16(to, from, count), narrow_f16(to, from, count)
 *   transpose(to, stride, rows, dtype, dim)   to[d * stride + r] = rows[r][d] for r < 8
 *   load_typed(from, dtype, d)  elements d to d + 7 of a row of f32, f16 or bf16 */
#include <math.h>

#include "element.h"
#include "tile_kernels.h"

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

/* ---- Between memory's types and f32 ---- */

static void widen_e4m3(float *to, const uint8_t *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_e4m3_to_f32(from[i]);
}

static void widen_e5m2(float *to, const uint8_t *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_e5m2_to_f32(from[i]);
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
    default:
      for (int64_t i = 0; i < count; ++i) to[i] = fv_i8_to_f32(bytes[i]);
      break;
  }
}

/* The upper half of the bits, rounded to nearest even; no carry can leave a finite number. */
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

/* Eight rows at a time; the last eight may begin among those that are done. A panel of fewer than
 * eight rows is written with eight and the surplus overwritten by the next d. */
static void pack_rows(float *to, const void *const *rows, uint32_t dtype, int32_t width,
                      int32_t dim) {
  transpose(to, width, rows, dtype, dim);
  for (int32_t r = 8; r < width; r += 8) {
    int32_t begin = r + 8 <= width ? r : width - 8;
    transpose(to + begin, width, rows + begin, dtype, dim);
  }
}

ALWAYS_INLINE void pack_values_typed(float *v, const void *const *rows, const uint32_t dtype,
                                     int32_t tile_kv, int32_t begin, int32_t end, int32_t dim_v) {
  int64_t panel = (int64_t)tile_kv * PANEL_COLUMNS;
  int64_t size = fv_dtype_bytes(dtype);
  for (int32_t j = begin; j < end; ++j) {
    float *to = v + (int64_t)j * PANEL_COLUMNS;
    int32_t d = 0;
    for (; d + PANEL_COLUMNS <= dim_v; d += PANEL_COLUMNS, to += panel) {
      for (int32_t c = 0; c < PANEL_COLUMNS; c += 8) {
        *(f32x8_unaligned *)(to + c) = load_typed(rows[j], dtype, d + c);
      }
    }
    if (d == dim_v) continue;
    widen(to, (const char *)rows[j] + d * size, dtype, dim_v - d);
    memset(to + dim_v - d, 0, (size_t)(PANEL_COLUMNS - (dim_v - d)) * sizeof *to);
  }
}

static void pack_values(float *v, const void *const *rows, uint32_t dtype, int32_t tile_kv,
                        int32_t begin, int32_t end, int32_t dim_v) {
  if (dtype == FOVEA_F32) {
    pack_values_typed(v, rows, FOVEA_F32, tile_kv, begin, end, dim_v);
  } else if (dtype == FOVEA_F16) {
    pack_values_typed(v, rows, FOVEA_F16, tile_kv, begin, end, dim_v);
  } else {
    pack_values_typed(v, rows, FOVEA_BF16, tile_kv, begin, end, dim_v);
  }
}

/* ---- Products ---- */

/* acc [PANEL_ROWS][2] += a [PANEL_ROWS][depth] times b [depth][2]; row r of a begins at
 * a + r * a_row and goes on by a_step. */
ALWAYS_INLINE void multiply_panel(f32v acc[][2], const float *a, const int a_row, const int a_step,
                                  const float *b, int64_t depth) {
  for (const float *end = b + depth * PANEL_COLUMNS; b != end; b += PANEL_COLUMNS, a += a_step) {
    f32v left = load(b), right = load(b + FV_LANES);
    for (int r = 0; r < PANEL_ROWS; ++r) {
      f32v factor = splat(a[r * a_row]);
      acc[r][0] = fv_multiply_add(factor, left, acc[r][0]);
      acc[r][1] = fv_multiply_add(factor, right, acc[r][1]);
    }
  }
}

ALWAYS_INLINE float largest_lane(f32v x) {
  float result = x[0];
  for (int lane = 1; lane < FV_LANES; ++lane) result = x[lane] > result ? x[lane] : result;
  return result;
}

static void score(float *scores, float *maxima, const float *q, const float *k, int32_t dim,
                  int32_t begin, int32_t end) {
  f32v best[PANEL_ROWS];
  for (int r = 0; r < PANEL_ROWS; ++r) best[r] = splat(-INFINITY);
  for (int32_t column = begin; column < end; column += PANEL_COLUMNS) {
    f32v acc[PANEL_ROWS][2];
    for (int r = 0; r < PANEL_ROWS; ++r) acc[r][0] = acc[r][1] = (f32v){0};
    multiply_panel(acc, q, 1, PANEL_ROWS, k + (int64_t)column * dim, dim);
    for (int r = 0; r < PANEL_ROWS; ++r) {
      float *to = scores + r * FV_SCORE_STRIDE + column;
      best[r] = fv_larger(acc[r][0], best[r]);
      best[r] = fv_larger(acc[r][1], best[r]);
      store(to, acc[r][0]);
      store(to + FV_LANES, acc[r][1]);
    }
  }
  for (int r = 0; r < PANEL_ROWS; ++r) maxima[r] = largest_lane(best[r]);
}

static void accumulate(float *out, int32_t stride, const float *rescale, const float *weights,
                       const float *v, int32_t tile_kv, int32_t begin, int32_t end,
                       int32_t columns) {
  weights += begin;
  v += (int64_t)begin * PANEL_COLUMNS;
  for (int32_t column = 0; column < columns; column += PANEL_COLUMNS) {
    f32v acc[PANEL_ROWS][2];
    for (int r = 0; r < PANEL_ROWS; ++r) {
      const float *from = out + (int64_t)r * stride + column;
      acc[r][0] = load(from) * splat(rescale[r]);
      acc[r][1] = load(from + FV_LANES) * splat(rescale[r]);
    }
    multiply_panel(acc, weights, FV_SCORE_STRIDE, 1, v + (int64_t)column * tile_kv, end - begin);
    for (int r = 0; r < PANEL_ROWS; ++r) {
      float *to = out + (int64_t)r * stride + column;
      store(to, acc[r][0]);
      store(to + FV_LANES, acc[r][1]);
    }
  }
}

#include "softmax_kernels.inc.h"
#include "stream_kernels.inc.h"

const fv_tile_kernels FV_TILE_TABLE = {
    .panel_rows = PANEL_ROWS,
    .panel_columns = PANEL_COLUMNS,
    .widen = widen,
    .narrow = narrow,
    .pack_rows = pack_rows,
    .pack_values = pack_values,
    .score = score,
    .largest = largest,
    .softmax = softmax,
    .power = power_of_one,
    .accumulate = accumulate,
    .scale_scores = scale_scores,
    .stream_scores = stream_scores,
    .stream_values = stream_values,
};

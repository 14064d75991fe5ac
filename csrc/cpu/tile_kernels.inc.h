/* tile_kernels.inc.h - the inner loops, written once with vector types and compiled once per
 * instruction set. Before including it define
 *   FV_TILE_TABLE        the name of the table to fill
 *   widen_f16(to, from, count)   declared: f16 to f32
 *   fv_multiply_add(a, b, c)   a * b + c on f32v: fused where the processor can
 *
 * Blocking: 6 rows x 16 columns of accumulators are 12 vectors of 8 floats, which with 2 vectors of
 * operands and a broadcast just fit into 16 registers. */
#include <math.h>

#include "element.h"
#include "tile_kernels.h"

enum { BLOCK_ROWS = 6, BLOCK_COLUMNS = 16 };

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* ---- Widening ---- */

static void widen(float *to, const void *from, uint32_t dtype, int64_t count) {
  const uint16_t *halves = from;
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
    default:
      for (int64_t i = 0; i < count; ++i) to[i] = fv_load(dtype, from, i);
      break;
  }
}

static void place_key(float *k, const float *row, int32_t dim, int32_t j) {
  for (int32_t d = 0; d < dim; ++d) k[(int64_t)d * FV_TILE_KV + j] = row[d];
}

/* ---- Products ---- */

ALWAYS_INLINE f32v splat(float x) {
  return (f32v){x, x, x, x, x, x, x, x};
}
ALWAYS_INLINE f32v load(const float *from) {
  return *(const f32v_unaligned *)from;
}
ALWAYS_INLINE void store(float *to, f32v x) {
  *(f32v_unaligned *)to = x;
}

/* acc[rows][2] += a[rows][depth] (row stride a_stride) times b [depth][16] (row stride b_stride).
 */
ALWAYS_INLINE void multiply_block(f32v acc[][2], const float *a, int64_t a_stride, const float *b,
                                  int64_t b_stride, int32_t depth, const int rows) {
  for (int32_t d = 0; d < depth; ++d) {
    f32v left = load(b + d * b_stride), right = load(b + d * b_stride + 8);
    for (int r = 0; r < rows; ++r) {
      f32v factor = splat(a[r * a_stride + d]);
      acc[r][0] = fv_multiply_add(factor, left, acc[r][0]);
      acc[r][1] = fv_multiply_add(factor, right, acc[r][1]);
    }
  }
}

ALWAYS_INLINE void score_rows(float *scores, const float *q, const float *k, int32_t dim,
                              const int rows) {
  for (int column = 0; column < FV_TILE_KV; column += BLOCK_COLUMNS) {
    f32v acc[BLOCK_ROWS][2];
    for (int r = 0; r < rows; ++r) acc[r][0] = acc[r][1] = splat(0);
    multiply_block(acc, q, dim, k + column, FV_TILE_KV, dim, rows);
    for (int r = 0; r < rows; ++r) {
      store(scores + r * FV_TILE_KV + column, acc[r][0]);
      store(scores + r * FV_TILE_KV + column + 8, acc[r][1]);
    }
  }
}

static void score(float *scores, const float *q, const float *k, int32_t rows, int32_t dim) {
  int32_t r = 0;
  for (; r + BLOCK_ROWS <= rows; r += BLOCK_ROWS) {
    score_rows(scores + r * FV_TILE_KV, q + (int64_t)r * dim, k, dim, BLOCK_ROWS);
  }
  for (; r < rows; ++r) score_rows(scores + r * FV_TILE_KV, q + (int64_t)r * dim, k, dim, 1);
}

ALWAYS_INLINE void accumulate_rows(float *out, const float *rescale, const float *weights,
                                   const float *v, int32_t columns, const int rows) {
  for (int32_t column = 0; column < columns; column += BLOCK_COLUMNS) {
    f32v acc[BLOCK_ROWS][2];
    for (int r = 0; r < rows; ++r) {
      acc[r][0] = load(out + r * columns + column) * splat(rescale[r]);
      acc[r][1] = load(out + r * columns + column + 8) * splat(rescale[r]);
    }
    multiply_block(acc, weights, FV_TILE_KV, v + column, columns, FV_TILE_KV, rows);
    for (int r = 0; r < rows; ++r) {
      store(out + r * columns + column, acc[r][0]);
      store(out + r * columns + column + 8, acc[r][1]);
    }
  }
}

static void accumulate(float *out, const float *rescale, const float *weights, const float *v,
                       int32_t rows, int32_t columns) {
  int32_t r = 0;
  for (; r + BLOCK_ROWS <= rows; r += BLOCK_ROWS) {
    accumulate_rows(out + r * columns, rescale + r, weights + r * FV_TILE_KV, v, columns,
                    BLOCK_ROWS);
  }
  for (; r < rows; ++r) {
    accumulate_rows(out + r * columns, rescale + r, weights + r * FV_TILE_KV, v, columns, 1);
  }
}

/* ---- Softmax ---- */

/* 2^x for x <= 0 or NaN. x = n + f with |f| <= 1/2; 2^f by a polynomial of degree 6 (Chebyshev
 * interpolation of (2^f - 1) / f, relative error below 2^-28, exact at f = 0); 2^n in two factors,
 * so that results below 2^-126 lose bits gradually. Below 2^-252 the result is 0. */
ALWAYS_INLINE f32v exp2_vector(f32v x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer in the low bits */
  f32v lowest = splat(-252.0f);
  u32v below = (u32v)(x < lowest); /* false for NaN, which thus stays */
  x = (f32v)((below & (u32v)lowest) | (~below & (u32v)x));
  f32v shifted = x + splat(magic);
  f32v f = x - (shifted - splat(magic));
  f32v p = splat(1.545316295e-4f);
  p = fv_multiply_add(p, f, splat(1.339086336e-3f));
  p = fv_multiply_add(p, f, splat(9.618082557e-3f));
  p = fv_multiply_add(p, f, splat(5.550357114e-2f));
  p = fv_multiply_add(p, f, splat(2.402265076e-1f));
  p = fv_multiply_add(p, f, splat(6.931471880e-1f));
  p = fv_multiply_add(p, f, splat(1.0f));
  i32v n = (i32v)((u32v)shifted - (u32v)splat(magic));
  i32v half = n >> 1;
  u32v bias = {127, 127, 127, 127, 127, 127, 127, 127};
  f32v first = (f32v)(((u32v)half + bias) << 23);
  f32v second = (f32v)(((u32v)(n - half) + bias) << 23);
  return p * first * second;
}

ALWAYS_INLINE f32v larger(f32v a, f32v b) {
  u32v choose = (u32v)(a > b);
  return (f32v)((choose & (u32v)a) | (~choose & (u32v)b));
}

ALWAYS_INLINE float largest_of(const float *scores) {
  f32v best = load(scores);
  for (int j = 8; j < FV_TILE_KV; j += 8) best = larger(load(scores + j), best);
  float result = best[0];
  for (int lane = 1; lane < 8; ++lane) result = best[lane] > result ? best[lane] : result;
  return result;
}

/* Sums the lanes pairwise: always the same tree. */
ALWAYS_INLINE float sum_lanes(f32v x) {
  return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7]));
}

static float softmax(float *scores, float factor, float *maximum, float *sum) {
  float tile_maximum = largest_of(scores);
  float next = tile_maximum > *maximum ? tile_maximum : *maximum;
  /* A row that has seen nothing yet: -inf - -inf would be NaN. */
  float base = next == -INFINITY ? 0.0f : next;
  f32v total = splat(0);
  for (int j = 0; j < FV_TILE_KV; j += 8) {
    f32v weight = exp2_vector((load(scores + j) - splat(base)) * splat(factor));
    store(scores + j, weight);
    total += weight;
  }
  float rescale = exp2_vector((splat(*maximum) - splat(base)) * splat(factor))[0];
  *maximum = next;
  *sum = *sum * rescale + sum_lanes(total);
  return rescale;
}

const fv_tile_kernels FV_TILE_TABLE = {widen, place_key, score, softmax, accumulate};

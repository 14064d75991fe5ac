/* tile_portable.c - the inner loops for any processor: products and sums are rounded separately. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "csrc/numeric.h"
#include "csrc/problem.h"

#define FV_LANES 4      /* every processor with vectors has as many */
#define FV_PANEL_ROWS 6 /* of 16 registers, if there are 16: 12 accumulators */
#define FV_ROW_LANES 8
#define FV_ROW_KEYS 3
#define FV_ROW_VECTORS 2
#define FV_READS_BLOCKS false /* one element at a time they would be slower than widened */
#include "csrc/cpu/tile_vector.h"

#define fv_multiply_add(a, b, c) ((a) * (b) + (c))

#define fv_multiply_add_row fv_multiply_add
#define fv_multiply_add_wide fv_multiply_add

static inline __attribute__((always_inline)) f64v fv_low_half(f32v x) {
  return (f64v){x[0], x[1]};
}
static inline __attribute__((always_inline)) f64v fv_high_half(f32v x) {
  return (f64v){x[2], x[3]};
}
static inline __attribute__((always_inline)) f32v fv_narrow_halves(f64v low, f64v high) {
  return (f32v){(float)low[0], (float)low[1], (float)high[0], (float)high[1]};
}

static inline __attribute__((always_inline)) f32v fv_choose(i32v mask, f32v yes, f32v no) {
  return (f32v)(((u32v)mask & (u32v)yes) | (~(u32v)mask & (u32v)no));
}
static inline __attribute__((always_inline)) f32v fv_larger(f32v a, f32v b) {
  return fv_choose(a > b, a, b);
}
static inline __attribute__((always_inline)) f32v fv_smaller(f32v a, f32v b) {
  return fv_choose(a < b, a, b);
}
static inline __attribute__((always_inline)) bool fv_any(i32v mask) {
  return (mask[0] | mask[1] | mask[2] | mask[3]) != 0;
}

static void widen_f16(float *to, const uint16_t *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_f16_to_f32(from[i]);
}

static void narrow_f16(uint16_t *to, const float *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_f16_from_f32(from[i]);
}

static inline __attribute__((always_inline)) f32x8 load_typed(const void *from, uint32_t dtype,
                                                              int32_t d) {
  const uint16_t *codes = (const uint16_t *)from + d;
  if (dtype == FOVEA_F32) return *(const f32x8_unaligned *)((const float *)from + d);
  float x[8];
  for (int i = 0; i < 8; ++i) {
    x[i] = dtype == FOVEA_F16 ? fv_f16_to_f32(codes[i]) : fv_bf16_to_f32(codes[i]);
  }
  return *(const f32x8_unaligned *)x;
}

static void transpose(float *to, int32_t stride, const void *const *rows, uint32_t dtype,
                      int32_t dim) {
  for (int32_t d = 0; d < dim; d += 8) {
    f32x8 x[8];
    for (int r = 0; r < 8; ++r) x[r] = load_typed(rows[r], dtype, d);
    for (int c = 0; c < 8; ++c) {
      for (int r = 0; r < 8; ++r) to[(int64_t)(d + c) * stride + r] = x[r][c];
    }
  }
}

typedef union row_halves {
  f32r whole;
  f32x4 half[2];
} row_halves;

static inline __attribute__((always_inline)) f32x4 sum_pairs(f32x4 a, f32x4 b) {
  return SHUFFLE4(a, b, 0, 4, 1, 5) + SHUFFLE4(a, b, 2, 6, 3, 7);
}

static inline __attribute__((always_inline)) f32x4 sum_quarters(f32x4 a, f32x4 b, f32x4 c,
                                                                f32x4 d) {
  f32x4 ab = sum_pairs(a, b), cd = sum_pairs(c, d);
  return SHUFFLE4(ab, cd, 0, 1, 4, 5) + SHUFFLE4(ab, cd, 2, 3, 6, 7);
}

static inline __attribute__((always_inline)) f32x4 sum_four(f32r a, f32r b, f32r c, f32r d) {
  row_halves w = {a}, x = {b}, y = {c}, z = {d};
  return sum_quarters(w.half[0], x.half[0], y.half[0], z.half[0]) +
         sum_quarters(w.half[1], x.half[1], y.half[1], z.half[1]);
}

#define load_lanes load_typed
#define load_half load_typed
#define FV_TILE_TABLE fv_tile_kernels_portable
#include "csrc/cpu/tile_kernels.inc.h"

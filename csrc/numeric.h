/* numeric.h - conversion between binary32/binary64 and the storage formats of tensors.
 *
 *   name   bits  exponent  mantissa  largest  beyond it          NaN
 *   f16    16    5         10        65504    infinity           0x7fff
 *   bf16   16    8         7         3.39e38  infinity           0x7fff
 *   e4m3   8     4         3         448      +-448 (saturates)  0x7f; the format has no infinity
 *   e5m2   8     5         2         57344    +-57344            0x7f; infinities are only read
 *   int8   8     -         -         127      -128 or 127        0; the format has no NaN
 *
 * Narrowing rounds once, to the nearest value, ties to the even code. Subnormals are kept, not
 * flushed. -0 stays -0. A NaN becomes the NaN of the table, without its sign. Widening is exact.
 *
 * Results depend on the argument alone. Narrowing is integer arithmetic on bit patterns. Widening
 * multiplies a small integer by a power of two, where operands and product are zero or normal. So
 * the rounding mode and the flush-to-zero switches of the calling thread cannot affect the result.
 * (A shift turns a bf16 subnormal into a binary32 subnormal; what happens to it later is the
 * caller's affair.) */
#ifndef FOVEA_CSRC_NUMERIC_H
#define FOVEA_CSRC_NUMERIC_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Not inline: the CPU's kernels narrow many elements with their own vector code, tested against
 * these. */
uint16_t fv_f16_from_f32(float x);
uint16_t fv_f16_from_f64(double x);
uint16_t fv_bf16_from_f32(float x);
uint16_t fv_bf16_from_f64(double x);
uint8_t fv_e4m3_from_f32(float x);
uint8_t fv_e4m3_from_f64(double x);
uint8_t fv_e5m2_from_f32(float x);
uint8_t fv_e5m2_from_f64(double x);
int8_t fv_i8_from_f32(float x);

static inline uint32_t fv_bits_from_f32(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float fv_f32_from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* The bits of an IEEE-style magnitude (no sign bit) as binary32, for formats whose whole range is
 * normal in binary32. A subnormal has the exponent of the smallest normal and no hidden bit. With
 * an integer significand one product serves normals and subnormals; it has no branches, so
 * compilers vectorise it. */
static inline uint32_t fv_widen_magnitude(uint32_t magnitude, int mantissa_bits, int bias) {
  uint32_t hidden = UINT32_C(1) << mantissa_bits;
  uint32_t exponent = magnitude >> mantissa_bits;
  uint32_t mantissa = magnitude & (hidden - 1);
  uint32_t significand = exponent ? mantissa | hidden : mantissa;
  uint32_t scale = (exponent ? exponent : 1) + (uint32_t)(127 - bias - mantissa_bits);
  return fv_bits_from_f32((float)(int32_t)significand * fv_f32_from_bits(scale << 23));
}

static inline float fv_f16_to_f32(uint16_t code) {
  uint32_t magnitude = code & 0x7fffu;
  uint32_t bits = fv_widen_magnitude(magnitude, 10, 15);
  if (magnitude >= 0x7c00u) bits = 0x7f800000u; /* infinity */
  if (magnitude > 0x7c00u) bits = 0x7fc00000u;  /* NaN, always quiet */
  return fv_f32_from_bits(bits | (code & 0x8000u) << 16);
}

static inline float fv_bf16_to_f32(uint16_t code) {
  return fv_f32_from_bits((uint32_t)code << 16);
}

static inline float fv_e4m3_to_f32(uint8_t code) {
  uint32_t magnitude = code & 0x7fu;
  uint32_t bits = fv_widen_magnitude(magnitude, 3, 7);
  if (magnitude == 0x7fu) bits = 0x7fc00000u; /* the one NaN; 0x78 to 0x7e are 256 to 448 */
  return fv_f32_from_bits(bits | (code & 0x80u) << 24);
}

/* e5m2 is the upper byte of f16. */
static inline float fv_e5m2_to_f32(uint8_t code) {
  return fv_f16_to_f32((uint16_t)((unsigned)code << 8));
}

static inline float fv_i8_to_f32(int8_t code) {
  return (float)code;
}

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_NUMERIC_H */

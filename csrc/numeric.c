/* numeric.c - narrowing to storage formats, by integer arithmetic; numeric.h has the rules.
 *
 * One routine serves every pair of formats. A source value is significand * 2^(exponent - width),
 * where width is the number of mantissa bits of the source. The target keeps mantissa_bits of them,
 * or fewer if the value is below its smallest normal. The code is the rounded kept bits plus the
 * exponent field, counted from the smallest normal. Codes are ordered as the magnitudes are. So a
 * carry out of the mantissa moves to the next exponent by itself, the largest subnormal rounds up
 * to the smallest normal, and overflow is one comparison.
 *
 * A binary64 value takes the same single step: going through binary32 would round twice. */
#include "csrc/numeric.h"

#include <stdbool.h>

/* The parts of a source value: its magnitude and its sign. */
typedef struct {
  uint64_t significand;
  int exponent;
  int width;
  bool nan;
  bool negative;
} parts;

typedef struct {
  int mantissa_bits;
  int min_exponent; /* of the smallest normal */
  uint32_t limit;   /* where overflow goes: the code of infinity, or of the largest value */
  uint32_t nan;
  uint32_t sign;
} format;

static const format f16_format = {10, -14, 0x7c00, 0x7fff, 0x8000};
static const format bf16_format = {7, -126, 0x7f80, 0x7fff, 0x8000};
static const format e4m3_format = {3, -6, 0x7e, 0x7f, 0x80};
static const format e5m2_format = {2, -14, 0x7b, 0x7f, 0x80};

/* Infinity needs no special case: its exponent field reads as a power beyond every format. */
static inline parts parts_of_f32(float x) {
  uint32_t bits = fv_bits_from_f32(x);
  uint32_t mantissa = bits & 0x7fffffu;
  int field = (int)(bits >> 23 & 0xffu);
  parts p = {mantissa, -126, 23, field == 0xff && mantissa != 0, bits >> 31 != 0};
  if (field != 0) {
    p.significand |= UINT64_C(1) << 23;
    p.exponent = field - 127;
  }
  return p;
}

static inline parts parts_of_f64(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  uint64_t mantissa = bits & UINT64_C(0xfffffffffffff);
  int field = (int)(bits >> 52 & 0x7ffu);
  parts p = {mantissa, -1022, 52, field == 0x7ff && mantissa != 0, bits >> 63 != 0};
  if (field != 0) {
    p.significand |= UINT64_C(1) << 52;
    p.exponent = field - 1023;
  }
  return p;
}

/* significand / 2^drop, rounded to the nearest integer, ties to even; drop >= 1. */
static inline uint64_t round_shift(uint64_t significand, int drop) {
  if (drop > 53) return 0; /* significand < 2^53 is then below half; shifts stay below 64 */
  uint64_t odd = significand >> drop & 1;
  uint64_t almost_half = (UINT64_C(1) << (drop - 1)) - 1;
  return (significand + almost_half + odd) >> drop;
}

static inline uint32_t narrow(parts p, format f) {
  if (p.nan) return f.nan;
  int above = p.exponent - f.min_exponent; /* negative: the result is subnormal or zero */
  int drop = p.width - f.mantissa_bits - (above < 0 ? above : 0);
  uint32_t code = (uint32_t)round_shift(p.significand, drop);
  /* The hidden bit, kept in the significand, counts as the exponent field's first step. */
  if (above > 0) code += (uint32_t)above << f.mantissa_bits;
  if (code > f.limit) code = f.limit;
  return p.negative ? code | f.sign : code;
}

uint16_t fv_f16_from_f32(float x) {
  return (uint16_t)narrow(parts_of_f32(x), f16_format);
}
uint16_t fv_f16_from_f64(double x) {
  return (uint16_t)narrow(parts_of_f64(x), f16_format);
}

uint16_t fv_bf16_from_f32(float x) {
  return (uint16_t)narrow(parts_of_f32(x), bf16_format);
}
uint16_t fv_bf16_from_f64(double x) {
  return (uint16_t)narrow(parts_of_f64(x), bf16_format);
}

uint8_t fv_e4m3_from_f32(float x) {
  return (uint8_t)narrow(parts_of_f32(x), e4m3_format);
}
uint8_t fv_e4m3_from_f64(double x) {
  return (uint8_t)narrow(parts_of_f64(x), e4m3_format);
}

uint8_t fv_e5m2_from_f32(float x) {
  return (uint8_t)narrow(parts_of_f32(x), e5m2_format);
}
uint8_t fv_e5m2_from_f64(double x) {
  return (uint8_t)narrow(parts_of_f64(x), e5m2_format);
}

int8_t fv_i8_from_f32(float x) {
  parts p = parts_of_f32(x);
  if (p.nan) return 0;
  /* From 2^8 on, infinity included, the result is a limit, and the shift could be below 1. */
  int magnitude = p.exponent > 7 ? 256 : (int)round_shift(p.significand, p.width - p.exponent);
  if (p.negative) return (int8_t)(magnitude > 128 ? -128 : -magnitude);
  return (int8_t)(magnitude > 127 ? 127 : magnitude);
}

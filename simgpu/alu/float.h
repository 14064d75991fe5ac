/* float.h - the number formats of PTX: conversions, min and max, fma of 16-bit floats, 2^x. PTX
 * ISA, "Types", "Alternate Floating-Point Data Formats".
 *
 * A narrow value is its bits in an unsigned integer; it is computed with as f32 or f64. Conversions
 * round to nearest even unless their name says otherwise. A conversion to a narrower format turns
 * every NaN into the canonical NaN, as the device does. The common conversions have no branches, so
 * that loops over 32 lanes vectorise. */
#ifndef FOVEA_SIMGPU_ALU_FLOAT_H
#define FOVEA_SIMGPU_ALU_FLOAT_H

#include <math.h>
#include <string.h>

#include "simgpu/base.h"

static inline u32 sim_f32_bits(float value) {
  u32 bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float sim_f32_of(u32 bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static inline u64 sim_f64_bits(double value) {
  u64 bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline double sim_f64_of(u64 bits) {
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* .ftz: subnormals become zeros of their sign. */
static inline float sim_flush(float value) {
  u32 bits = sim_f32_bits(value);
  return sim_f32_of((bits & 0x7f800000) == 0 ? bits & 0x80000000 : bits);
}

/* .sat: to [0, 1], NaN to +0. */
static inline float sim_saturate(float value) {
  return value > 0 ? (value < 1 ? value : 1) : 0;
}

static inline float sim_f16_to_f32(u16 half) {
  u32 magnitude = (u32)(half & 0x7fff) << 13;
  /* The product moves the exponent's bias from 15 to 127 and makes subnormals normal. */
  u32 bits = sim_f32_bits(sim_f32_of(magnitude) * 0x1p112f);
  bits = (half & 0x7c00) == 0x7c00 ? magnitude | 0x7f800000 : bits;
  return sim_f32_of(bits | (u32)(half & 0x8000) << 16);
}

static inline u16 sim_f32_to_f16(float value) {
  u32 bits = sim_f32_bits(value), sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  /* Adding 0.5 puts a subnormal's unit, 2^-24, at the last bit: the addition does the rounding. */
  u32 subnormal = sim_f32_bits(sim_f32_of(bits) + 0.5f) - 0x3f000000;
  u32 normal = (bits + 0xc8000fff + (bits >> 13 & 1)) >> 13;
  u32 half = bits < 0x38800000 ? subnormal : normal;
  half = bits >= 0x477ff000 ? 0x7c00 : half; /* 65520, half a unit above the maximum of f16 */
  return bits > 0x7f800000 ? 0x7fff : (u16)(half | sign);
}

static inline float sim_bf16_to_f32(u16 half) {
  return sim_f32_of((u32)half << 16);
}

static inline u16 sim_f32_to_bf16(float value) {
  u32 bits = sim_f32_bits(value);
  u16 rounded = (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fff : rounded;
}

/* a + b rounded to odd: where the sum is not exact, the last bit is set. Rounding that again, to a
 * format at least two bits shorter, gives what rounding the exact sum would (Boldo, Melquiond). */
static inline double sim_sum_to_odd(double a, double b) {
  double sum = a + b;
  double part = sum - a;
  double error = (a - (sum - part)) + (b - part);
  u64 bits = sim_f64_bits(sum);
  if (error == 0 || !(error == error) || (bits & 1)) return sum;
  return sim_f64_of((error > 0) == (sum > 0) ? bits + 1 : bits - 1);
}

/* The f32 that is `value` rounded to odd, for a later rounding to f16 or bf16. */
static inline float sim_f64_to_odd_f32(double value) {
  float near = (float)value;
  u32 bits = sim_f32_bits(near);
  if ((double)near == value || near != near || (bits & 1) || isinf(near)) return near;
  bool away = fabs((double)near) > fabs(value);
  return sim_f32_of(away ? bits - 1 : bits + 1);
}

static inline u16 sim_fma_f16(u16 a, u16 b, u16 c) {
  double product = (double)sim_f16_to_f32(a) * sim_f16_to_f32(b);
  return sim_f32_to_f16(sim_f64_to_odd_f32(sim_sum_to_odd(product, sim_f16_to_f32(c))));
}

static inline u16 sim_fma_bf16(u16 a, u16 b, u16 c) {
  double product = (double)sim_bf16_to_f32(a) * sim_bf16_to_f32(b);
  return sim_f32_to_bf16(sim_f64_to_odd_f32(sim_sum_to_odd(product, sim_bf16_to_f32(c))));
}

/* tf32 keeps 10 bits of the mantissa. */
static inline u32 sim_f32_to_tf32(float value) {
  u32 bits = sim_f32_bits(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fffffff;
  return (bits + 0xfff + (bits >> 13 & 1)) & ~0x1fffu;
}

/* cvt.rna: ties away from zero. */
static inline u32 sim_f32_to_tf32_away(float value) {
  u32 bits = sim_f32_bits(value);
  if ((bits & 0x7f800000) == 0x7f800000) return (bits & 0x7fffff) ? 0x7fffffff : bits;
  return (bits + 0x1000) & ~0x1fffu;
}

float sim_e4m3_to_f32(u8 code);
float sim_e5m2_to_f32(u8 code);
/* .satfinite: what exceeds the finite maximum becomes it. */
u8 sim_f32_to_e4m3(float value);
u8 sim_f32_to_e5m2(float value);

/* PTX min and max: where one operand is a NaN, the other one is the result; -0 < +0. */
static inline float sim_min_f32(float a, float b) {
  if (a != a && b != b) return sim_f32_of(0x7fffffff);
  if (a != a) return b;
  if (b != b) return a;
  return a < b || (a == b && (sim_f32_bits(a) >> 31)) ? a : b;
}

static inline float sim_max_f32(float a, float b) {
  if (a != a && b != b) return sim_f32_of(0x7fffffff);
  if (a != a) return b;
  if (b != b) return a;
  return a > b || (a == b && !(sim_f32_bits(a) >> 31)) ? a : b;
}

static inline double sim_min_f64(double a, double b) {
  if (a != a) return b;
  if (b != b) return a;
  return a < b || (a == b && signbit(a)) ? a : b;
}

static inline double sim_max_f64(double a, double b) {
  if (a != a) return b;
  if (b != b) return a;
  return a > b || (a == b && !signbit(a)) ? a : b;
}

/* 2^x within a relative error of 2^-22.5, like the device's ex2.approx. x is an integer plus f,
 * |f| <= 1/2; 2^f is the Taylor series of exp(f ln 2), whose first term left out is below 2^-27. */
static inline float sim_exp2(float x) {
  float clamped = x > 129 ? 129 : (x < -151 ? -151 : x);
  float whole = (clamped + 0x1.8p23f) - 0x1.8p23f;
  float f = clamped - whole;
  float p = 1.52527338e-5f; /* ln2^n / n!, n = 7 .. 1 */
  p = p * f + 1.54035304e-4f;
  p = p * f + 1.33335581e-3f;
  p = p * f + 9.61812911e-3f;
  p = p * f + 5.55041087e-2f;
  p = p * f + 2.40226507e-1f;
  p = p * f + 6.93147181e-1f;
  p = p * f + 1;
  s32 exponent = (s32)whole, half = exponent / 2;
  /* Two factors: one alone would overflow before the product does, or lose a subnormal. */
  float scale = sim_f32_of((u32)(half + 127) << 23),
        rest = sim_f32_of((u32)(exponent - half + 127) << 23);
  float result = p * scale * rest;
  return x != x ? sim_f32_of(0x7fffffff) : result;
}

#endif /* FOVEA_SIMGPU_ALU_FLOAT_H */

#include "tests/simgpu/conformance/conformance_number.h"

#include <math.h>
#include <string.h>

/* Fields of the floats: sign, exponent, mantissa; e4m3 has no infinity and one NaN. */
static const struct {
  int bits, exponent, mantissa;
} formats[NUMBER_COUNT] = {{32, 0, 31}, {8, 0, 8},   {8, 0, 7}, {16, 5, 10}, {16, 8, 7},
                           {32, 8, 10}, {32, 8, 23}, {8, 4, 3}, {8, 5, 2}};

int number_bits(enum number type) {
  return formats[type].bits;
}

int number_mantissa_bits(enum number type) {
  return formats[type].mantissa;
}

/* tf32 lies in the upper bits of a register. */
static int unused_bits(enum number type) {
  return type == NUMBER_TF32 ? 13 : 0;
}

double number_decode(enum number type, uint32_t code) {
  if (type == NUMBER_S32) return (int32_t)code;
  if (type == NUMBER_U8) return code & 0xff;
  if (type == NUMBER_S8) return (int8_t)(code & 0xff);
  code >>= unused_bits(type);
  int mantissa_bits = formats[type].mantissa, exponent_bits = formats[type].exponent;
  int bias = (1 << (exponent_bits - 1)) - 1, top = (1 << exponent_bits) - 1;
  int exponent = (int)(code >> mantissa_bits) & top;
  int mantissa = (int)(code & ((1u << mantissa_bits) - 1));
  double sign = code >> (exponent_bits + mantissa_bits) & 1 ? -1 : 1;
  if (type == NUMBER_E4M3) {
    if (exponent == top && mantissa == 7) return NAN;
  } else if (exponent == top) {
    return mantissa ? NAN : sign * (double)INFINITY;
  }
  if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

static uint32_t largest_code(enum number type) {
  if (type == NUMBER_E4M3) return 0x7e;
  if (type == NUMBER_E5M2) return 0x7b;
  return ((1u << formats[type].exponent) - 1) << formats[type].mantissa;
}

static uint32_t nan_code(enum number type) {
  if (type == NUMBER_TF32) return 0x7fffffff;
  return (1u << (formats[type].exponent + formats[type].mantissa)) - 1;
}

static uint32_t encode(enum number type, long double value, long double (*round)(long double)) {
  if (formats[type].exponent == 0) {
    return (uint32_t)(int32_t)value & (uint32_t)((1ull << formats[type].bits) - 1);
  }
  if (isnan(value)) return nan_code(type);
  int bias = (1 << (formats[type].exponent - 1)) - 1, mantissa_bits = formats[type].mantissa;
  uint32_t sign = signbit(value) ? 1u << (formats[type].exponent + mantissa_bits) : 0;
  uint32_t code = 0, largest = largest_code(type);
  value = fabsl(value);
  if (value >= ldexpl(1, bias + 2)) {
    /* Rounded towards zero, only infinity itself becomes infinity. */
    code = round == truncl && !isinf(value) ? largest - 1 : largest;
  } else if (value > 0) {
    int exponent = ilogbl(value) < 1 - bias ? 1 - bias : ilogbl(value);
    uint32_t units = (uint32_t)round(ldexpl(value, mantissa_bits - exponent));
    /* units holds the leading one, which adds one to the exponent field; a carry adds another. */
    code = ((uint32_t)(exponent + bias - 1) << mantissa_bits) + units;
    if (code > largest) code = largest;
    if (code == largest && round == truncl) code = largest - 1;
  }
  return (sign | code) << unused_bits(type);
}

uint32_t number_encode(enum number type, long double value) {
  return encode(type, value, rintl);
}

uint32_t number_encode_to_zero(enum number type, long double value) {
  return encode(type, value, truncl);
}

uint32_t number_fma(enum number type, double a, double b, double c) {
  long double product = (long double)a * b, sum = product + c, part = sum - product;
  long double error = (product - (sum - part)) + (c - part);
  /* The sum's rounding error matters only where the sum lies halfway between two numbers. */
  if (error > 0) sum = nextafterl(sum, (long double)INFINITY);
  if (error < 0) sum = nextafterl(sum, -(long double)INFINITY);
  return number_encode(type, sum);
}

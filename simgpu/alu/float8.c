/* float8.c - conversions of the 8-bit floats: see alu/float.h. PTX ISA, "Alternate Floating-Point
 * Data Formats". e4m3: bias 7, no infinity, one NaN per sign (0x7f, 0xff), maximum 448. e5m2: bias
 * 15, infinities and NaNs as IEEE 754 has them, maximum 57344. */
#include "simgpu/alu/float.h"

float sim_e4m3_to_f32(u8 code) {
  int exponent = code >> 3 & 15, mantissa = code & 7;
  if (exponent == 15 && mantissa == 7) return sim_f32_of(0x7fffffff);
  float value =
      exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
  return code & 0x80 ? -value : value;
}

/* e5m2 is the upper byte of an f16. */
float sim_e5m2_to_f32(u8 code) {
  return sim_f16_to_f32((u16)(code << 8));
}

/* The code nearest to a magnitude, by binary search: codes ascend with their values. A tie goes to
 * the even code. What exceeds the maximum becomes the maximum (.satfinite). */
static u8 nearest_code(float magnitude, u8 code_max, float (*value_of)(u8)) {
  u8 low = 0, high = code_max;
  if (magnitude >= value_of(code_max)) return code_max;
  while (high - low > 1) {
    u8 middle = (u8)((low + high) / 2);
    if (value_of(middle) <= magnitude) {
      low = middle;
    } else {
      high = middle;
    }
  }
  float below = magnitude - value_of(low), above = value_of(high) - magnitude;
  if (below == above) return low & 1 ? high : low;
  return below < above ? low : high;
}

u8 sim_f32_to_e4m3(float value) {
  if (value != value) return 0x7f;
  return (u8)(nearest_code(fabsf(value), 0x7e, sim_e4m3_to_f32) | (signbit(value) ? 0x80 : 0));
}

u8 sim_f32_to_e5m2(float value) {
  if (value != value) return 0x7f;
  return (u8)(nearest_code(fabsf(value), 0x7b, sim_e5m2_to_f32) | (signbit(value) ? 0x80 : 0));
}

/* float8.c - the 8-bit floats. e4m3: bias 7, no infinities, one NaN per sign (0x7f). e5m2: bias 15,
 * as IEEE.
 */
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

/* The code of a magnitude, found among all codes by halving: they are in the order of their values.
 */
static u8 nearest_code(float magnitude, u8 largest, float (*value_of)(u8)) {
  u8 low = 0, high = largest;
  if (magnitude >= value_of(largest)) return largest;
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

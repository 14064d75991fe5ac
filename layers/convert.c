/* convert.c - see convert.h. */
#include "layers/convert.h"

/* ---- One number ---- */

FV_ALWAYS_INLINE uint32_t narrow_bf16(float x) {
  uint32_t bits = fv_layers_bits_of(x);
  uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (bits & 0x7fffffff) > 0x7f800000u ? 0x7fff : rounded;
}

/* Below 2^-14 results are multiples of 2^-24, which is the last place of 0.5: adding that rounds,
 * to nearest even. From 65520 on the result is infinite. */
FV_ALWAYS_INLINE uint32_t narrow_f16(float x) {
  uint32_t bits = fv_layers_bits_of(x), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  uint32_t small = fv_layers_bits_of(fv_layers_float_of(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t normal = (magnitude + 0xfff + (magnitude >> 13 & 1) - 0x38000000u) >> 13;
  uint32_t result = magnitude < 0x38800000u ? small : normal;
  result = magnitude >= 0x477ff000u ? 0x7c00 : result;
  return magnitude > 0x7f800000u ? 0x7fff : sign | result;
}

/* ---- Runs; clang makes clones global, so that their names need the library's prefix ---- */

FV_FOR_EACH_ISA static void fv_layers_widen_run_f16(const uint16_t *from, int64_t count,
                                                    float *to) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_layers_widen_f16(from[i]);
}

FV_FOR_EACH_ISA static void fv_layers_widen_run_bf16(const uint16_t *from, int64_t count,
                                                     float *to) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_layers_widen_bf16(from[i]);
}

FV_FOR_EACH_ISA static void fv_layers_narrow_run_f16(const float *from, int64_t count,
                                                     uint16_t *to) {
  for (int64_t i = 0; i < count; ++i) to[i] = (uint16_t)narrow_f16(from[i]);
}

FV_FOR_EACH_ISA static void fv_layers_narrow_run_bf16(const float *from, int64_t count,
                                                      uint16_t *to) {
  for (int64_t i = 0; i < count; ++i) to[i] = (uint16_t)narrow_bf16(from[i]);
}

void fv_layers_widen(uint32_t dtype, const uint16_t *from, int64_t count, float *to) {
  if (dtype == FOVEA_F16) {
    fv_layers_widen_run_f16(from, count, to);
  } else {
    fv_layers_widen_run_bf16(from, count, to);
  }
}

void fv_layers_narrow(uint32_t dtype, const float *from, int64_t count, uint16_t *to) {
  if (dtype == FOVEA_F16) {
    fv_layers_narrow_run_f16(from, count, to);
  } else {
    fv_layers_narrow_run_bf16(from, count, to);
  }
}

/* convert.h - numbers of 16 bits and f32. */
#ifndef FOVEA_LAYERS_CONVERT_H
#define FOVEA_LAYERS_CONVERT_H

#include <stdint.h>
#include <string.h>

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Loops are compiled for several instruction sets. The program takes the widest that the processor
 * has. */
#if defined(__x86_64__)
#define FV_FOR_EACH_ISA \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FV_FOR_EACH_ISA
#endif
#define FV_ALWAYS_INLINE static inline __attribute__((always_inline))

/* ---- Without branches, as vectors want it ---- */

FV_ALWAYS_INLINE uint32_t fv_layers_bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

FV_ALWAYS_INLINE float fv_layers_float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

FV_ALWAYS_INLINE float fv_layers_widen_bf16(uint32_t code) {
  return fv_layers_float_of(code << 16);
}

/* A product moves the exponent from a bias of 15 to one of 127, also of subnormals. */
FV_ALWAYS_INLINE float fv_layers_widen_f16(uint32_t code) {
  uint32_t magnitude = (code & 0x7fff) << 13, sign = (code & 0x8000) << 16;
  uint32_t bits = fv_layers_bits_of(fv_layers_float_of(magnitude) * 0x1p112f);
  bits |= magnitude >= 0x7c00u << 13 ? 0x7f800000u : 0; /* infinities and NaNs keep what is below */
  return fv_layers_float_of(sign | bits);
}

/* ---- Runs of numbers ---- */

/* dtype is F16 or BF16. Narrowing rounds to nearest even; a NaN becomes 0x7fff. */
void fv_layers_widen(uint32_t dtype, const uint16_t *from, int64_t count, float *to);
void fv_layers_narrow(uint32_t dtype, const float *from, int64_t count, uint16_t *to);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_CONVERT_H */

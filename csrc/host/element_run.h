/* element_run.h - runs of contiguous elements between memory and f32.
 *
 * The dtype is looked up once per run, not once per element. Loads are exact. Stores round once and
 * write one NaN per format, so that results of two devices can be compared bit by bit. The header
 * lists these NaNs at fovea_kv_append. */
#ifndef FOVEA_CSRC_HOST_ELEMENT_RUN_H
#define FOVEA_CSRC_HOST_ELEMENT_RUN_H

#include <stddef.h>

#include "csrc/host/element.h"

/* x, or the canonical NaN if x is any NaN. */
static inline float fv_f32_canonical(float x) {
  return x == x ? x : fv_f32_from_bits(UINT32_C(0x7fffffff));
}

/* x[i] = data[first + i] for i < count; dtype is f32, f16 or bf16. */
static inline void fv_load_run(const void *data, uint32_t dtype, int64_t first, int64_t count,
                               float *x) {
  if (dtype == FOVEA_F32) {
    memcpy(x, (const float *)data + first, (size_t)count * sizeof(float));
  } else if (dtype == FOVEA_F16) {
    const uint16_t *codes = (const uint16_t *)data + first;
    for (int64_t i = 0; i < count; ++i) x[i] = fv_f16_to_f32(codes[i]);
  } else {
    const uint16_t *codes = (const uint16_t *)data + first;
    for (int64_t i = 0; i < count; ++i) x[i] = fv_bf16_to_f32(codes[i]);
  }
}

static inline void fv_store_run_8bit(uint8_t *codes, uint32_t dtype, int64_t count,
                                     const float *x) {
  if (dtype == FOVEA_E4M3) {
    for (int64_t i = 0; i < count; ++i) codes[i] = fv_e4m3_from_f32(x[i]);
  } else if (dtype == FOVEA_E5M2) {
    for (int64_t i = 0; i < count; ++i) codes[i] = fv_e5m2_from_f32(x[i]);
  } else {
    for (int64_t i = 0; i < count; ++i) codes[i] = (uint8_t)fv_i8_from_f32(x[i]);
  }
}

/* data[first + i] = x[i] for i < count, rounded to nearest even; dtype is any but u8. */
static inline void fv_store_run(void *data, uint32_t dtype, int64_t first, int64_t count,
                                const float *x) {
  if (dtype == FOVEA_F32) {
    float *to = (float *)data + first;
    for (int64_t i = 0; i < count; ++i) to[i] = fv_f32_canonical(x[i]);
  } else if (dtype == FOVEA_F16) {
    uint16_t *codes = (uint16_t *)data + first;
    for (int64_t i = 0; i < count; ++i) codes[i] = fv_f16_from_f32(x[i]);
  } else if (dtype == FOVEA_BF16) {
    uint16_t *codes = (uint16_t *)data + first;
    for (int64_t i = 0; i < count; ++i) codes[i] = fv_bf16_from_f32(x[i]);
  } else {
    fv_store_run_8bit((uint8_t *)data + first, dtype, count, x);
  }
}

#endif /* FOVEA_CSRC_HOST_ELEMENT_RUN_H */

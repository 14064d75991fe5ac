/* element.h - single elements of tensors, by dtype. For code where clarity counts more than speed;
 * the CPU backend widens whole rows at a time. */
#ifndef FOVEA_CSRC_HOST_ELEMENT_H
#define FOVEA_CSRC_HOST_ELEMENT_H

#include "csrc/dtype.h"
#include "csrc/host/block.h"
#include "csrc/numeric.h"
#include "csrc/problem.h"

/* The element's value, exact in f32 for every dtype. */
static inline float fv_load(uint32_t dtype, const void *data, int64_t index) {
  switch (dtype) {
    case FOVEA_F32:
      return ((const float *)data)[index];
    case FOVEA_F16:
      return fv_f16_to_f32(((const uint16_t *)data)[index]);
    case FOVEA_BF16:
      return fv_bf16_to_f32(((const uint16_t *)data)[index]);
    case FOVEA_E4M3:
      return fv_e4m3_to_f32(((const uint8_t *)data)[index]);
    case FOVEA_E5M2:
      return fv_e5m2_to_f32(((const uint8_t *)data)[index]);
    case FOVEA_Q8_0:
      return fv_load_q8_0(data, index);
    case FOVEA_Q4_0:
      return fv_load_q4_0(data, index);
    default:
      return fv_i8_to_f32(((const int8_t *)data)[index]);
  }
}

/* Stores with one rounding, to nearest even. */
static inline void fv_store_f64(uint32_t dtype, void *data, int64_t index, double value) {
  switch (dtype) {
    case FOVEA_F32:
      ((float *)data)[index] = (float)value;
      break;
    case FOVEA_F16:
      ((uint16_t *)data)[index] = fv_f16_from_f64(value);
      break;
    case FOVEA_BF16:
      ((uint16_t *)data)[index] = fv_bf16_from_f64(value);
      break;
    default:
      ((uint8_t *)data)[index] = fv_e4m3_from_f64(value);
      break;
  }
}

static inline void fv_store_f32(uint32_t dtype, void *data, int64_t index, float value) {
  switch (dtype) {
    case FOVEA_F32:
      ((float *)data)[index] = value;
      break;
    case FOVEA_F16:
      ((uint16_t *)data)[index] = fv_f16_from_f32(value);
      break;
    case FOVEA_BF16:
      ((uint16_t *)data)[index] = fv_bf16_from_f32(value);
      break;
    default:
      ((uint8_t *)data)[index] = fv_e4m3_from_f32(value);
      break;
  }
}

/* Elements from the start of t to its row [outer, inner, head, 0]. */
static inline int64_t fv_row_offset(const fovea_tensor *t, int64_t outer, int64_t inner,
                                    int64_t head) {
  return outer * t->stride[0] + inner * t->stride[1] + head * t->stride[2];
}

/* The scale of element d of a row of a tensor with `dim` elements; 1 if there is no scale. */
static inline float fv_scale_at(const fovea_tensor *scale, int64_t outer, int64_t inner,
                                int64_t head, int64_t d, int64_t dim) {
  if (scale->dtype == FOVEA_NONE) return 1;
  int64_t block = d / (dim / scale->shape[3]);
  return fv_load(scale->dtype, scale->data,
                 fv_row_offset(scale, outer, inner, head) + block * scale->stride[3]);
}

#endif /* FOVEA_CSRC_HOST_ELEMENT_H */

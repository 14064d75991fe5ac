/* activation.c - see activation.h. libm's functions are off by a unit in the last place or two. */
#include "layers/activation.h"

#include <math.h>

#include "layers/fovea_layers.h"

/* exp of a number that is not positive cannot overflow. */
float fv_sigmoid(float x) {
  float e = expf(-fabsf(x));
  return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

static float gelu(float x) {
  return 0.5f * x * erfcf(x * -0.70710678f);
}

static float gelu_tanh(float x) {
  return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}

void fv_activate(uint32_t activation, float *row, int64_t count) {
  switch (activation) {
    case FOVEA_ACTIVATION_TANH:
      for (int64_t i = 0; i < count; ++i) row[i] = tanhf(row[i]);
      return;
    case FOVEA_ACTIVATION_RELU: /* a NaN stays */
      for (int64_t i = 0; i < count; ++i) row[i] = row[i] < 0 ? 0 : row[i];
      return;
    case FOVEA_ACTIVATION_GELU:
      for (int64_t i = 0; i < count; ++i) row[i] = gelu(row[i]);
      return;
    case FOVEA_ACTIVATION_GELU_TANH:
      for (int64_t i = 0; i < count; ++i) row[i] = gelu_tanh(row[i]);
      return;
    case FOVEA_ACTIVATION_SILU:
      for (int64_t i = 0; i < count; ++i) row[i] *= fv_sigmoid(row[i]);
      return;
    case FOVEA_ACTIVATION_SIGMOID:
      for (int64_t i = 0; i < count; ++i) row[i] = fv_sigmoid(row[i]);
      return;
    default:
      return;
  }
}

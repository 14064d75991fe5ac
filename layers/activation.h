/* activation.h - the functions that follow a projection. */
#ifndef FOVEA_LAYERS_ACTIVATION_H
#define FOVEA_LAYERS_ACTIVATION_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In place; `activation` is a fovea_activation. */
void fv_activate(uint32_t activation, float *row, int64_t count);

float fv_sigmoid(float x);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_ACTIVATION_H */

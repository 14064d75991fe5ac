/* linear.h - a projection as a step of other calls: checked once, its workspace from their arena.
 */
#ifndef FOVEA_LAYERS_LINEAR_H
#define FOVEA_LAYERS_LINEAR_H

#include "layers/arena.h"
#include "layers/fovea_layers.h"
#include "layers/tokens.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The rules of a room: in and out are the numbers of a token before and after it. Without a weight
 * they are the same. */
fovea_status fv_linear_check(const char *owner, const fovea_linear *linear, int64_t in,
                             int64_t out);

/* Memory for a step; some parts are NULL where tensors can be used where they lie. */
typedef struct fv_linear_scratch {
  bool steady; /* see fv_product */
  float *x, *y, *weight, *bias, *residual;
} fv_linear_scratch;

fv_linear_scratch fv_linear_take(fv_arena *arena, const fovea_linear *linear, const fovea_tensor *x,
                                 const fovea_tensor *out, bool steady);

/* out = linear(x) + residual (absent: NULL). Everything has been checked. */
void fv_linear_run(const fovea_linear *linear, const fovea_tensor *x, const fovea_tensor *residual,
                   const fovea_tensor *out, const fv_linear_scratch *scratch);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_LINEAR_H */

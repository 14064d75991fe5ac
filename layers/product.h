/* product.h - the one product of the layers: rows of tokens times a weight of any layout and type.
 */
#ifndef FOVEA_LAYERS_PRODUCT_H
#define FOVEA_LAYERS_PRODUCT_H

#include "layers/arena.h"
#include "layers/tokens.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Blocks of rows and of outputs that are multiplied at a time where tensors have to be widened or
 * gathered: large enough for a BLAS to be near its best. (512 x 512 in bf16, 2048 tokens: blocks of
 * 256 x 256 took 9.4 ms, these 7.1, f32 6.0, two threads of a Xeon with AVX-512.) */
enum { FV_PRODUCT_ROWS = 1024, FV_PRODUCT_OUTPUTS = 512 };

/* to[r * stride + o] = sum_i x[r * x_stride + i] * weight[o, i], for all rows and outputs from
 * `first` on. `scratch` has FV_PRODUCT_OUTPUTS * in elements, or is NULL if
 * fv_product_needs_scratch says no. */
typedef struct fv_product {
  const fovea_tensor *weight; /* [1, out, 1, in] */
  bool steady; /* a row's bits must not depend on the other rows: no BLAS takes part */
  const float *x;
  int64_t rows, x_stride;
  int64_t first, outputs;
  float *to; /* of row 0 and output `first` */
  int64_t stride;
  float *scratch;
} fv_product;

void fv_product_run(const fv_product *product);

/* f32 with one stride of 1: a BLAS takes it where it lies. */
bool fv_product_is_direct(const fovea_tensor *weight);

bool fv_product_needs_scratch(const fovea_tensor *weight, bool steady);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_PRODUCT_H */

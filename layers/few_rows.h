/* few_rows.h - products of few rows with weights of 16 bits, which are widened in registers.
 * Reading the weights takes the time. To widen them in memory first would read and write them twice
 * more. */
#ifndef FOVEA_LAYERS_FEW_ROWS_H
#define FOVEA_LAYERS_FEW_ROWS_H

#include "layers/product.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FV_FEW_ROWS = 4 };

/* Whether this is such a product: at most so many rows, 16 bits, inputs side by side. */
bool fv_few_rows_fit(const fovea_tensor *weight, int64_t rows);

/* to[r, o] = sum_i x[r, i] * weight[o, i], each sum in 16 parts, which are added in their order. */
void fv_few_rows_multiply(const fv_product *product);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_FEW_ROWS_H */

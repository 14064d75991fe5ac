/* few_rows.h - products of few rows, and small ones.
 *
 * With few rows, reading the weights takes the time. Those of 16 bits are widened in registers; to
 * widen them in memory first would read and write them twice more. Small products come here too: a
 * BLAS shares them out among threads, and waking those takes longer than multiplying. */
#ifndef FOVEA_LAYERS_FEW_ROWS_H
#define FOVEA_LAYERS_FEW_ROWS_H

#include "layers/product.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Whether this is such a product: inputs side by side; few rows of 16 bits, small, or steady, since
 * the sum of a row is the same here whatever the other rows are. */
bool fv_few_rows_fit(const fv_product *product);

/* to[r, o] = sum_i x[r, i] * weight[o, i], each sum in 16 parts, which are added in their order. */
void fv_few_rows_multiply(const fv_product *product);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_FEW_ROWS_H */

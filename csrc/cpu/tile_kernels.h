/* tile_kernels.h - the inner loops of the tiled backend, one table per instruction set.
 *
 * All of them compute every element by the same sequence of operations, whatever the number of rows
 * around it: that is what makes a row's bits independent of the batch and of the phase. */
#ifndef FV_TILE_KERNELS_H
#define FV_TILE_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FV_TILE_KV = 64 }; /* keys per tile, checked against attention.def by plan_test */

typedef struct fv_tile_kernels {
  /* to[i] = value of from[i], exact; dtype is a fovea_dtype. */
  void (*widen)(float *to, const void *from, uint32_t dtype, int64_t count);

  /* Puts row[dim] into column j of k [dim][FV_TILE_KV]. */
  void (*place_key)(float *k, const float *row, int32_t dim, int32_t j);

  /* scores [rows][FV_TILE_KV] = q [rows][dim] times k [dim][FV_TILE_KV], summed in the order of d.
   */
  void (*score)(float *scores, const float *q, const float *k, int32_t rows, int32_t dim);

  /* One step of online softmax for one row. scores [FV_TILE_KV] become
   * exp2((scores - maximum) * factor), 0 for -inf; *maximum and *sum are brought up to date.
   * Returns what earlier sums and outputs are to be multiplied by. */
  float (*softmax)(float *scores, float factor, float *maximum, float *sum);

  /* out[r] = out[r] * rescale[r] + weights[r] * v, with out [rows][columns], weights
   * [rows][FV_TILE_KV], v [FV_TILE_KV][columns]; columns is a multiple of 16; keys in order. */
  void (*accumulate)(float *out, const float *rescale, const float *weights, const float *v,
                     int32_t rows, int32_t columns);
} fv_tile_kernels;

extern const fv_tile_kernels fv_tile_kernels_portable;
extern const fv_tile_kernels fv_tile_kernels_avx2; /* x86-64 only */

#ifdef __cplusplus
}
#endif

#endif /* FV_TILE_KERNELS_H */

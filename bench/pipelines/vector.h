/* vector.h - the loops of the naive pipeline that are not products, vectorised.
 *
 * They are compiled for several instruction sets. The program chooses the widest that the processor
 * has when it starts, as OpenBLAS does for its products. */
#ifndef FOVEA_BENCH_PIPELINES_VECTOR_H
#define FOVEA_BENCH_PIPELINES_VECTOR_H

#include <stdint.h>

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Softmax of the first `visible` scores of a row in place; the others become 0. If none is visible,
 * all become 0. */
void fv_bench_softmax(float *row, int64_t visible, int64_t count);

/* The sum of two vectors; tanh in place. */
void fv_bench_add(float *to, const float *a, const float *b, int64_t count);
void fv_bench_tanh(float *row, int64_t count);

/* Converts count elements of F16 or BF16 to f32, and back with rounding to nearest even. */
void fv_bench_widen(float *to, const uint16_t *from, int64_t count, fovea_dtype dtype);
void fv_bench_narrow(uint16_t *to, const float *from, int64_t count, fovea_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_PIPELINES_VECTOR_H */

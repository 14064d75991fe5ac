/* tile_vector.h - vectors of floats, which compilers map to whatever the target has. */
#ifndef FV_TILE_VECTOR_H
#define FV_TILE_VECTOR_H

#include <stdint.h>

/* FV_LANES, the floats of a vector, and FV_ROW_LANES (8 or 16) are defined by who includes this. */
typedef float f32v __attribute__((vector_size(4 * FV_LANES)));
typedef uint32_t u32v __attribute__((vector_size(4 * FV_LANES)));
typedef int32_t i32v __attribute__((vector_size(4 * FV_LANES)));

/* Half as many doubles: sums over blocks of keys. */
typedef double f64v __attribute__((vector_size(4 * FV_LANES)));
typedef double f64v_unaligned __attribute__((vector_size(4 * FV_LANES), aligned(8), may_alias));

/* For memory: elements aligned, vectors not. */
typedef float f32v_unaligned __attribute__((vector_size(4 * FV_LANES), aligned(4), may_alias));

/* Eight at a time, whatever the target: rows in memory have a multiple of 8 elements. */
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x8_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

/* Four, for what is left of a vector's lanes. */
typedef float f32x4 __attribute__((vector_size(16)));
typedef float f32x4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t i32x4 __attribute__((vector_size(16)));

#if defined(__clang__)
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, (i32x4){i, j, k, l})
#endif

/* The elements of a row at a time where it is read in place. */
typedef float f32r __attribute__((vector_size(4 * FV_ROW_LANES)));
typedef float f32r_unaligned __attribute__((vector_size(4 * FV_ROW_LANES), aligned(4), may_alias));

#endif /* FV_TILE_VECTOR_H */

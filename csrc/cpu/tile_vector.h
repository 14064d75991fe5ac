/* tile_vector.h - vectors of floats; compilers map them to the vectors of the target. */
#ifndef FOVEA_CSRC_CPU_TILE_VECTOR_H
#define FOVEA_CSRC_CPU_TILE_VECTOR_H

#include <stdint.h>

/* The including file defines FV_LANES, the floats of a vector, and FV_ROW_LANES, 8 or 16. */
typedef float f32v __attribute__((vector_size(4 * FV_LANES)));
typedef uint32_t u32v __attribute__((vector_size(4 * FV_LANES)));
typedef int32_t i32v __attribute__((vector_size(4 * FV_LANES)));

/* Half as many doubles, for sums over blocks of keys. */
typedef double f64v __attribute__((vector_size(4 * FV_LANES)));
typedef double f64v_unaligned __attribute__((vector_size(4 * FV_LANES), aligned(8), may_alias));

/* For memory: elements are aligned, vectors are not. */
typedef float f32v_unaligned __attribute__((vector_size(4 * FV_LANES), aligned(4), may_alias));

/* Eight floats on every target: rows in memory have a multiple of 8 elements. */
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x8_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

/* Four floats, for the last steps across a vector's lanes. */
typedef float f32x4 __attribute__((vector_size(16)));
typedef float f32x4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t i32x4 __attribute__((vector_size(16)));

#if defined(__clang__)
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, (i32x4){i, j, k, l})
#endif

/* The elements taken at a time from a row that is read in place. */
typedef float f32r __attribute__((vector_size(4 * FV_ROW_LANES)));
typedef float f32r_unaligned __attribute__((vector_size(4 * FV_ROW_LANES), aligned(4), may_alias));

#endif /* FOVEA_CSRC_CPU_TILE_VECTOR_H */

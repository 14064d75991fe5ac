/* tile_vector.h - vectors of floats, which compilers map to whatever the target has. */
#ifndef FV_TILE_VECTOR_H
#define FV_TILE_VECTOR_H

#include <stdint.h>

/* FV_LANES, the floats of a vector, and FV_ROW_LANES (8 or 16) are defined by who includes this. */
typedef float f32v __attribute__((vector_size(4 * FV_LANES)));
typedef uint32_t u32v __attribute__((vector_size(4 * FV_LANES)));
typedef int32_t i32v __attribute__((vector_size(4 * FV_LANES)));

/* For memory: elements aligned, vectors not. */
typedef float f32v_unaligned __attribute__((vector_size(4 * FV_LANES), aligned(4), may_alias));

/* Eight at a time, whatever the target: rows in memory have a multiple of 8 elements. */
typedef float f32x8 __attribute__((vector_size(32)));
typedef float f32x8_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

/* The elements of a row at a time where it is read in place. */
typedef float f32r __attribute__((vector_size(4 * FV_ROW_LANES)));
typedef float f32r_unaligned __attribute__((vector_size(4 * FV_ROW_LANES), aligned(4), may_alias));

#endif /* FV_TILE_VECTOR_H */

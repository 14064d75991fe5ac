/* tile_vector.h - vectors of 8 floats, which compilers map to whatever the target has. */
#ifndef FV_TILE_VECTOR_H
#define FV_TILE_VECTOR_H

#include <stdint.h>

typedef float f32v __attribute__((vector_size(32)));
typedef uint32_t u32v __attribute__((vector_size(32)));
typedef int32_t i32v __attribute__((vector_size(32)));

/* For memory: elements aligned, vectors not. */
typedef float f32v_unaligned __attribute__((vector_size(32), aligned(4), may_alias));

#endif /* FV_TILE_VECTOR_H */

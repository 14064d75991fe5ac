/* tile_portable.c - the inner loops for any processor: products and sums rounded separately. */
#include <stdint.h>
#include <string.h>

#include "tile_vector.h"

static void widen_f16(float *to, const uint16_t *from, int64_t count);

#define fv_multiply_add(a, b, c) ((a) * (b) + (c))
#define FV_TILE_TABLE fv_tile_kernels_portable
#include "tile_kernels.inc.h"

static void widen_f16(float *to, const uint16_t *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_f16_to_f32(from[i]);
}

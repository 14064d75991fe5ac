/* tile_avx2.c - the inner loops for processors with AVX2, FMA and F16C. Compiled with those
 * enabled; called only after the processor was asked (fovea_create). */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "tile_vector.h"

static void widen_f16(float *to, const uint16_t *from, int64_t count);

#define fv_multiply_add(a, b, c) ((f32v)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define FV_TILE_TABLE fv_tile_kernels_avx2
#include "tile_kernels.inc.h"

static void widen_f16(float *to, const uint16_t *from, int64_t count) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
  }
  for (; i < count; ++i) to[i] = fv_f16_to_f32(from[i]);
}

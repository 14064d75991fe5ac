/* tile_avx512.c - the inner loops for processors with AVX-512 (F, BW, DQ, VL). Compiled with those
 * enabled; called only after the processor was asked (fovea_create). */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FV_LANES 16
#define FV_PANEL_ROWS 12 /* 24 accumulators and 2 operands, of 32 registers */
#define FV_ROW_LANES 16
#define FV_ROW_KEYS 4
#define FV_ROW_VECTORS 4
#include "tile_vector.h"

#define fv_multiply_add(a, b, c) ((f32v)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define fv_multiply_add_row fv_multiply_add
#define fv_scale(p, n) ((f32v)_mm512_scalef_ps((__m512)(p), (__m512)(n)))
#define fv_larger(a, b) ((f32v)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define fv_smaller(a, b) ((f32v)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define fv_any(mask) (_mm512_test_epi32_mask((__m512i)(mask), (__m512i)(mask)) != 0)

#include "tile_x86.inc.h"

static inline __attribute__((always_inline)) f32r load_lanes(const void *from, uint32_t dtype,
                                                             int32_t d) {
  if (dtype == FOVEA_F32) return _mm512_loadu_ps((const float *)from + d);
  __m256i codes = _mm256_loadu_si256((const __m256i *)((const uint16_t *)from + d));
  if (dtype == FOVEA_F16) return _mm512_cvtph_ps(codes);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
}

static inline __attribute__((always_inline)) f32r load_half(const void *from, uint32_t dtype,
                                                            int32_t d) {
  return _mm512_zextps256_ps512(load_typed(from, dtype, d));
}

#define FV_TILE_TABLE fv_tile_kernels_avx512
#include "tile_kernels.inc.h"

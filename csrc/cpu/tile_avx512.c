/* tile_avx512.c - the inner loops for processors with AVX-512 (F, BW, DQ, VL). The file is compiled
 * with those enabled. Calls happen only after fovea_create has found them in the processor. */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FV_LANES 16
#define FV_PANEL_ROWS 12 /* of 32 registers: 24 accumulators and 2 operands */
#define FV_ROW_LANES 16
#define FV_ROW_KEYS 4
#define FV_ROW_VECTORS 4
#define FV_READS_BLOCKS true
#include "csrc/cpu/tile_vector.h"

#define fv_multiply_add(a, b, c) ((f32v)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define fv_multiply_add_row fv_multiply_add
#define fv_scale(p, n) ((f32v)_mm512_scalef_ps((__m512)(p), (__m512)(n)))
#define fv_larger(a, b) ((f32v)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define fv_smaller(a, b) ((f32v)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define fv_any(mask) (_mm512_test_epi32_mask((__m512i)(mask), (__m512i)(mask)) != 0)

#define fv_multiply_add_wide(a, b, c) \
  ((f64v)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define fv_low_half(x) ((f64v)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)(x))))
#define fv_high_half(x) ((f64v)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)(x), 1)))
#define fv_narrow_halves(low, high)                                                  \
  ((f32v)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)(low))), \
                            _mm512_cvtpd_ps((__m512d)(high)), 1))

#include "csrc/cpu/tile_x86.inc.h"

static inline __attribute__((always_inline)) f32r load_half_block(const void *from, uint32_t dtype,
                                                                  int32_t d) {
  const uint8_t *block = fv_block_of(dtype, from, d), *bytes = block + FV_BLOCK_SCALE_BYTES;
  const __m256i scale = _mm256_set1_epi16(*(const fv_block_code *)block);
  const int32_t first = dtype == FOVEA_Q8_0 ? d & 16 : 0;
  __m128i codes = _mm_loadu_si128((const __m128i *)(bytes + first));
  if (dtype == FOVEA_Q4_0) codes = q4_0_codes(codes, d);
  return _mm512_mul_ps(_mm512_cvtph_ps(scale), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes)));
}

static inline __attribute__((always_inline)) f32r load_lanes(const void *from, uint32_t dtype,
                                                             int32_t d) {
  if (fv_dtype_is_blocks(dtype)) return load_half_block(from, dtype, d);
  if (dtype == FOVEA_F32) return _mm512_loadu_ps((const float *)from + d);
  __m256i codes = _mm256_loadu_si256((const __m256i *)((const uint16_t *)from + d));
  if (dtype == FOVEA_F16) return _mm512_cvtph_ps(codes);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(codes), 16));
}

static inline __attribute__((always_inline)) f32r load_half(const void *from, uint32_t dtype,
                                                            int32_t d) {
  return _mm512_zextps256_ps512(load_typed(from, dtype, d));
}

static inline __attribute__((always_inline)) f32x4 sum_four(f32r a, f32r b, f32r c, f32r d) {
  __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  __m512 quarters = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  __m256 halves = _mm512_castps512_ps256(quarters) + _mm512_extractf32x8_ps(quarters, 1);
  return _mm256_castps256_ps128(halves) + _mm256_extractf128_ps(halves, 1);
}

#define FV_TILE_TABLE fv_tile_kernels_avx512
#include "csrc/cpu/tile_kernels.inc.h"

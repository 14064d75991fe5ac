/* tile_avx2.c - the inner loops for processors with AVX2, FMA and F16C. The file is compiled with
 * those enabled. Calls happen only after fovea_create has found them in the processor. */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FV_LANES 8
#define FV_PANEL_ROWS 6 /* of 16 registers: 12 accumulators, 2 operands and a factor */
#define FV_ROW_LANES 8
#define FV_ROW_KEYS 3
#define FV_ROW_VECTORS 2
#define FV_READS_BLOCKS true
#include "csrc/cpu/tile_vector.h"

#define fv_multiply_add(a, b, c) ((f32v)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define fv_multiply_add_row fv_multiply_add
#define fv_larger(a, b) ((f32v)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define fv_smaller(a, b) ((f32v)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define fv_any(mask) (_mm256_movemask_ps((__m256)(mask)) != 0)

#define fv_multiply_add_wide(a, b, c) \
  ((f64v)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define fv_low_half(x) ((f64v)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)(x))))
#define fv_high_half(x) ((f64v)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)(x), 1)))
#define fv_narrow_halves(low, high) \
  ((f32v)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)(high)), _mm256_cvtpd_ps((__m256d)(low))))

#include "csrc/cpu/tile_x86.inc.h"

static inline __attribute__((always_inline)) f32x4 sum_four(f32r a, f32r b, f32r c, f32r d) {
  __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
  __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
  __m256 quarters = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  return _mm256_castps256_ps128(quarters) + _mm256_extractf128_ps(quarters, 1);
}

#define load_lanes load_typed
#define load_half load_typed
#define FV_TILE_TABLE fv_tile_kernels_avx2
#include "csrc/cpu/tile_kernels.inc.h"

/* tile_x86.inc.h - what the inner loops for AVX2 and AVX-512 have in common: the conversions of
 * F16C, elements of blocks, and the transposition of eight rows. Each includes it once, after
 * tile_vector.h. */
#include <immintrin.h>

#include "csrc/host/block.h"
#include "csrc/numeric.h"
#include "csrc/problem.h"

/* count is a multiple of 8, as dims are. */
static void widen_f16(float *to, const uint16_t *from, int64_t count) {
  for (int64_t i = 0; i < count; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
  }
}

/* The conversion would keep the sign and the upper bits of a NaN. So each NaN is replaced first, by
 * one that becomes the format's NaN (numeric.h). */
static void narrow_f16(uint16_t *to, const float *from, int64_t count) {
  const __m256 nan = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  for (int64_t i = 0; i < count; i += 8) {
    __m256 x = _mm256_loadu_ps(from + i);
    x = _mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
}

/* What is stored of the elements of a block from d on, d being a multiple of 8: of q4_0 the low or
 * the high halves of the block's 16 bytes, from byte d % 16 on, with an offset of 8. */
static inline __attribute__((always_inline)) __m128i q4_0_codes(__m128i bytes, int32_t d) {
  bytes = _mm_srl_epi16(bytes, _mm_cvtsi32_si128((d & 16) / 4));
  return _mm_sub_epi8(_mm_and_si128(bytes, _mm_set1_epi8(15)), _mm_set1_epi8(8));
}

static inline __attribute__((always_inline)) f32x8 load_block(const void *from, uint32_t dtype,
                                                              int32_t d) {
  const uint8_t *block = fv_block_of(dtype, from, d), *bytes = block + FV_BLOCK_SCALE_BYTES;
  const __m128i scale = _mm_set1_epi16(*(const fv_block_code *)block);
  const int32_t first = dtype == FOVEA_Q8_0 ? d & 31 : d & 8;
  __m128i codes = _mm_loadl_epi64((const __m128i *)(bytes + first));
  if (dtype == FOVEA_Q4_0) codes = q4_0_codes(codes, d);
  return _mm256_mul_ps(_mm256_cvtph_ps(scale), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)));
}

static inline __attribute__((always_inline)) f32x8 load_typed(const void *from, uint32_t dtype,
                                                              int32_t d) {
  if (fv_dtype_is_blocks(dtype)) return load_block(from, dtype, d);
  if (dtype == FOVEA_F32) return _mm256_loadu_ps((const float *)from + d);
  __m128i codes = _mm_loadu_si128((const __m128i *)((const uint16_t *)from + d));
  if (dtype == FOVEA_F16) return _mm256_cvtph_ps(codes);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(codes), 16));
}

/* Transposes 8x8 blocks: pairs of rows are interleaved by 1, by 2 and by 4 elements. */
static inline __attribute__((always_inline)) void transpose_typed(float *to, int32_t stride,
                                                                  const void *const *rows,
                                                                  const uint32_t dtype,
                                                                  int32_t dim) {
  for (int32_t d = 0; d < dim; d += 8) {
    __m256 one[8], two[8], x[8];
    for (int r = 0; r < 8; ++r) x[r] = load_typed(rows[r], dtype, d);
    for (int r = 0; r < 8; r += 2) {
      one[r] = _mm256_unpacklo_ps(x[r], x[r + 1]);
      one[r + 1] = _mm256_unpackhi_ps(x[r], x[r + 1]);
    }
    for (int r = 0; r < 8; r += 4) {
      two[r] = _mm256_shuffle_ps(one[r], one[r + 2], 0x44);
      two[r + 1] = _mm256_shuffle_ps(one[r], one[r + 2], 0xee);
      two[r + 2] = _mm256_shuffle_ps(one[r + 1], one[r + 3], 0x44);
      two[r + 3] = _mm256_shuffle_ps(one[r + 1], one[r + 3], 0xee);
    }
    float *block = to + (int64_t)d * stride;
    for (int c = 0; c < 4; ++c) {
      _mm256_storeu_ps(block + c * stride, _mm256_permute2f128_ps(two[c], two[c + 4], 0x20));
    }
    for (int c = 0; c < 4; ++c) {
      _mm256_storeu_ps(block + (c + 4) * stride, _mm256_permute2f128_ps(two[c], two[c + 4], 0x31));
    }
  }
}

static void transpose(float *to, int32_t stride, const void *const *rows, uint32_t dtype,
                      int32_t dim) {
  if (dtype == FOVEA_F32) {
    transpose_typed(to, stride, rows, FOVEA_F32, dim);
  } else if (dtype == FOVEA_F16) {
    transpose_typed(to, stride, rows, FOVEA_F16, dim);
  } else if (dtype == FOVEA_Q8_0) {
    transpose_typed(to, stride, rows, FOVEA_Q8_0, dim);
  } else if (dtype == FOVEA_Q4_0) {
    transpose_typed(to, stride, rows, FOVEA_Q4_0, dim);
  } else {
    transpose_typed(to, stride, rows, FOVEA_BF16, dim);
  }
}

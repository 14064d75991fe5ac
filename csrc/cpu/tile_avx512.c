/* tile_avx512.c - the inner loops for processors with AVX-512 (F, BW, DQ, VL). Compiled with those
 * enabled; called only after the processor was asked (fovea_create). */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FV_LANES 16
#define FV_PANEL_ROWS 12 /* 24 accumulators and 2 operands, of 32 registers */
#include "tile_vector.h"

#define fv_multiply_add(a, b, c) ((f32v)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define fv_multiply_add8(a, b, c) ((f32x8)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define fv_larger(a, b) ((f32v)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define fv_smaller(a, b) ((f32v)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define fv_any(mask) (_mm512_test_epi32_mask((__m512i)(mask), (__m512i)(mask)) != 0)

#include "tile_x86.inc.h"

#define FV_TILE_TABLE fv_tile_kernels_avx512
#include "tile_kernels.inc.h"

/* vector.c - see vector.h.
 *
 * Vectors of 16 floats: one register with AVX-512, two with AVX2, four with SSE2. A row is read
 * three times: for the maximum, for the exponentials and their sum, and for the division. Rows of
 * the lengths here stay in the first two cache levels meanwhile. */
#include "bench/pipelines/vector.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "csrc/numeric.h"

/* For functions of this file alone: clang 14 gives clones a name that other files do not find. */
#if defined(__x86_64__)
#define FOR_EACH_ISA __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FOR_EACH_ISA
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };
typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

/* Passed by address: how vectors are passed by value depends on the instruction set. */
ALWAYS_INLINE void load(floats *to, const float *from) {
  memcpy(to, from, sizeof *to);
}

ALWAYS_INLINE void maximum(floats *a, const floats *b) {
  ints larger = *a > *b;
  *a = (floats)((larger & (ints)*a) | (~larger & (ints)*b));
}

/* exp(x) for x <= 0: 2^n through the exponent's bits, the rest by Taylor's polynomial of degree 6.
 * Its error for |f| <= ln(2) / 2 is below 0.3466^7 / 5040 = 1.2e-7, an ulp. Below -87 the results
 * would be subnormal; exp(-87) = 1.6e-38 replaces them, which is nothing beside the row's maximum
 * of 1. */
ALWAYS_INLINE void exponential(floats *x) {
  const float log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves a whole number */
  floats least = (floats){0} - 87.0f, t = *x;
  maximum(&t, &least);
  floats shifted = t * log2e + round;
  floats n = shifted - round;
  floats f = t - n * ln2_high - n * ln2_low;
  floats p = f * (1.0f / 720) + 1.0f / 120;
  p = p * f + 1.0f / 24;
  p = p * f + 1.0f / 6;
  p = p * f + 0.5f;
  p = p * f + 1.0f;
  p = p * f + 1.0f;
  ints exponent = __builtin_convertvector(n, ints) << 23;
  *x = (floats)((ints)p + exponent);
}

ALWAYS_INLINE float largest(const float *row, int64_t count) {
  float most = -INFINITY;
  int64_t i = 0;
  if (count >= LANES) {
    floats lanes, next;
    load(&lanes, row);
    for (i = LANES; i + LANES <= count; i += LANES) {
      load(&next, row + i);
      maximum(&lanes, &next);
    }
    for (int lane = 0; lane < LANES; ++lane) most = fmaxf(most, lanes[lane]);
  }
  for (; i < count; ++i) most = row[i] > most ? row[i] : most;
  return most;
}

/* The last, partial vector is filled up with the least value, and its surplus is not stored. */
ALWAYS_INLINE float exponentials(float *row, int64_t count, float most) {
  floats sums = {0}, x;
  float sum = 0;
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    load(&x, row + i);
    x = x - most;
    exponential(&x);
    sums += x;
    memcpy(row + i, &x, sizeof x);
  }
  if (i < count) {
    size_t bytes = (size_t)(count - i) * sizeof *row;
    x = (floats){0} + most;
    memcpy(&x, row + i, bytes);
    x = x - most;
    exponential(&x);
    memcpy(row + i, &x, bytes);
    for (; i < count; ++i) sum += row[i];
  }
  for (int lane = 0; lane < LANES; ++lane) sum += sums[lane];
  return sum;
}

FOR_EACH_ISA static void softmax(float *row, int64_t visible) {
  float sum = exponentials(row, visible, largest(row, visible));
  float inverse = visible ? 1 / sum : 0;
  for (int64_t i = 0; i < visible; ++i) row[i] *= inverse;
}

void fv_bench_softmax(float *row, int64_t visible, int64_t count) {
  if (visible < 0) visible = 0;
  softmax(row, visible);
  memset(row + visible, 0, (size_t)(count - visible) * sizeof *row);
}

/* ---- Additive scores ---- */

FOR_EACH_ISA static void add(float *to, const float *a, const float *b, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = a[i] + b[i];
}

void fv_bench_add(float *to, const float *a, const float *b, int64_t count) {
  add(to, a, b, count);
}

/* tanh(x) = (1 - e) / (1 + e) with e = exp(-2 |x|), and the sign of x. Off by a few u of 1. */
ALWAYS_INLINE void tanhs(float *row, size_t count) {
  floats x = {0};
  memcpy(&x, row, count * sizeof *row);
  ints sign = (ints)x & INT32_MIN;
  floats e = (floats)((ints)x | INT32_MIN) * 2;
  exponential(&e);
  x = (1 - e) / (1 + e);
  x = (floats)((ints)x | sign);
  memcpy(row, &x, count * sizeof *row);
}

FOR_EACH_ISA static void tanh_in_place(float *row, int64_t count) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) tanhs(row + i, LANES);
  tanhs(row + i, (size_t)(count - i));
}

void fv_bench_tanh(float *row, int64_t count) {
  tanh_in_place(row, count);
}

/* ---- 16-bit formats ---- */

FOR_EACH_ISA static void widen_bf16(float *to, const uint16_t *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_bf16_to_f32(from[i]);
}

/* Results of attention on finite values are finite, so no NaN can lose its last bit here. */
FOR_EACH_ISA static void narrow_bf16(uint16_t *to, const float *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits = fv_bits_from_f32(from[i]);
    to[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

static void widen_f16_by_one(float *to, const uint16_t *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_f16_to_f32(from[i]);
}

static void narrow_f16_by_one(uint16_t *to, const float *from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = fv_f16_from_f32(from[i]);
}

#if defined(__x86_64__)
__attribute__((target("avx,f16c"))) static void widen_f16_by_eight(float *to, const uint16_t *from,
                                                                   int64_t count) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
  }
  widen_f16_by_one(to + i, from + i, count - i);
}

__attribute__((target("avx,f16c"))) static void narrow_f16_by_eight(uint16_t *to, const float *from,
                                                                    int64_t count) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(_mm256_loadu_ps(from + i), 0));
  }
  narrow_f16_by_one(to + i, from + i, count - i);
}

/* Not every compiler's __builtin_cpu_supports knows the name f16c; v3 includes it. */
static bool has_f16c(void) {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

void fv_bench_widen(float *to, const uint16_t *from, int64_t count, fovea_dtype dtype) {
  if (dtype == FOVEA_BF16) {
    widen_bf16(to, from, count);
    return;
  }
#if defined(__x86_64__)
  if (has_f16c()) {
    widen_f16_by_eight(to, from, count);
    return;
  }
#endif
  widen_f16_by_one(to, from, count);
}

void fv_bench_narrow(uint16_t *to, const float *from, int64_t count, fovea_dtype dtype) {
  if (dtype == FOVEA_BF16) {
    narrow_bf16(to, from, count);
    return;
  }
#if defined(__x86_64__)
  if (has_f16c()) {
    narrow_f16_by_eight(to, from, count);
    return;
  }
#endif
  narrow_f16_by_one(to, from, count);
}

/* truncate.h - the sums of mma as tensor cores make them: f16 and bf16 products, f32 accumulators.
 *
 * Products are exact. The addends are the accumulator and the products of a block of k. An addend
 * has the exponent of its factors, added, so that a product's significand is below 4. Zeros have
 * none. Each addend is cut, towards zero, to a multiple of 2^(largest exponent - bits); the cut
 * ones are added exactly; the sum is normalised and cut to f32. The blocks of one instruction
 * follow each other.
 *
 * What each generation does has been found by experiment: Fasi, Higham, Mikaitis, Pranesh, PeerJ
 * CS 330 (2021), for V100, T4 and A100; Khattak, Mikaitis, arXiv 2512.07004 (2025), for H100 and
 * later, with models that repeat recordings of GPUs bit by bit; Xie et al., arXiv 2511.10909.
 *
 *   | form  | block | bits | where                                              |
 *   | sm_80 |     8 |   24 | A100, and by the same experiments sm_86 and sm_89  |
 *   | sm_90 |    16 |   25 | H100; Blackwell has the same                       |
 *
 * f32 has 23 bits behind the point, so these are one and two more (V100: none, blocks of 4).
 * Nothing is published on NaN bits; an infinity or a NaN is what a sum in f64 makes of it. */
#ifndef FOVEA_SIMGPU_ALU_TRUNCATE_H
#define FOVEA_SIMGPU_ALU_TRUNCATE_H

#include "simgpu/alu/float.h"

enum { M = 16, N = 8, K_MAX = 32 };

/* So that a handler's clone for AVX2 has all of it in AVX2. */
#define SIM_INLINE __attribute__((always_inline)) static inline

/* block: 8, or no less than every K. least: no largest exponent is below it (from the models of the
 * second paper). */
struct sim_truncation {
  const char *name;
  s32 block, bits, least;
};

/* Exponents that stand for others: a zero has none, an infinity or a NaN asks for care. Whatever is
 * added to them, they stay on their side of the exponents that the fast way takes. */
enum { NO_EXPONENT = -1024, NOT_FINITE = 8192 };

/* A subnormal of the format that the value comes from has that format's least exponent. */
static inline s32 exponent_of(f32 value, s32 least) {
  u32 magnitude = sim_f32_bits(value) & 0x7fffffff;
  s32 exponent = (s32)(magnitude >> 23) - 127;
  exponent = exponent < least ? least : exponent;
  exponent = magnitude ? exponent : NO_EXPONENT;
  return magnitude < 0x7f800000 ? exponent : NOT_FINITE;
}

/* The finite value, cut to f32. From 2^128 on it is infinite. */
static inline f32 cut_to_f32(f64 value) {
  f32 near = (f32)value;
  bool is_above = fabs((f64)near) > fabs(value) && fabs(value) < 0x1p128;
  return is_above ? sim_f32_of(sim_f32_bits(near) - 1) : near;
}

/* One element, one block, by the definition above. f64 holds every product exactly. */
static f32 add_block(const struct sim_truncation *form, f32 c, const f32 *a, const f32 (*b)[N],
                     s32 count, s32 least) {
  s32 top = form->least, of_c = exponent_of(c, -126);
  top = of_c > top ? of_c : top;
  f64 plain = c;
  for (s32 k = 0; k < count; k++) {
    s32 exponent = exponent_of(a[k], least) + exponent_of(b[k][0], least);
    top = exponent > top ? exponent : top;
    plain += (f64)a[k] * b[k][0];
  }
  if (top > NOT_FINITE / 2) return (f32)plain;
  f64 sum = 0;
  sum += trunc(ldexp(c, form->bits - top)); /* a sum of nothing is +0, even if c is -0 */
  for (s32 k = 0; k < count; k++) sum += trunc(ldexp((f64)a[k] * b[k][0], form->bits - top));
  return cut_to_f32(ldexp(sum, top - form->bits));
}

/* A row of the result as a vector: without these types the compiler adds elements one by one. */
typedef f32 f32x8 __attribute__((vector_size(sizeof(f32) * N)));
typedef s32 s32x8 __attribute__((vector_size(sizeof(s32) * N)));
typedef f64 f64x8 __attribute__((vector_size(sizeof(f64) * N)));
typedef s64 s64x8 __attribute__((vector_size(sizeof(s64) * N)));

/* The fast way takes a row whose largest exponents lie here. Then the scale below is a normal
 * number, no product exceeds f32, a product too small for f32 is cut to zero, and no result is
 * subnormal. */
enum { LEAST_TOP = -100, MOST_TOP = 126 };

/* exponent_of for eight values that follow each other. */
SIM_INLINE void find_exponents(s32 *exponents, const f32 *values, s32 least) {
  s32x8 magnitude, exponent, is_less, is_zero, is_infinite;
  memcpy(&magnitude, values, sizeof magnitude);
  magnitude &= 0x7fffffff;
  exponent = (magnitude >> 23) - 127;
  is_less = exponent < least;
  is_zero = magnitude == 0;
  is_infinite = magnitude >= 0x7f800000;
  exponent = (exponent & ~is_less) | (least & is_less);
  exponent = (exponent & ~(is_zero | is_infinite)) | (NO_EXPONENT & is_zero);
  exponent |= NOT_FINITE & is_infinite;
  memcpy(exponents, &exponent, sizeof exponent);
}

/* The largest exponents of a row's addends. False: some element must be added by add_block. */
SIM_INLINE bool find_tops(s32x8 *top, const s32 *of_c, const s32 *of_a, const s32 (*of_b)[N],
                          s32 count) {
  s32x8 largest, exponent;
  memcpy(&largest, of_c, sizeof largest);
  for (s32 k = 0; k < count; k++) {
    memcpy(&exponent, of_b[k], sizeof exponent);
    exponent += of_a[k];
    s32x8 is_larger = exponent > largest;
    largest = (exponent & is_larger) | (largest & ~is_larger);
  }
  largest &= largest > NO_EXPONENT / 2; /* no addend but zeros: any exponent does */
  *top = largest;
  s32x8 is_outside = (largest < LEAST_TOP) | (largest > MOST_TOP);
  u64 outside[4];
  memcpy(outside, &is_outside, sizeof outside);
  return !(outside[0] | outside[1] | outside[2] | outside[3]);
}

/* Adds a block to a row of the result. */
SIM_INLINE void add_to_row(s32 bits, const s32x8 *top, f32 *c, const f32 *a, const f32 (*b)[N],
                           s32 count) {
  f32x8 scale, addend, row;
  s32x8 scale_bits = (bits + 127 - *top) << 23;
  memcpy(&scale, &scale_bits, sizeof scale);
  memcpy(&addend, c, sizeof addend);
  /* Eight products below 2^(bits + 2) and an accumulator fit into 32 bits; sixteen do not. */
  s32x8 low = __builtin_convertvector(addend * scale, s32x8), high = {0};
  for (s32 k = 0; k < count; k++) {
    memcpy(&row, b[k], sizeof row);
    s32x8 cut = __builtin_convertvector(a[k] * row * scale, s32x8);
    if (k < 8) {
      low += cut;
    } else {
      high += cut;
    }
  }
  f64x8 unit, sum = __builtin_convertvector(low, f64x8);
  if (count > 8) sum += __builtin_convertvector(high, f64x8);
  s64x8 unit_bits = __builtin_convertvector(*top - bits + 1023, s64x8) << 52, sum_bits;
  memcpy(&unit, &unit_bits, sizeof unit);
  sum *= unit;
  memcpy(&sum_bits, &sum, sizeof sum_bits);
  sum_bits &= ~(s64)0x1fffffff; /* of 52 bits 23 are left */
  memcpy(&sum, &sum_bits, sizeof sum);
  addend = __builtin_convertvector(sum, f32x8);
  memcpy(c, &addend, sizeof addend);
}

SIM_INLINE void add_blocks(const struct sim_truncation *form, f32 c[M][N], const f32 a[M][K_MAX],
                           const f32 b[K_MAX][N], s32 K, s32 count, s32 least) {
  s32 of_a[M][K_MAX], of_b[K_MAX][N], of_c[M][N];
  for (s32 m = 0; m < M; m++) {
    for (s32 k = 0; k < K; k += N) find_exponents(of_a[m] + k, a[m] + k, least);
  }
  for (s32 k = 0; k < K; k++) find_exponents(of_b[k], b[k], least);
  for (s32 k = 0; k < K; k += count) {
    for (s32 m = 0; m < M; m++) find_exponents(of_c[m], c[m], -126);
    for (s32 m = 0; m < M; m++) {
      s32x8 top;
      if (find_tops(&top, of_c[m], of_a[m] + k, of_b + k, count)) {
        add_to_row(form->bits, &top, c[m], a[m] + k, b + k, count);
        continue;
      }
      for (s32 n = 0; n < N; n++) {
        c[m][n] = add_block(form, c[m][n], a[m] + k, (const f32(*)[N])(b[k] + n), count, least);
      }
    }
  }
}

/* C += A B, where K columns of A are used. least: the least exponent of the format of A and B. The
 * blocks' size is a constant of the compiler's, so that it unrolls the loops over k. */
SIM_INLINE void multiply_truncating(const struct sim_truncation *form, f32 c[M][N],
                                    const f32 a[M][K_MAX], const f32 b[K_MAX][N], s32 K,
                                    s32 least) {
  if (form->block < K) {
    add_blocks(form, c, a, b, K, 8, least);
  } else {
    add_blocks(form, c, a, b, K, K, least);
  }
}

#endif /* FOVEA_SIMGPU_ALU_TRUNCATE_H */

/* element_run.h - runs of contiguous elements between memory and f32.
 *
 * The dtype is looked up once per run, not once per element. Loads are exact. Stores round once and
 * write one NaN per format, so that results of two devices can be compared bit by bit. The header
 * lists these NaNs at fovea_kv_append. */
#ifndef FOVEA_CSRC_HOST_ELEMENT_RUN_H
#define FOVEA_CSRC_HOST_ELEMENT_RUN_H

#include <stddef.h>

#include "csrc/host/element.h"

/* x, or the canonical NaN if x is any NaN. */
static inline float fv_f32_canonical(float x) {
  return x == x ? x : fv_f32_from_bits(UINT32_C(0x7fffffff));
}

/* A choice without a branch: a loop with `?:` over sums does not become vector code, because the
 * compiler keeps a sum from being computed where it is not wanted. */
static inline uint32_t fv_choose(int condition, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0u - (uint32_t)condition;
  return (yes & mask) | (no & ~mask);
}

/* As fv_f16_to_f32, in a form that becomes vector code on every machine: numbers by shifting the
 * exponent's bias, subnormals by a difference that is exact. */
static inline float fv_widen_f16(uint16_t code) {
  const uint32_t magnitude = (code & 0x7fffu) << 13;
  const float shifted = fv_f32_from_bits(magnitude + (113u << 23)) - 0x1p-14f;
  uint32_t bits = magnitude + (112u << 23);
  bits = fv_choose((int32_t)magnitude < 1 << 23, fv_bits_from_f32(shifted), bits);
  bits = fv_choose((int32_t)magnitude >= 31 << 23, 0x7f800000u, bits);
  bits = fv_choose((int32_t)magnitude > 31 << 23, 0x7fc00000u, bits);
  return fv_f32_from_bits(bits | (code & 0x8000u) << 16);
}

/* x[i] = data[first + i] for i < count; dtype is f32, f16 or bf16. */
static inline void fv_load_run(const void *data, uint32_t dtype, int64_t first, int64_t count,
                               float *x) {
  if (dtype == FOVEA_F32) {
    memcpy(x, (const float *)data + first, (size_t)count * sizeof(float));
  } else if (dtype == FOVEA_F16) {
    const uint16_t *codes = (const uint16_t *)data + first;
    for (int64_t i = 0; i < count; ++i) x[i] = fv_widen_f16(codes[i]);
  } else {
    const uint16_t *codes = (const uint16_t *)data + first;
    for (int64_t i = 0; i < count; ++i) x[i] = fv_bf16_to_f32(codes[i]);
  }
}

/* A floating point format, for narrowing without branches, so that loops become vector code.
 * numeric.c narrows any formats and is slower by an order of magnitude. */
typedef struct fv_narrow_format {
  int32_t drop;       /* mantissa bits that f32 has more */
  int32_t rebias;     /* the difference of the exponents' biases, as bits of f32 */
  int32_t min_normal; /* as bits of f32 */
  float step;         /* a number whose last bit is worth a subnormal's */
  uint32_t limit;     /* where overflow goes */
  uint32_t nan;
  int32_t sign_bit;
} fv_narrow_format;

#define FV_NARROW_F16 ((fv_narrow_format){13, 112 << 23, 113 << 23, 0x1p-1f, 0x7c00, 0x7fff, 15})
#define FV_NARROW_BF16 ((fv_narrow_format){16, 0, 0, 0, 0x7f80, 0x7fff, 15}) /* f32's exponents */
#define FV_NARROW_E4M3 ((fv_narrow_format){20, 120 << 23, 121 << 23, 0x1p14f, 0x7e, 0x7f, 7})
#define FV_NARROW_E5M2 ((fv_narrow_format){21, 112 << 23, 113 << 23, 0x1p7f, 0x7b, 0x7f, 7})

/* The code of x. A carry out of the mantissa moves to the next exponent by itself; below the normal
 * numbers, adding `step` rounds to the right bit. */
static inline uint32_t fv_code_of(float x, fv_narrow_format f) {
  const uint32_t bits = fv_bits_from_f32(x), magnitude = bits & UINT32_C(0x7fffffff);
  const uint32_t rounding = (1u << (f.drop - 1)) - 1 + (magnitude >> f.drop & 1);
  const float sum = fv_f32_from_bits(magnitude) + f.step;
  const int32_t normal = (int32_t)(magnitude - (uint32_t)f.rebias + rounding) >> f.drop;
  const uint32_t subnormal = fv_bits_from_f32(sum) - fv_bits_from_f32(f.step);
  uint32_t code = fv_choose((int32_t)magnitude < f.min_normal, subnormal, (uint32_t)normal);
  code = fv_choose((int32_t)code > (int32_t)f.limit, f.limit, code);
  code |= bits >> 31 << f.sign_bit;
  return fv_choose((int32_t)magnitude > INT32_C(0x7f800000), f.nan, code);
}

/* Of the integer nearest to x in [-128, 127]: the sum's last bit is worth 1. 0 for a NaN. */
static inline uint32_t fv_narrow_i8(float x) {
  uint32_t bits = fv_choose(x < 127, fv_bits_from_f32(x), fv_bits_from_f32(127));
  bits = fv_choose(x > -128, bits, fv_bits_from_f32(-128));
  const uint32_t code = fv_bits_from_f32(fv_f32_from_bits(bits) + 0x1.8p23f);
  return fv_choose(x == x, code & 0xff, 0);
}

static inline void fv_store_run_8bit(uint8_t *codes, uint32_t dtype, int64_t count,
                                     const float *x) {
  if (dtype == FOVEA_E4M3) {
    for (int64_t i = 0; i < count; ++i) codes[i] = (uint8_t)fv_code_of(x[i], FV_NARROW_E4M3);
  } else if (dtype == FOVEA_E5M2) {
    for (int64_t i = 0; i < count; ++i) codes[i] = (uint8_t)fv_code_of(x[i], FV_NARROW_E5M2);
  } else {
    for (int64_t i = 0; i < count; ++i) codes[i] = (uint8_t)fv_narrow_i8(x[i]);
  }
}

/* data[first + i] = x[i] for i < count, rounded to nearest even; dtype is any but u8. */
static inline void fv_store_run(void *data, uint32_t dtype, int64_t first, int64_t count,
                                const float *x) {
  if (dtype == FOVEA_F32) {
    float *to = (float *)data + first;
    for (int64_t i = 0; i < count; ++i) to[i] = fv_f32_canonical(x[i]);
  } else if (dtype == FOVEA_F16) {
    uint16_t *codes = (uint16_t *)data + first;
    for (int64_t i = 0; i < count; ++i) codes[i] = (uint16_t)fv_code_of(x[i], FV_NARROW_F16);
  } else if (dtype == FOVEA_BF16) {
    uint16_t *codes = (uint16_t *)data + first;
    for (int64_t i = 0; i < count; ++i) codes[i] = (uint16_t)fv_code_of(x[i], FV_NARROW_BF16);
  } else {
    fv_store_run_8bit((uint8_t *)data + first, dtype, count, x);
  }
}

/* ---- Blocks ---- */

/* The largest magnitude of a block; a NaN counts as 0. Magnitudes are in the order of their bits,
 * of which a NaN has more than an infinity. */
static inline float fv_largest_of_block(const float *x) {
  int32_t most = 0;
  for (int i = 0; i < FV_BLOCK_LEN; ++i) {
    int32_t bits = (int32_t)(fv_bits_from_f32(x[i]) & UINT32_C(0x7fffffff));
    bits = (int32_t)fv_choose(bits > INT32_C(0x7f800000), 0, (uint32_t)bits);
    most = bits > most ? bits : most;
  }
  return fv_f32_from_bits((uint32_t)most);
}

/* Writes a block's scale; returns 1 / scale, or 0. */
static inline float fv_store_block_scale(uint8_t *block, float scale) {
  const uint16_t code = (uint16_t)fv_code_of(scale, FV_NARROW_F16);
  memcpy(block, &code, sizeof code);
  return scale != 0 ? 1 / scale : 0;
}

/* The distance of |x| from the integer below it is exact, so halves are found without an error. */
static inline void fv_store_q8_0(uint8_t *block, const float *x) {
  const float inverse = fv_store_block_scale(block, fv_largest_of_block(x) / 127);
  for (int i = 0; i < FV_BLOCK_LEN; ++i) {
    const float scaled = x[i] * inverse;
    const uint32_t bits = fv_bits_from_f32(scaled), magnitude = bits & UINT32_C(0x7fffffff);
    uint32_t limited =
        fv_choose(fv_f32_from_bits(magnitude) < 127, magnitude, fv_bits_from_f32(127));
    limited = fv_choose(scaled == scaled, limited, 0);
    const float size = fv_f32_from_bits(limited);
    const int32_t below = (int32_t)size, sign = -(int32_t)(bits >> 31);
    const int32_t nearest = below + (size - (float)below >= 0.5f);
    block[FV_BLOCK_SCALE_BYTES + i] = (uint8_t)((nearest ^ sign) - sign);
  }
}

/* The first element of the largest magnitude, with its sign; 0 for a block of zeros. */
static inline float fv_first_largest(const float *x) {
  const float most = fv_largest_of_block(x);
  for (int i = 0; most > 0 && i < FV_BLOCK_LEN; ++i) {
    if (x[i] == most || x[i] == -most) return x[i];
  }
  return 0;
}

static inline uint32_t fv_half_byte(float scaled) {
  const float shifted = scaled + 8.5f;
  uint32_t bits = fv_choose(shifted > 0, fv_bits_from_f32(shifted), 0);
  bits = fv_choose(shifted < 15, bits, fv_bits_from_f32(15));
  bits = fv_choose(shifted == shifted, bits, fv_bits_from_f32(8));
  return (uint32_t)(int32_t)fv_f32_from_bits(bits);
}

static inline void fv_store_q4_0(uint8_t *block, const float *x) {
  const float inverse = fv_store_block_scale(block, fv_first_largest(x) / -8);
  uint8_t *bytes = block + FV_BLOCK_SCALE_BYTES;
  for (int i = 0; i < FV_BLOCK_LEN / 2; ++i) {
    const uint32_t low = fv_half_byte(x[i] * inverse);
    bytes[i] = (uint8_t)(low | fv_half_byte(x[FV_BLOCK_LEN / 2 + i] * inverse) << 4);
  }
}

/* Elements [first, first + count) of a row, which are whole blocks. */
static inline void fv_store_blocks(void *data, uint32_t dtype, int64_t first, int64_t count,
                                   const float *x) {
  uint8_t *block = (uint8_t *)data + fv_dtype_size(dtype, first);
  for (int64_t i = 0; i < count; i += FV_BLOCK_LEN, block += fv_dtype_block_bytes(dtype)) {
    if (dtype == FOVEA_Q8_0) {
      fv_store_q8_0(block, x + i);
    } else {
      fv_store_q4_0(block, x + i);
    }
  }
}

#endif /* FOVEA_CSRC_HOST_ELEMENT_RUN_H */

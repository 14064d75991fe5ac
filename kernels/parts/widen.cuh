// widen.cuh - codes of 8 bits become pairs of f16 or bf16, exactly: every e4m3, e5m2 and i8 is a
// number of both, but for a power of two, the unit. Four codes are one word, and become two pairs.
//
// Codes are moved by bytes (prmt) to the top of 16 bits, and their exponent and mantissa to where
// the wider type has them. Its exponent then means another power of two: that is the unit, or a
// product makes up for it. Integers are put below the leading one of a number of the wider type,
// which is then subtracted. PTX ISA 9.0, sections 9.7.9 (prmt, cvt) and 9.7.4 (half precision).
#ifndef FOVEA_KERNELS_PARTS_WIDEN_CUH
#define FOVEA_KERNELS_PARTS_WIDEN_CUH

#include "kernels/arch/sm80.cuh"
#include "kernels/shared/params_type.h"

// prmt.b32 d, a, b, selector; any sm; per thread. Byte i of the result is the byte that hexadecimal
// digit i of the selector names: 0 to 3 of a, 4 to 7 of b.
template <uint32_t SELECTOR>
__device__ __forceinline__ uint32_t fv_permute(uint32_t a, uint32_t b) {
  return __byte_perm(a, b, SELECTOR);
}

// Codes 2 HALF and 2 HALF + 1 of a word, each in the upper byte of 16 bits. The lower bytes are 0.
template <int HALF>
__device__ __forceinline__ uint32_t fv_codes_above(uint32_t codes) {
  return fv_permute < HALF ? 0x3424 : 0x1404 > (codes, 0);
}

// As above, in the lower bytes, below the bytes of `above`.
template <int HALF>
__device__ __forceinline__ uint32_t fv_codes_below(uint32_t codes, uint32_t above) {
  return fv_permute < HALF ? 0x7362 : 0x5140 > (codes, above);
}

// The sign of both codes of `codes`, and the bits of `shifted` that `magnitude` has.
__device__ __forceinline__ uint32_t fv_with_sign(uint32_t codes, uint32_t shifted,
                                                 uint32_t magnitude) {
  return (codes & 0x80008000) | (shifted & magnitude);
}

// cvt.rn.f16x2.e4m3x2 d, a; sm_89; per thread; exact, and NaN stays NaN. The pair is that of a's
// lower 16 bits, or of the upper ones.
template <int HALF>
__device__ __forceinline__ uint32_t fv_convert_e4m3(uint32_t codes) {
  uint32_t pair;
  if (HALF) {
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.rn.f16x2.e4m3x2 %0, high;}"
        : "=r"(pair)
        : "r"(codes));
  } else {
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.rn.f16x2.e4m3x2 %0, low;}"
        : "=r"(pair)
        : "r"(codes));
  }
  return pair;
}

// How pairs of Type are made of codes of TYPE. unit: a code's value is what the pair says times it.
// first_odd: magnitudes from this one on are NaN and come out as numbers; 0: none does.
template <class Type, uint32_t TYPE>
struct fv_widening;

template <>
struct fv_widening<fv_f16, FV_TYPE_E4M3> {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  static constexpr float unit = 1.0f;
  static constexpr uint32_t first_odd = 0;
  template <int HALF>
  static __device__ __forceinline__ uint32_t pair(uint32_t codes) {
    return fv_convert_e4m3<HALF>(codes);
  }
#else
  static constexpr float unit = 256.0f;  // 15 - 7: the biases of the exponents
  static constexpr uint32_t first_odd = 0x7f;
  template <int HALF>
  static __device__ __forceinline__ uint32_t pair(uint32_t codes) {
    uint32_t above = fv_codes_above<HALF>(codes);
    return fv_with_sign(above, above >> 1, 0x3f803f80);
  }
#endif
};

template <>
struct fv_widening<fv_f16, FV_TYPE_E5M2> {
  static constexpr float unit = 1.0f;
  static constexpr uint32_t first_odd = 0;
  template <int HALF>
  static __device__ __forceinline__ uint32_t pair(uint32_t codes) {
    return fv_codes_above<HALF>(codes);
  }
};

// 1024 + 128 + i, less 1152.
template <>
struct fv_widening<fv_f16, FV_TYPE_I8> {
  static constexpr float unit = 1.0f;
  static constexpr uint32_t first_odd = 0;
  template <int HALF>
  static __device__ __forceinline__ uint32_t pair(uint32_t codes) {
    uint32_t raised = fv_codes_below<HALF>(codes ^ 0x80808080, 0x64646464);
    return fv_f16::fused(raised, 0x3c003c00, 0xe480e480);
  }
};

// A pair of f16 as one of bf16, which has all bits of what e4m3 and e5m2 can say.
__device__ __forceinline__ uint32_t fv_bf16_from_f16(uint32_t pair) {
  return fv_bf16::pack(fv_f16::low(pair), fv_f16::high(pair));
}

// Without an instruction for e4m3: bf16 reaches down to 2^-133, and products with what is so small
// would lose bits. So the factor, 2^(127 - 7), is made up for at once. Subnormal numbers are
// multiplied as others are.
template <>
struct fv_widening<fv_bf16, FV_TYPE_E4M3> {
  static constexpr float unit = 1.0f;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  static constexpr uint32_t first_odd = 0;
  template <int HALF>
  static __device__ __forceinline__ uint32_t pair(uint32_t codes) {
    return fv_bf16_from_f16(fv_convert_e4m3<HALF>(codes));
  }
#else
  static constexpr uint32_t first_odd = 0x7f;
  template <int HALF>
  static __device__ __forceinline__ uint32_t pair(uint32_t codes) {
    uint32_t above = fv_codes_above<HALF>(codes);
    uint32_t small = fv_with_sign(above, above >> 4, 0x07f007f0);
    return fv_bf16::fused(small, 0x7b807b80, 0x80008000);  // * 2^120 + -0
  }
#endif
};

template <>
struct fv_widening<fv_bf16, FV_TYPE_E5M2> {
  static constexpr float unit = 1.0f;
  static constexpr uint32_t first_odd = 0;
  template <int HALF>
  static __device__ __forceinline__ uint32_t pair(uint32_t codes) {
    return fv_bf16_from_f16(fv_codes_above<HALF>(codes));
  }
};

// Seven bits fit below 128. 128 + (i and 127), less 128 or, if i is negative, 256.
template <>
struct fv_widening<fv_bf16, FV_TYPE_I8> {
  static constexpr float unit = 1.0f;
  static constexpr uint32_t first_odd = 0;
  template <int HALF>
  static __device__ __forceinline__ uint32_t pair(uint32_t codes) {
    uint32_t below = fv_codes_below<HALF>(codes, 0);
    uint32_t raised = (below & 0x007f007f) | 0x43004300;
    return fv_bf16::fused(raised, 0x3f803f80, (below & 0x00800080) | 0xc300c300);
  }
};

// Not 0 in bit 7 of some byte if one of the four codes has a magnitude from `first` on.
__device__ __forceinline__ uint32_t fv_find_odd(uint32_t codes, uint32_t first) {
  return (codes & 0x7f7f7f7f) + (0x80 - first) * 0x01010101;
}

#endif  // FOVEA_KERNELS_PARTS_WIDEN_CUH

// convert.cuh - conversions of single values, one function per instruction. The comment is the PTX
// line and its oldest sm; all are per thread. PTX ISA 9.0, section 9.7.9 (data movement).
//
// A NaN becomes the one that fovea.h names: 0x7fff in both 16-bit types.
#ifndef FOVEA_KERNELS_ARCH_CONVERT_CUH
#define FOVEA_KERNELS_ARCH_CONVERT_CUH

#include <stdint.h>

// cvt.f32.f16 y, x; any sm; exact, subnormals included. x is the low half of `code`.
__device__ __forceinline__ float fv_f32_from_f16(uint32_t code) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(static_cast<uint16_t>(code)));
  return y;
}

// cvt.rn.f16.f32 y, x; any sm; nearest even, overflow to infinity.
__device__ __forceinline__ uint32_t fv_round_to_f16(float x) {
  uint16_t y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}

// cvt.rn.bf16.f32 y, x; sm_80; nearest even, overflow to infinity.
__device__ __forceinline__ uint32_t fv_round_to_bf16(float x) {
  uint16_t y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}

#endif  // FOVEA_KERNELS_ARCH_CONVERT_CUH

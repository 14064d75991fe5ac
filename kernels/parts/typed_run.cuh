// typed_run.cuh - moves up to eight neighbouring elements of f32, f16 or bf16 between global memory
// and registers. It serves kernels that learn the type at run time, the same for all threads.
//
// A run is eight words, each the bits of one element. A whole run that begins at a multiple of 16
// bytes (`aligned`, which the caller knows) moves by 16 bytes. Others go element by element.
#ifndef FOVEA_KERNELS_PARTS_TYPED_RUN_CUH
#define FOVEA_KERNELS_PARTS_TYPED_RUN_CUH

#include <stdint.h>

#include "kernels/arch/convert.cuh"
#include "kernels/shared/params_type.h"

enum { FV_RUN = 8 };  // elements: 16 bytes of a 16-bit type

__device__ __forceinline__ int64_t fv_type_bytes(uint32_t type) {
  return type == FV_TYPE_F32 ? 4 : 2;
}

__device__ __forceinline__ uint32_t fv_read_element(const unsigned char *from, uint32_t type,
                                                    int i) {
  if (type == FV_TYPE_F32) return reinterpret_cast<const uint32_t *>(from)[i];
  return reinterpret_cast<const uint16_t *>(from)[i];
}

// Reads elements [first, first + count) of the row; entries past count are 0.
__device__ __forceinline__ void fv_read_run(const void *row, uint32_t type, int32_t first,
                                            int32_t count, bool aligned, uint32_t (&bits)[FV_RUN]) {
  const unsigned char *from = static_cast<const unsigned char *>(row) + first * fv_type_bytes(type);
  if (aligned && count == FV_RUN) {
    const uint4 low = reinterpret_cast<const uint4 *>(from)[0];
    const uint32_t words[4] = {low.x, low.y, low.z, low.w};
    if (type == FV_TYPE_F32) {
      const uint4 high = reinterpret_cast<const uint4 *>(from)[1];
      const uint32_t more[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) bits[i] = words[i], bits[i + 4] = more[i];
    } else {
#pragma unroll
      for (int i = 0; i < FV_RUN; ++i) bits[i] = words[i / 2] >> i % 2 * 16 & 0xffff;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < FV_RUN; ++i) {
    bits[i] = i < count ? fv_read_element(from, type, i) : 0;
  }
}

__device__ __forceinline__ void fv_write_run(void *row, uint32_t type, int32_t first, int32_t count,
                                             bool aligned, const uint32_t (&bits)[FV_RUN]) {
  unsigned char *to = static_cast<unsigned char *>(row) + first * fv_type_bytes(type);
  if (aligned && count == FV_RUN) {
    uint4 *chunk = reinterpret_cast<uint4 *>(to);
    if (type == FV_TYPE_F32) {
      chunk[0] = make_uint4(bits[0], bits[1], bits[2], bits[3]);
      chunk[1] = make_uint4(bits[4], bits[5], bits[6], bits[7]);
    } else {
      chunk[0] = make_uint4(bits[0] | bits[1] << 16, bits[2] | bits[3] << 16,
                            bits[4] | bits[5] << 16, bits[6] | bits[7] << 16);
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < FV_RUN; ++i) {
    if (i >= count) continue;
    if (type == FV_TYPE_F32) {
      reinterpret_cast<uint32_t *>(to)[i] = bits[i];
    } else {
      reinterpret_cast<uint16_t *>(to)[i] = static_cast<uint16_t>(bits[i]);
    }
  }
}

// The value of one element: exact.
__device__ __forceinline__ float fv_widen(uint32_t bits, uint32_t type) {
  if (type == FV_TYPE_F16) return fv_f32_from_f16(bits);
  return __uint_as_float(type == FV_TYPE_BF16 ? bits << 16 : bits);
}

// The bits of a value, rounded once, with the one NaN that fovea.h names for each type.
__device__ __forceinline__ uint32_t fv_narrow(float x, uint32_t type) {
  if (type == FV_TYPE_F16) return fv_round_to_f16(x);
  if (type == FV_TYPE_BF16) return fv_round_to_bf16(x);
  return x == x ? __float_as_uint(x) : 0x7fffffffu;
}

__device__ __forceinline__ void fv_load_typed_run(const void *row, uint32_t type, int32_t first,
                                                  int32_t count, bool aligned, float (&x)[FV_RUN]) {
  uint32_t bits[FV_RUN];
  fv_read_run(row, type, first, count, aligned, bits);
#pragma unroll
  for (int i = 0; i < FV_RUN; ++i) x[i] = fv_widen(bits[i], type);
}

__device__ __forceinline__ void fv_store_typed_run(void *row, uint32_t type, int32_t first,
                                                   int32_t count, bool aligned,
                                                   const float (&x)[FV_RUN]) {
  uint32_t bits[FV_RUN];
#pragma unroll
  for (int i = 0; i < FV_RUN; ++i) bits[i] = fv_narrow(x[i], type);
  fv_write_run(row, type, first, count, aligned, bits);
}

#endif  // FOVEA_KERNELS_PARTS_TYPED_RUN_CUH

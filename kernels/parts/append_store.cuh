// append_store.cuh - stores a run of up to eight values of a head into a cache of any type that an
// append takes: divides them by their scales, rounds them, writes them.
//
// 8-bit types are rounded by f32 additions and integer operations, which every device has. The
// instructions of sm_89 for e4m3 and e5m2 take pairs, and save little beside the division.
#ifndef FOVEA_KERNELS_PARTS_APPEND_STORE_CUH
#define FOVEA_KERNELS_PARTS_APPEND_STORE_CUH

#include "kernels/parts/typed_run.cuh"
#include "kernels/shared/params_append.h"

// One head of a token: the row that is read, the row that is written, and what belongs to them.
struct fv_append_head {
  const unsigned char *from;
  unsigned char *to;
  const unsigned char *scale;  // of block 0; NULL: the cache has none
  const float *cos, *sin;      // of the token's position
};

// ---- Scales -------------------------------------------------------------------------------------

// The scale of block 0 of a head's place; NULL: none.
__device__ __forceinline__ const unsigned char *fv_scale_row(const fv_append_scale &scale,
                                                             int64_t outer, int64_t inner,
                                                             int64_t head) {
  if (!scale.data) return nullptr;
  const int64_t offset = outer * scale.batch + inner * scale.seq + head * scale.head;
  return static_cast<const unsigned char *>(scale.data) + offset * fv_type_bytes(scale.type);
}

// Divides x[i] by the scale of element first + i, for at least one element. Only scales of elements
// before first + count are read: the others may lie outside the tensor.
__device__ __forceinline__ void fv_divide_run(const fv_append_scale &scale,
                                              const unsigned char *row, int32_t first,
                                              int32_t count, float (&x)[FV_RUN]) {
  int32_t block = first / scale.block_len;
  int32_t left = scale.block_len - (first - block * scale.block_len);  // of the block, from x[i] on
  const unsigned char *from = row + block * scale.block * fv_type_bytes(scale.type);
  float divisor = fv_widen(fv_read_element(from, scale.type, 0), scale.type);
#pragma unroll
  for (int i = 0; i < FV_RUN; ++i, --left) {
    if (left == 0 && i < count) {
      from += scale.block * fv_type_bytes(scale.type);
      divisor = fv_widen(fv_read_element(from, scale.type, 0), scale.type);
      left = scale.block_len;
    }
    x[i] = __fdiv_rn(x[i], divisor);
  }
}

// ---- 8-bit types --------------------------------------------------------------------------------

// An 8-bit float: its largest number, the exponent of its smallest normal number in f32's place,
// and how many mantissa bits f32 has more.
struct fv_float8 {
  float largest;
  uint32_t least_exponent;
  int32_t drop;
};

__device__ __forceinline__ fv_float8 fv_float8_of(uint32_t type) {
  if (type == FV_TYPE_E4M3) return {448.0f, (127 - 6) << 23, 20};
  return {57344.0f, (127 - 14) << 23, 21};
}

// The code of x, to nearest even. With e the exponent of x, or of the smallest normal number if
// that is larger, numbers of the format near |x| lie 2^(e - mantissa bits) apart. That is the last
// bit of 2^(e + drop): its sum with |x| is rounded where the code must be. A sum that reaches the
// next exponent carries into the code's. Largest comes first: all above it saturates.
__device__ __forceinline__ uint32_t fv_narrow_to_float8(float x, fv_float8 format) {
  const uint32_t bits = __float_as_uint(x), sign = bits >> 24 & 0x80;
  const float size = fminf(__uint_as_float(bits & 0x7fffffff), format.largest);
  const uint32_t exponent = max(__float_as_uint(size) & 0x7f800000, format.least_exponent);
  const uint32_t step = exponent + (static_cast<uint32_t>(format.drop) << 23);
  const uint32_t steps = __float_as_uint(__fadd_rn(size, __uint_as_float(step))) - step;
  const uint32_t code = ((exponent - format.least_exponent) >> format.drop) + steps;
  return x == x ? code | sign : 0x7f;
}

// The integer nearest to x in [-128, 127], as a byte. The conversion makes 0 of a NaN and saturates
// to 32 bits.
__device__ __forceinline__ uint32_t fv_narrow_to_int8(float x) {
  return max(-128, min(127, __float2int_rn(x))) & 0xff;
}

// As fv_write_run, for codes of 8 bits. `aligned`: a whole run begins at a multiple of 8 bytes.
__device__ __forceinline__ void fv_write_codes(unsigned char *to, int32_t count, bool aligned,
                                               const uint32_t (&codes)[FV_RUN]) {
  if (aligned && count == FV_RUN) {
    *reinterpret_cast<uint2 *>(to) =
        make_uint2(codes[0] | codes[1] << 8 | codes[2] << 16 | codes[3] << 24,
                   codes[4] | codes[5] << 8 | codes[6] << 16 | codes[7] << 24);
    return;
  }
#pragma unroll
  for (int i = 0; i < FV_RUN; ++i) {
    if (i < count) to[i] = static_cast<unsigned char>(codes[i]);
  }
}

// ---- Any type -----------------------------------------------------------------------------------

__device__ __forceinline__ int64_t fv_cache_bytes(uint32_t type) {
  return type >= FV_TYPE_E4M3 ? 1 : fv_type_bytes(type);
}

// Stores elements [first, first + count) of the head.
__device__ __forceinline__ void fv_store_append_run(const fv_append_side &side,
                                                    const fv_append_head &head, int32_t first,
                                                    int32_t count, bool aligned,
                                                    float (&x)[FV_RUN]) {
  if (side.to_type < FV_TYPE_E4M3) {
    fv_store_typed_run(head.to, side.to_type, first, count, aligned, x);
    return;
  }
  if (head.scale) fv_divide_run(side.scale, head.scale, first, count, x);
  uint32_t codes[FV_RUN];
  if (side.to_type == FV_TYPE_I8) {
#pragma unroll
    for (int i = 0; i < FV_RUN; ++i) codes[i] = fv_narrow_to_int8(x[i]);
  } else {
    const fv_float8 format = fv_float8_of(side.to_type);
#pragma unroll
    for (int i = 0; i < FV_RUN; ++i) codes[i] = fv_narrow_to_float8(x[i], format);
  }
  fv_write_codes(head.to + first, count, aligned, codes);
}

#endif  // FOVEA_KERNELS_PARTS_APPEND_STORE_CUH

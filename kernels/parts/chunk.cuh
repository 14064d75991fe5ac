// chunk.cuh - moves chunks of eight 16-bit elements (16 bytes) between global and shared memory.
//
// fovea.h asks for memory aligned to the element and no more. Where the host knows that rows are
// aligned to 16 bytes, a chunk is one access. Elsewhere it goes element by element.
#ifndef FOVEA_KERNELS_PARTS_CHUNK_CUH
#define FOVEA_KERNELS_PARTS_CHUNK_CUH

#include <stdint.h>

#include "kernels/arch/sm80.cuh"

// How many bytes of the chunk at byte `at` of a row there are, in a row of `bytes`.
__device__ __forceinline__ int32_t fv_bytes_of_chunk(int32_t bytes, int32_t at) {
  return max(0, min(16, bytes - at));
}

// The first `bytes` of eight elements, and zeros. What lies past them is not read.
__device__ __forceinline__ uint4 fv_read_elements(const unsigned char *from, int32_t bytes) {
  const uint16_t *element = reinterpret_cast<const uint16_t *>(from);
  uint32_t pair[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    pair[i] = 4 * i < bytes ? element[2 * i] : 0;
    if (4 * i + 2 < bytes) pair[i] |= static_cast<uint32_t>(element[2 * i + 1]) << 16;
  }
  return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

// Puts the first `bytes` of a chunk, and zeros, into shared memory. Aligned chunks are whole, or
// not there at all. The other threads see it after the next fv_copy_async_wait_all and barrier,
// whichever way it was written.
__device__ __forceinline__ void fv_load_chunk(uint32_t to, const unsigned char *from, int32_t bytes,
                                              bool aligned) {
  if (aligned) {
    fv_copy_async_16(to, from, bytes ? 16 : 0);
  } else {
    fv_store_shared_16(to, fv_read_elements(from, bytes));
  }
}

// Writes the first `bytes` of a chunk.
__device__ __forceinline__ void fv_store_chunk(unsigned char *to, uint4 chunk, int32_t bytes,
                                               bool aligned) {
  if (aligned && bytes == 16) {
    *reinterpret_cast<uint4 *>(to) = chunk;
    return;
  }
  const uint32_t pair[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
  uint16_t *element = reinterpret_cast<uint16_t *>(to);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (4 * i < bytes) element[2 * i] = static_cast<uint16_t>(pair[i]);
    if (4 * i + 2 < bytes) element[2 * i + 1] = static_cast<uint16_t>(pair[i] >> 16);
  }
}

#endif  // FOVEA_KERNELS_PARTS_CHUNK_CUH

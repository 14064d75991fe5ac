// chunk.cuh - moves chunks of eight 16-bit elements (16 bytes) between global and shared memory.
//
// fovea.h asks for memory aligned to the element and no more. Where the host knows that rows are
// aligned to 16 bytes, a chunk is one access. Elsewhere it goes element by element.
#ifndef FOVEA_KERNELS_PARTS_CHUNK_CUH
#define FOVEA_KERNELS_PARTS_CHUNK_CUH

#include <stdint.h>

#include "kernels/arch/sm80.cuh"

// Eight elements, or zeros if `wanted` is false: then `from` is not read.
__device__ __forceinline__ uint4 fv_read_elements(const unsigned char *from, bool wanted) {
  const uint16_t *element = reinterpret_cast<const uint16_t *>(from);
  uint32_t pair[4] = {0, 0, 0, 0};
  if (wanted) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pair[i] = element[2 * i] | static_cast<uint32_t>(element[2 * i + 1]) << 16;
    }
  }
  return make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

// Puts a chunk, or zeros if it is not wanted, into shared memory. The other threads see it after
// the next fv_copy_async_wait_all and barrier, whichever way it was written.
__device__ __forceinline__ void fv_load_chunk(uint32_t to, const unsigned char *from, bool wanted,
                                              bool aligned) {
  if (aligned) {
    fv_copy_async_16(to, from, wanted ? 16 : 0);
  } else {
    fv_store_shared_16(to, fv_read_elements(from, wanted));
  }
}

__device__ __forceinline__ void fv_store_chunk(unsigned char *to, uint4 chunk, bool aligned) {
  if (aligned) {
    *reinterpret_cast<uint4 *>(to) = chunk;
    return;
  }
  const uint32_t pair[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
  uint16_t *element = reinterpret_cast<uint16_t *>(to);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    element[2 * i] = static_cast<uint16_t>(pair[i]);
    element[2 * i + 1] = static_cast<uint16_t>(pair[i] >> 16);
  }
}

#endif  // FOVEA_KERNELS_PARTS_CHUNK_CUH

// scan.cuh - inclusive scans over the threads of a CTA, in the order of threads.
#ifndef FOVEA_KERNELS_PARTS_SCAN_CUH
#define FOVEA_KERNELS_PARTS_SCAN_CUH

#include <stdint.h>

#include "kernels/shared/shape.h"

struct fv_sum {
  static __device__ __forceinline__ int64_t join(int64_t a, int64_t b) { return a + b; }
};

struct fv_maximum {
  static __device__ __forceinline__ int64_t join(int64_t a, int64_t b) { return fv_max(a, b); }
};

// Joins `carry` with the values of all threads up to this one; carry becomes the total of all.
// Every thread calls it, with the same carry. `room` is shared memory for one value per warp.
template <class Operation>
__device__ __forceinline__ int64_t fv_scan(int64_t value, int64_t &carry, int64_t *room) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll
  for (int step = 1; step < 32; step *= 2) {
    int64_t before = __shfl_up_sync(0xffffffffu, value, step);
    if (lane >= step) value = Operation::join(before, value);
  }
  if (lane == 31) room[warp] = value;
  __syncthreads();  // what each warp comes to, in `room`, becomes visible to all
  int64_t before = carry;
  for (int w = 0; w < warps; ++w) {
    if (w == warp) value = Operation::join(before, value);
    before = Operation::join(before, room[w]);
  }
  __syncthreads();  // everyone has read `room` before the next scan writes it
  carry = before;
  return value;
}

#endif  // FOVEA_KERNELS_PARTS_SCAN_CUH

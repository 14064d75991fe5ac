// kv_append_sm80.cuh - new tokens into a key/value cache: find the place, rotate, convert, write.
//
// Two tokens may be sent to one place (a slot given twice, a page in two tables), and the header
// says that one of them wins, not a mixture. So the work is cut by destination, as on the CPU:
// every CTA looks up all tokens, `threads` of them at a time, and every warp of the grid writes
// those heads of them whose place it owns. All writes to one place are made by one warp, element by
// element by the same lane, in the order of the tokens; and the bits do not depend on the grid.
//
// Sequences come `threads` at a time: the running maximum of their offsets (new_offsets, and
// pages.offsets) is a scan over the CTA, and a token finds its sequence in it by bisection.
//
// Errors are reported by CTA 0 alone: every CTA sees them all.
#ifndef FOVEA_KERNELS_KV_APPEND_SM80_CUH
#define FOVEA_KERNELS_KV_APPEND_SM80_CUH

#include "kernels/parts/append_find.cuh"
#include "kernels/parts/append_write.cuh"
#include "kernels/shared/params_append.h"

// Writes those heads of the tokens in memory that the warp owns.
template <int THREADS>
__device__ __forceinline__ void fv_write_tokens(const fv_append_params &p,
                                                const fv_append_memory<THREADS> &memory) {
  const int32_t lane = threadIdx.x % 32;
  const fv_append_unit unit = {blockIdx.x * (THREADS / 32) + threadIdx.x / 32,
                               gridDim.x * (THREADS / 32)};
#pragma unroll 1
  for (int32_t i = 0; i < THREADS; i += 32) {
    uint32_t mine = __ballot_sync(0xffffffffu, fv_owns(p, memory.tokens[i + lane], unit));
    for (; mine; mine &= mine - 1) {
      fv_write_token(p, memory.tokens[i + __ffs(mine) - 1], unit, lane);
    }
  }
}

template <int THREADS>
__device__ __forceinline__ void fv_append(const fv_append_params &p) {
  __shared__ fv_append_memory<THREADS> memory;
  fv_append_reach reach = fv_start_sequences(p);
  for (int64_t sequence = 0; sequence < p.sequences; sequence += THREADS) {
    fv_look_up_sequences(p, sequence, reach, memory);
    __syncthreads();  // the sequences are looked up before tokens ask for them
    for (int64_t row = memory.rows[0]; row < memory.rows[THREADS]; row += THREADS) {
      memory.tokens[threadIdx.x] = fv_find_token(p, sequence, row + threadIdx.x, memory);
      __syncthreads();  // the tokens are found before the warps look for theirs
      fv_write_tokens(p, memory);
      __syncthreads();  // nobody reads these tokens any more
    }
    reach = {memory.rows[THREADS], memory.pages[THREADS]};
    __syncthreads();  // nor these sequences
  }
}

#endif  // FOVEA_KERNELS_KV_APPEND_SM80_CUH

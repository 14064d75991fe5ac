// kv_append_sm80.cuh - new tokens into a key/value cache: find the place, rotate, convert, write.
//
// Two tokens may be sent to one place (a slot given twice, a page in two tables). fovea.h promises
// that one of them wins, not a mixture. So the work is divided by destination, as on the CPU. Every
// CTA looks up all tokens, `threads` at a time. Every warp of the grid writes the heads whose place
// it owns. One warp makes all writes to a place, in the order of the tokens, and one lane all those
// to an element. So the bits do not depend on the grid.
//
// Sequences come `threads` at a time. A scan over the CTA makes the running max of their offsets
// (new_offsets and pages.offsets), and a token finds its sequence in it by bisection.
//
// CTA 0 alone reports errors, since every CTA sees them all.
#ifndef FOVEA_KERNELS_KV_APPEND_SM80_CUH
#define FOVEA_KERNELS_KV_APPEND_SM80_CUH

#include "kernels/parts/append_find.cuh"
#include "kernels/parts/append_write.cuh"
#include "kernels/shared/params_append.h"

// Writes the heads that this warp owns of the tokens in `memory`.
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
    __syncthreads();  // the sequences, looked up by all, become visible to all
    for (int64_t row = memory.rows[0]; row < memory.rows[THREADS]; row += THREADS) {
      memory.tokens[threadIdx.x] = fv_find_token(p, sequence, row + threadIdx.x, memory);
      __syncthreads();  // the tokens, found by all, become visible to all
      fv_write_tokens(p, memory);
      __syncthreads();  // nobody reads these tokens any more: the next may overwrite them
    }
    reach = {memory.rows[THREADS], memory.pages[THREADS]};
    __syncthreads();  // nobody reads these sequences any more: the next may overwrite them
  }
}

#endif  // FOVEA_KERNELS_KV_APPEND_SM80_CUH

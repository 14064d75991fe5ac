// rows.cuh - what a warp keeps of its rows of a query tile while it goes over the keys: O, the
// sums, and what weights are relative to.
#ifndef FOVEA_KERNELS_PARTS_ROWS_CUH
#define FOVEA_KERNELS_PARTS_ROWS_CUH

#include "kernels/parts/tile.cuh"

// Fragments of mma m16n8k16 along each side of the two products.
template <class Config>
struct fv_fragments {
  static constexpr int blocks = Config::row_blocks;                     // of 16 rows, of a warp
  static constexpr int k_steps = Config::dim / 16;                      // steps along dim of Q K^T
  static constexpr int key_tiles = Config::tile_kv / 8;                 // columns of S
  static constexpr int key_steps = Config::tile_kv / 16;                // steps along keys of P V
  static constexpr int dim_tiles = Config::dim_v / 8;                   // columns of O
  static constexpr int q_steps = Config::q_in_registers ? k_steps : 1;  // those of Q in registers
};

// State of the two rows that a lane holds of a block. The four lanes of a row agree on all fields
// except sum: each sums its own columns.
struct fv_softmax_state {
  float base[2], shift[2];  // what weights are relative to; shift is -inf until a logit is seen
  float sum[2];             // this lane's part of the sum of weights, for the LSE
  float weight[2];          // the sum of the row's weights as rounded: O is divided by it
};

template <class Config>
struct fv_rows {
  float o[Config::row_blocks][fv_fragments<Config>::dim_tiles]
         [4];  // [16][dim_v] f32 each, per warp
  fv_softmax_state state[Config::row_blocks];
};

// Neither a finite logit nor a NaN was seen.
__device__ __forceinline__ bool fv_is_unseen(float shift, float weight) {
  return shift == -INFINITY && weight == 0.0f;
}

// Leaves O and the sums as if no key had been seen.
template <class Config>
__device__ __forceinline__ void fv_empty_sums(fv_rows<Config> &rows) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
#pragma unroll
    for (int n = 0; n < fv_fragments<Config>::dim_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) rows.o[b][n][c] = 0.0f;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) rows.state[b].sum[r] = rows.state[b].weight[r] = 0.0f;
  }
}

// Leaves what weights are relative to as if no key had been seen.
template <class Config>
__device__ __forceinline__ void fv_empty_bases(fv_rows<Config> &rows) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      rows.state[b].base[r] = 0.0f;
      rows.state[b].shift[r] = -INFINITY;
    }
  }
}

// The tile's row that this lane holds as row r, 0 or 1, of block b.
template <class Config>
__device__ __forceinline__ int32_t fv_own_row(int b, int r) {
  int thread = fv_thread_here();
  int block = Config::threads == 32 ? 0 : thread / 32 * Config::row_blocks + b;
  return block * 16 + thread % 32 / 4 + r * 8;
}

#endif  // FOVEA_KERNELS_PARTS_ROWS_CUH

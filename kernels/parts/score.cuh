// score.cuh - the two products of attention on tensor cores: S = Q K^T and O += P V.
//
// Fragments of mma m16n8k16 (PTX ISA 9.7.14.5): lane l holds of an accumulator rows l / 4 and
// l / 4 + 8, columns l % 4 * 2 and + 1. Two neighbouring accumulators of S, rounded and paired, are
// the A operand of the second product: probabilities never leave the registers.
#ifndef FOVEA_KERNELS_PARTS_SCORE_CUH
#define FOVEA_KERNELS_PARTS_SCORE_CUH

#include "kernels/arch/sm80.cuh"
#include "kernels/parts/tile.cuh"

template <class Config>
struct fv_fragments {
  static constexpr int k_steps = Config::dim / 16;                      // steps along dim of Q K^T
  static constexpr int key_tiles = Config::tile_kv / 8;                 // columns of S
  static constexpr int key_steps = Config::tile_kv / 16;                // steps along keys of P V
  static constexpr int dim_tiles = Config::dim_v / 8;                   // columns of O
  static constexpr int q_steps = Config::q_in_registers ? k_steps : 1;  // those of Q in registers
};

// The A operand of step `step`: the warp's 16 rows of Q, columns 16 * step to 16 * step + 15.
template <class Config>
__device__ __forceinline__ void fv_take_query_step(uint32_t (&q)[4], const unsigned char *tile,
                                                   int step) {
  int lane = threadIdx.x % 32, row = Config::row_block() * 16 + lane % 16;
  int32_t chunk = fv_swizzled_chunk(row, step * 2 + lane / 16, Config::chunks);
  fv_load_matrices(q, fv_shared_address(tile + 16 * chunk));
}

// The A operands of all steps, where registers hold them.
template <class Config>
__device__ __forceinline__ void fv_take_queries(
    uint32_t (&q)[fv_fragments<Config>::q_steps][4],  // [16][16 * q_steps] A fragments, per warp
    const unsigned char *tile) {
  if constexpr (Config::q_in_registers) {
#pragma unroll
    for (int step = 0; step < fv_fragments<Config>::q_steps; ++step) {
      fv_take_query_step<Config>(q[step], tile, step);
    }
  }
}

// S = Q K^T: s[n] is 16 rows by keys 8 n to 8 n + 7.
template <class Config>
__device__ __forceinline__ void fv_score(
    float (&s)[fv_fragments<Config>::key_tiles][4],  // [16][tile_kv] f32, per warp
    uint32_t (&q)[fv_fragments<Config>::q_steps][4], const unsigned char *q_tile,
    const unsigned char *k_tile) {
  using f = fv_fragments<Config>;
  int lane = threadIdx.x % 32;
  int key = lane % 8 + lane / 16 * 8, half = lane / 8 % 2;
#pragma unroll
  for (int n = 0; n < f::key_tiles; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) s[n][c] = 0.0f;
  }
#pragma unroll
  for (int step = 0; step < f::k_steps; ++step) {
    uint32_t(&rows)[4] = q[Config::q_in_registers ? step : 0];
    if (!Config::q_in_registers) fv_take_query_step<Config>(rows, q_tile, step);
#pragma unroll
    for (int n = 0; n < f::key_tiles; n += 2) {
      uint32_t k[4];  // [16][16] B fragments of keys 8 n to 8 n + 15, per warp
      int32_t chunk = fv_swizzled_chunk(n * 8 + key, step * 2 + half, Config::chunks);
      fv_load_matrices(k, fv_shared_address(k_tile + 16 * chunk));
      Config::type::multiply_add(s[n], rows, k[0], k[1]);
      Config::type::multiply_add(s[n + 1], rows, k[2], k[3]);
    }
  }
}

// Rounds and pairs probabilities for the product. p[step] is the A operand of the keys from
// 16 * step to 16 * step + 15.
template <class Config>
__device__ __forceinline__ void fv_pack_weights(
    uint32_t (&p)[fv_fragments<Config>::key_steps][4],
    const float (&s)[fv_fragments<Config>::key_tiles][4]) {
  using type = typename Config::type;
#pragma unroll
  for (int step = 0; step < fv_fragments<Config>::key_steps; ++step) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float(&half)[4] = s[2 * step + i / 2];
      p[step][i] = type::pack(half[i % 2 * 2], half[i % 2 * 2 + 1]);
    }
  }
}

// O += P V, where s holds the probabilities, and weight += P 1. The latter are the sums of the rows
// of P as rounded.
//
// A tile's product begins at zero and is added to O as a whole. Tensor cores cut off what is small
// beside the sum that they add to (Fasi et al. 2021), and over many tiles that leans to one side. O
// divided by the weights that it is made of lies between the least and the largest value, however
// these weights were rounded.
template <class Config>
__device__ __forceinline__ void fv_accumulate(
    float (&o)[fv_fragments<Config>::dim_tiles][4],  // [16][dim_v] f32, per warp
    float (&weight)[2], const float (&s)[fv_fragments<Config>::key_tiles][4],
    const unsigned char *v_tile) {
  using f = fv_fragments<Config>;
  using type = typename Config::type;
  int lane = threadIdx.x % 32;
  uint32_t p[f::key_steps][4];  // [16][tile_kv] 16-bit A fragments, per warp
  fv_pack_weights<Config>(p, s);
  float sums[4] = {};  // [16][8] f32, per warp: all columns are alike
#pragma unroll
  for (int step = 0; step < f::key_steps; ++step) {
    type::multiply_add(sums, p[step], type::ones, type::ones);
  }
  weight[0] += sums[0];
  weight[1] += sums[2];
#pragma unroll
  for (int n = 0; n < f::dim_tiles; n += 2) {
    float left[4] = {}, right[4] = {};  // [16][8] f32 each, per warp: columns from 8 n and 8 n + 8
#pragma unroll
    for (int step = 0; step < f::key_steps; ++step) {
      uint32_t v[4];  // [16][16] B fragments of both, per warp
      int32_t chunk = fv_swizzled_chunk(step * 16 + lane % 16, n + lane / 16, Config::chunks_v);
      fv_load_matrices_transposed(v, fv_shared_address(v_tile + 16 * chunk));
      type::multiply_add(left, p[step], v[0], v[1]);
      type::multiply_add(right, p[step], v[2], v[3]);
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      o[n][c] += left[c];
      o[n + 1][c] += right[c];
    }
  }
}

#endif  // FOVEA_KERNELS_PARTS_SCORE_CUH

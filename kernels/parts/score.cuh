// score.cuh - the two products of attention on tensor cores: S = Q K^T and O += P V.
//
// Fragments of mma m16n8k16 (PTX ISA 9.7.14.5): lane l holds of an accumulator rows l / 4 and
// l / 4 + 8, columns l % 4 * 2 and + 1. Two neighbouring accumulators of S, rounded and paired, are
// the A operand of the second product: probabilities never leave the registers.
#ifndef FOVEA_KERNELS_PARTS_SCORE_CUH
#define FOVEA_KERNELS_PARTS_SCORE_CUH

#include "kernels/arch/sm80.cuh"
#include "kernels/parts/rows.cuh"

// The fragments of Q that a warp keeps: the A operands of the first q_steps steps.
template <class Config>
struct fv_queries {
  uint32_t step[fv_fragments<Config>::q_steps][Config::row_blocks][4];  // [16][16] each, per warp
};

// Scores, later weights, of a warp's rows and a tile of keys: of[b][n] is block b by keys 8 n to
// 8 n + 7.
template <class Config>
struct fv_scores {
  float of[Config::row_blocks][fv_fragments<Config>::key_tiles][4];  // [16][tile_kv] f32 each
};

// Where a lane reads its first fragments: in the tile of queries, and in the first stages of keys
// and values. The places do not change from tile to tile.
struct fv_fragment_places {
  uint32_t q, k, v;
};

template <class Config>
__device__ __forceinline__ fv_fragment_places fv_find_fragments(const unsigned char *q,
                                                                const unsigned char *k,
                                                                const unsigned char *v) {
  const int lane = fv_thread_here() % 32, row = Config::row_block(0) * 16 + lane % 16;
  const int key = lane % 8 + lane / 16 * 8, half = lane / 8 % 2;
  return {fv_shared_address(q) + 16 * fv_swizzled_chunk(row, lane / 16, Config::chunks),
          fv_shared_address(k) + 16 * fv_swizzled_chunk(key, half, Config::chunks),
          fv_shared_address(v) + 16 * fv_swizzled_chunk(lane % 16, lane / 16, Config::chunks_v)};
}

// The A operands of step `step`: the warp's rows of Q, columns 16 * step to 16 * step + 15.
template <class Config>
__device__ __forceinline__ void fv_take_query_step(uint32_t (&q)[Config::row_blocks][4],
                                                   uint32_t place, int step) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
    fv_load_matrices(q[b], fv_swizzled_step(place, b * 16, step * 2, Config::chunks));
  }
}

// The A operands of all steps, where registers hold them.
template <class Config>
__device__ __forceinline__ void fv_take_queries(fv_queries<Config> &q,
                                                const fv_fragment_places &at) {
  if constexpr (Config::q_in_registers) {
#pragma unroll
    for (int step = 0; step < fv_fragments<Config>::q_steps; ++step) {
      fv_take_query_step<Config>(q.step[step], at.q, step);
    }
  }
}

template <class Config>
__device__ __forceinline__ void fv_clear_scores(fv_scores<Config> &s) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
#pragma unroll
    for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) s.of[b][n][c] = 0.0f;
    }
  }
}

// S += Q K^T, with the keys of the stage that lies `offset` bytes past the first.
template <class Config>
__device__ __forceinline__ void fv_add_scores(fv_scores<Config> &s, fv_queries<Config> &q,
                                              const fv_fragment_places &at, uint32_t offset) {
  using f = fv_fragments<Config>;
  const uint32_t first = at.k + offset;
#pragma unroll
  for (int step = 0; step < f::k_steps; ++step) {
    uint32_t(&rows)[f::blocks][4] = q.step[Config::q_in_registers ? step : 0];
    if (!Config::q_in_registers) fv_take_query_step<Config>(rows, at.q, step);
#pragma unroll
    for (int n = 0; n < f::key_tiles; n += 2) {
      uint32_t k[4];  // [16][16] B fragments of keys 8 n to 8 n + 15, per warp
      fv_load_matrices(k, fv_swizzled_step(first, n * 8, step * 2, Config::chunks));
#pragma unroll
      for (int b = 0; b < f::blocks; ++b) {
        Config::type::multiply_add(s.of[b][n], rows[b], k[0], k[1]);
        Config::type::multiply_add(s.of[b][n + 1], rows[b], k[2], k[3]);
      }
    }
  }
}

// S = Q K^T.
template <class Config>
__device__ __forceinline__ void fv_score(fv_scores<Config> &s, fv_queries<Config> &q,
                                         const fv_fragment_places &at, uint32_t offset) {
  fv_clear_scores<Config>(s);
  fv_add_scores<Config>(s, q, at, offset);
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

// weight += P 1: the sums of the rows of P as rounded.
template <class Config>
__device__ __forceinline__ void fv_add_weights(
    float (&weight)[2], const uint32_t (&p)[fv_fragments<Config>::key_steps][4]) {
  using type = typename Config::type;
  float sums[4] = {};  // [16][8] f32, per warp: all columns are alike
#pragma unroll
  for (int step = 0; step < fv_fragments<Config>::key_steps; ++step) {
    type::multiply_add(sums, p[step], type::ones, type::ones);
  }
  weight[0] += sums[0];
  weight[1] += sums[2];
}

__device__ __forceinline__ void fv_add_to(float &o, float product) {
  o += product;
}
__device__ __forceinline__ void fv_add_to(float &o, float product, float factor) {
  o = fmaf(product, factor, o);
}

// Probabilities as rounded: the A operands of the product with V.
template <class Config>
struct fv_packed_weights {
  uint32_t of[Config::row_blocks][fv_fragments<Config>::key_steps][4];  // [16][tile_kv] per warp
};

// Rounds the probabilities that s holds, and weight += P 1.
template <class Config>
__device__ __forceinline__ void fv_round_weights(fv_packed_weights<Config> &p,
                                                 fv_rows<Config> &rows,
                                                 const fv_scores<Config> &s) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
    fv_pack_weights<Config>(p.of[b], s.of[b]);
    fv_add_weights<Config>(rows.state[b].weight, p.of[b]);
  }
}

// O += P V, with the values whose first fragments are at `first`.
//
// A tile's product begins at zero and is added to O as a whole. Tensor cores cut off what is small
// beside the sum that they add to (Fasi et al. 2021), and over many tiles that leans to one side. O
// divided by the weights that it is made of lies between the least and the largest value, however
// these weights were rounded.
//
// A product that is multiplied before it is added has factors: of each block and row of the lane.
template <class Config, class... Factors>
__device__ __forceinline__ void fv_add_product(fv_rows<Config> &rows,
                                               const fv_packed_weights<Config> &p, uint32_t first,
                                               const Factors &...factors) {
  using f = fv_fragments<Config>;
  using type = typename Config::type;
#pragma unroll
  for (int n = 0; n < f::dim_tiles; n += 2) {
    float product[f::blocks][2][4] = {};  // [16][8] f32 each, per warp: columns from 8 n, 8 n + 8
#pragma unroll
    for (int step = 0; step < f::key_steps; ++step) {
      uint32_t v[4];  // [16][16] B fragments of both, per warp
      fv_load_matrices_transposed(v, fv_swizzled_step(first, step * 16, n, Config::chunks_v));
#pragma unroll
      for (int b = 0; b < f::blocks; ++b) {
        type::multiply_add(product[b][0], p.of[b][step], v[0], v[1]);
        type::multiply_add(product[b][1], p.of[b][step], v[2], v[3]);
      }
    }
#pragma unroll
    for (int b = 0; b < f::blocks; ++b) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        fv_add_to(rows.o[b][n][c], product[b][0][c], factors.of[b][c / 2]...);
        fv_add_to(rows.o[b][n + 1][c], product[b][1][c], factors.of[b][c / 2]...);
      }
    }
  }
}

// O += P V, where s holds the probabilities, and weight += P 1. The values are those of the stage
// that lies `offset` bytes past the first.
template <class Config>
__device__ __forceinline__ void fv_accumulate(fv_rows<Config> &rows, const fv_scores<Config> &s,
                                              const fv_fragment_places &at, uint32_t offset) {
  fv_packed_weights<Config> p;
  fv_round_weights<Config>(p, rows, s);
  fv_add_product<Config>(rows, p, at.v + offset);
}

#endif  // FOVEA_KERNELS_PARTS_SCORE_CUH

// online_softmax.cuh - hides scores and turns them into probabilities, keeping per row the largest
// score and the sum (Milakov and Gimelshein 2018). In base 2: exp(t) = 2^(t * log2 e), and the
// factor is part of the scale.
#ifndef FV_ONLINE_SOFTMAX_CUH
#define FV_ONLINE_SOFTMAX_CUH

#include "load.cuh"
#include "score.cuh"

// Of the two rows that a lane holds; the four lanes of a row agree on base, and each sums its own
// columns.
struct fv_row_state {
  float base[2];  // the largest logit in base 2, as rounded: probabilities are relative to it
  float sum[2];   // this lane's part
  int32_t begin[2], end[2];  // the keys that the row sees by position
};

// Row of the tile that register r of this lane belongs to.
template <class Config>
__device__ __forceinline__ int32_t fv_own_row(int r) {
  return Config::row_block() * 16 + threadIdx.x % 32 / 4 + r * 8;
}

template <class Config>
__device__ __forceinline__ fv_row_state fv_start_rows(const fv_attention_params &p,
                                                      const fv_query_tile &tile) {
  fv_row_state state;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    state.base[r] = -INFINITY;
    state.sum[r] = 0.0f;
    int64_t row = tile.position + fv_row_of(p, tile, fv_own_row<Config>(r)).position;
    fv_range keys = fv_window_keys(&tile.sequence.mask, row);
    state.begin[r] = (int32_t)keys.begin;
    state.end[r] = (int32_t)keys.end;
  }
  return state;
}

// tanh(x), given 2 log2(e) x: x (1 + z P(z)) with z = x^2 where |x| is small (a least-maximum fit, within
// 2^-23.7), and elsewhere 1 - 2 / (exp(2 x) + 1), which is right at both ends and loses nothing
// where the result is above a half.
__device__ __forceinline__ float fv_tanh(float x_2log2e) {
  float x = x_2log2e * 0.346573591f;  // log(2) / 2
  float z = x * x;
  float p = fmaf(-0.005704968f, z, 0.02063907f);
  p = fmaf(p, z, -0.053739708f);
  p = fmaf(p, z, 0.13331442f);
  p = fmaf(p, z, -0.3333328f);
  float large = fmaf(-2.0f, fv_reciprocal(fv_exp2(x_2log2e) + 1.0f), 1.0f);
  return z < 0.390625f ? fmaf(p * z, x, x) : large;
}

// Scores become tanh(score * scale / softcap).
template <class Config>
__device__ __forceinline__ void fv_cap(float (&s)[fv_fragments<Config>::key_tiles][4],
                                       float softcap_scale) {
#pragma unroll
  for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) s[n][c] = fv_tanh(s[n][c] * softcap_scale);
  }
}

// Scores of keys that the row does not see become -inf. They are replaced and not added to: K may
// be NaN where no row sees it.
template <class Config>
__device__ __forceinline__ void fv_hide(float (&s)[fv_fragments<Config>::key_tiles][4],
                                        const fv_row_state &state,
                                        const fv_visible_keys<Config::tile_kv> &visible,
                                        int32_t key_begin) {
#pragma unroll
  for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      int32_t place = n * 8 + threadIdx.x % 4 * 2 + c % 2, key = key_begin + place;
      bool seen = visible.has(place, n * 8) && key >= state.begin[c / 2] && key < state.end[c / 2];
      if (!seen) s[n][c] = -INFINITY;
    }
  }
}

// Over the four lanes that share a row.
__device__ __forceinline__ float fv_row_maximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float fv_row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Scores become probabilities relative to the largest so far; sum and O are brought to it.
template <class Config>
__device__ __forceinline__ void fv_softmax(float (&s)[fv_fragments<Config>::key_tiles][4],
                                           float (&o)[fv_fragments<Config>::dim_tiles][4],
                                           fv_row_state &state, float scale_log2e) {
  using f = fv_fragments<Config>;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float maximum = -INFINITY;
#pragma unroll
    for (int n = 0; n < f::key_tiles; ++n)
      maximum = fmaxf(maximum, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    float largest = fmaxf(state.base[r], fv_row_maximum(maximum) * scale_log2e);
    // A row that has seen nothing yet has the base -inf, and -inf - -inf would be NaN.
    float base = largest == -INFINITY ? 0.0f : largest;
    // From base to base, not from maximum to base: what a base was rounded by is in the sum already.
    float rescale = fv_exp2(state.base[r] - base);
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < f::key_tiles; ++n) {
#pragma unroll
      for (int c = 2 * r; c < 2 * r + 2; ++c) {
        s[n][c] = fv_exp2(fmaf(s[n][c], scale_log2e, -base));
        sum += s[n][c];
      }
    }
    state.base[r] = largest;
    state.sum[r] = state.sum[r] * rescale + sum;
#pragma unroll
    for (int n = 0; n < f::dim_tiles; ++n) {
      o[n][2 * r] *= rescale;
      o[n][2 * r + 1] *= rescale;
    }
  }
}

#endif  // FV_ONLINE_SOFTMAX_CUH

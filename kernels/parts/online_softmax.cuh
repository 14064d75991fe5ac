// online_softmax.cuh - hides scores and turns them into probabilities. Per row it keeps the sum,
// and what weights are relative to (Milakov and Gimelshein 2018). All is in base 2:
// exp(t) = 2^(t * log2 e), and the factor is part of the scale.
//
// The weight of a score s is 2^((s - shift) * scale - base), at most 2^weight_exponent. shift
// is 0, which leaves one fused multiply-add, unless a logit is so large that the base's
// rounding would show. A row's base follows its max only where a weight would grow too large.
// It is then set so that logits may rise by FV_LAZY_RISE before it is set again. Each row
// decides by its own scores. A warp decides together only whether to skip factors of 1 and
// subtractions of 0.
#ifndef FOVEA_KERNELS_PARTS_ONLINE_SOFTMAX_CUH
#define FOVEA_KERNELS_PARTS_ONLINE_SOFTMAX_CUH

#include "kernels/parts/load.cuh"
#include "kernels/parts/score.cuh"

// How far base-2 logits may rise above the one that set the base. f16 has 2^15 of room above 1; a
// factor of 2^11 of it is left for weights that are small from the beginning.
constexpr int FV_LAZY_RISE = 4;

// From here on a rounded base-2 logit may be off by a quarter, and the shift takes its place.
constexpr float FV_LARGE_LOGIT = 4194304.0f;  // 2^22

// How far the base lies below the logit that sets it.
template <class Config>
constexpr int fv_headroom = Config::type::weight_exponent - FV_LAZY_RISE;

// How far one row's shift and base together lie above another's, as an exponent of 2.
__device__ __forceinline__ float fv_base_above(float shift, float base, float other_shift,
                                               float other_base, float scale_log2e) {
  return fmaf(shift - other_shift, scale_log2e, base - other_base);
}

// Where the key range of row r of a thread's block b stands among the CTA's ranges. A narrow tile's
// ranges stand there once for each warp.
template <class Config>
__device__ __forceinline__ int32_t fv_range_place(int thread, int b, int r) {
  return (thread / 32 * Config::row_blocks + b) * 16 + thread % 32 / 4 + r * 8;
}

// Stores which keys each row sees by position. The warp reads them after a barrier.
template <class Config>
__device__ __forceinline__ void fv_start_rows(const fv_attention_params &p,
                                              const fv_query_tile &tile, fv_key_range *ranges) {
  int thread = fv_thread_here();
  if (thread % 4) return;
#pragma unroll
  for (int i = 0; i < 2 * Config::row_blocks; ++i) {
    int64_t row = tile.position + fv_row_of(p, tile, fv_own_row<Config>(i / 2, i % 2)).position;
    fv_range keys = fv_window_keys(&tile.sequence.mask, row);
    ranges[fv_range_place<Config>(thread, i / 2, i % 2)] = {(int32_t)keys.begin, (int32_t)keys.end};
  }
}

// tanh(x), given 2 log2(e) x. Where |x| is small it is x (1 + z P(z)) with z = x^2, a minimax fit
// within 2^-23.7. Elsewhere it is 1 - 2 / (exp(2 x) + 1), which is right at both ends and loses
// nothing where the result is above a half.
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
__device__ __forceinline__ void fv_cap(fv_scores<Config> &s, float softcap_scale) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
#pragma unroll
    for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) s.of[b][n][c] = fv_tanh(s.of[b][n][c] * softcap_scale);
    }
  }
}

// Scores of keys that the row does not see become -inf. They are replaced, not added to: a key that
// only other rows see may be NaN.
template <class Config>
__device__ __forceinline__ void fv_hide_in_block(float (&s)[fv_fragments<Config>::key_tiles][4],
                                                 int b, const fv_key_range *ranges,
                                                 const fv_visible_keys<Config::tile_kv> &visible,
                                                 int32_t key_begin) {
  int thread = fv_thread_here();
  const fv_key_range range[2] = {ranges[fv_range_place<Config>(thread, b, 0)],
                                 ranges[fv_range_place<Config>(thread, b, 1)]};
#pragma unroll
  for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      int32_t place = n * 8 + threadIdx.x % 4 * 2 + c % 2, key = key_begin + place;
      bool seen = visible.has(place, n * 8) && key >= range[c / 2].begin && key < range[c / 2].end;
      if (!seen) s[n][c] = -INFINITY;
    }
  }
}

template <class Config>
__device__ __forceinline__ void fv_hide(fv_scores<Config> &s, const fv_key_range *ranges,
                                        const fv_visible_keys<Config::tile_kv> &visible,
                                        int32_t key_begin) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
    fv_hide_in_block<Config>(s.of[b], b, ranges, visible, key_begin);
  }
}

// The max, and below the sum, over the four lanes that share a row.
__device__ __forceinline__ float fv_row_maximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float fv_row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Whether scores up to `maximum` leave the base of row r as it is, and its shift is 0.
template <class Config>
__device__ __forceinline__ bool fv_keeps_base(const fv_softmax_state &state, int r, float maximum,
                                              float scale_log2e) {
  float above = fmaf(maximum, scale_log2e, -state.base[r]);
  return above <= Config::type::weight_exponent && state.shift[r] == 0.0f;
}

// Sets the base of row r by its largest score. Returns the factor that brings what is relative to
// the old base to the new one. It is taken between the bases as rounded: the sum already contains
// what a base was rounded by.
template <class Config>
__device__ __forceinline__ float fv_set_base(fv_softmax_state &state, int r, float maximum,
                                             float scale_log2e) {
  constexpr float room = fv_headroom<Config>;
  bool large = !(fabsf(maximum * scale_log2e) < FV_LARGE_LOGIT);
  float shift = large ? maximum : 0.0f;
  float base = large ? -room : fmaf(maximum, scale_log2e, -room);
  float rescale = fv_exp2(fv_base_above(state.shift[r], state.base[r], shift, base, scale_log2e));
  state.shift[r] = shift;
  state.base[r] = base;
  return rescale;
}

// For tiles in which some row of the warp changes its base, or a shift is subtracted. A row
// whose logits are small and do not rise keeps its bits: it is multiplied by 1, and 0 is
// subtracted.
template <class Config>
__device__ __forceinline__ void fv_move_rows(float (&s)[fv_fragments<Config>::key_tiles][4],
                                             float (&o)[fv_fragments<Config>::dim_tiles][4],
                                             fv_softmax_state &state, const float (&maximum)[2],
                                             float scale_log2e) {
  using f = fv_fragments<Config>;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = fv_row_maximum(maximum[r]);
    float above = fmaf(largest - state.shift[r], scale_log2e, -state.base[r]);
    bool rises = largest != -INFINITY && !(above <= Config::type::weight_exponent);
    float rescale = rises ? fv_set_base<Config>(state, r, largest, scale_log2e) : 1.0f;
    state.sum[r] *= rescale;
    state.weight[r] *= rescale;
#pragma unroll
    for (int n = 0; n < f::dim_tiles; ++n) {
      o[n][2 * r] *= rescale;
      o[n][2 * r + 1] *= rescale;
    }
    // A row that has seen nothing has a shift of -inf and scores of -inf: -inf - -inf would be NaN.
    float shift = state.shift[r] == -INFINITY ? 0.0f : state.shift[r];
#pragma unroll
    for (int n = 0; n < f::key_tiles; ++n) {
      s[n][2 * r] -= shift;
      s[n][2 * r + 1] -= shift;
    }
  }
}

template <class Config>
__device__ __forceinline__ void fv_softmax_of_block(float (&s)[fv_fragments<Config>::key_tiles][4],
                                                    float (&o)[fv_fragments<Config>::dim_tiles][4],
                                                    fv_softmax_state &state, float scale_log2e) {
  using f = fv_fragments<Config>;
  float maximum[2];  // max of this lane's columns
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    maximum[r] = -INFINITY;
#pragma unroll
    for (int n = 0; n < f::key_tiles; ++n)
      maximum[r] = fmaxf(maximum[r], fmaxf(s[n][2 * r], s[n][2 * r + 1]));
  }
  bool stays = fv_keeps_base<Config>(state, 0, maximum[0], scale_log2e) &&
               fv_keeps_base<Config>(state, 1, maximum[1], scale_log2e);
  if (!__all_sync(0xffffffffu, stays)) fv_move_rows<Config>(s, o, state, maximum, scale_log2e);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < f::key_tiles; ++n) {
#pragma unroll
      for (int c = 2 * r; c < 2 * r + 2; ++c) {
        s[n][c] = fv_exp2(fmaf(s[n][c], scale_log2e, -state.base[r]));
        sum += s[n][c];
      }
    }
    state.sum[r] += sum;
  }
}

// Scores become probabilities. sum, weight and O are rescaled to what these are relative to.
template <class Config>
__device__ __forceinline__ void fv_softmax(fv_scores<Config> &s, fv_rows<Config> &rows,
                                           float scale_log2e) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
    fv_softmax_of_block<Config>(s.of[b], rows.o[b], rows.state[b], scale_log2e);
  }
}

#endif  // FOVEA_KERNELS_PARTS_ONLINE_SOFTMAX_CUH

// online_softmax.cuh - hides scores and turns them into probabilities, keeping per row what they
// are relative to and the sum (Milakov and Gimelshein 2018). In base 2: exp(t) = 2^(t * log2 e),
// and the factor is part of the scale.
//
// The weight of a score s is 2^((s - shift) * scale - base), at most 2^weight_exponent. shift is 0,
// and this is one fused multiplication and addition, unless the logit is so large that the base's
// rounding would show. A row's base follows its maximum only where a weight would grow too large:
// it is set such that logits may rise by FV_LAZY_RISE before it is set again. Each row decides by
// its own scores; what a warp decides together is only whether to leave out factors of 1 and
// subtractions of 0.
#ifndef FOVEA_KERNELS_PARTS_ONLINE_SOFTMAX_CUH
#define FOVEA_KERNELS_PARTS_ONLINE_SOFTMAX_CUH

#include "kernels/parts/load.cuh"
#include "kernels/parts/score.cuh"

// By how much base-2 logits may rise above the one that the base was set by: of 2^15, which is
// f16's room above 1, a factor of 2^11 is left for weights that are small from the beginning.
constexpr int FV_LAZY_RISE = 4;

// From there on a base-2 logit, rounded, may be off by a quarter: the shift takes its place.
constexpr float FV_LARGE_LOGIT = 4194304.0f;  // 2^22

// What base is below the logit that it is set by.
template <class Config>
constexpr int fv_headroom = Config::type::weight_exponent - FV_LAZY_RISE;

// Of the two rows that a lane holds; the four lanes of a row agree on all but sum: each sums its
// own columns.
struct fv_softmax_state {
  float base[2], shift[2];  // what weights are relative to; shift is -inf where none was seen yet
  float sum[2];             // this lane's part of the weights, for the LSE
  float weight[2];          // the row's weights as rounded, which O is divided by
};

// Neither a finite logit nor a NaN was seen.
__device__ __forceinline__ bool fv_is_unseen(float shift, float weight) {
  return shift == -INFINITY && weight == 0.0f;
}

// Leaves the rows as if no key had been seen.
__device__ __forceinline__ void fv_empty_rows(fv_softmax_state &state) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    state.base[r] = 0.0f;
    state.shift[r] = -INFINITY;
    state.sum[r] = state.weight[r] = 0.0f;
  }
}

// By how much, in base 2, what one row's weights are relative to lies above another's.
__device__ __forceinline__ float fv_base_above(float shift, float base, float other_shift,
                                               float other_base, float scale_log2e) {
  return fmaf(shift - other_shift, scale_log2e, base - other_base);
}

// Row of the tile that register r of this lane belongs to.
template <class Config>
__device__ __forceinline__ int32_t fv_own_row(int r) {
  int thread = fv_thread_here();
  return (Config::threads == 32 ? 0 : thread / 32 * 16) + thread % 32 / 4 + r * 8;
}

// The place of row r of a thread among the CTA's ranges of keys: a narrow tile's are there four
// times, for each warp once.
__device__ __forceinline__ int32_t fv_range_place(int thread, int r) {
  return thread / 4 + thread / 32 * 8 + r * 8;
}

// Writes down which keys each row sees by position. The warp reads it after a barrier.
template <class Config>
__device__ __forceinline__ void fv_start_rows(const fv_attention_params &p,
                                              const fv_query_tile &tile, fv_key_range *ranges) {
  int thread = fv_thread_here();
  if (thread % 4) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    int64_t row = tile.position + fv_row_of(p, tile, fv_own_row<Config>(r)).position;
    fv_range keys = fv_window_keys(&tile.sequence.mask, row);
    ranges[fv_range_place(thread, r)] = {(int32_t)keys.begin, (int32_t)keys.end};
  }
}

// tanh(x), given 2 log2(e) x: x (1 + z P(z)) with z = x^2 where |x| is small (a least-maximum fit,
// within 2^-23.7), and elsewhere 1 - 2 / (exp(2 x) + 1), which is right at both ends and loses
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
                                        const fv_key_range *ranges,
                                        const fv_visible_keys<Config::tile_kv> &visible,
                                        int32_t key_begin) {
  int thread = fv_thread_here();
  const fv_key_range range[2] = {ranges[fv_range_place(thread, 0)],
                                 ranges[fv_range_place(thread, 1)]};
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

// Over the four lanes that share a row.
__device__ __forceinline__ float fv_row_maximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float fv_row_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

// Whether scores up to `maximum` leave row r as it is, and nothing is to be subtracted from them.
template <class Config>
__device__ __forceinline__ bool fv_keeps_base(const fv_softmax_state &state, int r, float maximum,
                                              float scale_log2e) {
  float above = fmaf(maximum, scale_log2e, -state.base[r]);
  return above <= Config::type::weight_exponent && state.shift[r] == 0.0f;
}

// Sets the base of row r by its largest score. Returns the factor that brings what is relative to
// the old base to the new one: from base to base, for what a base was rounded by is in the sum
// already.
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

// For tiles in which the base of some row of the warp changes, or a shift is subtracted. A row
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
    // A row that has seen nothing has only -inf to subtract from, and -inf - -inf would be NaN.
    float shift = state.shift[r] == -INFINITY ? 0.0f : state.shift[r];
#pragma unroll
    for (int n = 0; n < f::key_tiles; ++n) {
      s[n][2 * r] -= shift;
      s[n][2 * r + 1] -= shift;
    }
  }
}

// Scores become probabilities; sum, weight and O are brought to what they are relative to.
template <class Config>
__device__ __forceinline__ void fv_softmax(float (&s)[fv_fragments<Config>::key_tiles][4],
                                           float (&o)[fv_fragments<Config>::dim_tiles][4],
                                           fv_softmax_state &state, float scale_log2e) {
  using f = fv_fragments<Config>;
  float maximum[2];  // of this lane's columns
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

#endif  // FOVEA_KERNELS_PARTS_ONLINE_SOFTMAX_CUH

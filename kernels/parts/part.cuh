// part.cuh - a row's state over some of its keys, and how states over more and more of them become one:
// what the warps of a narrow tile did, and what several CTAs did (Dao et al. 2023, Flash-Decoding).
//
// Parts are joined in the order of their keys, whoever comes last, so the bits do not depend on who
// does. Where parts lie in memory, value n of thread t is at [n][t].
#ifndef FV_PART_CUH
#define FV_PART_CUH

#include "online_softmax.cuh"

// Values that a thread keeps of a part: O, and base and sum of its two rows.
template <class Config>
struct fv_part {
  static constexpr int values = fv_fragments<Config>::dim_tiles * 4 + 4;
};

// Each lane has summed its own columns: now all four have the row's sum.
__device__ __forceinline__ void fv_sum_rows(fv_row_state &state) {
  state.sum[0] = fv_row_sum(state.sum[0]);
  state.sum[1] = fv_row_sum(state.sum[1]);
}

template <class Config>
__device__ __forceinline__ void fv_put_part(float *to,
                                            const float (&o)[fv_fragments<Config>::dim_tiles][4],
                                            const fv_row_state &state) {
  using f = fv_fragments<Config>;
  to += Config::thread();
#pragma unroll
  for (int n = 0; n < f::dim_tiles; ++n) {
#pragma unroll
    for (int c = 0; c < 4; ++c) to[(n * 4 + c) * Config::threads] = o[n][c];
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    to[(f::dim_tiles * 4 + r) * Config::threads] = state.base[r];
    to[(f::dim_tiles * 4 + 2 + r) * Config::threads] = state.sum[r];
  }
}

// Parts in global memory are other CTAs' work and come from the second-level cache; the others lie in
// shared memory.
template <bool GLOBAL>
__device__ __forceinline__ float fv_read_part(const float *from) {
  return GLOBAL ? __ldcg(from) : *from;
}

// Joins the part at `from`, whose keys come after those of `o` and `state`. A part of which a row has
// seen nothing leaves the row as it was, whatever its O holds.
template <class Config, bool GLOBAL>
__device__ __forceinline__ void fv_join_part(const float *from,
                                             float (&o)[fv_fragments<Config>::dim_tiles][4],
                                             fv_row_state &state) {
  using f = fv_fragments<Config>;
  from += Config::thread();
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float base = fv_read_part<GLOBAL>(from + (f::dim_tiles * 4 + r) * Config::threads);
    float sum = fv_read_part<GLOBAL>(from + (f::dim_tiles * 4 + 2 + r) * Config::threads);
    if (sum == 0.0f) continue;
    bool first = state.sum[r] == 0.0f;
    float both = first ? base : fmaxf(state.base[r], base);
    float old_factor = first ? 0.0f : fv_exp2(state.base[r] - both);
    float factor = fv_exp2(base - both);
    state.base[r] = both;
    state.sum[r] = fmaf(state.sum[r], old_factor, sum * factor);
#pragma unroll
    for (int n = 0; n < f::dim_tiles; ++n) {
      if (n % 8 == 0) fv_load_later();
#pragma unroll
      for (int c = 2 * r; c < 2 * r + 2; ++c) {
        float old = first ? 0.0f : o[n][c] * old_factor;
        o[n][c] = fmaf(fv_read_part<GLOBAL>(from + (n * 4 + c) * Config::threads), factor, old);
      }
    }
  }
}

// Counts one thread's arrival for all those that it has met at a barrier before: what they wrote is
// released, and what the others wrote is acquired, for whoever it meets at the next one.
__device__ __forceinline__ bool fv_count_arrival(uint32_t *arrived, int32_t parts) {
  __threadfence();
  bool last = atomicAdd(arrived, 1) == (uint32_t)parts - 1;
  __threadfence();
  return last;
}

// Says that this part is in memory. True for the threads of the last of `parts` to say so, which then
// see all of them.
template <class Config>
__device__ __forceinline__ bool fv_arrive(uint32_t *arrived, int32_t parts) {
  bool last = false;
  if constexpr (Config::threads == 32) {
    __syncwarp();
    if (Config::thread() == 0) last = fv_count_arrival(arrived, parts);
    return __any_sync(0xffffffffu, last);
  } else {
    __syncthreads();
    if (Config::thread() == 0) last = fv_count_arrival(arrived, parts);
    return __syncthreads_or(last);
  }
}

// Puts this part beside the others of its tile. True for the last to come, which has then joined them
// all into `o` and `state`.
template <class Config>
__device__ __forceinline__ bool fv_join_tile(const fv_attention_params &p,
                                             const fv_segment &segment,
                                             float (&o)[fv_fragments<Config>::dim_tiles][4],
                                             fv_row_state &state) {
  const fv_device_line &line = p.schedule.lines[Config::line];
  fv_put_part<Config>(line.partials + segment.slot * line.slot_floats, o, state);
  if (!fv_arrive<Config>(line.arrived + segment.first_slot, segment.parts)) return false;
  state.sum[0] = state.sum[1] = 0.0f;
  for (int32_t part = 0; part < segment.parts; ++part) {
    int64_t slot = fv_slot_of_part(fv_is_chunked(p), segment.first_slot, part);
    fv_join_part<Config, true>(line.partials + slot * line.slot_floats, o, state);
  }
  return true;
}

#endif  // FV_PART_CUH

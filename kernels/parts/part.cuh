// part.cuh - partials: a row's state over some of its keys, and how such states are merged. They
// come from the warps of a narrow tile, from several CTAs, and from parking (Dao et al. 2023,
// Flash-Decoding).
//
// Partials are merged in the order of their keys, whoever comes last, so the bits do not depend on
// who does. In memory, value n of thread t is at [n][t].
#ifndef FOVEA_KERNELS_PARTS_PART_CUH
#define FOVEA_KERNELS_PARTS_PART_CUH

#include "kernels/parts/online_softmax.cuh"

// Values that a thread keeps of a partial: of each block O, and the four below for each of its two
// rows.
template <class Config>
struct fv_part {
  static constexpr int rows = fv_fragments<Config>::dim_tiles * 4, block = rows + 8;
  static constexpr int base = rows, shift = rows + 2, sum = rows + 4, weight = rows + 6;
  static constexpr int values = block * Config::row_blocks;
  static constexpr int floats = values * Config::threads;
};

// Each lane has summed its own columns: now all four lanes of a row get the row's sum.
template <class Config>
__device__ __forceinline__ void fv_sum_rows(fv_rows<Config> &rows) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
    rows.state[b].sum[0] = fv_row_sum(rows.state[b].sum[0]);
    rows.state[b].sum[1] = fv_row_sum(rows.state[b].sum[1]);
  }
}

template <class Config>
__device__ __forceinline__ void fv_put_part(float *to, const fv_rows<Config> &rows) {
  using part = fv_part<Config>;
  to += fv_thread_here() % Config::threads;
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b, to += part::block * Config::threads) {
    const fv_softmax_state &state = rows.state[b];
#pragma unroll
    for (int n = 0; n < fv_fragments<Config>::dim_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) to[(n * 4 + c) * Config::threads] = rows.o[b][n][c];
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      to[(part::base + r) * Config::threads] = state.base[r];
      to[(part::shift + r) * Config::threads] = state.shift[r];
      to[(part::sum + r) * Config::threads] = state.sum[r];
      to[(part::weight + r) * Config::threads] = state.weight[r];
    }
  }
}

// Partials of other CTAs are read from the second-level cache, past the first. The others lie in
// shared memory, or this thread has parked them itself.
template <bool GLOBAL>
__device__ __forceinline__ float fv_read_part(const float *from) {
  return GLOBAL ? __ldcg(from) : *from;
}

// Merges one block's part into `o` and `state`. Where it has seen nothing of a row, the row stays
// as it was, whatever the part's O holds. Both take the higher of the two bases.
template <class Config, bool GLOBAL>
__device__ __forceinline__ void fv_join_block(const fv_attention_params &p, const float *from,
                                              float (&o)[fv_fragments<Config>::dim_tiles][4],
                                              fv_softmax_state &state) {
  using part = fv_part<Config>;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float base = fv_read_part<GLOBAL>(from + (part::base + r) * Config::threads);
    float shift = fv_read_part<GLOBAL>(from + (part::shift + r) * Config::threads);
    float sum = fv_read_part<GLOBAL>(from + (part::sum + r) * Config::threads);
    float weight = fv_read_part<GLOBAL>(from + (part::weight + r) * Config::threads);
    if (fv_is_unseen(shift, weight)) continue;
    bool first = fv_is_unseen(state.shift[r], state.weight[r]);
    float above = fv_base_above(shift, base, state.shift[r], state.base[r], p.scale_log2e);
    bool rises = first || above > 0.0f;
    float old_factor = first ? 0.0f : rises ? fv_exp2(-above) : 1.0f;
    float factor = rises ? 1.0f : fv_exp2(above);
    if (rises) {
      state.base[r] = base;
      state.shift[r] = shift;
    }
    state.sum[r] = fmaf(state.sum[r], old_factor, sum * factor);
    state.weight[r] = fmaf(state.weight[r], old_factor, weight * factor);
#pragma unroll
    for (int n = 0; n < fv_fragments<Config>::dim_tiles; ++n) {
      if (n % 2 == 0) fv_load_later();
#pragma unroll
      for (int c = 2 * r; c < 2 * r + 2; ++c) {
        float old = first ? 0.0f : o[n][c] * old_factor;
        o[n][c] = fmaf(fv_read_part<GLOBAL>(from + (n * 4 + c) * Config::threads), factor, old);
      }
    }
  }
}

// Merges the partial at `from` into the rows.
template <class Config, bool GLOBAL>
__device__ __forceinline__ void fv_join_part(const fv_attention_params &p, const float *from,
                                             fv_rows<Config> &rows) {
  from += fv_thread_here() % Config::threads;
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
    fv_join_block<Config, GLOBAL>(p, from, rows.o[b], rows.state[b]);
    from += fv_part<Config>::block * Config::threads;
  }
}

// ---- Long rows ----

// Where this warp, or this CTA, parks rows. A thread touches only what it has put there itself.
template <class Config>
__device__ __forceinline__ float *fv_parked_part(const fv_work_item &item) {
  int warp = Config::threads == 32 ? fv_thread_here() / 32 : 0;
  return item.parked + warp * fv_part<Config>::floats;
}

// Whether anything is parked on the way from key `first` to `key`. The two keys tell, so no
// register need remember it.
__device__ __forceinline__ bool fv_is_parked(const fv_attention_params &p, uint32_t first,
                                             uint32_t key) {
  return (key & ~p.park_mask) > (first & ~p.park_mask);
}

// Whether sums are parked between the tiles at `here` and at `next`: their keys belong to different
// groups.
__device__ __forceinline__ bool fv_parks_between(const fv_attention_params &p, uint32_t here,
                                                 uint32_t next) {
  return ((here ^ next) & ~p.park_mask) != 0;
}

// Parks the rows' sums, merged with what was parked before, and goes on from zero, relative to the
// same bases. Each f32 addition loses a little, to one side where terms are alike. In groups, a sum
// has a hundred or two terms however many keys there are. Groups end at multiples of FV_PARK_KEYS,
// so that a row's bits do not depend on which tile it stands in. `first` is the first key that was
// looked at, `here` one of the last tile.
template <class Config>
__device__ __forceinline__ void fv_park(const fv_attention_params &p, const fv_work_item &item,
                                        fv_rows<Config> &rows, uint32_t first, uint32_t here) {
  float *place = fv_parked_part<Config>(item);
  if (fv_is_parked(p, first, here)) fv_join_part<Config, false>(p, place, rows);
  fv_put_part<Config>(place, rows);
  fv_empty_sums(rows);
}

// ---- Partials of several CTAs ----

// One thread counts an arrival for all threads that it met at the barrier before. It releases what
// they wrote, and acquires what other CTAs wrote for those that it meets at the next barrier.
__device__ __forceinline__ bool fv_count_arrival(uint32_t *arrived, int32_t parts) {
  __threadfence();  // release: the partial is visible to all CTAs before the count is
  bool last = atomicAdd(arrived, 1) == (uint32_t)parts - 1;
  __threadfence();  // acquire: what the CTAs counted before wrote is visible after it
  return last;
}

// Counts this partial as written. True for the threads of the last of `parts` to arrive, which then
// see all partials.
template <class Config>
__device__ __forceinline__ bool fv_arrive(uint32_t *arrived, int32_t parts) {
  bool last = false;
  if constexpr (Config::threads == 32) {
    __syncwarp();  // the partial, written by all lanes, becomes visible to lane 0
    if (Config::thread() == 0) last = fv_count_arrival(arrived, parts);
    return __any_sync(0xffffffffu, last);
  } else {
    __syncthreads();  // the partial, written by all, becomes visible to thread 0
    if (Config::thread() == 0) last = fv_count_arrival(arrived, parts);
    return __syncthreads_or(last);  // what thread 0 has acquired becomes visible to all
  }
}

// Puts this partial beside the others of its tile. True for the last to arrive, which has then
// merged them all into `rows`.
template <class Config>
__device__ __forceinline__ bool fv_join_tile(const fv_attention_params &p,
                                             const fv_segment &segment, fv_rows<Config> &rows) {
  const fv_device_line &line = p.schedule.lines[Config::line];
  fv_put_part<Config>(line.partials + segment.place * line.partial_floats, rows);
  if (!fv_arrive<Config>(line.arrived + segment.first_place, segment.parts)) return false;
  fv_empty_bases(rows);
  fv_empty_sums(rows);
  for (int32_t part = 0; part < segment.parts; ++part) {
    int64_t place = fv_place_of_partial(fv_is_chunked(p), segment.first_place, part);
    fv_join_part<Config, true>(p, line.partials + place * line.partial_floats, rows);
  }
  return true;
}

#endif  // FOVEA_KERNELS_PARTS_PART_CUH

// attention_fwd_sm80.cuh - attention forward with mma.sync, for every GPU from sm_80 on.
//
// A CTA takes tiles of 64 query rows of one sequence and kv head. A warp owns 16 rows. It keeps S,
// P and O in registers, and Q if it fits (Dao 2023, FlashAttention-2). Per key tile:
//
//   load the next K and V;  S = Q K^T;  hide;  P = exp(S - max), rescale O;  O += P V
//
// K and V have two stages in shared memory: one is computed on while cp.async fills the other. A
// key tile takes one barrier. Key tiles start at multiples of tile_kv. A tile of which a row sees
// nothing leaves that row as it was. One loop serves tiles with hidden keys and without: two
// branches per tile, alike for all threads, skip what hiding needs.
//
// Sequences of up to 16 rows, as in decoding, are narrow: all four warps take the same rows and
// divide the keys. Each warp has memory and copies of its own, and they meet only at the end.
//
// Kernels of the general class ask for each row and key whether it is seen (parts/rules.cuh).
//
// A CTA finds its tiles by its number, or in a schedule that attention_prepare has made. A schedule
// may split a tile's keys into work tiles of several CTAs (shared/schedule.h).
//
// Q K V S P O: queries, keys, values, scores, probabilities, output.
#ifndef FOVEA_KERNELS_ATTENTION_FWD_SM80_CUH
#define FOVEA_KERNELS_ATTENTION_FWD_SM80_CUH

#include "kernels/arch/sm90.cuh"
#include "kernels/parts/load.cuh"
#include "kernels/parts/online_softmax.cuh"
#include "kernels/parts/rules.cuh"
#include "kernels/parts/score.cuh"
#include "kernels/parts/store.cuh"
#include "kernels/parts/tile.cuh"

// Applies the softcap, if there is one, and then hides scores unless the key tile is `whole`.
template <class Config>
__device__ __forceinline__ void fv_cap_and_hide(const fv_attention_params &p,
                                                const fv_work_item &item,
                                                const fv_next_keys<Config> &keys, uint32_t key,
                                                float (&s)[fv_fragments<Config>::key_tiles][4]) {
  if (p.softcap_scale != 0.0f) fv_cap<Config>(s, p.softcap_scale);
  if constexpr (Config::general) {
    fv_rule_scores<Config>(p, item.tile, keys.seen, key, s);
  } else {
    if (!keys.whole) fv_hide<Config>(s, item.ranges, keys.visible, (int32_t)key);
  }
}

// Looks up the key tile at `begin` and starts its copies into stage `stage`.
template <class Config>
__device__ __forceinline__ fv_next_keys<Config> fv_load_stage(const fv_attention_params &p,
                                                              const fv_query_tile &tile,
                                                              uint32_t begin, int stage,
                                                              fv_tile_memory<Config> &memory) {
  auto keys = fv_find_keys<Config>(p, tile, begin);
  if constexpr (Config::general) {
    fv_apply_rules<Config>(p, tile, memory.item.seen, stage, keys);
  }
  fv_load_rows<Config, fv_key_side<Config>>(p, tile, keys, memory.k[stage]);
  fv_load_rows<Config, fv_value_side<Config>>(p, tile, keys, memory.v[stage]);
  fv_copy_async_commit();
  return keys;
}

// ---- 64 rows ----

template <class Config>
__device__ __forceinline__ void fv_attend_rows(const fv_attention_params &p,
                                               const fv_query_tile &tile, const fv_segment &segment,
                                               fv_tile_memory<Config> &memory) {
  using f = fv_fragments<Config>;
  uint32_t q[f::q_steps][4];      // [16][16 * q_steps] 16-bit A fragments, per warp
  float o[f::dim_tiles][4] = {};  // [16][dim_v] f32, per warp
  fv_softmax_state state;
  fv_empty_rows(state);
  if (!Config::general) fv_start_rows<Config>(p, tile, memory.item.ranges);

  uint32_t key = fv_first_key<Config>(tile);
  fv_load_queries<Config, Config::tile_q>(p, tile, memory.q);
  fv_next_keys<Config> next = {};
  bool more = key < (uint32_t)tile.key_end;
  if (more) next = fv_load_stage<Config>(p, tile, key, 0, memory);
  fv_copy_async_wait_all();  // this thread's copies of Q and of the first key tile have arrived
  __syncthreads();           // Q and the first key tile, copied by all, become visible to all
  fv_take_queries<Config>(q, memory.q);

  int stage = 0;
  for (; more; key += Config::tile_kv, stage ^= 1) {
    auto keys = next;
    uint32_t ahead = key + Config::tile_kv;
    more = ahead < (uint32_t)tile.key_end;
    if (more) next = fv_load_stage<Config>(p, tile, ahead, stage ^ 1, memory);
    float s[f::key_tiles][4];  // [16][tile_kv] f32, per warp
    fv_score<Config>(s, q, memory.q, memory.k[stage]);
    fv_cap_and_hide<Config>(p, memory.item, keys, key, s);
    fv_softmax<Config>(s, o, state, p.scale_log2e);
    fv_accumulate<Config>(o, state.weight, s, memory.v[stage]);
    fv_copy_async_wait_all();  // this thread's copies of the next tile have arrived
    __syncthreads();  // the next tile becomes visible to all, and nobody reads this one any more
    if ((ahead & p.park_mask) == 0) {
      fv_park<Config>(p, memory.item, o, state, fv_first_key<Config>(tile), ahead);
    }
  }
  if (fv_is_parked(p, fv_first_key<Config>(tile), key)) {
    fv_join_part<Config, false>(p, fv_parked_part<Config>(memory.item), o, state);
  }
  fv_sum_rows(state);
  if (segment.parts > 1 && !fv_join_tile<Config>(p, segment, o, state)) return;
  fv_store<Config>(p, tile, o, state, memory.q);
}

// ---- 16 rows, and each warp its own keys ----

// The warp's next tile of keys, if there is one.
template <class Warp>
__device__ __forceinline__ fv_next_keys<Warp> fv_find_next(const fv_attention_params &p,
                                                           const fv_query_tile &tile,
                                                           fv_seen_by_warps &shared,
                                                           uint32_t begin) {
  if (begin < (uint32_t)tile.key_end) {
    auto keys = fv_find_keys<Warp>(p, tile, begin);
    if constexpr (Warp::general) fv_apply_rules<Warp>(p, tile, shared, 0, keys);
    return keys;
  }
  fv_next_keys<Warp> none = {};
  none.begin = begin;
  return none;
}

// Copies the tile's keys or values, if any. It commits a group either way: waits count groups.
template <class Warp, class Side>
__device__ __forceinline__ void fv_copy_rows(const fv_attention_params &p,
                                             const fv_query_tile &tile,
                                             const fv_next_keys<Warp> &next, unsigned char *to) {
  if (next.begin < (uint32_t)tile.key_end) fv_load_rows<Warp, Side>(p, tile, next, to);
  fv_copy_async_commit();
}

// The other warps put their partials where the keys were, and the first warp merges them.
template <class Config, class Warp>
__device__ __forceinline__ void fv_join_warps(const fv_attention_params &p,
                                              fv_tile_memory<Config> &memory,
                                              float (&o)[fv_fragments<Warp>::dim_tiles][4],
                                              fv_softmax_state &state) {
  constexpr int floats = fv_part<Warp>::values * 32;
  static_assert((Config::warps - 1) * floats * 4 <= sizeof memory.k + sizeof memory.v,
                "the parts of the other warps fit where keys and values were");
  float *parts = reinterpret_cast<float *>(memory.k);
  int warp = threadIdx.x / 32;
  __syncthreads();  // nobody reads keys or values any more: partials may overwrite them
  if (warp) fv_put_part<Warp>(parts + (warp - 1) * floats, o, state);
  __syncthreads();  // the partials of all warps become visible to the first
  if (warp) return;
  for (int other = 1; other < Config::warps; ++other) {
    fv_join_part<Warp, false>(p, parts + (other - 1) * floats, o, state);
  }
}

template <class Config>
__device__ __forceinline__ void fv_attend_narrow(const fv_attention_params &p,
                                                 const fv_query_tile &tile,
                                                 const fv_segment &segment,
                                                 fv_tile_memory<Config> &memory) {
  using Warp = fv_warp_config<Config>;
  using Keys = fv_key_side<Warp>;
  using Values = fv_value_side<Warp>;
  using f = fv_fragments<Warp>;
  uint32_t q[f::q_steps][4];      // [16][16 * q_steps] 16-bit A fragments, the same in each warp
  float o[f::dim_tiles][4] = {};  // [16][dim_v] f32, per warp, over its own keys
  fv_softmax_state state;
  fv_empty_rows(state);
  if (!Warp::general) fv_start_rows<Warp>(p, tile, memory.item.ranges);
  int warp = threadIdx.x / 32;
  unsigned char *k = memory.k[0] + warp * Warp::tile_kv * Config::dim * 2;
  unsigned char *v = memory.v[0] + warp * Warp::tile_kv * Config::dim_v * 2;

  fv_load_queries<Config, FV_NARROW_ROWS>(p, tile, memory.q);
  fv_copy_async_commit();
  fv_next_keys<Warp> next = fv_find_next<Warp>(p, tile, memory.item.seen, fv_first_key<Warp>(tile));
  fv_copy_rows<Warp, Keys>(p, tile, next, k);
  fv_copy_rows<Warp, Values>(p, tile, next, v);
  fv_copy_async_wait<2>();  // this thread's copies of Q have arrived: K and V may be on their way
  __syncthreads();          // Q, copied by all, becomes visible to all
  fv_take_queries<Warp>(q, memory.q);

  constexpr uint32_t step = Warp::tile_kv * Config::warps;
  while (next.begin < (uint32_t)tile.key_end) {
    float s[f::key_tiles][4];  // [16][Warp::tile_kv] f32, per warp
    fv_copy_async_wait<1>();   // this lane's copies of the keys have arrived: V may be on its way
    __syncwarp();              // the keys, copied by all lanes, become visible to the warp
    fv_score<Warp>(s, q, memory.q, k);
    __syncwarp();  // all lanes have read the keys: the next may overwrite them
    fv_cap_and_hide<Warp>(p, memory.item, next, next.begin, s);
    next = fv_find_next<Warp>(p, tile, memory.item.seen, next.begin + step);
    fv_copy_rows<Warp, Keys>(p, tile, next, k);
    fv_softmax<Warp>(s, o, state, p.scale_log2e);
    fv_copy_async_wait<1>();  // this lane's copies of the values have arrived
    __syncwarp();             // the values, copied by all lanes, become visible to the warp
    fv_accumulate<Warp>(o, state.weight, s, v);
    __syncwarp();  // all lanes have read the values: the next may overwrite them
    fv_copy_rows<Warp, Values>(p, tile, next, v);
    if ((next.begin & p.park_mask) < step) {
      fv_park<Warp>(p, memory.item, o, state, fv_first_key<Warp>(tile), next.begin - step + 1);
    }
  }
  if (fv_is_parked(p, fv_first_key<Warp>(tile), next.begin)) {
    fv_join_part<Warp, false>(p, fv_parked_part<Warp>(memory.item), o, state);
  }
  fv_copy_async_wait_all();  // no copy is on its way when the tile ends
  fv_sum_rows(state);
  fv_join_warps<Config, Warp>(p, memory, o, state);
  if (warp) return;
  if (segment.parts > 1 && !fv_join_tile<Warp>(p, segment, o, state)) return;
  fv_store<Warp>(p, tile, o, state, memory.q);
}

// ---- A CTA's work ----

// A line of the schedule that attention_prepare has made.
__device__ __forceinline__ fv_schedule fv_find_line(const fv_attention_params &p, int line) {
  const fv_placed_line &placed = p.schedule.totals[line];
  return {p.schedule.lines[line].tiles,
          placed.tiles,
          placed.work,
          p.heads_kv,
          placed.shares,
          fv_is_chunked(p)};
}

__device__ __forceinline__ int64_t fv_own_share(int line) {
  return fv_share_of_worker(line, blockIdx.x, gridDim.x);
}

// fv_tile_of_work by the lanes of a warp: two rounds of loads where one thread needs ten.
__device__ __forceinline__ int64_t fv_tile_of_work_by_warp(const fv_schedule &s, int64_t w) {
  int64_t low = 0, high = s.count;
  while (high - low > 1) {
    int64_t step = fv_ceil_div(high - low, 32), probe = low + threadIdx.x % 32 * step;
    bool before = probe < high && s.tiles[probe].work_begin * s.heads <= w;
    low += (__popc(__ballot_sync(0xffffffffu, before)) - 1) * step;
    high = fv_min(high, low + step);
  }
  return low;
}

// One whole warp calls it, since the search votes.
template <class Config>
__device__ __forceinline__ void fv_begin_work(const fv_attention_params &p, fv_work_item &item) {
  if (threadIdx.x == 0) {
    item.parked = p.parked + (int64_t)blockIdx.x * (fv_part<Config>::values * Config::threads);
  }
  if (!p.schedule.totals) {
    if (threadIdx.x == 0) item.cursors[FV_WIDE].w = blockIdx.x;
    return;
  }
  for (int line = 0; line < FV_LINES; ++line) {
    const fv_schedule schedule = fv_find_line(p, line);
    fv_cursor cursor = fv_find_share(&schedule, fv_own_share(line));
    if (cursor.w < cursor.end) cursor.tile = fv_tile_of_work_by_warp(schedule, cursor.w);
    if (threadIdx.x == 0) item.cursors[line] = cursor;
  }
}

__device__ __forceinline__ bool fv_next_of_line(const fv_attention_params &p, int line,
                                                fv_work_item &item) {
  item.line = line;
  if (item.cursors[line].w >= item.cursors[line].end) return false;
  const fv_schedule schedule = fv_find_line(p, line);
  return fv_next_segment(&schedule, fv_own_share(line), &item.cursors[line], &item.segment);
}

// One thread calls it. Without a schedule CTA b takes the tiles b, b + grid, b + 2 grid, ...
template <class Config>
__device__ __forceinline__ void fv_next_work(const fv_attention_params &p, fv_work_item &item) {
  if (p.schedule.totals) {
    int first = fv_first_line(blockIdx.x, gridDim.x);
    item.more = fv_next_of_line(p, first, item) ||
                fv_next_of_line(p, first == FV_WIDE ? FV_NARROW : FV_WIDE, item);
    if (item.more) item.tile = fv_take_tile<Config>(p, item.line, item.segment);
    return;
  }
  item.line = FV_WIDE;
  item.more = item.cursors[FV_WIDE].w < p.tiles;
  item.segment.parts = 1;
  if (item.more) item.tile = fv_find_tile<Config>(p, item.cursors[FV_WIDE].w);
  item.cursors[FV_WIDE].w += gridDim.x;
}

template <class Config>
__device__ __forceinline__ void fv_attend(const fv_attention_params &p) {
  extern __shared__ __align__(16) unsigned char shared[];
  fv_tile_memory<Config> &memory = *reinterpret_cast<fv_tile_memory<Config> *>(shared);
  fv_work_item &item = memory.item;
  fv_wait_for_launches_before();  // what earlier launches wrote, the schedule included, is visible
  if (threadIdx.x < 32) fv_begin_work<Config>(p, item);
  for (;;) {
    if (threadIdx.x == 0) fv_next_work<Config>(p, item);
    __syncthreads();  // the work tile, written by thread 0, becomes visible to all
    if (!item.more) return;
    if (item.line == FV_NARROW) {
      fv_attend_narrow<Config>(p, item.tile, item.segment, memory);
    } else {
      fv_attend_rows<Config>(p, item.tile, item.segment, memory);
    }
    __syncthreads();  // nobody reads the item any more, nor the output in the memory of the next Q
  }
}

#endif  // FOVEA_KERNELS_ATTENTION_FWD_SM80_CUH

// attention_fwd_sm80.cuh - attention forward with mma.sync, for every GPU from sm_80 on.
//
// A CTA takes tiles of 64 or 128 query rows of one sequence and kv head. A warp owns 16 rows or 32.
// It keeps S, P and O in registers, and Q if it fits (Dao 2023, FlashAttention-2). Per key tile:
//
//   S = Q K^T;  hide;  P = exp(S - max), rescale O;  O += P V;  load the next K and V
//
// Kernels with two stages in shared memory compute on one while cp.async fills the other, and take
// one barrier per key tile. Those with one stage load V while they multiply by K, and the next K
// while they multiply by V, and take two. Key tiles start at multiples of tile_kv. A tile of which
// a row sees nothing leaves that row as it was. Tiles of which all rows see all keys have a loop of
// their own, without what hiding, looking up and parking need.
//
// Sequences of up to 16 rows, as in decoding, are narrow: all four warps take the same rows and
// divide the keys. Each warp has memory and copies of its own, and they meet only at the end.
//
// Kernels of the general class ask for each row and key whether it is seen (parts/rules.cuh). Those
// of 8-bit caches widen keys and values in shared memory, and have loops of their own
// (parts/attend_cached.cuh).
//
// A CTA finds its tiles by its number, or in a schedule that attention_prepare has made. A schedule
// may split a tile's keys into work tiles of several CTAs (shared/schedule.h).
//
// Q K V S P O: queries, keys, values, scores, probabilities, output.
#ifndef FOVEA_KERNELS_ATTENTION_FWD_SM80_CUH
#define FOVEA_KERNELS_ATTENTION_FWD_SM80_CUH

#include "kernels/arch/sm90.cuh"
#include "kernels/parts/attend_cached.cuh"
#include "kernels/parts/load.cuh"
#include "kernels/parts/online_softmax.cuh"
#include "kernels/parts/score.cuh"
#include "kernels/parts/store.cuh"
#include "kernels/parts/tile.cuh"
#include "kernels/parts/turn.cuh"

// ---- Wide tiles ----

// Starts the copies of the tile's keys into stage `stage`. Where there are two stages, those of its
// values too: else the values before them are still in use.
template <class Config>
__device__ __forceinline__ void fv_load_ahead(const fv_attention_params &p,
                                              const fv_query_tile &tile,
                                              const fv_next_keys<Config> &keys, int stage,
                                              fv_tile_memory<Config> &memory) {
  fv_load_rows(p, tile, keys, fv_copies<Config, fv_key_side<Config>>(p, memory.wide.k[stage]));
  if constexpr (Config::stages == 2) {
    fv_load_rows(p, tile, keys, fv_copies<Config, fv_value_side<Config>>(p, memory.wide.v[stage]));
  }
}

// Any turn of the loop: the key tile at `key`, which has been loaded, except its values if there is
// one stage. Keys are looked up again where that is needed: registers are scarcer. But what rules
// say is kept from when the tile was loaded, in `keys`, which becomes the next tile's. The general
// class leaves out tiles that no row sees. Returns where the next turn is, or past the last key.
template <class Config>
__device__ __forceinline__ uint32_t fv_take_turn(const fv_attention_params &p,
                                                 const fv_query_tile &tile, uint32_t key, int stage,
                                                 const fv_fragment_places &at,
                                                 fv_queries<Config> &q, fv_rows<Config> &rows,
                                                 fv_next_keys<Config> &keys,
                                                 fv_tile_memory<Config> &memory) {
  constexpr bool two = Config::stages == 2, keeps = Config::general;
  fv_seen_by_warps &shared = memory.item.seen;
  const uint32_t ahead = key + Config::tile_kv;
  const bool more = ahead < (uint32_t)tile.key_end;
  fv_next_keys<Config> here = keys;
  if constexpr (two) {
    if (more) {
      keys = fv_find_seen_keys<Config>(p, tile, ahead, stage ^ 1, shared);
      fv_load_ahead<Config>(p, tile, keys, stage ^ 1, memory);
    }
  } else {
    if (!keeps) here = fv_find_keys<Config>(p, tile, key);
    fv_load_rows(p, tile, here, fv_copies<Config, fv_value_side<Config>>(p, memory.wide.v[0]));
  }
  fv_scores<Config> s;
  fv_score<Config>(s, q, at, stage * (uint32_t)sizeof memory.wide.k[0]);
  if (two && !keeps) here = fv_find_keys<Config>(p, tile, key);
  fv_cap_and_hide<Config>(p, tile, memory.ranges, here, s);
  if constexpr (!two) {
    fv_meet_at_copies();  // the values are there, and the keys have been read
    if (more) {
      keys = fv_find_seen_keys<Config>(p, tile, ahead, 0, shared);
      fv_load_ahead<Config>(p, tile, keys, 0, memory);
    }
  }
  fv_softmax<Config>(s, rows, p.scale_log2e);
  fv_accumulate<Config>(rows, s, at, stage * (uint32_t)sizeof memory.wide.v[0]);
  fv_meet_at_copies();  // the next keys are there, and these values have been read
  return Config::general && more ? keys.begin : ahead;
}

// How many turns from the key tile at `key` on are plain: nothing is hidden, looked up, capped or
// parked, and the next tile's keys lie at even steps too.
template <class Config>
__device__ __forceinline__ uint32_t fv_plain_turns(const fv_attention_params &p,
                                                   const fv_query_tile &tile, uint32_t key) {
  uint32_t past = key - tile.plain_begin;
  if (Config::general || p.softcap_scale != 0.0f || past >= tile.plain_size) return 0;
  uint32_t plain = (tile.plain_size - 1 - past) / Config::tile_kv;  // key tiles after this one
  uint32_t here = ((uint32_t)tile.key_end - 1 - key) / Config::tile_kv;
  uint32_t before_parking = (p.park_mask - (key & p.park_mask)) / Config::tile_kv;
  return min(min(plain, here), before_parking);
}

// The plain turns from `key` on, in a loop of their own.
template <class Config>
__device__ __forceinline__ void fv_take_plain_turns(const fv_attention_params &p,
                                                    const fv_query_tile &tile, uint32_t turns,
                                                    uint32_t &key, int &stage,
                                                    const fv_fragment_places &at,
                                                    fv_queries<Config> &q, fv_rows<Config> &rows,
                                                    fv_tile_memory<Config> &memory) {
  constexpr int flip = Config::stages - 1;
  uint32_t ahead = key + Config::tile_kv;
  const fv_copies<Config, fv_key_side<Config>> k(p, memory.wide.k[0]);
  const fv_copies<Config, fv_value_side<Config>> v(p, memory.wide.v[0]);
  const unsigned char *k_from = k.plain_from(p, tile, ahead);
  const unsigned char *v_from = v.plain_from(p, tile, flip ? ahead : key);
  const uint32_t end = key + turns * Config::tile_kv;
#pragma unroll 1
  for (; key != end; key += Config::tile_kv, stage ^= flip) {
    const int here = flip ? stage : 0, next = here ^ flip;
    if constexpr (flip) {
      k_from = fv_copy_plain_rows(p, k, next * (uint32_t)sizeof memory.wide.k[0], k_from);
    }
    v_from = fv_copy_plain_rows(p, v, next * (uint32_t)sizeof memory.wide.v[0], v_from);
    fv_scores<Config> s;
    fv_score<Config>(s, q, at, here * (uint32_t)sizeof memory.wide.k[0]);
    if constexpr (!flip) {
      fv_meet_at_copies();  // the values are there, and the keys have been read
      k_from = fv_copy_plain_rows(p, k, 0, k_from);
    }
    fv_softmax<Config>(s, rows, p.scale_log2e);
    fv_accumulate<Config>(rows, s, at, here * (uint32_t)sizeof memory.wide.v[0]);
    fv_meet_at_copies();  // the next keys are there, and these values have been read
  }
}

template <class Config>
__device__ __forceinline__ void fv_attend_rows(const fv_attention_params &p,
                                               const fv_query_tile &tile, const fv_segment &segment,
                                               fv_tile_memory<Config> &memory) {
  fv_queries<Config> q;
  fv_rows<Config> rows;
  fv_empty_bases(rows);
  fv_empty_sums(rows);
  if (!Config::general) fv_start_rows<Config>(p, tile, memory.ranges);

  uint32_t key = fv_first_key<Config>(tile);
  fv_load_queries<Config, Config::tile_q>(p, tile, memory.wide.q);
  fv_next_keys<Config> keys = {};
  if (key < (uint32_t)tile.key_end) {
    keys = fv_find_tile_keys<Config>(p, tile, key, 0, memory.item.seen);
    fv_load_ahead<Config>(p, tile, keys, 0, memory);
  }
  fv_meet_at_copies();  // Q and the first keys are there
  const fv_fragment_places at =
      fv_find_fragments<Config>(memory.wide.q, memory.wide.k[0], memory.wide.v[0]);
  fv_take_queries<Config>(q, at);

  for (int stage = 0; key < (uint32_t)tile.key_end; stage ^= Config::stages - 1) {
    if (uint32_t turns = fv_plain_turns<Config>(p, tile, key)) {
      fv_take_plain_turns<Config>(p, tile, turns, key, stage, at, q, rows, memory);
    }
    const int here = Config::stages == 1 ? 0 : stage;
    uint32_t next = fv_take_turn<Config>(p, tile, key, here, at, q, rows, keys, memory);
    if (fv_parks_between(p, key, next)) {
      fv_park<Config>(p, memory.item, rows, fv_first_key<Config>(tile), key);
    }
    key = next;
  }
  fv_end_tile<Config>(p, tile, segment, memory.item, key, rows, memory.wide.q);
}

// ---- 16 rows, and each warp its own keys ----

// Copies the tile's keys or values, if any. It commits a group either way: waits count groups.
template <class Warp, class Side>
__device__ __forceinline__ void fv_copy_rows(const fv_attention_params &p,
                                             const fv_query_tile &tile,
                                             const fv_next_keys<Warp> &next,
                                             const fv_copies<Warp, Side> &copies) {
  if (next.begin < (uint32_t)tile.key_end) fv_load_rows(p, tile, next, copies);
  fv_copy_async_commit();
}

template <class Config>
__device__ __forceinline__ void fv_attend_narrow(const fv_attention_params &p,
                                                 const fv_query_tile &tile,
                                                 const fv_segment &segment,
                                                 fv_tile_memory<Config> &memory) {
  using Warp = fv_warp_config<Config>;
  fv_queries<Warp> q;
  fv_rows<Warp> rows;  // over the warp's own keys
  fv_empty_bases(rows);
  fv_empty_sums(rows);
  if (!Warp::general) fv_start_rows<Warp>(p, tile, memory.ranges);
  const int warp = fv_thread_here() / 32;
  unsigned char *k = memory.narrow.k[warp % FV_NARROW_WARPS];
  unsigned char *v = memory.narrow.v[warp % FV_NARROW_WARPS];

  const fv_copies<Warp, fv_key_side<Warp>> to_k(p, k);
  const fv_copies<Warp, fv_value_side<Warp>> to_v(p, v);
  fv_load_queries<Config, FV_NARROW_ROWS>(p, tile, memory.narrow.q);
  fv_copy_async_commit();
  const uint32_t first = fv_first_narrow_key<Config, Warp>(tile);
  fv_next_keys<Warp> next = fv_find_warp_keys<Warp>(p, tile, memory.item.seen, first);
  fv_copy_rows(p, tile, next, to_k);
  fv_copy_rows(p, tile, next, to_v);
  fv_copy_async_wait<2>();  // this thread's copies of Q have arrived: K and V may be on their way
  __syncthreads();          // Q, copied by all, becomes visible to all
  const fv_fragment_places at = fv_find_fragments<Warp>(memory.narrow.q, k, v);
  fv_take_queries<Warp>(q, at);

  while (next.begin < (uint32_t)tile.key_end) {
    fv_scores<Warp> s;
    fv_copy_async_wait<1>();  // this lane's copies of the keys have arrived: V may be on its way
    __syncwarp();             // the keys, copied by all lanes, become visible to the warp
    fv_score<Warp>(s, q, at, 0);
    __syncwarp();  // all lanes have read the keys: the next may overwrite them
    fv_cap_and_hide<Warp>(p, tile, memory.ranges, next, s);
    const uint32_t here = next.begin;
    next = fv_find_next<Warp>(p, tile, memory.item.seen, next);
    fv_copy_rows(p, tile, next, to_k);
    fv_softmax<Warp>(s, rows, p.scale_log2e);
    fv_copy_async_wait<1>();  // this lane's copies of the values have arrived
    __syncwarp();             // the values, copied by all lanes, become visible to the warp
    fv_accumulate<Warp>(rows, s, at, 0);
    __syncwarp();  // all lanes have read the values: the next may overwrite them
    fv_copy_rows(p, tile, next, to_v);
    if (fv_parks_between(p, here, next.begin)) {
      fv_park<Warp>(p, memory.item, rows, fv_first_key<Warp>(tile), here);
    }
  }
  if (fv_is_parked(p, fv_first_narrow_key<Config, Warp>(tile), next.begin)) {
    fv_join_part<Warp, false>(p, fv_parked_part<Warp>(memory.item), rows);
  }
  fv_copy_async_wait_all();  // no copy is on its way when the tile ends
  fv_sum_rows(rows);
  fv_join_warps<Config, Warp>(p, memory, rows);
  if (warp) return;
  if (segment.parts > 1 && !fv_join_tile<Warp>(p, segment, rows)) return;
  fv_store<Warp>(p, tile, rows, memory.narrow.q);
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
    item.parked = p.parked + (int64_t)blockIdx.x * fv_part<Config>::floats;
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
    if constexpr (Config::kv_bytes == 1) {
      if (item.line == FV_NARROW) {
        fv_attend_cached_narrow<Config>(p, item.tile, item.segment, memory);
      } else {
        fv_attend_cached_rows<Config>(p, item.tile, item.segment, memory);
      }
    } else if (item.line == FV_NARROW) {
      fv_attend_narrow<Config>(p, item.tile, item.segment, memory);
    } else {
      fv_attend_rows<Config>(p, item.tile, item.segment, memory);
    }
    __syncthreads();  // nobody reads the item any more, nor the output in the memory of the next Q
  }
}

#endif  // FOVEA_KERNELS_ATTENTION_FWD_SM80_CUH

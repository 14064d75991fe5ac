// turn.cuh - what the loops over 16-bit and over 8-bit caches share.
#ifndef FOVEA_KERNELS_PARTS_TURN_CUH
#define FOVEA_KERNELS_PARTS_TURN_CUH

#include "kernels/parts/load.cuh"
#include "kernels/parts/online_softmax.cuh"
#include "kernels/parts/part.cuh"
#include "kernels/parts/rules.cuh"

// Applies the softcap, if there is one, and then hides scores unless all rows see all keys.
template <class Config>
__device__ __forceinline__ void fv_cap_and_hide(const fv_attention_params &p,
                                                const fv_query_tile &tile,
                                                const fv_key_range *ranges,
                                                const fv_next_keys<Config> &keys,
                                                fv_scores<Config> &s) {
  if (p.softcap_scale != 0.0f) fv_cap<Config>(s, p.softcap_scale);
  if constexpr (Config::general) {
    fv_rule_scores<Config>(p, tile, keys.seen, keys.begin, s);
  } else {
    if (!fv_is_whole(tile, keys)) {
      fv_hide<Config>(s, ranges, keys.visible, (int32_t)keys.begin);
    }
  }
}

// ---- Wide tiles ----

// Looks up the key tile at `begin`, which must not be past the last one.
template <class Config>
__device__ __forceinline__ fv_next_keys<Config> fv_find_tile_keys(const fv_attention_params &p,
                                                                  const fv_query_tile &tile,
                                                                  uint32_t begin, int stage,
                                                                  fv_seen_by_warps &shared) {
  auto keys = fv_find_keys<Config>(p, tile, begin);
  if constexpr (Config::general) fv_apply_rules<Config>(p, tile, shared, stage, keys);
  return keys;
}

// As above, but where rules hide a whole tile from all rows, the next one that some row sees, if
// there is one: nothing is read or computed for tiles in between. The warps agree, since each knows
// what all rows see. Rounds take turns with the two places for that: a warp that is ahead must not
// overwrite what others still read.
template <class Config>
__device__ __forceinline__ fv_next_keys<Config> fv_find_seen_keys(const fv_attention_params &p,
                                                                  const fv_query_tile &tile,
                                                                  uint32_t begin, int stage,
                                                                  fv_seen_by_warps &shared) {
  auto keys = fv_find_tile_keys<Config>(p, tile, begin, stage, shared);
  if constexpr (Config::general) {
#pragma unroll 1
    while (!keys.visible.any() && keys.begin + Config::tile_kv < (uint32_t)tile.key_end) {
      stage ^= 1;
      keys = fv_find_tile_keys<Config>(p, tile, keys.begin + Config::tile_kv, stage, shared);
    }
  }
  return keys;
}

// This thread's copies have arrived, and those of all become visible to all. Nobody reads any more
// what was read before.
__device__ __forceinline__ void fv_meet_at_copies() {
  fv_copy_async_wait_all();
  __syncthreads();
}

// ---- Narrow tiles: 16 rows, and each warp its own keys ----

// The warp's tile of keys at `begin`, if there is one.
template <class Warp>
__device__ __forceinline__ fv_next_keys<Warp> fv_find_warp_keys(const fv_attention_params &p,
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

// The warp's next tile of keys after `keys`, if there is one. Those that rules hide are left out.
template <class Warp>
__device__ __forceinline__ fv_next_keys<Warp> fv_find_next(const fv_attention_params &p,
                                                           const fv_query_tile &tile,
                                                           fv_seen_by_warps &shared,
                                                           const fv_next_keys<Warp> &keys) {
  constexpr uint32_t step = Warp::tile_kv * FV_NARROW_WARPS;
  auto next = fv_find_warp_keys<Warp>(p, tile, shared, keys.begin + step);
  if constexpr (Warp::general) {
#pragma unroll 1
    while (!next.visible.any() && next.begin < (uint32_t)tile.key_end) {
      next = fv_find_warp_keys<Warp>(p, tile, shared, next.begin + step);
    }
  }
  return next;
}

// The other warps put their partials where the keys were, and the first warp merges them.
template <class Config, class Warp>
__device__ __forceinline__ void fv_join_warps(const fv_attention_params &p,
                                              fv_tile_memory<Config> &memory, fv_rows<Warp> &rows) {
  constexpr int floats = fv_part<Warp>::floats;
  static_assert((FV_NARROW_WARPS - 1) * floats * 4 <= sizeof memory.narrow - sizeof memory.narrow.q,
                "the parts of the other warps fit where keys and values were");
  float *parts = reinterpret_cast<float *>(memory.narrow.k);
  const int warp = fv_thread_here() / 32;
  __syncthreads();  // nobody reads keys or values any more: partials may overwrite them
  if (warp && warp < FV_NARROW_WARPS) fv_put_part<Warp>(parts + (warp - 1) * floats, rows);
  __syncthreads();  // the partials of all warps become visible to the first
  if (warp) return;
  for (int other = 1; other < FV_NARROW_WARPS; ++other) {
    fv_join_part<Warp, false>(p, parts + (other - 1) * floats, rows);
  }
}

// The first key of the warp's. Where a CTA has more warps than a narrow tile, they have none.
template <class Config, class Warp>
__device__ __forceinline__ uint32_t fv_first_narrow_key(const fv_query_tile &tile) {
  if (Config::warps > FV_NARROW_WARPS && fv_thread_here() / 32 >= FV_NARROW_WARPS) {
    return (uint32_t)tile.key_end;
  }
  return fv_first_key<Warp>(tile);
}

#endif  // FOVEA_KERNELS_PARTS_TURN_CUH

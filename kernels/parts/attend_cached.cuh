// attend_cached.cuh - the loops over 8-bit caches (parts/cached.cuh). Per key tile:
//
//   widen K;  S = Q K^T by scales;  hide;  P = exp(S - max), rescale O;  widen V;  O += P V
//
// The next tile's codes are on their way while this one is computed on. One loop serves plain tiles
// and others.
#ifndef FOVEA_KERNELS_PARTS_ATTEND_CACHED_CUH
#define FOVEA_KERNELS_PARTS_ATTEND_CACHED_CUH

#include "kernels/parts/cached.cuh"
#include "kernels/parts/store.cuh"
#include "kernels/parts/turn.cuh"

// Between two parts of the keys: the scores so far are of what the next part has left.
template <class Config>
__device__ __forceinline__ void fv_step_scores(fv_scores<Config> &s) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
#pragma unroll
    for (int n = 0; n < fv_fragments<Config>::key_tiles; ++n) {
#pragma unroll
      for (int c = 0; c < 4; ++c) s.of[b][n][c] *= 1.0f / fv_part_step<typename Config::type>;
    }
  }
}

// The same between two parts of the values: their products are multiplied by less.
template <class Config>
__device__ __forceinline__ void fv_step_factors(fv_tile_factors<Config> &factors) {
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
    factors.of[b][0] *= 1.0f / fv_part_step<typename Config::type>;
    factors.of[b][1] *= 1.0f / fv_part_step<typename Config::type>;
  }
}

// O += P V of a tile whose weights s holds. The second part of values that have two is at `rest`.
template <class Config>
__device__ __forceinline__ void fv_accumulate_parts(const fv_attention_params &p,
                                                    fv_rows<Config> &rows, fv_scores<Config> &s,
                                                    const float *scales, uint32_t values,
                                                    uint32_t rest) {
  fv_packed_weights<Config> weights;
  fv_tile_factors<Config> factors = fv_round_and_scale<Config>(p, weights, rows, s, scales);
  const int parts = fv_value_parts(p);
#pragma unroll 1
  for (int part = 0; part < parts; ++part) {
    fv_add_product<Config>(rows, weights, part ? rest : values, factors);
    fv_step_factors<Config>(factors);
  }
}

// ---- Wide tiles ----

// Starts the copies of the tile's codes. Its scales are loaded, and stand in `scales` until the
// tile's turn.
template <class Config>
__device__ __forceinline__ void fv_fetch(const fv_attention_params &p, const fv_query_tile &tile,
                                         const fv_next_keys<Config> &keys,
                                         fv_own_scales<Config> &scales,
                                         fv_tile_memory<Config> &memory) {
  fv_copy_codes(p, tile, keys, fv_code_copies<Config, fv_key_side<Config>>(memory.wide.k_codes));
  fv_copy_codes(p, tile, keys, fv_code_copies<Config, fv_value_side<Config>>(memory.wide.v_codes));
  scales = fv_load_scales<Config>(p, tile, keys);
}

// Puts the tile's keys and values where they are computed on. Nobody reads there any more, and this
// warp's codes have arrived.
template <class Config>
__device__ __forceinline__ void fv_widen_tile(const fv_attention_params &p,
                                              const fv_own_scales<Config> &scales,
                                              fv_tile_memory<Config> &memory) {
  fv_put_scales<Config>(memory.scales, scales);
  if (p.k_scale.blocks > 1 || p.v_scale.blocks > 1) __syncthreads();  // where widening needs them
  const fv_widened_keys<Config> keys(memory.wide.k_codes, memory.wide.k[0]);
  const fv_widened_values<Config> values(memory.wide.v_codes, memory.wide.v[0]);
  fv_widen_codes(keys, fv_widening_of_keys<Config>(p, memory.scales, fv_key_parts<Config>(p) - 1));
  fv_widen_codes(values, fv_widening_of_values<Config>(p, memory.scales, 0));
  __syncthreads();  // keys, values and scales become visible to all
}

// S = Q K^T of the tile. Where keys have several parts, these take each other's place, from the
// last to the first. Then the second part of values, if there is one, takes the place of the keys.
template <class Config>
__device__ __forceinline__ void fv_score_parts(const fv_attention_params &p, fv_queries<Config> &q,
                                               const fv_fragment_places &at, fv_scores<Config> &s,
                                               fv_tile_memory<Config> &memory) {
  fv_clear_scores<Config>(s);
#pragma unroll 1
  for (int part = fv_key_parts<Config>(p) - 1;;) {
    fv_add_scores<Config>(s, q, at, 0);
    if (--part < 0) break;
    fv_step_scores<Config>(s);
    __syncthreads();  // all have read the part before
    const fv_widened_keys<Config> keys(memory.wide.k_codes, memory.wide.k[0]);
    fv_widen_with_care(keys, fv_widening_of_keys<Config>(p, memory.scales, part));
    __syncthreads();  // the part becomes visible to all
  }
  if (fv_value_parts(p) > 1) {
    __syncthreads();  // all have read the keys
    const fv_widened_values<Config> values(memory.wide.v_codes, memory.wide.k[0]);
    fv_widen_with_care(values, fv_widening_of_values<Config>(p, memory.scales, 1));
    __syncthreads();  // the second part of the values becomes visible to all
  }
}

// The turn of the key tile at `key`, whose codes have been copied, and whose scales `scales` has.
// Returns where the next turn is, or past the last key.
template <class Config>
__device__ __forceinline__ uint32_t fv_take_cached_turn(
    const fv_attention_params &p, const fv_query_tile &tile, uint32_t key,
    const fv_fragment_places &at, fv_queries<Config> &q, fv_rows<Config> &rows,
    fv_next_keys<Config> &keys, fv_own_scales<Config> &scales, fv_tile_memory<Config> &memory) {
  const uint32_t ahead = key + Config::tile_kv;
  const bool more = ahead < (uint32_t)tile.key_end;
  fv_next_keys<Config> here = keys;
  fv_scores<Config> s;
  fv_widen_tile<Config>(p, scales, memory);
  fv_score_parts<Config>(p, q, at, s, memory);
  if (more) {
    keys = fv_find_seen_keys<Config>(p, tile, ahead, 0, memory.item.seen);
    fv_fetch<Config>(p, tile, keys, scales, memory);
  }
  if (!Config::general) here = fv_find_keys<Config>(p, tile, key);
  fv_scale_scores<Config>(s, memory.scales.scale[0]);
  fv_cap_and_hide<Config>(p, tile, memory.ranges, here, s);
  fv_softmax<Config>(s, rows, p.scale_log2e);
  const uint32_t rest = at.v + (uint32_t)(memory.wide.k[0] - memory.wide.v[0]);
  fv_accumulate_parts<Config>(p, rows, s, memory.scales.scale[1], at.v, rest);
  fv_meet_at_copies();  // the next codes are there, and these keys and values have been read
  return Config::general && more ? keys.begin : ahead;
}

template <class Config>
__device__ __forceinline__ void fv_attend_cached_rows(const fv_attention_params &p,
                                                      const fv_query_tile &tile,
                                                      const fv_segment &segment,
                                                      fv_tile_memory<Config> &memory) {
  fv_queries<Config> q;
  fv_rows<Config> rows;
  fv_empty_bases(rows);
  fv_empty_sums(rows);
  if (!Config::general) fv_start_rows<Config>(p, tile, memory.ranges);

  uint32_t key = fv_first_key<Config>(tile);
  fv_load_queries<Config, Config::tile_q>(p, tile, memory.wide.q);
  fv_next_keys<Config> keys = {};
  fv_own_scales<Config> scales = {};
  if (key < (uint32_t)tile.key_end) {
    keys = fv_find_tile_keys<Config>(p, tile, key, 0, memory.item.seen);
    fv_fetch<Config>(p, tile, keys, scales, memory);
  }
  fv_meet_at_copies();  // Q and the first codes are there
  const fv_fragment_places at =
      fv_find_fragments<Config>(memory.wide.q, memory.wide.k[0], memory.wide.v[0]);
  fv_take_queries<Config>(q, at);

#pragma unroll 1
  while (key < (uint32_t)tile.key_end) {
    uint32_t next = fv_take_cached_turn<Config>(p, tile, key, at, q, rows, keys, scales, memory);
    if (fv_parks_between(p, key, next)) {
      fv_park<Config>(p, memory.item, rows, fv_first_key<Config>(tile), key);
    }
    key = next;
  }
  fv_end_tile<Config>(p, tile, segment, memory.item, key, rows, memory.wide.q);
}

// ---- Narrow tiles ----

// Copies the tile's codes of keys, or of values, if any. It commits a group either way.
template <class Warp, class Side>
__device__ __forceinline__ void fv_fetch_rows(const fv_attention_params &p,
                                              const fv_query_tile &tile,
                                              const fv_next_keys<Warp> &next,
                                              const fv_code_copies<Warp, Side> &copies) {
  if (next.begin < (uint32_t)tile.key_end) fv_copy_codes(p, tile, next, copies);
  fv_copy_async_commit();
}

// A warp's own memory, of a narrow tile.
struct fv_warp_codes {
  unsigned char *tile;  // keys, then values
  const unsigned char *k_codes, *v_codes;
};

// S = Q K^T. The codes of the keys have arrived.
template <class Warp, class Scales>
__device__ __forceinline__ void fv_score_narrow(const fv_attention_params &p,
                                                const fv_warp_codes &memory, Scales &scales,
                                                fv_queries<Warp> &q, const fv_fragment_places &at,
                                                fv_scores<Warp> &s) {
  fv_clear_scores<Warp>(s);
#pragma unroll 1
  for (int part = fv_key_parts<Warp>(p) - 1;;) {
    fv_widen_codes(fv_widened_keys<Warp>(memory.k_codes, memory.tile),
                   fv_widening_of_keys<Warp>(p, scales, part));
    __syncwarp();  // the part becomes visible to the warp
    fv_add_scores<Warp>(s, q, at, 0);
    __syncwarp();  // all lanes have read it: the next, or values, may overwrite it
    if (--part < 0) break;
    fv_step_scores<Warp>(s);
  }
}

// O += P V. The codes of the values have arrived.
template <class Warp, class Scales>
__device__ __forceinline__ void fv_accumulate_narrow(const fv_attention_params &p,
                                                     const fv_warp_codes &memory, Scales &scales,
                                                     const fv_fragment_places &at,
                                                     fv_scores<Warp> &s, fv_rows<Warp> &rows) {
  fv_packed_weights<Warp> weights;
  fv_tile_factors<Warp> factors;
  const fv_widened_values<Warp> values(memory.v_codes, memory.tile);
  const float *own = scales.scale[1] + fv_first_scale<Warp>();
  const int parts = fv_value_parts(p);
  fv_widen_codes(values, fv_widening_of_values<Warp>(p, scales, 0));
  __syncwarp();  // the values and their scales become visible to the warp
  factors = fv_round_and_scale<Warp>(p, weights, rows, s, own);
#pragma unroll 1
  for (int part = 0;;) {
    fv_add_product<Warp>(rows, weights, at.v, factors);
    __syncwarp();  // all lanes have read the part: the next, or keys, may overwrite it
    if (++part >= parts) break;
    fv_step_factors<Warp>(factors);
    fv_widen_with_care(values, fv_widening_of_values<Warp>(p, scales, part));
    __syncwarp();  // the part becomes visible to the warp
  }
}

template <class Config>
__device__ __forceinline__ void fv_attend_cached_narrow(const fv_attention_params &p,
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
  static_assert(Config::warps == FV_NARROW_WARPS, "every warp has memory of its own");
  const fv_warp_codes own = {memory.narrow.k[warp], memory.narrow.k_codes[warp],
                             memory.narrow.v_codes[warp]};

  const fv_code_copies<Warp, fv_key_side<Warp>> to_k(memory.narrow.k_codes[warp]);
  const fv_code_copies<Warp, fv_value_side<Warp>> to_v(memory.narrow.v_codes[warp]);
  fv_load_queries<Config, FV_NARROW_ROWS>(p, tile, memory.narrow.q);
  fv_copy_async_commit();
  const uint32_t first = fv_first_narrow_key<Config, Warp>(tile);
  fv_next_keys<Warp> next = fv_find_warp_keys<Warp>(p, tile, memory.item.seen, first);
  fv_fetch_rows(p, tile, next, to_k);
  fv_fetch_rows(p, tile, next, to_v);
  fv_own_scales<Warp> scales = fv_load_scales<Warp>(p, tile, next);
  fv_copy_async_wait<2>();  // this thread's copies of Q have arrived: K and V may be on their way
  __syncthreads();          // Q, copied by all, becomes visible to all
  const fv_fragment_places at = fv_find_fragments<Warp>(memory.narrow.q, own.tile, own.tile);
  fv_take_queries<Warp>(q, at);

#pragma unroll 1
  while (next.begin < (uint32_t)tile.key_end) {
    fv_scores<Warp> s;
    fv_put_scales<Warp>(memory.scales, scales);
    fv_copy_async_wait<1>();  // this lane's copies of the keys have arrived: V may be on its way
    __syncwarp();             // the codes of the keys, and the scales, become visible to the warp
    fv_score_narrow<Warp>(p, own, memory.scales, q, at, s);
    fv_scale_scores<Warp>(s, memory.scales.scale[0] + fv_first_scale<Warp>());
    fv_cap_and_hide<Warp>(p, tile, memory.ranges, next, s);
    const uint32_t here = next.begin;
    next = fv_find_next<Warp>(p, tile, memory.item.seen, next);
    fv_fetch_rows(p, tile, next, to_k);
    scales = fv_load_scales<Warp>(p, tile, next);
    fv_softmax<Warp>(s, rows, p.scale_log2e);
    fv_copy_async_wait<1>();  // this lane's copies of the values have arrived
    __syncwarp();             // the codes of the values become visible to the warp
    fv_accumulate_narrow<Warp>(p, own, memory.scales, at, s, rows);
    fv_fetch_rows(p, tile, next, to_v);
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

#endif  // FOVEA_KERNELS_PARTS_ATTEND_CACHED_CUH

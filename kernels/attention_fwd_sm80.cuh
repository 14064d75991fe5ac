// attention_fwd_sm80.cuh - attention forward with mma.sync, for every GPU from sm_80 on.
//
// A CTA takes tiles of 64 query rows of one sequence and kv head; a warp owns 16 of them and keeps
// its Q, S, P and O in registers (Dao 2023, FlashAttention-2). Per tile of 64 keys:
//
//   load the next K and V;  S = Q K^T;  hide;  P = exp(S - max), rescale O;  O += P V
//
// K and V lie twice in shared memory: one pair is computed on while cp.async brings the next. There
// is one barrier per key tile. A row's bits depend on its own query, keys and masks alone: key tiles
// start at multiples of 64, a row is computed by one warp from its first key to its last, and a tile
// of which it sees nothing leaves its state as it was.
//
// Q K V S P O: queries, keys, values, scores, probabilities, output.
#ifndef FV_ATTENTION_FWD_SM80_CUH
#define FV_ATTENTION_FWD_SM80_CUH

#include "parts/load.cuh"
#include "parts/online_softmax.cuh"
#include "parts/score.cuh"
#include "parts/store.cuh"
#include "parts/tile.cuh"

// Starts the copies of one key tile into stage `stage`, and says which of its keys are visible.
template <class Config>
__device__ __forceinline__ fv_visible_keys<Config::words> fv_load_keys(
    const fv_attention_params &p, const fv_query_tile &tile, int32_t key_begin, int stage,
    fv_tile_memory<Config> &memory) {
  fv_key_places<Config::words> places = {};
  auto visible = fv_find_visible<Config>(p, tile, key_begin, places);
  unsigned char *k = memory.k[stage], *v = memory.v[stage];
  if (p.pages.k_ids) {
    fv_load_keys_and_values<Config, true>(p, tile, key_begin, visible, places, k, v);
  } else {
    fv_load_keys_and_values<Config, false>(p, tile, key_begin, visible, places, k, v);
  }
  fv_copy_async_commit();
  return visible;
}

template <class Config>
__device__ __forceinline__ void fv_attend_tile(const fv_attention_params &p,
                                               const fv_query_tile &tile,
                                               fv_tile_memory<Config> &memory) {
  using f = fv_fragments<Config>;
  uint32_t q[f::q_steps][4];      // A fragments of 16 rows, per warp
  float o[f::dim_tiles][4] = {};  // [16][dim_v] f32, per warp
  fv_row_state state = fv_start_rows(p, tile);

  int32_t key = tile.key_begin / Config::tile_kv * Config::tile_kv;
  fv_load_queries<Config>(p, tile, memory.q);
  fv_visible_keys<Config::words> next = {};
  if (key < tile.key_end) next = fv_load_keys<Config>(p, tile, key, 0, memory);
  fv_copy_async_wait_all();
  __syncthreads();  // Q and the first key tile, copied by all, become visible to all
  fv_take_queries<Config>(q, memory.q);

  int stage = 0;
  for (; key < tile.key_end; key += Config::tile_kv, stage ^= 1) {
    auto visible = next;
    int32_t ahead = key + Config::tile_kv;
    if (ahead < tile.key_end) next = fv_load_keys<Config>(p, tile, ahead, stage ^ 1, memory);
    float s[f::key_tiles][4];  // [16][tile_kv] f32, per warp
    fv_score<Config>(s, q, memory.q, memory.k[stage]);
    if (p.softcap_scale != 0.0f) fv_cap<Config>(s, p.softcap_scale);
    bool common = key >= tile.common_begin && ahead <= tile.common_end && visible.all();
    if (!common) fv_hide<Config>(s, state, visible, key);
    fv_softmax<Config>(s, o, state, p.scale_log2e);
    fv_accumulate<Config>(o, s, memory.v[stage]);
    fv_copy_async_wait_all();
    __syncthreads();  // the next tile has arrived, and nobody reads this one any more
  }
  fv_store<Config>(p, tile, o, state, memory.q);
}

template <class Config>
__device__ __forceinline__ void fv_attend(const fv_attention_params &p) {
  extern __shared__ __align__(16) unsigned char shared[];
  fv_tile_memory<Config> &memory = *reinterpret_cast<fv_tile_memory<Config> *>(shared);
  for (int64_t number = blockIdx.x; number < p.tiles; number += gridDim.x) {
    fv_attend_tile<Config>(p, fv_find_tile<Config>(p, number), memory);
    __syncthreads();  // the output has left the memory that takes the next Q
  }
}

#endif  // FV_ATTENTION_FWD_SM80_CUH

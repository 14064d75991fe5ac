// attention_fwd_sm80.cuh - attention forward with mma.sync, for every GPU from sm_80 on.
//
// A CTA takes tiles of 64 query rows of one sequence and kv head; a warp owns 16 of them and keeps
// its Q, S, P and O in registers (Dao 2023, FlashAttention-2). Per tile of keys:
//
//   load the next K and V;  S = Q K^T;  hide;  P = exp(S - max), rescale O;  O += P V
//
// K and V lie twice in shared memory: one pair is computed on while cp.async brings the next. There
// is one barrier per key tile. Key tiles start at multiples of tile_kv, and one of which a row sees
// nothing leaves its state as it was.
//
// Sequences of up to 16 rows, as in decoding, are narrow: all four warps take the same rows and divide
// the keys, each with memory and copies of its own, and meet only at the end.
//
// Which tiles are a CTA's is either a matter of its number, or of a schedule that attention_prepare
// has made: then a tile's keys may be cut into segments of several CTAs (schedule.h).
//
// Q K V S P O: queries, keys, values, scores, probabilities, output.
#ifndef FV_ATTENTION_FWD_SM80_CUH
#define FV_ATTENTION_FWD_SM80_CUH

#include "arch/sm90.cuh"
#include "parts/load.cuh"
#include "parts/online_softmax.cuh"
#include "parts/score.cuh"
#include "parts/store.cuh"
#include "parts/tile.cuh"

// Starts the copies of one key tile into stage `stage`, and says which of its keys are visible.
template <class Config>
__device__ __forceinline__ fv_visible_keys<Config::tile_kv> fv_load_stage(
    const fv_attention_params &p, const fv_query_tile &tile, int32_t key_begin, int stage,
    fv_tile_memory<Config> &memory) {
  fv_key_places<Config::tile_kv> places = {};
  auto visible = fv_find_visible<Config>(p, tile, key_begin, places);
  fv_load_keys<Config>(p, tile, key_begin, visible, places, memory.k[stage]);
  fv_load_values<Config>(p, tile, key_begin, visible, places, memory.v[stage]);
  fv_copy_async_commit();
  return visible;
}

// Scores become probabilities, and O is brought to what they are relative to.
template <class Config>
__device__ __forceinline__ void fv_weigh(const fv_attention_params &p, const fv_query_tile &tile,
                                         int32_t key,
                                         const fv_visible_keys<Config::tile_kv> &visible,
                                         float (&s)[fv_fragments<Config>::key_tiles][4],
                                         float (&o)[fv_fragments<Config>::dim_tiles][4],
                                         fv_row_state &state) {
  if (p.softcap_scale != 0.0f) fv_cap<Config>(s, p.softcap_scale);
  bool common = key >= tile.common_begin && key + Config::tile_kv <= tile.common_end;
  if (!common || !visible.all()) fv_hide<Config>(s, state, visible, key);
  fv_softmax<Config>(s, o, state, p.scale_log2e);
}

// ---- 64 rows ----

template <class Config>
__device__ __forceinline__ void fv_attend_tile(const fv_attention_params &p,
                                               const fv_query_tile &tile, const fv_segment &segment,
                                               fv_tile_memory<Config> &memory) {
  using f = fv_fragments<Config>;
  uint32_t q[f::q_steps][4];      // A fragments of 16 rows, per warp
  float o[f::dim_tiles][4] = {};  // [16][dim_v] f32, per warp
  fv_row_state state = fv_start_rows<Config>(p, tile);

  int32_t key = tile.key_begin / Config::tile_kv * Config::tile_kv;
  fv_load_queries<Config, Config::tile_q>(p, tile, memory.q);
  fv_visible_keys<Config::tile_kv> next = {};
  if (key < tile.key_end) next = fv_load_stage<Config>(p, tile, key, 0, memory);
  fv_copy_async_wait_all();
  __syncthreads();  // Q and the first key tile, copied by all, become visible to all
  fv_take_queries<Config>(q, memory.q);

  int stage = 0;
  for (; key < tile.key_end; key += Config::tile_kv, stage ^= 1) {
    auto visible = next;
    int32_t ahead = key + Config::tile_kv;
    if (ahead < tile.key_end) next = fv_load_stage<Config>(p, tile, ahead, stage ^ 1, memory);
    float s[f::key_tiles][4];  // [16][tile_kv] f32, per warp
    fv_score<Config>(s, q, memory.q, memory.k[stage]);
    fv_weigh<Config>(p, tile, key, visible, s, o, state);
    fv_accumulate<Config>(o, s, memory.v[stage]);
    fv_copy_async_wait_all();
    __syncthreads();  // the next tile has arrived, and nobody reads this one any more
  }
  fv_sum_rows(state);
  if (segment.parts > 1 && !fv_join_tile<Config>(p, segment, o, state)) return;
  fv_store<Config>(p, tile, o, state, memory.q);
}

// ---- 16 rows, and each warp its own keys ----

// What a warp looks up of its next tile of keys, before it copies them.
template <class Warp>
struct fv_next_keys {
  int32_t begin;
  fv_visible_keys<Warp::tile_kv> visible;
  fv_key_places<Warp::tile_kv> places;
};

template <class Warp>
__device__ __forceinline__ fv_next_keys<Warp> fv_find_next(const fv_attention_params &p,
                                                           const fv_query_tile &tile,
                                                           int32_t begin) {
  fv_next_keys<Warp> next = {};
  next.begin = begin;
  if (begin < tile.key_end) next.visible = fv_find_visible<Warp>(p, tile, begin, next.places);
  return next;
}

// Copies keys, or nothing: a group is counted either way.
template <class Warp>
__device__ __forceinline__ void fv_start_keys(const fv_attention_params &p,
                                              const fv_query_tile &tile,
                                              const fv_next_keys<Warp> &next, unsigned char *to) {
  if (next.begin < tile.key_end)
    fv_load_keys<Warp>(p, tile, next.begin, next.visible, next.places, to);
  fv_copy_async_commit();
}

template <class Warp>
__device__ __forceinline__ void fv_start_values(const fv_attention_params &p,
                                                const fv_query_tile &tile,
                                                const fv_next_keys<Warp> &next, unsigned char *to) {
  if (next.begin < tile.key_end)
    fv_load_values<Warp>(p, tile, next.begin, next.visible, next.places, to);
  fv_copy_async_commit();
}

// The first warp joins what the others have found; they lay it where the keys were.
template <class Config, class Warp>
__device__ __forceinline__ void fv_join_warps(fv_tile_memory<Config> &memory,
                                              float (&o)[fv_fragments<Warp>::dim_tiles][4],
                                              fv_row_state &state) {
  constexpr int floats = fv_part<Warp>::values * 32;
  static_assert((Config::warps - 1) * floats * 4 <= sizeof memory.k + sizeof memory.v,
                "the parts of the other warps fit where keys and values were");
  float *parts = reinterpret_cast<float *>(memory.k);
  int warp = threadIdx.x / 32;
  __syncthreads();  // nobody reads keys or values any more
  if (warp) fv_put_part<Warp>(parts + (warp - 1) * floats, o, state);
  __syncthreads();  // all parts are there
  if (warp) return;
  for (int other = 1; other < Config::warps; ++other) {
    fv_join_part<Warp, false>(parts + (other - 1) * floats, o, state);
  }
}

template <class Config>
__device__ __forceinline__ void fv_attend_narrow(const fv_attention_params &p,
                                                 const fv_query_tile &tile,
                                                 const fv_segment &segment,
                                                 fv_tile_memory<Config> &memory) {
  using Warp = fv_warp_config<Config>;
  using f = fv_fragments<Warp>;
  uint32_t q[f::q_steps][4];      // A fragments of the 16 rows
  float o[f::dim_tiles][4] = {};  // [16][dim_v] f32, over this warp's keys
  fv_row_state state = fv_start_rows<Warp>(p, tile);
  int warp = threadIdx.x / 32;
  unsigned char *k = memory.k[0] + warp * Warp::tile_kv * Config::dim * 2;
  unsigned char *v = memory.v[0] + warp * Warp::tile_kv * Config::dim_v * 2;

  int32_t first = tile.key_begin / Config::tile_kv * Config::tile_kv;
  fv_load_queries<Config, FV_NARROW_ROWS>(p, tile, memory.q);
  fv_copy_async_commit();
  fv_next_keys<Warp> next = fv_find_next<Warp>(p, tile, first + warp * Warp::tile_kv);
  fv_start_keys<Warp>(p, tile, next, k);
  fv_start_values<Warp>(p, tile, next, v);
  fv_copy_async_wait<2>();
  __syncthreads();  // Q, copied by all, becomes visible to all
  fv_take_queries<Warp>(q, memory.q);

  constexpr int32_t step = Warp::tile_kv * Config::warps;
  while (next.begin < tile.key_end) {
    float s[f::key_tiles][4];  // [16][keys of a warp] f32
    auto visible = next.visible;
    fv_copy_async_wait<1>();
    __syncwarp();  // the keys are there, copied by all lanes
    fv_score<Warp>(s, q, memory.q, k);
    __syncwarp();  // and read by all
    next = fv_find_next<Warp>(p, tile, next.begin + step);
    fv_start_keys<Warp>(p, tile, next, k);
    fv_weigh<Warp>(p, tile, next.begin - step, visible, s, o, state);
    fv_copy_async_wait<1>();
    __syncwarp();  // the values are there
    fv_accumulate<Warp>(o, s, v);
    __syncwarp();
    fv_start_values<Warp>(p, tile, next, v);
  }
  fv_copy_async_wait_all();
  fv_sum_rows(state);
  fv_join_warps<Config, Warp>(memory, o, state);
  if (warp) return;
  if (segment.parts > 1 && !fv_join_tile<Warp>(p, segment, o, state)) return;
  fv_store<Warp>(p, tile, o, state, memory.q);
}

// ---- A CTA's work ----

// The schedule that attention_prepare has made.
__device__ __forceinline__ fv_schedule fv_find_schedule(const fv_attention_params &p) {
  return {p.schedule.tiles,     p.schedule.totals[0],
          p.schedule.totals[1], p.heads_kv,
          (int32_t)gridDim.x,   (p.flags & (FV_FLAG_CHUNKS | FV_FLAG_WHOLE)) != 0};
}

__device__ __forceinline__ void fv_begin_work(const fv_attention_params &p, fv_control &control) {
  control.cursor.w = blockIdx.x;
  if (!p.schedule.totals) return;
  const fv_schedule schedule = fv_find_schedule(p);
  control.cursor = fv_start_share(&schedule, blockIdx.x);
}

// Without a schedule: the tiles b, b + grid, b + 2 grid, ...
template <class Config>
__device__ __forceinline__ void fv_next_work(const fv_attention_params &p, fv_control &control) {
  if (p.schedule.totals) {
    const fv_schedule schedule = fv_find_schedule(p);
    control.more = fv_next_segment(&schedule, blockIdx.x, &control.cursor, &control.segment);
    if (control.more) control.tile = fv_take_tile<Config>(p, control.segment);
    return;
  }
  control.more = control.cursor.w < p.tiles;
  control.segment.parts = 1;
  if (control.more) control.tile = fv_find_tile<Config>(p, control.cursor.w);
  control.cursor.w += gridDim.x;
}

template <class Config>
__device__ __forceinline__ void fv_attend(const fv_attention_params &p) {
  extern __shared__ __align__(16) unsigned char shared[];
  fv_tile_memory<Config> &memory = *reinterpret_cast<fv_tile_memory<Config> *>(shared);
  fv_control &control = memory.control;
  fv_wait_for_launches_before();
  if (threadIdx.x == 0) fv_begin_work(p, control);
  for (;;) {
    if (threadIdx.x == 0) fv_next_work<Config>(p, control);
    __syncthreads();  // all know what to do
    if (!control.more) return;
    if (p.schedule.totals && fv_is_narrow(p, control.tile.sequence.len_q)) {
      fv_attend_narrow<Config>(p, control.tile, control.segment, memory);
    } else {
      fv_attend_tile<Config>(p, control.tile, control.segment, memory);
    }
    __syncthreads();  // all are done with it, and the output has left the memory of the next Q
  }
}

#endif  // FV_ATTENTION_FWD_SM80_CUH

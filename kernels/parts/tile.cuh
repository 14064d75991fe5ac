// tile.cuh - the shape of a kernel's tiles, and which rows and keys a CTA works on.
//
// A row of a tile of queries is a pair (position, query head of the group), position first, so that
// all heads that share keys share their loads.
#ifndef FV_TILE_CUH
#define FV_TILE_CUH

#include "../params.h"
#include "../shape.h"

// What distinguishes the rows of attention_fwd.def. Knobs change speed, never results.
template <class Type, int DIM, int TILE_Q, int TILE_KV, int WARPS, int STAGES>
struct fv_tile_config {
  using type = Type;  // fv_f16 or fv_bf16
  static constexpr int dim = DIM, tile_q = TILE_Q, tile_kv = TILE_KV;
  static constexpr int warps = WARPS, threads = WARPS * 32, stages = STAGES;
  static constexpr int chunks = DIM / 8;  // of 8 elements, 16 bytes
  static constexpr int q_bytes = TILE_Q * DIM * 2, kv_bytes = TILE_KV * DIM * 2;
  static_assert(TILE_Q == WARPS * 16, "a warp owns 16 rows");
  static_assert(TILE_KV == 64, "visible keys are two words");
  static_assert(STAGES == 2, "the loop loads one tile ahead");
};

// Shared memory of a CTA; the host asks for sizeof.
template <class Config>
struct alignas(16) fv_tile_memory {
  unsigned char q[Config::q_bytes];                   // [tile_q][dim], later the output
  unsigned char k[Config::stages][Config::kv_bytes];  // [tile_kv][dim] each
  unsigned char v[Config::stages][Config::kv_bytes];  // [tile_kv][dim] each
};

// One tile of queries: uniform in the CTA.
struct fv_query_tile {
  int64_t sequence, kv_head;
  int64_t position;  // of the tile's first row
  int32_t member;    // head of the group of the first row
  int32_t rows;      // that exist
  int32_t len_kv;    // of the sequence
  int64_t origin;    // the key at which query position 0 stands
  int32_t key_end;   // keys from here on are seen by no row of the tile
};

// The position of row `row` less the tile's, and its query head.
struct fv_query_row {
  int32_t position;
  int64_t head;
};

__device__ __forceinline__ fv_query_row fv_row_of(const fv_attention_params &p,
                                                  const fv_query_tile &tile, int32_t row) {
  int32_t pair = tile.member + row;
  return {pair / p.group, tile.kv_head * p.group + pair % p.group};
}

__device__ __forceinline__ const unsigned char *fv_row_begin(const fv_device_view &view,
                                                             int64_t batch, int64_t seq,
                                                             int64_t head) {
  return static_cast<const unsigned char *>(view.data) +
         2 * (batch * view.batch + seq * view.seq + head * view.head);
}

__device__ __forceinline__ void fv_add_error(const fv_attention_params &p, int64_t sequence,
                                             uint32_t bits) {
  if (p.errors) atomicOr(p.errors + sequence, bits);
}

// The length of the sequence, whatever the array holds; the tile that `reports` says so if it was
// clamped.
__device__ __forceinline__ int32_t fv_clamped_length(const fv_attention_params &p, int64_t sequence,
                                                     bool reports) {
  if (!p.kv_lengths) return p.len_kv;
  int32_t given = p.kv_lengths[sequence];
  int32_t length = (int32_t)fv_clamp(given, 0, p.len_kv);
  if (given != length && reports && threadIdx.x == 0) fv_add_error(p, sequence, FV_ERROR_LENGTH);
  return length;
}

// How many keys the row sees by position.
__device__ __forceinline__ int32_t fv_keys_of_row(const fv_attention_params &p,
                                                  const fv_query_tile &tile, int64_t position) {
  if (!(p.flags & FV_FLAG_CAUSAL)) return tile.len_kv;
  return fv_causal_keys(tile.origin, position, tile.len_kv);
}

// Tile `number` of the call. The rows that see most keys come first, so that what runs last is
// short.
template <class Config>
__device__ __forceinline__ fv_query_tile fv_find_tile(const fv_attention_params &p,
                                                      int64_t number) {
  fv_query_tile tile;
  int64_t heads = number / p.row_tiles;
  int64_t row_tile = p.row_tiles - 1 - number % p.row_tiles;
  int64_t first = row_tile * Config::tile_q, all = (int64_t)p.len_q * p.group;
  tile.sequence = heads / p.heads_kv;
  tile.kv_head = heads % p.heads_kv;
  tile.position = first / p.group;
  tile.member = (int32_t)(first % p.group);
  tile.rows = (int32_t)fv_min(Config::tile_q, all - first);
  tile.len_kv = fv_clamped_length(p, tile.sequence, tile.kv_head == 0 && row_tile == 0);
  tile.origin = p.flags & FV_FLAG_TOP_LEFT ? 0 : (int64_t)tile.len_kv - p.len_q;
  int64_t last = tile.position + (tile.member + tile.rows - 1) / p.group;
  tile.key_end = fv_keys_of_row(p, tile, last);
  return tile;
}

#endif  // FV_TILE_CUH

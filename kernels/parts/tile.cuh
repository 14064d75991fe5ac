// tile.cuh - the shape of a kernel's tiles, and which rows and keys a CTA works on.
//
// A row of a tile of queries is a pair (position, query head of the group), position first, so that
// all heads that share keys share their loads.
#ifndef FV_TILE_CUH
#define FV_TILE_CUH

#include "sequence.cuh"

// What distinguishes the rows of attention_fwd.def. Knobs change speed, never results.
template <class Type, int DIM, int DIM_V, int TILE_Q, int TILE_KV, int WARPS, int STAGES>
struct fv_tile_config {
  using type = Type;  // fv_f16 or fv_bf16
  static constexpr int dim = DIM, dim_v = DIM_V, tile_q = TILE_Q, tile_kv = TILE_KV;
  static constexpr int warps = WARPS, threads = WARPS * 32, stages = STAGES;
  static constexpr int chunks = DIM / 8, chunks_v = DIM_V / 8;  // of 8 elements, 16 bytes
  static constexpr int words = TILE_KV / 32;                    // with a bit for each key
  // Wider queries are read from shared memory again for each tile: O takes their registers.
  static constexpr bool q_in_registers = DIM + DIM_V <= 320;
  static_assert(TILE_Q == WARPS * 16, "a warp owns 16 rows");
  static_assert(TILE_KV == 32 || TILE_KV == 64, "visible keys are one word, or two");
  static_assert(STAGES == 2, "the loop loads one tile ahead");
  static_assert(DIM_V <= DIM, "the output is staged where the queries were");
};

// Shared memory of a CTA; the host asks for sizeof.
template <class Config>
struct alignas(16) fv_tile_memory {
  unsigned char q[Config::tile_q * Config::dim * 2];  // [tile_q][dim], later the output
  unsigned char k[Config::stages][Config::tile_kv * Config::dim * 2];    // [tile_kv][dim] each
  unsigned char v[Config::stages][Config::tile_kv * Config::dim_v * 2];  // [tile_kv][dim_v] each
};

// One tile of queries: uniform in the CTA.
struct fv_query_tile {
  fv_sequence sequence;
  int64_t kv_head;
  int32_t position;                  // of the tile's first row, counted from the sequence's first
  int32_t member;                    // head of the group of the first row
  int32_t rows;                      // that exist
  int32_t key_begin, key_end;        // other keys are seen by no row of the tile
  int32_t common_begin, common_end;  // these are seen by all, as far as positions decide
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

// Row `row` of the tile in q or out.
__device__ __forceinline__ const unsigned char *fv_query_begin(const fv_attention_params &p,
                                                               const fv_device_view &view,
                                                               const fv_query_tile &tile,
                                                               int32_t row) {
  fv_query_row at = fv_row_of(p, tile, row);
  return fv_row_begin(view, tile.sequence.q_batch,
                      tile.sequence.q_begin + tile.position + at.position, at.head);
}

// Which keys the tile's rows see by position.
__device__ __forceinline__ void fv_set_keys(const fv_attention_params &p, fv_query_tile &tile) {
  int64_t first = tile.position;
  int64_t end = first + (tile.member + tile.rows - 1) / p.group + 1;
  fv_range some = fv_rows_keys(&tile.sequence.mask, first, end);
  fv_range all = fv_common_keys(&tile.sequence.mask, first, end);
  tile.key_begin = some.begin < some.end ? (int32_t)some.begin : 0;
  tile.key_end = some.begin < some.end ? (int32_t)some.end : 0;
  tile.common_begin = (int32_t)all.begin;
  tile.common_end = (int32_t)all.end;
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
  tile.kv_head = heads % p.heads_kv;
  bool reports = tile.kv_head == 0 && row_tile == 0 && threadIdx.x == 0;
  tile.sequence = fv_find_sequence(p, heads / p.heads_kv, reports);
  tile.position = (int32_t)(first / p.group);
  tile.member = (int32_t)(first % p.group);
  tile.rows = (int32_t)fv_min(Config::tile_q, all - first);
  fv_set_keys(p, tile);
  return tile;
}

#endif  // FV_TILE_CUH

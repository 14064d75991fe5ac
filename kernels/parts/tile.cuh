// tile.cuh - the shape of a kernel's tiles, and which rows and keys a CTA works on.
//
// A row of a query tile is a pair (position, query head of the group), position first. So all heads
// that share keys share their loads.
#ifndef FOVEA_KERNELS_PARTS_TILE_CUH
#define FOVEA_KERNELS_PARTS_TILE_CUH

#include "kernels/arch/sm80.cuh"
#include "kernels/parts/sequence_place.cuh"

// What distinguishes the rows of shared/attention_fwd.def. Knobs change speed, never results.
template <class Type, int DIM, int DIM_V, int TILE_Q, int TILE_KV, int WARPS, int STAGES, int CTAS,
          bool GENERAL, int KV_BYTES>
struct fv_tile_config {
  using type = Type;  // fv_f16 or fv_bf16
  static constexpr int dim = DIM, dim_v = DIM_V, tile_q = TILE_Q, tile_kv = TILE_KV;
  static constexpr int warps = WARPS, threads = WARPS * 32, stages = STAGES;
  static constexpr int ctas = CTAS;
  static constexpr bool general = GENERAL;   // it has the rules of parts/rules.cuh
  static constexpr int kv_bytes = KV_BYTES;  // of an element of k and v; 1: see parts/cached.cuh
  static constexpr int chunks = DIM / 8, chunks_v = DIM_V / 8;  // of 8 elements, 16 bytes
  // Wider queries are read from shared memory again for each key tile: O takes their registers, or
  // the rules of rows do.
  static constexpr int q_registers_at_most = GENERAL ? 160 : 320;  // with O's, in pairs of values
  // A warp owns 16 rows or 32: of the latter, each fragment of K and V serves two products.
  static constexpr int row_blocks = TILE_Q / (WARPS * 16);
  static constexpr bool q_in_registers = (DIM + DIM_V) * row_blocks <= q_registers_at_most;
  static_assert(TILE_Q == WARPS * 16 * row_blocks, "blocks of 16 rows");
  static_assert(row_blocks == 1 || (row_blocks == 2 && !GENERAL), "parts/rules.cuh has one block");
  static_assert(TILE_KV == 32 || TILE_KV == 64, "visible keys are one word, or two");
  static_assert(STAGES == 1 || STAGES == 2, "half a tile is loaded ahead, or a whole one");
  static_assert(KV_BYTES == 2 || (KV_BYTES == 1 && STAGES == 1 && DIM_V == DIM),
                "8-bit caches are widened into one stage, of keys or of values");
  static_assert(DIM_V <= DIM, "the output is staged where the queries were");
  static constexpr int wide_kv = TILE_KV;
  static constexpr int line = FV_WIDE;  // the line of work that its tiles stand in
  // A thread's number among those that share a tile, and which 16 rows of the tile are block
  // `block` of its warp.
  static __device__ __forceinline__ int thread() { return fv_thread_here(); }
  static __device__ __forceinline__ int row_block(int block) {
    return threadIdx.x / 32 * row_blocks + block;
  }
};

// The same kernel's narrow tiles: one warp, 16 rows, and the warp's share of the CTA's memory for
// keys.
template <class Config>
struct fv_warp_config : Config {
  static constexpr int tile_q = FV_NARROW_ROWS, warps = 1, threads = FV_NARROW_THREADS, stages = 1;
  static constexpr int tile_kv = FV_NARROW_KEYS(Config::dim), row_blocks = 1;
  static constexpr bool q_in_registers = Config::dim + Config::dim_v <= Config::q_registers_at_most;
  static constexpr int line = FV_NARROW;
  static_assert(Config::warps >= FV_NARROW_WARPS, "so many warps divide the keys");
  static __device__ __forceinline__ int thread() { return fv_thread_here() % 32; }
  static __device__ __forceinline__ int row_block(int) { return 0; }
};

// One query tile, the same for all threads of the CTA.
struct fv_query_tile {
  fv_sequence_view sequence;
  int64_t kv_head;
  int32_t position;                  // of the tile's first row, counted from the sequence's first
  int32_t member;                    // the first row's head, counted in its group
  int32_t rows;                      // query rows that exist
  int32_t key_begin, key_end;        // no row of the tile sees other keys
  int32_t common_begin, common_end;  // all rows see these, by position
  // Key tiles that begin in this range are plain: all rows see them whole, and their keys lie at
  // even steps.
  uint32_t plain_begin, plain_size;
};

// The keys that a row sees by position.
struct fv_key_range {
  int32_t begin, end;
};

// What a CTA's warps tell each other: the keys of the tile in each stage that their rows see.
struct fv_seen_by_warps {
  uint32_t word[2][4][2];  // [stage][warp][word]
};

// The CTA's current work tile. One thread writes it, between two barriers. The others read it, and
// keep no more of it in registers than they need.
struct fv_work_item {
  fv_cursor cursors[FV_LINES];  // without a schedule the first one's w is the next tile's number
  fv_segment segment;
  fv_query_tile tile;
  float *parked;          // where the CTA parks the sums of long rows
  int32_t line;           // the line that the work tile is from
  bool more;              // there is something to do
  fv_seen_by_warps seen;  // of the general class
};

// Queries and the stages of keys and values, 16-bit elements: [tile_q][dim], later the output, and
// [tile_kv][dim] and [tile_kv][dim_v] each.
template <class Config, int STAGES>
struct fv_tiles {
  unsigned char q[Config::tile_q * Config::dim * 2];
  unsigned char k[STAGES][Config::tile_kv * Config::dim * 2];
  unsigned char v[STAGES][Config::tile_kv * Config::dim_v * 2];
};

// As above, and the bytes of 8-bit keys and values, as they lie in the cache.
template <class Config>
struct fv_8bit_tiles : fv_tiles<Config, 1> {
  unsigned char k_codes[Config::tile_kv * Config::dim];
  unsigned char v_codes[Config::tile_kv * Config::dim_v];
};

// The same for a narrow tile. A warp's values take the place of its keys.
template <class Warp>
struct fv_8bit_narrow_tiles {
  unsigned char q[Warp::tile_q * Warp::dim * 2];
  union {
    unsigned char k[FV_NARROW_WARPS][Warp::tile_kv * Warp::dim * 2];
    unsigned char v[FV_NARROW_WARPS][Warp::tile_kv * Warp::dim_v * 2];
  };
  unsigned char k_codes[FV_NARROW_WARPS][Warp::tile_kv * Warp::dim];
  unsigned char v_codes[FV_NARROW_WARPS][Warp::tile_kv * Warp::dim_v];
};

// The scales of a tile's 8-bit keys [0] and values [1], and where each key's scales begin, if it
// has several. A narrow tile's warps have their keys one behind the other.
template <class Config>
struct fv_scale_memory {
  static constexpr int keys = FV_SCALED_KEYS(Config::dim, Config::tile_kv);
  float scale[2][keys];
  int64_t begin[2][keys];
};

template <class Config, int KV_BYTES = Config::kv_bytes>
struct fv_kv_memory {
  union {
    fv_tiles<Config, Config::stages> wide;
    fv_tiles<fv_warp_config<Config>, FV_NARROW_WARPS> narrow;
  };
};
template <class Config>
struct fv_kv_memory<Config, 1> {
  union {
    fv_8bit_tiles<Config> wide;
    fv_8bit_narrow_tiles<fv_warp_config<Config>> narrow;
  };
  fv_scale_memory<Config> scales;
};

// Shared memory of a CTA. The host asks for sizeof. A narrow tile has a stage for each warp.
template <class Config>
struct alignas(128) fv_tile_memory : fv_kv_memory<Config> {
  union {
    fv_work_item item;
    unsigned char item_room[FV_WORK_ITEM_BYTES];
  };
  fv_key_range ranges[Config::tile_q];  // of the tile's rows; each warp has its own, for itself
};

// A row's position, counted from the tile's, and its query head.
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

// Sets which keys the tile's rows see by position. Spans may lie anywhere.
template <bool GENERAL>
__device__ __forceinline__ void fv_set_keys(const fv_attention_params &p, fv_query_tile &tile) {
  int64_t first = tile.position;
  int64_t end = first + (tile.member + tile.rows - 1) / p.group + 1;
  fv_range some = fv_rows_keys(&tile.sequence.mask, first, end);
  fv_range all = fv_common_keys(&tile.sequence.mask, first, end);
  if (GENERAL && p.rules.spans) some = {tile.sequence.mask.first, tile.sequence.mask.len};
  tile.key_begin = some.begin < some.end ? (int32_t)some.begin : 0;
  tile.key_end = some.begin < some.end ? (int32_t)some.end : 0;
  tile.common_begin = (int32_t)all.begin;
  tile.common_end = (int32_t)all.end;
  const uint32_t both = FV_ALIGNED_K | FV_ALIGNED_V;
  bool even = !p.mask.data && !p.pages.k_ids && (p.aligned & both) == both;
  tile.plain_begin = tile.common_begin;
  tile.plain_size = even ? (uint32_t)fv_max(all.end - all.begin - p.tile_kv + 1, 0) : 0;
}

// Whether the sequence's rows fit into one narrow tile.
__device__ __forceinline__ bool fv_is_narrow(const fv_attention_params &p, int32_t len_q) {
  return !(p.flags & FV_FLAG_WHOLE) && (int64_t)len_q * p.group <= FV_NARROW_ROWS;
}

// Whether tiles are split at chunks, if anywhere, and not at shares.
__device__ __forceinline__ bool fv_is_chunked(const fv_attention_params &p) {
  return p.flags & (FV_FLAG_CHUNKS | FV_FLAG_WHOLE);
}

// Tile `row_tile` of the sequence's rows.
template <bool GENERAL>
__device__ __forceinline__ fv_query_tile fv_make_tile(const fv_attention_params &p,
                                                      const fv_sequence_view &sequence,
                                                      int64_t kv_head, int64_t row_tile,
                                                      int32_t tile_q) {
  fv_query_tile tile;
  int64_t first = row_tile * tile_q, all = (int64_t)sequence.len_q * p.group;
  tile.sequence = sequence;
  if (p.pages.k_ids) tile.sequence.kv_begin += kv_head * p.pages.head_stride;
  tile.kv_head = kv_head;
  tile.position = (int32_t)(first / p.group);
  tile.member = (int32_t)(first % p.group);
  tile.rows = (int32_t)fv_min(tile_q, all - first);
  fv_set_keys<GENERAL>(p, tile);
  return tile;
}

// Tile `number` of a call without a schedule. The rows that see most keys come first, so that what
// runs last is short.
template <class Config>
__device__ __forceinline__ fv_query_tile fv_find_tile(const fv_attention_params &p,
                                                      int64_t number) {
  int64_t heads = number / p.row_tiles;
  int64_t row_tile = p.row_tiles - 1 - number % p.row_tiles;
  int64_t kv_head = heads % p.heads_kv;
  bool reports = kv_head == 0 && row_tile == 0;
  fv_sequence_view sequence = fv_find_sequence<Config::general>(p, heads / p.heads_kv, reports);
  return fv_make_tile<Config::general>(p, sequence, kv_head, row_tile, Config::tile_q);
}

// The query tile of a work tile, with the keys of that work tile only.
template <class Config>
__device__ __forceinline__ fv_query_tile fv_take_tile(const fv_attention_params &p, int line,
                                                      const fv_segment &segment) {
  const fv_placed_tile &placed = p.schedule.lines[line].tiles[segment.tile];
  fv_query_tile tile =
      fv_make_tile<Config::general>(p, fv_take_sequence<Config::general>(p, placed.sequence),
                                    segment.head, placed.row_tile, Config::tile_q);
  int64_t begin = ((int64_t)placed.key_tile + segment.first) * Config::tile_kv;
  int64_t end = ((int64_t)placed.key_tile + segment.end) * Config::tile_kv;
  tile.key_begin = (int32_t)fv_max(tile.key_begin, begin);
  tile.key_end = (int32_t)fv_min(tile.key_end, end);
  return tile;
}

// The first key that this thread's warp looks at. The warps of a narrow tile begin one behind the
// other.
template <class Config>
__device__ __forceinline__ uint32_t fv_first_key(const fv_query_tile &tile) {
  uint32_t first = tile.key_begin / Config::wide_kv * Config::wide_kv;
  return Config::threads == 32 ? first + fv_thread_here() / 32 * Config::tile_kv : first;
}

#endif  // FOVEA_KERNELS_PARTS_TILE_CUH

// load.cuh - copies queries, keys and values into swizzled tiles in shared memory.
//
// What does not exist becomes zeros: rows past the last query, keys that no row of the tile sees,
// columns past dim. The weight of a hidden key is 0, but 0 * NaN is NaN. So memory that no row sees
// must not reach the tile of values.
//
// Keys come in one of two ways. All rows see all keys of a plain tile, and these lie at even steps.
// Nothing is looked up there, and each copy is an addition and the copy. Elsewhere each lane of a
// warp looks up keys: whether a key is seen, and where it lies. The lanes then tell each other.
#ifndef FOVEA_KERNELS_PARTS_LOAD_CUH
#define FOVEA_KERNELS_PARTS_LOAD_CUH

#include "kernels/parts/chunk.cuh"
#include "kernels/parts/tile.cuh"

// Which keys of a key tile some row of the query tile may see: key i is bit i % 32 of word i / 32.
template <int KEYS>
struct fv_visible_keys {
  static constexpr int words = (KEYS + 31) / 32;
  uint32_t word[words];
  // `near` is any key of the same word. A compile-time value lets the word be chosen statically. It
  // is a choice and not an index: an indexed word would live in local memory.
  __device__ __forceinline__ bool has(int32_t key, int32_t near) const {
    return (near < 32 ? word[0] : word[words - 1]) >> (key & 31) & 1;
  }
  static constexpr uint32_t full = 0xffffffffu >> (KEYS < 32 ? 32 - KEYS : 0);
  __device__ __forceinline__ bool any() const { return word[0] | word[words - 1]; }
  __device__ __forceinline__ bool all() const { return (word[0] & word[words - 1]) == full; }
};

// Where a key's scales and a value's begin, in elements from the first of their kv head. Only
// kernels of 8-bit caches have them.
template <int WORDS, int KV_BYTES>
struct fv_scale_places {};
template <int WORDS>
struct fv_scale_places<WORDS, 1> {
  int64_t k_scale[WORDS], v_scale[WORDS];
};

// How far, in bytes, a tile's keys and values lie from the first row of their kv head. A lane knows
// keys `lane` and 32 + `lane`.
template <int KEYS, int KV_BYTES>
struct fv_key_places : fv_scale_places<(KEYS + 31) / 32, KV_BYTES> {
  static constexpr int words = (KEYS + 31) / 32;
  int64_t k[words], v[words];
};

// What the general class knows besides of a tile of keys.
template <int KEYS, bool GENERAL>
struct fv_seen_by_row {};
template <int KEYS>
struct fv_seen_by_row<KEYS, true> : fv_visible_keys<KEYS> {  // lane r < 16 holds the words of row r
  fv_visible_keys<KEYS> lost;  // keys on bad pages, an error if a row sees them by position
};

// A tile of keys that is to be loaded.
template <class Config>
struct fv_next_keys {
  uint32_t begin;  // unsigned: one step past the last key may be past 2^31
  fv_visible_keys<Config::tile_kv> visible;
  fv_key_places<Config::tile_kv, Config::kv_bytes> places;
  fv_seen_by_row<Config::tile_kv, Config::general> seen;
};

// Whether the mask shows the key. Past its end keys are hidden, and that is an error of the data.
__device__ __forceinline__ bool fv_mask_shows(const fv_attention_params &p, int64_t sequence,
                                              int32_t key) {
  if (!p.mask.data) return true;
  if (key >= p.mask_keys) {
    fv_add_error(p, sequence, FV_ERROR_MASK);
    return false;
  }
  const unsigned char *row =
      static_cast<const unsigned char *>(p.mask.data) + sequence * p.mask.batch;
  return row[key * p.mask.seq] != 0;
}

// Notes where the key and its value lie.
template <int KEYS, int KV_BYTES>
__device__ __forceinline__ void fv_note_place(const fv_attention_params &p, fv_place k, fv_place v,
                                              int word, fv_key_places<KEYS, KV_BYTES> &places) {
  places.k[word] = KV_BYTES * (k.outer * p.k.batch + k.inner * p.k.seq);
  places.v[word] = KV_BYTES * (v.outer * p.v.batch + v.inner * p.v.seq);
  if constexpr (KV_BYTES == 1) {
    places.k_scale[word] = k.outer * p.k_scale.batch + k.inner * p.k_scale.seq;
    places.v_scale[word] = v.outer * p.v_scale.batch + v.inner * p.v_scale.seq;
  }
}

// Finds out where the key lies. False: its page's id is outside the cache, an error of the data
// where `REPORTS` is set.
template <bool REPORTS, int KEYS, int KV_BYTES>
__device__ __forceinline__ bool fv_find_place(const fv_attention_params &p,
                                              const fv_sequence_view &s, int32_t key, int word,
                                              fv_key_places<KEYS, KV_BYTES> &places) {
  if (!p.pages.k_ids) {
    const fv_place at = {s.kv_batch, s.kv_begin + key};
    fv_note_place(p, at, at, word, places);
    return true;
  }
  int64_t ids = s.kv_begin;
  fv_paged_index index = fv_split_index(key, p.pages.page_len);
  fv_place k = fv_paged_place(p.pages.k_ids, ids, index);
  fv_place v = fv_paged_place(p.pages.v_ids, ids, index);
  bool good = fv_has_page(k, p.pages.pages) && fv_has_page(v, p.pages.pages);
  if (REPORTS && !good) fv_add_error(p, s.index, FV_ERROR_PAGE);
  fv_note_place(p, k, v, word, places);
  return good;
}

// Every warp looks up the tile's keys for itself: votes cost less than a barrier.
template <class Config>
__device__ __forceinline__ void fv_look_up_keys(const fv_attention_params &p,
                                                const fv_query_tile &tile,
                                                fv_next_keys<Config> &keys) {
#pragma unroll
  for (int w = 0; w < fv_visible_keys<Config::tile_kv>::words; ++w) {
    int32_t place = w * 32 + threadIdx.x % 32, key = (int32_t)keys.begin + place;
    bool shown = place < Config::tile_kv && key >= tile.key_begin && key < tile.key_end;
    keys.places.k[w] = keys.places.v[w] = 0;
    // A bad page id is an error even where the mask hides its keys.
    bool found = shown && fv_find_place<!Config::general>(p, tile.sequence, key, w, keys.places) &&
                 (Config::general || fv_mask_shows(p, tile.sequence.index, key));
    keys.visible.word[w] = __ballot_sync(0xffffffffu, found);
    if constexpr (Config::general) {
      keys.seen.lost.word[w] = __ballot_sync(0xffffffffu, shown && !found);
    }
  }
}

// Whether the key tile at `begin` needs no look-up.
template <class Config>
__device__ __forceinline__ bool fv_is_plain(const fv_query_tile &tile, uint32_t begin) {
  return !Config::general && begin - tile.plain_begin < tile.plain_size;
}

template <class Config>
__device__ __forceinline__ fv_next_keys<Config> fv_plain_keys(uint32_t begin) {
  fv_next_keys<Config> keys = {};
  keys.begin = begin;
  for (uint32_t &word : keys.visible.word) word = keys.visible.full;
  return keys;
}

// Whether all rows of the tile see all keys.
template <class Config>
__device__ __forceinline__ bool fv_is_whole(const fv_query_tile &tile,
                                            const fv_next_keys<Config> &keys) {
  return (int32_t)keys.begin >= tile.common_begin &&
         (int64_t)keys.begin + Config::tile_kv <= tile.common_end && keys.visible.all();
}

// Looks up the key tile at `begin`, which must not be past the last one.
template <class Config>
__device__ __forceinline__ fv_next_keys<Config> fv_find_keys(const fv_attention_params &p,
                                                             const fv_query_tile &tile,
                                                             uint32_t begin) {
  if (fv_is_plain<Config>(tile, begin)) return fv_plain_keys<Config>(begin);
  fv_next_keys<Config> keys = {};
  keys.begin = begin;
  fv_look_up_keys(p, tile, keys);
  return keys;
}

// The whole CTA starts the copies of the first ROWS rows of the tile.
template <class Config, int ROWS>
__device__ __forceinline__ void fv_load_queries(const fv_attention_params &p,
                                                const fv_query_tile &tile, unsigned char *to) {
  bool aligned = p.aligned & FV_ALIGNED_Q;
  for (int i = fv_thread_here(); i < ROWS * Config::chunks; i += Config::threads) {
    int32_t row = i / Config::chunks, chunk = i % Config::chunks;
    int32_t bytes = row < tile.rows ? fv_bytes_of_chunk(2 * p.dim, 16 * chunk) : 0;
    const unsigned char *from = static_cast<const unsigned char *>(p.q.data);
    if (bytes) from = fv_query_begin(p, p.q, tile, row) + chunk * 16;
    uint32_t place = fv_shared_address(to) + 16 * fv_swizzled_chunk(row, chunk, Config::chunks);
    fv_load_chunk(place, from, bytes, aligned);
  }
}

// What differs between keys and values.
template <class Config>
struct fv_key_side {
  static constexpr int chunks = Config::chunks;
  static constexpr uint32_t aligned = FV_ALIGNED_K;
  using places = fv_key_places<Config::tile_kv, Config::kv_bytes>;
  static __device__ __forceinline__ const fv_device_view &view(const fv_attention_params &p) {
    return p.k;
  }
  static __device__ __forceinline__ int32_t dim(const fv_attention_params &p) { return p.dim; }
  static __device__ __forceinline__ int64_t place(const places &at, int32_t key) {
    return key < 32 ? at.k[0] : at.k[places::words - 1];
  }
};

template <class Config>
struct fv_value_side {
  static constexpr int chunks = Config::chunks_v;
  static constexpr uint32_t aligned = FV_ALIGNED_V;
  using places = fv_key_places<Config::tile_kv, Config::kv_bytes>;
  static __device__ __forceinline__ const fv_device_view &view(const fv_attention_params &p) {
    return p.v;
  }
  static __device__ __forceinline__ int32_t dim(const fv_attention_params &p) { return p.dim_v; }
  static __device__ __forceinline__ int64_t place(const places &at, int32_t key) {
    return key < 32 ? at.v[0] : at.v[places::words - 1];
  }
};

// How the threads that share a key tile divide it: `across` lanes take a row, and each thread takes
// `steps` rows, one per step. across, rows and steps are powers of two, so the rows of a step
// belong to one word of visible keys.
template <class Config, int CHUNKS>
struct fv_row_lanes {
  static constexpr int across = CHUNKS % 32 == 0   ? 32
                                : CHUNKS % 16 == 0 ? 16
                                : CHUNKS % 8 == 0  ? 8
                                                   : 4;
  static constexpr int chunks = CHUNKS / across;  // of a lane in a row
  static constexpr int rows = Config::threads / across;
  static constexpr int steps = Config::tile_kv / rows;
  static_assert(CHUNKS % across == 0 && Config::tile_kv % rows == 0, "every thread copies alike");
};

// What a thread copies of a tile of keys, or of values: which rows, and where they go. The places
// do not change from tile to tile. A loop finds them once; nothing before it need keep them.
template <class Config, class Side>
struct fv_copies {
  using lanes = fv_row_lanes<Config, Side::chunks>;
  int32_t row, column;  // its first chunk
  int32_t wanted;       // chunks of a row from that one on
  uint32_t to;          // where that one goes, in the stage

  __device__ __forceinline__ fv_copies(const fv_attention_params &p, unsigned char *stage) {
    const int thread = Config::thread();
    row = thread / lanes::across;
    column = thread % lanes::across;
    wanted = (Side::dim(p) + 7) / 8 - column;
    to = fv_shared_address(stage) + 16 * fv_swizzled_chunk(row, column, Side::chunks);
  }
  // Where chunk c of step n goes.
  __device__ __forceinline__ uint32_t place(int n, int c) const {
    return fv_swizzled_step(to, n * lanes::rows, c * lanes::across, Side::chunks);
  }
  __device__ __forceinline__ bool wants(int c) const { return c * lanes::across < wanted; }
  // Where it would be from if it were in row 0 of the tensor.
  __device__ __forceinline__ const unsigned char *base(const fv_attention_params &p,
                                                       const fv_query_tile &tile) const {
    return fv_row_begin(Side::view(p), 0, 0, tile.kv_head) + 16 * column;
  }
  // Where its first chunk is from, if the tile at `begin` is plain.
  __device__ __forceinline__ const unsigned char *plain_from(const fv_attention_params &p,
                                                             const fv_query_tile &tile,
                                                             uint32_t begin) const {
    int64_t at = tile.sequence.kv_begin + (begin + (uint32_t)row);
    return fv_row_begin(Side::view(p), tile.sequence.kv_batch, at, tile.kv_head) + 16 * column;
  }
};

// Starts the copies of a plain tile, into the stage that lies `offset` bytes past that of `copies`.
// Returns where the next tile is from.
template <class Config, class Side>
__device__ __forceinline__ const unsigned char *fv_copy_plain_rows(
    const fv_attention_params &p, const fv_copies<Config, Side> &copies, uint32_t offset,
    const unsigned char *from) {
  using lanes = fv_row_lanes<Config, Side::chunks>;
  const int64_t step = 2 * lanes::rows * Side::view(p).seq;
#pragma unroll
  for (int n = 0; n < lanes::steps; ++n, from += step) {
#pragma unroll
    for (int c = 0; c < lanes::chunks; ++c) {
      fv_copy_async_16(copies.place(n, c) + offset, from + 16 * c * lanes::across,
                       copies.wants(c) ? 16 : 0);
    }
  }
  return from;
}

// Copies by element are rare, and their loop is long already: it is not unrolled. All steps at once
// would need more registers than a CTA of dim 64 has.
template <class Config, class Side, bool ALIGNED>
__device__ __forceinline__ void fv_load_placed_rows(const fv_attention_params &p,
                                                    const fv_query_tile &tile,
                                                    const fv_next_keys<Config> &keys,
                                                    const fv_copies<Config, Side> &copies) {
  using lanes = fv_row_lanes<Config, Side::chunks>;
  const unsigned char *base = copies.base(p, tile);
#pragma unroll(ALIGNED ? 2 : 1)
  for (int n = 0; n < lanes::steps; ++n) {
    int row = copies.row + n * lanes::rows;
    int64_t place = Side::place(keys.places, n * lanes::rows);
    place = __shfl_sync(0xffffffffu, place, row);  // from lane row % 32
#pragma unroll
    for (int c = 0; c < lanes::chunks; ++c) {
      int32_t bytes = 0;
      if (keys.visible.has(row, n * lanes::rows) && copies.wants(c)) {
        int32_t at = 16 * (copies.column + c * lanes::across);
        bytes = ALIGNED ? 16 : fv_bytes_of_chunk(2 * Side::dim(p), at);
      }
      fv_load_chunk(copies.place(n, c), base + place + 16 * c * lanes::across, bytes, ALIGNED);
    }
  }
}

// Starts the copies of a tile of keys, or of values. All threads that share the tile call it.
template <class Config, class Side>
__device__ __forceinline__ void fv_load_rows(const fv_attention_params &p,
                                             const fv_query_tile &tile,
                                             const fv_next_keys<Config> &keys,
                                             const fv_copies<Config, Side> &copies) {
  if (fv_is_plain<Config>(tile, keys.begin)) {
    fv_copy_plain_rows(p, copies, 0, copies.plain_from(p, tile, keys.begin));
  } else if (p.aligned & Side::aligned) {
    fv_load_placed_rows<Config, Side, true>(p, tile, keys, copies);
  } else {
    fv_load_placed_rows<Config, Side, false>(p, tile, keys, copies);
  }
}

#endif  // FOVEA_KERNELS_PARTS_LOAD_CUH

// load.cuh - queries, keys and values into swizzled tiles in shared memory.
//
// What is not there becomes zeros: rows past the last query, keys that nobody in the tile sees,
// columns past dim. The weight of a hidden key is 0, but 0 * NaN is NaN, so memory that nobody sees
// must not reach the tile of values.
#ifndef FV_LOAD_CUH
#define FV_LOAD_CUH

#include "chunk.cuh"
#include "tile.cuh"

// Which keys of a key tile some row of the query tile may see: bit i of word i / 32 is key i.
template <int KEYS>
struct fv_visible_keys {
  static constexpr int words = (KEYS + 31) / 32;
  uint32_t word[words];
  __device__ __forceinline__ bool has(int32_t key) const {
    // A choice and not an index: an indexed word would live in local memory.
    return (key < 32 ? word[0] : word[words - 1]) >> (key & 31) & 1;
  }
  __device__ __forceinline__ bool all() const {
    return (word[0] & word[words - 1]) == 0xffffffffu >> (KEYS < 32 ? 32 - KEYS : 0);
  }
};

// Where the keys of a tile lie in a paged cache: this lane knows keys `lane` and 32 + `lane`.
template <int KEYS>
struct fv_key_places {
  static constexpr int words = (KEYS + 31) / 32;
  int32_t k_page[words], v_page[words], slot[words];
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

// Looks the key's page up. False: an id outside the cache, which is an error of the data.
template <int KEYS>
__device__ __forceinline__ bool fv_find_place(const fv_attention_params &p, const fv_sequence &s,
                                              int32_t key, int word, fv_key_places<KEYS> &places) {
  int64_t page = s.kv_begin + (uint32_t)key / (uint32_t)p.pages.page_len;
  places.slot[word] = (uint32_t)key % (uint32_t)p.pages.page_len;
  places.k_page[word] = p.pages.k_ids[page];
  places.v_page[word] = p.pages.v_ids[page];
  bool good = (uint32_t)places.k_page[word] < (uint32_t)p.pages.pages &&
              (uint32_t)places.v_page[word] < (uint32_t)p.pages.pages;
  if (!good) fv_add_error(p, s.index, FV_ERROR_PAGE);
  return good;
}

// Every warp finds out for itself: votes cost less than a barrier.
template <class Config>
__device__ __forceinline__ fv_visible_keys<Config::tile_kv> fv_find_visible(
    const fv_attention_params &p, const fv_query_tile &tile, int32_t key_begin,
    fv_key_places<Config::tile_kv> &places) {
  fv_visible_keys<Config::tile_kv> visible;
#pragma unroll
  for (int w = 0; w < fv_visible_keys<Config::tile_kv>::words; ++w) {
    int32_t place = w * 32 + threadIdx.x % 32, key = key_begin + place;
    bool shown = place < Config::tile_kv && key >= tile.key_begin && key < tile.key_end &&
                 fv_mask_shows(p, tile.sequence.index, key);
    if (p.pages.k_ids) {
      places.k_page[w] = places.v_page[w] = places.slot[w] = 0;
      shown = shown && fv_find_place(p, tile.sequence, key, w, places);
    }
    visible.word[w] = __ballot_sync(0xffffffffu, shown);
  }
  return visible;
}

// The whole CTA brings the first ROWS rows of the tile.
template <class Config, int ROWS>
__device__ __forceinline__ void fv_load_queries(const fv_attention_params &p,
                                                const fv_query_tile &tile, unsigned char *to) {
  bool aligned = p.aligned & FV_ALIGNED_Q;
  for (int i = threadIdx.x; i < ROWS * Config::chunks; i += Config::threads) {
    int32_t row = i / Config::chunks, chunk = i % Config::chunks;
    bool wanted = row < tile.rows && chunk * 8 < p.dim;
    const unsigned char *from = static_cast<const unsigned char *>(p.q.data);
    if (wanted) from = fv_query_begin(p, p.q, tile, row) + chunk * 16;
    fv_load_chunk(to + 16 * fv_swizzled_chunk(row, chunk, Config::chunks), from, wanted, aligned);
  }
}

// Which page and slot another lane found for key `key` of the tile. All lanes of the warp ask.
template <int WORDS>
__device__ __forceinline__ int32_t fv_place_of(const int32_t (&found)[WORDS], int32_t key) {
  int32_t low = __shfl_sync(0xffffffffu, found[0], key % 32);
  if (WORDS == 1) return low;
  int32_t high = __shfl_sync(0xffffffffu, found[WORDS - 1], key % 32);
  return key < 32 ? low : high;
}

// Keys, or values: rows [key_begin, key_begin + tile_kv) of the view. `page` is whose the pages are.
template <class Config, int CHUNKS, bool PAGED>
__device__ __forceinline__ void fv_load_rows(
    const fv_device_view &view, const fv_query_tile &tile, int32_t key_begin,
    const fv_visible_keys<Config::tile_kv> &visible,
    const int32_t (&page)[fv_key_places<Config::tile_kv>::words],
    const int32_t (&slot)[fv_key_places<Config::tile_kv>::words], int32_t dim, bool aligned,
    unsigned char *to) {
  static_assert(Config::tile_kv * CHUNKS % Config::threads == 0, "every thread copies alike");
  const unsigned char *base = PAGED
                                  ? fv_row_begin(view, 0, 0, tile.kv_head)
                                  : fv_row_begin(view, tile.sequence.kv_batch,
                                                 tile.sequence.kv_begin + key_begin, tile.kv_head);
#pragma unroll 8
  for (int n = 0; n < Config::tile_kv * CHUNKS / Config::threads; ++n) {
    int32_t i = n * Config::threads + Config::thread();
    int32_t row = i / CHUNKS, chunk = i % CHUNKS;
    int64_t offset = PAGED ? fv_place_of(page, row) * view.batch + fv_place_of(slot, row) * view.seq
                           : row * view.seq;
    bool wanted = visible.has(row) && chunk * 8 < dim;
    const unsigned char *from =
        wanted ? base + 2 * offset + chunk * 16 : static_cast<const unsigned char *>(view.data);
    fv_load_chunk(to + 16 * fv_swizzled_chunk(row, chunk, CHUNKS), from, wanted, aligned);
  }
}

template <class Config>
__device__ __forceinline__ void fv_load_keys(const fv_attention_params &p,
                                             const fv_query_tile &tile, int32_t key_begin,
                                             const fv_visible_keys<Config::tile_kv> &visible,
                                             const fv_key_places<Config::tile_kv> &places,
                                             unsigned char *to) {
  bool aligned = p.aligned & FV_ALIGNED_K;
  if (p.pages.k_ids) {
    fv_load_rows<Config, Config::chunks, true>(p.k, tile, key_begin, visible, places.k_page,
                                               places.slot, p.dim, aligned, to);
  } else {
    fv_load_rows<Config, Config::chunks, false>(p.k, tile, key_begin, visible, places.k_page,
                                                places.slot, p.dim, aligned, to);
  }
}

template <class Config>
__device__ __forceinline__ void fv_load_values(const fv_attention_params &p,
                                               const fv_query_tile &tile, int32_t key_begin,
                                               const fv_visible_keys<Config::tile_kv> &visible,
                                               const fv_key_places<Config::tile_kv> &places,
                                               unsigned char *to) {
  bool aligned = p.aligned & FV_ALIGNED_V;
  if (p.pages.k_ids) {
    fv_load_rows<Config, Config::chunks_v, true>(p.v, tile, key_begin, visible, places.v_page,
                                                 places.slot, p.dim_v, aligned, to);
  } else {
    fv_load_rows<Config, Config::chunks_v, false>(p.v, tile, key_begin, visible, places.v_page,
                                                  places.slot, p.dim_v, aligned, to);
  }
}

#endif  // FV_LOAD_CUH

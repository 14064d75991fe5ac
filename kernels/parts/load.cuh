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
struct fv_visible_keys {
  uint32_t word[2];
  __device__ __forceinline__ bool has(int32_t key) const {
    // A choice and not an index: an indexed word would live in local memory.
    return (key < 32 ? word[0] : word[1]) >> (key & 31) & 1;
  }
  __device__ __forceinline__ bool all() const { return (word[0] & word[1]) == 0xffffffffu; }
};

// Whether the mask shows the key. Past its end keys are hidden, and that is an error of the data.
__device__ __forceinline__ bool fv_mask_shows(const fv_attention_params &p,
                                              const fv_query_tile &tile, int32_t key) {
  if (!p.mask.data) return true;
  if (key >= p.mask_keys) {
    fv_add_error(p, tile.sequence, FV_ERROR_MASK);
    return false;
  }
  const unsigned char *row =
      static_cast<const unsigned char *>(p.mask.data) + tile.sequence * p.mask.batch;
  return row[key * p.mask.seq] != 0;
}

// Every warp finds out for itself: two votes cost less than a barrier.
template <class Config>
__device__ __forceinline__ fv_visible_keys fv_find_visible(const fv_attention_params &p,
                                                           const fv_query_tile &tile,
                                                           int32_t key_begin) {
  fv_visible_keys visible;
#pragma unroll
  for (int w = 0; w < 2; ++w) {
    int64_t key = (int64_t)key_begin + w * 32 + threadIdx.x % 32;
    bool shown = key < tile.key_end && fv_mask_shows(p, tile, (int32_t)key);
    visible.word[w] = __ballot_sync(0xffffffffu, shown);
  }
  return visible;
}

template <class Config>
__device__ __forceinline__ void fv_load_queries(const fv_attention_params &p,
                                                const fv_query_tile &tile, unsigned char *to) {
  bool aligned = p.aligned & FV_ALIGNED_Q;
  for (int i = threadIdx.x; i < Config::tile_q * Config::chunks; i += Config::threads) {
    int32_t row = i / Config::chunks, chunk = i % Config::chunks;
    bool wanted = row < tile.rows && chunk * 8 < p.dim;
    const unsigned char *from = static_cast<const unsigned char *>(p.q.data);
    if (wanted) {
      fv_query_row at = fv_row_of(p, tile, row);
      from = fv_row_begin(p.q, tile.sequence, tile.position + at.position, at.head) + chunk * 16;
    }
    fv_load_chunk(to + 16 * fv_swizzled_chunk(row, chunk, Config::chunks), from, wanted, aligned);
  }
}

// Keys, or values: rows [key_begin, key_begin + tile_kv) of the view.
template <class Config>
__device__ __forceinline__ void fv_load_rows(const fv_device_view &view, const fv_query_tile &tile,
                                             int32_t key_begin, const fv_visible_keys &visible,
                                             int32_t dim, bool aligned, unsigned char *to) {
  const unsigned char *base = fv_row_begin(view, tile.sequence, key_begin, tile.kv_head);
#pragma unroll
  for (int n = 0; n < Config::tile_kv * Config::chunks / Config::threads; ++n) {
    int32_t i = n * Config::threads + threadIdx.x;
    int32_t row = i / Config::chunks, chunk = i % Config::chunks;
    bool wanted = visible.has(row) && chunk * 8 < dim;
    const unsigned char *from = wanted ? base + 2 * (row * view.seq) + chunk * 16
                                       : static_cast<const unsigned char *>(view.data);
    fv_load_chunk(to + 16 * fv_swizzled_chunk(row, chunk, Config::chunks), from, wanted, aligned);
  }
}

#endif  // FV_LOAD_CUH

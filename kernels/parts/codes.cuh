// codes.cuh - copies the codes of 8-bit keys and values, as they lie in the cache, into shared
// memory. What does not exist becomes zeros, as in parts/load.cuh, whose look-ups it shares.
#ifndef FOVEA_KERNELS_PARTS_CODES_CUH
#define FOVEA_KERNELS_PARTS_CODES_CUH

#include "kernels/parts/load.cuh"

// What a thread copies of a tile's codes: 16 of a row per step. They go behind one another, by step
// and thread.
template <class Config, class Side>
struct fv_code_copies {
  using lanes = fv_row_lanes<Config, Side::chunks / 2>;
  static_assert(lanes::chunks == 1, "a thread has one chunk in a row");
  static constexpr int warp_rows = 32 / lanes::across;     // that a warp copies in a step
  static constexpr int step_bytes = 16 * Config::threads;  // of all threads
  int32_t row, column;                                     // the first row, and the chunk in each
  uint32_t to;                                             // where the first chunk goes

  __device__ __forceinline__ fv_code_copies(unsigned char *codes) {
    const int thread = Config::thread();
    row = thread / lanes::across;
    column = thread % lanes::across;
    to = fv_shared_address(codes) + 16 * thread;
  }
  // Bytes of the chunk that there are.
  __device__ __forceinline__ int32_t wanted(const fv_attention_params &p) const {
    return fv_bytes_of_chunk(Side::dim(p), 16 * column);
  }
  // Where it would be from if it were in row 0 of the tensor.
  __device__ __forceinline__ const unsigned char *base(const fv_attention_params &p,
                                                       const fv_query_tile &tile) const {
    const fv_device_view &view = Side::view(p);
    return static_cast<const unsigned char *>(view.data) + tile.kv_head * view.head + 16 * column;
  }
};

// The first `bytes` of 16 codes, and zeros.
__device__ __forceinline__ uint4 fv_read_codes(const unsigned char *from, int32_t bytes) {
  uint32_t word[4] = {};
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    if (i < bytes) word[i / 4] |= static_cast<uint32_t>(from[i]) << i % 4 * 8;
  }
  return make_uint4(word[0], word[1], word[2], word[3]);
}

template <class Config, class Side, bool ALIGNED>
__device__ __forceinline__ void fv_copy_placed_codes(const fv_attention_params &p,
                                                     const fv_query_tile &tile,
                                                     const fv_next_keys<Config> &keys,
                                                     const fv_code_copies<Config, Side> &copies) {
  using lanes = typename fv_code_copies<Config, Side>::lanes;
  const unsigned char *base = copies.base(p, tile);
  const int32_t wanted = copies.wanted(p);
#pragma unroll(ALIGNED ? 2 : 1)
  for (int n = 0; n < lanes::steps; ++n) {
    int row = copies.row + n * lanes::rows;
    int64_t place = Side::place(keys.places, n * lanes::rows);
    place = __shfl_sync(0xffffffffu, place, row);  // from lane row % 32
    int32_t bytes = keys.visible.has(row, n * lanes::rows) ? wanted : 0;
    uint32_t to = copies.to + n * copies.step_bytes;
    if (ALIGNED) {
      fv_copy_async_16(to, base + place, bytes);
    } else {
      fv_store_shared_16(to, fv_read_codes(base + place, bytes));
    }
  }
}

// Starts the copies of a tile's keys, or of its values. All threads that share the tile call it.
template <class Config, class Side>
__device__ __forceinline__ void fv_copy_codes(const fv_attention_params &p,
                                              const fv_query_tile &tile,
                                              const fv_next_keys<Config> &keys,
                                              const fv_code_copies<Config, Side> &copies) {
  using lanes = typename fv_code_copies<Config, Side>::lanes;
  if (fv_is_plain<Config>(tile, keys.begin)) {
    const fv_device_view &view = Side::view(p);
    int64_t first = tile.sequence.kv_begin + (keys.begin + (uint32_t)copies.row);
    const unsigned char *from =
        copies.base(p, tile) + tile.sequence.kv_batch * view.batch + first * view.seq;
    const int32_t wanted = copies.wanted(p);
#pragma unroll
    for (int n = 0; n < lanes::steps; ++n, from += lanes::rows * view.seq) {
      fv_copy_async_16(copies.to + n * copies.step_bytes, from, wanted);
    }
  } else if (p.aligned & Side::aligned) {
    fv_copy_placed_codes<Config, Side, true>(p, tile, keys, copies);
  } else {
    fv_copy_placed_codes<Config, Side, false>(p, tile, keys, copies);
  }
}

#endif  // FOVEA_KERNELS_PARTS_CODES_CUH

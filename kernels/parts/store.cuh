// store.cuh - the end of a tile of queries: O is divided by the sum, rounded once and written, with
// its LSE. O goes through the shared memory that held Q, so that rows leave in chunks of 16 bytes.
#ifndef FV_STORE_CUH
#define FV_STORE_CUH

#include "chunk.cuh"
#include "online_softmax.cuh"

// Each warp writes its own 16 rows over its own 16 rows of Q, which no other warp reads.
template <class Config>
__device__ __forceinline__ void fv_stage_output(
    const float (&o)[fv_fragments<Config>::dim_tiles][4], const float (&sum)[2],
    unsigned char *tile) {
  int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    // A row without a visible key has the sum 0; NaN is no such row.
    bool empty = sum[r] == 0.0f;
    float factor = empty ? 0.0f : 1.0f / sum[r];
#pragma unroll
    for (int n = 0; n < fv_fragments<Config>::dim_tiles; ++n) {
      // An empty row may have met 0 * inf in the product. Adding 0 turns -0 into 0.
      float low = empty ? 0.0f : o[n][2 * r] * factor + 0.0f;
      float high = empty ? 0.0f : o[n][2 * r + 1] * factor + 0.0f;
      int32_t chunk = fv_swizzled_chunk(row + r * 8, n, Config::chunks);
      *reinterpret_cast<uint32_t *>(tile + 16 * chunk + lane % 4 * 4) =
          Config::type::pack(low, high);
    }
  }
}

template <class Config>
__device__ __forceinline__ void fv_write_output(const fv_attention_params &p,
                                                const fv_query_tile &tile,
                                                const unsigned char *staged) {
  bool aligned = p.aligned & FV_ALIGNED_OUT;
  int warp = threadIdx.x / 32;
#pragma unroll 1
  for (int i = threadIdx.x % 32; i < 16 * Config::chunks; i += 32) {
    int32_t row = warp * 16 + i / Config::chunks, chunk = i % Config::chunks;
    if (row >= tile.rows || chunk * 8 >= p.dim_v) continue;
    fv_query_row at = fv_row_of(p, tile, row);
    unsigned char *to = const_cast<unsigned char *>(
        fv_row_begin(p.out, tile.sequence, tile.position + at.position, at.head));
    uint4 value = *reinterpret_cast<const uint4 *>(
        staged + 16 * fv_swizzled_chunk(row, chunk, Config::chunks));
    fv_store_chunk(to + chunk * 16, value, aligned);
  }
}

__device__ __forceinline__ void fv_write_lse(const fv_attention_params &p,
                                             const fv_query_tile &tile, const fv_row_state &state,
                                             const float (&sum)[2]) {
  const float log_2 = 0.693147181f;
  if (!p.lse.data || threadIdx.x % 4) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    int32_t row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + r * 8;
    if (row >= tile.rows) continue;
    fv_query_row at = fv_row_of(p, tile, row);
    int64_t offset = tile.sequence * p.lse.batch + (tile.position + at.position) * p.lse.seq +
                     at.head * p.lse.head;
    // base counts factors of 2, and the sum is relative to it: what base was rounded by cancels.
    float lse = sum[r] == 0.0f ? -INFINITY : fmaf(state.base[r], log_2, logf(sum[r]));
    static_cast<float *>(p.lse.data)[offset] = lse;
  }
}

template <class Config>
__device__ __forceinline__ void fv_store(const fv_attention_params &p, const fv_query_tile &tile,
                                         const float (&o)[fv_fragments<Config>::dim_tiles][4],
                                         const fv_row_state &state, unsigned char *staging) {
  const float sum[2] = {fv_row_sum(state.sum[0]), fv_row_sum(state.sum[1])};
  fv_stage_output<Config>(o, sum, staging);
  __syncwarp();  // the warp's rows are whole before its lanes read each other's columns
  fv_write_output<Config>(p, tile, staging);
  fv_write_lse(p, tile, state, sum);
}

#endif  // FV_STORE_CUH

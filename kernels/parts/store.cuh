// store.cuh - the end of a query tile: O is divided by the sum, rounded once and written, with its
// LSE. O goes through the shared memory that held Q, so that rows leave in chunks of 16 bytes.
#ifndef FOVEA_KERNELS_PARTS_STORE_CUH
#define FOVEA_KERNELS_PARTS_STORE_CUH

#include "kernels/parts/cached.cuh"
#include "kernels/parts/chunk.cuh"
#include "kernels/parts/online_softmax.cuh"
#include "kernels/parts/part.cuh"

// What the sums of a lane's two rows come to. O is multiplied by factor.
struct fv_row_end {
  float factor[2];
  float lse[2];
};

template <int N>
constexpr float fv_two_to = N < 0 ? 1.0f / (1 << (N < 0 ? -N : 0)) : 1 << (N < 0 ? 0 : N);

// The natural logarithm of a sum of weights. The sum contains what base was rounded by, so that
// cancels. The headroom is a power of two, and leaves both exactly.
template <class Config>
__device__ __forceinline__ float fv_natural_log(const fv_attention_params &p, float shift,
                                                float base, float sum) {
  constexpr float room = fv_headroom<Config>, log_2 = 0.693147181f;
  float rest = fmaf(base + room, log_2, logf(sum * fv_two_to<-fv_headroom<Config>>));
  return fmaf(shift, p.scale_log2e * log_2, rest);
}

// A row without a visible key has the sum 0; a row with NaN does not. A sink is one more logit,
// without a value: where it stands above the row's base, all is brought to it. A finite sink may be
// beyond f32 in base 2 and close to a large logit, so the difference is taken in double precision.
template <class Config>
__device__ __forceinline__ fv_row_end fv_end_rows(const fv_attention_params &p,
                                                  const fv_query_tile &tile,
                                                  const fv_softmax_state &state, int b) {
  const double log2_e = 1.4426950408889634;
  fv_row_end end;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float sink = -INFINITY;
    int32_t row = fv_own_row<Config>(b, r);
    if (p.sinks && row < tile.rows) sink = p.sinks[fv_row_of(p, tile, row).head];
    float sum = state.sum[r], shift = state.shift[r], base = state.base[r];
    float weight = state.weight[r];
    if (sum == 0.0f) {
      end.factor[r] = 0.0f;
      end.lse[r] = sink;
      continue;
    }
    float above = -INFINITY;  // how far the sink stands above what weights are relative to
    if (sink != -INFINITY) {
      above = (float)(sink * log2_e - fma((double)shift, (double)p.scale_log2e, (double)base));
    }
    if (above > 0.0f) {
      float rescale = fv_exp2(-above), own = 1.0f + (sink - sink);  // NaN where the sink is +inf
      end.factor[r] = rescale / fmaf(weight, rescale, own);
      end.lse[r] = sink + logf(fmaf(sum, rescale, own));
    } else {
      float own = fv_exp2(above);
      end.factor[r] = 1.0f / (weight + own);
      end.lse[r] = fv_natural_log<Config>(p, shift, base, sum + own);
    }
  }
  return end;
}

// Adding 0 turns -0 into 0. 16-bit values have no scale.
template <class Config>
__device__ __forceinline__ float fv_scaled_output(float x, float scale) {
  return Config::kv_bytes == 1 ? x * scale + 0.0f : x + 0.0f;
}

// Each warp writes its own rows over the same rows of Q, which no other warp reads any more.
template <class Config>
__device__ __forceinline__ void fv_stage_output(
    const float (&o)[fv_fragments<Config>::dim_tiles][4], const float (&factor)[2], float scale,
    int b, unsigned char *tile) {
  int lane = fv_thread_here() % 32;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    bool empty = factor[r] == 0.0f;
    int32_t row = fv_own_row<Config>(b, r);
#pragma unroll
    for (int n = 0; n < fv_fragments<Config>::dim_tiles; ++n) {
      // An empty row may have met 0 * inf in the product.
      float low = empty ? 0.0f : fv_scaled_output<Config>(o[n][2 * r] * factor[r], scale);
      float high = empty ? 0.0f : fv_scaled_output<Config>(o[n][2 * r + 1] * factor[r], scale);
      int32_t chunk = fv_swizzled_chunk(row, n, Config::chunks);
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
  constexpr int rows = 16 * Config::row_blocks;  // of a warp
  int thread = fv_thread_here(), first = Config::threads == 32 ? 0 : thread / 32 * rows;
#pragma unroll 1
  for (int i = thread % 32; i < rows * Config::chunks_v; i += 32) {
    int32_t row = first + i / Config::chunks_v, chunk = i % Config::chunks_v;
    int32_t bytes = fv_bytes_of_chunk(2 * p.dim_v, 16 * chunk);
    if (row >= tile.rows || bytes == 0) continue;
    unsigned char *to = const_cast<unsigned char *>(fv_query_begin(p, p.out, tile, row));
    uint4 value = *reinterpret_cast<const uint4 *>(
        staged + 16 * fv_swizzled_chunk(row, chunk, Config::chunks));
    fv_store_chunk(to + chunk * 16, value, bytes, aligned);
  }
}

template <class Config>
__device__ __forceinline__ void fv_write_lse(const fv_attention_params &p,
                                             const fv_query_tile &tile, const float (&lse)[2],
                                             int b) {
  if (!p.lse.data || fv_thread_here() % 4) return;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    int32_t row = fv_own_row<Config>(b, r);
    if (row >= tile.rows) continue;
    fv_query_row at = fv_row_of(p, tile, row);
    int64_t position = tile.sequence.q_begin + tile.position + at.position;
    int64_t offset =
        tile.sequence.q_batch * p.lse.batch + position * p.lse.seq + at.head * p.lse.head;
    static_cast<float *>(p.lse.data)[offset] = lse[r];
  }
}

template <class Config>
__device__ __forceinline__ void fv_store(const fv_attention_params &p, const fv_query_tile &tile,
                                         const fv_rows<Config> &rows, unsigned char *staging) {
  const float scale = Config::kv_bytes == 1 ? fv_scale_of_values<Config>(p, tile) : 1.0f;
#pragma unroll
  for (int b = 0; b < Config::row_blocks; ++b) {
    fv_row_end end = fv_end_rows<Config>(p, tile, rows.state[b], b);
    fv_stage_output<Config>(rows.o[b], end.factor, scale, b, staging);
    fv_write_lse<Config>(p, tile, end.lse, b);
  }
  __syncwarp();  // the warp's rows become visible to all its lanes, which read each other's columns
  fv_write_output<Config>(p, tile, staging);
}

// The end of a wide tile whose keys up to `key` have been looked at: merges what was parked, and
// the partials of other CTAs if this is the last, and stores the rows.
template <class Config>
__device__ __forceinline__ void fv_end_tile(const fv_attention_params &p, const fv_query_tile &tile,
                                            const fv_segment &segment, const fv_work_item &item,
                                            uint32_t key, fv_rows<Config> &rows,
                                            unsigned char *staging) {
  if (fv_is_parked(p, fv_first_key<Config>(tile), key)) {
    fv_join_part<Config, false>(p, fv_parked_part<Config>(item), rows);
  }
  fv_sum_rows(rows);
  if (segment.parts > 1 && !fv_join_tile<Config>(p, segment, rows)) return;
  fv_store<Config>(p, tile, rows, staging);
}

#endif  // FOVEA_KERNELS_PARTS_STORE_CUH

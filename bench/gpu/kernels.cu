// kernels.cu - the naive pipeline's own kernels: softmax, gathering from pages, a plain product
// where there is no cuBLAS; and reading, which is what memory can do.
//
// The product is what three loops are: an element of the result per thread. It stands in for cuBLAS
// on the software GPU; a comparison with it says nothing about speed. The softmax is the opponent's
// real one: a block per row, which reads it three times, from the caches after the first.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "bench/gpu/params.h"

namespace {

__device__ __forceinline__ float widen(__half x) {
  return __half2float(x);
}
__device__ __forceinline__ float widen(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ void narrow(__half &to, float x) {
  to = __float2half_rn(x);
}
__device__ __forceinline__ void narrow(__nv_bfloat16 &to, float x) {
  to = __float2bfloat16_rn(x);
}

template <class T>
__device__ __forceinline__ T *matrix_of(const fv_bench_matrices &m, int64_t batch, int64_t head) {
  return static_cast<T *>(m.data) + batch * m.batch + head * m.head;
}

template <class T>
__device__ __forceinline__ void multiply(const fv_bench_product &p) {
  int64_t unit = blockIdx.x, batch = unit / p.heads, head = unit % p.heads;
  int64_t column = (int64_t)blockIdx.y * FV_BENCH_PRODUCT_SIDE + threadIdx.x;
  int64_t row = (int64_t)blockIdx.z * FV_BENCH_PRODUCT_SIDE + threadIdx.y;
  if (row >= p.rows || column >= p.columns) return;
  const T *a = matrix_of<const T>(p.a, batch, head) + row * p.a.row;
  const T *b = matrix_of<const T>(p.b, batch, head / p.group);
  int64_t step = p.b_transposed ? 1 : p.b.row;
  b += column * (p.b_transposed ? p.b.row : 1);
  float sum = 0;
  for (int64_t i = 0; i < p.depth; ++i) sum += widen(a[i]) * widen(b[i * step]);
  narrow(matrix_of<T>(p.c, batch, head)[row * p.c.row + column], sum * p.factor);
}

// The sum or the maximum of all threads, for all.
template <class Operation>
__device__ __forceinline__ float combine(float x, float (&warps)[4], Operation operation) {
  for (int other = 16; other; other /= 2) x = operation(x, __shfl_xor_sync(~0u, x, other));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();  // the warps' results become visible to all
  x = operation(operation(warps[0], warps[1]), operation(warps[2], warps[3]));
  __syncthreads();  // all have read them, and the next call may write
  return x;
}

// Rows are read and written in chunks of 16 bytes: what lies behind the keys, up to a multiple of
// eight, is part of the row.
template <class T>
struct alignas(16) chunk {
  T at[8];
};

template <class T>
__device__ __forceinline__ void normalise_row(T *row, int64_t length, int64_t visible) {
  __shared__ float warps[FV_BENCH_ROW_THREADS / 32];
  chunk<T> *chunks = reinterpret_cast<chunk<T> *>(row);
  float most = -INFINITY, sum = 0;
  for (int64_t c = threadIdx.x; c * 8 < visible; c += FV_BENCH_ROW_THREADS) {
    chunk<T> x = chunks[c];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (c * 8 + i < visible) most = fmaxf(most, widen(x.at[i]));
    }
  }
  most = combine(most, warps, [](float a, float b) { return fmaxf(a, b); });
  for (int64_t c = threadIdx.x; c * 8 < visible; c += FV_BENCH_ROW_THREADS) {
    chunk<T> x = chunks[c];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (c * 8 + i < visible) sum += __expf(widen(x.at[i]) - most);
    }
  }
  sum = combine(sum, warps, [](float a, float b) { return a + b; });
  for (int64_t c = threadIdx.x; c * 8 < length; c += FV_BENCH_ROW_THREADS) {
    chunk<T> x = chunks[c];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      bool seen = c * 8 + i < visible;
      narrow(x.at[i], seen ? __expf(widen(x.at[i]) - most) / sum : 0.0f);
    }
    chunks[c] = x;
  }
}

template <class T>
__device__ __forceinline__ void normalise(const fv_bench_score_rows &p) {
  int64_t visible = p.lengths ? p.lengths[blockIdx.x / p.rows_each] : p.keys;
  if (p.causal) visible += blockIdx.x % p.len_q + 1 - p.len_q;
  if (visible < 0) visible = 0;
  normalise_row(static_cast<T *>(p.scores) + blockIdx.x * p.row, p.row, visible);
}

}  // namespace

#define DEFINE_KERNELS(name, type)                                                           \
  extern "C" __global__ void __launch_bounds__(FV_BENCH_PRODUCT_SIDE *FV_BENCH_PRODUCT_SIDE) \
      fv_bench_multiply_##name(const __grid_constant__ fv_bench_product p) {                 \
    multiply<type>(p);                                                                       \
  }                                                                                          \
  extern "C" __global__ void __launch_bounds__(FV_BENCH_ROW_THREADS)                         \
      fv_bench_normalise_##name(const __grid_constant__ fv_bench_score_rows p) {             \
    normalise<type>(p);                                                                      \
  }

DEFINE_KERNELS(f16, __half)
DEFINE_KERNELS(bf16, __nv_bfloat16)

// Four loads are under way at once; neighbours read neighbouring chunks.
extern "C" __global__ void __launch_bounds__(FV_BENCH_READ_THREADS)
    fv_bench_read_bytes(const __grid_constant__ fv_bench_bytes p) {
  const uint4 *data = static_cast<const uint4 *>(p.data);
  int64_t step = (int64_t)gridDim.x * FV_BENCH_READ_THREADS;
  uint32_t sum = 0;
#pragma unroll 4
  for (int64_t i = (int64_t)blockIdx.x * FV_BENCH_READ_THREADS + threadIdx.x; i < p.chunks;
       i += step) {
    uint4 x = data[i];
    sum |= x.x ^ x.y ^ x.z ^ x.w;
  }
  if (sum == 0x5f3759df) *p.sink = sum;  // never, but the compiler cannot know
}

// A block per page and sequence, of keys or of values; blocks past a sequence's last page have
// nothing to do.
extern "C" __global__ void __launch_bounds__(FV_BENCH_READ_THREADS)
    fv_bench_gather_pages(const __grid_constant__ fv_bench_gathering p) {
  int64_t sequence = blockIdx.y, first = blockIdx.x * p.page_len;
  int64_t keys = p.lengths[sequence] - first;
  if (keys <= 0) return;
  if (keys > p.page_len) keys = p.page_len;
  int64_t page = p.page_ids[sequence * p.row_stride + blockIdx.x];
  const uint4 *from = static_cast<const uint4 *>(blockIdx.z ? p.v : p.k);
  uint4 *to = static_cast<uint4 *>(blockIdx.z ? p.v_to : p.k_to);
  from += page * p.page_len * p.chunks;
  to += (sequence * p.keys + first) * p.chunks;
  for (int64_t i = threadIdx.x; i < keys * p.chunks; i += FV_BENCH_READ_THREADS) to[i] = from[i];
}

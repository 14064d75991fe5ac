// Attention on tiles: the smallest kernel with everything that mma.sync kernels use. It has
// cp.async in two stages, swizzled shared memory, ldmatrix, mma, an online softmax, ragged edges
// and an LSE.
// One CTA of 4 warps per 64 queries; dim 64; bf16 in, f32 out.
#include <cuda_bf16.h>
#include <stdint.h>

constexpr int TILE = 64, DIM = 64, WARPS = 4;

struct Memory {
  __nv_bfloat16 q[TILE * DIM];     // [row][dim], swizzled in chunks of 8
  __nv_bfloat16 k[2][TILE * DIM];  // [stage][key][dim]
  __nv_bfloat16 v[2][TILE * DIM];
};

__device__ uint32_t shared_address(const void *pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ int swizzle(int row, int chunk) {
  return row * DIM + ((chunk ^ (row & 7)) * 8);
}

__device__ void copy_tile(__nv_bfloat16 *tile, const __nv_bfloat16 *rows, int first, int count) {
  for (int i = threadIdx.x; i < TILE * DIM / 8; i += WARPS * 32) {
    int row = i / 8, chunk = i % 8;
    int inside = first + row < count;
    const __nv_bfloat16 *from = rows + (int64_t)(first + row) * DIM + chunk * 8;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                     shared_address(tile + swizzle(row, chunk))),
                 "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
  }
}

__device__ void load_matrices(uint32_t *to, uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

__device__ void load_transposed(uint32_t *to, uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

__device__ void multiply(float *c, const uint32_t *a, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ uint32_t pack(float low, float high) {
  __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<uint32_t *>(&pair);
}

extern "C" __global__ void __launch_bounds__(WARPS * 32)
    attend(float *out, float *lse, const __nv_bfloat16 *q, const __nv_bfloat16 *k,
           const __nv_bfloat16 *v, int len_q, int len_kv) {
  extern __shared__ __align__(128) unsigned char bytes[];
  Memory &memory = *reinterpret_cast<Memory *>(bytes);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = blockIdx.x * TILE;
  int tiles = (len_kv + TILE - 1) / TILE;
  copy_tile(memory.q, q, first, len_q);
  copy_tile(memory.k[0], k, 0, len_kv);
  copy_tile(memory.v[0], v, 0, len_kv);
  asm volatile("cp.async.commit_group;" ::: "memory");
  float sum[2] = {0, 0}, most[2] = {-INFINITY, -INFINITY};
  float result[DIM / 8][4] = {};
  for (int tile = 0; tile < tiles; tile++) {
    if (tile + 1 < tiles) {
      copy_tile(memory.k[(tile + 1) & 1], k, (tile + 1) * TILE, len_kv);
      copy_tile(memory.v[(tile + 1) & 1], v, (tile + 1) * TILE, len_kv);
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
    asm volatile("cp.async.wait_group 1;" ::: "memory");
    __syncthreads();  // the tile that all threads copied is visible to all
    float s[TILE / 8][4] = {};
#pragma unroll
    for (int step = 0; step < DIM / 16; step++) {
      uint32_t a[4], b[4];
      load_matrices(
          a, shared_address(memory.q + swizzle(warp * 16 + lane % 16, step * 2 + lane / 16)));
#pragma unroll
      for (int n = 0; n < TILE / 16; n++) {
        int key = n * 16 + lane % 8 + (lane / 16) * 8;
        load_matrices(b,
                      shared_address(memory.k[tile & 1] + swizzle(key, step * 2 + lane / 8 % 2)));
        multiply(s[2 * n], a, b[0], b[1]);
        multiply(s[2 * n + 1], a, b[2], b[3]);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float top = most[half];
#pragma unroll
      for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          int key = tile * TILE + n * 8 + lane % 4 * 2 + i;
          float &score = s[n][2 * half + i];
          score = key < len_kv ? score * 0.125f * 1.44269504f : -INFINITY;
          top = fmaxf(top, score);
        }
      }
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
      top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
      float scale = exp2f(most[half] - top);
      most[half] = top;
      sum[half] *= scale;
#pragma unroll
      for (int n = 0; n < DIM / 8; n++) {
        result[n][2 * half] *= scale;
        result[n][2 * half + 1] *= scale;
      }
#pragma unroll
      for (int n = 0; n < TILE / 8; n++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          s[n][2 * half + i] = exp2f(s[n][2 * half + i] - top);
          sum[half] += s[n][2 * half + i];
        }
      }
    }
#pragma unroll
    for (int step = 0; step < TILE / 16; step++) {
      uint32_t a[4] = {pack(s[2 * step][0], s[2 * step][1]), pack(s[2 * step][2], s[2 * step][3]),
                       pack(s[2 * step + 1][0], s[2 * step + 1][1]),
                       pack(s[2 * step + 1][2], s[2 * step + 1][3])};
#pragma unroll
      for (int n = 0; n < DIM / 16; n++) {
        uint32_t b[4];
        int key = step * 16 + lane % 16;
        load_transposed(b, shared_address(memory.v[tile & 1] + swizzle(key, n * 2 + lane / 16)));
        multiply(result[2 * n], a, b[0], b[1]);
        multiply(result[2 * n + 1], a, b[2], b[3]);
      }
    }
    __syncthreads();  // all have read the stage that the next round overwrites
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float total = sum[half];
    total += __shfl_xor_sync(~0u, total, 1);
    total += __shfl_xor_sync(~0u, total, 2);
    int row = first + warp * 16 + lane / 4 + half * 8;
    if (row >= len_q) continue;
    for (int n = 0; n < DIM / 8; n++) {
      float2 pair = {result[n][2 * half] / total, result[n][2 * half + 1] / total};
      *reinterpret_cast<float2 *>(out + (int64_t)row * DIM + n * 8 + lane % 4 * 2) = pair;
    }
    if (lane % 4 == 0) lse[row] = (most[half] + log2f(total)) * 0.69314718f;
  }
}

// Keys are split over CTAs; the last to arrive merges the others' sums. The code is scalar on
// purpose: its subject is the order between CTAs.
extern "C" __global__ void split_sum(float *out, float *partials, unsigned *arrived,
                                     const float *values, int count) {
  __shared__ float warp_sums[4];
  __shared__ unsigned place;
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    sum += values[i];
  }
  for (int distance = 16; distance; distance >>= 1) sum += __shfl_xor_sync(~0u, sum, distance);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();  // the sums of all warps
  if (threadIdx.x == 0) {
    partials[blockIdx.x] = warp_sums[0] + warp_sums[1] + warp_sums[2] + warp_sums[3];
    __threadfence();  // the partial sum comes before the arrival
    place = atomicAdd(arrived, 1);
    __threadfence();  // from here on, what others did before their arrival is visible
  }
  __syncthreads();  // shares place, and what its reader has seen
  if (place != gridDim.x - 1) return;
  if (threadIdx.x < 32) {
    float total = threadIdx.x < gridDim.x ? partials[threadIdx.x] : 0;
    for (int distance = 16; distance; distance >>= 1)
      total += __shfl_xor_sync(~0u, total, distance);
    if (threadIdx.x == 0) *out = total;
  }
}

// A producer and three consumers with named barriers: warp 0 fills, the others read.
extern "C" __global__ void hand_over(float *out, const float *in, int rounds) {
  __shared__ float box[96];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float sum = 0;
  for (int round = 0; round < rounds; round++) {
    if (warp == 0) {
      if (round) asm volatile("bar.sync 2, 128;" ::: "memory");  // the box is empty
      for (int i = 0; i < 3; i++) box[i * 32 + lane] = in[round * 96 + i * 32 + lane];
      asm volatile("bar.arrive 1, 128;" ::: "memory");  // the box is full
    } else {
      asm volatile("bar.sync 1, 128;" ::: "memory");
      sum += box[(warp - 1) * 32 + lane];
      if (round + 1 < rounds) asm volatile("bar.arrive 2, 128;" ::: "memory");
    }
  }
  if (warp) out[threadIdx.x - 32] = sum;
}

// The second of two dependent launches.
extern "C" __global__ void add_after(float *out, const float *in, float *scratch) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  out[i] = in[i] + 1;
  scratch[i] = 0;
}

extern "C" __global__ void fill_both(float *data, float *scratch) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  data[i] = i;
  if (scratch[i] == 0) scratch[i] = 1;
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Lanes of a warp pass values to each other through shared memory.
extern "C" __global__ void rotate_lanes(float *out, const float *in) {
  __shared__ float row[32];
  row[threadIdx.x] = in[threadIdx.x];
  __syncwarp();  // what the other lanes stored
  out[threadIdx.x] = row[(threadIdx.x + 1) % 32];
}

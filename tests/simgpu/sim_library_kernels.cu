// Kernels that leave their synchronisation to CUDA's own C++ library: what it compiles to is known
// to be right, and was written without this simulator.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>

#include <cuda/barrier>
#include <cuda/pipeline>

namespace groups = cooperative_groups;

enum { THREADS = 256, STAGES = 3 };

// out[t] = sum over i < n of in[i][(7 t + i) % 256].
extern "C" __global__ void through_barrier(const int *in, int *out, int n) {
  __shared__ cuda::barrier<cuda::thread_scope_block> barrier;
  __shared__ int tile[THREADS];
  if (threadIdx.x == 0) init(&barrier, blockDim.x);
  __syncthreads();
  int sum = 0;
  for (int i = 0; i < n; ++i) {
    cuda::memcpy_async(tile + threadIdx.x, in + i * THREADS + threadIdx.x, sizeof(int), barrier);
    barrier.arrive_and_wait();
    sum += tile[(threadIdx.x * 7 + i) % THREADS];
    barrier.arrive_and_wait();
  }
  out[threadIdx.x] = sum;
}

// The same, with copies that are up to STAGES ahead.
extern "C" __global__ void through_pipeline(const int *in, int *out, int n) {
  __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, STAGES> state;
  __shared__ int tile[STAGES][THREADS];
  auto block = groups::this_thread_block();
  auto pipeline = cuda::make_pipeline(block, &state);
  int sum = 0;
  for (int i = 0, next = 0; i < n; ++i) {
    for (; next < n && next < i + STAGES; ++next) {
      pipeline.producer_acquire();
      cuda::memcpy_async(block, tile[next % STAGES], in + next * THREADS, sizeof tile[0], pipeline);
      pipeline.producer_commit();
    }
    pipeline.consumer_wait();
    sum += tile[i % STAGES][(threadIdx.x * 7 + i) % THREADS];
    pipeline.consumer_release();
  }
  out[threadIdx.x] = sum;
}

// out[t]: the sum of in over the 16 threads of t's tile, plus how many of its warp have t's parity.
extern "C" __global__ void in_tiles(const int *in, int *out, int) {
  auto tile = groups::tiled_partition<16>(groups::this_thread_block());
  int sum = groups::reduce(tile, in[threadIdx.x], groups::plus<int>());
  if (threadIdx.x % 2) {
    sum += groups::reduce(groups::coalesced_threads(), 1, groups::plus<int>());
  } else {
    sum += groups::coalesced_threads().size();
  }
  out[threadIdx.x] = sum;
}

// out[t]: how many threads of t's CTA share t / 32, counted by atomics of three scopes.
extern "C" __global__ void by_atomics(const int *, int *out, int) {
  __shared__ int counts[3][THREADS / 32];
  if (threadIdx.x < THREADS / 32) {
    for (int i = 0; i < 3; ++i) counts[i][threadIdx.x] = 0;
  }
  __syncthreads();
  atomicAdd_block(&counts[0][threadIdx.x / 32], 1);
  atomicAdd(&counts[1][threadIdx.x / 32], 1);
  atomicAdd_system(&counts[2][threadIdx.x / 32], 1);
  __syncthreads();
  out[threadIdx.x] = counts[0][threadIdx.x / 32] + counts[1][threadIdx.x / 32] * 100 +
                     counts[2][threadIdx.x / 32] * 10000;
}

// The simplest useful kernels: a sum of vectors, and reductions with barriers and shuffles.
extern "C" __global__ void add_vectors(float *sum, const float *a, const float *b, int count) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < count) sum[i] = a[i] + b[i];
}

extern "C" __global__ void reduce(float *total, const float *values, int count) {
  __shared__ float partial[256];
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    sum += values[i];
  }
  partial[threadIdx.x] = sum;
  __syncthreads();
  for (int half = 128; half >= 32; half >>= 1) {
    if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
    __syncthreads();  // after the halves were added
  }
  if (threadIdx.x >= 32) return;
  sum = partial[threadIdx.x];
  for (int distance = 16; distance; distance >>= 1) sum += __shfl_xor_sync(~0u, sum, distance);
  if (threadIdx.x == 0) atomicAdd(total, sum);
}

// Every CTA leaves a partial sum; the last to arrive adds them up.
extern "C" __global__ void reduce_in_one_launch(float *total, float *partials, unsigned *arrived,
                                                const float *values) {
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int i = 0; i < 64; i++) sum += values[blockIdx.x * 64 + i];
    partials[blockIdx.x] = sum;
    __threadfence();
    is_last = atomicAdd(arrived, 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last || threadIdx.x) return;
  float sum = 0;
  for (int i = 0; i < gridDim.x; i++) sum += partials[i];
  *total = sum;
}

// A dependent launch: it may start before the one that fills its input has ended.
extern "C" __global__ void double_values(float *out, const float *in) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  out[blockIdx.x * blockDim.x + threadIdx.x] = 2 * in[blockIdx.x * blockDim.x + threadIdx.x];
}

// What only kernels that serve many sequences use: divisions by values of the call, cached and
// volatile loads, tickets drawn from a counter, more CTAs than 16 bits can count, offsets that need
// 64 bits.
#include <stdint.h>

extern "C" __global__ void divide(int64_t *results, const int *by) {
  int i = threadIdx.x;
  int32_t b = __ldg(by);
  int32_t a = (i - 16) * 1000003;
  results[i * 4 + 0] = a / b;
  results[i * 4 + 1] = a % b;
  results[i * 4 + 2] = static_cast<uint32_t>(a) / static_cast<uint32_t>(b);
  results[i * 4 + 3] = static_cast<int64_t>(a) * 1000003 / b;
}

// Each CTA draws tickets until none are left: work goes to the first CTA that asks.
extern "C" __global__ void draw_tickets(unsigned *counter, unsigned *owner, unsigned tickets) {
  __shared__ unsigned ticket;
  for (;;) {
    if (threadIdx.x == 0) ticket = atomicAdd(counter, 1);
    __syncthreads();  // the ticket is there
    unsigned mine = ticket;
    __syncthreads();  // all have taken it
    if (mine >= tickets) return;
    if (threadIdx.x == 0) owner[mine] = blockIdx.x + 1;
  }
}

// The last CTA spins on a word that the first one writes.
extern "C" __global__ void spin(volatile unsigned *flag, unsigned *seen) {
  if (blockIdx.x == 0) *flag = 7;
  if (blockIdx.x != gridDim.x - 1) return;
  while (*flag != 7) {
  }
  *seen = *flag;
}

extern "C" __global__ void mark_ctas(unsigned char *marks) {
  marks[blockIdx.x] = 1;
}

// softcap * tanh(x / softcap), as the approximate instruction gives it.
extern "C" __global__ void cap(float *values, float softcap) {
  float x = values[threadIdx.x] / softcap, y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  values[threadIdx.x] = softcap * y;
}

// Two rows are in flight, and the kernel waits for one.
extern "C" __global__ void copy_in_groups(uint4 *out, const uint4 *in) {
  __shared__ uint4 rows[2][32];
  unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(&rows[0][threadIdx.x]));
  for (int row = 0; row < 2; row++) {
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16;\ncp.async.commit_group;" ::"r"(to + row * 512),
        "l"(in + row * 32 + threadIdx.x)
        : "memory");
  }
  asm volatile("cp.async.wait_group 1;" ::: "memory");
  out[threadIdx.x] = rows[0][threadIdx.x];
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  out[32 + threadIdx.x] = rows[1][threadIdx.x];
}

// Copies a page of 32 words from any place of a tensor, however far.
extern "C" __global__ void copy_page(unsigned *to, const unsigned *from, int64_t page,
                                     int64_t stride) {
  to[page * stride + threadIdx.x] = from[page * stride + threadIdx.x] + 1;
}

extern "C" __global__ void count_after(unsigned *counter) {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  atomicAdd(counter, 1);
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

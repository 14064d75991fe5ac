// sm80.cuh - the instructions up to sm_80 that the kernels use, one function each. The comment is
// the PTX line, its oldest sm, its scope and what it asks of its operands. PTX ISA 9.0, sections
// 9.7.9 (data movement), 9.7.14 (matrix), 9.7.3 (float).
//
// Q K V S P O: queries, keys, values, scores, probabilities, output.
#ifndef FOVEA_KERNELS_ARCH_SM80_CUH
#define FOVEA_KERNELS_ARCH_SM80_CUH

#include <stdint.h>

// The 32-bit address, in the shared window, of a pointer into shared memory. The instructions below
// take such addresses.
__device__ __forceinline__ uint32_t fv_shared_address(const void *pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// cp.async.cg.shared.global [to], [from], 16, bytes; sm_80; per thread; both 16-byte aligned.
// Copies the first `bytes`, up to 16, and writes zeros over the rest. With 0 it reads nothing.
__device__ __forceinline__ void fv_copy_async_16(uint32_t to, const void *from, uint32_t bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

// st.shared.v4.u32 [to], {x, y, z, w}; any sm; per thread; 16-byte aligned.
__device__ __forceinline__ void fv_store_shared_16(uint32_t to, uint4 value) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(value.x), "r"(value.y),
               "r"(value.z), "r"(value.w)
               : "memory");
}

// ld.shared.v2.u32 {x, y}, [from]; any sm; per thread; 8-byte aligned.
__device__ __forceinline__ uint2 fv_load_shared_8(uint32_t from) {
  uint2 value;
  asm volatile("ld.shared.v2.u32 {%0, %1}, [%2];"
               : "=r"(value.x), "=r"(value.y)
               : "r"(from)
               : "memory");
  return value;
}

// cp.async.commit_group; sm_80; per thread: its copies since the last one become one group.
__device__ __forceinline__ void fv_copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// cp.async.wait_all; sm_80; per thread: its own copies have arrived, and are visible to it alone.
// Other threads see them after a barrier.
__device__ __forceinline__ void fv_copy_async_wait_all() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

// cp.async.wait_group N; sm_80; per thread: all its groups except the last N have arrived, and are
// visible to it alone. Other threads see them after a barrier.
template <int N>
__device__ __forceinline__ void fv_copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// ldmatrix.sync.aligned.m8n8.x4.shared.b16 {a, b, c, d}, [row]; sm_75; per warp. Lane l names the
// 16-byte aligned row l % 8 of matrix l / 8. It gets elements (l / 4, l % 4 * 2 and + 1) of each.
__device__ __forceinline__ void fv_load_matrices(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}

// ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {a, b, c, d}, [row]; sm_75; per warp. As above,
// except that lane l gets elements (l % 4 * 2 and + 1, l / 4) of each.
__device__ __forceinline__ void fv_load_matrices_transposed(uint32_t (&to)[4], uint32_t row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(row)
               : "memory");
}

// ex2.approx.ftz.f32 y, x; any sm; per thread: 2^x to about 2^-22, 0 for -inf.
__device__ __forceinline__ float fv_exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// rcp.approx.ftz.f32 y, x; any sm; per thread: 1 / x to about 1 ulp, 0 for inf.
__device__ __forceinline__ float fv_reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// mov.u32 d, %tid.x; any sm; per thread. threadIdx.x for values that a tile needs once among
// thousands of instructions. The compiler must not compute such values in advance: they would
// occupy registers from tile to tile.
__device__ __forceinline__ int fv_thread_here() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// No instruction. The compiler does not move later loads above it, where they would only occupy
// registers.
__device__ __forceinline__ void fv_load_later() {
  asm volatile("" ::: "memory");
}

// The 16-bit types: how two f32 become a pair, and how fragments are multiplied. Weights are at
// most 2^weight_exponent. f16 has room above 1 and needs it below: 2^-25 is 0 in f16. bf16 reaches
// as far down as f32; weights above 1 would only bring sums nearer to its end.
struct fv_f16 {
  static constexpr int weight_exponent = 15;
  static constexpr uint32_t ones = 0x3c003c00;  // a pair of 1

  // cvt.rn.f16x2.f32 d, high, low; sm_80; per thread, nearest even.
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
  }

  // cvt.f32.f16 of the low half of a pair, and of the high half; any sm; per thread: exact.
  static __device__ __forceinline__ float low(uint32_t pair) {
    float x;
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, low;}"
        : "=f"(x)
        : "r"(pair));
    return x;
  }
  static __device__ __forceinline__ float high(uint32_t pair) {
    float x;
    asm("{.reg .b16 low, high; mov.b32 {low, high}, %1; cvt.f32.f16 %0, high;}"
        : "=f"(x)
        : "r"(pair));
    return x;
  }

  // fma.rn.f16x2 d, a, b, c; sm_53; per thread: a * b + c of both, rounded once.
  static __device__ __forceinline__ uint32_t fused(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }

  // mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 d, a, b, d; sm_80; per warp.
  static __device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4],
                                                      uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

struct fv_bf16 {
  static constexpr int weight_exponent = 0;
  static constexpr uint32_t ones = 0x3f803f80;  // a pair of 1

  // cvt.rn.bf16x2.f32 d, high, low; sm_80; per thread, nearest even.
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
  }

  // fma.rn.bf16x2 d, a, b, c; sm_80; per thread: a * b + c of both, rounded once.
  static __device__ __forceinline__ uint32_t fused(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
  }

  // The low half of a pair in f32, and the high half: exact.
  static __device__ __forceinline__ float low(uint32_t pair) { return __uint_as_float(pair << 16); }
  static __device__ __forceinline__ float high(uint32_t pair) {
    return __uint_as_float(pair & 0xffff0000);
  }

  // mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 d, a, b, d; sm_80; per warp.
  static __device__ __forceinline__ void multiply_add(float (&d)[4], const uint32_t (&a)[4],
                                                      uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
};

#endif  // FOVEA_KERNELS_ARCH_SM80_CUH

// merge_sm80.cuh - partial attention results over disjoint keys become one.
//
// Per row (batch, query row, head), with partials n in the order in which they were given:
//
//   m = max_n lse_n        z = 0;  z = z + w_n          w_n = expf(lse_n - m)
//   a = 0;  a = a + w_n * out_n      out = a / z        lse = m + log(z)
//
// Weights are f32, sums double. Results are rounded to f32, then to out's type. So hundreds of
// partials lose nothing in f32's last places, and a sum of partials near the end of their type
// stays in range. The steps are those of csrc/host/merge.c, in its order. expf is CUDA's, so bits
// may differ from the CPU's. Partials with lse = -inf are left out: they may hold NaN. Where
// doubles are slow (sm_86, sm_89, sm_120), a merge waits for them and not for memory. Pairs of f32
// would not make it wait, but their range ends where f32's does, at both ends.
//
// A row belongs to `lanes` lanes of one warp; each takes eight elements at a time. The results may
// lie where a partial does: a lane reads its elements of all partials before it writes them. The
// LSE is written after all lanes of the warp have read it for the last time.
#ifndef FOVEA_KERNELS_MERGE_SM80_CUH
#define FOVEA_KERNELS_MERGE_SM80_CUH

#include "kernels/parts/typed_run.cuh"
#include "kernels/shared/params_merge.h"
#include "kernels/shared/shape.h"

// What a kernel for PARTS partials takes: the beginning of fv_merge_params.
template <int PARTS>
struct fv_merge_few {
  fv_merge_head head;
  fv_merge_part parts[PARTS];
};

struct fv_merge_row {
  int64_t batch, position, head;
};

struct fv_merge_total {
  float m;
  double z;
};

__device__ __forceinline__ int64_t fv_merge_offset(const fv_device_view &view,
                                                   const fv_merge_row &row) {
  return row.batch * view.batch + row.position * view.seq + row.head * view.head;
}

__device__ __forceinline__ unsigned char *fv_merge_out(const fv_merge_part &part,
                                                       const fv_merge_row &row) {
  return static_cast<unsigned char *>(part.out.data) +
         fv_merge_offset(part.out, row) * fv_type_bytes(part.type);
}

__device__ __forceinline__ float *fv_merge_lse(const fv_merge_part &part, const fv_merge_row &row) {
  return static_cast<float *>(part.lse.data) + fv_merge_offset(part.lse, row);
}

// A NaN or +inf in any lse makes z NaN, and so out and lse. m may lose a NaN, since comparisons
// with it are false, but z does not; and inf - inf is NaN.
template <int PARTS>
__device__ __forceinline__ fv_merge_total fv_sum_weights(const fv_merge_few<PARTS> &p,
                                                         const fv_merge_row &row) {
  fv_merge_total sum = {-INFINITY, 0};
  for (int32_t n = 0; n < p.head.count; ++n) {
    const float lse = *fv_merge_lse(p.parts[n], row);
    if (lse > sum.m) sum.m = lse;
  }
  for (int32_t n = 0; n < p.head.count; ++n) {
    const float lse = *fv_merge_lse(p.parts[n], row);
    if (lse != -INFINITY) sum.z += expf(__fsub_rn(lse, sum.m));
  }
  return sum;
}

// Merges elements [first, first + count) of the row.
template <int PARTS>
__device__ __forceinline__ void fv_merge_chunk(const fv_merge_few<PARTS> &p,
                                               const fv_merge_row &row, fv_merge_total sum,
                                               int32_t first, int32_t count) {
  double a[FV_RUN] = {};
  for (int32_t n = 0; n < p.head.count; ++n) {
    const fv_merge_part &part = p.parts[n];
    const float lse = *fv_merge_lse(part, row);
    if (lse == -INFINITY) continue;
    const double w = expf(__fsub_rn(lse, sum.m));
    float x[FV_RUN];
    fv_load_typed_run(fv_merge_out(part, row), part.type, first, count, part.aligned, x);
#pragma unroll
    for (int i = 0; i < FV_RUN; ++i) a[i] = fma(w, (double)x[i], a[i]);
  }
  // z = 0: no partial saw a key, and a is 0 already.
  const double factor = sum.z != 0 ? 1 / sum.z : 1;
  float merged[FV_RUN];
#pragma unroll
  for (int i = 0; i < FV_RUN; ++i) merged[i] = (float)(a[i] * factor);
  fv_store_typed_run(fv_merge_out(p.head.merged, row), p.head.merged.type, first, count,
                     p.head.merged.aligned, merged);
}

template <int PARTS>
__device__ __forceinline__ void fv_merge(const fv_merge_few<PARTS> &p) {
  const int32_t lanes = p.head.lanes, lane = threadIdx.x % lanes;
  const int64_t at_once = FV_MERGE_THREADS / lanes;
  for (int64_t i = blockIdx.x * at_once; i < p.head.rows; i += gridDim.x * at_once) {
    const int64_t number = i + threadIdx.x / lanes;
    const bool exists = number < p.head.rows;
    const fv_merge_row row = {number / p.head.heads / p.head.len_q,
                              number / p.head.heads % p.head.len_q, number % p.head.heads};
    fv_merge_total sum = {0, 0};
    if (exists) {
      sum = fv_sum_weights(p, row);
      for (int64_t first = lane * FV_RUN; first < p.head.dim; first += lanes * FV_RUN) {
        fv_merge_chunk(p, row, sum, (int32_t)first, (int32_t)fv_min(FV_RUN, p.head.dim - first));
      }
    }
    __syncwarp();  // all lanes have read the LSEs of their row: one may be where the result goes
    if (exists && lane == 0 && p.head.merged.lse.data) {
      // If all partials are empty, this is -inf + log(0) = -inf.
      const float lse = (float)(sum.m + log(sum.z));
      *fv_merge_lse(p.head.merged, row) = __uint_as_float(fv_narrow(lse, FV_TYPE_F32));
    }
  }
}

#endif  // FOVEA_KERNELS_MERGE_SM80_CUH

// merge_sm80.cu - one kernel of shared/merge.def; the build names the row by FV_ROW.
#include "kernels/merge_sm80.cuh"

#if !defined(FV_ROW)
#error "FV_ROW must name a row of shared/merge.def"
#endif

#define FV_MERGE_ROW(name, parts) constexpr int parts_##name = parts;
#include "kernels/shared/merge.def"
#undef FV_MERGE_ROW

#define PARTS_NAMED(name) parts_##name
#define PARTS_OF(name) PARTS_NAMED(name)
constexpr int row_parts = PARTS_OF(FV_ROW);

static_assert(row_parts <= FV_MERGE_PARTS, "the host's struct holds the kernel's");

extern "C" __global__ void __launch_bounds__(FV_MERGE_THREADS, FV_MERGE_RESIDENT)
    FV_ROW(const __grid_constant__ fv_merge_few<row_parts> params) {
  fv_merge(params);
}

// kv_append_sm80.cu - one kernel of shared/kv_append.def; the build names the row by FV_ROW.
#include "kernels/kv_append_sm80.cuh"

#if !defined(FV_ROW)
#error "FV_ROW must name a row of shared/kv_append.def"
#endif

#define FV_KV_APPEND_ROW(name, threads) constexpr int threads_##name = threads;
#include "kernels/shared/kv_append.def"
#undef FV_KV_APPEND_ROW

#define THREADS_NAMED(name) threads_##name
#define THREADS_OF(name) THREADS_NAMED(name)
constexpr int row_threads = THREADS_OF(FV_ROW);

extern "C" __global__ void __launch_bounds__(row_threads, FV_APPEND_RESIDENT)
    FV_ROW(const __grid_constant__ fv_append_params params) {
  fv_append<row_threads>(params);
}

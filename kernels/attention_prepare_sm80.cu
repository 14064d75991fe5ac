// attention_prepare_sm80.cu - makes the schedule of an attention call, in the launch before it.
#include "kernels/attention_prepare_sm80.cuh"

#if !defined(FV_ROW)
#error "FV_ROW must name a row of shared/attention_prepare.def"
#endif

extern "C" __global__ void __launch_bounds__(FV_PREPARE_THREADS)
    FV_ROW(const __grid_constant__ fv_attention_params params) {
  fv_prepare(params);
}

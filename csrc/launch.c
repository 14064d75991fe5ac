/* launch.c - see launch.h. The CPU computes before it returns and has no use for the stream; what is
 * queued on a GPU goes to launch_cuda.c. */
#include "launch.h"

#include "cpu/append.h"
#include "cpu/attention_cpu.h"
#include "cpu/merge.h"
#include "cpu/reference.h"
#include "launch_append_cuda.h"
#include "launch_cuda.h"
#include "launch_merge_cuda.h"
#include "status.h"

static bool is_cuda(const fovea_handle *handle) {
  return handle->facts.device == FOVEA_DEVICE_CUDA;
}

fovea_status fv_launch_attention(fovea_handle *handle, const fv_plan *plan,
                                 const fv_problem *problem, fovea_stream stream) {
  if (is_cuda(handle)) return fv_launch_cuda_attention(&handle->cuda, plan, problem, stream);
  if (plan->kernel->device == FOVEA_DEVICE_REFERENCE) {
    fv_reference_attention(problem, handle->parallel);
  } else {
    fv_cpu_attention(problem, plan, handle->parallel);
  }
  return FOVEA_OK;
}

/* A tool to look at a few rows: the judge's code serves both CPU devices. */
fovea_status fv_launch_weights(fovea_handle *handle, const fv_weights_problem *problem,
                               fovea_stream stream) {
  (void)stream;
  if (is_cuda(handle)) {
    return fv_fail(FOVEA_UNSUPPORTED,
                   "no CUDA kernel covers fovea_attention_weights; the CPU does");
  }
  fv_reference_weights(problem, handle->parallel);
  return FOVEA_OK;
}

fovea_status fv_launch_merge(fovea_handle *handle, const fv_merge_problem *problem,
                             fovea_stream stream) {
  if (is_cuda(handle)) return fv_launch_cuda_merge(&handle->cuda, problem, stream);
  fv_cpu_merge(problem, handle->parallel);
  return FOVEA_OK;
}

fovea_status fv_launch_append(fovea_handle *handle, const fv_append_problem *problem,
                              fovea_stream stream) {
  if (is_cuda(handle)) return fv_launch_cuda_append(&handle->cuda, problem, stream);
  fv_cpu_append(problem, handle->parallel);
  return FOVEA_OK;
}

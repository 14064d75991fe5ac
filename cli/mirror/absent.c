/* absent.c - for builds without CUDA, where no handle of a CUDA device can be opened. */
#include "cli/mirror/cuda.h"
#include "csrc/status.h"

static const char no_cuda[] = "this build has no CUDA kernels";

fovea_status fv_mirror_attention_cuda(fovea_handle *handle, const fovea_attention_args *args,
                                      double *seconds) {
  (void)handle, (void)args, (void)seconds;
  return fv_fail(FOVEA_NO_DEVICE, "%s", no_cuda);
}

fovea_status fv_mirror_append_cuda(fovea_handle *handle, const fovea_kv_append_args *args) {
  (void)handle, (void)args;
  return fv_fail(FOVEA_NO_DEVICE, "%s", no_cuda);
}

fovea_status fv_mirror_merge_cuda(fovea_handle *handle, const fovea_merge_args *args) {
  (void)handle, (void)args;
  return fv_fail(FOVEA_NO_DEVICE, "%s", no_cuda);
}

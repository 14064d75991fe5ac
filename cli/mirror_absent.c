/* mirror_absent.c - in builds without CUDA, where no handle of a CUDA device can be opened. */
#include "mirror_cuda.h"
#include "status.h"

fovea_status fv_mirror_attention_cuda(fovea_handle *handle, const fovea_attention_args *args,
                                      double *seconds) {
  (void)handle, (void)args, (void)seconds;
  return fv_fail(FOVEA_NO_DEVICE, "this build has no CUDA kernels");
}

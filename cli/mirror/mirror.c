/* mirror.c - see mirror.h. */
#include "cli/mirror/mirror.h"

#include <time.h>

#include "cli/mirror/cuda.h"
#include "csrc/handle.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool is_cuda(const fovea_handle *handle) {
  return handle->backend->device == FOVEA_DEVICE_CUDA;
}

fovea_status fv_mirror_attention(fovea_handle *handle, const fovea_attention_args *args,
                                 double *seconds) {
  if (is_cuda(handle)) return fv_mirror_attention_cuda(handle, args, seconds);
  double start = now();
  fovea_status status = fovea_attention(handle, args, NULL);
  *seconds = now() - start;
  return status;
}

fovea_status fv_mirror_append(fovea_handle *handle, const fovea_kv_append_args *args) {
  return is_cuda(handle) ? fv_mirror_append_cuda(handle, args)
                         : fovea_kv_append(handle, args, NULL);
}

fovea_status fv_mirror_merge(fovea_handle *handle, const fovea_merge_args *args) {
  return is_cuda(handle) ? fv_mirror_merge_cuda(handle, args) : fovea_merge(handle, args, NULL);
}

/* Tensor cores multiply probabilities in q's dtype; the kernels have only 16-bit ones. */
uint32_t fv_mirror_weights_dtype(const fovea_handle *handle, const fovea_attention_args *args) {
  return is_cuda(handle) ? args->q.dtype : FOVEA_F32;
}

/* handle.h - a device that the caller opened. Immutable after creation. */
#ifndef FOVEA_CSRC_HANDLE_H
#define FOVEA_CSRC_HANDLE_H

#include "csrc/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fovea_handle {
  const fv_backend *backend;
  int32_t ordinal;
  int32_t threads; /* CUDA: multiprocessors */
  void *state;     /* the backend's: fv_host_device, fv_cpu_device or fv_cuda_device */
};

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_HANDLE_H */

/* handle.h - a device opened by the caller. Immutable after creation. */
#ifndef FV_HANDLE_H
#define FV_HANDLE_H

#include "csrc/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fovea_handle {
  const fv_backend *backend;
  int32_t ordinal;
  int32_t threads; /* or multiprocessors */
  void *state;     /* the backend's own: fv_host_device, fv_cpu_device or fv_cuda_device */
};

#ifdef __cplusplus
}
#endif

#endif /* FV_HANDLE_H */

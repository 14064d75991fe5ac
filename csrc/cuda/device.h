/* device.h - a CUDA device opened for a handle. No CUDA header is needed to read this. */
#ifndef FOVEA_CSRC_CUDA_DEVICE_H
#define FOVEA_CSRC_CUDA_DEVICE_H

#include "csrc/cuda/plan.h"
#include "csrc/handle.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_cuda_device {
  fv_cuda_facts facts;
  int number; /* a CUdevice */
  struct CUctx_st *primary;
  int32_t driver_version; /* 13000 is 13.0 */
  char name[96];
} fv_cuda_device;

/* Opens device `ordinal` and retains its primary context. FOVEA_NO_DEVICE, with the reason, if it
 * is absent or can't be used. */
fovea_status fv_cuda_open(int32_t ordinal, fv_cuda_device *device);
void fv_cuda_close(fv_cuda_device *device);

/* The device of a handle of FOVEA_DEVICE_CUDA. */
static inline const fv_cuda_device *fv_cuda_device_of(const fovea_handle *handle) {
  return (const fv_cuda_device *)handle->state;
}

/* Why CUDA is or is not available, in one sentence. Opens the driver. */
void fv_cuda_describe(char *text, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_DEVICE_H */

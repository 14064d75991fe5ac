/* context.c - see context.h. */
#include "csrc/cuda/context.h"

static bool belongs_to_no_context(CUstream stream) {
  return stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

/* The context to push for the call; NULL: the current one is right. */
static fovea_status find_context(const fv_driver *driver, const fv_cuda_device *device,
                                 CUstream stream, CUcontext *context) {
  CUcontext current = NULL;
  CUdevice number = -1;
  *context = NULL;
  FV_DRIVER_TRY(driver, cuCtxGetCurrent, &current);
  if (!belongs_to_no_context(stream)) {
    FV_DRIVER_TRY(driver, cuStreamGetCtx, stream, context);
    if (*context == current) *context = NULL;
    return FOVEA_OK;
  }
  if (current == device->primary) return FOVEA_OK;
  if (current) FV_DRIVER_TRY(driver, cuCtxGetDevice, &number);
  if (number != device->number) *context = device->primary;
  return FOVEA_OK;
}

fovea_status fv_context_need_device(const fv_driver *driver, const fv_cuda_device *device,
                                    CUstream stream) {
  CUdevice number = -1;
  if (belongs_to_no_context(stream)) return FOVEA_OK;
  FV_DRIVER_TRY(driver, cuCtxGetDevice, &number);
  if (number == device->number) return FOVEA_OK;
  return fv_fail(FOVEA_BAD_ARGUMENT,
                 "stream belongs to CUDA device %d, must belong to the handle's, %d", number,
                 device->number);
}

fovea_status fv_context_enter(const fv_driver *driver, const fv_cuda_device *device,
                              CUstream stream, bool *pushed) {
  CUcontext context;
  *pushed = false;
  FV_TRY(find_context(driver, device, stream, &context));
  if (context) FV_DRIVER_TRY(driver, cuCtxPushCurrent, context);
  *pushed = context != NULL;
  return FOVEA_OK;
}

fovea_status fv_context_leave(const fv_driver *driver, bool pushed, fovea_status status) {
  CUcontext context;
  if (!pushed) return status;
  CUresult result = driver->cuCtxPopCurrent(&context);
  if (result == CUDA_SUCCESS || status != FOVEA_OK) return status;
  return fv_driver_fail(driver, "cuCtxPopCurrent", result);
}

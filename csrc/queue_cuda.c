/* queue_cuda.c - see queue_cuda.h. */
#include "queue_cuda.h"

#include "context_cuda.h"
#include "module.h"

static fovea_status launch_kernel(const fv_driver *driver, const fv_cuda_device *device,
                                  const fv_cuda_launch *launch, CUstream stream) {
  CUfunction kernel;
  FV_TRY(fv_context_need_device(driver, device, stream));
  FV_TRY(fv_module_kernel(driver, launch->row, device->number, stream, &kernel));
  void *arguments[] = {launch->params};
  CUlaunchConfig config = {.gridDimX = (unsigned)launch->grid,
                           .gridDimY = 1,
                           .gridDimZ = 1,
                           .blockDimX = (unsigned)launch->threads,
                           .blockDimY = 1,
                           .blockDimZ = 1,
                           .hStream = stream};
  FV_DRIVER_TRY(driver, cuLaunchKernelEx, &config, kernel, arguments, NULL);
  return FOVEA_OK;
}

fovea_status fv_queue_cuda(const fv_cuda_device *device, const fv_cuda_launch *launch,
                           fovea_stream stream) {
  const fv_driver *driver;
  bool pushed, queued = false;
  FV_TRY(fv_driver_open(&driver));
  fovea_status status = fv_context_enter(driver, device, stream, &pushed);
  if (status == FOVEA_OK) {
    status = launch_kernel(driver, device, launch, stream);
    queued = status == FOVEA_OK;
    status = fv_context_leave(driver, pushed, status);
  }
  /* The header knows two driver failures of a call: nothing was queued, or something was. */
  if (status == FOVEA_OUT_OF_MEMORY) status = FOVEA_DRIVER_ERROR;
  return queued && status != FOVEA_OK ? FOVEA_PARTIAL : status;
}

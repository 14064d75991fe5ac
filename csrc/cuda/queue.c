/* queue.c - see queue.h. */
#include "csrc/cuda/queue.h"

#include "csrc/cuda/context.h"
#include "csrc/cuda/module.h"
#include "csrc/cuda/rows.h"

enum { LAUNCHES_MAX = 4, SM_WITH_EARLY_LAUNCHES = 90 };

/* Loads all kernels before anything is queued, since loading can fail. */
static fovea_status find_kernels(const fv_driver *driver, const fv_cuda_device *device,
                                 const fv_cuda_launch *launches, int32_t count, CUstream stream,
                                 CUfunction *kernels) {
  FV_TRY(fv_context_need_device(driver, device, stream));
  for (int32_t i = 0; i < count; ++i) {
    FV_TRY(fv_module_kernel(driver, launches[i].row, device->number, stream, &kernels[i]));
  }
  return FOVEA_OK;
}

static fovea_status launch_kernel(const fv_driver *driver, const fv_cuda_device *device,
                                  const fv_cuda_launch *launch, CUfunction kernel,
                                  CUstream stream) {
  CUlaunchAttribute early = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                             .value = {.programmaticStreamSerializationAllowed = 1}};
  void *arguments[] = {launch->params};
  CUlaunchConfig config = {.gridDimX = (unsigned)launch->grid,
                           .gridDimY = 1,
                           .gridDimZ = 1,
                           .blockDimX = (unsigned)launch->threads,
                           .blockDimY = 1,
                           .blockDimZ = 1,
                           .sharedMemBytes = (unsigned)fv_cuda_kernel_at(launch->row).shared_bytes,
                           .hStream = stream,
                           .attrs = &early,
                           .numAttrs = launch->early && device->facts.sm >= SM_WITH_EARLY_LAUNCHES};
  FV_DRIVER_TRY(driver, cuLaunchKernelEx, &config, kernel, arguments, NULL);
  return FOVEA_OK;
}

/* Counts the launches that were queued in *queued. */
static fovea_status launch_all(const fv_driver *driver, const fv_cuda_device *device,
                               const fv_cuda_launch *launches, int32_t count, CUstream stream,
                               int32_t *queued) {
  CUfunction kernels[LAUNCHES_MAX];
  FV_TRY(find_kernels(driver, device, launches, count, stream, kernels));
  for (; *queued < count; ++*queued) {
    FV_TRY(launch_kernel(driver, device, &launches[*queued], kernels[*queued], stream));
  }
  return FOVEA_OK;
}

fovea_status fv_queue_cuda(const fv_cuda_device *device, const fv_cuda_launch *launches,
                           int32_t count, fovea_stream stream) {
  const fv_driver *driver;
  bool pushed;
  int32_t queued = 0;
  FV_TRY(fv_driver_open(&driver));
  fovea_status status = fv_context_enter(driver, device, stream, &pushed);
  if (status == FOVEA_OK) {
    status = launch_all(driver, device, launches, count, stream, &queued);
    status = fv_context_leave(driver, pushed, status);
  }
  /* The header has two statuses for a driver failure in a call: FOVEA_DRIVER_ERROR if nothing was
   * queued, FOVEA_PARTIAL if something was. */
  if (status == FOVEA_OUT_OF_MEMORY) status = FOVEA_DRIVER_ERROR;
  return queued && status != FOVEA_OK ? FOVEA_PARTIAL : status;
}

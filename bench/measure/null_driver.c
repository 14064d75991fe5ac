/* null_driver.c - a CUDA driver that does nothing and succeeds, for fovea-bench --host. The time of
 * a call on it is the time of the library itself. It is a shared object with the driver's names. */
#include <cuda.h>
#include <stdio.h>

#pragma GCC visibility push(default)

static int context, library, kernel; /* handles point to these; nobody reads them */

CUresult cuDriverGetVersion(int *version) {
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

CUresult cuInit(unsigned flags) {
  return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
  *count = 1;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int capacity, CUdevice device) {
  (void)device;
  snprintf(name, (size_t)capacity, "a driver that does nothing");
  return CUDA_SUCCESS;
}

/* The attributes of an H200 that the library asks for. */
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
  (void)device;
  *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR            ? 9
           : attribute == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT              ? 132
           : attribute == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN ? 232448
                                                                                : 0;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *retained, CUdevice device) {
  (void)device;
  *retained = (CUcontext)&context;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  (void)device;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *current) {
  *current = (CUcontext)&context;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  *device = 0;
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext pushed) {
  (void)pushed;
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *popped) {
  *popped = (CUcontext)&context;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *of) {
  (void)stream;
  *of = (CUcontext)&context;
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  (void)stream;
  *status = CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

CUresult cuLibraryLoadData(CUlibrary *loaded, const void *code, CUjit_option *jit, void **values,
                           unsigned jit_count, CUlibraryOption *options, void **more,
                           unsigned count) {
  (void)code, (void)jit, (void)values, (void)jit_count, (void)options, (void)more, (void)count;
  *loaded = (CUlibrary)&library;
  return CUDA_SUCCESS;
}

CUresult cuLibraryUnload(CUlibrary loaded) {
  (void)loaded;
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *found, CUlibrary loaded, const char *name) {
  (void)loaded, (void)name;
  *found = (CUkernel)&kernel;
  return CUDA_SUCCESS;
}

CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel of,
                              CUdevice device) {
  (void)attribute, (void)value, (void)of, (void)device;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **params,
                          void **extra) {
  (void)config, (void)function, (void)params, (void)extra;
  return CUDA_SUCCESS;
}

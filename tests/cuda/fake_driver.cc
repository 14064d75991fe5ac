// fake_driver.cc - see fake_driver.h. A launch fills the beginning of its results with 0x11, so
// that a test sees whether something was queued.
#pragma GCC visibility push(default)
#include "tests/cuda/fake_driver.h"

#include <cstdlib>
#include <cstring>

namespace {

fovea_test::FakeDriver driver;
thread_local std::vector<CUcontext> contexts;

// Notes the call. Returns the error that it must fail with, or CUDA_SUCCESS.
CUresult begin(const char *name) {
  std::lock_guard<std::mutex> guard(driver.lock);
  driver.calls.push_back(name);
  return driver.fail == name ? driver.with : CUDA_SUCCESS;
}

bool is_special(CUstream stream) {
  return stream == nullptr || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

}  // namespace

#define BEGIN(name)                              \
  do {                                           \
    const CUresult verdict = begin(name);        \
    if (verdict != CUDA_SUCCESS) return verdict; \
  } while (0)

extern "C" {

fovea_test::FakeDriver *fake_driver() {
  return &driver;
}

CUresult cuDriverGetVersion(int *version) {
  BEGIN("cuDriverGetVersion");
  *version = driver.version;
  return CUDA_SUCCESS;
}

CUresult cuInit(unsigned) {
  BEGIN("cuInit");
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **name) {
  *name = error == CUDA_ERROR_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_FAKE";
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
  BEGIN("cuDeviceGetCount");
  *count = driver.devices;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  BEGIN("cuDeviceGet");
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int capacity, CUdevice) {
  BEGIN("cuDeviceGetName");
  std::strncpy(name, "Fake GPU", static_cast<size_t>(capacity));
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
  BEGIN("cuDeviceGetAttribute");
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = driver.capability / 10;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = driver.capability % 10;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = 132;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR:
      *value = driver.shared_bytes + 1024;
      return CUDA_SUCCESS;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
      *value = driver.shared_bytes;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  BEGIN("cuDevicePrimaryCtxRetain");
  ++driver.retained[device];
  *context = &driver.primary[device];
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  BEGIN("cuDevicePrimaryCtxRelease");
  --driver.retained[device];
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  BEGIN("cuCtxGetCurrent");
  *context = contexts.empty() ? nullptr : contexts.back();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  BEGIN("cuCtxGetDevice");
  if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  *device = contexts.back()->device;
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext context) {
  BEGIN("cuCtxPushCurrent");
  contexts.push_back(context);
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
  BEGIN("cuCtxPopCurrent");
  if (contexts.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  *context = contexts.back();
  contexts.pop_back();
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCtx(CUstream stream, CUcontext *context) {
  BEGIN("cuStreamGetCtx");
  *context = is_special(stream) ? contexts.back() : stream->context;
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  BEGIN("cuStreamIsCapturing");
  const bool capturing = !is_special(stream) && stream->capturing;
  *status = capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
  return CUDA_SUCCESS;
}

#if !defined(FAKE_WITHOUT_LIBRARIES)
CUresult cuLibraryLoadData(CUlibrary *library, const void *image, CUjit_option *, void **, unsigned,
                           CUlibraryOption *, void **, unsigned) {
  BEGIN("cuLibraryLoadData");
  *library = new CUlib_st{image};  // stays, as the library promises
  return CUDA_SUCCESS;
}
#endif

CUresult cuLibraryUnload(CUlibrary library) {
  BEGIN("cuLibraryUnload");
  delete library;
  return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary, const char *name) {
  BEGIN("cuLibraryGetKernel");
  *kernel = new CUkern_st{name};
  return CUDA_SUCCESS;
}

CUresult cuKernelSetAttribute(CUfunction_attribute, int, CUkernel, CUdevice) {
  BEGIN("cuKernelSetAttribute");
  return CUDA_SUCCESS;
}

// Keeps the kernel's parameters; returns where its results go.
static void *keep_params(const std::string &kernel, const void *params,
                         fovea_test::FakeLaunch *launch) {
  if (kernel.find("fovea_kv_append") == 0) {
    std::memcpy(&launch->append, params, sizeof launch->append);
    return launch->append.sides[0].to.data;
  }
  if (kernel.find("fovea_merge") == 0) {
    const auto *merge = static_cast<const fv_merge_params *>(params);
    launch->merge = merge->head;
    launch->parts.assign(merge->parts, merge->parts + merge->head.count);
    const int room = std::stoi(kernel.substr(kernel.rfind('p') + 1));  // fovea_merge_sm80_p8
    launch->unused.assign(reinterpret_cast<const char *>(merge->parts + merge->head.count),
                          reinterpret_cast<const char *>(merge->parts + room));
    return launch->merge.merged.out.data;
  }
  std::memcpy(&launch->params, params, sizeof launch->params);
  return launch->params.out.data;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction kernel, void **params, void **) {
  BEGIN("cuLaunchKernelEx");
  fovea_test::FakeLaunch launch{};
  launch.kernel = reinterpret_cast<CUkernel>(kernel)->name;
  launch.context = contexts.empty() ? nullptr : contexts.back();
  launch.config = *config;
  std::memset(keep_params(launch.kernel, params[0], &launch), 0x11, 16);
  std::lock_guard<std::mutex> guard(driver.lock);
  driver.launches.push_back(launch);
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream) {
  BEGIN("cuStreamSynchronize");
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *pointer, size_t bytes) {
  BEGIN("cuMemAlloc");
  *pointer = reinterpret_cast<CUdeviceptr>(std::malloc(bytes));
  return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr pointer) {
  BEGIN("cuMemFree");
  std::free(reinterpret_cast<void *>(pointer));
  return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t bytes) {
  BEGIN("cuMemcpyHtoD");
  std::memcpy(reinterpret_cast<void *>(to), from, bytes);
  return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t bytes) {
  BEGIN("cuMemcpyDtoH");
  std::memcpy(to, reinterpret_cast<void *>(from), bytes);
  return CUDA_SUCCESS;
}

}  // extern "C"

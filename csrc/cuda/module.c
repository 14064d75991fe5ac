/* module.c - see module.h.
 *
 * Loading takes milliseconds and a lock. Every later call reads one word. A kernel takes more
 * shared memory than CTAs get by default, so each device it runs on needs an attribute set. One bit
 * per device says whether it is. Devices past the 64th have no bit and set it in every call. */
#include "csrc/cuda/module.h"

#include <pthread.h>
#include <stdatomic.h>

#include "csrc/cuda/rows.h"

enum { ROWS_MAX = 256, DEVICE_BITS = 64 };

typedef struct slot {
  CUkernel kernel;        /* written under the lock, before the first bit of ready */
  _Atomic uint64_t ready; /* bit d: usable on device d */
} slot;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static slot slots[ROWS_MAX];

static bool is_ready(const slot *s, CUdevice device) {
  return device < DEVICE_BITS &&
         atomic_load_explicit(&s->ready, memory_order_acquire) >> device & 1;
}

/* Loads the row's library once. A library without the kernel is unloaded: nothing holds it yet. */
static fovea_status load(const fv_driver *driver, const fv_cuda_kernel *row, slot *s) {
  CUlibrary library;
  CUkernel kernel;
  if (s->kernel) return FOVEA_OK;
  FV_DRIVER_TRY(driver, cuLibraryLoadData, &library, row->image, NULL, NULL, 0, NULL, NULL, 0);
  CUresult result = driver->cuLibraryGetKernel(&kernel, library, row->name);
  if (result != CUDA_SUCCESS) {
    driver->cuLibraryUnload(library);
    return fv_driver_fail(driver, "cuLibraryGetKernel", result);
  }
  s->kernel = kernel;
  return FOVEA_OK;
}

static fovea_status make_ready(const fv_driver *driver, const fv_cuda_kernel *row, CUdevice device,
                               slot *s) {
  FV_TRY(load(driver, row, s));
  FV_DRIVER_TRY(driver, cuKernelSetAttribute, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                row->shared_bytes, s->kernel, device);
  if (device < DEVICE_BITS) {
    atomic_fetch_or_explicit(&s->ready, UINT64_C(1) << device, memory_order_release);
  }
  return FOVEA_OK;
}

/* Refuses to load while the stream is being captured. The legacy stream answers
 * CUDA_ERROR_STREAM_CAPTURE_IMPLICIT if another stream's capture forbids its use. */
static fovea_status refuse_capture(const fv_driver *driver, const char *name, CUstream stream) {
  CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
  CUresult result = driver->cuStreamIsCapturing(stream, &capture);
  if (result != CUDA_SUCCESS && result != CUDA_ERROR_STREAM_CAPTURE_IMPLICIT) {
    return fv_driver_fail(driver, "cuStreamIsCapturing", result);
  }
  if (result == CUDA_SUCCESS && capture == CU_STREAM_CAPTURE_STATUS_NONE) return FOVEA_OK;
  return fv_fail(FOVEA_NOT_PREPARED,
                 "%s is not loaded, and the stream is being captured; call fovea_prepare first",
                 name);
}

fovea_status fv_module_kernel(const fv_driver *driver, int32_t row, CUdevice device,
                              CUstream stream, CUfunction *kernel) {
  slot *s = &slots[row];
  if (!is_ready(s, device)) {
    fv_cuda_kernel facts = fv_cuda_kernel_at(row);
    FV_TRY(refuse_capture(driver, facts.name, stream));
    pthread_mutex_lock(&lock);
    fovea_status status = is_ready(s, device) ? FOVEA_OK : make_ready(driver, &facts, device, s);
    pthread_mutex_unlock(&lock);
    if (status != FOVEA_OK) return status;
  }
  *kernel = (CUfunction)s->kernel; /* cuda.h: launches take a CUkernel cast to this */
  return FOVEA_OK;
}

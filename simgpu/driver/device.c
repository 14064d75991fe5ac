/* device.c - the driver's functions for initialisation, the device and its attributes, contexts,
 * names of errors, and look-up of functions. Numbers of attributes are those of CUdevice_attribute
 * in cuda.h. The environment is read once, by cuInit. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/alu/mma.h"
#include "simgpu/check/report.h"
#include "simgpu/driver/driver.h"
#include "simgpu/memory/memory.h"

struct sim_driver sim_driver = {.mutex = PTHREAD_MUTEX_INITIALIZER};
_Thread_local struct sim_context *sim_current;

/* One product per architecture, from NVIDIA's technical specifications: A100, A40, H100, RTX 5090.
 * The last column: how their tensor cores add (alu/truncate.h). */
static const struct sim_profile_of_device profiles[] = {
    {"sm_80", 80, 108, 166912, 167936, 2048, 40u << 20, "sm_80"},
    {"sm_86", 86, 84, 101376, 102400, 1536, 6u << 20, "sm_80"},
    {"sm_90", 90, 132, 232448, 233472, 2048, 50u << 20, "sm_90"},
    {"sm_120", 120, 170, 101376, 102400, 1536, 96u << 20, "sm_90"},
};

CUresult sim_enter(bool needs_context) {
  pthread_mutex_lock(&sim_driver.mutex);
  if (!sim_driver.is_ready) return CUDA_ERROR_NOT_INITIALIZED;
  if (needs_context && !sim_current) return CUDA_ERROR_INVALID_CONTEXT;
  return needs_context ? sim_driver.failed : CUDA_SUCCESS;
}

CUresult sim_leave(CUresult result) {
  pthread_mutex_unlock(&sim_driver.mutex);
  return result;
}

static bool is_set(const char *name) {
  const char *value = getenv(name);
  return value && !strcmp(value, "1");
}

static bool choose_processors(void) {
  const char *text = getenv("FOVEA_SIMGPU_MULTIPROCESSORS");
  sim_driver.processors = sim_driver.device->processors;
  if (!text || !*text) return true;
  char *end;
  unsigned long count = strtoul(text, &end, 10);
  if (*end || count < 1 || count > 1024) {
    sim_report_line("FOVEA_SIMGPU_MULTIPROCESSORS=%s: must be 1 to 1024", text);
    return false;
  }
  sim_driver.processors = (u32)count;
  return true;
}

static CUresult initialise(void) {
  const char *device = getenv("FOVEA_SIMGPU_DEVICE");
  if (!is_set("FOVEA_SIMGPU")) {
    sim_report_line("this is a test tool, not a GPU: set FOVEA_SIMGPU=1 to use it");
    return CUDA_ERROR_NO_DEVICE;
  }
  if (!device || !*device) device = "sm_80";
  for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++) {
    if (!strcmp(profiles[i].name, device)) sim_driver.device = &profiles[i];
  }
  if (!sim_driver.device) {
    sim_report_line("FOVEA_SIMGPU_DEVICE=%s: must be sm_80, sm_86, sm_90 or sm_120", device);
    return CUDA_ERROR_NO_DEVICE;
  }
  if (!choose_processors()) return CUDA_ERROR_NO_DEVICE;
  const char *sums = getenv("FOVEA_SIMGPU_MMA");
  if (!sim_mma_choose(sums && *sums ? sums : sim_driver.device->mma)) {
    sim_report_line("FOVEA_SIMGPU_MMA=%s: must be round, sm_80 or sm_90", sums);
    return CUDA_ERROR_NO_DEVICE;
  }
  const char *seed = getenv("FOVEA_SIMGPU_SEED");
  sim_driver.seed = seed ? strtoull(seed, NULL, 0) : 0;
  sim_driver.is_eager = is_set("FOVEA_SIMGPU_EAGER");
  sim_driver.goes_on = is_set("FOVEA_SIMGPU_GO_ON");
  if (!sim_memory_open()) {
    sim_report_line("cannot reserve address space for device memory");
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  sim_driver.primary.is_primary = true;
  sim_driver.legacy = (struct sim_stream){.context = &sim_driver.primary, .is_blocking = true};
  sim_driver.is_ready = true;
  sim_report_write();
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuInit(unsigned flags) {
  pthread_mutex_lock(&sim_driver.mutex);
  CUresult result = flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
  if (!result && !sim_driver.is_ready) result = initialise();
  return sim_leave(result);
}

SIM_EXPORT CUresult cuDriverGetVersion(int *version) {
  if (!version) return CUDA_ERROR_INVALID_VALUE;
  *version = 13000; /* what PTX 9.0 needs */
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceGetCount(int *count) {
  SIM_CALL(false, (*count = 1, CUDA_SUCCESS));
}

SIM_EXPORT CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  SIM_CALL(false, ordinal ? CUDA_ERROR_INVALID_DEVICE : (*device = 0, CUDA_SUCCESS));
}

static CUresult get_name(char *name, int length) {
  snprintf(name, (size_t)length, "simgpu %s (software)", sim_driver.device->name);
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
  SIM_CALL(false, device || length < 1 ? CUDA_ERROR_INVALID_DEVICE : get_name(name, length));
}

SIM_EXPORT CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
  SIM_CALL(false, device ? CUDA_ERROR_INVALID_DEVICE : (*bytes = SIM_GLOBAL_BYTES, CUDA_SUCCESS));
}

SIM_EXPORT CUresult cuDeviceGetUuid_v2(void *uuid, CUdevice device) {
  SIM_CALL(false, device ? CUDA_ERROR_INVALID_DEVICE
                         : (memcpy(uuid, "fovea simgpu 000", 16), CUDA_SUCCESS));
}

static int attribute_value(int attribute) {
  const struct sim_profile_of_device *device = sim_driver.device;
  switch (attribute) {
    case 1:
      return 1024; /* threads per block */
    case 2:
    case 3:
      return 1024; /* block x, y */
    case 4:
      return 64; /* block z */
    case 5:
      return INT32_MAX; /* grid x */
    case 6:
    case 7:
      return 65535; /* grid y, z */
    case 8:
      return 49152; /* shared memory per block without asking */
    case 9:
      return 65536; /* constant memory */
    case 10:
      return SIM_LANES;
    case 12:
    case 82:
      return 65536; /* registers per block, per multiprocessor */
    case 13:
      return 1410000; /* clock, kHz */
    case 16:
      return (int)sim_driver.processors;
    case 31:
    case 41:
    case 78:
    case 95:
    case 115:
      return 1; /* concurrent kernels, unified addresses, priorities, cooperative, pools */
    case 38:
      return (int)device->l2_bytes;
    case 39:
      return (int)device->threads_per_processor;
    case 40:
      return 1; /* copy engines */
    case 75:
      return (int)device->sm / 10;
    case 76:
      return (int)device->sm % 10;
    case 81:
      return (int)device->shared_per_processor;
    case 97:
      return (int)device->shared_per_block_optin;
    case 106:
      return device->sm == 86 ? 16 : device->sm == 120 ? 24 : 32; /* blocks per multiprocessor */
    case 111:
      return SIM_SHARED_START; /* shared memory that the system keeps per block */
    default:
      return 0; /* what this device does not do */
  }
}

SIM_EXPORT CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
  SIM_CALL(false, device ? CUDA_ERROR_INVALID_DEVICE
                         : (*value = attribute_value(attribute), CUDA_SUCCESS));
}

SIM_EXPORT CUresult cuDeviceGetPCIBusId(char *text, int length, CUdevice device) {
  SIM_CALL(false, device ? CUDA_ERROR_INVALID_DEVICE
                         : (snprintf(text, (size_t)length, "0000:00:00.0"), CUDA_SUCCESS));
}

/* Contexts: the primary one and others, all of the same device and memory. Each thread has a
 * stack. */
static _Thread_local struct sim_context *stack[64];
static _Thread_local u32 stack_depth;

static CUresult push(struct sim_context *context) {
  if (!context) return CUDA_ERROR_INVALID_CONTEXT;
  if (stack_depth == 64) return CUDA_ERROR_OUT_OF_MEMORY;
  stack[stack_depth++] = sim_current;
  sim_current = context;
  return CUDA_SUCCESS;
}

static CUresult pop(CUcontext *context) {
  if (!stack_depth) return CUDA_ERROR_INVALID_CONTEXT;
  if (context) *context = sim_current;
  sim_current = stack[--stack_depth];
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  SIM_CALL(false,
           device ? CUDA_ERROR_INVALID_DEVICE
                  : (sim_driver.primary.retained++, *context = &sim_driver.primary, CUDA_SUCCESS));
}

SIM_EXPORT CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  SIM_CALL(false, device || !sim_driver.primary.retained
                      ? CUDA_ERROR_INVALID_CONTEXT
                      : (sim_driver.primary.retained--, CUDA_SUCCESS));
}

SIM_EXPORT CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  SIM_CALL(false, device ? CUDA_ERROR_INVALID_DEVICE
                         : (*flags = 0, *active = sim_driver.primary.retained > 0, CUDA_SUCCESS));
}

/* Runs pending work, then drops errors and reports, so that a test can begin anew. Unlike a GPU's
 * reset it keeps memory and modules. */
SIM_EXPORT CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  SIM_CALL(false, device ? CUDA_ERROR_INVALID_DEVICE
                         : (sim_run_everything(), sim_driver.failed = CUDA_SUCCESS,
                            sim_report_forget(), CUDA_SUCCESS));
}

static CUresult create_context(CUcontext *context) {
  *context = calloc(1, sizeof **context);
  return *context ? push(*context) : CUDA_ERROR_OUT_OF_MEMORY;
}

SIM_EXPORT CUresult cuCtxCreate_v2(CUcontext *context, unsigned flags, CUdevice device) {
  (void)flags;
  SIM_CALL(false, device ? CUDA_ERROR_INVALID_DEVICE : create_context(context));
}

static CUresult destroy_context(CUcontext context) {
  if (!context || context->is_primary) return CUDA_ERROR_INVALID_CONTEXT;
  sim_run_everything();
  if (sim_current == context) pop(NULL);
  free(context);
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuCtxDestroy_v2(CUcontext context) {
  SIM_CALL(false, destroy_context(context));
}

SIM_EXPORT CUresult cuCtxGetCurrent(CUcontext *context) {
  SIM_CALL(false, (*context = sim_current, CUDA_SUCCESS));
}

SIM_EXPORT CUresult cuCtxSetCurrent(CUcontext context) {
  SIM_CALL(false, (sim_current = context, CUDA_SUCCESS));
}

SIM_EXPORT CUresult cuCtxPushCurrent_v2(CUcontext context) {
  SIM_CALL(false, push(context));
}
SIM_EXPORT CUresult cuCtxPopCurrent_v2(CUcontext *context) {
  SIM_CALL(false, pop(context));
}

SIM_EXPORT CUresult cuCtxGetDevice(CUdevice *device) {
  SIM_CALL(false, sim_current ? (*device = 0, CUDA_SUCCESS) : CUDA_ERROR_INVALID_CONTEXT);
}

SIM_EXPORT CUresult cuCtxSynchronize(void) {
  SIM_CALL(true, sim_is_capturing() ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : sim_run_everything());
}

static const struct {
  CUresult code;
  const char *name, *text;
} errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS",
     "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
     "capturing stream has unjoined work"},
    {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
};

static CUresult find_error(CUresult code, const char **text, bool wants_name) {
  for (size_t i = 0; text && i < sizeof errors / sizeof *errors; i++) {
    if (errors[i].code != code) continue;
    *text = wants_name ? errors[i].name : errors[i].text;
    return CUDA_SUCCESS;
  }
  if (text) *text = NULL;
  return CUDA_ERROR_INVALID_VALUE;
}

SIM_EXPORT CUresult cuGetErrorName(CUresult code, const char **name) {
  return find_error(code, name, true);
}

SIM_EXPORT CUresult cuGetErrorString(CUresult code, const char **text) {
  return find_error(code, text, false);
}

/* Prefers the _v2 of a name, as the driver does for callers built with cuda.h 13. */
SIM_EXPORT CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version,
                                        uint64_t flags, int *status) {
  (void)version;
  (void)flags;
  char versioned[128];
  Dl_info self;
  snprintf(versioned, sizeof versioned, "%s_v2", symbol);
  void *library =
      dladdr(&sim_driver, &self) ? dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD) : NULL;
  *function = library ? dlsym(library, versioned) : NULL;
  if (library && !*function) *function = dlsym(library, symbol);
  if (library) dlclose(library);
  if (status) *status = *function ? 0 : 1; /* found, symbol not found */
  return *function ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

/* Not functions of the driver. With them a test runs one launch under many schedules in one
 * process, and sees what it computes if every asynchronous copy is quick. */
SIM_EXPORT void simgpu_set_eager(int is_eager) {
  pthread_mutex_lock(&sim_driver.mutex);
  sim_driver.is_eager = is_eager != 0;
  pthread_mutex_unlock(&sim_driver.mutex);
}

SIM_EXPORT void simgpu_set_seed(uint64_t seed) {
  pthread_mutex_lock(&sim_driver.mutex);
  sim_driver.seed = seed;
  pthread_mutex_unlock(&sim_driver.mutex);
}

/* False: no such form. */
SIM_EXPORT int simgpu_set_mma(const char *form) {
  pthread_mutex_lock(&sim_driver.mutex);
  bool is_known = sim_mma_choose(form);
  pthread_mutex_unlock(&sim_driver.mutex);
  return is_known;
}

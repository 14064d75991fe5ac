/* launch.c - the driver's functions for libraries, modules, kernels, their attributes, and
 * launches. A launch is checked and its parameters are copied during the call; its stream runs it
 * later (sim_work_launch). */
#include <stdlib.h>
#include <string.h>

#include "simgpu/check/race.h"
#include "simgpu/check/report.h"
#include "simgpu/driver/driver.h"
#include "simgpu/driver/replace.h"
#include "simgpu/memory/memory.h"
#include "simgpu/sched/machine.h"
#include "simgpu/sched/profile.h"

enum { SHARED_WITHOUT_ASKING = 49152, SERIAL_LIMIT = 1 << 15 };

/* All loaded modules. The list keeps those reachable that a program never unloads, so that a leak
 * checker does not report them. */
static struct sim_module *loaded;

static CUresult load(struct sim_module **module, const void *image) {
  char error[1024] = "";
  bool is_image_bad;
  if (!image || !module) return CUDA_ERROR_INVALID_VALUE;
  *module = sim_module_load(image, sim_driver.device->sm, error, sizeof error, &is_image_bad);
  if (*module) *module = sim_replace(*module, sim_driver.device->sm, error, sizeof error);
  if (*module) {
    (*module)->next_loaded = loaded;
    loaded = *module;
    return CUDA_SUCCESS;
  }
  sim_report_line("%s", error);
  return is_image_bad ? CUDA_ERROR_NO_BINARY_FOR_GPU : CUDA_ERROR_INVALID_PTX;
}

SIM_EXPORT CUresult cuLibraryLoadData(CUlibrary *library, const void *image, void *jit_options,
                                      void **jit_values, unsigned jit_count, void *options,
                                      void **values, unsigned count) {
  (void)jit_options;
  (void)jit_values;
  (void)jit_count;
  (void)options;
  (void)values;
  (void)count;
  SIM_CALL(false, load(library, image));
}

SIM_EXPORT CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  SIM_CALL(true, load(module, image));
}

static CUresult unload(struct sim_module *module) {
  if (!module) return CUDA_ERROR_INVALID_HANDLE;
  struct sim_module **link = &loaded;
  while (*link && *link != module) link = &(*link)->next_loaded;
  if (!*link) return CUDA_ERROR_INVALID_HANDLE;
  *link = module->next_loaded;
  sim_run_everything();
  sim_module_unload(module);
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuLibraryUnload(CUlibrary library) {
  SIM_CALL(false, unload(library));
}
SIM_EXPORT CUresult cuModuleUnload(CUmodule module) {
  SIM_CALL(true, unload(module));
}

static CUresult find(struct sim_kernel **kernel, struct sim_module *module, const char *name) {
  if (!module || !name) return CUDA_ERROR_INVALID_VALUE;
  *kernel = sim_module_find(module, name);
  if (!*kernel) return CUDA_ERROR_NOT_FOUND;
  if (!(*kernel)->refusals) return CUDA_SUCCESS;
  sim_report_line("%s cannot run: it has instructions that are not known, named above", name);
  return CUDA_ERROR_INVALID_PTX;
}

SIM_EXPORT CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
  SIM_CALL(false, find(kernel, library, name));
}

SIM_EXPORT CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  SIM_CALL(true, find(function, module, name));
}

SIM_EXPORT CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  SIM_CALL(true, (*function = kernel, CUDA_SUCCESS));
}

static CUresult find_global(CUdeviceptr *address, size_t *bytes, struct sim_module *module,
                            const char *name) {
  for (struct sim_symbol *symbol = module->syntax.globals; symbol; symbol = symbol->next) {
    if (strcmp(symbol->name, name) != 0 || symbol->kind == SIM_SYMBOL_SHARED) continue;
    if (address) *address = symbol->offset;
    if (bytes) *bytes = symbol->bytes;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_NOT_FOUND;
}

SIM_EXPORT CUresult cuLibraryGetGlobal(CUdeviceptr *address, size_t *bytes, CUlibrary library,
                                       const char *name) {
  SIM_CALL(false, find_global(address, bytes, library, name));
}

SIM_EXPORT CUresult cuModuleGetGlobal_v2(CUdeviceptr *address, size_t *bytes, CUmodule module,
                                         const char *name) {
  SIM_CALL(true, find_global(address, bytes, module, name));
}

static CUresult set_attribute(struct sim_kernel *kernel, int attribute, int value) {
  if (!kernel || value < 0) return CUDA_ERROR_INVALID_VALUE;
  u32 room = sim_driver.device->shared_per_block_optin - kernel->static_shared_bytes;
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      if ((u32)value > room) return CUDA_ERROR_INVALID_VALUE;
      kernel->max_dynamic_shared_bytes = (u32)value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

static u32 dynamic_limit(const struct sim_kernel *kernel) {
  u32 plain = kernel->static_shared_bytes < SHARED_WITHOUT_ASKING
                  ? SHARED_WITHOUT_ASKING - kernel->static_shared_bytes
                  : 0;
  return kernel->max_dynamic_shared_bytes > plain ? kernel->max_dynamic_shared_bytes : plain;
}

static u32 thread_limit(const struct sim_kernel *kernel) {
  return kernel->max_threads && kernel->max_threads < 1024 ? kernel->max_threads : 1024;
}

static CUresult get_attribute(int *value, int attribute, const struct sim_kernel *kernel) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = (int)thread_limit(kernel);
      break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      *value = (int)kernel->static_shared_bytes;
      break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      *value = (int)kernel->local_bytes;
      break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = (int)dynamic_limit(kernel);
      break;
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
      *value = 0;
      break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      *value = (int)sim_driver.device->sm;
      break;
    default:
      return CUDA_ERROR_INVALID_VALUE; /* registers too: ptxas assigns them */
  }
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuKernelSetAttribute(int attribute, int value, CUkernel kernel,
                                         CUdevice device) {
  SIM_CALL(false, device ? CUDA_ERROR_INVALID_DEVICE : set_attribute(kernel, attribute, value));
}

SIM_EXPORT CUresult cuKernelGetAttribute(int *value, int attribute, CUkernel kernel,
                                         CUdevice device) {
  SIM_CALL(false, device ? CUDA_ERROR_INVALID_DEVICE : get_attribute(value, attribute, kernel));
}

SIM_EXPORT CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  SIM_CALL(true, set_attribute(function, attribute, value));
}

SIM_EXPORT CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function) {
  SIM_CALL(true, get_attribute(value, attribute, function));
}

/* The limits are shared memory, threads and blocks. Registers are not known: ptxas assigns them. */
static CUresult resident(int *blocks, const struct sim_kernel *kernel, int threads, size_t shared) {
  const struct sim_profile_of_device *device = sim_driver.device;
  if (threads < 1) return CUDA_ERROR_INVALID_VALUE;
  u64 bytes = kernel->static_shared_bytes + shared + SIM_SHARED_START;
  u32 by_shared = (u32)(device->shared_per_processor / bytes);
  u32 by_threads = device->threads_per_processor / (((u32)threads + 31) / 32 * 32);
  u32 blocks_max = device->sm == 86 ? 16 : 32;
  u32 fit = by_shared < by_threads ? by_shared : by_threads;
  *blocks = (int)(fit < blocks_max ? fit : blocks_max);
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function,
                                                                int threads, size_t shared) {
  SIM_CALL(true, resident(blocks, function, threads, shared));
}

static CUresult read_attributes(const CUlaunchConfig *config, struct sim_work *work) {
  for (unsigned i = 0; i < config->numAttrs; i++) {
    const CUlaunchAttribute *attribute = &config->attrs[i];
    if (attribute->id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION) {
      work->overlaps = attribute->value.number != 0;
    } else if (attribute->id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
      const unsigned *size = attribute->value.size;
      if (size[0] != 1 || size[1] != 1 || size[2] != 1) return CUDA_ERROR_NOT_SUPPORTED;
    }
  }
  return CUDA_SUCCESS;
}

static CUresult check_shape(const struct sim_work *work) {
  const struct sim_kernel *kernel = work->kernel;
  u64 threads = 1, ctas = 1;
  for (int axis = 0; axis < 3; axis++) {
    if (!work->grid[axis] || !work->block[axis]) return CUDA_ERROR_INVALID_VALUE;
    if (axis && work->grid[axis] > 65535) return CUDA_ERROR_INVALID_VALUE;
    if (kernel->required_threads[0] && work->block[axis] != kernel->required_threads[axis]) {
      return CUDA_ERROR_INVALID_VALUE;
    }
    threads *= work->block[axis];
    ctas *= work->grid[axis];
  }
  if (threads > 1024 || ctas > UINT32_MAX) return CUDA_ERROR_INVALID_VALUE;
  if (threads > thread_limit(kernel)) return CUDA_ERROR_INVALID_VALUE;
  return work->shared_bytes > dynamic_limit(kernel) ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static void copy_params(struct sim_work *work, void **params) {
  const struct sim_kernel *kernel = work->kernel;
  work->params = calloc(1, kernel->param_bytes ? kernel->param_bytes : 1);
  for (u32 i = 0; work->params && i < kernel->param_count; i++) {
    memcpy(work->params + kernel->params[i].offset, params[i], kernel->params[i].bytes);
  }
}

enum { EXTRA_END = 0, EXTRA_POINTER = 1, EXTRA_SIZE = 2 };

/* CU_LAUNCH_PARAM_BUFFER_POINTER: all parameters as one block. */
static CUresult copy_extra(struct sim_work *work, void **extra) {
  const void *block = NULL;
  size_t bytes = 0;
  for (; (uintptr_t)extra[0] != EXTRA_END; extra += 2) {
    if ((uintptr_t)extra[0] == EXTRA_POINTER) block = extra[1];
    if ((uintptr_t)extra[0] == EXTRA_SIZE) bytes = *(size_t *)extra[1];
  }
  if (!block || bytes < work->kernel->param_bytes) return CUDA_ERROR_INVALID_VALUE;
  work->params = calloc(1, bytes + 1);
  if (work->params) memcpy(work->params, block, work->kernel->param_bytes);
  return CUDA_SUCCESS;
}

static CUresult launch(const CUlaunchConfig *config, struct sim_kernel *kernel, void **params,
                       void **extra) {
  if (!config || !kernel) return CUDA_ERROR_INVALID_VALUE;
  if (kernel->param_count && !params && !extra) return CUDA_ERROR_INVALID_VALUE;
  struct sim_work *work = sim_work_new(SIM_WORK_LAUNCH);
  work->kernel = kernel;
  memcpy(work->grid, &config->gridDimX, sizeof work->grid);
  memcpy(work->block, &config->blockDimX, sizeof work->block);
  work->shared_bytes = config->sharedMemBytes;
  CUresult result = read_attributes(config, work);
  if (!result) result = check_shape(work);
  if (!result && extra) result = copy_extra(work, extra);
  if (!result && !extra) copy_params(work, params);
  if (result) {
    sim_work_free(work);
    return result;
  }
  return sim_queue(sim_stream_of(config->hStream), work);
}

SIM_EXPORT CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function,
                                     void **params, void **extra) {
  SIM_CALL(true, launch(config, function, params, extra));
}

SIM_EXPORT CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y,
                                   unsigned grid_z, unsigned block_x, unsigned block_y,
                                   unsigned block_z, unsigned shared, CUstream stream,
                                   void **params, void **extra) {
  CUlaunchConfig config = {grid_x,  grid_y, grid_z, block_x, block_y,
                           block_z, shared, stream, NULL,    0};
  SIM_CALL(true, launch(&config, function, params, extra));
}

/* Stamps have 15 bits for the serial: before serials repeat, all stamps are cleared. */
static u32 next_serial(void) {
  if (++sim_driver.launch_serial == SERIAL_LIMIT) {
    sim_driver.launch_serial = 1;
    sim_memory_forget_stamps();
  }
  return sim_driver.launch_serial;
}

CUresult sim_work_launch(struct sim_stream *stream, const struct sim_work *work) {
  struct sim_launch run = {.kernel = work->kernel,
                           .params = work->params,
                           .dynamic_shared_bytes = work->shared_bytes,
                           .serial = next_serial(),
                           .seed = sim_driver.seed,
                           .is_eager = sim_driver.is_eager,
                           .sm_count = sim_driver.processors,
                           .overlapped = work->overlaps ? stream->last_launch : 0,
                           .global_sync = sim_sync_table_new()};
  memcpy(run.grid, work->grid, sizeof run.grid);
  memcpy(run.block, work->block, sizeof run.block);
  run.cta_count = run.grid[0] * run.grid[1] * run.grid[2];
  if (sim_profile_wanted()) run.counts = calloc(work->kernel->code_count, sizeof *run.counts);
  bool clean = sim_launch_run(&run);
  sim_sync_table_free(run.global_sync);
  free(run.counts);
  stream->last_launch = run.serial;
  return clean || sim_driver.goes_on ? CUDA_SUCCESS : CUDA_ERROR_ILLEGAL_ADDRESS;
}

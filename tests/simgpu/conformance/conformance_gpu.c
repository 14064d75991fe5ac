#include "tests/simgpu/conformance/conformance_gpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* The images, put into the program by conformance_images.S. */
extern const char conform_image_80[], conform_image_90[];

typedef int status;
enum { COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76 };

struct conform_gpu {
  status (*init)(unsigned flags);
  status (*get_device)(int *device, int ordinal);
  status (*get_name)(char *name, int length, int device);
  status (*get_attribute)(int *value, int attribute, int device);
  status (*retain)(void **context, int device);
  status (*set_current)(void *context);
  status (*load)(void **module, const void *image);
  status (*find)(void **function, void *module, const char *name);
  status (*allocate)(uint64_t *address, size_t bytes);
  status (*to_device)(uint64_t to, const void *from, size_t bytes);
  status (*to_host)(void *to, uint64_t from, size_t bytes);
  status (*launch)(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared_bytes,
                   void *stream, void **parameters, void **extra);
  status (*synchronize)(void);
  status (*error_name)(status code, const char **name);
  char name[256];
  int architecture;
  void *modules[2]; /* sm_80, sm_90; NULL until one of its rows runs */
  uint64_t inputs, outputs;
};

static bool check(const struct conform_gpu *gpu, status code, const char *what) {
  if (code == 0) return true;
  const char *name = "?";
  if (gpu->error_name) gpu->error_name(code, &name);
  fprintf(stderr, "conformance_record: %s: error %d (%s)\n", what, code, name);
  return false;
}

static bool find_symbols(struct conform_gpu *gpu, void *library) {
  const struct {
    const char *name;
    void *slot;
  } symbols[] = {{"cuInit", &gpu->init},
                 {"cuDeviceGet", &gpu->get_device},
                 {"cuDeviceGetName", &gpu->get_name},
                 {"cuDeviceGetAttribute", &gpu->get_attribute},
                 {"cuDevicePrimaryCtxRetain", &gpu->retain},
                 {"cuCtxSetCurrent", &gpu->set_current},
                 {"cuModuleLoadData", &gpu->load},
                 {"cuModuleGetFunction", &gpu->find},
                 {"cuMemAlloc_v2", &gpu->allocate},
                 {"cuMemcpyHtoD_v2", &gpu->to_device},
                 {"cuMemcpyDtoH_v2", &gpu->to_host},
                 {"cuLaunchKernel", &gpu->launch},
                 {"cuCtxSynchronize", &gpu->synchronize},
                 {"cuGetErrorName", &gpu->error_name}};
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
    *(void **)symbols[i].slot = dlsym(library, symbols[i].name);
    if (!*(void **)symbols[i].slot) {
      fprintf(stderr, "conformance_record: the driver has no %s\n", symbols[i].name);
      return false;
    }
  }
  return true;
}

static bool start(struct conform_gpu *gpu) {
  int device, major, minor;
  void *context;
  size_t lane_bytes = (size_t)CONFORM_CTAS * CONFORM_LANES * 4;
  if (!check(gpu, gpu->init(0), "cuInit") ||
      !check(gpu, gpu->get_device(&device, 0), "cuDeviceGet") ||
      !check(gpu, gpu->get_name(gpu->name, sizeof gpu->name, device), "cuDeviceGetName") ||
      !check(gpu, gpu->get_attribute(&major, COMPUTE_CAPABILITY_MAJOR, device), "the major") ||
      !check(gpu, gpu->get_attribute(&minor, COMPUTE_CAPABILITY_MINOR, device), "the minor") ||
      !check(gpu, gpu->retain(&context, device), "cuDevicePrimaryCtxRetain") ||
      !check(gpu, gpu->set_current(context), "cuCtxSetCurrent") ||
      !check(gpu, gpu->allocate(&gpu->inputs, lane_bytes * CONFORM_INPUTS_MAX), "cuMemAlloc") ||
      !check(gpu, gpu->allocate(&gpu->outputs, lane_bytes * CONFORM_OUTPUTS_MAX), "cuMemAlloc")) {
    return false;
  }
  gpu->architecture = 10 * major + minor;
  return true;
}

struct conform_gpu *conform_open(void) {
  const char *path = getenv("FOVEA_CUDA_DRIVER");
  void *library = dlopen(path && *path ? path : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "conformance_record: there is no CUDA driver: %s\n", dlerror());
    return NULL;
  }
  static struct conform_gpu gpu;
  return find_symbols(&gpu, library) && start(&gpu) ? &gpu : NULL;
}

const char *conform_device(const struct conform_gpu *gpu) {
  return gpu->name;
}

int conform_architecture(const struct conform_gpu *gpu) {
  return gpu->architecture;
}

bool conform_run(struct conform_gpu *gpu, const struct conform_row *row, uint32_t *outputs) {
  static uint32_t words[CONFORM_CTAS * CONFORM_INPUTS_MAX][CONFORM_LANES];
  for (int cta = 0; cta < CONFORM_CTAS; cta++) conform_fill(row, cta, words + cta * row->inputs);
  size_t lane_bytes = (size_t)CONFORM_CTAS * CONFORM_LANES * 4;
  void **module = &gpu->modules[row->sm == 90], *function;
  const char *image = row->sm == 90 ? conform_image_90 : conform_image_80;
  void *parameters[] = {&gpu->inputs, &gpu->outputs};
  return (*module || check(gpu, gpu->load(module, image), "cuModuleLoadData")) &&
         check(gpu, gpu->find(&function, *module, row->name), row->name) &&
         check(gpu, gpu->to_device(gpu->inputs, words, lane_bytes * (size_t)row->inputs),
               row->name) &&
         check(gpu,
               gpu->launch(function, CONFORM_CTAS, 1, 1, CONFORM_LANES, 1, 1, 0, NULL, parameters,
                           NULL),
               row->name) &&
         check(gpu, gpu->synchronize(), row->name) &&
         check(gpu, gpu->to_host(outputs, gpu->outputs, lane_bytes * (size_t)row->outputs),
               row->name);
}

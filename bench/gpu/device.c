/* device.c - see device.h. */
#include "bench/gpu/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/measure/machine.h"
#include "csrc/cuda/device.h"

extern const char fv_bench_image[]; /* gpu/kernels.cu, compiled; made by bench/CMakeLists.txt */

static const char *const kernel_names[FV_BENCH_CUDA_KERNELS] = {
    "fv_bench_multiply_f16",   "fv_bench_multiply_bf16", "fv_bench_normalise_f16",
    "fv_bench_normalise_bf16", "fv_bench_read_bytes",    "fv_bench_gather_pages"};

bool fv_bench_cuda_ok(const fv_bench_cuda *cuda, CUresult result, const char *call) {
  if (result == CUDA_SUCCESS) return true;
  fv_driver_fail(cuda->driver, call, result);
  fprintf(stderr, "fovea-bench: %s\n", fovea_error_detail());
  return false;
}

#define CALL(cuda, name, ...) fv_bench_cuda_ok((cuda), (cuda)->driver->name(__VA_ARGS__), #name)

/* ---- Memory ---- */

void *fv_bench_cuda_allocate(const fv_bench_cuda *cuda, size_t bytes) {
  CUdeviceptr memory = 0;
  return CALL(cuda, cuMemAlloc, &memory, bytes) ? (void *)memory : NULL;
}

void *fv_bench_cuda_allocate_zeros(const fv_bench_cuda *cuda, size_t bytes) {
  void *memory = fv_bench_cuda_allocate(cuda, bytes);
  if (!memory || CALL(cuda, cuMemsetD8, (CUdeviceptr)memory, 0, bytes)) return memory;
  fv_bench_cuda_free(cuda, memory);
  return NULL;
}

void fv_bench_cuda_free(const fv_bench_cuda *cuda, void *memory) {
  if (memory) CALL(cuda, cuMemFree, (CUdeviceptr)memory);
}

static void *allocate(const fv_bench_place *place, size_t bytes) {
  return fv_bench_cuda_allocate((const fv_bench_cuda *)place, bytes);
}

static void deallocate(const fv_bench_place *place, void *memory) {
  fv_bench_cuda_free((const fv_bench_cuda *)place, memory);
}

static void *bring_bytes(const fv_bench_cuda *cuda, const void *host, int64_t bytes) {
  void *there = fv_bench_cuda_allocate(cuda, (size_t)bytes);
  if (!there || CALL(cuda, cuMemcpyHtoD, (CUdeviceptr)there, host, (size_t)bytes)) return there;
  fv_bench_cuda_free(cuda, there);
  return NULL;
}

static bool bring(const fv_bench_place *place, const fv_bench_tensors *host,
                  fv_bench_tensors *there) {
  const fv_bench_cuda *cuda = (const fv_bench_cuda *)place;
  int64_t element = fv_bench_dtype_bytes(host->problem.dtype), numbers = host->index.count;
  int32_t *index = NULL;
  *there = *host;
  there->q = bring_bytes(cuda, host->q, host->q_count * element);
  there->k = bring_bytes(cuda, host->k, host->kv_count * element);
  there->v = bring_bytes(cuda, host->v, host->kv_count * element);
  there->out = bring_bytes(cuda, host->out, host->q_count * element);
  if (numbers) index = bring_bytes(cuda, host->index.numbers, numbers * (int64_t)sizeof *index);
  there->index = fv_bench_index_at(&host->problem, index);
  return there->q && there->k && there->v && there->out && (index || !numbers);
}

static void release(const fv_bench_place *place, fv_bench_tensors *there) {
  const fv_bench_cuda *cuda = (const fv_bench_cuda *)place;
  fv_bench_cuda_free(cuda, there->q);
  fv_bench_cuda_free(cuda, there->k);
  fv_bench_cuda_free(cuda, there->v);
  fv_bench_cuda_free(cuda, there->out);
  fv_bench_cuda_free(cuda, there->index.numbers);
  fv_bench_cuda_measures_free();
}

static bool copy_out(const fv_bench_place *place, const fv_bench_tensors *host,
                     const fv_bench_tensors *there, bool back) {
  const fv_bench_cuda *cuda = (const fv_bench_cuda *)place;
  size_t bytes = (size_t)(host->q_count * fv_bench_dtype_bytes(host->problem.dtype));
  CUdeviceptr out = (CUdeviceptr)there->out;
  if (back) return CALL(cuda, cuMemcpyDtoH, host->out, out, bytes);
  return CALL(cuda, cuMemcpyHtoD, out, host->out, bytes);
}

/* Queued before the timed runs, on the same stream. */
static void flush(void *place) {
  const fv_bench_cuda *cuda = place;
  CALL(cuda, cuMemsetD8, cuda->flushed, 0, cuda->flushed_bytes);
}

/* ---- Time ---- */

/* The time between two events of the stream: what the device took, except for launches that wait
 * for nothing. */
static bool measure(void *place, fv_bench_contestant *contestant, int64_t iterations,
                    double *seconds) {
  const fv_bench_cuda *cuda = place;
  float milliseconds = 0;
  if (!CALL(cuda, cuEventRecord, cuda->begin, NULL)) return false;
  for (int64_t i = 0; i < iterations; ++i) {
    if (!contestant->run(contestant->state)) return false;
  }
  if (!CALL(cuda, cuEventRecord, cuda->end, NULL)) return false;
  if (!CALL(cuda, cuEventSynchronize, cuda->end)) return false;
  if (!CALL(cuda, cuEventElapsedTime, &milliseconds, cuda->begin, cuda->end)) return false;
  *seconds = milliseconds > 0 ? 1e-3 * (double)milliseconds : 1e-9; /* the clock has steps */
  return true;
}

/* ---- Kernels ---- */

bool fv_bench_cuda_launch(const fv_bench_cuda *cuda, fv_bench_kernel kernel, fovea_dtype dtype,
                          const unsigned grid[3], const unsigned block[2], void *params) {
  int index = FV_BENCH_READ + (int)kernel; /* two of each come before it */
  if (kernel < FV_BENCH_READ) index = 2 * (int)kernel + (dtype == FOVEA_BF16);
  CUlaunchConfig config = {.gridDimX = grid[0],
                           .gridDimY = grid[1],
                           .gridDimZ = grid[2],
                           .blockDimX = block[0],
                           .blockDimY = block[1],
                           .blockDimZ = 1};
  void *arguments[] = {params};
  CUfunction function = (CUfunction)cuda->kernels[index];
  return CALL(cuda, cuLaunchKernelEx, &config, function, arguments, NULL);
}

static bool load_kernels(fv_bench_cuda *cuda) {
  CUlibrary library;
  if (!CALL(cuda, cuLibraryLoadData, &library, fv_bench_image, NULL, NULL, 0, NULL, NULL, 0)) {
    return false;
  }
  for (int i = 0; i < FV_BENCH_CUDA_KERNELS; ++i) {
    if (!CALL(cuda, cuLibraryGetKernel, &cuda->kernels[i], library, kernel_names[i])) return false;
  }
  return true;
}

static bool multiply(fv_bench_cuda *cuda, const fv_bench_product *product, fovea_dtype dtype) {
  enum { SIDE = FV_BENCH_PRODUCT_SIDE };
  unsigned grid[3] = {(unsigned)(product->batch * product->heads),
                      (unsigned)((product->columns + SIDE - 1) / SIDE),
                      (unsigned)((product->rows + SIDE - 1) / SIDE)};
  unsigned block[2] = {SIDE, SIDE};
  fv_bench_product params = *product;
  return fv_bench_cuda_launch(cuda, FV_BENCH_MULTIPLY, dtype, grid, block, &params);
}

const fv_bench_products fv_bench_products_plain = {"plain", multiply, multiply};

/* ---- Opening ---- */

static bool has_calls(const fv_driver *driver) {
  bool whole = driver->cuMemAlloc && driver->cuMemFree && driver->cuMemcpyHtoD &&
               driver->cuMemcpyDtoH && driver->cuMemsetD8 && driver->cuMemGetInfo &&
               driver->cuEventCreate && driver->cuEventRecord && driver->cuEventSynchronize &&
               driver->cuEventElapsedTime && driver->cuEventDestroy;
  if (!whole) fputs("fovea-bench: the CUDA driver lacks a call for memory or events\n", stderr);
  return whole;
}

static void choose_products(fv_bench_cuda *cuda) {
  char why[120];
  cuda->cublas = fv_bench_cublas_open(why, sizeof why);
  cuda->products = cuda->cublas ? &fv_bench_products_cublas : &fv_bench_products_plain;
  if (cuda->cublas) snprintf(cuda->products_name, sizeof cuda->products_name, "cuBLAS");
  if (!cuda->cublas) {
    snprintf(cuda->products_name, sizeof cuda->products_name, "plain kernels: %s", why);
  }
}

static bool start(fv_bench_cuda *cuda, fv_bench_machine *machine) {
  const fv_cuda_device *device = fv_cuda_device_of(machine->handle);
  int cache = 0;
  size_t unused, total;
  cuda->multiprocessors = device->facts.sm_count;
  if (!has_calls(cuda->driver) || !CALL(cuda, cuCtxPushCurrent, device->primary)) return false;
  if (!CALL(cuda, cuDeviceGetAttribute, &cache, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE,
            device->number) ||
      !CALL(cuda, cuMemGetInfo, &unused, &total)) {
    return false;
  }
  machine->cache_bytes = cache;
  machine->memory_bytes = (double)total;
  /* The software GPU reports a cache but has none, and such a large write takes it a while. */
  if (fv_bench_machine_is_simulated(machine)) cache = 0;
  cuda->flushed_bytes = 2 * (size_t)cache + (1 << 20);
  cuda->flushed = (CUdeviceptr)fv_bench_cuda_allocate(cuda, cuda->flushed_bytes);
  return cuda->flushed && CALL(cuda, cuEventCreate, &cuda->begin, CU_EVENT_DEFAULT) &&
         CALL(cuda, cuEventCreate, &cuda->end, CU_EVENT_DEFAULT) && load_kernels(cuda);
}

bool fv_bench_cuda_open(fv_bench_machine *machine) {
  static const fv_bench_pipeline *const pipelines[] = {&fv_bench_fovea_cuda, &fv_bench_naive_cuda,
                                                       NULL};
  fovea_options options = {.struct_size = sizeof options, .device = FOVEA_DEVICE_CUDA};
  fovea_handle *handle;
  fv_bench_cuda *cuda = calloc(1, sizeof *cuda);
  if (!cuda) return false;
  if (fovea_create(&options, &handle) || fv_driver_open(&cuda->driver)) {
    fprintf(stderr, "fovea-bench: %s\n", fovea_error_detail());
    free(cuda);
    return false;
  }
  fovea_destroy(machine->handle);
  machine->handle = handle;
  cuda->place = (fv_bench_place){.device = "cuda",
                                 .pipelines = pipelines,
                                 .bring = bring,
                                 .release = release,
                                 .copy_out = copy_out,
                                 .allocate = allocate,
                                 .deallocate = deallocate,
                                 .flush = flush,
                                 .measure = measure,
                                 .measures = fv_bench_cuda_measures};
  machine->place = &cuda->place;
  if (!start(cuda, machine)) return false;
  choose_products(cuda);
  return true;
}

void fv_bench_cuda_close(fv_bench_machine *machine) {
  fv_bench_cuda *cuda = (fv_bench_cuda *)machine->place;
  if (!cuda) return;
  CUcontext context;
  fv_bench_cublas_close(cuda->cublas);
  if (cuda->flushed) fv_bench_cuda_free(cuda, (void *)cuda->flushed);
  if (cuda->begin) CALL(cuda, cuEventDestroy, cuda->begin);
  if (cuda->end) CALL(cuda, cuEventDestroy, cuda->end);
  cuda->driver->cuCtxPopCurrent(&context);
  machine->place = NULL;
  free(cuda);
}

const char *fv_bench_cuda_products(const fv_bench_machine *machine) {
  return ((const fv_bench_cuda *)machine->place)->products_name;
}

/* decode_cuda.c - the server on a GPU, by the driver's API. Arrays exist twice, in pinned memory of
 * the host and in the device's; copies and calls are queued on one stream; the calls of a step are
 * captured once, and each step launches the graph.
 *
 * The driver is opened at run time, as fovea does, so that the example starts on machines without
 * one; FOVEA_CUDA_DRIVER names another, such as the software GPU. Programs of your own link to
 * libcuda, or use the runtime: its streams and graphs are the driver's, and so is its context. */
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "examples/decode.h"

enum { ARRAYS_MAX = 16, GRAPHS_MAX = 4 };

/* cuda.h's names are macros for the newest version's symbols, cuMemAlloc for cuMemAlloc_v2: FIELD
 * and FIND get those. */
#define DRIVER_CALLS(X)          \
  X(cuInit)                      \
  X(cuGetErrorName)              \
  X(cuDeviceGet)                 \
  X(cuDevicePrimaryCtxRetain)    \
  X(cuDevicePrimaryCtxRelease)   \
  X(cuCtxSetCurrent)             \
  X(cuMemAlloc)                  \
  X(cuMemAllocHost)              \
  X(cuMemFree)                   \
  X(cuMemFreeHost)               \
  X(cuMemsetD8Async)             \
  X(cuMemcpyHtoDAsync)           \
  X(cuMemcpyDtoHAsync)           \
  X(cuStreamCreate)              \
  X(cuStreamSynchronize)         \
  X(cuStreamDestroy)             \
  X(cuStreamBeginCapture)        \
  X(cuStreamEndCapture)          \
  X(cuGraphInstantiateWithFlags) \
  X(cuGraphDestroy)              \
  X(cuGraphLaunch)               \
  X(cuGraphExecDestroy)
#define FIELD(name) __typeof__(name) *name;

static struct { DRIVER_CALLS(FIELD) } driver;

static CUdevice gpu;
static CUstream stream;
static twin arrays[ARRAYS_MAX];
static int array_count;
static CUgraphExec graphs[GRAPHS_MAX];

static void expect_success(CUresult result, const char *what) {
  const char *name = NULL;
  if (result == CUDA_SUCCESS) return;
  driver.cuGetErrorName(result, &name);
  fprintf(stderr, "decode: %s: %s\n", what, name ? name : "unknown error");
  exit(1);
}
#define CALL(name, ...) expect_success(driver.name(__VA_ARGS__), #name)

static void *find(void *library, const char *name) {
  void *symbol = dlsym(library, name);
  if (symbol) return symbol;
  fprintf(stderr, "decode: the CUDA driver has no %s\n", name);
  exit(1);
}

static void open_driver(void) {
  const char *path = getenv("FOVEA_CUDA_DRIVER");
  void *library = dlopen(path && *path ? path : "libcuda.so.1", RTLD_NOW);
  if (!library) {
    fprintf(stderr, "decode: %s\n", dlerror());
    exit(1);
  }
#define STRING(name) #name
#define FIND(name) *(void **)&driver.name = find(library, STRING(name));
  DRIVER_CALLS(FIND)
}

/* fovea works in the device's primary context. So do we. */
static void open_gpu(void) {
  CUcontext context;
  open_driver();
  CALL(cuInit, 0);
  CALL(cuDeviceGet, &gpu, 0);
  CALL(cuDevicePrimaryCtxRetain, &context, gpu);
  CALL(cuCtxSetCurrent, context);
  CALL(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
}

/* ---- Arrays ---- */

static twin allocate(size_t bytes) {
  CUdeviceptr there;
  twin array = {.bytes = bytes};
  stop_unless(array_count < ARRAYS_MAX, "more arrays than ARRAYS_MAX");
  CALL(cuMemAllocHost, &array.here, bytes);
  CALL(cuMemAlloc, &there, bytes);
  CALL(cuMemsetD8Async, there, 0, bytes, stream);
  memset(array.here, 0, bytes);
  array.there = (void *)there;
  return arrays[array_count++] = array;
}

static void upload(const twin *array) {
  CALL(cuMemcpyHtoDAsync, (CUdeviceptr)array->there, array->here, array->bytes, stream);
}

static void download(const twin *array) {
  CALL(cuMemcpyDtoHAsync, array->here, (CUdeviceptr)array->there, array->bytes, stream);
}

static void wait(void) {
  CALL(cuStreamSynchronize, stream);
}

static fovea_stream get_stream(void) {
  return stream;
}

/* ---- Graphs ---- */

/* What `queue` queues between begin and end does not run: it becomes the graph's nodes, with the
 * addresses and numbers that the calls were given. */
static void record(int which, queue_calls *queue, void *context) {
  CUgraph graph;
  stop_unless(which < GRAPHS_MAX, "more graphs than GRAPHS_MAX");
  CALL(cuStreamBeginCapture, stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  queue(context, which);
  CALL(cuStreamEndCapture, stream, &graph);
  CALL(cuGraphInstantiateWithFlags, &graphs[which], graph, 0);
  CALL(cuGraphDestroy, graph);
}

static void replay(int which, queue_calls *queue, void *context) {
  (void)queue, (void)context;
  CALL(cuGraphLaunch, graphs[which], stream);
}

static void close_gpu(void) {
  wait();
  for (int i = 0; i < GRAPHS_MAX; ++i) {
    if (graphs[i]) CALL(cuGraphExecDestroy, graphs[i]);
  }
  while (array_count) {
    twin *array = &arrays[--array_count];
    CALL(cuMemFree, (CUdeviceptr)array->there);
    CALL(cuMemFreeHost, array->here);
  }
  CALL(cuStreamDestroy, stream);
  CALL(cuDevicePrimaryCtxRelease, gpu);
}

const device cuda_device = {.kind = FOVEA_DEVICE_CUDA,
                            .by = "by the graph of",
                            .open = open_gpu,
                            .allocate = allocate,
                            .upload = upload,
                            .download = download,
                            .wait = wait,
                            .stream = get_stream,
                            .record = record,
                            .replay = replay,
                            .close = close_gpu};

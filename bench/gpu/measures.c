/* measures.c - what the device itself can do: the largest product that cuBLAS computes, and reading
 * keys and values. */
#include <stdlib.h>

#include "bench/gpu/device.h"

enum { PEAK_SIDE = 8192 };

typedef struct peak_state {
  fv_bench_cuda *cuda;
  void *memory; /* three square matrices; NULL: not measured */
  fv_bench_product product;
  fovea_dtype dtype;
} peak_state;

typedef struct read_state {
  fv_bench_cuda *cuda;
  const fv_bench_tensors *tensors;
  void *sink;
} read_state;

/* Only one problem is under way at a time. */
static peak_state peak;
static read_state reading;

static bool run_peak(void *opaque) {
  peak_state *state = opaque;
  return state->cuda->products->multiply_values(state->cuda, &state->product, state->dtype);
}

/* A product of plain kernels would not measure the device. Operands are copies of k, repeated to
 * fill them: multiplying zeros would take less power, and so less time. */
static bool open_peak(fv_bench_cuda *cuda, const fv_bench_tensors *there) {
  const size_t matrix = (size_t)2 * PEAK_SIDE * PEAK_SIDE;
  size_t have = (size_t)there->kv_count * 2, copied = 0;
  peak = (peak_state){.cuda = cuda, .dtype = there->problem.dtype};
  peak.memory = fv_bench_cuda_allocate(cuda, 3 * matrix);
  char *host = malloc(2 * matrix);
  bool done = peak.memory && host;
  size_t once = have < 2 * matrix ? have : 2 * matrix;
  if (done) {
    CUresult result = cuda->driver->cuMemcpyDtoH(host, (CUdeviceptr)there->k, once);
    done = fv_bench_cuda_ok(cuda, result, "cuMemcpyDtoH");
  }
  for (copied = once; done && copied < 2 * matrix; ++copied) host[copied] = host[copied - once];
  if (done) {
    CUresult result = cuda->driver->cuMemcpyHtoD((CUdeviceptr)peak.memory, host, 2 * matrix);
    done = fv_bench_cuda_ok(cuda, result, "cuMemcpyHtoD");
  }
  free(host);
  char *at = peak.memory;
  peak.product = (fv_bench_product){.a = {at, 0, 0, PEAK_SIDE},
                                    .b = {at + matrix, 0, 0, PEAK_SIDE},
                                    .c = {at + 2 * matrix, 0, 0, PEAK_SIDE},
                                    .batch = 1,
                                    .heads = 1,
                                    .group = 1,
                                    .rows = PEAK_SIDE,
                                    .columns = PEAK_SIDE,
                                    .depth = PEAK_SIDE,
                                    .factor = 1.0f / PEAK_SIDE};
  return done;
}

static bool read_one(const read_state *state, const void *data, int64_t bytes) {
  fv_bench_bytes params = {data, bytes / 16, state->sink};
  unsigned grid[3] = {(unsigned)(8 * state->cuda->multiprocessors), 1, 1};
  unsigned block[2] = {FV_BENCH_READ_THREADS, 1};
  return fv_bench_cuda_launch(state->cuda, FV_BENCH_READ, FOVEA_F16, grid, block, &params);
}

static bool run_read(void *opaque) {
  const read_state *state = opaque;
  int64_t bytes = state->tensors->kv_count * fv_bench_dtype_bytes(state->tensors->problem.dtype);
  return read_one(state, state->tensors->k, bytes) && read_one(state, state->tensors->v, bytes);
}

void fv_bench_cuda_measures_free(void) {
  if (peak.cuda) fv_bench_cuda_free(peak.cuda, peak.memory);
  if (reading.cuda) fv_bench_cuda_free(reading.cuda, reading.sink);
  peak = (peak_state){0};
  reading = (read_state){0};
}

int fv_bench_cuda_measures(const fv_bench_place *place, const fv_bench_tensors *there,
                           fv_bench_contestant *contestants) {
  fv_bench_cuda *cuda = (fv_bench_cuda *)place;
  const double side = PEAK_SIDE;
  int count = 0;
  if (cuda->cublas && !open_peak(cuda, there)) return -1;
  if (cuda->cublas) {
    contestants[count++] = (fv_bench_contestant){
        .pipeline = "peak", .run = run_peak, .state = &peak, .flops = 2 * side * side * side};
  }
  if (!fv_bench_is_decoding(&there->problem)) return count;
  reading = (read_state){cuda, there, fv_bench_cuda_allocate(cuda, 16)};
  if (!reading.sink) return -1;
  contestants[count++] = (fv_bench_contestant){.pipeline = "read",
                                               .run = run_read,
                                               .state = &reading,
                                               .bytes = fv_bench_tensors_kv_bytes(there)};
  for (int i = 0; i < count; ++i) {
    if (!contestants[i].run(contestants[i].state)) return -1;
  }
  return count;
}

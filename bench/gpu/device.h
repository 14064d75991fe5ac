/* device.h - CUDA device 0 for the benchmark: its memory, its clock, its kernels. Everything runs
 * on the legacy stream. Failures are reported on stderr, once, where they happen. */
#ifndef FOVEA_BENCH_GPU_DEVICE_H
#define FOVEA_BENCH_GPU_DEVICE_H

#include "csrc/cuda/driver.h"

#include "bench/gpu/params.h"
#include "bench/pipelines/pipeline.h"

typedef struct fv_bench_cuda fv_bench_cuda;

/* The two products of the naive pipeline: the same call on cuBLAS or on a plain kernel. */
typedef struct fv_bench_products {
  const char *name;
  bool (*multiply_keys)(fv_bench_cuda *cuda, const fv_bench_product *product, fovea_dtype dtype);
  bool (*multiply_values)(fv_bench_cuda *cuda, const fv_bench_product *product, fovea_dtype dtype);
} fv_bench_products;

enum { FV_BENCH_CUDA_KERNELS = 6 };

struct fv_bench_cuda {
  fv_bench_place place; /* first: a session holds a pointer to this whole struct */
  const fv_driver *driver;
  CUkernel kernels[FV_BENCH_CUDA_KERNELS];
  CUevent begin, end;
  CUdeviceptr flushed; /* twice the L2 cache, overwritten to empty it */
  size_t flushed_bytes;
  int multiprocessors;
  struct fv_bench_cublas *cublas; /* NULL: plain products */
  const fv_bench_products *products;
  char products_name[160];
};

extern const fv_bench_products fv_bench_products_plain, fv_bench_products_cublas;

/* In the order of the names in gpu/device.c: the kernels of each dtype, then those without one. */
typedef enum fv_bench_kernel {
  FV_BENCH_MULTIPLY,
  FV_BENCH_NORMALISE,
  FV_BENCH_READ,
  FV_BENCH_GATHER
} fv_bench_kernel;

bool fv_bench_cuda_ok(const fv_bench_cuda *cuda, CUresult result, const char *call);

/* NULL: out of device memory. */
void *fv_bench_cuda_allocate(const fv_bench_cuda *cuda, size_t bytes);
void *fv_bench_cuda_allocate_zeros(const fv_bench_cuda *cuda, size_t bytes);
void fv_bench_cuda_free(const fv_bench_cuda *cuda, void *memory);

/* Launches a kernel with its one struct. */
bool fv_bench_cuda_launch(const fv_bench_cuda *cuda, fv_bench_kernel kernel, fovea_dtype dtype,
                          const unsigned grid[3], const unsigned block[2], void *params);

extern const fv_bench_pipeline fv_bench_naive_cuda;

/* The place's measures: the largest product that cuBLAS computes, and reading keys and values. */
int fv_bench_cuda_measures(const fv_bench_place *place, const fv_bench_tensors *there,
                           fv_bench_contestant *contestants);
void fv_bench_cuda_measures_free(void);

/* Opens cuBLAS as libcublas.so.13, .12, or the file that FOVEA_BENCH_CUBLAS names. NULL, and the
 * reason in `why`. An empty FOVEA_BENCH_CUBLAS means: not wanted. */
struct fv_bench_cublas *fv_bench_cublas_open(char *why, size_t why_bytes);
void fv_bench_cublas_close(struct fv_bench_cublas *cublas);

#endif /* FOVEA_BENCH_GPU_DEVICE_H */

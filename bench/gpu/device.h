/* device.h - CUDA device 0 for the benchmark: its memory, its clock, its kernels. Everything runs
 * on the legacy stream. Failures are said on stderr, once, where they happen. */
#ifndef FV_BENCH_CUDA_H
#define FV_BENCH_CUDA_H

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
  fv_bench_place place; /* first: what a session holds is this whole struct */
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

/* By the order of gpu/device.c's names: those of each dtype, then those of any. */
typedef enum fv_bench_kernel {
  FV_BENCH_MULTIPLY,
  FV_BENCH_NORMALISE,
  FV_BENCH_READ,
  FV_BENCH_GATHER
} fv_bench_kernel;

bool fv_bench_cuda_ok(const fv_bench_cuda *cuda, CUresult result, const char *call);

/* NULL: out of the device's memory. */
void *fv_bench_cuda_allocate(const fv_bench_cuda *cuda, size_t bytes);
void *fv_bench_cuda_allocate_zeros(const fv_bench_cuda *cuda, size_t bytes);
void fv_bench_cuda_free(const fv_bench_cuda *cuda, void *memory);

/* Starts a kernel with its one struct. */
bool fv_bench_cuda_launch(const fv_bench_cuda *cuda, fv_bench_kernel kernel, fovea_dtype dtype,
                          const unsigned grid[3], const unsigned block[2], void *params);

extern const fv_bench_pipeline fv_bench_naive_cuda;

/* The place's measures: the largest product that cuBLAS makes, and reading keys and values. */
int fv_bench_cuda_measures(const fv_bench_place *place, const fv_bench_tensors *there,
                           fv_bench_contestant *contestants);
void fv_bench_cuda_measures_free(void);

/* cuBLAS, opened as libcublas.so.13, .12, or the file FOVEA_BENCH_CUBLAS names. NULL, and why in
 * `why`. Empty FOVEA_BENCH_CUBLAS: not wanted. */
struct fv_bench_cublas *fv_bench_cublas_open(char *why, size_t why_bytes);
void fv_bench_cublas_close(struct fv_bench_cublas *cublas);

#endif /* FV_BENCH_CUDA_H */

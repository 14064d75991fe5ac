/* absent.c - the benchmark of a build without CUDA. */
#include <stdio.h>

#include "bench/pipelines/pipeline.h"

bool fv_bench_cuda_open(fv_bench_machine *machine) {
  (void)machine;
  fputs("fovea-bench: this build has no CUDA; configure it where there is an nvcc\n", stderr);
  return false;
}

void fv_bench_cuda_close(fv_bench_machine *machine) {
  (void)machine;
}

const char *fv_bench_cuda_products(const fv_bench_machine *machine) {
  (void)machine;
  return "none";
}

/* fovea.h - the library itself as a pipeline, and what pipelines of its features add to it. */
#ifndef FOVEA_BENCH_PIPELINES_FOVEA_H
#define FOVEA_BENCH_PIPELINES_FOVEA_H

#include "bench/pipelines/pipeline.h"

typedef struct fv_bench_fovea {
  fovea_handle *handle;
  const fv_bench_place *place; /* of the workspace; NULL: host memory */
  fovea_attention_args args;
  fovea_weights_args weights; /* of a feature */
  int32_t *numbers;           /* of a feature; NULL: none */
  void *memory;               /* of a feature, mapped; NULL: none */
  size_t memory_bytes;
} fv_bench_fovea;

double fv_bench_fovea_scratch(const fv_bench_machine *machine, const fv_bench_problem *problem);
void *fv_bench_fovea_open(const fv_bench_machine *machine, const fv_bench_tensors *tensors);
bool fv_bench_fovea_run(void *opaque);
void fv_bench_fovea_close(void *opaque);

#endif /* FOVEA_BENCH_PIPELINES_FOVEA_H */

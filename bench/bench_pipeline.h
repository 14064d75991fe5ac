/* bench_pipeline.h - the contestants: ways to compute the attention of one problem's tensors.
 *
 * A pipeline is a row of a table (bench_pipeline.c) with a device, a name and three functions. What
 * runs on another device is added there. */
#ifndef FV_BENCH_PIPELINE_H
#define FV_BENCH_PIPELINE_H

#include "bench_tensors.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What all pipelines of a run share. */
typedef struct fv_bench_machine {
  fv_pool *pool;        /* for the pipelines that have no threads of their own */
  fovea_handle *handle; /* as many threads */
  int threads;
  double memory_bytes; /* of the machine */
  double cache_bytes;  /* the last level's; 0: unknown */
} fv_bench_machine;

typedef struct fv_bench_pipeline {
  const char *device, *name;
  /* Memory that a call needs besides the tensors; asked for before anything is allocated. */
  double (*scratch_bytes)(const fv_bench_machine *machine, const fv_bench_problem *problem);
  /* Makes the state of calls on these tensors. NULL: out of memory. */
  void *(*open)(const fv_bench_machine *machine, const fv_bench_tensors *tensors);
  /* Computes out. False: it failed, and has said why on stderr. */
  bool (*run)(void *state);
  void (*close)(void *state);
} fv_bench_pipeline;

extern const fv_bench_pipeline fv_bench_fovea_cpu;
extern const fv_bench_pipeline fv_bench_naive_cpu;

/* By index from 0; NULL past the last. The first of a device judges the others. */
const fv_bench_pipeline *fv_bench_pipeline_at(int index);

#ifdef __cplusplus
}
#endif
#endif /* FV_BENCH_PIPELINE_H */

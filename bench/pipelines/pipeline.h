/* pipeline.h - the contestants: ways to compute the attention of one problem's tensors.
 *
 * A pipeline is a row of a table with a device, a name and three functions: pipelines/pipeline.c
 * for the CPU; another device brings its own table, as part of the place where its tensors lie. */
#ifndef FV_BENCH_PIPELINE_H
#define FV_BENCH_PIPELINE_H

#include "bench/measure/rounds.h"
#include "bench/problem/tensors.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fv_bench_pipeline;

/* A device with memory of its own. Failures are said on stderr. */
typedef struct fv_bench_place {
  const char *device;
  const struct fv_bench_pipeline *const *pipelines; /* NULL behind the last */
  /* Copies of all tensors; fields that are no pointers are those of `host`. */
  bool (*bring)(const struct fv_bench_place *place, const fv_bench_tensors *host,
                fv_bench_tensors *there);
  void (*release)(const struct fv_bench_place *place, fv_bench_tensors *there);
  /* out, there or back; back waits for what was queued. */
  bool (*copy_out)(const struct fv_bench_place *place, const fv_bench_tensors *host,
                   const fv_bench_tensors *there, bool back);
  void *(*allocate)(const struct fv_bench_place *place,
                    size_t bytes); /* NULL: there is none left */
  void (*deallocate)(const struct fv_bench_place *place, void *memory);
  void (*flush)(void *place); /* takes everything out of the device's caches */
  bool (*measure)(void *place, fv_bench_contestant *contestant, int64_t iterations,
                  double *seconds);
  /* Appends what measures the device to the contestants, at most two; how many, -1: failed. Ends
   * with the tensors. */
  int (*measures)(const struct fv_bench_place *place, const fv_bench_tensors *there,
                  fv_bench_contestant *contestants);
} fv_bench_place;

/* What all pipelines of a run share. */
typedef struct fv_bench_machine {
  fv_pool *pool;        /* for the pipelines that have no threads of their own */
  fovea_handle *handle; /* as many threads */
  int threads;
  double memory_bytes;   /* of the machine */
  double cache_bytes;    /* the last level's; 0: unknown */
  fv_bench_place *place; /* NULL: host memory; then memory and caches above are the processor's */
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
  bool narrow_scores; /* scores and weights lie in memory in the tensors' dtype */
} fv_bench_pipeline;

extern const fv_bench_pipeline fv_bench_fovea_cpu;
extern const fv_bench_pipeline fv_bench_naive_cpu;

/* By index from 0; NULL past the last. The first judges the others. */
const fv_bench_pipeline *fv_bench_pipeline_at(int index);

/* fovea's pipeline with arguments that lie where its device can reach them. */
extern const fv_bench_pipeline fv_bench_fovea_cuda;

/* Makes CUDA device 0 the machine's: its handle, its place, its memory and caches. False: said why
 * on stderr. Where the build has no CUDA, it says that. */
bool fv_bench_cuda_open(fv_bench_machine *machine);
void fv_bench_cuda_close(fv_bench_machine *machine);

/* What multiplies in the naive pipeline there: "cuBLAS ..." or why it is not. */
const char *fv_bench_cuda_products(const fv_bench_machine *machine);

#ifdef __cplusplus
}
#endif
#endif /* FV_BENCH_PIPELINE_H */

/* pipeline.h - the contestants: ways to compute the attention of one problem's tensors.
 *
 * A pipeline is a row of a table, with a device, a name and three functions. The CPU's table is in
 * pipelines/pipeline.c. Another device's table belongs to its place, where the tensors lie. */
#ifndef FOVEA_BENCH_PIPELINES_PIPELINE_H
#define FOVEA_BENCH_PIPELINES_PIPELINE_H

#include "bench/measure/rounds.h"
#include "bench/problem/tensors.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fv_bench_pipeline;

/* A device with memory of its own. Failures are reported on stderr. */
typedef struct fv_bench_place {
  const char *device;
  const struct fv_bench_pipeline *const *pipelines; /* NULL after the last */
  /* Copies all tensors; fields that are no pointers equal those of `host`. */
  bool (*bring)(const struct fv_bench_place *place, const fv_bench_tensors *host,
                fv_bench_tensors *there);
  void (*release)(const struct fv_bench_place *place, fv_bench_tensors *there);
  /* Copies out there or back; copying back waits for what was queued. */
  bool (*copy_out)(const struct fv_bench_place *place, const fv_bench_tensors *host,
                   const fv_bench_tensors *there, bool back);
  void *(*allocate)(const struct fv_bench_place *place,
                    size_t bytes); /* NULL: the device has no memory left */
  void (*deallocate)(const struct fv_bench_place *place, void *memory);
  void (*flush)(void *place); /* takes everything out of the device's caches */
  bool (*measure)(void *place, fv_bench_contestant *contestant, int64_t iterations,
                  double *seconds);
  /* Appends at most two contestants that measure the device; returns how many, or -1 if it failed.
   * They end with the tensors. */
  int (*measures)(const struct fv_bench_place *place, const fv_bench_tensors *there,
                  fv_bench_contestant *contestants);
} fv_bench_place;

/* What all pipelines of a run share. */
typedef struct fv_bench_machine {
  fv_pool *pool;        /* for the pipelines that have no threads of their own */
  fovea_handle *handle; /* with the same number of threads */
  int threads;
  double memory_bytes;   /* of the machine */
  double cache_bytes;    /* the last level's; 0: unknown */
  fv_bench_place *place; /* NULL: host memory; else memory and caches above are the processor's */
} fv_bench_machine;

typedef struct fv_bench_pipeline {
  const char *device, *name;
  /* Memory that a call needs besides the tensors. Asked for before anything is allocated. */
  double (*scratch_bytes)(const fv_bench_machine *machine, const fv_bench_problem *problem);
  /* Makes the state of calls on these tensors. NULL: out of memory. */
  void *(*open)(const fv_bench_machine *machine, const fv_bench_tensors *tensors);
  /* Computes out. False: it failed, and has said why on stderr. */
  bool (*run)(void *state);
  void (*close)(void *state);
  bool narrow_scores; /* scores and weights lie in memory in the tensors' dtype */
  bool (*covers)(const fv_bench_problem *problem); /* NULL: it takes part in every problem */
  double step; /* of the caches' rounding, as a part of the largest of a block; 0: not rounded */
} fv_bench_pipeline;

extern const fv_bench_pipeline fv_bench_fovea_cpu;
/* fovea's too, by features that leave the result as it is or nearly so. They show what the features
 * cost:
 *   selected   paged decode through a page table of each kv head, which lists the pages in another
 *              order: keys without positions
 *   spans      causal prefill, in which a row sees those of its image that come before it
 *   mass       prefill, and then the attention mass on each key of the last 32 rows
 *   q8_0, q4_0 decode from caches of blocks, in which keys and values are rounded */
extern const fv_bench_pipeline fv_bench_selected_cpu, fv_bench_spans_cpu, fv_bench_mass_cpu;
extern const fv_bench_pipeline fv_bench_q8_0_cpu, fv_bench_q4_0_cpu;
extern const fv_bench_pipeline fv_bench_naive_cpu;
/* Both again, of layers. */
extern const fv_bench_pipeline fv_bench_layer_cpu, fv_bench_naive_layer_cpu;

/* By index from 0; NULL past the last. The others are judged by the first that covers the problem.
 */
const fv_bench_pipeline *fv_bench_pipeline_at(int index);

/* fovea's pipeline for arguments in memory of its device. */
extern const fv_bench_pipeline fv_bench_fovea_cuda;

/* Makes CUDA device 0 the machine's: its handle, its place, its memory and caches. False: the
 * reason is on stderr, also in a build without CUDA. */
bool fv_bench_cuda_open(fv_bench_machine *machine);
void fv_bench_cuda_close(fv_bench_machine *machine);

/* What multiplies in the naive pipeline of the machine's device: "cuBLAS ...", or why it does not.
 */
const char *fv_bench_cuda_products(const fv_bench_machine *machine);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_PIPELINES_PIPELINE_H */

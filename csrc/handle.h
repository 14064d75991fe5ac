/* handle.h - a device opened by the caller: its facts, its threads or its context. Immutable after creation. */
#ifndef FV_HANDLE_H
#define FV_HANDLE_H

#include "cpu/parallel.h"
#include "cpu/pool.h"
#include "device_cuda.h"
#include "plan.h"

struct fovea_handle {
  fv_facts facts;
  int32_t ordinal;
  fv_pool *pool; /* NULL if the caller brings parallel_for, or one thread is enough */
  fv_parallel parallel;
  fv_cuda_device cuda; /* if facts.device is CUDA */
};

#endif /* FV_HANDLE_H */

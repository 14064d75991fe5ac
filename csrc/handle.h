/* handle.h - a device opened by the caller: its facts and its threads. Immutable after creation. */
#ifndef FV_HANDLE_H
#define FV_HANDLE_H

#include "cpu/parallel.h"
#include "cpu/pool.h"
#include "plan.h"

struct fovea_handle {
  fv_facts facts;
  int32_t ordinal;
  fv_pool *pool; /* NULL if the caller brings parallel_for, or one thread is enough */
  fv_parallel parallel;
};

#endif /* FV_HANDLE_H */

/* plan.h - plans calls for CUDA devices: a pure function, as csrc/plan.h says, over the rows of
 * kernels/shared/attention_fwd.def. It needs no CUDA header and no driver. */
#ifndef FOVEA_CSRC_CUDA_PLAN_H
#define FOVEA_CSRC_CUDA_PLAN_H

#include "csrc/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What planning knows of a CUDA device. */
typedef struct fv_cuda_facts {
  int32_t sm;              /* compute capability: 90 is 9.0 */
  int32_t sm_count;        /* multiprocessors */
  int32_t shared_bytes;    /* shared memory that a CTA may ask for */
  int32_t shared_bytes_sm; /* shared memory of a multiprocessor */
} fv_cuda_facts;

/* A row of shared/attention_fwd.def. */
typedef struct fv_cuda_row {
  fv_kernel kernel;
  uint32_t dtype;
  int32_t dim, dim_v;
  int32_t threads;
  int32_t shared_bytes;
  int32_t stages;
  int32_t ctas;      /* CTAs that the registers of a multiprocessor hold */
  bool general;      /* it has masks and biases of rows and heads, prefixes, spans and trees */
  int32_t kv_bytes;  /* of an element of k and v */
  const void *image; /* the fatbin with the kernel; its symbol is kernel.name */
} fv_cuda_row;

/* Row `index` of the table, or NULL. */
const fv_cuda_row *fv_cuda_row_at(int32_t index);

/* The index of the row that `kernel` is part of. */
int32_t fv_cuda_row_index(const fv_kernel *kernel);

/* FOVEA_OK, or FOVEA_UNSUPPORTED with the reason as the error detail. plan->workers is the grid. */
fovea_status fv_plan_cuda(const fv_cuda_facts *facts, const fv_problem *problem, fv_plan *plan);

/* Whether some call within the limits can choose the row. */
bool fv_plan_cuda_can_choose(const fv_cuda_facts *facts, const fovea_limits *limits, int32_t row);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_PLAN_H */

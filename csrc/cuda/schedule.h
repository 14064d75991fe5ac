/* schedule.h - what the host decides about work that the device schedules
 * (kernels/shared/schedule.h): whether the device does, how keys are split, how many CTAs share the
 * work, and how much workspace that needs. Pure functions, like all of planning. */
#ifndef FOVEA_CSRC_CUDA_SCHEDULE_H
#define FOVEA_CSRC_CUDA_SCHEDULE_H

#include "csrc/cuda/plan.h"
#include "kernels/shared/schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Fills in cuda, workers, tiles_bound and workspace_bytes of the plan of a call that `row`
 * computes. */
void fv_schedule_cuda(const fv_cuda_facts *facts, const fv_problem *problem, const fv_cuda_row *row,
                      fv_plan *plan);

/* The least bytes of keys and values that are in flight to a multiprocessor at any time while it
 * decodes. They hide the latency of memory. */
int64_t fv_cuda_bytes_in_flight(const fv_cuda_facts *facts, const fv_cuda_row *row);

/* The bound that fovea_attention_workspace returns. fv_schedule_cuda stays within it. */
size_t fv_cuda_workspace(const fv_cuda_facts *facts, const fovea_limits *limits);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_SCHEDULE_H */

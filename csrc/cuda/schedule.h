/* schedule.h - what the host decides about work that the device schedules
 * (kernels/shared/schedule.h): whether it does, how keys are cut, how many CTAs share it, and what
 * that needs of the workspace. Pure functions, as all of planning. */
#ifndef FV_SCHEDULE_CUDA_H
#define FV_SCHEDULE_CUDA_H

#include "csrc/cuda/plan.h"
#include "kernels/shared/schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Where the parts of the workspace begin, in bytes, and how long it is. */
typedef struct fv_cuda_layout {
  size_t totals, sequences, arrived;
  size_t tiles[FV_LINES], partials[FV_LINES];
  size_t parked;
  size_t bytes;
} fv_cuda_layout;

/* Fills in plan->schedule, plan->workers and plan->workspace_bytes of a call that `row`
 * computes. */
void fv_schedule_cuda(const fv_cuda_facts *facts, const fv_problem *problem, const fv_cuda_row *row,
                      fv_plan *plan);

fv_cuda_layout fv_cuda_layout_of(int64_t sequences, const fv_plan_schedule *schedule);

/* Bytes of keys and values that are on their way to a multiprocessor at any time while it decodes,
 * at least: what hides the latency of memory. */
int64_t fv_cuda_bytes_in_flight(const fv_cuda_facts *facts, const fv_cuda_row *row);

/* The workspace bound of fovea_attention_workspace, which fv_schedule_cuda stays within. */
size_t fv_cuda_workspace(const fv_cuda_facts *facts, const fovea_limits *limits);

#ifdef __cplusplus
}
#endif

#endif /* FV_SCHEDULE_CUDA_H */

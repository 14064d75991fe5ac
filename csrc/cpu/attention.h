/* attention.h - the device FOVEA_DEVICE_CPU: tiled, threaded, vectorised. */
#ifndef FOVEA_CSRC_CPU_ATTENTION_H
#define FOVEA_CSRC_CPU_ATTENTION_H

#include "csrc/host/parallel.h"
#include "csrc/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

void fv_cpu_attention(const fv_problem *problem, const fv_plan *plan, fv_parallel parallel);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CPU_ATTENTION_H */

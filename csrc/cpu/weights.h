/* weights.h - fovea_attention_weights on the CPU. */
#ifndef FOVEA_CSRC_CPU_WEIGHTS_H
#define FOVEA_CSRC_CPU_WEIGHTS_H

#include "csrc/host/parallel.h"
#include "csrc/host/processor.h"
#include "csrc/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

void fv_cpu_weights(const fv_weights_problem *problem, fv_isa isa, fv_parallel parallel);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CPU_WEIGHTS_H */

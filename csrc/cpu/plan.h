/* plan.h - plans calls for the CPU: a pure function over the rows of cpu/kernels.def. */
#ifndef FOVEA_CSRC_CPU_PLAN_H
#define FOVEA_CSRC_CPU_PLAN_H

#include "csrc/host/processor.h"
#include "csrc/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What planning knows of a CPU. */
typedef struct fv_cpu_facts {
  fv_isa isa;
  int32_t threads;
} fv_cpu_facts;

/* A row of cpu/kernels.def. */
typedef struct fv_cpu_row {
  fv_kernel kernel;
  fv_isa isa;
} fv_cpu_row;

/* Row `index` of the table, or NULL. */
const fv_cpu_row *fv_cpu_row_at(int32_t index);
int32_t fv_cpu_row_count(void);

/* Every problem has a plan. */
void fv_plan_cpu(const fv_cpu_facts *facts, const fv_problem *problem, fv_plan *plan);

/* The bound that fovea_attention_workspace returns. fv_plan_cpu stays within it. The limits have
 * been checked, and check/config.c has filled in the dims. */
size_t fv_cpu_workspace(const fv_cpu_facts *facts, const fovea_limits *limits);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CPU_PLAN_H */

/* mma.h - how mma adds, chosen for the whole process: as one generation of tensor cores does, or
 * rounding. alu/truncate.h has the forms and what they mean. */
#ifndef FOVEA_SIMGPU_ALU_MMA_H
#define FOVEA_SIMGPU_ALU_MMA_H

#include "simgpu/base.h"

/* "sm_80", "sm_90" or "round". False: there is no such form. The driver calls it, under its lock
 * and while no kernel runs. */
bool sim_mma_choose(const char *form);

#endif /* FOVEA_SIMGPU_ALU_MMA_H */

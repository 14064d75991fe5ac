/* cta.h - makes a CTA and frees it: shared memory with its shadow memory, registers, local memory.
 * The thread that starts a CTA owns it. */
#ifndef FOVEA_SIMGPU_SCHED_CTA_H
#define FOVEA_SIMGPU_SCHED_CTA_H

#include "simgpu/sched/machine.h"

struct sim_cta *sim_cta_start(struct sim_launch *launch, u32 number); /* NULL: no host memory */
void sim_cta_end(struct sim_cta *cta);

#endif /* FOVEA_SIMGPU_SCHED_CTA_H */

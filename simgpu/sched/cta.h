/* cta.h - the memory of one CTA: shared memory, its shadows, its warps' registers. */
#ifndef SIM_CTA_H
#define SIM_CTA_H

#include "simgpu/sched/machine.h"

struct sim_cta *sim_cta_start(struct sim_launch *launch, u32 number); /* NULL: no memory */
void sim_cta_end(struct sim_cta *cta);

#endif

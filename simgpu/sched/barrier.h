/* barrier.h - the 16 named barriers of a CTA. */
#ifndef SIM_BARRIER_H
#define SIM_BARRIER_H

#include "simgpu/sched/machine.h"

/* Executes a barrier instruction for a fragment that stands at it; true when it need not wait. */
bool sim_barrier_arrive(struct sim_warp *warp, const struct sim_inst *inst, u32 mask, u8 *barrier);
/* Completes the barriers that wait for all threads, after some have ended. */
void sim_barrier_recheck(struct sim_cta *cta);
/* At the end of a CTA: threads that arrived where others never came. */
void sim_barrier_check_end(struct sim_cta *cta, const struct sim_inst *last);

#endif

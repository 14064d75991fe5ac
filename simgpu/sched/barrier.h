/* barrier.h - the 16 named barriers of a CTA, for the scheduler. The CTA owns them. */
#ifndef FOVEA_SIMGPU_SCHED_BARRIER_H
#define FOVEA_SIMGPU_SCHED_BARRIER_H

#include "simgpu/sched/machine.h"

/* Executes a barrier instruction for a fragment. True: the fragment need not wait. Sets *barrier to
 * the barrier's number. */
bool sim_barrier_arrive(struct sim_warp *warp, const struct sim_inst *inst, u32 mask, u8 *barrier);
/* Completes the barriers at which enough threads have arrived. Called after a fragment has begun to
 * wait, and after threads have ended, because a barrier for all counts those that live. */
void sim_barrier_recheck(struct sim_cta *cta);
/* At the end of a CTA: reports barriers at which threads arrived and others did not. */
void sim_barrier_check_end(struct sim_cta *cta, const struct sim_inst *last);

#endif /* FOVEA_SIMGPU_SCHED_BARRIER_H */

/* turn.h - what a host thread does with a CTA that it owns. */
#ifndef FOVEA_SIMGPU_SCHED_TURN_H
#define FOVEA_SIMGPU_SCHED_TURN_H

#include "simgpu/sched/machine.h"

/* Runs the CTA until it ends, all its warps that could run poll in vain, or its turn is over. Adds
 * the rounds in which it got on. Returns whether there was one, or it has ended. */
bool sim_cta_run_turn(struct sim_cta *cta, u64 *rounds);
/* Says where each of its warps waits, and stops it. */
void sim_cta_report_deadlock(struct sim_cta *cta);

#endif /* FOVEA_SIMGPU_SCHED_TURN_H */

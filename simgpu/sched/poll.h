/* poll.h - finds warps that poll in vain. */
#ifndef FOVEA_SIMGPU_SCHED_POLL_H
#define FOVEA_SIMGPU_SCHED_POLL_H

#include "simgpu/sched/machine.h"

/* After an instruction that has read memory which others may change, and has changed none. Sets
 * polls_in_vain if the warp is as it was one of the last few times that it executed it: then it
 * will come back here until somebody else writes. */
void sim_poll(struct sim_warp *warp, const struct sim_inst *inst);

#endif /* FOVEA_SIMGPU_SCHED_POLL_H */

/* mbarrier.h - mbarrier objects in shared memory, for the scheduler and for asynchronous events.
 * The CTA owns them. */
#ifndef FOVEA_SIMGPU_SCHED_MBARRIER_H
#define FOVEA_SIMGPU_SCHED_MBARRIER_H

#include "simgpu/sched/machine.h"

/* One arrival for each lane, with clocks from when these asked for it. */
void sim_mbarrier_complete(struct sim_warp *warp, const struct sim_inst *inst, u32 address,
                           u32 lanes, const struct sim_gathered *arrivals);
/* What the warp waits for, as text. Empty: nothing. */
void sim_mbarrier_describe_wait(const struct sim_warp *warp, char *text, size_t bytes);
/* At the end of a CTA: reports bytes that were expected and have not come. */
void sim_mbarrier_check_end(struct sim_cta *cta, const struct sim_inst *last);
void sim_mbarrier_free(struct sim_cta *cta);

#endif /* FOVEA_SIMGPU_SCHED_MBARRIER_H */

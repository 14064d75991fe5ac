/* access.h - where an access of one lane goes on the host, after all checks. */
#ifndef SIM_ACCESS_H
#define SIM_ACCESS_H

#include "simgpu/sched/machine.h"

enum sim_access { SIM_READ, SIM_WRITE, SIM_UPDATE };

/* NULL when the access was refused, and reported. */
u8 *sim_locate(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address, u32 bytes,
               enum sim_access access);
u64 sim_lane_address(const struct sim_warp *warp, const struct sim_inst *inst, u32 index, u32 lane);

#endif

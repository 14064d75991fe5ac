/* profile.h - exact counts per instruction, when FOVEA_SIMGPU_PROFILE asks for them. */
#ifndef SIM_PROFILE_H
#define SIM_PROFILE_H

#include "simgpu/sched/machine.h"

struct sim_counts {
  u64 executed, lanes;
  u64 sectors;               /* of 32 bytes of global memory */
  u64 wavefronts, conflicts; /* of shared memory: passes, and those beyond the fewest possible */
};

bool sim_profile_wanted(void);
/* Addresses come from slot[index] of the instruction. */
void sim_profile_access(struct sim_warp *warp, const struct sim_inst *inst, u32 mask, u32 index,
                        u32 bytes);
void sim_profile_shared(struct sim_warp *warp, const struct sim_inst *inst, const u32 *addresses,
                        u32 count, u32 bytes);
/* Adds a finished launch to the totals, and writes the file. */
void sim_profile_add(const struct sim_launch *launch);

#endif

/* profile.h - exact counts per instruction, if FOVEA_SIMGPU_PROFILE names a file for them.
 *
 * A CTA counts into an array of its own, [instruction]; its end adds that to the launch's array;
 * the launch's end adds it to the process's totals, and the file is written anew. */
#ifndef FOVEA_SIMGPU_SCHED_PROFILE_H
#define FOVEA_SIMGPU_SCHED_PROFILE_H

#include "simgpu/sched/machine.h"

/* Of one instruction. Only u64: arrays of these are added as arrays of u64. */
struct sim_counts {
  u64 executed, lanes; /* by warps; by lanes */
  u64 sectors;         /* of 32 bytes of global memory */
  u64 wavefronts;      /* passes of shared memory */
  u64 conflicts;       /* passes beyond the first of each group of lanes */
};

bool sim_profile_wanted(void);
/* An access of `bytes` per lane at the addresses of slot[index]. */
void sim_profile_access(struct sim_warp *warp, const struct sim_inst *inst, u32 mask, u32 index,
                        u32 bytes);
/* The same for addresses of shared memory, as ldmatrix makes them. */
void sim_profile_shared(struct sim_warp *warp, const struct sim_inst *inst, const u32 *addresses,
                        u32 count, u32 bytes);
/* Adds a finished launch to the totals, and writes the file. */
void sim_profile_add(const struct sim_launch *launch);

#endif /* FOVEA_SIMGPU_SCHED_PROFILE_H */

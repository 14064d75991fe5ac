/* copy.h - the copies of cp.async that have not landed yet. A warp owns an array of them. */
#ifndef FOVEA_SIMGPU_MEMORY_COPY_H
#define FOVEA_SIMGPU_MEMORY_COPY_H

#include "simgpu/sched/machine.h"

/* The copies of one executed instruction, one per lane. */
struct sim_copy {
  u64 serial;           /* of the warp's copies */
  u32 lanes, bytes;     /* lanes: those whose data has not landed; bytes: written per lane */
  u32 group[SIM_LANES]; /* number of the lane's group */
  u16 clock[SIM_LANES]; /* of the warp, when it first asked for an arrival after this; 0: not yet */
  u32 target[SIM_LANES]; /* address of shared memory */
  u32 taken[SIM_LANES];  /* bytes that are read; zeros fill the rest */
  u64 source[SIM_LANES]; /* address of global memory */
  const struct sim_inst *inst;
};

/* The lanes will arrive at an mbarrier when all their copies so far have landed: who knows the
 * warp's clock of now, from there, may read what they bring. */
void sim_copy_cover(struct sim_warp *warp, u32 lanes);
/* Lands the copies before that one, of lanes that arrive for them. */
void sim_copy_land_before(struct sim_warp *warp, u32 lanes, u64 serial);
/* At the end of a warp: reports the copies that no wait has landed. */
void sim_copy_check_end(struct sim_warp *warp);

#endif /* FOVEA_SIMGPU_MEMORY_COPY_H */

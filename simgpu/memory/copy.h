/* copy.h - the copies of cp.async that have not landed yet. A warp owns an array of them. */
#ifndef FOVEA_SIMGPU_MEMORY_COPY_H
#define FOVEA_SIMGPU_MEMORY_COPY_H

#include "simgpu/sched/machine.h"

/* The copies of one executed instruction, one per lane. */
struct sim_copy {
  u64 serial;            /* of the warp's copies */
  u32 lanes, bytes;      /* lanes: those whose data has not landed; bytes: written per lane */
  u32 group[SIM_LANES];  /* number of the lane's group */
  u32 target[SIM_LANES]; /* address of shared memory */
  u32 taken[SIM_LANES];  /* bytes that are read; zeros fill the rest */
  u64 source[SIM_LANES]; /* address of global memory */
  const struct sim_inst *inst;
};

/* Lands the lanes' copies before that one, as written at that time of the warp's clock. */
void sim_copy_land_before(struct sim_warp *warp, u32 lanes, u64 serial, u16 clock);
/* At the end of a warp: reports the copies that no wait has landed. */
void sim_copy_check_end(struct sim_warp *warp);

#endif /* FOVEA_SIMGPU_MEMORY_COPY_H */

/* copy.h - cp.async: what is under way, per warp. */
#ifndef SIM_COPY_H
#define SIM_COPY_H

#include "simgpu/sched/machine.h"

/* One instruction's copies; a lane leaves the mask when its data lands. */
struct sim_copy {
  u32 lanes, bytes;
  u32 group[SIM_LANES];
  u32 target[SIM_LANES];
  u32 taken[SIM_LANES]; /* bytes that are read; zeros fill the rest */
  u64 source[SIM_LANES];
  const struct sim_inst *inst;
};

/* At the end of a warp: what nobody waited for. */
void sim_copy_check_end(struct sim_warp *warp);

#endif

/* access.h - the checks that every access to memory passes, and the host address that it gets. */
#ifndef FOVEA_SIMGPU_MEMORY_ACCESS_H
#define FOVEA_SIMGPU_MEMORY_ACCESS_H

#include "simgpu/sched/machine.h"

enum sim_access { SIM_READ, SIM_WRITE, SIM_UPDATE }; /* an update reads and writes: an atomic */

/* The host address of one lane's access. Alignment, bounds, initialisation and races are checked
 * and reported. NULL: the access is refused, because it is misaligned or not in allocated
 * memory. */
u8 *sim_locate(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address, u32 bytes,
               enum sim_access access);
/* A lane's address: the register in slot[index] plus the immediate. */
u64 sim_lane_address(const struct sim_warp *warp, const struct sim_inst *inst, u32 index, u32 lane);

#endif /* FOVEA_SIMGPU_MEMORY_ACCESS_H */

/* race.h - who touched what, and whether it happened before: vector clocks for shared and global
 * memory. */
#ifndef SIM_RACE_H
#define SIM_RACE_H

#include "simgpu/sched/machine.h"

/* The clocks of other CTAs' warps that something knows of. */
struct sim_known_cta {
  u32 cta;
  u16 clock[SIM_MAX_WARPS];
};

struct sim_known {
  struct sim_known_cta *items;
  u32 count, capacity;
};

/* An access to shared memory of a size and alignment that were checked. False: reported. */
bool sim_shared_read(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u32 address,
                     u32 bytes);
bool sim_shared_write(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u32 address,
                      u32 bytes);
/* The data of an asynchronous copy has arrived: the copying warp wrote it just now. */
void sim_shared_land(struct sim_warp *warp, u32 lane, u32 address, u32 bytes);
/* The same for global memory, by offset in the arena. */
bool sim_global_read(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 offset,
                     u32 bytes);
bool sim_global_write(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 offset,
                      u32 bytes);

/* Clocks. */
void sim_clock_tick(struct sim_warp *warp);
void sim_known_join(struct sim_known **into, const struct sim_known *from);
void sim_known_free(struct sim_known **known);
/* fence: what was read with relaxed atomics is acquired, what atomics publish from now on is
 * released. */
void sim_fence(struct sim_warp *warp, u8 scope);
/* An atomic access to an address, before its value is read or after it was written. */
void sim_sync_acquire(struct sim_warp *warp, const struct sim_inst *inst, u64 address);
void sim_sync_release(struct sim_warp *warp, const struct sim_inst *inst, u64 address);
struct sim_sync_table *sim_sync_table_new(void);
void sim_sync_table_free(struct sim_sync_table *table);

#endif

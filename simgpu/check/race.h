/* race.h - data races, by vector clocks: shadow memory records who accessed what (check/race.c),
 * and synchronisation tells warps of each other's accesses (check/clock.c). */
#ifndef FOVEA_SIMGPU_CHECK_RACE_H
#define FOVEA_SIMGPU_CHECK_RACE_H

#include "simgpu/sched/machine.h"

/* The part of a vector clock that covers one CTA. */
struct sim_known_cta {
  u32 cta;
  u16 clock[SIM_MAX_WARPS];
};

/* A vector clock over the CTAs that it has heard of, by their number. Owned by a warp, a barrier or
 * an address of a table; NULL is the empty clock. */
struct sim_known {
  struct sim_known_cta *items;
  u32 count, capacity;
};

/* Check and record an access to shared memory that is aligned and within bounds. False: it was
 * reported. */
bool sim_shared_read(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u32 address,
                     u32 bytes);
bool sim_shared_write(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u32 address,
                      u32 bytes);
/* Records that the data of an asynchronous copy has landed: the copying warp wrote it, at that time
 * of its clock. */
void sim_shared_land(struct sim_warp *warp, u32 lane, u32 address, u32 bytes, u16 clock);
/* The same for global memory, by offset in the arena. */
bool sim_global_read(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 offset,
                     u32 bytes);
bool sim_global_write(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 offset,
                      u32 bytes);

/* check/clock.c. A tick is a new time of the warp: later accesses are not known to those who learnt
 * its clock before. */
void sim_clock_tick(struct sim_warp *warp);
void sim_known_join(struct sim_known **into, const struct sim_known *from);
void sim_known_free(struct sim_known **known);
const struct sim_known_cta *sim_known_find(const struct sim_known *known, u32 cta); /* or NULL */
/* Adds what a warp knows; gives it to a warp, and a new time with it; forgets it. */
void sim_gather(struct sim_gathered *gathered, const struct sim_warp *warp);
void sim_gather_all(struct sim_gathered *gathered, const struct sim_gathered *from);
void sim_gathered_join(struct sim_warp *warp, const struct sim_gathered *gathered);
void sim_gathered_free(struct sim_gathered *gathered);
/* A fence acquires what relaxed atomics have read, and releases to the atomics that follow. */
void sim_fence(struct sim_warp *warp, u8 scope);
/* A strong access to an address: acquire comes before its read, release after its write. */
void sim_sync_acquire(struct sim_warp *warp, const struct sim_inst *inst, u64 address);
void sim_sync_release(struct sim_warp *warp, const struct sim_inst *inst, u64 address);
/* Address -> the clock that strong writes left there. A launch owns one for the device, a CTA one
 * for itself. */
struct sim_sync_table *sim_sync_table_new(void);
void sim_sync_table_free(struct sim_sync_table *table);

#endif /* FOVEA_SIMGPU_CHECK_RACE_H */

/* memory.h - global memory: an arena of the host's address space, with shadow memory beside it: a
 * state per byte, and stamps of the last accesses per 4 bytes (check/race.c).
 *
 * Device addresses are not host addresses, so that a host dereference faults. Every allocation has
 * red zones around it. Freed memory is not given out again while there is other room.
 *
 * Everything is reserved, nothing is touched: the system provides a page at the first access. So a
 * tensor of 20 GB costs only what a kernel reads and writes of it. A large allocation does not set
 * its states either. They say "unallocated" until a byte is written: sim_memory_state knows better.
 *
 * There is one arena per process. The driver's lock guards allocation; the threads of a launch read
 * and write bytes, states and stamps without a lock. */
#ifndef FOVEA_SIMGPU_MEMORY_MEMORY_H
#define FOVEA_SIMGPU_MEMORY_MEMORY_H

#include "simgpu/sched/machine.h"

#define SIM_GLOBAL_BASE 0x700000000ull
#define SIM_GLOBAL_BYTES (64ull << 30)
enum { SIM_GRANULE = 4 }; /* bytes per stamp; the stamp says which of them an access touched */

struct sim_memory {
  u8 *bytes, *state;
  u64 *write_stamps;
  /* [parity of the CTA]: two readers are remembered, so that a writer's own read hides fewer. */
  u64 *read_stamps[2];
  u64 used; /* bytes that are allocated */
};

extern struct sim_memory sim_memory;

bool sim_memory_open(void);
u64 sim_memory_allocate(u64 bytes); /* device address, or 0 when there is no room */
bool sim_memory_free(u64 address);  /* false: no allocation begins there */
/* The allocation that holds an address: false when none does. */
bool sim_memory_find(u64 address, u64 *base, u64 *bytes);
bool sim_memory_holds(u64 address, u64 bytes); /* the whole range lies in one allocation */
/* The true state of bytes that are not ready: uninitialised, freed, or unallocated. */
enum sim_byte_state sim_memory_state(u64 offset, u32 bytes);
void sim_memory_forget_stamps(void); /* before serials of launches repeat */
void sim_memory_free_all(void);

static inline bool sim_in_arena(u64 address, u64 bytes) {
  return address - SIM_GLOBAL_BASE < SIM_GLOBAL_BYTES &&
         bytes <= SIM_GLOBAL_BYTES - (address - SIM_GLOBAL_BASE);
}

#endif /* FOVEA_SIMGPU_MEMORY_MEMORY_H */

/* memory.h - global memory: one reserved arena with a state per byte and, per 4 bytes, who wrote
 * and read it last.
 *
 * Device addresses are no host addresses, so that a host dereference faults. Every allocation has
 * red zones round it, and what is freed is not given out again while there is other room.
 *
 * All of it is reserved without being there: a page comes with the first touch, and a large
 * allocation touches nothing. So a tensor of 20 GB costs what a kernel reads and writes of it, and
 * the states of its bytes say "unallocated" until they are written: ask sim_memory_state then. */
#ifndef SIM_MEMORY_H
#define SIM_MEMORY_H

#include "simgpu/sched/machine.h"

#define SIM_GLOBAL_BASE 0x700000000ull
#define SIM_GLOBAL_BYTES (64ull << 30)
enum { SIM_GRANULE = 4 }; /* bytes per stamp; an access to less says which in the stamp */

struct sim_memory {
  u8 *bytes, *state;
  u64 *write_stamps;
  /* Two readers are remembered, by the parity of their CTA: enough to see one that is not the
   * writer. */
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
/* What bytes are that are not ready: uninitialised, freed, or unallocated. */
enum sim_byte_state sim_memory_state(u64 offset, u32 bytes);
void sim_memory_forget_stamps(void);
void sim_memory_free_all(void);

static inline bool sim_in_arena(u64 address, u64 bytes) {
  return address - SIM_GLOBAL_BASE < SIM_GLOBAL_BYTES &&
         bytes <= SIM_GLOBAL_BYTES - (address - SIM_GLOBAL_BASE);
}

#endif

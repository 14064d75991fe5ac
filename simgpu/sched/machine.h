/* machine.h - what runs: a launch, its CTAs, their warps. */
#ifndef SIM_MACHINE_H
#define SIM_MACHINE_H

#include "simgpu/decode/code.h"

struct sim_cta;
struct sim_copy;
struct sim_known;
struct sim_sync_table;
struct sim_counts;

enum sim_fragment_state {
  SIM_FRAGMENT_READY,
  SIM_FRAGMENT_CONVERGING, /* waits for lanes that must execute the instruction with it */
  SIM_FRAGMENT_AT_BARRIER,
};

/* Lanes of a warp that stand at the same instruction. */
struct sim_fragment {
  u32 pc, mask;
  u8 state;
  u8 barrier;
};

struct sim_warp {
  u8 *registers;
  struct sim_cta *cta;
  u8 *local; /* [lane][local_bytes] */
  u32 index;
  u32 live; /* lanes that have not exited */
  struct sim_fragment fragments[SIM_LANES];
  u32 fragment_count;
  u32 carry; /* of add.cc and its kin, by lane */
  u64 steps;
  u32 epoch; /* bar.warp.sync since the clock last ticked: order among the warp's own lanes */
  /* Vector clock: the latest event of each warp of the CTA that happened before now (check/race.c).
   */
  u16 clock[SIM_MAX_WARPS];
  /* What it knows of other CTAs; what fences released and what is to be acquired, for all of the
   * device and for the CTA alone (check/clock.c). */
  struct sim_known *known, *released, *acquired, *released_here, *acquired_here;
  /* cp.async: what is under way, and the group that each lane is filling (memory/copy.c). */
  struct sim_copy *copies;
  u32 copy_count, copy_capacity;
  u32 open_group[SIM_LANES];
  bool grid_awaited; /* after griddepcontrol.wait */
};

struct sim_barrier {
  u32 expected; /* threads; 0 while nobody waits */
  bool counts_all;
  u32 arrived;
  u32 arrived_warps;
  u32 votes, vote_or, vote_and;
  u16 clock[SIM_MAX_WARPS];
  struct sim_known *released, *released_here, *known;
  bool grid_awaited;
  u32 ptx_line;
};

enum { SIM_BARRIERS = 16 };

struct sim_cta {
  struct sim_launch *launch;
  u32 number, index[3];
  u32 warp_count, thread_count;
  struct sim_warp *warps;
  u8 *shared;                                  /* indexed by shared address, from 0 */
  u32 shared_end;                              /* first address past the end */
  u8 *state;                                   /* of each byte: enum sim_byte_state */
  u16 *write_clock, *write_agent, *write_lane; /* of each 2 bytes, indexed by address / 2 */
  u16 *read_lane;                              /* of the last read, too */
  u16 *read_clock;                             /* [warp][address / 2] */
  size_t plane_items;
  u8 *memory; /* what all of the above lies in */
  size_t memory_bytes;
  struct sim_barrier barriers[SIM_BARRIERS];
  struct sim_sync_table *shared_sync;
  bool clocks_full; /* a clock ran out of bits: races are not judged any more */
  u64 random;
  struct sim_counts *counts; /* NULL unless profiling */
  bool stopped;              /* an error after which going on makes no sense */
  bool is_done;
};

enum sim_byte_state {
  SIM_BYTE_UNALLOCATED,
  SIM_BYTE_UNINITIALISED,
  SIM_BYTE_READY,
  SIM_BYTE_FREED,
  SIM_BYTE_IN_FLIGHT, /* an asynchronous copy will land here */
};

struct sim_launch {
  struct sim_kernel *kernel;
  u32 grid[3], block[3];
  u32 cta_count;
  u32 dynamic_shared_bytes;
  u8 *params;
  u32 serial; /* 1 .. 32767; names this launch in the stamps of global memory */
  /* Launches that this one may overlap until it has waited for them (griddepcontrol.wait). */
  u32 overlapped;
  u64 seed;
  bool is_eager; /* asynchronous copies land at once, as they often do on hardware */
  u32 sm_count;
  u32 next_cta; /* taken atomically */
  u32 order_start, order_step;
  struct sim_sync_table *global_sync;
  struct sim_counts *counts;
  int failed; /* set atomically by reports */
};

/* Runs all CTAs; false when a check failed. */
bool sim_launch_run(struct sim_launch *launch);

static inline u64 sim_random(u64 *state) {
  u64 x = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

#endif

/* machine.h - the state of a launch: its CTAs, their warps, their fragments.
 *
 * The driver has a launch on its stack. Each host thread takes CTAs from it; a CTA and its warps
 * belong to that thread until the CTA ends, so their state needs no lock. What threads share is
 * global memory, the launch's counter of CTAs, its table for atomics, its counts, and `failed`. */
#ifndef FOVEA_SIMGPU_SCHED_MACHINE_H
#define FOVEA_SIMGPU_SCHED_MACHINE_H

#include "simgpu/decode/code.h"

struct sim_cta;
struct sim_copy;
struct sim_known;
struct sim_sync_table;
struct sim_counts;
struct sim_event;

/* What several warps know, joined (check/clock.c). */
struct sim_gathered {
  u16 clock[SIM_MAX_WARPS]; /* [warp]: of this CTA */
  struct sim_known *known, *released, *released_here;
  bool grid_awaited;
};

enum sim_fragment_state {
  SIM_FRAGMENT_READY,
  SIM_FRAGMENT_CONVERGING, /* waits for lanes that must execute the instruction with it */
  SIM_FRAGMENT_AT_BARRIER,
};

/* Lanes of a warp that are at the same instruction. Each live lane is in one fragment. */
struct sim_fragment {
  u32 pc, mask;
  u8 state;
  u8 barrier;
};

/* The mbarrier that a warp waits for in vain. */
struct sim_mbarrier_wait {
  bool waits, by_parity;
  u32 address, phase; /* phase: or its parity */
};

enum { SIM_BARRIERS = 16 };

enum { SIM_POLLS = 4, SIM_POLL_STATES = 4 };

/* What a warp had read, and what it was like, when it last polled somewhere (sched/poll.c). */
struct sim_polled {
  const struct sim_inst *inst;
  u64 values, states[SIM_POLL_STATES]; /* hashes; the latest states */
  u32 next;
};

struct sim_warp {
  u8 *registers; /* the register file: decode/code.h */
  struct sim_cta *cta;
  u8 *local; /* [lane][local_bytes] */
  u32 index;
  u32 live;                                     /* lanes that have not exited */
  struct sim_fragment fragments[SIM_LANES + 1]; /* one more than lanes, for brx.idx */
  u32 fragment_count;
  u32 carry; /* CC.CF, a bit per lane */
  u64 steps; /* instructions executed */
  u32 epoch; /* number of bar.warp.sync since the clock ticked: orders the warp's own lanes */
  /* [warp]: vector clock, of this CTA's warps (check/race.c). */
  u16 clock[SIM_MAX_WARPS];
  /* Clocks of other CTAs' warps; those that fences released, those that fences will acquire: both
   * for the device and, _here, for the CTA alone (check/clock.c). */
  struct sim_known *known, *released, *acquired, *released_here, *acquired_here;
  u64 picked_up, picked_up_here; /* versions of what was acquired last */
  /* cp.async: copies that have not landed, and each lane's open group (memory/copy.c). */
  struct sim_copy *copies;
  u32 copy_count, copy_capacity;
  u64 copy_serial; /* of the next */
  u32 open_group[SIM_LANES];
  bool grid_awaited; /* after griddepcontrol.wait */
  struct sim_polled polled[SIM_POLLS];
  struct sim_mbarrier_wait waits_for;
  bool polls_in_vain, got_on; /* got_on: in this go it has polled, and not in vain */
  bool gives_way;             /* it sleeps, or waits for an mbarrier: its go ends */
};

/* A named barrier (sched/barrier.c). */
struct sim_barrier {
  u32 expected;                 /* threads; 0 while no thread has arrived */
  bool counts_all;              /* expects all threads of the CTA, not a given number */
  u32 arrived;                  /* threads */
  u32 arrived_warps;            /* a bit per warp */
  u32 votes, vote_or, vote_and; /* of bar.red: popc, or, and */
  struct sim_gathered arrivals;
  u32 ptx_line; /* of the latest arrival */
};

/* An mbarrier object in shared memory (sched/mbarrier.c). */
struct sim_mbarrier {
  u32 address;
  u32 expected, pending; /* arrivals in a phase, and those that are missing in this one */
  s64 transactions;      /* bytes that asynchronous copies still bring in this phase */
  u32 phase;             /* number of completed phases */
  u32 initialiser;       /* the warp that made it, and its clock then */
  u16 initialised;
  u32 ptx_line;                       /* of its init */
  struct sim_gathered arrivals, done; /* in this phase; in all completed ones */
};

struct sim_cta {
  struct sim_launch *launch;
  u32 number, index[3];
  u32 warp_count, thread_count;
  struct sim_warp *warps;
  u8 *shared;                                  /* indexed by shared address, from 0 */
  u32 shared_end;                              /* first address past the end */
  u8 *state;                                   /* [address]: enum sim_byte_state */
  u16 *write_clock, *write_agent, *write_lane; /* [address / 2]: the last write (check/race.c) */
  u16 *read_lane;                              /* [address / 2]: the last read's lane */
  u16 *read_clock;                             /* [warp][address / 2]: the warp's last read */
  size_t plane_items;                          /* per warp in read_clock */
  u8 *memory; /* one block that holds warps and everything of shared memory above */
  size_t memory_bytes;
  struct sim_barrier barriers[SIM_BARRIERS];
  struct sim_mbarrier *mbarriers;
  u32 mbarrier_count, mbarrier_capacity;
  struct sim_event *events; /* asynchronous ones that are still to happen (sched/event.c) */
  u32 event_count, event_capacity;
  struct sim_sync_table *shared_sync; /* of atomics that order this CTA alone */
  bool clocks_full;                   /* a clock is at its limit: races are no longer judged */
  u64 random;                         /* state of the schedule's random numbers */
  struct sim_counts *counts;          /* [instruction]; NULL unless profiling */
  bool stopped;                       /* by an error after which nothing can run */
  bool is_done;
};

/* The state of a byte of shared or global memory. */
enum sim_byte_state {
  SIM_BYTE_UNALLOCATED,
  SIM_BYTE_UNINITIALISED,
  SIM_BYTE_READY,
  SIM_BYTE_FREED,
  SIM_BYTE_IN_FLIGHT, /* an asynchronous copy will land here */
  SIM_BYTE_MBARRIER,
};

struct sim_launch {
  struct sim_kernel *kernel;
  u32 grid[3], block[3];
  u32 cta_count;
  u32 dynamic_shared_bytes;
  u8 *params;
  u32 serial; /* 1 .. 32767; names this launch in the stamps of global memory */
  /* Serial of the launch that a warp overlaps until it executes griddepcontrol.wait; 0: none. */
  u32 overlapped;
  u64 seed;
  bool is_eager; /* asynchronous copies land at once, as they often do on hardware */
  u32 sm_count;
  u32 next_cta; /* how many are taken; changed atomically */
  /* Atomic, all three: passes in which a host thread got on; host threads that are not done; those
   * that are stuck, with the progress at which they are, in the upper 32 bits. */
  u32 progress, running;
  u64 stuck;
  u32 order_start, order_step;        /* the k-th CTA is start + k step, modulo cta_count */
  struct sim_sync_table *global_sync; /* of atomics that order the device */
  struct sim_counts *counts;          /* [instruction]: the sum of the CTAs'; NULL: no profile */
  int failed;                         /* set atomically by reports */
  bool clocks_full;                   /* it has been said; set atomically */
};

/* Runs all CTAs. False: a check reported something. */
bool sim_launch_run(struct sim_launch *launch);

static inline u64 sim_random(u64 *state) {
  u64 x = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

#endif /* FOVEA_SIMGPU_SCHED_MACHINE_H */

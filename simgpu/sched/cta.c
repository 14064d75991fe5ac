/* cta.c - makes a CTA and frees it: see sched/cta.h. PTX ISA, "Special Registers".
 *
 * All memory of a CTA is one block from memory/room.h, divided by lay_out. Shared and local memory
 * begin as NaNs; shared memory is marked as uninitialised too. A register file begins as the
 * kernel's constants; special registers are filled in here, once, because they do not change.
 * Clocks do: see alu/move.c. */
#include "simgpu/sched/cta.h"

#include <stdlib.h>
#include <string.h>

#include "simgpu/check/race.h"
#include "simgpu/memory/copy.h"
#include "simgpu/memory/room.h"
#include "simgpu/sched/event.h"
#include "simgpu/sched/mbarrier.h"
#include "simgpu/sched/profile.h"

enum { POISON = 0x7f }; /* NaN in every float format */

static size_t round_up(size_t bytes) {
  return (bytes + SIM_ROOM_ALIGN - 1) / SIM_ROOM_ALIGN * SIM_ROOM_ALIGN;
}

static u32 special_value(const struct sim_cta *cta, const struct sim_warp *warp, u32 lane,
                         enum sim_special special) {
  const struct sim_launch *launch = cta->launch;
  u32 thread = warp->index * SIM_LANES + lane;
  switch (special) {
    case SIM_TID_X:
      return thread % launch->block[0];
    case SIM_TID_Y:
      return thread / launch->block[0] % launch->block[1];
    case SIM_TID_Z:
      return thread / launch->block[0] / launch->block[1];
    case SIM_NTID_X:
    case SIM_NTID_Y:
    case SIM_NTID_Z:
      return launch->block[special - SIM_NTID_X];
    case SIM_CTAID_X:
    case SIM_CTAID_Y:
    case SIM_CTAID_Z:
      return cta->index[special - SIM_CTAID_X];
    case SIM_NCTAID_X:
    case SIM_NCTAID_Y:
    case SIM_NCTAID_Z:
      return launch->grid[special - SIM_NCTAID_X];
    case SIM_LANEID:
      return lane;
    case SIM_WARPID:
      return warp->index;
    case SIM_NWARPID:
      return cta->warp_count;
    case SIM_SMID:
      return cta->number % launch->sm_count;
    case SIM_NSMID:
      return launch->sm_count;
    case SIM_LANEMASK_EQ:
      return 1u << lane;
    case SIM_LANEMASK_LE:
      return (2u << lane) - 1;
    case SIM_LANEMASK_LT:
      return (1u << lane) - 1;
    case SIM_LANEMASK_GE:
      return ~((1u << lane) - 1);
    case SIM_LANEMASK_GT:
      return ~((2u << lane) - 1);
    case SIM_GRIDID:
      return launch->serial;
    case SIM_DYNAMIC_SMEM_SIZE:
      return launch->dynamic_shared_bytes;
    case SIM_TOTAL_SMEM_SIZE:
      return cta->shared_end - SIM_SHARED_START;
    default:
      return 0;
  }
}

static void fill_specials(const struct sim_cta *cta, const struct sim_warp *warp) {
  const struct sim_kernel *kernel = cta->launch->kernel;
  for (u32 i = 0; i < kernel->special_count; i++) {
    const struct sim_special_slot *slot = &kernel->specials[i];
    bool is_wide = slot->special == SIM_GRIDID;
    for (u32 lane = 0; lane < SIM_LANES; lane++) {
      u64 value = special_value(cta, warp, lane, slot->special);
      u32 bytes = is_wide ? 8 : 4;
      memcpy(warp->registers + slot->slot + lane * bytes, &value, bytes);
    }
  }
}

static void start_warp(struct sim_cta *cta, u32 index) {
  const struct sim_kernel *kernel = cta->launch->kernel;
  struct sim_warp *warp = &cta->warps[index];
  u32 threads = cta->thread_count - index * SIM_LANES;
  warp->cta = cta;
  warp->index = index;
  warp->live = threads >= SIM_LANES ? UINT32_MAX : (1u << threads) - 1;
  warp->fragments[0] = (struct sim_fragment){.mask = warp->live};
  warp->fragment_count = 1;
  warp->clock[index] = 1;
  memcpy(warp->registers, kernel->constants, kernel->file_bytes);
  fill_specials(cta, warp);
  memset(warp->local, POISON, (size_t)kernel->local_bytes * SIM_LANES);
}

/* Arrays as large as shared memory: the memory itself, its states, and 4 planes of shadow
 * memory. */
enum { PLANES = 6 };

/* The block: the planes, read_clock per warp, the warps, then registers and local memory per
 * warp. */
static bool lay_out(struct sim_cta *cta) {
  const struct sim_kernel *kernel = cta->launch->kernel;
  size_t shared = round_up(cta->shared_end);
  size_t registers = round_up(kernel->file_bytes);
  size_t local = round_up((size_t)kernel->local_bytes * SIM_LANES);
  size_t warps = round_up(sizeof *cta->warps * cta->warp_count);
  cta->memory_bytes =
      shared * (PLANES + cta->warp_count) + warps + (registers + local) * cta->warp_count;
  cta->memory = sim_room_take(&cta->memory_bytes);
  if (!cta->memory) return false;
  u8 *at = cta->memory;
  memset(at, 0, shared * (PLANES + cta->warp_count) + warps);
  cta->shared = at;
  cta->state = at + shared;
  cta->write_clock = (u16 *)(void *)(at + 2 * shared);
  cta->write_agent = (u16 *)(void *)(at + 3 * shared);
  cta->write_lane = (u16 *)(void *)(at + 4 * shared);
  cta->read_lane = (u16 *)(void *)(at + 5 * shared);
  cta->read_clock = (u16 *)(void *)(at + PLANES * shared);
  cta->plane_items = shared / sizeof(u16);
  at += shared * (PLANES + cta->warp_count);
  cta->warps = (struct sim_warp *)(void *)at;
  at += warps;
  for (u32 i = 0; i < cta->warp_count; i++) {
    cta->warps[i].registers = at;
    cta->warps[i].local = at + registers;
    at += registers + local;
  }
  return true;
}

struct sim_cta *sim_cta_start(struct sim_launch *launch, u32 number) {
  struct sim_cta *cta = calloc(1, sizeof *cta);
  if (!cta) return NULL;
  cta->launch = launch;
  cta->number = number;
  cta->index[0] = number % launch->grid[0];
  cta->index[1] = number / launch->grid[0] % launch->grid[1];
  cta->index[2] = number / launch->grid[0] / launch->grid[1];
  cta->thread_count = launch->block[0] * launch->block[1] * launch->block[2];
  cta->warp_count = (cta->thread_count + SIM_LANES - 1) / SIM_LANES;
  cta->shared_end = launch->kernel->dynamic_shared_offset + launch->dynamic_shared_bytes;
  if (!lay_out(cta)) {
    free(cta);
    return NULL;
  }
  cta->random = launch->seed * 0x9e3779b97f4a7c15u + number;
  memset(cta->shared, POISON, cta->shared_end);
  memset(cta->state, SIM_BYTE_UNINITIALISED, cta->shared_end);
  if (launch->counts) cta->counts = calloc(launch->kernel->code_count, sizeof *cta->counts);
  for (u32 i = 0; i < cta->warp_count; i++) start_warp(cta, i);
  return cta;
}

static void add_counts(struct sim_cta *cta) {
  for (u32 i = 0; i < cta->launch->kernel->code_count; i++) {
    u64 *total = (u64 *)&cta->launch->counts[i];
    const u64 *mine = (const u64 *)&cta->counts[i];
    for (size_t k = 0; k < sizeof *cta->counts / sizeof(u64); k++) {
      __atomic_fetch_add(&total[k], mine[k], __ATOMIC_RELAXED);
    }
  }
}

void sim_cta_end(struct sim_cta *cta) {
  if (cta->counts) add_counts(cta);
  free(cta->counts);
  for (u32 i = 0; i < cta->warp_count; i++) {
    struct sim_warp *warp = &cta->warps[i];
    free(warp->copies);
    sim_known_free(&warp->known);
    sim_known_free(&warp->released);
    sim_known_free(&warp->acquired);
    sim_known_free(&warp->released_here);
    sim_known_free(&warp->acquired_here);
  }
  sim_event_free(cta);
  sim_mbarrier_free(cta);
  for (u32 i = 0; i < SIM_BARRIERS; i++) {
    sim_gathered_free(&cta->barriers[i].arrivals);
  }
  sim_sync_table_free(cta->shared_sync);
  sim_room_give(cta->memory, cta->memory_bytes);
  free(cta);
}

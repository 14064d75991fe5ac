/* race.c - checks and records accesses: see check/race.h. PTX ISA, "Memory Consistency Model".
 *
 * A warp has a time of its own and a vector clock: of every other warp, the latest time that
 * happened before now. An access leaves the warp's time in shadow memory. A later access by another
 * warp races with it unless its clock has that time. So what is found does not depend on the
 * schedule. Two reads do not race, nor two strong accesses.
 *
 * Shared memory has planes of 16 bits per 2 bytes, owned by the CTA (sched/machine.h): the last
 * writer, its time and lane; of each warp the time of its last read; the last reader's lane. An
 * access of n bytes fills n bytes of a plane. Two bytes share one entry, so one-byte accesses are
 * judged against wider ones only. Global memory has a stamp of 64 bits per 4 bytes for the last
 * write, and two for reads (memory/memory.h). */
#include "simgpu/check/race.h"

#include <stdio.h>
#include <string.h>

#include "simgpu/check/report.h"
#include "simgpu/memory/memory.h"

/* write_agent: the warp, and whether the access had one byte or was strong (atomic, volatile). */
enum { NARROW = 0x100, STRONG = 0x200, WRITER_MASK = 0xff };

static bool all_ready(const u8 *state, u32 bytes) {
  u64 words[2];
  if (bytes == 16) {
    memcpy(words, state, 16);
    return words[0] == 0x0202020202020202u && words[1] == 0x0202020202020202u;
  }
  for (u32 i = 0; i < bytes; i++) {
    if (state[i] != SIM_BYTE_READY) return false;
  }
  return true;
}
_Static_assert(SIM_BYTE_READY == 2, "all_ready compares with this");

/* Whether an asynchronous copy will land in some of the bytes, or an mbarrier has them. */
static bool any_taken(const u8 *state, u32 bytes) {
  for (u32 i = 0; i < bytes; i++) {
    if (state[i] >= SIM_BYTE_IN_FLIGHT) return true;
  }
  return false;
}
_Static_assert(SIM_BYTE_MBARRIER > SIM_BYTE_IN_FLIGHT && SIM_BYTE_IN_FLIGHT > SIM_BYTE_FREED,
               "any_taken compares with these");

static bool report_state(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address,
                         const u8 *state, u32 bytes) {
  if (memchr(state, SIM_BYTE_MBARRIER, bytes)) {
    sim_report_access(warp, inst, lane, address, SIM_REPORT_BARRIER,
                      "an mbarrier is here: only its own instructions may touch it");
    return false;
  }
  if (any_taken(state, bytes)) {
    sim_report_access(warp, inst, lane, address, SIM_REPORT_IN_FLIGHT,
                      "an asynchronous copy has not landed here: wait for its group first");
    return false;
  }
  sim_report_access(warp, inst, lane, address, SIM_REPORT_UNINITIALISED,
                    "this memory was never written");
  return true;
}

static void report_race(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u32 address,
                        const char *earlier, u32 other) {
  char text[128];
  snprintf(text, sizeof text, "not ordered with the %s by warp %u: a barrier is missing", earlier,
           other);
  sim_report_access(warp, inst, lane, address, SIM_REPORT_SHARED_RACE, text);
}

static u32 granules(u32 bytes) {
  return bytes < 2 ? 1 : bytes / 2;
}

/* write_lane, read_lane: the lane and the warp's epoch plus 1. 0 for the epoch: too large to
 * judge. */
enum { LANE_BITS = 5, EPOCH_LIMIT = 1 << 11 };

static u16 lane_mark(const struct sim_warp *warp, u32 lane) {
  u32 epoch = warp->epoch < EPOCH_LIMIT - 1 ? warp->epoch + 1 : 0;
  return (u16)(epoch << LANE_BITS | lane);
}

/* Whether another lane of the warp made the earlier access, with no bar.warp.sync since. What
 * ldmatrix reads at one lane's address goes to all lanes, so it counts as another lane's. */
static bool is_lane_race(const struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                         u16 clock, u16 mark) {
  u16 mine = lane_mark(warp, lane);
  bool is_another = inst->convergence != SIM_CONVERGE_NONE || mark != mine;
  return clock == warp->clock[warp->index] && mine >> LANE_BITS && is_another &&
         mark >> LANE_BITS == mine >> LANE_BITS;
}

/* The last write to each granule must have happened before. False: it was reported. */
static bool follows_writes(struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                           u32 address, u32 bytes, bool is_read) {
  const struct sim_cta *cta = warp->cta;
  const u16 *writer = cta->write_agent + address / 2, *clock = cta->write_clock + address / 2;
  const u16 *mark = cta->write_lane + address / 2;
  for (u32 i = 0; i < granules(bytes); i++) {
    u32 other = writer[i] & WRITER_MASK;
    if (bytes == 1 && (writer[i] & NARROW)) continue;
    if (inst->is_strong && (writer[i] & STRONG)) continue;
    if (other == warp->index) {
      if (!is_read || !is_lane_race(warp, inst, lane, clock[i], mark[i])) continue;
      sim_report_access(warp, inst, lane, address, SIM_REPORT_SHARED_RACE,
                        "another lane of the warp wrote this: a __syncwarp is missing");
      return false;
    }
    if (clock[i] <= warp->clock[other]) continue;
    report_race(warp, inst, lane, address, "write", other);
    return false;
  }
  return true;
}

/* The same for each other warp's last read. */
static bool follows_reads(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u32 address,
                          u32 bytes) {
  const struct sim_cta *cta = warp->cta;
  for (u32 other = 0; other < cta->warp_count; other++) {
    if (other == warp->index) continue;
    const u16 *clock = cta->read_clock + other * cta->plane_items + address / 2;
    u16 known = warp->clock[other];
    u32 bad = 0;
    for (u32 i = 0; i < granules(bytes); i++) bad |= clock[i] > known;
    if (!bad) continue;
    report_race(warp, inst, lane, address, "read", other);
    return false;
  }
  return true;
}

/* The same for the warp's own lanes. The plane has the last reader's lane alone. If two lanes read
 * and the last of them writes, its race with the other goes unnoticed. */
static bool follows_own_reads(struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                              u32 address, u32 bytes) {
  const struct sim_cta *cta = warp->cta;
  const u16 *clock = cta->read_clock + warp->index * cta->plane_items + address / 2;
  const u16 *mark = cta->read_lane + address / 2;
  if (inst->convergence != SIM_CONVERGE_NONE) return true;
  for (u32 i = 0; i < granules(bytes); i++) {
    if (!is_lane_race(warp, inst, lane, clock[i], mark[i])) continue;
    sim_report_access(warp, inst, lane, address, SIM_REPORT_SHARED_RACE,
                      "another lane of the warp read this: a __syncwarp is missing");
    return false;
  }
  return true;
}

static void fill(u16 *plane, u16 value, u32 bytes) {
  for (u32 i = 0; i < granules(bytes); i++) plane[i] = value;
}

bool sim_shared_read(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u32 address,
                     u32 bytes) {
  struct sim_cta *cta = warp->cta;
  if (!all_ready(cta->state + address, bytes) &&
      !report_state(warp, inst, lane, address, cta->state + address, bytes)) {
    return false;
  }
  if (cta->clocks_full) return true;
  /* A strong read is not remembered: an atomic write by another warp may follow it at any time. */
  if (bytes > 1 && !inst->is_strong) {
    u16 *mine = cta->read_clock + warp->index * cta->plane_items + address / 2;
    fill(mine, warp->clock[warp->index], bytes);
    /* All lanes execute ldmatrix at once, so no lane can write before it is done. */
    bool is_alone = inst->convergence == SIM_CONVERGE_NONE;
    fill(cta->read_lane + address / 2, is_alone ? lane_mark(warp, lane) : 0, bytes);
  }
  return follows_writes(warp, inst, lane, address, bytes, true);
}

bool sim_shared_write(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u32 address,
                      u32 bytes) {
  struct sim_cta *cta = warp->cta;
  if (any_taken(cta->state + address, bytes)) {
    return report_state(warp, inst, lane, address, cta->state + address, bytes);
  }
  memset(cta->state + address, SIM_BYTE_READY, bytes);
  if (cta->clocks_full) return true;
  bool ordered = follows_writes(warp, inst, lane, address, bytes, false) &&
                 (bytes == 1 || (follows_reads(warp, inst, lane, address, bytes) &&
                                 follows_own_reads(warp, inst, lane, address, bytes)));
  u16 agent = (u16)(warp->index | (bytes == 1 ? NARROW : 0) | (inst->is_strong ? STRONG : 0));
  fill(cta->write_agent + address / 2, agent, bytes);
  fill(cta->write_clock + address / 2, warp->clock[warp->index], bytes);
  fill(cta->write_lane + address / 2, lane_mark(warp, lane), bytes);
  return ordered;
}

void sim_shared_land(struct sim_warp *warp, u32 lane, u32 address, u32 bytes, u16 clock) {
  struct sim_cta *cta = warp->cta;
  memset(cta->state + address, SIM_BYTE_READY, bytes);
  fill(cta->write_agent + address / 2, (u16)warp->index, bytes);
  fill(cta->write_clock + address / 2, clock, bytes);
  fill(cta->write_lane + address / 2, lane_mark(warp, lane), bytes);
}

/* A stamp of global memory, from the lowest bit: time 16, warp 5, CTA 21, bytes of the granule 4 (a
 * bit each), strong 1, launch 15. */
enum { WARP_AT = 16, CTA_AT = 21, BYTES_AT = 42, STRONG_AT = 46, LAUNCH_AT = 47 };
enum { CTA_LIMIT = 1 << 21 };

static inline u32 stamp_launch(u64 stamp) {
  return (u32)(stamp >> LAUNCH_AT);
}
static inline u32 stamp_cta(u64 stamp) {
  return (u32)(stamp >> CTA_AT) & (CTA_LIMIT - 1);
}
static inline u32 stamp_warp(u64 stamp) {
  return (u32)(stamp >> WARP_AT) & 31;
}

static u64 make_stamp(const struct sim_warp *warp, bool is_strong, u64 offset, u32 bytes) {
  u64 covered = bytes >= SIM_GRANULE ? 15 : ((1u << bytes) - 1) << (offset % SIM_GRANULE) & 15;
  return (u64)warp->clock[warp->index] | (u64)warp->index << WARP_AT |
         (u64)warp->cta->number << CTA_AT | covered << BYTES_AT | (u64)is_strong << STRONG_AT |
         (u64)warp->cta->launch->serial << LAUNCH_AT;
}

static bool happened_before(const struct sim_warp *warp, u64 stamp) {
  u32 other = stamp_warp(stamp);
  u16 clock = (u16)stamp;
  if (stamp_cta(stamp) == warp->cta->number) {
    return other == warp->index || clock <= warp->clock[other];
  }
  const struct sim_known_cta *known = sim_known_find(warp->known, stamp_cta(stamp));
  return known && clock <= known->clock[other];
}

/* False: it was reported. Stamps matter of this launch, and of one that it overlaps. */
static bool judge_stamp(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 offset,
                        u64 stamp, u64 mine, const char *earlier) {
  const struct sim_launch *launch = warp->cta->launch;
  if (stamp_launch(stamp) != launch->serial) {
    if (!launch->overlapped || stamp_launch(stamp) != launch->overlapped || warp->grid_awaited) {
      return true;
    }
    sim_report_access(
        warp, inst, lane, SIM_GLOBAL_BASE + offset, SIM_REPORT_EARLY_DEPENDENT,
        "the previous launch may still use this memory: execute griddepcontrol.wait first");
    return false;
  }
  u64 shared_bytes = stamp & mine & 15ull << BYTES_AT, strong = stamp & mine & 1ull << STRONG_AT;
  if (!shared_bytes || strong || happened_before(warp, stamp)) return true;
  char text[160];
  snprintf(text, sizeof text, "not ordered with the %s by CTA %u, warp %u", earlier,
           stamp_cta(stamp), stamp_warp(stamp));
  sim_report_access(warp, inst, lane, SIM_GLOBAL_BASE + offset, SIM_REPORT_GLOBAL_RACE, text);
  return false;
}

static bool is_judged(const struct sim_warp *warp) {
  return !warp->cta->clocks_full && warp->cta->launch->cta_count <= CTA_LIMIT;
}

static inline u64 load_stamp(const u64 *stamp) {
  return __atomic_load_n(stamp, __ATOMIC_RELAXED);
}
static inline void store_stamp(u64 *stamp, u64 value) {
  __atomic_store_n(stamp, value, __ATOMIC_RELAXED);
}

/* The common case: the stamp is not of this launch, and this launch overlaps no other. */
static inline bool is_foreign(const struct sim_launch *launch, u64 stamp) {
  return stamp_launch(stamp) != launch->serial && !launch->overlapped;
}

bool sim_global_read(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 offset,
                     u32 bytes) {
  if (!all_ready(sim_memory.state + offset, bytes)) {
    sim_report_access(warp, inst, lane, SIM_GLOBAL_BASE + offset, SIM_REPORT_UNINITIALISED,
                      "this memory was never written");
  }
  if (!is_judged(warp)) return true;
  u64 mine = make_stamp(warp, inst->is_strong, offset, bytes);
  u64 first = offset / SIM_GRANULE, end = (offset + bytes + SIM_GRANULE - 1) / SIM_GRANULE;
  u64 *readers = sim_memory.read_stamps[warp->cta->number & 1];
  bool ordered = true;
  for (u64 i = first; i < end; i++) {
    u64 stamp = load_stamp(&sim_memory.write_stamps[i]);
    store_stamp(&readers[i], mine);
    if (is_foreign(warp->cta->launch, stamp)) continue;
    ordered &= judge_stamp(warp, inst, lane, offset, stamp, mine, "write");
  }
  return ordered;
}

bool sim_global_write(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 offset,
                      u32 bytes) {
  memset(sim_memory.state + offset, SIM_BYTE_READY, bytes);
  if (!is_judged(warp)) return true;
  u64 mine = make_stamp(warp, inst->is_strong, offset, bytes);
  u64 first = offset / SIM_GRANULE, end = (offset + bytes + SIM_GRANULE - 1) / SIM_GRANULE;
  bool ordered = true;
  for (u64 i = first; i < end; i++) {
    u64 stamps[3] = {load_stamp(&sim_memory.write_stamps[i]),
                     load_stamp(&sim_memory.read_stamps[0][i]),
                     load_stamp(&sim_memory.read_stamps[1][i])};
    store_stamp(&sim_memory.write_stamps[i], mine);
    for (int k = 0; k < 3; k++) {
      if (is_foreign(warp->cta->launch, stamps[k])) continue;
      ordered &= judge_stamp(warp, inst, lane, offset, stamps[k], mine, k ? "read" : "write");
    }
  }
  return ordered;
}

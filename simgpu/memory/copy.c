/* copy.c - cp.async and its groups: see memory/copy.h. PTX ISA, "Data Movement and Conversion
 * Instructions: cp.async".
 *
 * Data lands as late as PTX allows, at the wait of the thread that copies:
 *   cp.async: check source and target, poison the target, note the lane's open group
 *   commit_group: the lane opens the next group
 *   wait_group n: land the copies of all the lane's groups except the latest n
 * Until then an access to the target is reported as in-flight. If a launch is eager, data lands at
 * once. */
#include "simgpu/memory/copy.h"

#include "simgpu/alu/alu.h"
#include "simgpu/check/race.h"
#include "simgpu/check/report.h"
#include "simgpu/decode/decode.h"
#include "simgpu/memory/access.h"
#include "simgpu/memory/memory.h"
#include "simgpu/sched/profile.h"

enum { POISON = 0x7f }; /* NaN in every float format */

/* An instruction has one state space, and a copy has two. So the decoder makes an instruction for
 * each side, with its address, and lets `targets` point to them. They are in the module's pool.
 * Slots: 0 target (in shared), 1 source (in global), 2 bytes taken, if is_uniform. */
struct sides {
  struct sim_inst shared, global;
};

static const struct sides *sides_of(const struct sim_inst *inst) {
  return (const struct sides *)(uintptr_t)inst->targets;
}

static void poison(struct sim_warp *warp, u32 target, u32 bytes) {
  memset(warp->cta->shared + target, POISON, bytes);
  memset(warp->cta->state + target, SIM_BYTE_IN_FLIGHT, bytes);
}

static void land(struct sim_warp *warp, const struct sim_copy *copy, u32 lane, u16 clock) {
  u8 *to = warp->cta->shared + copy->target[lane];
  memcpy(to, sim_memory.bytes + (copy->source[lane] - SIM_GLOBAL_BASE) * (copy->taken[lane] != 0),
         copy->taken[lane]);
  memset(to + copy->taken[lane], 0, copy->bytes - copy->taken[lane]);
  sim_shared_land(warp, lane, copy->target[lane], copy->bytes, clock);
}

static void start_lane(struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                       struct sim_copy *copy) {
  const struct sides *sides = sides_of(inst);
  u64 from = sim_lane_address(warp, &sides->global, 1, lane);
  u64 to = sim_lane_address(warp, &sides->shared, 0, lane);
  u32 bytes = inst->element_bytes, taken = bytes;
  if (inst->is_uniform) memcpy(&taken, SIM_SLOT(u32, 2) + lane, 4);
  if (taken > bytes) taken = bytes;
  if (!sim_locate(warp, &sides->shared, lane, to, bytes, SIM_WRITE)) return;
  /* Of 0 bytes nothing is read, so the address may be anything. */
  if (taken && (from & (bytes - 1))) {
    sim_report_access(warp, inst, lane, from, SIM_REPORT_MISALIGNED,
                      "the source address of a copy is not a multiple of its size");
    return;
  }
  u32 step = taken == bytes ? bytes : taken % 4 ? 1 : 4;
  for (u32 i = 0; i < taken; i += step) {
    if (!sim_locate(warp, &sides->global, lane, from + i, step, SIM_READ)) return;
  }
  copy->group[lane] = warp->open_group[lane];
  copy->target[lane] = (u32)to;
  copy->taken[lane] = taken;
  copy->source[lane] = from;
  if (warp->cta->launch->is_eager) {
    land(warp, copy, lane, warp->clock[warp->index]);
    return;
  }
  copy->lanes |= 1u << lane;
  poison(warp, (u32)to, bytes);
}

static void profile_copy(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  const struct sides *sides = sides_of(inst);
  sim_profile_access(warp, &sides->global, mask, 1, inst->element_bytes);
}

static void copy_async(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  if (warp->cta->counts) profile_copy(warp, inst, mask);
  warp->copies =
      sim_grow(warp->copies, warp->copy_count, &warp->copy_capacity, sizeof *warp->copies);
  struct sim_copy *copy = &warp->copies[warp->copy_count];
  copy->lanes = 0;
  memset(copy->clock, 0, sizeof copy->clock);
  copy->bytes = inst->element_bytes;
  copy->inst = inst;
  copy->serial = warp->copy_serial++;
  SIM_EACH_LANE(lane, mask) start_lane(warp, inst, lane, copy);
  if (copy->lanes) warp->copy_count++;
}

/* Keeps the copy, as number `kept`, if a lane of it is left. Returns how many are kept. */
static u32 keep(struct sim_warp *warp, u32 kept, u32 index) {
  if (!warp->copies[index].lanes) return kept;
  if (kept != index) warp->copies[kept] = warp->copies[index];
  return kept + 1;
}

/* Lands the copies of groups below the limit of their lane, and drops what is done. */
static void land_groups(struct sim_warp *warp, u32 mask, const u32 limits[SIM_LANES]) {
  u32 kept = 0;
  for (u32 i = 0; i < warp->copy_count; i++) {
    struct sim_copy *copy = &warp->copies[i];
    SIM_EACH_LANE(lane, copy->lanes & mask) {
      if (copy->group[lane] >= limits[lane]) continue;
      land(warp, copy, lane, warp->clock[warp->index]);
      copy->lanes &= ~(1u << lane);
    }
    kept = keep(warp, kept, i);
  }
  warp->copy_count = kept;
}

void sim_copy_cover(struct sim_warp *warp, u32 lanes) {
  for (u32 i = 0; i < warp->copy_count; i++) {
    struct sim_copy *copy = &warp->copies[i];
    SIM_EACH_LANE(lane, copy->lanes & lanes) {
      if (!copy->clock[lane]) copy->clock[lane] = warp->clock[warp->index];
    }
  }
}

void sim_copy_land_before(struct sim_warp *warp, u32 lanes, u64 serial) {
  u32 kept = 0;
  for (u32 i = 0; i < warp->copy_count; i++) {
    struct sim_copy *copy = &warp->copies[i];
    u32 landing = copy->serial < serial ? copy->lanes & lanes : 0;
    SIM_EACH_LANE(lane, landing) land(warp, copy, lane, copy->clock[lane]);
    copy->lanes &= ~landing;
    kept = keep(warp, kept, i);
  }
  warp->copy_count = kept;
}

static void commit_group(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  (void)inst;
  SIM_EACH_LANE(lane, mask) warp->open_group[lane]++;
}

static void wait_group(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 limits[SIM_LANES] = {0}, pending = (u32)inst->immediate;
  SIM_EACH_LANE(lane, mask) {
    limits[lane] = warp->open_group[lane] > pending ? warp->open_group[lane] - pending : 0;
  }
  land_groups(warp, mask, limits);
}

static void wait_all(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  commit_group(warp, inst, mask);
  wait_group(warp, inst, mask);
}

void sim_copy_check_end(struct sim_warp *warp) {
  for (u32 i = 0; i < warp->copy_count; i++) {
    const struct sim_copy *copy = &warp->copies[i];
    struct sim_report_place place = {warp->cta, warp, copy->inst, copy->lanes, 0};
    sim_report(SIM_REPORT_LEFT_BEHIND, &place, "the warp ended without a wait for this copy");
  }
  warp->copy_count = 0;
}

static void decode_copy(struct sim_decode *decode, const struct sim_statement *statement,
                        const struct sim_opcode *opcode, struct sim_inst *inst) {
  u32 bytes = sim_literal_value(decode, sim_operand_at(decode, 2));
  bool is_cg = sim_has_modifier(opcode, "cg");
  if (!(bytes == 16 || (!is_cg && (bytes == 4 || bytes == 8)))) {
    sim_decode_fail(decode, "cp.async of %u bytes", bytes);
  }
  inst->element_bytes = (u8)bytes;
  struct sides *sides = sim_pool_take(decode->pool, sizeof *sides);
  sides->shared.space = SIM_SPACE_SHARED;
  sides->global.space = SIM_SPACE_GLOBAL;
  sim_bind_address(decode, sim_operand_at(decode, 0), 0, &sides->shared);
  sim_bind_address(decode, sim_operand_at(decode, 1), 1, &sides->global);
  if (statement->count == 4) {
    inst->slot[2] = sim_bind_source(decode, sim_operand_at(decode, 3), 4);
    inst->is_uniform = true;
  }
  sides->shared.opcode = sides->global.opcode = statement->opcode;
  sides->shared.ptx_line = sides->global.ptx_line = statement->ptx_line;
  sides->shared.location = sides->global.location = statement->location;
  inst->targets = (const u32 *)(const void *)sides;
}

static void decode_wait(struct sim_decode *decode, const struct sim_statement *statement,
                        const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  (void)opcode;
  inst->immediate = sim_literal_value(decode, sim_operand_at(decode, 0));
}

/* Bulk copies (TMA) are not there: no kernel uses them yet. */
#define CLASS SIM_CLASS_ASYNC
static const struct sim_form forms[] = {
    {"cp.async.ca|cg.shared|shared::cta.global.L2::64B|L2::128B|L2::256B?", decode_copy, copy_async,
     NULL, CLASS},
    {"cp.async.commit_group", NULL, commit_group, "=", CLASS},
    {"cp.async.wait_group", decode_wait, wait_group, NULL, CLASS},
    {"cp.async.wait_all", NULL, wait_all, "=", CLASS},
};
SIM_LIST(sim_async_forms, forms);

/* exchange.c - what the lanes of a warp do together: shfl.sync (PTX ISA, "Data Movement and
 * Conversion Instructions"); vote, match, redux, elect, activemask, bar.warp.sync ("Parallel
 * Synchronization and Communication Instructions").
 *
 * The scheduler runs a handler when all lanes of a member mask have arrived, and once for each
 * member mask that lanes name, so `mask` is the members that are live (sched/sched.c). */
#include "simgpu/alu/alu.h"
#include "simgpu/check/report.h"
#include "simgpu/decode/decode.h"

enum { UP, DOWN, BUTTERFLY, INDEX };

/* Slots: 0 target, 1 predicate (or scratch), 2 a, 3 b, 4 c, 5 members. c has the clamp in bits 0 to
 * 4 and in bits 8 to 12 the lane bits that select a segment. A lane whose source lies outside its
 * segment keeps its own value. */
static void shfl(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 *out = SIM_SLOT(u32, 0), old[SIM_LANES], valid = 0, silent = 0;
  const u32 *offsets = SIM_SLOT(u32, 3), *clamps = SIM_SLOT(u32, 4);
  memcpy(old, SIM_SLOT(u32, 2), sizeof old);
  SIM_EACH_LANE(lane, mask) {
    u32 b = offsets[lane] & 31, clamp = clamps[lane] & 31, segment = clamps[lane] >> 8 & 31;
    s32 max_lane = (s32)((lane & segment) | (clamp & ~segment)), min_lane = (s32)(lane & segment);
    s32 source = (s32)lane;
    bool inside;
    switch (inst->variant) {
      case UP:
        source -= (s32)b;
        inside = source >= max_lane;
        break;
      case DOWN:
        source += (s32)b;
        inside = source <= max_lane;
        break;
      case BUTTERFLY:
        source ^= (s32)b;
        inside = source <= max_lane;
        break;
      default:
        source = min_lane | (s32)(b & ~segment);
        inside = source <= max_lane;
        break;
    }
    if (!inside) source = (s32)lane;
    valid |= (u32)inside << lane;
    if (!(mask >> source & 1)) silent |= 1u << lane;
    out[lane] = old[source];
  }
  SIM_PREDICATE(1) = (SIM_PREDICATE(1) & ~mask) | valid;
  if (!silent) return;
  struct sim_report_place place = {warp->cta, warp, inst, silent, 0};
  sim_report(SIM_REPORT_DIVERGENCE, &place, "a lane reads from one that does not take part");
}

static void decode_shfl(struct sim_decode *decode, const struct sim_statement *statement,
                        const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  const struct sim_operand *target = sim_operand_at(decode, 0);
  bool is_pair = target->kind == SIM_OPERAND_PAIR;
  inst->slot[0] = sim_bind_target(decode, is_pair ? &target->items[0] : target, 4);
  inst->slot[1] =
      is_pair ? sim_bind_target(decode, &target->items[1], 0) : sim_scratch_slot(decode, 0);
  for (u32 i = 1; i < 5; i++)
    inst->slot[1 + i] = sim_bind_source(decode, sim_operand_at(decode, i), 4);
  inst->variant = (u8)sim_modifier_among(opcode, "up|down|bfly|idx");
  inst->convergence = SIM_CONVERGE_MEMBERS;
  inst->members = 5;
}

enum { ALL, ANY, UNIFORM, BALLOT };

/* Slots: 0 target, 1 predicate, 2 members. */
static void vote(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 yes = SIM_PREDICATE(1) & mask;
  if (inst->variant == BALLOT) {
    u32 *out = SIM_SLOT(u32, 0);
    SIM_EACH_LANE(lane, mask) out[lane] = yes;
    return;
  }
  bool answer = inst->variant == ALL   ? yes == mask
                : inst->variant == ANY ? yes != 0
                                       : yes == 0 || yes == mask;
  SIM_PREDICATE(0) = (SIM_PREDICATE(0) & ~mask) | (answer ? mask : 0);
}

static void decode_vote(struct sim_decode *decode, const struct sim_statement *statement,
                        const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  inst->variant = (u8)sim_modifier_among(opcode, "all|any|uni|ballot");
  inst->slot[0] =
      sim_bind_target(decode, sim_operand_at(decode, 0), inst->variant == BALLOT ? 4 : 0);
  inst->slot[1] = sim_bind_source(decode, sim_operand_at(decode, 1), 0);
  inst->slot[2] = sim_bind_source(decode, sim_operand_at(decode, 2), 4);
  inst->convergence = SIM_CONVERGE_MEMBERS;
  inst->members = 2;
}

static u64 match_value(const struct sim_warp *warp, const struct sim_inst *inst, u32 lane) {
  u64 value = 0;
  memcpy(&value, warp->registers + inst->slot[2] + lane * inst->stride[2], inst->stride[2]);
  return value;
}

/* Slots: 0 target, 1 predicate (or scratch), 2 a, 3 members. match.any: the members with the same
 * value. match.all: all members if they agree, else none. */
static void match(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 *out = SIM_SLOT(u32, 0), all = mask;
  SIM_EACH_LANE(lane, mask) {
    u64 value = match_value(warp, inst, lane);
    u32 same = 0;
    for (u32 other = 0; other < SIM_LANES; other++) {
      if (mask >> other & 1 && match_value(warp, inst, other) == value) same |= 1u << other;
    }
    all &= same;
    out[lane] = same;
  }
  if (!inst->variant) return;
  bool unanimous = all == mask;
  SIM_EACH_LANE(lane, mask) out[lane] = unanimous ? mask : 0;
  SIM_PREDICATE(1) = (SIM_PREDICATE(1) & ~mask) | (unanimous ? mask : 0);
}

static void decode_match(struct sim_decode *decode, const struct sim_statement *statement,
                         const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  const struct sim_operand *target = sim_operand_at(decode, 0);
  bool is_pair = target->kind == SIM_OPERAND_PAIR;
  inst->stride[2] = sim_has_modifier(opcode, "b64") ? 8 : 4;
  inst->slot[0] = sim_bind_target(decode, is_pair ? &target->items[0] : target, 4);
  inst->slot[1] =
      is_pair ? sim_bind_target(decode, &target->items[1], 0) : sim_scratch_slot(decode, 0);
  inst->slot[2] = sim_bind_source(decode, sim_operand_at(decode, 1), inst->stride[2]);
  inst->slot[3] = sim_bind_source(decode, sim_operand_at(decode, 2), 4);
  inst->variant = sim_has_modifier(opcode, "all");
  inst->convergence = SIM_CONVERGE_MEMBERS;
  inst->members = 3;
}

/* Slots: 0 target, 1 a, 2 members. */
#define REDUCE(name, T, start, ...)                                                \
  static void name(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) { \
    T *out = SIM_SLOT(T, 0), result = start;                                       \
    const T *in = SIM_SLOT(T, 1);                                                  \
    SIM_EACH_LANE(lane, mask) {                                                    \
      T a = in[lane];                                                              \
      result = __VA_ARGS__;                                                        \
    }                                                                              \
    SIM_EACH_LANE(lane, mask) out[lane] = result;                                  \
  }
REDUCE(redux_add, u32, 0, result + a)
REDUCE(redux_min_u32, u32, UINT32_MAX, a < result ? a : result)
REDUCE(redux_max_u32, u32, 0, a > result ? a : result)
REDUCE(redux_min_s32, s32, INT32_MAX, a < result ? a : result)
REDUCE(redux_max_s32, s32, INT32_MIN, a > result ? a : result)
REDUCE(redux_and, u32, UINT32_MAX, result &a)
REDUCE(redux_or, u32, 0, result | a)
REDUCE(redux_xor, u32, 0, result ^ a)

static void decode_redux(struct sim_decode *decode, const struct sim_statement *statement,
                         const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)decode;
  (void)statement;
  (void)opcode;
  inst->convergence = SIM_CONVERGE_MEMBERS;
  inst->members = 2;
}

/* elect.sync d|p, members elects the lowest member. Slots: 0 target, 1 predicate, 2 members. */
static void elect(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 *out = SIM_SLOT(u32, 0), leader = sim_lowest_lane(mask);
  SIM_EACH_LANE(lane, mask) out[lane] = leader;
  SIM_PREDICATE(1) = (SIM_PREDICATE(1) & ~mask) | 1u << leader;
}

static void decode_elect(struct sim_decode *decode, const struct sim_statement *statement,
                         const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  (void)opcode;
  const struct sim_operand *target = sim_operand_at(decode, 0);
  if (target->kind != SIM_OPERAND_PAIR) sim_decode_fail(decode, "elect.sync needs d|p");
  inst->slot[0] = sim_bind_target(decode, &target->items[0], 4);
  inst->slot[1] = sim_bind_target(decode, &target->items[1], 0);
  inst->slot[2] = sim_bind_source(decode, sim_operand_at(decode, 1), 4);
  inst->convergence = SIM_CONVERGE_MEMBERS;
  inst->members = 2;
}

static void activemask(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 *out = SIM_SLOT(u32, 0);
  SIM_EACH_LANE(lane, mask) out[lane] = mask;
}

/* bar.warp.sync waits for its members and orders their memory accesses; the scheduler does both. It
 * is the only instruction of a warp that orders memory: shuffles and votes wait, but order nothing.
 * Slots: 0 members. */
static void warp_barrier(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  (void)warp;
  (void)inst;
  (void)mask;
}

static void decode_warp_barrier(struct sim_decode *decode, const struct sim_statement *statement,
                                const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  (void)opcode;
  inst->slot[0] = sim_bind_source(decode, sim_operand_at(decode, 0), 4);
  inst->convergence = SIM_CONVERGE_MEMBERS;
  inst->members = 0;
  inst->orders_lanes = true;
}

#define CLASS SIM_CLASS_WARP
static const struct sim_form forms[] = {
    {"shfl.sync.up|down|bfly|idx.b32", decode_shfl, shfl, NULL, CLASS},
    {"vote.sync.all|any|uni.pred", decode_vote, vote, NULL, CLASS},
    {"vote.sync.ballot.b32", decode_vote, vote, NULL, CLASS},
    {"match.any|all.sync.b32|b64", decode_match, match, NULL, CLASS},
    {"redux.sync.add.u32|s32", decode_redux, redux_add, "w=ww", CLASS},
    {"redux.sync.min.u32", decode_redux, redux_min_u32, "w=ww", CLASS},
    {"redux.sync.max.u32", decode_redux, redux_max_u32, "w=ww", CLASS},
    {"redux.sync.min.s32", decode_redux, redux_min_s32, "w=ww", CLASS},
    {"redux.sync.max.s32", decode_redux, redux_max_s32, "w=ww", CLASS},
    {"redux.sync.and.b32", decode_redux, redux_and, "w=ww", CLASS},
    {"redux.sync.or.b32", decode_redux, redux_or, "w=ww", CLASS},
    {"redux.sync.xor.b32", decode_redux, redux_xor, "w=ww", CLASS},
    {"elect.sync", decode_elect, elect, NULL, CLASS},
    {"activemask.b32", NULL, activemask, "w=", CLASS},
    {"bar.warp.sync", decode_warp_barrier, warp_barrier, NULL, SIM_CLASS_BARRIER},
};
SIM_LIST(sim_warp_forms, forms);

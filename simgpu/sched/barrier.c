/* barrier.c - named barriers (see sched/barrier.h), fences, and the control flow that needs no
 * handler. PTX ISA, "Parallel Synchronization and Communication Instructions: bar, barrier, membar,
 * fence, griddepcontrol"; "Control Flow Instructions".
 *
 * arrive: count the fragment's threads (with .aligned and a number: its whole warp), join its
 * clocks into the barrier. When all that are expected have arrived: give the result of bar.red to
 * those that wait, join the barrier's clocks into theirs, make them ready, and empty the barrier.
 * So what is done before an arrival happens before what is done after the wait. */
#include "simgpu/sched/barrier.h"

#include "simgpu/alu/alu.h"
#include "simgpu/check/race.h"
#include "simgpu/check/report.h"
#include "simgpu/decode/decode.h"

enum { SYNC, ARRIVE, REDUCE };
enum { REDUCE_NONE, REDUCE_COUNT, REDUCE_AND, REDUCE_OR };

/* Slots of a barrier: 0 its number, 1 threads, 2 predicate of a reduction, 3 its target. variant:
 * SYNC, ARRIVE or REDUCE in the lower 4 bits, the kind of reduction above. is_uniform: no number of
 * threads is given, so all are expected. */
static u32 live_threads(const struct sim_cta *cta) {
  u32 threads = 0;
  for (u32 i = 0; i < cta->warp_count; i++) threads += sim_lane_count(cta->warps[i].live);
  return threads;
}

static void report(struct sim_warp *warp, const struct sim_inst *inst, u32 mask, const char *text) {
  struct sim_report_place place = {warp->cta, warp, inst, mask, 0};
  sim_report(SIM_REPORT_BARRIER, &place, "%s", text);
}

static void deliver(struct sim_warp *warp, const struct sim_fragment *fragment,
                    const struct sim_barrier *barrier) {
  const struct sim_inst *inst = &warp->cta->launch->kernel->code[fragment->pc - 1];
  u8 kind = inst->variant >> 4;
  if (kind == REDUCE_COUNT) {
    u32 *out = SIM_SLOT(u32, 3);
    SIM_EACH_LANE(lane, fragment->mask) out[lane] = barrier->votes;
  } else if (kind != REDUCE_NONE) {
    u32 answer = kind == REDUCE_AND ? barrier->vote_and : barrier->vote_or;
    SIM_PREDICATE(3) = (SIM_PREDICATE(3) & ~fragment->mask) | (answer ? fragment->mask : 0);
  }
}

static void complete(struct sim_cta *cta, u8 number) {
  struct sim_barrier *barrier = &cta->barriers[number];
  for (u32 i = 0; i < cta->warp_count; i++) {
    struct sim_warp *warp = &cta->warps[i];
    bool waits = false;
    for (u32 f = 0; f < warp->fragment_count; f++) {
      struct sim_fragment *fragment = &warp->fragments[f];
      if (fragment->state != SIM_FRAGMENT_AT_BARRIER || fragment->barrier != number) continue;
      deliver(warp, fragment, barrier);
      fragment->state = SIM_FRAGMENT_READY;
      waits = true;
    }
    if (waits) sim_gathered_join(warp, &barrier->arrivals);
  }
  sim_gathered_free(&barrier->arrivals);
  *barrier = (struct sim_barrier){0};
}

static void add_votes(struct sim_barrier *barrier, const struct sim_warp *warp,
                      const struct sim_inst *inst, u32 mask) {
  u32 yes = SIM_PREDICATE(2) & mask;
  barrier->votes += sim_lane_count(yes);
  barrier->vote_or |= yes != 0;
  barrier->vote_and &= yes == mask;
}

/* The number of threads that the instruction expects. 0: it was reported. */
static u32 expected_threads(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  if (inst->is_uniform) return live_threads(warp->cta);
  u32 threads = SIM_SLOT(u32, 1)[sim_lowest_lane(mask)];
  if (threads == 0 || threads % SIM_LANES || threads > warp->cta->warp_count * SIM_LANES) {
    report(warp, inst, mask, "the number of threads must be a multiple of 32 and within the CTA");
    return 0;
  }
  return threads;
}

static bool check_misuse(struct sim_warp *warp, const struct sim_inst *inst, u32 mask,
                         const struct sim_barrier *barrier, u32 expected) {
  if (barrier->expected && barrier->counts_all != inst->is_uniform) {
    report(warp, inst, mask, "some threads wait here for all threads, others for a given number");
    return false;
  }
  if (barrier->expected && !barrier->counts_all && barrier->expected != expected) {
    report(warp, inst, mask, "threads at the same barrier expect different numbers of threads");
    return false;
  }
  if (inst->convergence == SIM_CONVERGE_ALIGNED && barrier->arrived_warps >> warp->index & 1) {
    report(warp, inst, mask, "the warp arrives again before all others have arrived");
    return false;
  }
  return true;
}

bool sim_barrier_arrive(struct sim_warp *warp, const struct sim_inst *inst, u32 mask, u8 *number) {
  u32 id = SIM_SLOT(u32, 0)[sim_lowest_lane(mask)];
  if (id >= SIM_BARRIERS) {
    report(warp, inst, mask, "the number of a barrier must be 0 to 15");
    return true;
  }
  *number = (u8)id;
  struct sim_barrier *barrier = &warp->cta->barriers[id];
  u32 expected = expected_threads(warp, inst, mask);
  if (!expected || !check_misuse(warp, inst, mask, barrier, expected)) return true;
  if (!barrier->expected) barrier->vote_and = 1;
  barrier->expected = expected;
  barrier->counts_all = inst->is_uniform;
  barrier->ptx_line = inst->ptx_line;
  bool in_warps = inst->convergence == SIM_CONVERGE_ALIGNED && !inst->is_uniform;
  barrier->arrived += in_warps ? (u32)SIM_LANES : sim_lane_count(mask);
  barrier->arrived_warps |= 1u << warp->index;
  sim_gather(&barrier->arrivals, warp);
  if ((inst->variant & 15) == REDUCE) add_votes(barrier, warp, inst, mask);
  if (barrier->arrived > expected)
    report(warp, inst, mask, "more threads arrive than the barrier expects");
  if ((inst->variant & 15) == ARRIVE) {
    sim_clock_tick(warp);
    if (barrier->arrived >= expected) complete(warp->cta, (u8)id);
    return true;
  }
  return false;
}

void sim_barrier_recheck(struct sim_cta *cta) {
  for (u32 i = 0; i < SIM_BARRIERS; i++) {
    struct sim_barrier *barrier = &cta->barriers[i];
    if (!barrier->expected) continue;
    if (barrier->counts_all) barrier->expected = live_threads(cta);
    if (barrier->arrived >= barrier->expected) complete(cta, (u8)i);
  }
}

void sim_barrier_check_end(struct sim_cta *cta, const struct sim_inst *last) {
  for (u32 i = 0; i < SIM_BARRIERS; i++) {
    struct sim_barrier *barrier = &cta->barriers[i];
    if (!barrier->arrived) continue;
    struct sim_report_place place = {cta, NULL, last, 0, i};
    sim_report(SIM_REPORT_LEFT_BEHIND, &place,
               "the CTA ended with barrier %u incomplete: %u of %u threads arrived (PTX line %u)",
               i, barrier->arrived, barrier->expected, barrier->ptx_line);
  }
  for (u32 i = 0; i < SIM_BARRIERS; i++) {
    sim_gathered_free(&cta->barriers[i].arrivals);
    cta->barriers[i] = (struct sim_barrier){0};
  }
}

static void decode_barrier(struct sim_decode *decode, const struct sim_statement *statement,
                           const struct sim_opcode *opcode, struct sim_inst *inst) {
  int what = sim_modifier_among(opcode, "sync|arrive|red");
  int reduction = sim_modifier_among(opcode, "popc|and|or");
  u32 at = 0, values = statement->count;
  inst->flow = SIM_FLOW_BARRIER;
  inst->variant = (u8)(what | (reduction + 1) << 4);
  bool is_aligned = !strcmp(opcode->modifiers[0], "bar") || sim_has_modifier(opcode, "aligned");
  inst->convergence = is_aligned ? SIM_CONVERGE_ALIGNED : SIM_CONVERGE_NONE;
  if (what == REDUCE) {
    inst->slot[3] = sim_bind_target(decode, sim_operand_at(decode, at++), reduction == 0 ? 4 : 0);
    inst->slot[2] = sim_bind_source(decode, sim_operand_at(decode, --values), 0);
  }
  inst->slot[0] = sim_bind_source(decode, sim_operand_at(decode, at++), 4);
  inst->is_uniform = at == values;
  if (!inst->is_uniform) inst->slot[1] = sim_bind_source(decode, sim_operand_at(decode, at), 4);
}

static void jump(struct sim_decode *decode, const struct sim_statement *statement,
                 const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  (void)opcode;
  (void)decode;
  inst->flow = SIM_FLOW_BRANCH;
}

static void jump_indexed(struct sim_decode *decode, const struct sim_statement *statement,
                         const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  (void)opcode;
  inst->flow = SIM_FLOW_INDEXED;
  inst->slot[0] = sim_bind_source(decode, sim_operand_at(decode, 0), 4);
}

/* A return from an expanded call jumps to the end of the expansion. */
static void leave(struct sim_decode *decode, const struct sim_statement *statement,
                  const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  bool is_call = decode->depth > 0 && !strcmp(opcode->modifiers[0], "ret");
  inst->flow = is_call ? SIM_FLOW_BRANCH : SIM_FLOW_EXIT;
}

static void trap(struct sim_decode *decode, const struct sim_statement *statement,
                 const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)decode;
  (void)statement;
  (void)opcode;
  inst->flow = SIM_FLOW_TRAP;
}

/* __assertfail is the only function without a body that may be called: it ends in a trap. */
static void call(struct sim_decode *decode, const struct sim_statement *statement,
                 const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)opcode;
  for (u32 i = 0; i < statement->count; i++) {
    const char *name = statement->operands[i].name;
    if (statement->operands[i].kind == SIM_OPERAND_NAME && name && !strcmp(name, "__assertfail")) {
      inst->flow = SIM_FLOW_TRAP;
      return;
    }
  }
  if (inst->is_guarded) sim_decode_fail(decode, "unsupported: a call under a guard");
  sim_expand_call(decode, statement);
}

static void fence(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  (void)mask;
  sim_fence(warp, inst->scope);
}

static void decode_fence(struct sim_decode *decode, const struct sim_statement *statement,
                         const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)decode;
  (void)statement;
  static const u8 scopes[] = {SIM_SCOPE_CTA, SIM_SCOPE_CLUSTER, SIM_SCOPE_GPU, SIM_SCOPE_GPU,
                              SIM_SCOPE_SYS};
  inst->scope = scopes[sim_modifier_among(opcode, "cta|cluster|gl|gpu|sys")];
}

static void wait_for_grid(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  (void)inst;
  (void)mask;
  warp->grid_awaited = true;
}

static void sleep(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  (void)inst;
  (void)mask;
  warp->gives_way = true;
}

/* Hints, which change nothing but time. */
static void nothing(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  (void)warp;
  (void)inst;
  (void)mask;
}

static void ignore(struct sim_decode *decode, const struct sim_statement *statement,
                   const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)decode;
  (void)statement;
  (void)opcode;
  inst->run = nothing;
}

static const struct sim_form forms[] = {
    {"bar.sync|arrive", decode_barrier, NULL, NULL, SIM_CLASS_BARRIER},
    {"bar.cta.sync|arrive", decode_barrier, NULL, NULL, SIM_CLASS_BARRIER},
    {"barrier.cta?.sync|arrive.aligned?", decode_barrier, NULL, NULL, SIM_CLASS_BARRIER},
    {"bar.cta?.red.popc.u32", decode_barrier, NULL, NULL, SIM_CLASS_BARRIER},
    {"bar.cta?.red.and|or.pred", decode_barrier, NULL, NULL, SIM_CLASS_BARRIER},
    {"barrier.cta?.red.popc.aligned?.u32", decode_barrier, NULL, NULL, SIM_CLASS_BARRIER},
    {"barrier.cta?.red.and|or.aligned?.pred", decode_barrier, NULL, NULL, SIM_CLASS_BARRIER},
    {"bra.uni?", jump, NULL, NULL, SIM_CLASS_CONTROL},
    {"brx.idx.uni?", jump_indexed, NULL, NULL, SIM_CLASS_CONTROL},
    {"ret.uni?", leave, NULL, NULL, SIM_CLASS_CONTROL},
    {"exit", leave, NULL, NULL, SIM_CLASS_CONTROL},
    {"trap", trap, NULL, NULL, SIM_CLASS_CONTROL},
    {"call.uni?", call, NULL, NULL, SIM_CLASS_CONTROL},
    {"membar.cta|gl|sys", decode_fence, fence, NULL, SIM_CLASS_BARRIER},
    {"fence.sc|acq_rel?.cta|cluster|gpu|sys", decode_fence, fence, NULL, SIM_CLASS_BARRIER},
    /* It makes an init known to other CTAs of the cluster; barriers order those of this one. */
    {"fence.mbarrier_init.release.cluster", ignore, NULL, NULL, SIM_CLASS_BARRIER},
    {"griddepcontrol.wait", NULL, wait_for_grid, "=", SIM_CLASS_CONTROL},
    {"griddepcontrol.launch_dependents", ignore, NULL, NULL, SIM_CLASS_CONTROL},
    {"nanosleep.u32", NULL, sleep, "=w", SIM_CLASS_CONTROL},
    {"prefetch.global?.L1|L2", ignore, NULL, NULL, SIM_CLASS_MEMORY},
    {"prefetchu.L1", ignore, NULL, NULL, SIM_CLASS_MEMORY},
};
SIM_LIST(sim_control_forms, forms);

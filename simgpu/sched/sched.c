/* sched.c - the interpreter's loop and the scheduler: see sched/turn.h. PTX ISA, "Divergence of
 * Threads in Control Constructs".
 *
 *   a CTA, when a host thread gives it a turn (sched/crew.c): give every warp a slice, in random
 *   order, until it ends or the turn is over
 *   a warp, until its slice is used up: run the fragment at the lowest address
 *   a fragment, until it waits, jumps, ends or meets another: call the handlers
 *
 * A fragment is the lanes of a warp that are at the same instruction; a branch splits it, and
 * fragments that meet are merged. Running the lowest address first makes them meet soonest. A slice
 * is a random number of instructions. A CTA whose warps all poll in vain gives way to others, so
 * that the one it waits for can run. */
#include <stdio.h>
#include <string.h>

#include "simgpu/alu/alu.h"
#include "simgpu/check/report.h"
#include "simgpu/memory/copy.h"
#include "simgpu/sched/barrier.h"
#include "simgpu/sched/event.h"
#include "simgpu/sched/mbarrier.h"
#include "simgpu/sched/profile.h"
#include "simgpu/sched/turn.h"

enum { NO_FRAGMENT = SIM_LANES, NEVER = UINT32_MAX };

static void report_divergence(struct sim_warp *warp, const struct sim_inst *inst, u32 lanes,
                              const char *text) {
  struct sim_report_place place = {warp->cta, warp, inst, lanes, 0};
  sim_report(SIM_REPORT_DIVERGENCE, &place, "%s", text);
}

/* Those lanes of `mask` that name the same member mask as its lowest lane. */
static u32 group_of(const struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  const u32 *members = SIM_SLOT(u32, inst->members);
  u32 wanted = members[sim_lowest_lane(mask)], group = 0;
  SIM_EACH_LANE(lane, mask) group |= (u32)(members[lane] == wanted) << lane;
  return group;
}

/* Whether all lanes have come that `needed` has. `standing` are the fragment's lanes, `mask` those
 * of them whose guard is true. */
static bool have_come(struct sim_warp *warp, const struct sim_inst *inst, u32 needed, u32 standing,
                      u32 mask) {
  if ((mask & needed) == needed) return true;
  if ((standing & needed) != needed) return false;
  report_divergence(warp, inst, needed & ~mask,
                    "the guard of this instruction is false in some lanes");
  return true;
}

/* A group of lanes that name one member mask. */
static bool has_come(struct sim_warp *warp, const struct sim_inst *inst, u32 group, u32 standing,
                     u32 mask) {
  u32 members = SIM_SLOT(u32, inst->members)[sim_lowest_lane(group)], needed = members & warp->live;
  if (!have_come(warp, inst, needed, standing, mask)) return false;
  if (group & ~members) {
    report_divergence(warp, inst, group & ~members, "a lane is not in its own member mask");
  } else if (needed & mask & ~group) {
    report_divergence(warp, inst, needed & mask & ~group,
                      "lanes of one member mask name different ones");
  }
  return true;
}

/* The lanes of `mask` that may execute the instruction now. Lanes that name different member masks
 * are groups of their own, and some may have come while others have not. */
static u32 converged_lanes(struct sim_warp *warp, const struct sim_inst *inst, u32 standing,
                           u32 mask) {
  if (inst->convergence == SIM_CONVERGE_ALIGNED) {
    return have_come(warp, inst, warp->live, standing, mask) ? mask : 0;
  }
  u32 ready = 0;
  for (u32 rest = mask; rest;) {
    u32 group = group_of(warp, inst, rest);
    if (has_come(warp, inst, group, standing, mask)) ready |= group;
    rest &= ~group;
  }
  return ready;
}

static void run_groups(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  while (mask) {
    u32 group = group_of(warp, inst, mask);
    inst->run(warp, inst, group);
    mask &= ~group;
  }
}

static void remove_fragment(struct sim_warp *warp, u32 index) {
  warp->fragments[index] = warp->fragments[--warp->fragment_count];
}

static void add_fragment(struct sim_warp *warp, u32 pc, u32 mask) {
  warp->fragments[warp->fragment_count++] = (struct sim_fragment){.pc = pc, .mask = mask};
}

static void wake_converging(struct sim_warp *warp) {
  for (u32 i = 0; i < warp->fragment_count; i++) {
    if (warp->fragments[i].state == SIM_FRAGMENT_CONVERGING) {
      warp->fragments[i].state = SIM_FRAGMENT_READY;
    }
  }
}

static void end_lanes(struct sim_warp *warp, u32 mask) {
  warp->live &= ~mask;
  wake_converging(warp);
  if (!warp->live) {
    sim_event_flush(warp);
    sim_copy_check_end(warp);
  }
  sim_barrier_recheck(warp->cta);
}

/* Merges the fragments at the same instruction into this one. Its index may change: it is
 * returned. */
static u32 merge(struct sim_warp *warp, u32 index) {
  for (u32 i = 0; i < warp->fragment_count; i++) {
    struct sim_fragment *mine = &warp->fragments[index], *other = &warp->fragments[i];
    if (i == index || other->state == SIM_FRAGMENT_AT_BARRIER || other->pc != mine->pc) continue;
    mine->mask |= other->mask;
    mine->state = SIM_FRAGMENT_READY;
    u32 last = warp->fragment_count - 1;
    remove_fragment(warp, i);
    if (index == last) index = i;
    i--;
  }
  return index;
}

/* The lowest address after this fragment's at which another fragment is. */
static u32 next_meeting(const struct sim_warp *warp, u32 index) {
  u32 pc = warp->fragments[index].pc, nearest = NEVER;
  for (u32 i = 0; i < warp->fragment_count; i++) {
    const struct sim_fragment *other = &warp->fragments[i];
    if (i == index || other->state == SIM_FRAGMENT_AT_BARRIER || other->pc <= pc) continue;
    if (other->pc < nearest) nearest = other->pc;
  }
  return nearest;
}

static void branch(struct sim_warp *warp, const struct sim_inst *inst, u32 index, u32 mask) {
  struct sim_fragment *fragment = &warp->fragments[index];
  u32 stay = fragment->mask & ~mask;
  if (stay) {
    fragment->mask = stay;
    fragment->pc++;
    add_fragment(warp, inst->target, mask);
  } else {
    fragment->pc = inst->target;
  }
}

static void branch_indexed(struct sim_warp *warp, const struct sim_inst *inst, u32 index,
                           u32 mask) {
  struct sim_fragment *fragment = &warp->fragments[index];
  const u32 *choice = SIM_SLOT(u32, 0);
  u32 stay = fragment->mask & ~mask, rest = mask;
  fragment->pc++;
  fragment->mask = stay;
  while (rest) {
    u32 wanted = choice[sim_lowest_lane(rest)], same = 0;
    SIM_EACH_LANE(lane, rest) same |= (u32)(choice[lane] == wanted) << lane;
    if (wanted >= inst->target_count) {
      report_divergence(warp, inst, same, "the index of brx.idx is beyond its list of targets");
      wanted = 0;
    }
    add_fragment(warp, inst->targets[wanted], same);
    rest &= ~same;
  }
  if (!stay) remove_fragment(warp, index);
}

static void stop_by_trap(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  struct sim_report_place place = {warp->cta, warp, inst, mask, 0};
  sim_report(SIM_REPORT_TRAP, &place, "the kernel executed a trap or a failed assertion");
  warp->cta->stopped = true;
}

/* Executes an instruction without a handler. Afterwards the fragment may be gone. */
static void execute_flow(struct sim_warp *warp, const struct sim_inst *inst, u32 index, u32 mask) {
  struct sim_fragment *fragment = &warp->fragments[index];
  switch (inst->flow) {
    case SIM_FLOW_BRANCH:
      branch(warp, inst, index, mask);
      break;
    case SIM_FLOW_INDEXED:
      branch_indexed(warp, inst, index, mask);
      break;
    case SIM_FLOW_BARRIER:
      fragment->pc++;
      if (sim_barrier_arrive(warp, inst, mask, &fragment->barrier)) break;
      fragment->state = SIM_FRAGMENT_AT_BARRIER;
      sim_barrier_recheck(warp->cta);
      break;
    case SIM_FLOW_EXIT:
      fragment->mask &= ~mask;
      fragment->pc++;
      if (!fragment->mask) remove_fragment(warp, index);
      end_lanes(warp, mask);
      break;
    default:
      stop_by_trap(warp, inst, mask);
      break;
  }
}

static void count(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  struct sim_counts *counts = &warp->cta->counts[inst - warp->cta->launch->kernel->code];
  counts->executed++;
  counts->lanes += sim_lane_count(mask);
}

/* The fragment goes on without these lanes, which wait where they are for others. */
static void leave_waiting(struct sim_warp *warp, u32 index, u32 lanes) {
  struct sim_fragment *fragment = &warp->fragments[index];
  fragment->mask &= ~lanes;
  add_fragment(warp, fragment->pc, lanes);
  warp->fragments[warp->fragment_count - 1].state = SIM_FRAGMENT_CONVERGING;
}

/* Runs one fragment until it waits, ends, jumps, meets another, or the slice is used up. */
static void run_fragment(struct sim_warp *warp, u32 index, u32 *slice) {
  const struct sim_inst *code = warp->cta->launch->kernel->code;
  index = merge(warp, index);
  u32 meeting = next_meeting(warp, index);
  struct sim_fragment *fragment = &warp->fragments[index];
  while (*slice > 0) {
    const struct sim_inst *inst = &code[fragment->pc];
    u32 mask = fragment->mask;
    if (inst->is_guarded) {
      u32 guard = *(const u32 *)(warp->registers + inst->guard_slot);
      mask &= inst->guard_negated ? ~guard : guard;
    }
    if (mask && inst->convergence) {
      u32 ready = converged_lanes(warp, inst, fragment->mask, mask);
      if (!ready) {
        fragment->state = SIM_FRAGMENT_CONVERGING;
        return;
      }
      if (ready != mask) leave_waiting(warp, index, mask & ~ready);
      mask = ready;
      warp->epoch += inst->orders_lanes;
    }
    --*slice;
    warp->steps++;
    if (warp->cta->counts && mask) count(warp, inst, mask);
    if (mask && inst->flow != SIM_FLOW_NEXT) {
      execute_flow(warp, inst, index, mask);
      return;
    }
    if (mask) {
      bool in_groups = inst->convergence == SIM_CONVERGE_MEMBERS;
      (in_groups ? run_groups : inst->run)(warp, inst, mask);
    }
    if (++fragment->pc >= meeting || warp->polls_in_vain || warp->gives_way) return;
  }
}

/* The lowest address first; after a poll in vain or a sleep, and now and then, a random one, so
 * that lanes that spin cannot starve the rest. */
static u32 choose_fragment(struct sim_warp *warp) {
  u32 best = NO_FRAGMENT, ready = 0;
  for (u32 i = 0; i < warp->fragment_count; i++) {
    if (warp->fragments[i].state != SIM_FRAGMENT_READY) continue;
    ready++;
    if (best == NO_FRAGMENT || warp->fragments[i].pc < warp->fragments[best].pc) best = i;
  }
  bool any = warp->polls_in_vain || warp->gives_way || warp->steps % 64 == 63;
  warp->polls_in_vain = warp->gives_way = false;
  if (ready < 2 || !any) return best;
  u32 pick = (u32)(sim_random(&warp->cta->random) % ready);
  for (u32 i = 0; i < warp->fragment_count; i++) {
    if (warp->fragments[i].state == SIM_FRAGMENT_READY && pick-- == 0) return i;
  }
  return best;
}

/* Reports lanes that wait for lanes of their warp that wait elsewhere. */
static void check_stuck(struct sim_warp *warp) {
  for (u32 i = 0; i < warp->fragment_count; i++) {
    struct sim_fragment *fragment = &warp->fragments[i];
    if (fragment->state != SIM_FRAGMENT_CONVERGING) continue;
    for (u32 k = 0; k < warp->fragment_count; k++) {
      if (warp->fragments[k].state == SIM_FRAGMENT_READY) return;
    }
    const struct sim_inst *inst = &warp->cta->launch->kernel->code[fragment->pc];
    if (inst->convergence == SIM_CONVERGE_MEMBERS && warp->fragment_count > 1) {
      u32 parked = 0;
      for (u32 k = 0; k < warp->fragment_count; k++) {
        parked |= warp->fragments[k].state == SIM_FRAGMENT_AT_BARRIER;
      }
      if (parked) return; /* a barrier may still bring them */
    }
    report_divergence(warp, inst, fragment->mask,
                      "lanes that must execute this together are at other instructions");
    warp->cta->stopped = true;
    return;
  }
}

/* How far a warp or a CTA gets in a go: not at all, it polls in vain, or on. */
enum gain { GAIN_NONE, GAIN_POLLS, GAIN_SOME };

static enum gain more_of(enum gain a, enum gain b) {
  return a > b ? a : b;
}

/* A poll in vain, or a sleep, ends the go, unless other lanes of the warp can run. The poll shows
 * that nothing has changed since the same poll before, whatever was executed in between. */
static enum gain run_warp(struct sim_warp *warp, u32 slice) {
  bool moves = false, polls = false;
  warp->got_on = false;
  while (slice > 0 && warp->fragment_count && !warp->cta->stopped) {
    u32 index = choose_fragment(warp);
    if (index == NO_FRAGMENT) {
      check_stuck(warp);
      break;
    }
    u64 before = warp->steps;
    run_fragment(warp, index, &slice);
    moves = !warp->polls_in_vain && (moves || warp->steps != before);
    polls |= warp->polls_in_vain;
    if ((warp->polls_in_vain || warp->gives_way) && warp->fragment_count < 2) break;
  }
  return moves || warp->got_on ? GAIN_SOME : polls ? GAIN_POLLS : GAIN_NONE;
}

static void describe_waiters(struct sim_cta *cta, char *text, size_t bytes) {
  size_t used = 0;
  for (u32 i = 0; i < cta->warp_count; i++) {
    const struct sim_warp *warp = &cta->warps[i];
    for (u32 f = 0; f < warp->fragment_count && used < bytes; f++) {
      const struct sim_fragment *fragment = &warp->fragments[f];
      bool parked = fragment->state == SIM_FRAGMENT_AT_BARRIER;
      const struct sim_inst *inst = &cta->launch->kernel->code[fragment->pc - parked];
      char wait[192];
      sim_mbarrier_describe_wait(warp, wait, sizeof wait);
      int length = snprintf(text + used, bytes - used,
                            "%swarp %u lanes 0x%08x at %s, PTX line %u%s", used ? "; " : "", i,
                            fragment->mask, inst->opcode, inst->ptx_line, parked ? "" : wait);
      if (length < 0) return;
      used += (size_t)length;
    }
  }
}

void sim_cta_report_deadlock(struct sim_cta *cta) {
  char waiters[900] = "";
  describe_waiters(cta, waiters, sizeof waiters);
  for (u32 i = 0; i < cta->warp_count; i++) {
    const struct sim_warp *warp = &cta->warps[i];
    if (!warp->fragment_count) continue;
    const struct sim_fragment *fragment = &warp->fragments[0];
    bool parked = fragment->state == SIM_FRAGMENT_AT_BARRIER;
    struct sim_report_place place = {cta, warp, &cta->launch->kernel->code[fragment->pc - parked],
                                     fragment->mask, 0};
    sim_report(SIM_REPORT_DEADLOCK, &place, "no thread can continue: %s", waiters);
    break;
  }
  cta->stopped = true;
}

static void finish(struct sim_cta *cta) {
  const struct sim_kernel *kernel = cta->launch->kernel;
  if (!cta->stopped) {
    sim_barrier_check_end(cta, &kernel->code[kernel->code_count - 1]);
    sim_mbarrier_check_end(cta, &kernel->code[kernel->code_count - 1]);
  }
  cta->is_done = true;
}

/* Gives every warp a slice, beginning with a random one. The CTA may be done afterwards. */
static enum gain run_round(struct sim_cta *cta) {
  enum { SLICE_MIN = 16, SLICE_BITS = 9 };
  u32 first = (u32)(sim_random(&cta->random) % cta->warp_count), ended = 0;
  enum gain gain = GAIN_NONE;
  bool is_busy = false;
  for (u32 i = 0; i < cta->warp_count && !cta->stopped; i++) {
    struct sim_warp *warp = &cta->warps[(first + i) % cta->warp_count];
    /* Small equal slices are nearest to what hardware does with warps that can all run. */
    bool is_even = cta->launch->is_eager;
    u32 slice = is_even ? 4 : SLICE_MIN << sim_random(&cta->random) % SLICE_BITS;
    enum gain mine = run_warp(warp, slice);
    is_busy |= mine == GAIN_SOME && !warp->gives_way;
    gain = more_of(gain, mine);
    ended += !warp->fragment_count;
  }
  /* Now and then, or when nothing else can, an asynchronous event happens. */
  bool lets_happen = !is_busy || sim_random(&cta->random) % 4 == 0;
  if (cta->event_count && lets_happen && sim_event_happen(cta)) gain = GAIN_SOME;
  bool has_ended = ended == cta->warp_count || cta->stopped;
  if (gain == GAIN_NONE && !has_ended) sim_cta_report_deadlock(cta);
  if (gain == GAIN_NONE || has_ended) finish(cta);
  return gain;
}

/* A turn is long enough for nearly every CTA to end in it. */
enum { ROUNDS_IN_A_TURN = 4096 };

bool sim_cta_run_turn(struct sim_cta *cta, u64 *rounds) {
  enum gain gain = GAIN_SOME;
  u32 round = 0;
  while (round < ROUNDS_IN_A_TURN && !cta->is_done && gain == GAIN_SOME) {
    gain = run_round(cta);
    round++;
  }
  u32 useful = round - (gain != GAIN_SOME);
  *rounds += useful;
  return useful > 0 || cta->is_done;
}

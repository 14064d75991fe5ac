/* mbarrier.c - mbarrier objects: see sched/mbarrier.h. PTX ISA, "Parallel Synchronization and
 * Communication Instructions: mbarrier", and "cp.async.mbarrier.arrive".
 *
 * An mbarrier counts arrivals and the bytes that asynchronous copies bring. When none of both is
 * missing, its phase is complete, and the next one expects as many arrivals. To arrive is to leave
 * one's clock, to wait with success is to take the clocks of all who arrived in completed phases.
 *
 * The object's eight bytes have a state of their own: only these instructions may touch them. A
 * state that arrive returns has the phase in its lower half, and above it the arrivals that were
 * missing. */
#include "simgpu/sched/mbarrier.h"

#include <stdio.h>
#include <stdlib.h>

#include "simgpu/alu/alu.h"
#include "simgpu/check/race.h"
#include "simgpu/check/report.h"
#include "simgpu/decode/decode.h"
#include "simgpu/memory/access.h"
#include "simgpu/memory/copy.h"
#include "simgpu/sched/event.h"
#include "simgpu/sched/poll.h"

enum { OBJECT_BYTES = 8, COUNT_MAX = (1 << 20) - 1 };

/* Slots of all: 0 target, 1 address, 2 count, bytes, state or parity. */
enum { SLOT_TARGET, SLOT_ADDRESS, SLOT_VALUE };

static void report(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u32 address,
                   const char *text) {
  sim_report_access(warp, inst, lane, address, SIM_REPORT_BARRIER, text);
}

/* ---- Objects ---- */

static struct sim_mbarrier *find(struct sim_cta *cta, u32 address) {
  for (u32 i = 0; i < cta->mbarrier_count; i++) {
    if (cta->mbarriers[i].address == address) return &cta->mbarriers[i];
  }
  return NULL;
}

/* False: it was reported. */
static bool find_address(struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                         u32 *address) {
  u64 at = sim_lane_address(warp, inst, SLOT_ADDRESS, lane);
  bool is_shared = inst->space == SIM_SPACE_SHARED || at >> SIM_WINDOW_SHIFT == 1;
  *address = (u32)(at & SIM_WINDOW_MASK);
  if (!is_shared || *address < SIM_SHARED_START ||
      *address + OBJECT_BYTES > warp->cta->shared_end) {
    sim_report_access(warp, inst, lane, at, SIM_REPORT_OUT_OF_BOUNDS,
                      "an mbarrier lies in the CTA's shared memory");
    return false;
  }
  if (*address % OBJECT_BYTES == 0) return true;
  sim_report_access(warp, inst, lane, at, SIM_REPORT_MISALIGNED,
                    "the address of an mbarrier must be a multiple of 8");
  return false;
}

/* The object at the lane's address. NULL: it was reported. */
static struct sim_mbarrier *require(struct sim_warp *warp, const struct sim_inst *inst, u32 lane) {
  u32 address;
  if (!find_address(warp, inst, lane, &address)) return NULL;
  struct sim_mbarrier *object = find(warp->cta, address);
  if (!object) {
    report(warp, inst, lane, address, "no mbarrier is here: mbarrier.init is missing");
    return NULL;
  }
  bool is_known =
      object->initialiser == warp->index || object->initialised <= warp->clock[object->initialiser];
  if (!is_known && !warp->cta->clocks_full) {
    sim_report_access(warp, inst, lane, address, SIM_REPORT_SHARED_RACE,
                      "not ordered with the mbarrier's init: a barrier is missing");
  }
  return object;
}

static void initialise(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  const u32 *counts = SIM_SLOT(u32, SLOT_VALUE);
  SIM_EACH_LANE(lane, mask) {
    struct sim_cta *cta = warp->cta;
    u32 address;
    if (!find_address(warp, inst, lane, &address)) continue;
    if (counts[lane] == 0 || counts[lane] > COUNT_MAX) {
      report(warp, inst, lane, address, "the count of an mbarrier must be 1 to 2^20 - 1");
      continue;
    }
    if (find(cta, address)) {
      report(warp, inst, lane, address, "there is an mbarrier here: mbarrier.inval comes first");
      continue;
    }
    if (!sim_shared_write(warp, inst, lane, address, OBJECT_BYTES)) continue;
    memset(cta->state + address, SIM_BYTE_MBARRIER, OBJECT_BYTES);
    cta->mbarriers = sim_grow(cta->mbarriers, cta->mbarrier_count, &cta->mbarrier_capacity,
                              sizeof *cta->mbarriers);
    cta->mbarriers[cta->mbarrier_count++] =
        (struct sim_mbarrier){.address = address,
                              .expected = counts[lane],
                              .pending = counts[lane],
                              .initialiser = warp->index,
                              .initialised = warp->clock[warp->index],
                              .ptx_line = inst->ptx_line};
  }
}

static void forget(struct sim_cta *cta, struct sim_mbarrier *object) {
  memset(cta->state + object->address, SIM_BYTE_UNINITIALISED, OBJECT_BYTES);
  sim_gathered_free(&object->arrivals);
  sim_gathered_free(&object->done);
  *object = cta->mbarriers[--cta->mbarrier_count];
}

static void invalidate(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  SIM_EACH_LANE(lane, mask) {
    struct sim_mbarrier *object = require(warp, inst, lane);
    if (object) forget(warp->cta, object);
  }
}

/* ---- Phases ---- */

/* Begins the next phase if this one is complete. */
static void settle(struct sim_mbarrier *object) {
  if (object->pending || object->transactions) return;
  object->phase++;
  object->pending = object->expected;
  sim_gather_all(&object->done, &object->arrivals);
  sim_gathered_free(&object->arrivals);
}

static void add_transactions(struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                             struct sim_mbarrier *object, s64 bytes) {
  object->transactions += bytes;
  if (object->transactions > COUNT_MAX || object->transactions < -COUNT_MAX) {
    report(warp, inst, lane, object->address, "more than 2^20 - 1 bytes are expected in a phase");
  }
}

static void count_arrivals(struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                           struct sim_mbarrier *object, u32 count) {
  if (count > object->pending) {
    char text[128];
    snprintf(text, sizeof text, "%u arrive, but phase %u expects %u more of %u", count,
             object->phase, object->pending, object->expected);
    report(warp, inst, lane, object->address, text);
    count = object->pending;
  }
  object->pending -= count;
}

void sim_mbarrier_complete(struct sim_warp *warp, const struct sim_inst *inst, u32 address,
                           u32 lanes, const struct sim_gathered *arrivals) {
  struct sim_mbarrier *object = find(warp->cta, address);
  if (!object) {
    report(warp, inst, sim_lowest_lane(lanes), address,
           "the mbarrier is gone before a copy landed");
    return;
  }
  sim_gather_all(&object->arrivals, arrivals);
  count_arrivals(warp, inst, sim_lowest_lane(lanes), object, sim_lane_count(lanes));
  settle(object);
}

/* ---- Arrivals ---- */

/* variant, of arrive: a bit each. */
enum { EXPECTS = 1, DROPS = 2, NOT_LAST = 4, RETURNS = 8, HAS_VALUE = 16 };

static void arrive_lane(struct sim_warp *warp, const struct sim_inst *inst, u32 lane) {
  struct sim_mbarrier *object = require(warp, inst, lane);
  if (!object) return;
  u32 value = inst->variant & HAS_VALUE ? SIM_SLOT(u32, SLOT_VALUE)[lane] : 1;
  u32 count = inst->variant & EXPECTS ? 1 : value;
  u64 state = object->phase | (u64)object->pending << 32;
  if (inst->variant & RETURNS) SIM_SLOT(u64, SLOT_TARGET)[lane] = state;
  if (inst->variant & EXPECTS) add_transactions(warp, inst, lane, object, value);
  sim_gather(&object->arrivals, warp);
  count_arrivals(warp, inst, lane, object, count);
  if (inst->variant & DROPS)
    object->expected -= count < object->expected ? count : object->expected;
  if (inst->variant & NOT_LAST && !object->pending && !object->transactions) {
    report(warp, inst, lane, object->address,
           "this arrival completes the phase, .noComplete says no");
  }
  settle(object);
}

static void arrive(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  SIM_EACH_LANE(lane, mask) arrive_lane(warp, inst, lane);
  sim_clock_tick(warp);
}

/* expect_tx, and complete_tx, which takes bytes off: is_uniform. */
static void change_transactions(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  const u32 *bytes = SIM_SLOT(u32, SLOT_VALUE);
  SIM_EACH_LANE(lane, mask) {
    struct sim_mbarrier *object = require(warp, inst, lane);
    if (!object) continue;
    add_transactions(warp, inst, lane, object, inst->is_uniform ? -(s64)bytes[lane] : bytes[lane]);
    settle(object);
  }
}

static void pending_count(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 *out = SIM_SLOT(u32, 0);
  const u64 *states = SIM_SLOT(u64, 1);
  SIM_EACH_LANE(lane, mask) out[lane] = (u32)(states[lane] >> 32);
}

/* cp.async.mbarrier.arrive: lanes arrive when their copies so far have landed. Without .noinc
 * (is_uniform) the phase expects one more for each. */
static void arrive_after_copies(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  for (u32 rest = mask; rest;) {
    u32 lanes = 0, lowest = sim_lowest_lane(rest), address, other;
    struct sim_mbarrier *object = require(warp, inst, lowest);
    rest &= ~(1u << lowest);
    if (!object) continue;
    address = object->address;
    lanes = 1u << lowest;
    SIM_EACH_LANE(lane, rest) {
      if (find_address(warp, inst, lane, &other) && other == address) lanes |= 1u << lane;
    }
    rest &= ~lanes;
    if (inst->is_uniform) object->pending += sim_lane_count(lanes);
    struct sim_event event = {.warp = warp,
                              .inst = inst,
                              .lanes = lanes,
                              .address = address,
                              .serial = warp->copy_serial};
    sim_gather(&event.arrivals, warp);
    sim_copy_cover(warp, lanes);
    sim_event_add(warp->cta, &event);
  }
  sim_clock_tick(warp);
}

/* ---- Waits ---- */

/* variant, of a wait: a bit each. */
enum { BY_PARITY = 1, MAY_FAIL = 2, RELAXED = 4 };

/* Whether the phase that the lane names is complete. */
static bool is_complete(struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                        const struct sim_mbarrier *object) {
  if (inst->variant & BY_PARITY) {
    u32 parity = SIM_SLOT(u32, SLOT_VALUE)[lane];
    if (parity > 1) report(warp, inst, lane, object->address, "a parity must be 0 or 1");
    return (object->phase & 1) != (parity & 1);
  }
  u32 phase = (u32)SIM_SLOT(u64, SLOT_VALUE)[lane];
  if (object->phase - phase > 1) {
    report(warp, inst, lane, object->address, "the state is not of this phase or the last");
  }
  return object->phase != phase;
}

static void note_wait(struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                      const struct sim_mbarrier *object) {
  bool by_parity = inst->variant & BY_PARITY;
  u32 phase = by_parity ? SIM_SLOT(u32, SLOT_VALUE)[lane] : (u32)SIM_SLOT(u64, SLOT_VALUE)[lane];
  warp->waits_for = (struct sim_mbarrier_wait){true, by_parity, object->address, phase};
}

/* try_wait may give up at any time: here all lanes do together. */
static bool gives_up(struct sim_warp *warp, const struct sim_inst *inst) {
  return inst->variant & MAY_FAIL && sim_random(&warp->cta->random) % 16 == 0;
}

static void wait(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 complete = 0;
  bool stays = !gives_up(warp, inst);
  warp->waits_for.waits = false;
  SIM_EACH_LANE(lane, mask) {
    struct sim_mbarrier *object = require(warp, inst, lane);
    if (!object) {
      complete |= 1u << lane; /* it was reported: waiting longer would not help */
    } else if (!is_complete(warp, inst, lane, object)) {
      note_wait(warp, inst, lane, object);
    } else if (stays) {
      complete |= 1u << lane;
      if (!(inst->variant & RELAXED)) sim_gathered_join(warp, &object->done);
    }
  }
  SIM_PREDICATE(SLOT_TARGET) = (SIM_PREDICATE(SLOT_TARGET) & ~mask) | complete;
  if (complete == mask) return;
  warp->gives_way = true;
  sim_poll(warp, inst);
}

void sim_mbarrier_describe_wait(const struct sim_warp *warp, char *text, size_t bytes) {
  const struct sim_mbarrier_wait *wait = &warp->waits_for;
  const struct sim_mbarrier *object = wait->waits ? find(warp->cta, wait->address) : NULL;
  *text = 0;
  if (!object) return;
  snprintf(text, bytes,
           " waits for %s %u of the mbarrier at 0x%x, which is in phase %u and lacks %u of %u "
           "arrivals and %lld bytes",
           wait->by_parity ? "parity" : "phase", wait->phase, wait->address, object->phase,
           object->pending, object->expected, (long long)object->transactions);
}

void sim_mbarrier_check_end(struct sim_cta *cta, const struct sim_inst *last) {
  for (u32 i = 0; i < cta->mbarrier_count; i++) {
    const struct sim_mbarrier *object = &cta->mbarriers[i];
    if (!object->transactions) continue;
    struct sim_report_place place = {cta, NULL, last, 0, object->address};
    sim_report(SIM_REPORT_LEFT_BEHIND, &place,
               "the CTA ended while an mbarrier (init at PTX line %u) lacks %lld bytes",
               object->ptx_line, (long long)object->transactions);
  }
}

void sim_mbarrier_free(struct sim_cta *cta) {
  while (cta->mbarrier_count) forget(cta, &cta->mbarriers[0]);
  free(cta->mbarriers);
}

/* ---- Forms ---- */

static void bind_place(struct sim_decode *decode, const struct sim_opcode *opcode,
                       struct sim_inst *inst, u32 operand) {
  bool is_shared = sim_modifier_among(opcode, "shared|shared::cta|shared::cluster") >= 0;
  inst->space = is_shared ? SIM_SPACE_SHARED : SIM_SPACE_GENERIC;
  sim_bind_address(decode, sim_operand_at(decode, operand), SLOT_ADDRESS, inst);
  inst->is_uniform = false; /* a constant address has set it */
}

static void decode_object(struct sim_decode *decode, const struct sim_statement *statement,
                          const struct sim_opcode *opcode, struct sim_inst *inst) {
  bind_place(decode, opcode, inst, 0);
  if (statement->count > 1) {
    inst->slot[SLOT_VALUE] = sim_bind_source(decode, sim_operand_at(decode, 1), 4);
  }
  inst->is_uniform = sim_has_modifier(opcode, "complete_tx") ||
                     (!strcmp(opcode->modifiers[0], "cp") && !sim_has_modifier(opcode, "noinc"));
}

/* The state may be _, or missing where the object is another CTA's. */
static void decode_arrive(struct sim_decode *decode, const struct sim_statement *statement,
                          const struct sim_opcode *opcode, struct sim_inst *inst) {
  const struct sim_operand *first = sim_operand_at(decode, 0);
  u32 at = first->kind == SIM_OPERAND_MEMORY ? 0 : 1;
  if (at && first->kind != SIM_OPERAND_SINK) {
    inst->slot[SLOT_TARGET] = sim_bind_target(decode, first, 8);
    inst->variant |= RETURNS;
  }
  bind_place(decode, opcode, inst, at++);
  if (at < statement->count) {
    inst->slot[SLOT_VALUE] = sim_bind_source(decode, sim_operand_at(decode, at), 4);
    inst->variant |= HAS_VALUE;
  }
  if (sim_has_modifier(opcode, "expect_tx")) inst->variant |= EXPECTS;
  if (sim_has_modifier(opcode, "arrive_drop")) inst->variant |= DROPS;
  if (sim_has_modifier(opcode, "noComplete")) inst->variant |= NOT_LAST;
}

static void decode_wait(struct sim_decode *decode, const struct sim_statement *statement,
                        const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement; /* a fourth operand limits the time of try_wait */
  bool by_parity = sim_has_modifier(opcode, "parity");
  inst->slot[SLOT_TARGET] = sim_bind_target(decode, sim_operand_at(decode, 0), 0);
  bind_place(decode, opcode, inst, 1);
  inst->slot[SLOT_VALUE] = sim_bind_source(decode, sim_operand_at(decode, 2), by_parity ? 4 : 8);
  inst->variant =
      (u8)((by_parity ? BY_PARITY : 0) | (sim_has_modifier(opcode, "try_wait") ? MAY_FAIL : 0) |
           (sim_has_modifier(opcode, "relaxed") ? RELAXED : 0));
}

#define SHARED ".shared|shared::cta|shared::cluster?.b64"
#define ORDER ".release|relaxed?.cta|cluster?"
#define CLASS SIM_CLASS_BARRIER
static const struct sim_form forms[] = {
    {"mbarrier.init" SHARED, decode_object, initialise, NULL, CLASS},
    {"mbarrier.inval" SHARED, decode_object, invalidate, NULL, CLASS},
    {"mbarrier.arrive|arrive_drop.noComplete?" ORDER SHARED, decode_arrive, arrive, NULL, CLASS},
    {"mbarrier.arrive|arrive_drop.expect_tx" ORDER SHARED, decode_arrive, arrive, NULL, CLASS},
    {"mbarrier.expect_tx|complete_tx.relaxed?.cta|cluster?" SHARED, decode_object,
     change_transactions, NULL, CLASS},
    {"mbarrier.test_wait|try_wait.parity?.acquire|relaxed?.cta|cluster?" SHARED, decode_wait, wait,
     NULL, CLASS},
    {"mbarrier.pending_count.b64", NULL, pending_count, "w=d", CLASS},
    {"cp.async.mbarrier.arrive.noinc?" SHARED, decode_object, arrive_after_copies, NULL,
     SIM_CLASS_ASYNC},
};
SIM_LIST(sim_mbarrier_forms, forms);

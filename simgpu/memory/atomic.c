/* atomic.c - atom and red. PTX ISA, "Parallel Synchronization and Communication Instructions: atom,
 * red".
 *
 * Lane after lane: acquire what earlier atomics released at the address (check/clock.c), release,
 * read the old value, combine it with the operands, write it back. One lock serves the whole
 * process, because CTAs on different host threads share global memory. */
#include <pthread.h>

#include "simgpu/alu/alu.h"
#include "simgpu/check/race.h"
#include "simgpu/decode/decode.h"
#include "simgpu/memory/access.h"
#include "simgpu/sched/poll.h"
#include "simgpu/sched/profile.h"

/* An instruction's variant holds the operation in its lower 4 bits and the type above. */
enum operation { ADD, MIN, MAX, AND, OR, XOR, EXCHANGE, INCREASE, DECREASE, SWAP };
static const char operation_names[] = "add|min|max|and|or|xor|exch|inc|dec|cas";
enum type {
  TYPE_U32,
  TYPE_S32,
  TYPE_B32,
  TYPE_F32,
  TYPE_U64,
  TYPE_S64,
  TYPE_B64,
  TYPE_F64,
  TYPE_F16X2,
  TYPE_BF16X2,
  TYPE_F16,
  TYPE_BF16,
  TYPE_B16
};
static const char type_names[] = "u32|s32|b32|f32|u64|s64|b64|f64|f16x2|bf16x2|f16|bf16|b16";
static const u8 type_bytes[] = {4, 4, 4, 4, 8, 8, 8, 8, 4, 4, 2, 2, 2};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static u64 add_halves(u8 type, u64 a, u64 b) {
  bool is_f16 = type == TYPE_F16X2 || type == TYPE_F16;
  u64 result = 0;
  for (u32 i = 0; i < type_bytes[type] / 2u; i++) {
    u16 x = (u16)(a >> 16 * i), y = (u16)(b >> 16 * i);
    u16 sum = is_f16 ? sim_f32_to_f16(sim_f16_to_f32(x) + sim_f16_to_f32(y))
                     : sim_f32_to_bf16(sim_bf16_to_f32(x) + sim_bf16_to_f32(y));
    result |= (u64)sum << 16 * i;
  }
  return result;
}

/* atom.add.f32 flushes subnormals in global memory, but not in shared memory (PTX ISA, atom). */
static u64 add_flushed(u64 a, u64 b) {
  return sim_f32_bits(sim_flush(sim_flush(sim_f32_of((u32)a)) + sim_flush(sim_f32_of((u32)b))));
}

static u64 add(u8 type, u64 a, u64 b) {
  switch (type) {
    case TYPE_F32:
      return sim_f32_bits(sim_f32_of((u32)a) + sim_f32_of((u32)b));
    case TYPE_F64:
      return sim_f64_bits(sim_f64_of(a) + sim_f64_of(b));
    case TYPE_F16:
    case TYPE_BF16:
    case TYPE_F16X2:
    case TYPE_BF16X2:
      return add_halves(type, a, b);
    default:
      return a + b;
  }
}

static bool is_less(u8 type, u64 a, u64 b) {
  switch (type) {
    case TYPE_S32:
      return (s32)a < (s32)b;
    case TYPE_S64:
      return (s64)a < (s64)b;
    default:
      return a < b;
  }
}

/* Inputs have zeros above the type's bits, so unsigned values of any size compare as u64. */
static u64 combine(u8 operation, u8 type, u64 old, u64 b, u64 c) {
  switch (operation) {
    case ADD:
      return add(type, old, b);
    case MIN:
      return is_less(type, b, old) ? b : old;
    case MAX:
      return is_less(type, old, b) ? b : old;
    case AND:
      return old & b;
    case OR:
      return old | b;
    case XOR:
      return old ^ b;
    case EXCHANGE:
      return b;
    case INCREASE:
      return old >= b ? 0 : old + 1;
    case DECREASE:
      return old == 0 || old > b ? b : old - 1;
    default:
      return old == b ? c : old;
  }
}

static u64 read_operand(const struct sim_warp *warp, const struct sim_inst *inst, u32 index,
                        u32 lane, u32 bytes) {
  u64 bits = 0;
  memcpy(&bits, warp->registers + inst->slot[index] + lane * bytes, bytes);
  return bits;
}

/* SLOT_MORE on: b of the further elements of a vector, which red alone has. */
enum { SLOT_TARGET = 0, SLOT_ADDRESS = 1, SLOT_B = 2, SLOT_C = 3, SLOT_MORE = 4 };

/* Returns whether memory has changed. */
static bool update(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u8 *at,
                   u32 element, bool is_shared) {
  u8 operation = inst->variant & 15, type = inst->variant >> 4;
  u32 bytes = type_bytes[type], slot_b = element ? SLOT_MORE + element - 1 : SLOT_B;
  u64 old = 0, b = read_operand(warp, inst, slot_b, lane, bytes);
  u64 c = operation == SWAP ? read_operand(warp, inst, SLOT_C, lane, bytes) : 0;
  memcpy(&old, at, bytes);
  u64 result = operation == ADD && type == TYPE_F32 && !is_shared
                   ? add_flushed(old, b)
                   : combine(operation, type, old, b, c);
  bool changed = memcmp(at, &result, bytes) != 0;
  memcpy(at, &result, bytes);
  if (!inst->is_uniform) { /* red does not want the old value */
    memcpy(warp->registers + inst->slot[SLOT_TARGET] + lane * bytes, &old, bytes);
  }
  return changed;
}

static void atomic(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 bytes = type_bytes[inst->variant >> 4];
  if (warp->cta->counts) sim_profile_access(warp, inst, mask, SLOT_ADDRESS, bytes);
  bool changed = false;
  pthread_mutex_lock(&mutex);
  SIM_EACH_LANE(lane, mask) {
    u64 address = sim_lane_address(warp, inst, SLOT_ADDRESS, lane);
    u64 key = inst->space == SIM_SPACE_SHARED ? address | SIM_SHARED_WINDOW : address;
    for (u32 i = 0; i < inst->element_count; i++) {
      u8 *at = sim_locate(warp, inst, lane, address + i * bytes, bytes, SIM_UPDATE);
      if (!at) continue;
      sim_sync_acquire(warp, inst, key);
      sim_sync_release(warp, inst, key); /* before the value: who polls takes no lock */
      changed |= update(warp, inst, lane, at, i, key >> SIM_WINDOW_SHIFT == 1);
    }
  }
  pthread_mutex_unlock(&mutex);
  if (!changed && !inst->is_uniform) sim_poll(warp, inst);
}

static void decode_order(const struct sim_opcode *opcode, struct sim_inst *inst) {
  int order = sim_modifier_among(opcode, "relaxed|acquire|release|acq_rel");
  inst->is_strong = true;
  inst->is_acquire = order == 1 || order == 3;
  inst->is_release = order == 2 || order == 3;
  int scope = sim_modifier_among(opcode, "cta|cluster|gpu|sys");
  inst->scope = scope < 0 ? SIM_SCOPE_GPU : (u8)(SIM_SCOPE_CTA + scope);
  int space = sim_modifier_among(opcode, "global|shared|shared::cta");
  inst->space = space < 0 ? SIM_SPACE_GENERIC : space == 0 ? SIM_SPACE_GLOBAL : SIM_SPACE_SHARED;
}

static void decode_values(struct sim_decode *decode, struct sim_inst *inst, u32 first, u32 bytes) {
  const struct sim_operand *b = sim_operand_at(decode, first);
  inst->element_count = b->kind == SIM_OPERAND_VECTOR ? (u8)b->count : 1;
  for (u32 i = 0; i < inst->element_count; i++) {
    const struct sim_operand *item = b->kind == SIM_OPERAND_VECTOR ? &b->items[i] : b;
    inst->slot[i ? SLOT_MORE + i - 1 : SLOT_B] = sim_bind_source(decode, item, bytes);
  }
}

static void decode_atomic(struct sim_decode *decode, const struct sim_statement *statement,
                          const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  decode_order(opcode, inst);
  int operation = sim_modifier_among(opcode, operation_names);
  int type = sim_modifier_among(opcode, type_names);
  u32 bytes = type_bytes[type], at = 0;
  inst->variant = (u8)(operation | type << 4);
  inst->is_uniform = !strcmp(opcode->modifiers[0], "red");
  if (!inst->is_uniform)
    inst->slot[SLOT_TARGET] = sim_bind_target(decode, sim_operand_at(decode, at++), bytes);
  sim_bind_address(decode, sim_operand_at(decode, at++), SLOT_ADDRESS, inst);
  /* Again: binding a constant address sets it. */
  inst->is_uniform = !strcmp(opcode->modifiers[0], "red");
  decode_values(decode, inst, at++, bytes);
  if (operation == SWAP)
    inst->slot[SLOT_C] = sim_bind_source(decode, sim_operand_at(decode, at), bytes);
}

#define ORDER ".relaxed|acquire|release|acq_rel?.cta|cluster|gpu|sys?.global|shared|shared::cta?."
#define CLASS SIM_CLASS_ATOMIC
/* The space may stand before the scope, as nvcc writes it for atomicAdd_block. */
#define SPACE_FIRST ".global|shared|shared::cta.cta|cluster|gpu|sys."
#define OPERATION_FIRST \
  ".relaxed|acquire|release|acq_rel?.cta|cluster|gpu|sys.global|shared|shared::cta?."
#define ATOM(rest)                                              \
  {"atom" ORDER rest, decode_atomic, atomic, NULL, CLASS}, {    \
    "atom" SPACE_FIRST rest, decode_atomic, atomic, NULL, CLASS \
  }
#define BOTH(rest)                                                      \
  ATOM(rest), {"red" ORDER rest, decode_atomic, atomic, NULL, CLASS}, { \
    "red" SPACE_FIRST rest, decode_atomic, atomic, NULL, CLASS          \
  }
static const struct sim_form forms[] = {
    BOTH("add.u32|s32|f32|u64|s64|f64"),
    BOTH("add.noftz.f16|bf16|f16x2|bf16x2"),
    BOTH("min|max.u32|s32|u64|s64"),
    BOTH("and|or|xor.b32|b64"),
    BOTH("inc|dec.u32"),
    ATOM("exch|cas.b32|b64"),
    ATOM("cas.b16"),
    /* As CUDA's C++ library writes them. */
    {"atom.add" OPERATION_FIRST "u32|s32|u64|f32|f64", decode_atomic, atomic, NULL, CLASS},
    {"atom.min|max" OPERATION_FIRST "u32|s32|u64|s64", decode_atomic, atomic, NULL, CLASS},
    {"atom.and|or|xor|exch|cas" OPERATION_FIRST "b32|b64", decode_atomic, atomic, NULL, CLASS},
    {"red" ORDER "add.v2|v4.f32", decode_atomic, atomic, NULL, CLASS},
};
SIM_LIST(sim_atomic_forms, forms);

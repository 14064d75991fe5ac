/* access.c - ld and st, and the checks of all accesses: see memory/access.h. PTX ISA, "Data
 * Movement and Conversion Instructions: ld, st".
 *
 * For each lane: compute the address, check it (sim_locate), move the elements between memory and
 * registers. The opcode's state space, or the window of a generic address, says which memory it is:
 * the CTA's shared memory, the arena (memory/memory.h), the warp's local memory, or the launch's
 * parameters. A load that is refused gives NaN; a store that is refused writes nothing.
 *
 * A strong store leaves its clock before its value, and a strong load reads the value before it
 * takes the clock. So who polls on another host thread has the clock with the value. */
#include "simgpu/memory/access.h"

#include <stdlib.h>

#include "simgpu/alu/alu.h"
#include "simgpu/check/race.h"
#include "simgpu/check/report.h"
#include "simgpu/decode/decode.h"
#include "simgpu/memory/memory.h"
#include "simgpu/sched/poll.h"
#include "simgpu/sched/profile.h"

static u8 *refuse(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address,
                  enum sim_report_kind kind, const char *text) {
  sim_report_access(warp, inst, lane, address, kind, text);
  return NULL;
}

static u8 *locate_shared(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address,
                         u32 bytes, enum sim_access access) {
  struct sim_cta *cta = warp->cta;
  address &= SIM_WINDOW_MASK;
  if (address < SIM_SHARED_START || address + bytes > cta->shared_end) {
    return refuse(warp, inst, lane, address, SIM_REPORT_OUT_OF_BOUNDS,
                  "outside the CTA's shared memory");
  }
  u32 at = (u32)address;
  bool fine = true;
  if (access != SIM_WRITE) fine = sim_shared_read(warp, inst, lane, at, bytes);
  if (access != SIM_READ && fine) sim_shared_write(warp, inst, lane, at, bytes);
  return cta->shared + at;
}

static bool is_allocated(const u8 *state, u32 bytes) {
  for (u32 i = 0; i < bytes; i++) {
    if (state[i] == SIM_BYTE_UNALLOCATED || state[i] == SIM_BYTE_FREED) return false;
  }
  return true;
}

static u8 *locate_global(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address,
                         u32 bytes, enum sim_access access) {
  if (!sim_in_arena(address, bytes)) {
    return refuse(warp, inst, lane, address, SIM_REPORT_OUT_OF_BOUNDS,
                  "not an address of device memory");
  }
  u64 offset = address - SIM_GLOBAL_BASE;
  if (!is_allocated(sim_memory.state + offset, bytes)) {
    switch (sim_memory_state(offset, bytes)) {
      case SIM_BYTE_UNINITIALISED:
        break;
      case SIM_BYTE_FREED:
        return refuse(warp, inst, lane, address, SIM_REPORT_USE_AFTER_FREE,
                      "this memory was freed");
      default:
        return refuse(warp, inst, lane, address, SIM_REPORT_OUT_OF_BOUNDS,
                      "outside every allocation");
    }
  }
  if (access != SIM_WRITE) sim_global_read(warp, inst, lane, offset, bytes);
  if (access != SIM_READ) sim_global_write(warp, inst, lane, offset, bytes);
  return sim_memory.bytes + offset;
}

static u8 *locate_private(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address,
                          u32 bytes, enum sim_access access) {
  const struct sim_kernel *kernel = warp->cta->launch->kernel;
  bool is_local = address >> SIM_WINDOW_SHIFT == 2;
  u64 offset = address & SIM_WINDOW_MASK;
  u64 limit = is_local ? kernel->local_bytes : kernel->param_bytes;
  if (offset + bytes > limit || (!is_local && access != SIM_READ)) {
    return refuse(warp, inst, lane, address, SIM_REPORT_OUT_OF_BOUNDS,
                  is_local ? "outside local memory" : "outside the parameters");
  }
  return is_local ? warp->local + lane * (size_t)kernel->local_bytes + offset
                  : warp->cta->launch->params + offset;
}

u8 *sim_locate(struct sim_warp *warp, const struct sim_inst *inst, u32 lane, u64 address, u32 bytes,
               enum sim_access access) {
  if (address & (bytes - 1)) {
    return refuse(warp, inst, lane, address, SIM_REPORT_MISALIGNED,
                  "the address is not a multiple of the access's size");
  }
  u8 space = inst->space;
  u64 window = address >> SIM_WINDOW_SHIFT;
  if (space == SIM_SPACE_SHARED || (space == SIM_SPACE_GENERIC && window == 1)) {
    return locate_shared(warp, inst, lane, address, bytes, access);
  }
  if (window == 2 || window == 3) {
    return locate_private(warp, inst, lane, address, bytes, access);
  }
  return locate_global(warp, inst, lane, address, bytes, access);
}

u64 sim_lane_address(const struct sim_warp *warp, const struct sim_inst *inst, u32 index,
                     u32 lane) {
  const u8 *base = warp->registers + inst->slot[index];
  u64 address;
  if (inst->stride[index] == 8) {
    memcpy(&address, base + lane * 8, 8);
    return address + inst->immediate;
  }
  u32 narrow;
  memcpy(&narrow, base + lane * 4, 4);
  return (u32)(narrow + inst->immediate);
}

/* 1, 2, 4 or 8 bytes. The compiler turns a copy of a constant size into a move, others into a
 * call. */
static inline void copy_element(void *to, const void *from, u32 bytes) {
  switch (bytes) {
    case 8:
      memcpy(to, from, 8);
      return;
    case 4:
      memcpy(to, from, 4);
      return;
    case 2:
      memcpy(to, from, 2);
      return;
    default:
      memcpy(to, from, 1);
  }
}

/* Slots of ld and st: the elements, then the address. */
static void load_lane(struct sim_warp *warp, const struct sim_inst *inst, u32 lane,
                      const u8 *from) {
  for (u32 i = 0; i < inst->element_count; i++) {
    u8 *to = warp->registers + inst->slot[i] + lane * inst->stride[i];
    u64 bits = 0;
    if (from) {
      copy_element(&bits, from + i * inst->element_bytes, inst->element_bytes);
    } else {
      bits = 0x7fff7fff7fff7fffu; /* NaN in every format, so that results show it */
    }
    u32 unused = 64 - 8u * inst->element_bytes;
    if (inst->is_signed) bits = (u64)((s64)(bits << unused) >> unused);
    copy_element(to, &bits, inst->stride[i]);
  }
}

static void load(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 bytes = (u32)inst->element_bytes * inst->element_count;
  if (warp->cta->counts) sim_profile_access(warp, inst, mask, inst->element_count, bytes);
  SIM_EACH_LANE(lane, mask) {
    u64 address = sim_lane_address(warp, inst, inst->element_count, lane);
    load_lane(warp, inst, lane, sim_locate(warp, inst, lane, address, bytes, SIM_READ));
    if (inst->is_strong) sim_sync_acquire(warp, inst, address);
  }
  if (inst->is_strong) sim_poll(warp, inst);
}

/* A parameter whose address the decoder knows and has checked. All lanes load the same value. */
static void load_parameter(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  const u8 *from = warp->cta->launch->params + (inst->immediate & SIM_WINDOW_MASK);
  SIM_EACH_LANE(lane, mask) load_lane(warp, inst, lane, from);
}

static void store(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 bytes = (u32)inst->element_bytes * inst->element_count;
  if (warp->cta->counts) sim_profile_access(warp, inst, mask, inst->element_count, bytes);
  SIM_EACH_LANE(lane, mask) {
    u64 address = sim_lane_address(warp, inst, inst->element_count, lane);
    u8 *to = sim_locate(warp, inst, lane, address, bytes, SIM_WRITE);
    if (inst->is_strong && to) sim_sync_release(warp, inst, address);
    for (u32 i = 0; to && i < inst->element_count; i++) {
      const u8 *from = warp->registers + inst->slot[i] + lane * inst->stride[i];
      copy_element(to + i * inst->element_bytes, from, inst->element_bytes);
    }
  }
}

static u8 space_of(const struct sim_opcode *opcode) {
  static const u8 spaces[] = {SIM_SPACE_GLOBAL, SIM_SPACE_GLOBAL, SIM_SPACE_SHARED,
                              SIM_SPACE_SHARED, SIM_SPACE_LOCAL,  SIM_SPACE_PARAM};
  int found = sim_modifier_among(opcode, "global|const|shared|shared::cta|local|param");
  return found < 0 ? SIM_SPACE_GENERIC : spaces[found];
}

static void decode_order(const struct sim_opcode *opcode, struct sim_inst *inst) {
  inst->is_strong = sim_modifier_among(opcode, "volatile|relaxed|acquire|release") >= 0;
  inst->is_acquire = sim_has_modifier(opcode, "acquire");
  inst->is_release = sim_has_modifier(opcode, "release");
  int scope = sim_modifier_among(opcode, "cta|cluster|gpu|sys");
  inst->scope = scope < 0 ? SIM_SCOPE_SYS : (u8)(SIM_SCOPE_CTA + scope);
}

static void decode_type(const struct sim_opcode *opcode, struct sim_inst *inst) {
  const char *type = opcode->modifiers[opcode->count - 1];
  while (*type && (*type < '0' || *type > '9')) type++;
  inst->element_bytes = (u8)(atoi(type) / 8);
  inst->is_signed = opcode->modifiers[opcode->count - 1][0] == 's';
}

static void decode_access(struct sim_decode *decode, const struct sim_opcode *opcode,
                          struct sim_inst *inst, u32 data, u32 address) {
  inst->space = space_of(opcode);
  decode_order(opcode, inst);
  decode_type(opcode, inst);
  const struct sim_operand *operand = sim_operand_at(decode, data);
  const struct sim_operand *items = operand->kind == SIM_OPERAND_VECTOR ? operand->items : operand;
  u32 count = operand->kind == SIM_OPERAND_VECTOR ? operand->count : 1;
  int vector = sim_modifier_among(opcode, "v2|v4|v8");
  if (count != (vector < 0 ? 1u : 2u << vector))
    sim_decode_fail(decode, "the vector has the wrong length");
  inst->element_count = (u8)count;
  for (u32 i = 0; i < count; i++) {
    sim_bind_any(decode, &items[i], inst->element_bytes, inst, i);
    if (inst->stride[i] < inst->element_bytes) sim_decode_fail(decode, "a register is too narrow");
  }
  sim_bind_address(decode, sim_operand_at(decode, address), count, inst);
}

static void decode_load(struct sim_decode *decode, const struct sim_statement *statement,
                        const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  decode_access(decode, opcode, inst, 0, 1);
  u64 end = (inst->immediate & SIM_WINDOW_MASK) + (u64)inst->element_bytes * inst->element_count;
  bool is_known = inst->space == SIM_SPACE_PARAM && inst->is_uniform &&
                  inst->immediate >> SIM_WINDOW_SHIFT == 3 && end <= decode->kernel->param_bytes;
  inst->run = is_known ? load_parameter : load;
}

static void decode_store(struct sim_decode *decode, const struct sim_statement *statement,
                         const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  decode_access(decode, opcode, inst, 1, 0);
}

#define TYPES "b8|u8|s8|b16|u16|s16|b32|u32|s32|f32|b64|u64|s64|f64"
#define SCOPES "cta|cluster|gpu|sys?"
#define HINTS                                                                             \
  "L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|L1::no_allocate?." \
  "L2::evict_normal|L2::evict_first|L2::evict_last?.L2::64B|L2::128B|L2::256B?"
static const struct sim_form forms[] = {
    {"ld.weak|volatile|relaxed|acquire?." SCOPES
     ".global|const|shared|shared::cta|local|param?.ca|cg|cs|lu|cv?.nc?." HINTS ".v2|v4|v8?." TYPES,
     decode_load, NULL, NULL, SIM_CLASS_MEMORY},
    {"st.weak|volatile|relaxed|release?." SCOPES
     ".global|shared|shared::cta|local|param?.wb|cg|cs|wt?." HINTS ".v2|v4|v8?." TYPES,
     decode_store, store, NULL, SIM_CLASS_MEMORY},
};
SIM_LIST(sim_access_forms, forms);

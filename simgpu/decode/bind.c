/* bind.c - operands become slots of the register file: see decode/decode.h.
 *
 * The register file of a kernel grows as slots are asked for; nothing is moved. A register has the
 * slot that decode/slots.c assigned. A constant, and a special register, gets a slot the first time
 * that an operand needs it; every warp starts with its value there. Predicates are 4 bytes, and are
 * cut from runs of PREDICATE_ROOM bytes, so that they do not break the alignment of the others. */
#include "simgpu/decode/decode.h"

#include <string.h>

#include "simgpu/alu/alu.h"

struct sim_constant {
  u64 bits;
  u32 bytes, slot;
};

/* SLOT_ALIGN: a cache line, so that vectors of lanes are aligned. */
enum { SLOT_ALIGN = 64, PREDICATE_ROOM = 4096 };

void sim_start_file(struct sim_decode *decode) {
  decode->file_bytes = decode->predicate_limit = PREDICATE_ROOM;
}

u32 sim_scratch_slot(struct sim_decode *decode, u32 bytes) {
  u32 slot;
  if (bytes == 0) {
    slot = decode->predicate_bytes;
    decode->predicate_bytes += sizeof(u32);
    if (decode->predicate_bytes > decode->predicate_limit) {
      decode->predicate_bytes = decode->file_bytes;
      slot = decode->predicate_bytes;
      decode->predicate_bytes += sizeof(u32);
      decode->file_bytes += PREDICATE_ROOM;
      decode->predicate_limit = decode->file_bytes;
    }
    return slot;
  }
  slot = decode->file_bytes;
  decode->file_bytes += (bytes * SIM_LANES + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN;
  return slot;
}

u32 sim_constant_slot(struct sim_decode *decode, u64 bits, u32 bytes) {
  if (bytes && bytes < 8) bits &= (1ull << bytes * 8) - 1;
  for (u32 i = 0; i < decode->constant_count; i++) {
    const struct sim_constant *constant = &decode->constants[i];
    if (constant->bits == bits && constant->bytes == bytes) return constant->slot;
  }
  decode->constants = sim_grow(decode->constants, decode->constant_count,
                               &decode->constant_capacity, sizeof *decode->constants);
  struct sim_constant *constant = &decode->constants[decode->constant_count++];
  *constant = (struct sim_constant){bits, bytes, sim_scratch_slot(decode, bytes)};
  return constant->slot;
}

static u32 special_slot(struct sim_decode *decode, const char *name, u32 bytes) {
  static const char *const names[SIM_SPECIAL_COUNT] = {
      "%tid.x",          "%tid.y",       "%tid.z",
      "%ntid.x",         "%ntid.y",      "%ntid.z",
      "%ctaid.x",        "%ctaid.y",     "%ctaid.z",
      "%nctaid.x",       "%nctaid.y",    "%nctaid.z",
      "%laneid",         "%warpid",      "%nwarpid",
      "%smid",           "%nsmid",       "%lanemask_eq",
      "%lanemask_le",    "%lanemask_lt", "%lanemask_ge",
      "%lanemask_gt",    "%gridid",      "%clock",
      "%clock64",        "%globaltimer", "%dynamic_smem_size",
      "%total_smem_size"};
  int special = 0;
  while (special < SIM_SPECIAL_COUNT && strcmp(names[special], name) != 0) special++;
  if (special == SIM_SPECIAL_COUNT) sim_decode_fail(decode, "unsupported register %s", name);
  bool wide = special == SIM_GRIDID || special == SIM_CLOCK64 || special == SIM_GLOBALTIMER;
  if (bytes != (wide ? 8u : 4u)) sim_decode_fail(decode, "%s read as %u bytes", name, bytes);
  struct sim_kernel *kernel = decode->kernel;
  for (u32 i = 0; i < kernel->special_count; i++) {
    if ((int)kernel->specials[i].special == special) return kernel->specials[i].slot;
  }
  u32 slot = sim_scratch_slot(decode, bytes);
  kernel->specials[kernel->special_count++] = (struct sim_special_slot){special, slot};
  return slot;
}

u64 sim_symbol_address(struct sim_decode *decode, const struct sim_symbol *symbol) {
  switch (symbol->kind) {
    case SIM_SYMBOL_GLOBAL:
    case SIM_SYMBOL_CONST:
      return symbol->offset; /* driver/module.c has placed it */
    case SIM_SYMBOL_SHARED:
      return symbol->is_external ? decode->kernel->dynamic_shared_offset : symbol->offset;
    default:
      break;
  }
  const struct sim_instance *instance = decode->instance;
  for (u32 i = 0; i < instance->placement_count; i++) {
    if (instance->placements[i].symbol == symbol) {
      return SIM_LOCAL_WINDOW + instance->placements[i].offset;
    }
  }
  return SIM_PARAM_WINDOW + symbol->offset;
}

static u64 literal_bits(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes) {
  if (operand->literal == SIM_LITERAL_F64 && bytes == 4) {
    return sim_f32_bits((float)sim_f64_of(operand->bits));
  }
  if (operand->literal == SIM_LITERAL_F32 && bytes == 8) {
    return sim_f64_bits((double)sim_f32_of((u32)operand->bits));
  }
  if (operand->literal != SIM_LITERAL_INTEGER && bytes < 4) {
    sim_decode_fail(decode, "a float literal where %u bytes are needed", bytes);
  }
  return operand->bits;
}

/* !p as an operand: this instruction, put before its reader, writes it to a scratch slot. */
static void invert(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  SIM_PREDICATE(0) = (SIM_PREDICATE(0) & ~mask) | (~SIM_PREDICATE(1) & mask);
}

static u32 bind_predicate(struct sim_decode *decode, const struct sim_operand *operand) {
  if (operand->kind == SIM_OPERAND_LITERAL) {
    return sim_constant_slot(decode, operand->bits ? UINT32_MAX : 0, 0);
  }
  u32 slot = decode->instance->slots[operand->register_index];
  if (!operand->is_negated) return slot;
  struct sim_inst inst = {.run = invert, .instruction_class = SIM_CLASS_PREDICATE};
  inst.slot[0] = sim_scratch_slot(decode, 0);
  inst.slot[1] = slot;
  sim_emit(decode, &inst);
  return inst.slot[0];
}

static void require_width(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes) {
  if (operand->kind != SIM_OPERAND_REGISTER)
    sim_decode_fail(decode, "an operand is not a register");
  if (operand->register_bytes != bytes) {
    sim_decode_fail(decode, "%s has an operand of %u bytes where %u are needed",
                    decode->statement->opcode, operand->register_bytes, bytes);
  }
}

u32 sim_bind_source(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes) {
  switch (operand->kind) {
    case SIM_OPERAND_LITERAL:
      if (bytes == 0) return bind_predicate(decode, operand);
      return sim_constant_slot(decode, literal_bits(decode, operand, bytes), bytes);
    case SIM_OPERAND_SPECIAL:
      return special_slot(decode, operand->name, bytes);
    case SIM_OPERAND_SYMBOL: {
      u64 address = sim_symbol_address(decode, operand->symbol) + (u64)operand->offset;
      return sim_constant_slot(decode, address, bytes);
    }
    default:
      require_width(decode, operand, bytes);
      if (bytes == 0) return bind_predicate(decode, operand);
      return decode->instance->slots[operand->register_index];
  }
}

u32 sim_bind_target(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes) {
  if (operand->kind == SIM_OPERAND_SINK) return sim_scratch_slot(decode, bytes);
  require_width(decode, operand, bytes);
  return decode->instance->slots[operand->register_index];
}

void sim_bind_any(struct sim_decode *decode, const struct sim_operand *operand, u32 literal_bytes,
                  struct sim_inst *inst, u32 index) {
  if (operand->kind == SIM_OPERAND_REGISTER) {
    if (!operand->register_bytes)
      sim_decode_fail(decode, "an operand is a predicate where a value is needed");
    inst->slot[index] = decode->instance->slots[operand->register_index];
    inst->stride[index] = (u8)operand->register_bytes;
    return;
  }
  u32 bytes = literal_bytes < 2 ? 2 : literal_bytes;
  inst->stride[index] = (u8)bytes;
  inst->slot[index] = operand->kind == SIM_OPERAND_SINK ? sim_scratch_slot(decode, bytes)
                                                        : sim_bind_source(decode, operand, bytes);
}

u32 sim_literal_value(struct sim_decode *decode, const struct sim_operand *operand) {
  if (operand->kind != SIM_OPERAND_LITERAL) sim_decode_fail(decode, "an operand is not a literal");
  return (u32)operand->bits;
}

static u8 space_of_symbol(struct sim_decode *decode, const struct sim_symbol *symbol) {
  switch (symbol->kind) {
    case SIM_SYMBOL_SHARED:
      return SIM_SPACE_SHARED;
    case SIM_SYMBOL_PARAM:
    case SIM_SYMBOL_LOCAL:
      return sim_symbol_address(decode, symbol) >= SIM_PARAM_WINDOW ? SIM_SPACE_PARAM
                                                                    : SIM_SPACE_LOCAL;
    default:
      return SIM_SPACE_GLOBAL;
  }
}

void sim_bind_address(struct sim_decode *decode, const struct sim_operand *operand, u32 index,
                      struct sim_inst *inst) {
  if (operand->kind != SIM_OPERAND_MEMORY || operand->count != 1) {
    sim_decode_fail(decode, "expected an address");
  }
  const struct sim_operand *base = &operand->items[0];
  if (base->kind == SIM_OPERAND_REGISTER) {
    sim_bind_any(decode, base, 8, inst, index);
    if (base->register_bytes < 4)
      sim_decode_fail(decode, "the register of an address has only 16 bits");
    inst->immediate = (u64)operand->offset;
    return;
  }
  if (base->kind == SIM_OPERAND_SYMBOL) {
    u8 space = space_of_symbol(decode, base->symbol);
    if (inst->space == SIM_SPACE_PARAM || inst->space == SIM_SPACE_GENERIC) inst->space = space;
    inst->immediate = sim_symbol_address(decode, base->symbol) + (u64)operand->offset;
    inst->is_uniform = true;
  } else {
    inst->immediate = base->bits + (u64)operand->offset;
  }
  inst->slot[index] = sim_constant_slot(decode, 0, 8);
  inst->stride[index] = 8;
}

void sim_fill_constants(struct sim_decode *decode) {
  struct sim_kernel *kernel = decode->kernel;
  kernel->file_bytes = decode->file_bytes;
  kernel->constants = sim_pool_take(decode->pool, decode->file_bytes);
  for (u32 i = 0; i < decode->constant_count; i++) {
    const struct sim_constant *constant = &decode->constants[i];
    u8 *at = kernel->constants + constant->slot;
    u32 bytes = constant->bytes ? constant->bytes : sizeof(u32);
    for (u32 lane = 0; lane < (constant->bytes ? SIM_LANES : 1u); lane++) {
      memcpy(at + lane * bytes, &constant->bits, bytes);
    }
  }
}

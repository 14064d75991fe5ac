/* move.c - mov, which also packs and unpacks vectors; cvta; isspacep. PTX ISA, "Data Movement and
 * Conversion Instructions". The windows of generic addresses are those of decode/code.h. */
#include "simgpu/alu/alu.h"
#include "simgpu/decode/decode.h"

SIM_DEFINE_1(mov_16, u16, u16, a)
SIM_DEFINE_1(mov_32, u32, u32, a)
SIM_DEFINE_1(mov_64, u64, u64, a)
SIM_DEFINE_1(shared_to_generic, u64, u64, (a & SIM_WINDOW_MASK) | SIM_SHARED_WINDOW)
SIM_DEFINE_1(generic_to_shared, u64, u64, a &SIM_WINDOW_MASK)

/* mov.b64 d, {a, b}: the first part is the lowest. The target is written last, because it may be
 * one of the parts. Slots: 0 the whole, then the parts. */
static void pack(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 part = inst->element_bytes, whole = part * inst->element_count;
  SIM_EACH_LANE(l, mask) {
    u8 value[8];
    for (u32 i = 0; i < inst->element_count; i++) {
      memcpy(value + i * part, warp->registers + inst->slot[1 + i] + l * part, part);
    }
    memcpy(warp->registers + inst->slot[0] + l * whole, value, whole);
  }
}

/* mov.b64 {a, b}, d. The same slots. */
static void unpack(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 part = inst->element_bytes, whole = part * inst->element_count;
  SIM_EACH_LANE(l, mask) {
    u8 value[8];
    memcpy(value, warp->registers + inst->slot[0] + l * whole, whole);
    for (u32 i = 0; i < inst->element_count; i++) {
      memcpy(warp->registers + inst->slot[1 + i] + l * part, value + i * part, part);
    }
  }
}

SIM_DEFINE_2(pack_16x2, u32, u16, u16, (u32)a | (u32)b << 16)
SIM_DEFINE_2(pack_32x2, u64, u32, u32, (u64)a | (u64)b << 32)

SIM_HANDLER(unpack_32x2) {
  const u64 *in = SIM_SLOT(u64, 0);
  u32 *low = SIM_SLOT(u32, 1), *high = SIM_SLOT(u32, 2);
  SIM_FOR_LANES(u64 a = in[l]; low[l] = (u32)a; high[l] = (u32)(a >> 32);)
}

SIM_HANDLER(unpack_16x2) {
  const u32 *in = SIM_SLOT(u32, 0);
  u16 *low = SIM_SLOT(u16, 1), *high = SIM_SLOT(u16, 2);
  SIM_FOR_LANES(u32 a = in[l]; low[l] = (u16)a; high[l] = (u16)(a >> 16);)
}

/* Clocks count the warp's instructions. They must advance: code may wait until one has. */
static void read_clock(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  SIM_EACH_LANE(l, mask)
  memcpy(warp->registers + inst->slot[0] + l * inst->stride[0], &warp->steps, inst->stride[0]);
}

static void decode_vector_mov(struct sim_decode *decode, struct sim_inst *inst, u32 bytes,
                              const struct sim_operand *list, bool is_packing) {
  inst->element_count = (u8)list->count;
  inst->element_bytes = (u8)(bytes / list->count);
  if (inst->element_bytes < 2 || inst->element_bytes * list->count != bytes) {
    sim_decode_fail(decode, "mov: %u parts of %u bytes", list->count, bytes);
  }
  const struct sim_operand *whole = sim_operand_at(decode, is_packing ? 0 : 1);
  inst->slot[0] =
      is_packing ? sim_bind_target(decode, whole, bytes) : sim_bind_source(decode, whole, bytes);
  for (u32 i = 0; i < list->count; i++) {
    inst->slot[1 + i] = is_packing ? sim_bind_source(decode, &list->items[i], inst->element_bytes)
                                   : sim_bind_target(decode, &list->items[i], inst->element_bytes);
  }
  inst->run = is_packing ? pack : unpack;
  if (list->count == 2 && bytes == 4) inst->run = is_packing ? pack_16x2 : unpack_16x2;
  if (list->count == 2 && bytes == 8) inst->run = is_packing ? pack_32x2 : unpack_32x2;
}

static void decode_mov(struct sim_decode *decode, const struct sim_statement *statement,
                       const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  int width = sim_modifier_among(opcode, "b16|u16|s16|f16|b32|u32|s32|f32|b64|u64|s64|f64");
  u32 bytes = 2u << width / 4;
  const struct sim_operand *to = sim_operand_at(decode, 0), *from = sim_operand_at(decode, 1);
  if (from->kind == SIM_OPERAND_VECTOR || to->kind == SIM_OPERAND_VECTOR) {
    bool is_packing = from->kind == SIM_OPERAND_VECTOR;
    decode_vector_mov(decode, inst, bytes, is_packing ? from : to, is_packing);
    return;
  }
  inst->slot[0] = sim_bind_target(decode, to, bytes);
  inst->stride[0] = (u8)bytes;
  bool is_clock = from->kind == SIM_OPERAND_SPECIAL &&
                  (!strncmp(from->name, "%clock", 6) || !strcmp(from->name, "%globaltimer"));
  inst->run = bytes == 2 ? mov_16 : bytes == 4 ? mov_32 : mov_64;
  if (is_clock) {
    inst->run = read_clock;
  } else {
    inst->slot[1] = sim_bind_source(decode, from, bytes);
  }
}

static void decode_cvta(struct sim_decode *decode, const struct sim_statement *statement,
                        const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  inst->slot[0] = sim_bind_target(decode, sim_operand_at(decode, 0), 8);
  inst->slot[1] = sim_bind_source(decode, sim_operand_at(decode, 1), 8);
  inst->run = mov_64; /* addresses of local and parameter memory are generic addresses here */
  if (sim_has_modifier(opcode, "shared") || sim_has_modifier(opcode, "shared::cta")) {
    inst->run = sim_has_modifier(opcode, "to") ? generic_to_shared : shared_to_generic;
  }
}

static void isspacep(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  const u64 *address = SIM_SLOT(u64, 1);
  u32 bits = 0;
  SIM_EACH_LANE(l, mask) bits |= (u32)(address[l] >> SIM_WINDOW_SHIFT == inst->immediate) << l;
  SIM_PREDICATE(0) = (SIM_PREDICATE(0) & ~mask) | bits;
}

static void decode_isspacep(struct sim_decode *decode, const struct sim_statement *statement,
                            const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  inst->slot[0] = sim_bind_target(decode, sim_operand_at(decode, 0), 0);
  inst->slot[1] = sim_bind_source(decode, sim_operand_at(decode, 1), 8);
  inst->immediate = (u64)sim_modifier_among(opcode, "global|shared|local|param");
}

#define CLASS SIM_CLASS_MOVE
static const struct sim_form forms[] = {
    {"mov.b16|u16|s16|f16|b32|u32|s32|f32|b64|u64|s64|f64", decode_mov, NULL, NULL, CLASS},
    {"cvta.to?.global|shared|shared::cta|local|param|const.u64", decode_cvta, NULL, NULL, CLASS},
    {"isspacep.global|shared|local|param", decode_isspacep, isspacep, NULL, CLASS},
};
SIM_LIST(sim_move_forms, forms);

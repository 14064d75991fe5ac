/* set.c - set, and setp of pairs of 16-bit floats. PTX ISA, "Comparison and Selection Instructions:
 * set", "Half Precision Comparison Instructions".
 *
 * set writes 1 in a floating-point type, or all bits of an integer, where the comparison holds, for
 * each element of a pair. Elements are compared as f64, which has all values of 16- and 32-bit
 * types. */
#include "simgpu/alu/alu.h"
#include "simgpu/decode/decode.h"

/* The order of the names is that of `compare`. */
static const char comparison_names[] =
    "eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan|lo|ls|hi|hs";

static bool compare(u32 comparison, f64 x, f64 y) {
  bool is_ordered = x == x && y == y;
  switch (comparison) {
    case 0:
      return x == y;
    case 1:
      return is_ordered && x != y;
    case 2:
    case 14:
      return x < y;
    case 3:
    case 15:
      return x <= y;
    case 4:
    case 16:
      return x > y;
    case 5:
    case 17:
      return x >= y;
    case 12:
      return is_ordered;
    case 13:
      return !is_ordered;
    default: /* unordered ones are true of NaN */
      return !is_ordered || compare(comparison - 6, x, y);
  }
}

enum type { TYPE_U32, TYPE_S32, TYPE_F32, TYPE_F16, TYPE_BF16, TYPE_F16X2, TYPE_BF16X2, TYPE_U16 };
static const char type_names[] = "u32|s32|f32|f16|bf16|f16x2|bf16x2|u16";

static u32 bytes_of(u32 type) {
  return type == TYPE_F16 || type == TYPE_BF16 || type == TYPE_U16 ? 2 : 4;
}
static u32 elements_of(u32 type) {
  return type == TYPE_F16X2 || type == TYPE_BF16X2 ? 2 : 1;
}

static f64 element(u32 type, u32 word, u32 index, bool flushes) {
  u16 half = (u16)(word >> 16 * index);
  f32 value;
  switch (type) {
    case TYPE_U32:
      return word;
    case TYPE_S32:
      return (s32)word;
    case TYPE_F16:
    case TYPE_F16X2:
      value = sim_f16_to_f32(half);
      return flushes && fabsf(value) < 0x1p-14f ? 0 : value;
    case TYPE_BF16:
    case TYPE_BF16X2:
      return sim_bf16_to_f32(half);
    default:
      value = sim_f32_of(word);
      return flushes ? sim_flush(value) : value;
  }
}

/* What stands for true: in each half of a pair. */
static u32 one_of(u32 type, u32 elements) {
  switch (type) {
    case TYPE_F32:
      return 0x3f800000;
    case TYPE_F16:
    case TYPE_F16X2:
      return 0x3c00;
    case TYPE_BF16:
    case TYPE_BF16X2:
      return 0x3f80;
    default:
      return elements == 2 || type == TYPE_U16 ? 0xffff : UINT32_MAX;
  }
}

/* variant: the comparison. immediate: types of the target and the inputs, 4 bits each; how the
 * predicate joins, from bit 8; .ftz in bit 10. */
enum { JOIN_NONE, JOIN_AND, JOIN_OR, JOIN_XOR };

static bool join(u32 how, bool bit, bool other) {
  switch (how) {
    case JOIN_AND:
      return bit && other;
    case JOIN_OR:
      return bit || other;
    case JOIN_XOR:
      return bit != other;
    default:
      return bit;
  }
}

static u32 word_of(const struct sim_warp *warp, const struct sim_inst *inst, u32 index, u32 lane) {
  u32 word = 0, bytes = inst->stride[index];
  memcpy(&word, warp->registers + inst->slot[index] + lane * bytes, bytes);
  return word;
}

/* A bit for each element. */
static u32 compare_lane(const struct sim_warp *warp, const struct sim_inst *inst, u32 lane) {
  u32 type = inst->immediate >> 4 & 15, bits = 0;
  bool flushes = inst->immediate >> 10 & 1;
  for (u32 i = 0; i < elements_of(type); i++) {
    f64 x = element(type, word_of(warp, inst, 1, lane), i, flushes);
    f64 y = element(type, word_of(warp, inst, 2, lane), i, flushes);
    bits |= (u32)compare(inst->variant, x, y) << i;
  }
  return bits;
}

/* Slots: 0 target, 1 a, 2 b, 3 predicate. */
static void set(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 type = inst->immediate >> 4 & 15, how = inst->immediate >> 8 & 3;
  u32 elements = elements_of(type), one = one_of(inst->immediate & 15, elements);
  u32 others = how ? SIM_PREDICATE(3) : 0;
  SIM_EACH_LANE(lane, mask) {
    u32 bits = compare_lane(warp, inst, lane), word = 0;
    for (u32 i = 0; i < elements; i++) {
      if (join(how, bits >> i & 1, others >> lane & 1)) word |= one << 16 * i;
    }
    memcpy(warp->registers + inst->slot[0] + lane * inst->stride[0], &word, inst->stride[0]);
  }
}

/* setp p|q: p of the lower elements, q of the upper ones. Slots: 0 p, 1 a, 2 b, 3 predicate,
 * 4 q. */
static void set_pair(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 how = inst->immediate >> 8 & 3, others = how ? SIM_PREDICATE(3) : 0, low = 0, high = 0;
  SIM_EACH_LANE(lane, mask) {
    u32 bits = compare_lane(warp, inst, lane), other = others >> lane & 1;
    low |= (u32)join(how, bits & 1, other) << lane;
    high |= (u32)join(how, bits >> 1 & 1, other) << lane;
  }
  SIM_PREDICATE(0) = (SIM_PREDICATE(0) & ~mask) | low;
  SIM_PREDICATE(4) = (SIM_PREDICATE(4) & ~mask) | high;
}

static u32 type_at(const struct sim_opcode *opcode, u32 from_end) {
  struct sim_opcode word = {.count = 2};
  word.modifiers[1] = opcode->modifiers[opcode->count - from_end];
  return (u32)sim_modifier_among(&word, type_names);
}

static void bind_inputs(struct sim_decode *decode, const struct sim_opcode *opcode,
                        struct sim_inst *inst) {
  u32 type = type_at(opcode, 1), how = (u32)(sim_modifier_among(opcode, "and|or|xor") + 1);
  inst->variant = (u8)sim_modifier_among(opcode, comparison_names);
  inst->immediate = type << 4 | how << 8 | (u32)sim_has_modifier(opcode, "ftz") << 10;
  for (u32 i = 1; i <= 2; i++) {
    inst->stride[i] = (u8)bytes_of(type);
    inst->slot[i] = sim_bind_source(decode, sim_operand_at(decode, i), bytes_of(type));
  }
  if (how) inst->slot[3] = sim_bind_source(decode, sim_operand_at(decode, 3), 0);
}

static void decode_set(struct sim_decode *decode, const struct sim_statement *statement,
                       const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  u32 type = type_at(opcode, 2);
  bind_inputs(decode, opcode, inst);
  inst->immediate |= type;
  inst->stride[0] = (u8)bytes_of(type);
  inst->slot[0] = sim_bind_target(decode, sim_operand_at(decode, 0), bytes_of(type));
}

static void decode_set_pair(struct sim_decode *decode, const struct sim_statement *statement,
                            const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  const struct sim_operand *target = sim_operand_at(decode, 0);
  if (target->kind != SIM_OPERAND_PAIR) sim_decode_fail(decode, "%s needs p|q", opcode->text);
  bind_inputs(decode, opcode, inst);
  inst->slot[0] = sim_bind_target(decode, &target->items[0], 0);
  inst->slot[4] = sim_bind_target(decode, &target->items[1], 0);
}

#define INTEGER "set.eq|ne|lt|le|gt|ge|lo|ls|hi|hs.and|or|xor?."
#define FLOAT(name) name ".eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan.and|or|xor?.ftz?."
#define CLASS SIM_CLASS_PREDICATE
static const struct sim_form forms[] = {
    {INTEGER "u32|s32|f32.u32|s32", decode_set, set, NULL, CLASS},
    {FLOAT("set") "u32|s32|f32.f32", decode_set, set, NULL, CLASS},
    {FLOAT("set") "f16|u16.f16", decode_set, set, NULL, CLASS},
    {FLOAT("set") "bf16|u16.bf16", decode_set, set, NULL, CLASS},
    {FLOAT("set") "f16x2|u32.f16x2", decode_set, set, NULL, CLASS},
    {FLOAT("set") "bf16x2|u32.bf16x2", decode_set, set, NULL, CLASS},
    {FLOAT("setp") "f16x2|bf16x2", decode_set_pair, set_pair, NULL, CLASS},
};
SIM_LIST(sim_set_forms, forms);

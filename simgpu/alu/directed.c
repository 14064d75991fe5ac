/* directed.c - arithmetic rounded down (.rm), up (.rp) or towards zero (.rz). PTX ISA, "Floating
 * Point Instructions", "Rounding Modifiers".
 *
 * The host's processor rounds as it is told to, once for an instruction. It computes through
 * volatiles, so that the compiler neither folds an operation nor moves it out of the mode. fma of
 * f32, which division makes use of, has rows of its own without .ftz (alu/single.c). */
#include <fenv.h>

#include "simgpu/alu/alu.h"
#include "simgpu/decode/decode.h"

enum operation { ADD, SUB, MULTIPLY, DIVIDE, FUSED, RECIPROCAL, ROOT };
static const char operation_names[] = "add|sub|mul|div|fma|mad|rcp|sqrt";

#define COMPUTE(name, T, fused, root)                      \
  static T name(enum operation operation, T a, T b, T c) { \
    volatile T x = a, y = b, z = c, result;                \
    switch (operation) {                                   \
      case ADD:                                            \
        result = x + y;                                    \
        break;                                             \
      case SUB:                                            \
        result = x - y;                                    \
        break;                                             \
      case MULTIPLY:                                       \
        result = x * y;                                    \
        break;                                             \
      case DIVIDE:                                         \
        result = x / y;                                    \
        break;                                             \
      case FUSED:                                          \
        result = fused(x, y, z);                           \
        break;                                             \
      case RECIPROCAL:                                     \
        result = 1 / x;                                    \
        break;                                             \
      default:                                             \
        result = root(x);                                  \
        break;                                             \
    }                                                      \
    return result;                                         \
  }
COMPUTE(compute_f32, f32, fmaf, sqrtf)
COMPUTE(compute_f64, f64, fma, sqrt)

/* Slots: 0 target, 1 to 3 inputs. variant: the operation; bits 4 and 5 the direction; .ftz in bit
 * 6, .sat in bit 7. */
enum { DIRECTION_AT = 4, FLUSHES = 0x40, SATURATES = 0x80 };

static enum operation start(const struct sim_inst *inst) {
  static const int directions[] = {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO};
  fesetround(directions[inst->variant >> DIRECTION_AT & 3]);
  return (enum operation)(inst->variant & 15);
}

static void directed_f32(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  f32 *out = SIM_SLOT(f32, 0);
  const f32 *a = SIM_SLOT(f32, 1), *b = SIM_SLOT(f32, 2), *c = SIM_SLOT(f32, 3);
  bool flushes = inst->variant & FLUSHES;
  enum operation operation = start(inst);
  SIM_EACH_LANE(l, mask) {
    f32 result = flushes ? compute_f32(operation, sim_flush(a[l]), sim_flush(b[l]), sim_flush(c[l]))
                         : compute_f32(operation, a[l], b[l], c[l]);
    if (flushes) result = sim_flush(result);
    out[l] = inst->variant & SATURATES ? sim_saturate(result) : result;
  }
  fesetround(FE_TONEAREST);
}

static void directed_f64(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  f64 *out = SIM_SLOT(f64, 0);
  const f64 *a = SIM_SLOT(f64, 1), *b = SIM_SLOT(f64, 2), *c = SIM_SLOT(f64, 3);
  enum operation operation = start(inst);
  SIM_EACH_LANE(l, mask) out[l] = compute_f64(operation, a[l], b[l], c[l]);
  fesetround(FE_TONEAREST);
}

static void decode_directed(struct sim_decode *decode, const struct sim_statement *statement,
                            const struct sim_opcode *opcode, struct sim_inst *inst) {
  static const u8 operations[] = {ADD, SUB, MULTIPLY, DIVIDE, FUSED, FUSED, RECIPROCAL, ROOT};
  static const u32 inputs[] = {2, 2, 2, 2, 3, 1, 1};
  u32 bytes = sim_has_modifier(opcode, "f64") ? 8 : 4;
  struct sim_opcode name = *opcode; /* its first word is no modifier */
  name.modifiers[1] = opcode->modifiers[0];
  u8 operation = operations[sim_modifier_among(&name, operation_names)];
  if (statement->count != inputs[operation] + 1) {
    sim_decode_fail(decode, "%s has %u operands", statement->opcode, statement->count);
  }
  inst->variant = (u8)(operation | sim_modifier_among(opcode, "rm|rp|rz") << DIRECTION_AT |
                       (sim_has_modifier(opcode, "ftz") ? FLUSHES : 0) |
                       (sim_has_modifier(opcode, "sat") ? SATURATES : 0));
  inst->slot[0] = sim_bind_target(decode, sim_operand_at(decode, 0), bytes);
  for (u32 i = 1; i <= 3; i++) {
    inst->slot[i] = i <= inputs[operation]
                        ? sim_bind_source(decode, sim_operand_at(decode, i), bytes)
                        : inst->slot[1];
  }
}

#define F32(head, tail) \
  { head ".rm|rp|rz" tail ".f32", decode_directed, directed_f32, NULL, SIM_CLASS_FLOAT }
#define F64(head) \
  { head ".rm|rp|rz.f64", decode_directed, directed_f64, NULL, SIM_CLASS_FLOAT }
static const struct sim_form forms[] = {
    F32("add", ".ftz?.sat?"),
    F32("sub", ".ftz?.sat?"),
    F32("mul", ".ftz?.sat?"),
    F32("fma", ".ftz?.sat?"),
    F32("mad", ".ftz?.sat?"),
    F32("div", ".ftz?"),
    F32("rcp", ".ftz?"),
    F32("sqrt", ".ftz?"),
    F64("add"),
    F64("sub"),
    F64("mul"),
    F64("fma"),
    F64("mad"),
    F64("div"),
    F64("rcp"),
    F64("sqrt"),
};
SIM_LIST(sim_directed_forms, forms);

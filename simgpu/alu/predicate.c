/* predicate.c - setp, selp, testp, and logic on predicates. PTX ISA, "Comparison and Selection
 * Instructions", "Half Precision Comparison Instructions", "Logic and Shift Instructions".
 *
 * A predicate register is one u32, a bit per lane, so logic is one operation for all lanes. A
 * comparison computes the bits of all 32 lanes and then keeps those of the mask. */
#include "simgpu/alu/alu.h"
#include "simgpu/decode/decode.h"

enum { JOIN_NONE, JOIN_AND, JOIN_OR, JOIN_XOR };

static u32 join(u8 variant, u32 bits, u32 other) {
  switch (variant) {
    case JOIN_AND:
      return bits & other;
    case JOIN_OR:
      return bits | other;
    case JOIN_XOR:
      return bits ^ other;
    default:
      return bits;
  }
}

/* setp.cmp.join p|q, a, b, c: p = (a cmp b) join c, q = !(a cmp b) join c.
 * Slots: 0 p, 1 q (scratch where there is none), 2 a, 3 b, 4 c. */
static void store_comparison(struct sim_warp *warp, const struct sim_inst *inst, u32 mask,
                             u32 bits) {
  u32 other = inst->variant == JOIN_NONE ? 0 : SIM_PREDICATE(4);
  u32 first = join(inst->variant, bits, other), second = join(inst->variant, ~bits, other);
  SIM_PREDICATE(0) = (SIM_PREDICATE(0) & ~mask) | (first & mask);
  SIM_PREDICATE(1) = (SIM_PREDICATE(1) & ~mask) | (second & mask);
}

#define COMPARE(name, T, ...)                               \
  SIM_HANDLER(name) {                                       \
    const T *in_a = SIM_SLOT(T, 2), *in_b = SIM_SLOT(T, 3); \
    u32 bits = 0;                                           \
    for (u32 l = 0; l < SIM_LANES; l++) {                   \
      T a = in_a[l], b = in_b[l];                           \
      bits |= (u32)(__VA_ARGS__) << l;                      \
    }                                                       \
    store_comparison(warp, inst, mask, bits);               \
  }

#define INTEGER_COMPARISONS(X, T, width) \
  X(eq, T, a == b)                       \
  X(ne, T, a != b) X(lt, T, a < b) X(le, T, a <= b) X(gt, T, a > b) X(ge, T, a >= b)
#define DEFINE_INTEGER(cmp, T, ...) COMPARE(setp_##cmp##_##T, T, __VA_ARGS__)
INTEGER_COMPARISONS(DEFINE_INTEGER, u16, 2)
INTEGER_COMPARISONS(DEFINE_INTEGER, s16, 2)
INTEGER_COMPARISONS(DEFINE_INTEGER, u32, 4)
INTEGER_COMPARISONS(DEFINE_INTEGER, s32, 4)
INTEGER_COMPARISONS(DEFINE_INTEGER, u64, 8)
INTEGER_COMPARISONS(DEFINE_INTEGER, s64, 8)

/* If a or b is a NaN, ordered comparisons are false; unordered ones, which end in u, are true. */
/* clang-format off */
#define FLOAT_COMPARISONS(X, T)                                                            \
  X(eq, T, x == y) X(ne, T, x < y || x > y) X(lt, T, x < y) X(le, T, x <= y)               \
  X(gt, T, x > y) X(ge, T, x >= y) X(equ, T, !(x < y || x > y)) X(neu, T, x != y)          \
  X(ltu, T, !(x >= y)) X(leu, T, !(x > y)) X(gtu, T, !(x <= y)) X(geu, T, !(x < y))        \
  X(num, T, x == x && y == y) X(nan, T, x != x || y != y)
/* clang-format on */
#define COMPARE_FLOATS(name, BITS, VALUE, read, ...)                 \
  SIM_HANDLER(name) {                                                \
    const BITS *in_a = SIM_SLOT(BITS, 2), *in_b = SIM_SLOT(BITS, 3); \
    u32 bits = 0;                                                    \
    for (u32 l = 0; l < SIM_LANES; l++) {                            \
      VALUE x = read(in_a[l]), y = read(in_b[l]);                    \
      bits |= (u32)(__VA_ARGS__) << l;                               \
    }                                                                \
    store_comparison(warp, inst, mask, bits);                        \
  }
#define DEFINE_F32(cmp, T, ...) COMPARE_FLOATS(setp_##cmp##_f32, f32, f32, , __VA_ARGS__)
#define DEFINE_FTZ(cmp, T, ...) \
  COMPARE_FLOATS(setp_##cmp##_ftz_f32, f32, f32, sim_flush, __VA_ARGS__)
#define DEFINE_F64(cmp, T, ...) COMPARE_FLOATS(setp_##cmp##_f64, f64, f64, , __VA_ARGS__)
#define DEFINE_F16(cmp, T, ...) \
  COMPARE_FLOATS(setp_##cmp##_f16, u16, f32, sim_f16_to_f32, __VA_ARGS__)
#define DEFINE_BF16(cmp, T, ...) \
  COMPARE_FLOATS(setp_##cmp##_bf16, u16, f32, sim_bf16_to_f32, __VA_ARGS__)
FLOAT_COMPARISONS(DEFINE_F32, )
FLOAT_COMPARISONS(DEFINE_FTZ, )
FLOAT_COMPARISONS(DEFINE_F64, )
FLOAT_COMPARISONS(DEFINE_F16, )
FLOAT_COMPARISONS(DEFINE_BF16, )

static void bind_comparison(struct sim_decode *decode, const struct sim_opcode *opcode,
                            struct sim_inst *inst, u32 bytes) {
  const struct sim_operand *target = sim_operand_at(decode, 0);
  const struct sim_operand *second = NULL;
  if (target->kind == SIM_OPERAND_PAIR) {
    second = &target->items[1];
    target = &target->items[0];
  }
  inst->slot[0] = sim_bind_target(decode, target, 0);
  inst->slot[1] = second ? sim_bind_target(decode, second, 0) : sim_scratch_slot(decode, 0);
  inst->slot[2] = sim_bind_source(decode, sim_operand_at(decode, 1), bytes);
  inst->slot[3] = sim_bind_source(decode, sim_operand_at(decode, 2), bytes);
  inst->variant = (u8)(sim_modifier_among(opcode, "and|or|xor") + 1);
  if (inst->variant != JOIN_NONE) {
    inst->slot[4] = sim_bind_source(decode, sim_operand_at(decode, 3), 0);
  }
}

#define DECODE_COMPARISON(bytes)                                                            \
  static void decode_setp_##bytes(struct sim_decode *decode,                                \
                                  const struct sim_statement *statement,                    \
                                  const struct sim_opcode *opcode, struct sim_inst *inst) { \
    (void)statement;                                                                        \
    bind_comparison(decode, opcode, inst, bytes);                                           \
  }
DECODE_COMPARISON(2)
DECODE_COMPARISON(4)
DECODE_COMPARISON(8)

/* Slots: 0 target, 1 a, 2 b, 3 predicate. */
#define SELECT(name, T)                                                            \
  SIM_HANDLER(name) {                                                              \
    T *out = SIM_SLOT(T, 0);                                                       \
    const T *in_a = SIM_SLOT(T, 1), *in_b = SIM_SLOT(T, 2);                        \
    u32 choice = SIM_PREDICATE(3);                                                 \
    SIM_FOR_LANES(T a = in_a[l]; T b = in_b[l]; out[l] = choice >> l & 1 ? a : b;) \
  }
SELECT(selp_16, u16)
SELECT(selp_32, u32)
SELECT(selp_64, u64)

#define LOGIC(name, ...)                                                           \
  static void name(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) { \
    u32 a = SIM_PREDICATE(1);                                                      \
    SIM_PREDICATE(0) = (SIM_PREDICATE(0) & ~mask) | ((__VA_ARGS__)&mask);          \
  }
LOGIC(mov_pred, a)
LOGIC(not_pred, ~a)
LOGIC(and_pred, a &SIM_PREDICATE(2))
LOGIC(or_pred, a | SIM_PREDICATE(2))
LOGIC(xor_pred, a ^ SIM_PREDICATE(2))

/* testp. Slots: 0 predicate, 1 a. */
#define TEST(name, T, ...)                                                         \
  static void name(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) { \
    const T *in_a = SIM_SLOT(T, 1);                                                \
    u32 bits = 0;                                                                  \
    SIM_EACH_LANE(l, mask) {                                                       \
      T a = in_a[l];                                                               \
      bits |= (u32) !!(__VA_ARGS__) << l;                                          \
    }                                                                              \
    SIM_PREDICATE(0) = (SIM_PREDICATE(0) & ~mask) | bits;                          \
  }
TEST(testp_finite_f32, f32, isfinite(a))
TEST(testp_infinite_f32, f32, isinf(a))
TEST(testp_nan_f32, f32, isnan(a))
TEST(testp_infinite_f64, f64, isinf(a))

#define CLASS SIM_CLASS_PREDICATE
#define JOINS "and|or|xor?."
#define FORM_u16(cmp, T, ...) \
  {"setp." #cmp "." JOINS "u16|b16", decode_setp_2, setp_##cmp##_u16, NULL, CLASS},
#define FORM_s16(cmp, T, ...) \
  {"setp." #cmp "." JOINS "s16", decode_setp_2, setp_##cmp##_s16, NULL, CLASS},
#define FORM_u32(cmp, T, ...) \
  {"setp." #cmp "." JOINS "u32|b32", decode_setp_4, setp_##cmp##_u32, NULL, CLASS},
#define FORM_s32(cmp, T, ...) \
  {"setp." #cmp "." JOINS "s32", decode_setp_4, setp_##cmp##_s32, NULL, CLASS},
#define FORM_u64(cmp, T, ...) \
  {"setp." #cmp "." JOINS "u64|b64", decode_setp_8, setp_##cmp##_u64, NULL, CLASS},
#define FORM_s64(cmp, T, ...) \
  {"setp." #cmp "." JOINS "s64", decode_setp_8, setp_##cmp##_s64, NULL, CLASS},
#define FORM_FLOATS(cmp, T, ...)                                                            \
  {"setp." #cmp "." JOINS "f32", decode_setp_4, setp_##cmp##_f32, NULL, CLASS},             \
      {"setp." #cmp "." JOINS "ftz.f32", decode_setp_4, setp_##cmp##_ftz_f32, NULL, CLASS}, \
      {"setp." #cmp "." JOINS "f64", decode_setp_8, setp_##cmp##_f64, NULL, CLASS},         \
      {"setp." #cmp "." JOINS "f16", decode_setp_2, setp_##cmp##_f16, NULL, CLASS},         \
      {"setp." #cmp "." JOINS "bf16", decode_setp_2, setp_##cmp##_bf16, NULL, CLASS},
static const struct sim_form forms[] = {
    INTEGER_COMPARISONS(FORM_u16, , ) INTEGER_COMPARISONS(FORM_s16, , ) INTEGER_COMPARISONS(
        FORM_u32, , ) INTEGER_COMPARISONS(FORM_s32, , ) INTEGER_COMPARISONS(FORM_u64, , )
        INTEGER_COMPARISONS(FORM_s64, , ){"setp.lo.u32", decode_setp_4, setp_lt_u32, NULL, CLASS},
    {"setp.ls.u32", decode_setp_4, setp_le_u32, NULL, CLASS},
    {"setp.hi.u32", decode_setp_4, setp_gt_u32, NULL, CLASS},
    {"setp.hs.u32", decode_setp_4, setp_ge_u32, NULL, CLASS},
    FLOAT_COMPARISONS(FORM_FLOATS, ){"selp.b16|u16|s16|f16", NULL, selp_16, "h=hhp", CLASS},
    {"selp.b32|u32|s32|f32", NULL, selp_32, "w=wwp", CLASS},
    {"selp.b64|u64|s64|f64", NULL, selp_64, "d=ddp", CLASS},
    {"mov.pred", NULL, mov_pred, "p=p", CLASS},
    {"not.pred", NULL, not_pred, "p=p", CLASS},
    {"and.pred", NULL, and_pred, "p=pp", CLASS},
    {"or.pred", NULL, or_pred, "p=pp", CLASS},
    {"xor.pred", NULL, xor_pred, "p=pp", CLASS},
    {"testp.finite.f32", NULL, testp_finite_f32, "p=w", CLASS},
    {"testp.infinite.f32", NULL, testp_infinite_f32, "p=w", CLASS},
    {"testp.notanumber.f32", NULL, testp_nan_f32, "p=w", CLASS},
    {"testp.infinite.f64", NULL, testp_infinite_f64, "p=d", CLASS},
};
SIM_LIST(sim_predicate_forms, forms);

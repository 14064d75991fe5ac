/* integer.c - integer arithmetic, logic and shifts: the table integer_rows.def, the functions that
 * its expressions call, sums with carry, and lop3.
 *
 * PTX ISA, "Integer Arithmetic Instructions", "Extended-Precision Integer Arithmetic Instructions",
 * "Logic and Shift Instructions". The condition code CC.CF is a bit per lane, owned by the warp. */
#include "simgpu/alu/alu.h"
#include "simgpu/decode/decode.h"

static inline s32 clamp_s32(s64 value) {
  return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (s32)value;
}

/* PTX leaves a zero divisor to the device. Here the quotient has all bits set and the remainder is
 * a. The one overflow, the minimum divided by -1, wraps. */
static inline s64 divide_s64(s64 a, s64 b) {
  if (b == 0) return -1;
  return b == -1 ? (s64)(-(u64)a) : a / b;
}

static inline s64 remainder_s64(s64 a, s64 b) {
  if (b == 0) return a;
  return b == -1 ? 0 : a % b;
}

static inline u64 funnel(u32 low, u32 high) {
  return (u64)high << 32 | low;
}

/* prmt: nibble i of the selector chooses byte i of the result; its top bit asks for the chosen
 * byte's sign in all bits instead. */
static inline u32 permute(u32 a, u32 b, u32 selector) {
  u64 bytes = funnel(a, b);
  u32 result = 0;
  for (u32 i = 0; i < 4; i++) {
    u32 choice = selector >> 4 * i & 15;
    u32 byte = (u32)(bytes >> 8 * (choice & 7)) & 0xff;
    if (choice & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << 8 * i;
  }
  return result;
}

/* bfe: a field that reaches past the top is filled with the sign, or with zeros. */
static inline u64 extract_bits(u64 a, u32 position, u32 length, u32 width, bool is_signed) {
  position &= 0xff;
  length &= 0xff;
  u64 sign = 0;
  if (is_signed && length) {
    u32 top = position + length - 1 < width - 1 ? position + length - 1 : width - 1;
    sign = a >> top & 1;
  }
  u64 value = position < width ? (width == 32 ? (u32)a : a) >> position : 0;
  u32 have = position < width ? width - position : 0;
  if (length < have) have = length;
  if (have < 64) value &= (1ull << have) - 1;
  if (sign && have < 64) value |= ~0ull << have;
  return value;
}

/* bfi: bits of the field that lie past the top are dropped. */
static inline u64 insert_bits(u64 a, u64 b, u32 position, u32 length, u32 width) {
  position &= 0xff;
  length &= 0xff;
  if (position >= width || length == 0) return b;
  u64 field = length >= 64 ? ~0ull : (1ull << length) - 1;
  return (b & ~(field << position)) | (a & field) << position;
}

static inline u64 reverse_bits(u64 a) {
  u64 result = 0;
  for (u32 i = 0; i < 64; i++) result |= (a >> i & 1) << (63 - i);
  return result;
}

/* bfind: the highest bit that differs from the sign. */
static inline s32 find_bit_s32(s32 a) {
  u32 bits = a < 0 ? ~(u32)a : (u32)a;
  return bits ? 31 - __builtin_clz(bits) : -1;
}

/* dp4a. */
static inline u32 dot_bytes(u32 a, u32 b, u32 c, bool a_signed, bool b_signed) {
  for (u32 i = 0; i < 4; i++) {
    u8 x = (u8)(a >> 8 * i), y = (u8)(b >> 8 * i);
    c += (u32)((a_signed ? (s8)x : x) * (b_signed ? (s8)y : y));
  }
  return c;
}

/* Two numbers of 16 bits. */
static inline u32 pair_of(u32 low, u32 high) {
  return (low & 0xffff) | high << 16;
}

static inline u32 absolute_differences(u32 a, u32 b) {
  u32 result = 0;
  for (u32 i = 0; i < 4; i++) {
    s32 difference = (s32)(u8)(a >> 8 * i) - (s32)(u8)(b >> 8 * i);
    result |= (u32)(difference < 0 ? -difference : difference) << 8 * i;
  }
  return result;
}

static inline u32 sum_bytes(u32 a) {
  return (a & 0xff) + (a >> 8 & 0xff) + (a >> 16 & 0xff) + (a >> 24);
}

#define SIM_1(name, pattern, D, A, ...) SIM_DEFINE_1(name, D, A, __VA_ARGS__)
#define SIM_2(name, pattern, D, A, B, ...) SIM_DEFINE_2(name, D, A, B, __VA_ARGS__)
#define SIM_3(name, pattern, D, A, B, C, ...) SIM_DEFINE_3(name, D, A, B, C, __VA_ARGS__)
#define SIM_4(name, pattern, T, ...) SIM_DEFINE_4(name, T, __VA_ARGS__)
#include "simgpu/alu/integer_rows.def"
#undef SIM_1
#undef SIM_2
#undef SIM_3
#undef SIM_4

/* Sums with carry, in a type twice as wide. sub.cc and subc.cc leave the borrow in CC.CF, and subc
 * subtracts it. */
#define SIM_CARRY(name, T, WIDE, in_carry, expression, out_carry)                  \
  static void name(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) { \
    T *out = SIM_SLOT(T, 0);                                                       \
    const T *in_a = SIM_SLOT(T, 1), *in_b = SIM_SLOT(T, 2);                        \
    SIM_EACH_LANE(l, mask) {                                                       \
      WIDE a = in_a[l], b = in_b[l], carry = in_carry ? warp->carry >> l & 1 : 0;  \
      WIDE sum = expression;                                                       \
      out[l] = (T)sum;                                                             \
      u32 bit = (u32)(sum >> (8 * sizeof(T))) & 1;                                 \
      if (out_carry) warp->carry = (warp->carry & ~(1u << l)) | bit << l;          \
    }                                                                              \
  }
typedef unsigned __int128 u128;
SIM_CARRY(add_cc_32, u32, u64, 0, a + b + carry, 1)
SIM_CARRY(addc_cc_32, u32, u64, 1, a + b + carry, 1)
SIM_CARRY(addc_32, u32, u64, 1, a + b + carry, 0)
SIM_CARRY(sub_cc_32, u32, u64, 0, a - b - carry, 1)
SIM_CARRY(subc_cc_32, u32, u64, 1, a - b - carry, 1)
SIM_CARRY(subc_32, u32, u64, 1, a - b - carry, 0)
SIM_CARRY(add_cc_64, u64, u128, 0, a + b + carry, 1)
SIM_CARRY(addc_cc_64, u64, u128, 1, a + b + carry, 1)
SIM_CARRY(addc_64, u64, u128, 1, a + b + carry, 0)
SIM_CARRY(sub_cc_64, u64, u128, 0, a - b - carry, 1)
SIM_CARRY(subc_cc_64, u64, u128, 1, a - b - carry, 1)
SIM_CARRY(subc_64, u64, u128, 1, a - b - carry, 0)

/* mad.cc and madc: half of a product, plus c, plus CC.CF. variant says which, and of which type. */
enum { MAD_HIGH = 1, MAD_CARRIES_IN = 2, MAD_CARRIES_OUT = 4, MAD_SIGNED = 8, MAD_WIDE = 16 };

static u64 half_product(u8 variant, u64 a, u64 b) {
  bool is_wide = variant & MAD_WIDE, is_signed = variant & MAD_SIGNED;
  u128 x = a, y = b;
  if (is_signed) x = (u128)(__int128)(is_wide ? (s64)a : (s32)a);
  if (is_signed) y = (u128)(__int128)(is_wide ? (s64)b : (s32)b);
  u128 product = x * y;
  return (u64)(variant & MAD_HIGH ? product >> (is_wide ? 64 : 32) : product);
}

static void mad_carry(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  u32 bytes = inst->variant & MAD_WIDE ? 8 : 4;
  SIM_EACH_LANE(l, mask) {
    u64 in[3] = {0};
    for (u32 i = 0; i < 3; i++) {
      memcpy(&in[i], warp->registers + inst->slot[1 + i] + l * bytes, bytes);
    }
    u64 product = half_product(inst->variant, in[0], in[1]);
    if (bytes == 4) product &= UINT32_MAX;
    u128 sum = (u128)product + in[2];
    if (inst->variant & MAD_CARRIES_IN) sum += warp->carry >> l & 1;
    memcpy(warp->registers + inst->slot[0] + l * bytes, &sum, bytes);
    u32 bit = (u32)(sum >> 8 * bytes) & 1;
    if (inst->variant & MAD_CARRIES_OUT) warp->carry = (warp->carry & ~(1u << l)) | bit << l;
  }
}

static void decode_mad_carry(struct sim_decode *decode, const struct sim_statement *statement,
                             const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  bool is_wide = sim_modifier_among(opcode, "s64|u64") >= 0;
  inst->variant = (u8)((sim_has_modifier(opcode, "hi") ? MAD_HIGH : 0) |
                       (strcmp(opcode->modifiers[0], "madc") ? 0 : MAD_CARRIES_IN) |
                       (sim_has_modifier(opcode, "cc") ? MAD_CARRIES_OUT : 0) |
                       (sim_modifier_among(opcode, "s32|s64") >= 0 ? MAD_SIGNED : 0) |
                       (is_wide ? MAD_WIDE : 0));
  inst->slot[0] = sim_bind_target(decode, sim_operand_at(decode, 0), is_wide ? 8 : 4);
  for (u32 i = 1; i < 4; i++) {
    inst->slot[i] = sim_bind_source(decode, sim_operand_at(decode, i), is_wide ? 8 : 4);
  }
}

/* lop3: the immediate is the truth table; its bit 4a + 2b + c is the result. */
SIM_HANDLER(lop3) {
  u32 *out = SIM_SLOT(u32, 0);
  const u32 *in_a = SIM_SLOT(u32, 1), *in_b = SIM_SLOT(u32, 2), *in_c = SIM_SLOT(u32, 3);
  u32 table = (u32)inst->immediate;
  SIM_FOR_LANES(u32 a = in_a[l]; u32 b = in_b[l]; u32 c = in_c[l]; u32 result = 0;
                for (u32 i = 0; i < 8; i++) {
                  u32 term = (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
                  result |= table >> i & 1 ? term : 0;
                } out[l] = result;)
}

static void decode_lop3(struct sim_decode *decode, const struct sim_statement *statement,
                        const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  (void)opcode;
  inst->slot[0] = sim_bind_target(decode, sim_operand_at(decode, 0), 4);
  for (u32 i = 1; i < 4; i++) inst->slot[i] = sim_bind_source(decode, sim_operand_at(decode, i), 4);
  inst->immediate = sim_literal_value(decode, sim_operand_at(decode, 4));
}

#define SIM_1(name, pattern, D, A, ...) SIM_FORM_1(name, pattern, D, A, SIM_CLASS_INTEGER)
#define SIM_2(name, pattern, D, A, B, ...) SIM_FORM_2(name, pattern, D, A, B, SIM_CLASS_INTEGER)
#define SIM_3(name, pattern, D, A, B, C, ...) \
  SIM_FORM_3(name, pattern, D, A, B, C, SIM_CLASS_INTEGER)
#define SIM_4(name, pattern, T, ...) SIM_FORM_4(name, pattern, T, SIM_CLASS_INTEGER)
static const struct sim_form forms[] = {
#include "simgpu/alu/integer_rows.def"
    {"add.cc.s32|u32", NULL, add_cc_32, "w=ww", SIM_CLASS_INTEGER},
    {"addc.cc.s32|u32", NULL, addc_cc_32, "w=ww", SIM_CLASS_INTEGER},
    {"addc.s32|u32", NULL, addc_32, "w=ww", SIM_CLASS_INTEGER},
    {"sub.cc.s32|u32", NULL, sub_cc_32, "w=ww", SIM_CLASS_INTEGER},
    {"subc.cc.s32|u32", NULL, subc_cc_32, "w=ww", SIM_CLASS_INTEGER},
    {"subc.s32|u32", NULL, subc_32, "w=ww", SIM_CLASS_INTEGER},
    {"add.cc.s64|u64", NULL, add_cc_64, "d=dd", SIM_CLASS_INTEGER},
    {"addc.cc.s64|u64", NULL, addc_cc_64, "d=dd", SIM_CLASS_INTEGER},
    {"addc.s64|u64", NULL, addc_64, "d=dd", SIM_CLASS_INTEGER},
    {"sub.cc.s64|u64", NULL, sub_cc_64, "d=dd", SIM_CLASS_INTEGER},
    {"subc.cc.s64|u64", NULL, subc_cc_64, "d=dd", SIM_CLASS_INTEGER},
    {"subc.s64|u64", NULL, subc_64, "d=dd", SIM_CLASS_INTEGER},
    {"mad.lo|hi.cc.s32|u32|s64|u64", decode_mad_carry, mad_carry, NULL, SIM_CLASS_INTEGER},
    {"madc.lo|hi.cc?.s32|u32|s64|u64", decode_mad_carry, mad_carry, NULL, SIM_CLASS_INTEGER},
    {"lop3.b32", decode_lop3, lop3, NULL, SIM_CLASS_INTEGER},
};
SIM_LIST(sim_integer_forms, forms);

/* convert.c - cvt. PTX ISA, "Data Movement and Conversion Instructions: cvt".
 *
 * The pairs of types that kernels often use have vectorised loops. All others go lane by lane:
 *   load and widen to a 64-bit integer or a double, which hold all narrower values exactly
 *   round to a whole number, where the instruction asks for it
 *   round to the target type, and extend to its register
 * Packed conversions (x2) and tf32 have a handler each.
 *
 * A NaN becomes the integer 0. PTX ISA 9.0 says so for f32 and narrower to at most 32 bits; for the
 * others it asks for the sign bit alone. */
#include "simgpu/alu/alu.h"
#include "simgpu/decode/decode.h"

enum type { U8, S8, U16, S16, U32, S32, U64, S64, F16, BF16, F32, F64, TYPE_COUNT };
static const char type_names[] = "u8|s8|u16|s16|u32|s32|u64|s64|f16|bf16|f32|f64";
static const u8 type_bytes[TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8};

enum rounding { TO_NEAREST, TO_ZERO, DOWN, UP };
enum { FLUSH = 1, SATURATE = 2, RELU = 4, TO_WHOLE = 8 };

/* The types, rounding and flags of an instruction, packed into sim_inst.immediate. */
struct conversion {
  u8 to, from, rounding, flags;
};

/* One value in the widest type of its kind: `whole` of an integer, `real` of a float. */
struct value {
  u64 whole; /* two's complement */
  double real;
};

static inline bool is_float(u8 type) {
  return type >= F16;
}
static inline bool is_signed_type(u8 type) {
  return type < F16 && (type & 1);
}

static struct value load_value(u8 type, const u8 *at, u8 flags) {
  u64 bits = 0;
  memcpy(&bits, at, type_bytes[type]);
  switch (type) {
    case S8:
      return (struct value){.whole = (u64)(s64)(s8)bits};
    case S16:
      return (struct value){.whole = (u64)(s64)(s16)bits};
    case S32:
      return (struct value){.whole = (u64)(s64)(s32)bits};
    case F16:
      return (struct value){.real = sim_f16_to_f32((u16)bits)};
    case BF16:
      return (struct value){.real = sim_bf16_to_f32((u16)bits)};
    case F32: {
      float real = sim_f32_of((u32)bits);
      return (struct value){.real = flags & FLUSH ? sim_flush(real) : real};
    }
    case F64:
      return (struct value){.real = sim_f64_of(bits)};
    default:
      return (struct value){.whole = bits};
  }
}

static double round_whole(double value, u8 rounding) {
  switch (rounding) {
    case TO_ZERO:
      return trunc(value);
    case DOWN:
      return floor(value);
    case UP:
      return ceil(value);
    default:
      return rint(value);
  }
}

/* Saturates. `limit` is the first double past the type's maximum, because the maximum of a 64-bit
 * type is not a double. */
static u64 whole_of_real(double value, u8 to) {
  u32 bits = 8u * type_bytes[to];
  if (value != value) return 0;
  if (is_signed_type(to)) {
    double limit = ldexp(1, (int)bits - 1);
    if (value >= limit) return (1ull << (bits - 1)) - 1;
    if (value <= -limit) return ~0ull << (bits - 1);
    return (u64)(s64)value;
  }
  if (value <= 0) return 0;
  if (value >= ldexp(1, (int)bits)) return bits == 64 ? ~0ull : (1ull << bits) - 1;
  return (u64)value;
}

static u64 saturate_whole(u64 value, u8 from, u8 to) {
  bool negative = is_signed_type(from) && (s64)value < 0;
  u32 bits = 8u * type_bytes[to];
  if (is_signed_type(to)) {
    s64 max = (s64)((1ull << (bits - 1)) - 1);
    if (negative) return (s64)value < -max - 1 ? (u64)(-max - 1) : value;
    return value > (u64)max ? (u64)max : value;
  }
  if (negative) return 0;
  u64 max = bits == 64 ? ~0ull : (1ull << bits) - 1;
  return value > max ? max : value;
}

static double real_of_whole(u64 value, u8 from) {
  /* Both halves are exact; their sum is rounded to odd, so rounding it again is right. */
  double high = is_signed_type(from) ? (double)((s64)value >> 32) : (double)(value >> 32);
  return sim_sum_to_odd(high * 0x1p32, (double)(u32)value);
}

/* Rounds to f32 in a direction. Rounding to odd has not moved the value across an f32. */
static float single_of_real(double value, u8 rounding) {
  float near = (float)value;
  if ((double)near == value || near != near || rounding == TO_NEAREST) return near;
  bool down = rounding == DOWN || (rounding == TO_ZERO && value > 0);
  if (down && (double)near > value) return nextafterf(near, -INFINITY);
  if (!down && (double)near < value) return nextafterf(near, INFINITY);
  return near;
}

static u16 half_of_real(double value, u8 type, u8 rounding) {
  float odd = sim_f64_to_odd_f32(value);
  u16 near = type == F16 ? sim_f32_to_f16(odd) : sim_f32_to_bf16(odd);
  if (rounding != TO_ZERO) return near;
  double back = type == F16 ? sim_f16_to_f32(near) : sim_bf16_to_f32(near);
  return fabs(back) > fabs(value) && !isinf(value) ? (u16)(near - 1) : near;
}

static u64 bits_of_real(double value, const struct conversion *conversion) {
  if (conversion->flags & RELU) value = value < 0 ? 0 : value;
  if (conversion->flags & SATURATE) value = value > 0 ? (value < 1 ? value : 1) : 0;
  switch (conversion->to) {
    case F16:
    case BF16:
      return half_of_real(value, conversion->to, conversion->rounding);
    case F32: {
      float single = single_of_real(value, conversion->rounding);
      if (single != single) return 0x7fffffff;
      return sim_f32_bits(conversion->flags & FLUSH ? sim_flush(single) : single);
    }
    default:
      return sim_f64_bits(value);
  }
}

static u64 convert(struct value value, const struct conversion *conversion) {
  u8 to = conversion->to, from = conversion->from;
  if (!is_float(from) && !is_float(to)) {
    return conversion->flags & SATURATE ? saturate_whole(value.whole, from, to) : value.whole;
  }
  if (!is_float(from) && to == F64) {
    return sim_f64_bits(is_signed_type(from) ? (double)(s64)value.whole : (double)value.whole);
  }
  if (!is_float(from)) return bits_of_real(real_of_whole(value.whole, from), conversion);
  if (!is_float(to)) return whole_of_real(round_whole(value.real, conversion->rounding), to);
  if (conversion->flags & TO_WHOLE) value.real = round_whole(value.real, conversion->rounding);
  return bits_of_real(value.real, conversion);
}

/* An integer that is narrower than its register is extended by its type, as by a load. */
static u64 extend(u64 bits, u8 type) {
  switch (type) {
    case U8:
      return (u8)bits;
    case S8:
      return (u64)(s64)(s8)bits;
    case U16:
      return (u16)bits;
    case S16:
      return (u64)(s64)(s16)bits;
    case U32:
      return (u32)bits;
    case S32:
      return (u64)(s64)(s32)bits;
    default:
      return bits;
  }
}

static void cvt_any(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  struct conversion conversion;
  memcpy(&conversion, &inst->immediate, sizeof conversion);
  u8 *out = warp->registers + inst->slot[0];
  const u8 *in = warp->registers + inst->slot[1];
  SIM_EACH_LANE(l, mask) {
    struct value value = load_value(conversion.from, in + l * inst->stride[1], conversion.flags);
    u64 bits = extend(convert(value, &conversion), conversion.to);
    memcpy(out + l * inst->stride[0], &bits, inst->stride[0]);
  }
}

SIM_DEFINE_1(cvt_s64_s32, s64, s32, a)
SIM_DEFINE_1(cvt_u64_u32, u64, u32, a)
SIM_DEFINE_1(cvt_u32_u64, u32, u64, a)
SIM_DEFINE_1(cvt_f32_s32, f32, s32, a)
SIM_DEFINE_1(cvt_f32_u32, f32, u32, a)
SIM_DEFINE_1(cvt_f32_f16, f32, u16, sim_f16_to_f32(a))
SIM_DEFINE_1(cvt_f32_bf16, f32, u16, sim_bf16_to_f32(a))
SIM_DEFINE_1(cvt_f16_f32, u16, f32, sim_f32_to_f16(a))
SIM_DEFINE_1(cvt_bf16_f32, u16, f32, sim_f32_to_bf16(a))

static sim_handler find_loop(const struct conversion *conversion, const struct sim_inst *inst) {
  static const struct {
    u8 to, from;
    sim_handler run;
  } loops[] = {{S64, S32, cvt_s64_s32},  {U64, S32, cvt_s64_s32},   {U64, U32, cvt_u64_u32},
               {S64, U32, cvt_u64_u32},  {U32, U64, cvt_u32_u64},   {S32, S64, cvt_u32_u64},
               {U32, S64, cvt_u32_u64},  {F32, S32, cvt_f32_s32},   {F32, U32, cvt_f32_u32},
               {F32, F16, cvt_f32_f16},  {F32, BF16, cvt_f32_bf16}, {F16, F32, cvt_f16_f32},
               {BF16, F32, cvt_bf16_f32}};
  if (conversion->flags || conversion->rounding) return cvt_any;
  for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
    if (loops[i].to == conversion->to && loops[i].from == conversion->from &&
        inst->stride[0] == type_bytes[conversion->to] &&
        inst->stride[1] == type_bytes[conversion->from]) {
      return loops[i].run;
    }
  }
  return cvt_any;
}

/* The from_end-th last modifier as a type: 1 is the source, 2 the target. */
static u8 last_type(const struct sim_opcode *opcode, u32 from_end) {
  struct sim_opcode alone = {.count = 2};
  alone.modifiers[1] = opcode->modifiers[opcode->count - from_end];
  return (u8)sim_modifier_among(&alone, type_names);
}

static void decode_cvt(struct sim_decode *decode, const struct sim_statement *statement,
                       const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  struct conversion conversion = {.to = last_type(opcode, 2), .from = last_type(opcode, 1)};
  int whole = sim_modifier_among(opcode, "rni|rzi|rmi|rpi");
  int plain = sim_modifier_among(opcode, "rn|rz|rm|rp");
  conversion.rounding = (u8)(whole >= 0 ? whole : plain >= 0 ? plain : 0);
  if (sim_has_modifier(opcode, "ftz")) conversion.flags |= FLUSH;
  if (sim_has_modifier(opcode, "sat")) conversion.flags |= SATURATE;
  if (sim_has_modifier(opcode, "relu")) conversion.flags |= RELU;
  if (whole >= 0 && is_float(conversion.to)) conversion.flags |= TO_WHOLE;
  sim_bind_any(decode, sim_operand_at(decode, 0), type_bytes[conversion.to], inst, 0);
  sim_bind_any(decode, sim_operand_at(decode, 1), type_bytes[conversion.from], inst, 1);
  if (inst->stride[0] < type_bytes[conversion.to] ||
      inst->stride[1] < type_bytes[conversion.from]) {
    sim_decode_fail(decode, "%s has a register that is too narrow", opcode->text);
  }
  memcpy(&inst->immediate, &conversion, sizeof conversion);
  inst->run = find_loop(&conversion, inst);
}

/* Packed conversions: cvt d, a, b puts a into the high half. */
static inline u16 zero_f16(float value) {
  return half_of_real(value, F16, TO_ZERO);
}
static inline u16 zero_bf16(float value) {
  return half_of_real(value, BF16, TO_ZERO);
}
static inline float relu(float value) {
  return value < 0 ? 0 : value;
}
static inline float finite_f16(float value) {
  return value > 65504 ? 65504 : value < -65504 ? -65504 : value;
}

#define PACK(low, high) ((u32)(low) | (u32)(high) << 16)
SIM_DEFINE_2(cvt_f16x2, u32, f32, f32, PACK(sim_f32_to_f16(b), sim_f32_to_f16(a)))
SIM_DEFINE_2(cvt_bf16x2, u32, f32, f32, PACK(sim_f32_to_bf16(b), sim_f32_to_bf16(a)))
SIM_DEFINE_2(cvt_rz_f16x2, u32, f32, f32, PACK(zero_f16(b), zero_f16(a)))
SIM_DEFINE_2(cvt_rz_bf16x2, u32, f32, f32, PACK(zero_bf16(b), zero_bf16(a)))
SIM_DEFINE_2(cvt_relu_f16x2, u32, f32, f32, PACK(sim_f32_to_f16(relu(b)), sim_f32_to_f16(relu(a))))
SIM_DEFINE_2(cvt_relu_bf16x2, u32, f32, f32,
             PACK(sim_f32_to_bf16(relu(b)), sim_f32_to_bf16(relu(a))))
SIM_DEFINE_2(cvt_finite_f16x2, u32, f32, f32,
             PACK(sim_f32_to_f16(finite_f16(b)), sim_f32_to_f16(finite_f16(a))))

#define PACK_BYTES(low, high) (u16)((low) | (high) << 8)
SIM_DEFINE_2(cvt_e4m3x2_f32, u16, f32, f32, PACK_BYTES(sim_f32_to_e4m3(b), sim_f32_to_e4m3(a)))
SIM_DEFINE_2(cvt_e5m2x2_f32, u16, f32, f32, PACK_BYTES(sim_f32_to_e5m2(b), sim_f32_to_e5m2(a)))
#define HALF_LOW(x) sim_f16_to_f32((u16)(x))
#define HALF_HIGH(x) sim_f16_to_f32((u16)((x) >> 16))
SIM_DEFINE_1(cvt_e4m3x2_f16x2, u16, u32,
             PACK_BYTES(sim_f32_to_e4m3(HALF_LOW(a)), sim_f32_to_e4m3(HALF_HIGH(a))))
SIM_DEFINE_1(cvt_e5m2x2_f16x2, u16, u32,
             PACK_BYTES(sim_f32_to_e5m2(HALF_LOW(a)), sim_f32_to_e5m2(HALF_HIGH(a))))
SIM_DEFINE_1(cvt_f16x2_e4m3x2, u32, u16,
             PACK(sim_f32_to_f16(sim_e4m3_to_f32((u8)a)),
                  sim_f32_to_f16(sim_e4m3_to_f32((u8)(a >> 8)))))
SIM_DEFINE_1(cvt_f16x2_e5m2x2, u32, u16,
             PACK(sim_f32_to_f16(sim_e5m2_to_f32((u8)a)),
                  sim_f32_to_f16(sim_e5m2_to_f32((u8)(a >> 8)))))
SIM_DEFINE_1(cvt_tf32, u32, f32, sim_f32_to_tf32(a))
SIM_DEFINE_1(cvt_rna_tf32, u32, f32, sim_f32_to_tf32_away(a))

#define INTEGERS "u8|s8|u16|s16|u32|s32|u64|s64"
#define FLOATS "f16|bf16|f32|f64"
#define CLASS SIM_CLASS_CONVERT
static const struct sim_form forms[] = {
    {"cvt.sat?." INTEGERS "." INTEGERS, decode_cvt, NULL, NULL, CLASS},
    {"cvt.rn|rz|rm|rp." FLOATS "." INTEGERS, decode_cvt, NULL, NULL, CLASS},
    {"cvt.rni|rzi|rmi|rpi.ftz?.sat?." INTEGERS "." FLOATS, decode_cvt, NULL, NULL, CLASS},
    {"cvt.rni|rzi|rmi|rpi.ftz?.sat?.f16.f16", decode_cvt, NULL, NULL, CLASS},
    {"cvt.rni|rzi|rmi|rpi.ftz?.sat?.f32.f32", decode_cvt, NULL, NULL, CLASS},
    {"cvt.rni|rzi|rmi|rpi.f64.f64", decode_cvt, NULL, NULL, CLASS},
    {"cvt.ftz?.sat?.f32.f16|bf16|f32", decode_cvt, NULL, NULL, CLASS},
    {"cvt.ftz?.f64.f16|bf16|f32", decode_cvt, NULL, NULL, CLASS},
    {"cvt.rn|rz|rm|rp.ftz?.sat?.f32.f64", decode_cvt, NULL, NULL, CLASS},
    {"cvt.rn|rz.ftz?.sat?.f16.f32|f64", decode_cvt, NULL, NULL, CLASS},
    {"cvt.rn|rz.relu?.f16|bf16.f32|f64", decode_cvt, NULL, NULL, CLASS},
    {"cvt.rn.bf16.f16", decode_cvt, NULL, NULL, CLASS},
    {"cvt.rn.f16x2.f32", NULL, cvt_f16x2, "w=ww", CLASS},
    {"cvt.rn.bf16x2.f32", NULL, cvt_bf16x2, "w=ww", CLASS},
    {"cvt.rz.f16x2.f32", NULL, cvt_rz_f16x2, "w=ww", CLASS},
    {"cvt.rz.bf16x2.f32", NULL, cvt_rz_bf16x2, "w=ww", CLASS},
    {"cvt.rn.relu.f16x2.f32", NULL, cvt_relu_f16x2, "w=ww", CLASS},
    {"cvt.rn.relu.bf16x2.f32", NULL, cvt_relu_bf16x2, "w=ww", CLASS},
    {"cvt.rn.satfinite.f16x2.f32", NULL, cvt_finite_f16x2, "w=ww", CLASS},
    {"cvt.rn.satfinite.e4m3x2.f32", NULL, cvt_e4m3x2_f32, "h=ww", CLASS},
    {"cvt.rn.satfinite.e5m2x2.f32", NULL, cvt_e5m2x2_f32, "h=ww", CLASS},
    {"cvt.rn.satfinite.e4m3x2.f16x2", NULL, cvt_e4m3x2_f16x2, "h=w", CLASS},
    {"cvt.rn.satfinite.e5m2x2.f16x2", NULL, cvt_e5m2x2_f16x2, "h=w", CLASS},
    {"cvt.rn.f16x2.e4m3x2", NULL, cvt_f16x2_e4m3x2, "w=h", CLASS},
    {"cvt.rn.f16x2.e5m2x2", NULL, cvt_f16x2_e5m2x2, "w=h", CLASS},
    {"cvt.rn.tf32.f32", NULL, cvt_tf32, "w=w", CLASS},
    {"cvt.rna.tf32.f32", NULL, cvt_rna_tf32, "w=w", CLASS},
};
SIM_LIST(sim_convert_forms, forms);

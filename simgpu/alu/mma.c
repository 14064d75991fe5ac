/* mma.c - mma.sync: D = A B + C, A of 16 x K, B of K x 8, C and D of 16 x 8. PTX ISA, "Warp Level
 * Matrix Multiply-Accumulate Instructions: mma", whose figures show which lane holds what.
 *
 * With E elements in a 32-bit register, g = lane / 4, t = lane % 4:
 *   register r of A: row g + 8 (r % 2), columns E t + 4 E (r / 2) and the next E - 1
 *   register r of B: rows E t + 4 E r and the next E - 1, column g
 *   registers 0, 1 of C and D: row g, columns 2 t, 2 t + 1;  registers 2, 3: row g + 8
 *
 * A handler gathers A, B and C into matrices on its stack, multiplies, and spreads D. Products of
 * 16-bit floats are exact in f32. With f32 accumulators their sums are those of tensor cores
 * (alu/truncate.h), unless sums are to be rounded. All others are: in f32, in the order of k. */
#include "simgpu/alu/mma.h"

#include "simgpu/alu/alu.h"
#include "simgpu/alu/truncate.h"
#include "simgpu/decode/decode.h"

static const struct sim_truncation truncations[] = {
    {"sm_80", 8, 24, -132},
    {"sm_90", 16, 25, -133},
};
/* NULL: sums are rounded. */
static const struct sim_truncation *truncation;

bool sim_mma_choose(const char *form) {
  const struct sim_truncation *chosen = NULL;
  for (size_t i = 0; i < sizeof truncations / sizeof *truncations; i++) {
    if (!strcmp(form, truncations[i].name)) chosen = &truncations[i];
  }
  if (!chosen && strcmp(form, "round")) return false;
  truncation = chosen;
  return true;
}

static inline f32 of_tf32(u32 bits) {
  return sim_f32_of(bits & ~0x1fffu);
}
static inline f32 of_f16(u32 bits) {
  return sim_f16_to_f32((u16)bits);
}
static inline f32 of_bf16(u32 bits) {
  return sim_bf16_to_f32((u16)bits);
}
static inline s32 of_s8(u32 bits) {
  return (s8)bits;
}
static inline s32 of_u8(u32 bits) {
  return (u8)bits;
}

/* Every element of a matrix is looked up here. Filled once, when the library is loaded. */
static f32 e4m3_values[256], e5m2_values[256];
__attribute__((constructor)) static void fill_tables(void) {
  for (u32 code = 0; code < 256; code++) {
    e4m3_values[code] = sim_e4m3_to_f32((u8)code);
    e5m2_values[code] = sim_e5m2_to_f32((u8)code);
  }
}
static inline f32 of_e4m3(u32 bits) {
  return e4m3_values[bits & 0xff];
}
static inline f32 of_e5m2(u32 bits) {
  return e5m2_values[bits & 0xff];
}

/* Slots: the registers of D, A, B and C, in that order; the shape says how many each has. The four
 * lanes of one g hold 4 E consecutive elements of a row of A, or of a column of B. So the 32 lanes
 * of a register are 8 runs of 4 E elements. */
#define GATHER(T, ITEM, E, K, of_a, of_b, a_at, b_at)                          \
  T a[M][K_MAX], b[K_MAX][N];                                                  \
  ITEM items[SIM_LANES * (E)];                                                 \
  for (u32 r = 0; r < 2 * (K) / (4 * (E)); r++) {                              \
    memcpy(items, SIM_SLOT(u32, (a_at) + r), sizeof items);                    \
    for (u32 g = 0; g < 8; g++) {                                              \
      T *row = a[g + 8 * (r & 1)] + 4 * (E) * (r >> 1);                        \
      for (u32 i = 0; i < 4 * (E); i++) row[i] = of_a(items[4 * (E)*g + i]);   \
    }                                                                          \
  }                                                                            \
  for (u32 r = 0; r < (K) / (4 * (E)); r++) {                                  \
    memcpy(items, SIM_SLOT(u32, (b_at) + r), sizeof items);                    \
    T values[SIM_LANES * (E)];                                                 \
    for (u32 i = 0; i < SIM_LANES * (E); i++) values[i] = of_b(items[i]);      \
    for (u32 i = 0; i < 4 * (E); i++) {                                        \
      for (u32 g = 0; g < 8; g++) b[4 * (E)*r + i][g] = values[4 * (E)*g + i]; \
    }                                                                          \
  }

#define MULTIPLY(T, K)                \
  for (u32 m = 0; m < M; m++) {       \
    T##x8 sum, row;                   \
    memcpy(&sum, c[m], sizeof sum);   \
    for (u32 k = 0; k < (K); k++) {   \
      memcpy(&row, b[k], sizeof row); \
      sum += a[m][k] * row;           \
    }                                 \
    memcpy(c[m], &sum, sizeof sum);   \
  }

/* least: the least exponent of a normal number of A's and B's format. */
#define MULTIPLY_16(K, least)                           \
  if (truncation) {                                     \
    multiply_truncating(truncation, c, a, b, K, least); \
  } else {                                              \
    MULTIPLY(f32, K)                                    \
  }
#define MULTIPLY_F16(T, K) MULTIPLY_16(K, -14)
#define MULTIPLY_BF16(T, K) MULTIPLY_16(K, -126)

#define MMA(name, T, ITEM, E, K, of_a, of_b, MULTIPLY)                                             \
  SIM_HANDLER(name) {                                                                              \
    (void)mask;                                                                                    \
    enum { A_AT = 4, B_AT = A_AT + 2 * K / (4 * E), C_AT = B_AT + K / (4 * E) };                   \
    GATHER(T, ITEM, E, K, of_a, of_b, A_AT, B_AT)                                                  \
    T c[M][N];                                                                                     \
    for (u32 r = 0; r < 4; r++) {                                                                  \
      const T *in = SIM_SLOT(T, C_AT + r);                                                         \
      for (u32 l = 0; l < SIM_LANES; l++) c[l / 4 + 8 * (r >> 1)][2 * (l & 3) + (r & 1)] = in[l];  \
    }                                                                                              \
    MULTIPLY(T, K)                                                                                 \
    for (u32 r = 0; r < 4; r++) {                                                                  \
      T *out = SIM_SLOT(T, r);                                                                     \
      for (u32 l = 0; l < SIM_LANES; l++) out[l] = c[l / 4 + 8 * (r >> 1)][2 * (l & 3) + (r & 1)]; \
    }                                                                                              \
  }

/* f16 accumulators: C and D have two registers, row g and row g + 8, of two elements. Sums are in
 * f32 and rounded once, at the end. */
#define MMA_HALF(name, K)                                                      \
  SIM_HANDLER(name) {                                                          \
    (void)mask;                                                                \
    enum { A_AT = 2, B_AT = A_AT + 2 * K / 8, C_AT = B_AT + K / 8 };           \
    GATHER(f32, u16, 2, K, of_f16, of_f16, A_AT, B_AT)                         \
    f32 c[M][N];                                                               \
    for (u32 r = 0; r < 2; r++) {                                              \
      const u32 *in = SIM_SLOT(u32, C_AT + r);                                 \
      for (u32 l = 0; l < SIM_LANES; l++) {                                    \
        c[l / 4 + 8 * r][2 * (l & 3)] = of_f16(in[l]);                         \
        c[l / 4 + 8 * r][2 * (l & 3) + 1] = of_f16(in[l] >> 16);               \
      }                                                                        \
    }                                                                          \
    MULTIPLY(f32, K)                                                           \
    for (u32 r = 0; r < 2; r++) {                                              \
      u32 *out = SIM_SLOT(u32, r);                                             \
      for (u32 l = 0; l < SIM_LANES; l++) {                                    \
        const f32 *pair = c[l / 4 + 8 * r] + 2 * (l & 3);                      \
        out[l] = sim_f32_to_f16(pair[0]) | (u32)sim_f32_to_f16(pair[1]) << 16; \
      }                                                                        \
    }                                                                          \
  }

MMA(mma_k16_bf16, f32, u16, 2, 16, of_bf16, of_bf16, MULTIPLY_BF16)
MMA(mma_k16_f16, f32, u16, 2, 16, of_f16, of_f16, MULTIPLY_F16)
MMA(mma_k8_bf16, f32, u16, 2, 8, of_bf16, of_bf16, MULTIPLY_BF16)
MMA(mma_k8_f16, f32, u16, 2, 8, of_f16, of_f16, MULTIPLY_F16)
MMA(mma_k8_tf32, f32, u32, 1, 8, of_tf32, of_tf32, MULTIPLY)
MMA(mma_k4_tf32, f32, u32, 1, 4, of_tf32, of_tf32, MULTIPLY)
MMA(mma_k32_e4m3, f32, u8, 4, 32, of_e4m3, of_e4m3, MULTIPLY)
MMA(mma_k32_e5m2, f32, u8, 4, 32, of_e5m2, of_e5m2, MULTIPLY)
MMA(mma_k32_e4m3_e5m2, f32, u8, 4, 32, of_e4m3, of_e5m2, MULTIPLY)
MMA(mma_k32_e5m2_e4m3, f32, u8, 4, 32, of_e5m2, of_e4m3, MULTIPLY)
MMA(mma_k32_s8, s32, u8, 4, 32, of_s8, of_s8, MULTIPLY)
MMA(mma_k32_u8, s32, u8, 4, 32, of_u8, of_u8, MULTIPLY)
MMA(mma_k32_u8_s8, s32, u8, 4, 32, of_u8, of_s8, MULTIPLY)
MMA(mma_k16_s8, s32, u8, 4, 16, of_s8, of_s8, MULTIPLY)
MMA_HALF(mma_k16_f16_half, 16)
MMA_HALF(mma_k8_f16_half, 8)

static u32 bind_list(struct sim_decode *decode, u32 operand, u32 at, bool is_target,
                     struct sim_inst *inst) {
  const struct sim_operand *list = sim_operand_at(decode, operand);
  u32 count = list->kind == SIM_OPERAND_VECTOR ? list->count : 1;
  for (u32 i = 0; i < count; i++) {
    const struct sim_operand *item = list->kind == SIM_OPERAND_VECTOR ? &list->items[i] : list;
    if (at + i >= SIM_MAX_SLOTS) sim_decode_fail(decode, "mma has too many registers");
    inst->slot[at + i] =
        is_target ? sim_bind_target(decode, item, 4) : sim_bind_source(decode, item, 4);
  }
  return at + count;
}

static void decode_mma(struct sim_decode *decode, const struct sim_statement *statement,
                       const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  int k = 4 << sim_modifier_among(opcode, "m16n8k4|m16n8k8|m16n8k16|m16n8k32");
  int per_register = 1;
  if (sim_modifier_among(opcode, "bf16") >= 0 || !strcmp(opcode->modifiers[7], "f16"))
    per_register = 2;
  if (sim_modifier_among(opcode, "e4m3|e5m2|s8|u8") >= 0) per_register = 4;
  bool is_half = !strcmp(opcode->modifiers[opcode->count - 1], "f16");
  u32 c_count = is_half ? 2 : 4, b_count = (u32)(k / (4 * per_register));
  u32 at = bind_list(decode, 0, 0, true, inst);
  at = bind_list(decode, 1, at, false, inst);
  at = bind_list(decode, 2, at, false, inst);
  at = bind_list(decode, 3, at, false, inst);
  if (at != 2 * c_count + 3 * b_count) sim_decode_fail(decode, "mma has %u registers", at);
  inst->convergence = SIM_CONVERGE_ALIGNED;
}

#define ROW(shape, types, run) \
  { "mma.sync.aligned." shape ".row.col." types, decode_mma, run, NULL, SIM_CLASS_MATRIX }
static const struct sim_form forms[] = {
    ROW("m16n8k16", "f32.bf16.bf16.f32", mma_k16_bf16),
    ROW("m16n8k16", "f32.f16.f16.f32", mma_k16_f16),
    ROW("m16n8k8", "f32.bf16.bf16.f32", mma_k8_bf16),
    ROW("m16n8k8", "f32.f16.f16.f32", mma_k8_f16),
    ROW("m16n8k8", "f32.tf32.tf32.f32", mma_k8_tf32),
    ROW("m16n8k4", "f32.tf32.tf32.f32", mma_k4_tf32),
    ROW("m16n8k32", "f32.e4m3.e4m3.f32", mma_k32_e4m3),
    ROW("m16n8k32", "f32.e5m2.e5m2.f32", mma_k32_e5m2),
    ROW("m16n8k32", "f32.e4m3.e5m2.f32", mma_k32_e4m3_e5m2),
    ROW("m16n8k32", "f32.e5m2.e4m3.f32", mma_k32_e5m2_e4m3),
    ROW("m16n8k32", "s32.s8.s8.s32", mma_k32_s8),
    ROW("m16n8k32", "s32.u8.u8.s32", mma_k32_u8),
    ROW("m16n8k32", "s32.u8.s8.s32", mma_k32_u8_s8),
    ROW("m16n8k16", "s32.s8.s8.s32", mma_k16_s8),
    ROW("m16n8k16", "f16.f16.f16.f16", mma_k16_f16_half),
    ROW("m16n8k8", "f16.f16.f16.f16", mma_k8_f16_half),
};
SIM_LIST(sim_mma_forms, forms);

/* matrix.c - ldmatrix, stmatrix, movmatrix: matrices of 8 x 8 16-bit elements, between shared
 * memory and registers. PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions".
 *
 * Lane l holds of each matrix row l / 4, columns 2 (l % 4) and 2 (l % 4) + 1; with .trans it holds
 * these of the transposed matrix. Matrices pass through arrays on the handler's stack. Slots: the
 * registers, one per matrix, then the address. */
#include "simgpu/alu/alu.h"
#include "simgpu/decode/decode.h"
#include "simgpu/memory/access.h"
#include "simgpu/sched/profile.h"

enum { ROWS = 8, ROW_BYTES = 16 };

static void profile_rows(struct sim_warp *warp, const struct sim_inst *inst) {
  u32 addresses[SIM_LANES];
  for (u32 i = 0; i < inst->element_count * (u32)ROWS; i++) {
    addresses[i] = (u32)sim_lane_address(warp, inst, inst->element_count, i);
  }
  sim_profile_shared(warp, inst, addresses, inst->element_count * ROWS, ROW_BYTES);
}

/* The row addresses of matrix m come from lanes 8m to 8m + 7. */
static u8 *locate_row(struct sim_warp *warp, const struct sim_inst *inst, u32 matrix, u32 row,
                      enum sim_access access) {
  u32 lane = matrix * ROWS + row;
  u64 address = sim_lane_address(warp, inst, inst->element_count, lane);
  return sim_locate(warp, inst, lane, address, ROW_BYTES, access);
}

static void spread(u32 *out, u16 rows[ROWS][ROWS], bool transposed) {
  for (u32 lane = 0; lane < SIM_LANES; lane++) {
    u32 row = lane / 4, column = lane % 4 * 2;
    out[lane] = transposed ? rows[column][row] | (u32)rows[column + 1][row] << 16
                           : rows[row][column] | (u32)rows[row][column + 1] << 16;
  }
}

static void gather(const u32 *in, u16 rows[ROWS][ROWS], bool transposed) {
  for (u32 lane = 0; lane < SIM_LANES; lane++) {
    u32 row = lane / 4, column = lane % 4 * 2;
    u16 low = (u16)in[lane], high = (u16)(in[lane] >> 16);
    if (transposed) {
      rows[column][row] = low;
      rows[column + 1][row] = high;
    } else {
      rows[row][column] = low;
      rows[row][column + 1] = high;
    }
  }
}

static void ldmatrix(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  (void)mask;
  u16 rows[4][ROWS][ROWS];
  if (warp->cta->counts) profile_rows(warp, inst);
  for (u32 matrix = 0; matrix < inst->element_count; matrix++) {
    for (u32 row = 0; row < ROWS; row++) {
      const u8 *from = locate_row(warp, inst, matrix, row, SIM_READ);
      if (from) {
        memcpy(rows[matrix][row], from, ROW_BYTES);
      } else {
        memset(rows[matrix][row], 0x7f, ROW_BYTES);
      }
    }
  }
  for (u32 matrix = 0; matrix < inst->element_count; matrix++) {
    spread(SIM_SLOT(u32, matrix), rows[matrix], inst->variant);
  }
}

static void stmatrix(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  (void)mask;
  u16 rows[ROWS][ROWS];
  if (warp->cta->counts) profile_rows(warp, inst);
  for (u32 matrix = 0; matrix < inst->element_count; matrix++) {
    gather(SIM_SLOT(u32, matrix), rows, inst->variant);
    for (u32 row = 0; row < ROWS; row++) {
      u8 *to = locate_row(warp, inst, matrix, row, SIM_WRITE);
      if (to) memcpy(to, rows[row], ROW_BYTES);
    }
  }
}

static void movmatrix(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  (void)mask;
  u16 rows[ROWS][ROWS];
  gather(SIM_SLOT(u32, 1), rows, false);
  spread(SIM_SLOT(u32, 0), rows, true);
}

static void decode_matrix(struct sim_decode *decode, const struct sim_statement *statement,
                          const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)statement;
  bool is_load = !strcmp(opcode->modifiers[0], "ldmatrix");
  const struct sim_operand *list = sim_operand_at(decode, is_load ? 0 : 1);
  u32 count = list->kind == SIM_OPERAND_VECTOR ? list->count : 1;
  if (count != 1u << sim_modifier_among(opcode, "x1|x2|x4")) {
    sim_decode_fail(decode, "%s has %u registers", opcode->text, count);
  }
  inst->element_count = (u8)count;
  inst->space = SIM_SPACE_SHARED;
  inst->variant = sim_has_modifier(opcode, "trans");
  inst->convergence = SIM_CONVERGE_ALIGNED;
  for (u32 i = 0; i < count; i++) {
    const struct sim_operand *item = list->kind == SIM_OPERAND_VECTOR ? &list->items[i] : list;
    inst->slot[i] = is_load ? sim_bind_target(decode, item, 4) : sim_bind_source(decode, item, 4);
  }
  sim_bind_address(decode, sim_operand_at(decode, is_load ? 1 : 0), count, inst);
}

static void decode_movmatrix(struct sim_decode *decode, const struct sim_statement *statement,
                             const struct sim_opcode *opcode, struct sim_inst *inst) {
  (void)decode;
  (void)statement;
  (void)opcode;
  inst->convergence = SIM_CONVERGE_ALIGNED;
}

#define CLASS SIM_CLASS_MATRIX
static const struct sim_form forms[] = {
    {"ldmatrix.sync.aligned.m8n8.x1|x2|x4.trans?.shared|shared::cta?.b16", decode_matrix, ldmatrix,
     NULL, CLASS},
    {"stmatrix.sync.aligned.m8n8.x1|x2|x4.trans?.shared|shared::cta?.b16", decode_matrix, stmatrix,
     NULL, CLASS},
    {"movmatrix.sync.aligned.m8n8.trans.b16", decode_movmatrix, movmatrix, "w=w", CLASS},
};
SIM_LIST(sim_matrix_forms, forms);

/* slots.c - register allocation: see decode/slots.h.
 *
 * nvcc writes PTX with thousands of registers, nearly all of which live for a few statements. A
 * register file with a slot for each would be larger than a processor's caches. So registers that
 * live and die between two labels share slots.
 *
 * A region is the code between two labels: branches enter it at its beginning alone, so no branch
 * has to be followed. A register is local if one region has all its mentions and the first mention
 * writes it without a guard. Its slot is free before the first mention and after the last. Lanes of
 * the warp that are elsewhere are not disturbed: each lane has its own part of a slot.
 *
 * Two passes over the statements: the first finds the last mention of each register and whether it
 * is local, the second assigns slots and takes back those of local registers after their last
 * mention. An instruction that wrote its registers after it has run would break this: none does. */
#include "simgpu/decode/slots.h"

enum { WIDTHS = 5 }; /* predicates; up to 2, 4, 8 and 16 bytes */

/* A register's lifetime. */
struct life {
  u32 last;   /* the last statement that mentions it */
  u32 region; /* of the first mention */
  bool is_met, is_local, is_placed;
};

/* The state of both passes, on the stack of sim_place_registers. Its arrays are in the pool. */
struct placing {
  struct sim_decode *decode;
  struct life *lives;
  u32 *slots;
  u32 *unused[WIDTHS]; /* [width]: stack of slots that no register has now */
  u32 unused_count[WIDTHS];
  u32 statement, region;
  bool in_target, is_guarded;
};

typedef void (*visitor)(struct placing *placing, const struct sim_operand *reg);

static void visit_operand(struct placing *placing, const struct sim_operand *operand,
                          visitor visit) {
  bool in_target = placing->in_target;
  if (operand->kind == SIM_OPERAND_REGISTER) visit(placing, operand);
  if (operand->kind == SIM_OPERAND_MEMORY) placing->in_target = false;
  for (u32 i = 0; i < operand->count; i++) visit_operand(placing, &operand->items[i], visit);
  placing->in_target = in_target;
}

/* Sources before the target: a register that a statement reads and writes counts as read first. */
static void visit_statement(struct placing *placing, const struct sim_statement *statement,
                            visitor visit) {
  placing->is_guarded = statement->is_guarded;
  placing->in_target = false;
  if (statement->is_guarded) visit_operand(placing, &statement->guard, visit);
  for (u32 i = statement->count; i-- > 0;) {
    placing->in_target = i == 0;
    visit_operand(placing, &statement->operands[i], visit);
  }
}

static void note_mention(struct placing *placing, const struct sim_operand *reg) {
  struct life *life = &placing->lives[reg->register_index];
  if (!life->is_met) {
    *life = (struct life){.region = placing->region,
                          .is_met = true,
                          .is_local = placing->in_target && !placing->is_guarded};
  }
  if (life->region != placing->region) life->is_local = false;
  life->last = placing->statement;
}

static u32 width_of(const struct sim_operand *reg) {
  u32 bytes = reg->register_bytes;
  if (bytes <= 2) return bytes ? 1 : 0;
  return bytes <= 4 ? 2 : bytes <= 8 ? 3 : 4;
}

static void place(struct placing *placing, const struct sim_operand *reg) {
  struct life *life = &placing->lives[reg->register_index];
  u32 width = width_of(reg);
  if (life->is_placed) return;
  life->is_placed = true;
  placing->slots[reg->register_index] =
      life->is_local && placing->unused_count[width]
          ? placing->unused[width][--placing->unused_count[width]]
          : sim_scratch_slot(placing->decode, reg->register_bytes);
}

/* Called after the whole statement is placed: a target must not share a slot with a source. */
static void leave(struct placing *placing, const struct sim_operand *reg) {
  struct life *life = &placing->lives[reg->register_index];
  u32 width = width_of(reg);
  if (!life->is_local || life->last != placing->statement) return;
  life->is_local = false; /* a statement may name it twice; its slot is returned once */
  placing->unused[width][placing->unused_count[width]++] = placing->slots[reg->register_index];
}

static bool *find_region_starts(struct sim_decode *decode, const struct sim_function *function) {
  bool *starts = sim_pool_take(decode->pool, function->statement_count + 1);
  for (const struct sim_symbol *label = function->labels; label; label = label->next) {
    if (label->kind == SIM_SYMBOL_LABEL) starts[label->statement] = true;
  }
  return starts;
}

void sim_place_registers(struct sim_decode *decode, const struct sim_function *function,
                         u32 *slots) {
  struct placing placing = {.decode = decode, .slots = slots};
  const bool *starts = find_region_starts(decode, function);
  u32 count = function->register_count + 1;
  placing.lives = sim_pool_take(decode->pool, sizeof *placing.lives * count);
  for (u32 width = 0; width < WIDTHS; width++) {
    placing.unused[width] = sim_pool_take(decode->pool, sizeof(u32) * count);
  }
  for (u32 i = 0; i < function->statement_count; i++) {
    placing.statement = i;
    placing.region += starts[i];
    visit_statement(&placing, &function->statements[i], note_mention);
  }
  for (u32 i = 0; i < function->statement_count; i++) {
    placing.statement = i;
    visit_statement(&placing, &function->statements[i], place);
    visit_statement(&placing, &function->statements[i], leave);
  }
}

/* form.h - the instructions that the simulator knows: tables with one row per form. A form is an
 * opcode with the modifiers that it allows, its handler, and how its operands become slots.
 *
 * A pattern is the opcode with its modifiers in order. "a|b" is a choice; "?" after a modifier, or
 * after a choice, makes it optional: "ld.global|shared.v2|v4?.u32". An instruction that fits no
 * pattern is refused when its module loads.
 *
 * The tables are constants, each at the end of the file that has its handlers (alu/, memory/,
 * sched/barrier.c). struct sim_opcode is an instruction's opcode while it is decoded; its words are
 * in the pool. */
#ifndef FOVEA_SIMGPU_DECODE_FORM_H
#define FOVEA_SIMGPU_DECODE_FORM_H

#include "simgpu/decode/code.h"

struct sim_decode;
struct sim_statement;

enum { SIM_MAX_MODIFIERS = 14 };

struct sim_opcode {
  const char *text;
  char *words;                              /* the text, with a NUL for each dot */
  const char *modifiers[SIM_MAX_MODIFIERS]; /* the words; the first is the opcode's name */
  u32 count;
  const struct sim_form *form;
};

/* Fills in what a pattern and its operands leave open: modifiers, unusual operands. */
typedef void (*sim_decoder)(struct sim_decode *decode, const struct sim_statement *statement,
                            const struct sim_opcode *opcode, struct sim_inst *inst);

struct sim_form {
  const char *pattern;
  sim_decoder decode; /* NULL: `operands` says everything */
  sim_handler run;    /* NULL: the decoder chooses one, or there is none (enum sim_flow) */
  /* "w=ww": outputs = inputs; h, w, d: 16, 32, 64 bits, p: predicate. NULL: the decoder binds. */
  const char *operands;
  u8 instruction_class;
};

struct sim_form_list {
  const struct sim_form *forms;
  u32 count;
};

extern const struct sim_form_list sim_integer_forms, sim_float_forms, sim_double_forms,
    sim_half_forms, sim_directed_forms, sim_predicate_forms, sim_set_forms, sim_convert_forms,
    sim_move_forms, sim_access_forms, sim_atomic_forms, sim_warp_forms, sim_matrix_forms,
    sim_mma_forms, sim_async_forms, sim_control_forms, sim_mbarrier_forms;

/* Cuts the opcode into words and finds its form. False: there is none. */
bool sim_find_form(struct sim_pool *pool, const char *text, struct sim_opcode *opcode);
bool sim_has_modifier(const struct sim_opcode *opcode, const char *modifier);
/* Which of the words, separated by '|', is a modifier of the opcode: the number of the first that
 * is, or -1. */
int sim_modifier_among(const struct sim_opcode *opcode, const char *words);

#endif /* FOVEA_SIMGPU_DECODE_FORM_H */

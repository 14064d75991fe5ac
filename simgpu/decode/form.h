/* form.h - the instructions this GPU knows: one row per form, whitelisted modifier by modifier.
 *
 * A pattern is the opcode with its modifiers in order; "a|b" is a choice, "?" after a modifier
 * makes it optional: "ld.global|shared.v2|v4?.u32". What no pattern spells out is refused when a
 * module loads. */
#ifndef SIM_FORM_H
#define SIM_FORM_H

#include "simgpu/decode/code.h"

struct sim_decode;
struct sim_statement;

enum { SIM_MAX_MODIFIERS = 14 };

struct sim_opcode {
  const char *text;
  char *words; /* the text cut at its dots */
  const char *modifiers[SIM_MAX_MODIFIERS];
  u32 count;
  const struct sim_form *form;
};

typedef void (*sim_decoder)(struct sim_decode *decode, const struct sim_statement *statement,
                            const struct sim_opcode *opcode, struct sim_inst *inst);

struct sim_form {
  const char *pattern;
  sim_decoder decode; /* NULL: operands say it all */
  sim_handler run;
  const char *operands;  // "w=ww": outputs = inputs; h, w, d: 16, 32, 64 bits, p: predicate
  u8 instruction_class;
};

struct sim_form_list {
  const struct sim_form *forms;
  u32 count;
};

extern const struct sim_form_list sim_integer_forms, sim_float_forms, sim_double_forms,
    sim_half_forms, sim_predicate_forms, sim_convert_forms, sim_move_forms, sim_access_forms,
    sim_atomic_forms, sim_warp_forms, sim_matrix_forms, sim_mma_forms, sim_async_forms,
    sim_control_forms;

/* Cuts the opcode into words and finds its form; false when there is none. */
bool sim_find_form(struct sim_pool *pool, const char *text, struct sim_opcode *opcode);
bool sim_has_modifier(const struct sim_opcode *opcode, const char *modifier);
/* Number of the first of the words, separated by '|', that the opcode has; -1 when it has none. */
int sim_modifier_among(const struct sim_opcode *opcode, const char *words);

#endif

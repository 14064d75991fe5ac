/* decode.h - turns a function of PTX (parse/syntax.h) into a kernel (decode/code.h): statements
 * become instructions, operands become slots, calls are expanded in place.
 *
 * struct sim_decode is the state of one sim_decode_kernel, on its stack. What outlives it is the
 * kernel's: its code, and what is taken from the pool. A mistake is added to the kernel's refusals
 * and leaves by longjmp, so that decoders of forms need not check for it. Decoding goes on with the
 * next statement, to find all that the kernel has. */
#ifndef FOVEA_SIMGPU_DECODE_DECODE_H
#define FOVEA_SIMGPU_DECODE_DECODE_H

#include <setjmp.h>

#include "simgpu/decode/code.h"
#include "simgpu/decode/form.h"
#include "simgpu/parse/syntax.h"

struct sim_constant;

/* Where a variable lies in local memory. */
struct sim_placement {
  const struct sim_symbol *symbol;
  u32 offset;
};

/* One expansion of a function: the kernel itself, or a call. Lives on the expander's stack. */
struct sim_instance {
  const struct sim_function *function;
  u32 *slots;                       /* [register] */
  struct sim_placement *placements; /* of the function's variables, parameters and results */
  u32 placement_count, placement_capacity;
  u32 *statement_starts; /* [statement]: index of its first instruction */
};

struct sim_decode {
  struct sim_syntax *syntax;
  struct sim_pool *pool; /* the module's */
  struct sim_kernel *kernel;
  struct sim_instance *instance; /* the innermost, which is being expanded */
  u32 depth;                     /* of calls: 0 in the kernel itself */
  bool is_too_deep;
  struct sim_constant *constants;
  u32 constant_count, constant_capacity;
  u32 file_bytes;                       /* of the register file up to now */
  u32 predicate_bytes, predicate_limit; /* offsets: the next predicate, the end of its run */
  const struct sim_statement *statement;
  jmp_buf *failed;               /* where to go on after a mistake */
  struct sim_refusal **refusals; /* where the next goes: the end of the kernel's list */
};

_Noreturn void sim_decode_fail(struct sim_decode *decode, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Fills the kernel. If it then has refusals, it cannot run. */
void sim_decode_kernel(struct sim_syntax *syntax, struct sim_pool *pool,
                       const struct sim_function *function, struct sim_kernel *kernel);

/* decode/bind.c. The slot of an operand that has `bytes` per lane (0: a predicate). The source may
 * be a literal, which becomes a constant; the target may be _, which becomes a scratch slot. */
u32 sim_bind_source(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes);
u32 sim_bind_target(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes);
/* A register of any width: sets slot[index] and stride[index]. A literal has literal_bytes. */
void sim_bind_any(struct sim_decode *decode, const struct sim_operand *operand, u32 literal_bytes,
                  struct sim_inst *inst, u32 index);
u32 sim_literal_value(struct sim_decode *decode, const struct sim_operand *operand);
u32 sim_constant_slot(struct sim_decode *decode, u64 bits, u32 bytes);
u32 sim_scratch_slot(struct sim_decode *decode, u32 bytes); /* a slot that no register has */
/* [register + offset], [variable + offset] or [literal]: sets slot[index], stride[index], the
 * immediate, and the space where the opcode names none. */
void sim_bind_address(struct sim_decode *decode, const struct sim_operand *operand, u32 index,
                      struct sim_inst *inst);
/* The address of a variable in its own state space, as mov gives it. */
u64 sim_symbol_address(struct sim_decode *decode, const struct sim_symbol *symbol);
/* Begin and end of a kernel: makes an empty register file; gives the kernel its initial one. */
void sim_start_file(struct sim_decode *decode);
void sim_fill_constants(struct sim_decode *decode);

/* decode/decode.c, for the decoders of forms. */
void sim_emit(struct sim_decode *decode, const struct sim_inst *inst);
const struct sim_operand *sim_operand_at(struct sim_decode *decode, u32 index);
void sim_expand_call(struct sim_decode *decode, const struct sim_statement *statement);

#endif /* FOVEA_SIMGPU_DECODE_DECODE_H */

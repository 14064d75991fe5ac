/* decode.h - turns a function of PTX into a kernel: operands become slots, calls are expanded in
 * place. */
#ifndef SIM_DECODE_H
#define SIM_DECODE_H

#include <setjmp.h>

#include "simgpu/decode/code.h"
#include "simgpu/decode/form.h"
#include "simgpu/parse/syntax.h"

struct sim_instance;
struct sim_constant;

struct sim_decode {
  struct sim_syntax *syntax;
  struct sim_pool *pool; /* the kernel's */
  struct sim_kernel *kernel;
  struct sim_instance *instance; /* the function being expanded */
  u32 depth;
  struct sim_constant *constants;
  u32 constant_count, constant_capacity, constant_bytes;
  u32 file_bytes, predicate_bytes, predicate_limit;
  const struct sim_statement *statement;
  char *error;
  size_t error_bytes;
  jmp_buf *failed;
};

_Noreturn void sim_decode_fail(struct sim_decode *decode, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

bool sim_decode_kernel(struct sim_syntax *syntax, struct sim_pool *pool,
                       const struct sim_function *function, struct sim_kernel *kernel, char *error,
                       size_t error_bytes);

/* The slot of an operand of so many bytes per lane (0: predicate). Literals become constants. */
u32 sim_bind_source(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes);
u32 sim_bind_target(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes);
/* A register of any width, which goes to inst->stride[index]; a literal takes literal_bytes. */
void sim_bind_any(struct sim_decode *decode, const struct sim_operand *operand, u32 literal_bytes,
                  struct sim_inst *inst, u32 index);
u32 sim_constant_slot(struct sim_decode *decode, u64 bits, u32 bytes);
u32 sim_scratch_slot(struct sim_decode *decode, u32 bytes);
/* [register + offset], [variable + offset] or [literal]: slot[index] with its stride, immediate,
 * space. */
void sim_bind_address(struct sim_decode *decode, const struct sim_operand *operand, u32 index,
                      struct sim_inst *inst);
/* The address of a variable in its own state space's form, as mov gives it. */
u64 sim_symbol_address(struct sim_decode *decode, const struct sim_symbol *symbol);
void sim_emit(struct sim_decode *decode, const struct sim_inst *inst);
const struct sim_operand *sim_operand_at(struct sim_decode *decode, u32 index);
void sim_expand_call(struct sim_decode *decode, const struct sim_statement *statement);
u32 sim_literal_value(struct sim_decode *decode, const struct sim_operand *operand);

#endif

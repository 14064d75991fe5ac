/* decode.c - statements become instructions: see decode/decode.h.
 *
 *   place the kernel's shared memory, list its parameters;  expand the function:
 *     place its local variables, assign slots to its registers (decode/slots.c)
 *     for every statement: find its form, bind its operands, emit an instruction
 *     fill in the targets of its branches, now that every statement has a place
 *   end with an exit
 *
 * A call is expanded where it stands, with registers of its own, because kernels call little. It
 * keeps the callee between what precedes and what follows the call. "Lowest address first" is then
 * the right order for divergent lanes in called functions too. */
#include "simgpu/decode/decode.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/decode/slots.h"

static void refuse(struct sim_decode *decode, const char *text) {
  for (struct sim_refusal *known = decode->kernel->refusals; known; known = known->next) {
    if (strcmp(known->text, text) != 0) continue;
    known->count++;
    return;
  }
  struct sim_refusal *refusal = sim_pool_take(decode->pool, sizeof *refusal);
  refusal->text = sim_pool_text(decode->pool, text, strlen(text));
  refusal->ptx_line = decode->statement ? decode->statement->ptx_line : 0;
  refusal->location = decode->statement ? decode->statement->location : SIM_NO_LOCATION;
  refusal->count = 1;
  *decode->refusals = refusal;
  decode->refusals = &refusal->next;
}

void sim_decode_fail(struct sim_decode *decode, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  refuse(decode, text);
  longjmp(*decode->failed, 1);
}

const struct sim_operand *sim_operand_at(struct sim_decode *decode, u32 index) {
  if (index >= decode->statement->count) {
    sim_decode_fail(decode, "%s has too few operands", decode->statement->opcode);
  }
  return &decode->statement->operands[index];
}

void sim_emit(struct sim_decode *decode, const struct sim_inst *inst) {
  struct sim_kernel *kernel = decode->kernel;
  kernel->code =
      sim_grow(kernel->code, kernel->code_count, &kernel->code_capacity, sizeof *kernel->code);
  struct sim_inst *placed = &kernel->code[kernel->code_count++];
  *placed = *inst;
  if (decode->statement) {
    placed->ptx_line = decode->statement->ptx_line;
    placed->location = decode->statement->location;
    placed->opcode = decode->statement->opcode;
  }
}

static u32 bytes_of_letter(char letter) {
  return letter == 'p' ? 0 : letter == 'h' ? 2 : letter == 'w' ? 4 : 8;
}

/* The letters of a form (decode/form.h): outputs, then inputs, in the order of the statement. */
static void bind_operands(struct sim_decode *decode, const char *letters, struct sim_inst *inst) {
  u32 index = 0;
  bool is_output = true;
  for (; *letters; letters++) {
    if (*letters == '=') {
      is_output = false;
      continue;
    }
    const struct sim_operand *operand = sim_operand_at(decode, index);
    u32 bytes = bytes_of_letter(*letters);
    inst->slot[index] = is_output ? sim_bind_target(decode, operand, bytes)
                                  : sim_bind_source(decode, operand, bytes);
    inst->stride[index++] = (u8)bytes;
  }
  if (index != decode->statement->count) {
    sim_decode_fail(decode, "%s has %u operands, expected %u", decode->statement->opcode,
                    decode->statement->count, index);
  }
}

static void decode_form(struct sim_decode *decode, const struct sim_statement *statement) {
  struct sim_opcode opcode;
  if (!sim_find_form(decode->pool, statement->opcode, &opcode)) {
    sim_decode_fail(decode, "unsupported instruction: %s", statement->opcode);
  }
  struct sim_inst inst = {.run = opcode.form->run,
                          .instruction_class = opcode.form->instruction_class};
  if (statement->is_guarded) {
    inst.is_guarded = true;
    inst.guard_negated = statement->guard.is_negated;
    inst.guard_slot = decode->instance->slots[statement->guard.register_index];
  }
  if (opcode.form->operands) bind_operands(decode, opcode.form->operands, &inst);
  if (opcode.form->decode) opcode.form->decode(decode, statement, &opcode, &inst);
  if (inst.run || inst.flow != SIM_FLOW_NEXT) sim_emit(decode, &inst);
}

/* A call is a statement that decodes others, so where to go on is kept. */
static void decode_statement(struct sim_decode *decode, const struct sim_statement *statement) {
  jmp_buf here, *outer = decode->failed;
  struct sim_instance *instance = decode->instance;
  u32 depth = decode->depth;
  decode->statement = statement;
  decode->failed = &here;
  if (!setjmp(here)) decode_form(decode, statement);
  decode->instance = instance;
  decode->depth = depth;
  decode->failed = outer;
}

static void add_placement(struct sim_instance *instance, const struct sim_symbol *symbol,
                          u32 offset) {
  instance->placements = sim_grow(instance->placements, instance->placement_count,
                                  &instance->placement_capacity, sizeof *instance->placements);
  instance->placements[instance->placement_count++] = (struct sim_placement){symbol, offset};
}

static void place_local(struct sim_decode *decode, const struct sim_symbol *symbol) {
  struct sim_kernel *kernel = decode->kernel;
  u32 align = symbol->align > 16 ? symbol->align : 16;
  kernel->local_bytes = (kernel->local_bytes + align - 1) / align * align;
  add_placement(decode->instance, symbol, kernel->local_bytes);
  kernel->local_bytes += (u32)symbol->bytes;
}

/* .local variables, and the .param variables of a body, in which a call passes its arguments. */
static void place_locals(struct sim_decode *decode) {
  const struct sim_function *function = decode->instance->function;
  for (const struct sim_symbol *symbol = function->symbols; symbol; symbol = symbol->next) {
    if (symbol->kind == SIM_SYMBOL_LOCAL || symbol->kind == SIM_SYMBOL_PARAM) {
      place_local(decode, symbol);
    }
  }
}

static u32 find_target(struct sim_decode *decode, u32 scope, const char *name) {
  const struct sim_symbol *label = sim_find_label(decode->instance->function, scope, name);
  if (!label) sim_decode_fail(decode, "the label %s is not defined", name);
  return decode->instance->statement_starts[label->statement];
}

static void resolve_indexed(struct sim_decode *decode, const struct sim_statement *statement,
                            struct sim_inst *inst) {
  const char *name = statement->operands[statement->count - 1].name;
  const struct sim_symbol *list =
      sim_find_label(decode->instance->function, statement->scope, name ? name : "");
  if (!list || list->kind != SIM_SYMBOL_TARGETS)
    sim_decode_fail(decode, "brx.idx needs a list of .branchtargets");
  u32 *targets = sim_pool_take(decode->pool, sizeof *targets * list->label_count);
  for (u32 i = 0; i < list->label_count; i++) {
    targets[i] = find_target(decode, list->scope, list->labels[i]);
  }
  inst->targets = targets;
  inst->target_count = list->label_count;
}

/* A branch is the last instruction of its statement: a negated operand may have one before it. */
static void resolve_branches(struct sim_decode *decode) {
  struct sim_instance *instance = decode->instance;
  const struct sim_function *function = instance->function;
  for (u32 i = 0; i < function->statement_count; i++) {
    const struct sim_statement *statement = &function->statements[i];
    decode->statement = statement;
    u32 first = instance->statement_starts[i], end = instance->statement_starts[i + 1];
    if (!strncmp(statement->opcode, "bra", 3)) {
      const char *name = sim_operand_at(decode, 0)->name;
      decode->kernel->code[end - 1].target =
          find_target(decode, statement->scope, name ? name : "");
    } else if (!strncmp(statement->opcode, "brx", 3) && end > first) {
      resolve_indexed(decode, statement, &decode->kernel->code[end - 1]);
    } else if (!strcmp(statement->opcode, "ret") && decode->depth > 0) {
      decode->kernel->code[end - 1].target = instance->statement_starts[function->statement_count];
    }
  }
}

static void expand(struct sim_decode *decode, const struct sim_function *function,
                   struct sim_instance *instance) {
  enum { DEPTH_MAX = 32 }; /* recursion would never end */
  if (decode->depth > DEPTH_MAX) {
    decode->is_too_deep = true;
    sim_decode_fail(decode, "calls nest too deeply: recursion?");
  }
  struct sim_instance *caller = decode->instance;
  decode->instance = instance;
  instance->slots = sim_pool_take(decode->pool, sizeof(u32) * (function->register_count + 1));
  instance->statement_starts =
      sim_pool_take(decode->pool, sizeof(u32) * (function->statement_count + 1));
  place_locals(decode);
  sim_place_registers(decode, function, instance->slots);
  for (u32 i = 0; i < function->statement_count; i++) {
    instance->statement_starts[i] = decode->kernel->code_count;
    decode_statement(decode, &function->statements[i]);
  }
  instance->statement_starts[function->statement_count] = decode->kernel->code_count;
  if (!decode->kernel->refusals) resolve_branches(decode);
  decode->instance = caller;
}

/* An argument is passed by address: the callee's parameter lies where the caller's variable is. */
static void bind_arguments(struct sim_decode *decode, struct sim_instance *instance,
                           const struct sim_symbol *formal, const struct sim_operand *actual) {
  for (u32 i = 0; formal; formal = formal->next, i++) {
    if (!actual || i >= actual->count || actual->items[i].kind != SIM_OPERAND_SYMBOL) {
      sim_decode_fail(decode, "the arguments of a call do not match the parameters");
    }
    u64 address = sim_symbol_address(decode, actual->items[i].symbol);
    add_placement(instance, formal, (u32)(address & SIM_WINDOW_MASK));
  }
}

/* call (returns), function, (arguments): each list may be missing. */
void sim_expand_call(struct sim_decode *decode, const struct sim_statement *statement) {
  u32 at = 0;
  if (decode->is_too_deep) return; /* each level might have several calls */
  const struct sim_operand *returns = NULL, *arguments = NULL;
  if (statement->operands[at].kind == SIM_OPERAND_VECTOR) returns = &statement->operands[at++];
  const struct sim_operand *callee = sim_operand_at(decode, at++);
  if (at < statement->count) arguments = &statement->operands[at];
  if (callee->kind != SIM_OPERAND_NAME) sim_decode_fail(decode, "unsupported: an indirect call");
  const struct sim_function *function = sim_find_function(decode->syntax, callee->name);
  if (!function || !function->has_body) sim_decode_fail(decode, "%s has no body", callee->name);
  struct sim_instance instance = {.function = function};
  bind_arguments(decode, &instance, function->returns, returns);
  bind_arguments(decode, &instance, function->params, arguments);
  decode->depth++;
  expand(decode, function, &instance);
  decode->depth--;
  decode->statement = statement;
  free(instance.placements);
}

/* A variable without a size is dynamic shared memory: all of those begin at one address. */
static void place_shared(struct sim_symbol *symbols, u32 *end, u32 *dynamic_align) {
  for (struct sim_symbol *symbol = symbols; symbol; symbol = symbol->next) {
    if (symbol->kind != SIM_SYMBOL_SHARED) continue;
    if (symbol->bytes == 0) {
      symbol->is_external = true;
      if (symbol->align > *dynamic_align) *dynamic_align = symbol->align;
      continue;
    }
    *end = (*end + symbol->align - 1) / symbol->align * symbol->align;
    symbol->offset = *end;
    *end += (u32)symbol->bytes;
  }
}

static void place_all_shared(struct sim_decode *decode, const struct sim_function *entry) {
  struct sim_kernel *kernel = decode->kernel;
  u32 end = SIM_SHARED_START, dynamic_align = 16;
  place_shared(decode->syntax->globals, &end, &dynamic_align);
  /* Which functions are called is not known yet, so the variables of all are placed. */
  for (struct sim_function *function = decode->syntax->functions; function;
       function = function->next) {
    if (function == entry || !function->is_entry) {
      place_shared(function->symbols, &end, &dynamic_align);
    }
  }
  kernel->static_shared_bytes = end - SIM_SHARED_START;
  kernel->dynamic_shared_offset = (end + dynamic_align - 1) / dynamic_align * dynamic_align;
}

static void list_params(struct sim_decode *decode, const struct sim_function *function) {
  struct sim_kernel *kernel = decode->kernel;
  for (const struct sim_symbol *param = function->params; param; param = param->next) {
    kernel->param_count++;
  }
  kernel->params = sim_pool_take(decode->pool, sizeof *kernel->params * (kernel->param_count + 1));
  u32 i = 0;
  for (const struct sim_symbol *param = function->params; param; param = param->next, i++) {
    kernel->params[i].offset = (u32)param->offset;
    kernel->params[i].bytes = (u32)param->bytes;
  }
  kernel->param_bytes = function->param_bytes;
}

static void decode_all(struct sim_decode *decode, const struct sim_function *function,
                       struct sim_instance *instance) {
  list_params(decode, function);
  place_all_shared(decode, function);
  expand(decode, function, instance);
  decode->statement = NULL;
  sim_emit(decode, &(struct sim_inst){.flow = SIM_FLOW_EXIT,
                                      .opcode = "exit",
                                      .instruction_class = SIM_CLASS_CONTROL,
                                      .location = SIM_NO_LOCATION});
  sim_fill_constants(decode);
}

void sim_decode_kernel(struct sim_syntax *syntax, struct sim_pool *pool,
                       const struct sim_function *function, struct sim_kernel *kernel) {
  jmp_buf failed;
  struct sim_decode decode = {.syntax = syntax,
                              .pool = pool,
                              .kernel = kernel,
                              .failed = &failed,
                              .refusals = &kernel->refusals};
  sim_start_file(&decode);
  struct sim_instance instance = {.function = function};
  kernel->name = function->name;
  kernel->max_threads = function->max_threads;
  memcpy(kernel->required_threads, function->required_threads, sizeof kernel->required_threads);
  if (!setjmp(failed)) decode_all(&decode, function, &instance);
  free(decode.constants);
  free(instance.placements);
}

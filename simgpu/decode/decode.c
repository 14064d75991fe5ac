/* decode.c - operands become slots, statements become instructions: see decode/decode.h.
 *
 * A function that is called is expanded at the call, with registers of its own: kernels call
 * little, and code that only ever goes forward keeps "lowest address first" the right order for
 * divergent lanes. */
#include "simgpu/decode/decode.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/alu/alu.h"
#include "simgpu/decode/slots.h"

struct sim_constant {
  u64 bits;
  u32 bytes, slot;
};

/* Where the variables of one expansion of a function lie in local memory. */
struct placement {
  const struct sim_symbol *symbol;
  u32 offset;
};

struct sim_instance {
  const struct sim_function *function;
  u32 *slots; /* by register number */
  struct placement *placements;
  u32 placement_count, placement_capacity;
  u32 *statement_starts; /* index in the code, by statement */
  u32 first_fixup;
};

enum { SLOT_ALIGN = 64, PREDICATE_ROOM = 4096 };

void sim_decode_fail(struct sim_decode *decode, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length =
      snprintf(decode->error, decode->error_bytes, "%s, PTX line %u: ", decode->kernel->name,
               decode->statement ? decode->statement->ptx_line : 0);
  if (length > 0 && (size_t)length < decode->error_bytes) {
    vsnprintf(decode->error + length, decode->error_bytes - (size_t)length, format, arguments);
  }
  va_end(arguments);
  longjmp(*decode->failed, 1);
}

u32 sim_scratch_slot(struct sim_decode *decode, u32 bytes) {
  u32 slot;
  if (bytes == 0) {
    slot = decode->predicate_bytes;
    decode->predicate_bytes += sizeof(u32);
    if (decode->predicate_bytes > decode->predicate_limit) {
      decode->predicate_bytes = decode->file_bytes;
      slot = decode->predicate_bytes;
      decode->predicate_bytes += sizeof(u32);
      decode->file_bytes += PREDICATE_ROOM;
      decode->predicate_limit = decode->file_bytes;
    }
    return slot;
  }
  slot = decode->file_bytes;
  decode->file_bytes += (bytes * SIM_LANES + SLOT_ALIGN - 1) / SLOT_ALIGN * SLOT_ALIGN;
  return slot;
}

/* Constants are placed like registers and filled when a warp starts. */
u32 sim_constant_slot(struct sim_decode *decode, u64 bits, u32 bytes) {
  if (bytes && bytes < 8) bits &= (1ull << bytes * 8) - 1;
  for (u32 i = 0; i < decode->constant_count; i++) {
    const struct sim_constant *constant = &decode->constants[i];
    if (constant->bits == bits && constant->bytes == bytes) return constant->slot;
  }
  decode->constants = sim_grow(decode->constants, decode->constant_count,
                               &decode->constant_capacity, sizeof *decode->constants);
  struct sim_constant *constant = &decode->constants[decode->constant_count++];
  *constant = (struct sim_constant){bits, bytes, sim_scratch_slot(decode, bytes)};
  return constant->slot;
}

static u32 special_slot(struct sim_decode *decode, const char *name, u32 bytes) {
  static const char *const names[SIM_SPECIAL_COUNT] = {
      "%tid.x",          "%tid.y",       "%tid.z",
      "%ntid.x",         "%ntid.y",      "%ntid.z",
      "%ctaid.x",        "%ctaid.y",     "%ctaid.z",
      "%nctaid.x",       "%nctaid.y",    "%nctaid.z",
      "%laneid",         "%warpid",      "%nwarpid",
      "%smid",           "%nsmid",       "%lanemask_eq",
      "%lanemask_le",    "%lanemask_lt", "%lanemask_ge",
      "%lanemask_gt",    "%gridid",      "%clock",
      "%clock64",        "%globaltimer", "%dynamic_smem_size",
      "%total_smem_size"};
  int special = 0;
  while (special < SIM_SPECIAL_COUNT && strcmp(names[special], name) != 0) special++;
  if (special == SIM_SPECIAL_COUNT) sim_decode_fail(decode, "unsupported register %s", name);
  bool wide = special == SIM_GRIDID || special == SIM_CLOCK64 || special == SIM_GLOBALTIMER;
  if (bytes != (wide ? 8u : 4u)) sim_decode_fail(decode, "%s read as %u bytes", name, bytes);
  struct sim_kernel *kernel = decode->kernel;
  for (u32 i = 0; i < kernel->special_count; i++) {
    if ((int)kernel->specials[i].special == special) return kernel->specials[i].slot;
  }
  u32 slot = sim_scratch_slot(decode, bytes);
  kernel->specials[kernel->special_count++] = (struct sim_special_slot){special, slot};
  return slot;
}

u64 sim_symbol_address(struct sim_decode *decode, const struct sim_symbol *symbol) {
  switch (symbol->kind) {
    case SIM_SYMBOL_GLOBAL:
    case SIM_SYMBOL_CONST:
      return symbol->offset; /* placed when the module was loaded */
    case SIM_SYMBOL_SHARED:
      return symbol->is_external ? decode->kernel->dynamic_shared_offset : symbol->offset;
    default:
      break;
  }
  const struct sim_instance *instance = decode->instance;
  for (u32 i = 0; i < instance->placement_count; i++) {
    if (instance->placements[i].symbol == symbol) {
      return SIM_LOCAL_WINDOW + instance->placements[i].offset;
    }
  }
  return SIM_PARAM_WINDOW + symbol->offset;
}

static u64 literal_bits(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes) {
  if (operand->literal == SIM_LITERAL_F64 && bytes == 4) {
    return sim_f32_bits((float)sim_f64_of(operand->bits));
  }
  if (operand->literal == SIM_LITERAL_F32 && bytes == 8) {
    return sim_f64_bits((double)sim_f32_of((u32)operand->bits));
  }
  if (operand->literal != SIM_LITERAL_INTEGER && bytes < 4) {
    sim_decode_fail(decode, "a float literal for %u bytes", bytes);
  }
  return operand->bits;
}

static void invert(struct sim_warp *warp, const struct sim_inst *inst, u32 mask) {
  SIM_PREDICATE(0) = (SIM_PREDICATE(0) & ~mask) | (~SIM_PREDICATE(1) & mask);
}

static u32 bind_predicate(struct sim_decode *decode, const struct sim_operand *operand) {
  if (operand->kind == SIM_OPERAND_LITERAL) {
    return sim_constant_slot(decode, operand->bits ? UINT32_MAX : 0, 0);
  }
  u32 slot = decode->instance->slots[operand->register_index];
  if (!operand->is_negated) return slot;
  struct sim_inst inst = {.run = invert, .instruction_class = SIM_CLASS_PREDICATE};
  inst.slot[0] = sim_scratch_slot(decode, 0);
  inst.slot[1] = slot;
  sim_emit(decode, &inst);
  return inst.slot[0];
}

static void require_width(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes) {
  if (operand->kind != SIM_OPERAND_REGISTER) sim_decode_fail(decode, "an operand is no register");
  if (operand->register_bytes != bytes) {
    sim_decode_fail(decode, "%s has an operand of %u bytes where %u are needed",
                    decode->statement->opcode, operand->register_bytes, bytes);
  }
}

u32 sim_bind_source(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes) {
  switch (operand->kind) {
    case SIM_OPERAND_LITERAL:
      if (bytes == 0) return bind_predicate(decode, operand);
      return sim_constant_slot(decode, literal_bits(decode, operand, bytes), bytes);
    case SIM_OPERAND_SPECIAL:
      return special_slot(decode, operand->name, bytes);
    case SIM_OPERAND_SYMBOL: {
      u64 address = sim_symbol_address(decode, operand->symbol) + (u64)operand->offset;
      return sim_constant_slot(decode, address, bytes);
    }
    default:
      require_width(decode, operand, bytes);
      if (bytes == 0) return bind_predicate(decode, operand);
      return decode->instance->slots[operand->register_index];
  }
}

u32 sim_bind_target(struct sim_decode *decode, const struct sim_operand *operand, u32 bytes) {
  if (operand->kind == SIM_OPERAND_SINK) return sim_scratch_slot(decode, bytes);
  require_width(decode, operand, bytes);
  return decode->instance->slots[operand->register_index];
}

void sim_bind_any(struct sim_decode *decode, const struct sim_operand *operand, u32 literal_bytes,
                  struct sim_inst *inst, u32 index) {
  if (operand->kind == SIM_OPERAND_REGISTER) {
    if (!operand->register_bytes) sim_decode_fail(decode, "a predicate where a value is needed");
    inst->slot[index] = decode->instance->slots[operand->register_index];
    inst->stride[index] = (u8)operand->register_bytes;
    return;
  }
  u32 bytes = literal_bytes < 2 ? 2 : literal_bytes;
  inst->stride[index] = (u8)bytes;
  inst->slot[index] = operand->kind == SIM_OPERAND_SINK ? sim_scratch_slot(decode, bytes)
                                                        : sim_bind_source(decode, operand, bytes);
}

u32 sim_literal_value(struct sim_decode *decode, const struct sim_operand *operand) {
  if (operand->kind != SIM_OPERAND_LITERAL) sim_decode_fail(decode, "an operand is no literal");
  return (u32)operand->bits;
}

static u8 space_of_symbol(struct sim_decode *decode, const struct sim_symbol *symbol) {
  switch (symbol->kind) {
    case SIM_SYMBOL_SHARED:
      return SIM_SPACE_SHARED;
    case SIM_SYMBOL_PARAM:
    case SIM_SYMBOL_LOCAL:
      return sim_symbol_address(decode, symbol) >= SIM_PARAM_WINDOW ? SIM_SPACE_PARAM
                                                                    : SIM_SPACE_LOCAL;
    default:
      return SIM_SPACE_GLOBAL;
  }
}

void sim_bind_address(struct sim_decode *decode, const struct sim_operand *operand, u32 index,
                      struct sim_inst *inst) {
  if (operand->kind != SIM_OPERAND_MEMORY || operand->count != 1) {
    sim_decode_fail(decode, "expected an address");
  }
  const struct sim_operand *base = &operand->items[0];
  if (base->kind == SIM_OPERAND_REGISTER) {
    sim_bind_any(decode, base, 8, inst, index);
    if (base->register_bytes < 4) sim_decode_fail(decode, "an address of 16 bits");
    inst->immediate = (u64)operand->offset;
    return;
  }
  if (base->kind == SIM_OPERAND_SYMBOL) {
    u8 space = space_of_symbol(decode, base->symbol);
    if (inst->space == SIM_SPACE_PARAM || inst->space == SIM_SPACE_GENERIC) inst->space = space;
    inst->immediate = sim_symbol_address(decode, base->symbol) + (u64)operand->offset;
    inst->is_uniform = true;
  } else {
    inst->immediate = base->bits + (u64)operand->offset;
  }
  inst->slot[index] = sim_constant_slot(decode, 0, 8);
  inst->stride[index] = 8;
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

/* "w=ww": outputs, then inputs, in the order of the statement. */
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

static void decode_statement(struct sim_decode *decode, const struct sim_statement *statement) {
  decode->statement = statement;
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

static void place_local(struct sim_decode *decode, const struct sim_symbol *symbol) {
  struct sim_instance *instance = decode->instance;
  struct sim_kernel *kernel = decode->kernel;
  u32 align = symbol->align > 16 ? symbol->align : 16;
  kernel->local_bytes = (kernel->local_bytes + align - 1) / align * align;
  instance->placements = sim_grow(instance->placements, instance->placement_count,
                                  &instance->placement_capacity, sizeof *instance->placements);
  instance->placements[instance->placement_count++] =
      (struct placement){symbol, kernel->local_bytes};
  kernel->local_bytes += (u32)symbol->bytes;
}

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
  if (!label) sim_decode_fail(decode, "the label %s is nowhere", name);
  return decode->instance->statement_starts[label->statement];
}

static void resolve_indexed(struct sim_decode *decode, const struct sim_statement *statement,
                            struct sim_inst *inst) {
  const char *name = statement->operands[statement->count - 1].name;
  const struct sim_symbol *list =
      sim_find_label(decode->instance->function, statement->scope, name ? name : "");
  if (!list || list->kind != SIM_SYMBOL_TARGETS) sim_decode_fail(decode, "no .branchtargets");
  u32 *targets = sim_pool_take(decode->pool, sizeof *targets * list->label_count);
  for (u32 i = 0; i < list->label_count; i++) {
    targets[i] = find_target(decode, list->scope, list->labels[i]);
  }
  inst->targets = targets;
  inst->target_count = list->label_count;
}

/* Branches were emitted with targets unknown; now that all statements have a place, fill them in.
 */
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
  enum { DEEPEST = 32 }; /* calls in calls; recursion never ends */
  if (decode->depth > DEEPEST) sim_decode_fail(decode, "calls nest too deeply: recursion?");
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
  resolve_branches(decode);
  decode->instance = caller;
}

static void bind_arguments(struct sim_decode *decode, struct sim_instance *instance,
                           const struct sim_symbol *formal, const struct sim_operand *actual) {
  for (u32 i = 0; formal; formal = formal->next, i++) {
    if (!actual || i >= actual->count || actual->items[i].kind != SIM_OPERAND_SYMBOL) {
      sim_decode_fail(decode, "call: arguments do not fit");
    }
    u64 address = sim_symbol_address(decode, actual->items[i].symbol);
    instance->placements = sim_grow(instance->placements, instance->placement_count,
                                    &instance->placement_capacity, sizeof *instance->placements);
    instance->placements[instance->placement_count++] =
        (struct placement){formal, (u32)(address & SIM_WINDOW_MASK)};
  }
}

/* call (returns), function, (arguments): each list may be missing. */
void sim_expand_call(struct sim_decode *decode, const struct sim_statement *statement) {
  u32 at = 0;
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

static void place_shared(struct sim_decode *decode, struct sim_symbol *symbols, u32 *end,
                         u32 *dynamic_align) {
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
  (void)decode;
}

static void place_all_shared(struct sim_decode *decode, const struct sim_function *entry) {
  struct sim_kernel *kernel = decode->kernel;
  u32 end = SIM_SHARED_START, dynamic_align = 16;
  place_shared(decode, decode->syntax->globals, &end, &dynamic_align);
  /* Functions that might be called: their variables keep one place for every kernel. */
  for (struct sim_function *function = decode->syntax->functions; function;
       function = function->next) {
    if (function == entry || !function->is_entry) {
      place_shared(decode, function->symbols, &end, &dynamic_align);
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

static void fill_constants(struct sim_decode *decode) {
  struct sim_kernel *kernel = decode->kernel;
  kernel->file_bytes = decode->file_bytes;
  kernel->constants = sim_pool_take(decode->pool, decode->file_bytes);
  for (u32 i = 0; i < decode->constant_count; i++) {
    const struct sim_constant *constant = &decode->constants[i];
    u8 *at = kernel->constants + constant->slot;
    u32 bytes = constant->bytes ? constant->bytes : sizeof(u32);
    for (u32 lane = 0; lane < (constant->bytes ? SIM_LANES : 1u); lane++) {
      memcpy(at + lane * bytes, &constant->bits, bytes);
    }
  }
  kernel->constant_bytes = decode->file_bytes;
}

bool sim_decode_kernel(struct sim_syntax *syntax, struct sim_pool *pool,
                       const struct sim_function *function, struct sim_kernel *kernel, char *error,
                       size_t error_bytes) {
  jmp_buf failed;
  struct sim_decode decode = {.syntax = syntax,
                              .pool = pool,
                              .kernel = kernel,
                              .error = error,
                              .error_bytes = error_bytes,
                              .failed = &failed};
  decode.file_bytes = decode.predicate_limit = PREDICATE_ROOM;
  struct sim_instance instance = {.function = function};
  kernel->name = function->name;
  kernel->max_threads = function->max_threads;
  memcpy(kernel->required_threads, function->required_threads, sizeof kernel->required_threads);
  bool done = false;
  if (!setjmp(failed)) {
    list_params(&decode, function);
    place_all_shared(&decode, function);
    expand(&decode, function, &instance);
    decode.statement = NULL;
    sim_emit(&decode, &(struct sim_inst){.flow = SIM_FLOW_EXIT,
                                         .opcode = "exit",
                                         .instruction_class = SIM_CLASS_CONTROL,
                                         .location = SIM_NO_LOCATION});
    fill_constants(&decode);
    done = true;
  }
  free(decode.constants);
  free(instance.placements);
  return done;
}

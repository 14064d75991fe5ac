/* parse.c - the parser of a PTX module: see parse/syntax.h. PTX ISA, "Directives" and "State
 * Spaces, Types, and Variables".
 *
 * Recursive descent, one function per directive. A module is directives; a body is directives,
 * labels, scopes and statements. Braces open a scope. Inline assembly declares registers and labels
 * of the same names in many scopes, so each symbol and statement carries its scope. An unknown
 * directive is an error; those that are only hints are read and dropped. */
#include <stdlib.h>
#include <string.h>

#include "simgpu/parse/scan.h"

static u32 bytes_of_type(struct sim_scan *scan, const char *type) {
  static const struct {
    const char *name;
    u32 bytes;
  } types[] = {{"pred", 0}, {"b8", 1},  {"u8", 1},    {"s8", 1},    {"b16", 2},
               {"u16", 2},  {"s16", 2}, {"f16", 2},   {"bf16", 2},  {"b32", 4},
               {"u32", 4},  {"s32", 4}, {"f32", 4},   {"b64", 8},   {"u64", 8},
               {"s64", 8},  {"f64", 8}, {"f16x2", 4}, {"bf16x2", 4}};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    if (type && !strcmp(types[i].name, type)) return types[i].bytes;
  }
  sim_scan_fail(scan, "unsupported type .%s", type ? type : "?");
}

static struct sim_symbol *new_symbol(struct sim_scan *scan, enum sim_symbol_kind kind,
                                     const char *name) {
  struct sim_symbol *symbol = sim_pool_take(&scan->syntax->pool, sizeof *symbol);
  symbol->kind = kind;
  symbol->name = name;
  symbol->scope = scan->scope;
  symbol->align = 1;
  return symbol;
}

static void add_symbol(struct sim_scan *scan, struct sim_symbol *symbol) {
  struct sim_symbol **list = scan->function ? &scan->function->symbols : &scan->syntax->globals;
  symbol->next = *list;
  *list = symbol;
}

static const char *expect_name(struct sim_scan *scan) {
  const char *name = sim_scan_name(scan);
  if (!name) sim_scan_fail(scan, "expected a name at '%.12s'", scan->at);
  return name;
}

/* .reg .b32 %r<9>, %s; a family is one symbol with consecutive register numbers. */
static void parse_registers(struct sim_scan *scan) {
  u32 bytes = bytes_of_type(scan, sim_scan_directive(scan));
  do {
    struct sim_symbol *symbol = new_symbol(scan, SIM_SYMBOL_REGISTERS, expect_name(scan));
    symbol->register_count = 1;
    if (sim_scan_accept(scan, '<')) {
      symbol->is_family = true;
      symbol->register_count = (u32)sim_scan_integer(scan);
      sim_scan_expect(scan, '>');
    }
    symbol->register_bytes = bytes;
    symbol->first_register = scan->function->register_count;
    scan->function->register_count += symbol->register_count;
    add_symbol(scan, symbol);
  } while (sim_scan_accept(scan, ','));
  sim_scan_expect(scan, ';');
}

static void add_relocation(struct sim_scan *scan, struct sim_symbol *symbol, u64 offset,
                           const char *name) {
  struct sim_relocation *larger =
      sim_pool_take(&scan->syntax->pool, sizeof *larger * (symbol->relocation_count + 1));
  if (symbol->relocation_count) {
    memcpy(larger, symbol->relocations, sizeof *larger * symbol->relocation_count);
  }
  u64 addend = sim_scan_accept(scan, '+') ? sim_scan_integer(scan) : 0;
  larger[symbol->relocation_count++] = (struct sim_relocation){name, offset, addend};
  symbol->relocations = larger;
}

/* generic(name) or name: the address of a variable. */
static void parse_address(struct sim_scan *scan, struct sim_symbol *symbol, u64 offset) {
  const char *name = expect_name(scan);
  if (!strcmp(name, "generic")) {
    sim_scan_expect(scan, '(');
    name = expect_name(scan);
    sim_scan_expect(scan, ')');
  }
  add_relocation(scan, symbol, offset, name);
}

static void parse_initialiser(struct sim_scan *scan, struct sim_symbol *symbol, u32 item_bytes) {
  symbol->data = sim_pool_take(&scan->syntax->pool, symbol->bytes ? symbol->bytes : 1);
  u64 offset = 0;
  u32 depth = 0;
  do {
    while (sim_scan_accept(scan, '{')) depth++;
    char next = sim_scan_peek(scan);
    if (offset + item_bytes > symbol->bytes)
      sim_scan_fail(scan, "too many initial values of %s", symbol->name);
    if (next == '-' || (next >= '0' && next <= '9')) {
      u64 bits = sim_scan_number(scan).bits;
      memcpy(symbol->data + offset, &bits, item_bytes);
    } else if (next != '}') {
      parse_address(scan, symbol, offset);
    }
    offset += item_bytes;
    while (depth && sim_scan_accept(scan, '}')) depth--;
  } while (sim_scan_accept(scan, ','));
}

/* .align 16 .b8 name[4][8] = {..}; the state space before it has been read. */
static struct sim_symbol *parse_variable(struct sim_scan *scan, enum sim_symbol_kind kind) {
  u32 align = 0, item_bytes = 0;
  for (const char *word; (word = sim_scan_directive(scan));) {
    if (!strcmp(word, "align")) {
      align = (u32)sim_scan_integer(scan);
    } else if (!strcmp(word, "ptr")) {
      /* .param .u64 .ptr .global .align 16 name: describes what the pointer points to; a hint. */
      while (sim_scan_peek(scan) == '.') {
        if (!strcmp(sim_scan_directive(scan), "align")) sim_scan_integer(scan);
      }
    } else if (!strcmp(word, "attribute")) {
      sim_scan_fail(scan, "unsupported .attribute");
    } else {
      item_bytes = bytes_of_type(scan, word);
    }
  }
  struct sim_symbol *symbol = new_symbol(scan, kind, expect_name(scan));
  symbol->align = align ? align : item_bytes;
  symbol->bytes = item_bytes;
  while (sim_scan_accept(scan, '[')) {
    symbol->bytes *= sim_scan_peek(scan) == ']' ? 0 : sim_scan_integer(scan);
    sim_scan_expect(scan, ']');
  }
  if (sim_scan_accept(scan, '=')) parse_initialiser(scan, symbol, item_bytes);
  return symbol;
}

static void parse_variables(struct sim_scan *scan, enum sim_symbol_kind kind, bool is_external) {
  struct sim_symbol *symbol = parse_variable(scan, kind);
  symbol->is_external = is_external;
  add_symbol(scan, symbol);
  if (sim_scan_peek(scan) == ',')
    sim_scan_fail(scan, "unsupported: several variables in one declaration");
  sim_scan_expect(scan, ';');
}

static u32 find_location(const struct sim_syntax *syntax, u32 file, u32 line, u32 column) {
  for (u32 i = syntax->location_count; i-- > 0;) {
    const struct sim_location *location = &syntax->locations[i];
    if (location->file == file && location->line == line && location->column == column) return i;
  }
  return SIM_NO_LOCATION;
}

/* .loc 2 449 9, function_name $L__info_string0, inlined_at 1 12 3. inlined_at means the
 * latest earlier .loc of that place. */
static void parse_location(struct sim_scan *scan) {
  struct sim_syntax *syntax = scan->syntax;
  struct sim_location location = {.inlined_at = SIM_NO_LOCATION};
  location.file = (u32)sim_scan_integer(scan);
  location.line = (u32)sim_scan_integer(scan);
  location.column = (u32)sim_scan_integer(scan);
  while (sim_scan_accept(scan, ',')) {
    const char *word = expect_name(scan);
    if (!strcmp(word, "function_name")) {
      expect_name(scan);
      if (sim_scan_accept(scan, '+')) sim_scan_integer(scan);
    } else if (!strcmp(word, "inlined_at")) {
      u32 file = (u32)sim_scan_integer(scan), line = (u32)sim_scan_integer(scan);
      location.inlined_at = find_location(syntax, file, line, (u32)sim_scan_integer(scan));
    } else {
      sim_scan_fail(scan, "unknown attribute of .loc: %s", word);
    }
  }
  syntax->locations = sim_grow(syntax->locations, syntax->location_count,
                               &syntax->location_capacity, sizeof location);
  scan->location = syntax->location_count;
  syntax->locations[syntax->location_count++] = location;
}

static void parse_statement(struct sim_scan *scan) {
  struct sim_function *function = scan->function;
  function->statements = sim_grow(function->statements, function->statement_count,
                                  &function->statement_capacity, sizeof *function->statements);
  struct sim_statement statement = {.location = scan->location, .scope = scan->scope};
  if (sim_scan_accept(scan, '@')) {
    statement.is_guarded = true;
    statement.guard = sim_scan_guard(scan);
  }
  statement.opcode = sim_scan_opcode(scan);
  statement.ptx_line = scan->line;
  if (!*statement.opcode) sim_scan_fail(scan, "expected an instruction at '%.12s'", scan->at);
  sim_scan_operands(scan, &statement);
  function->statements[function->statement_count++] = statement;
}

static void open_scope(struct sim_scan *scan) {
  struct sim_function *function = scan->function;
  function->scope_parents = sim_grow(function->scope_parents, function->scope_count,
                                     &function->scope_capacity, sizeof(u32));
  function->scope_parents[function->scope_count] = scan->scope;
  scan->scope = function->scope_count++;
}

static void parse_targets(struct sim_scan *scan, struct sim_symbol *symbol) {
  enum { TARGETS_MAX = 1024 };
  symbol->kind = SIM_SYMBOL_TARGETS;
  symbol->labels = sim_pool_take(&scan->syntax->pool, sizeof(char *) * TARGETS_MAX);
  do {
    if (symbol->label_count == TARGETS_MAX)
      sim_scan_fail(scan, "more than %d branch targets", TARGETS_MAX);
    symbol->labels[symbol->label_count++] = expect_name(scan);
  } while (sim_scan_accept(scan, ','));
  sim_scan_expect(scan, ';');
}

static bool parse_label(struct sim_scan *scan) {
  const char *start = scan->at;
  const char *name = sim_scan_name(scan);
  if (!name || sim_scan_peek(scan) != ':' || scan->at[1] == ':') {
    scan->at = start;
    return false;
  }
  scan->at++;
  struct sim_symbol *symbol = new_symbol(scan, SIM_SYMBOL_LABEL, name);
  symbol->statement = scan->function->statement_count;
  symbol->next = scan->function->labels;
  scan->function->labels = symbol;
  if (sim_scan_peek(scan) == '.' && !strncmp(scan->at, ".branchtargets", 14)) {
    sim_scan_directive(scan);
    parse_targets(scan, symbol);
  }
  return true;
}

static void parse_body_directive(struct sim_scan *scan) {
  const char *word = sim_scan_directive(scan);
  if (!strcmp(word, "reg")) {
    parse_registers(scan);
  } else if (!strcmp(word, "loc")) {
    parse_location(scan);
  } else if (!strcmp(word, "local")) {
    parse_variables(scan, SIM_SYMBOL_LOCAL, false);
  } else if (!strcmp(word, "shared")) {
    parse_variables(scan, SIM_SYMBOL_SHARED, false);
  } else if (!strcmp(word, "param")) {
    parse_variables(scan, SIM_SYMBOL_PARAM, false);
  } else if (!strcmp(word, "pragma")) {
    sim_scan_string(scan);
    sim_scan_expect(scan, ';');
  } else {
    sim_scan_fail(scan, "unsupported directive .%s in a function", word);
  }
}

static void parse_body(struct sim_scan *scan) {
  scan->scope = 0;
  scan->location = SIM_NO_LOCATION;
  open_scope(scan);
  for (u32 depth = 1; depth > 0;) {
    char next = sim_scan_peek(scan);
    if (next == '{') {
      scan->at++;
      depth++;
      open_scope(scan);
    } else if (next == '}') {
      scan->at++;
      depth--;
      scan->scope = scan->function->scope_parents[scan->scope];
    } else if (next == '.') {
      parse_body_directive(scan);
    } else if (next == 0) {
      sim_scan_fail(scan, "the function %s is not closed", scan->function->name);
    } else if (next == ';') {
      scan->at++;
    } else if (!parse_label(scan)) {
      parse_statement(scan);
    }
  }
}

static struct sim_symbol *parse_params(struct sim_scan *scan, u32 *total_bytes) {
  struct sim_symbol *first = NULL, **last = &first;
  u64 offset = 0;
  if (!sim_scan_accept(scan, '(')) return NULL;
  while (!sim_scan_accept(scan, ')')) {
    const char *word = sim_scan_directive(scan);
    if (!word || strcmp(word, "param")) sim_scan_fail(scan, "expected .param");
    struct sim_symbol *param = parse_variable(scan, SIM_SYMBOL_PARAM);
    offset = (offset + param->align - 1) / param->align * param->align;
    param->offset = offset;
    offset += param->bytes;
    *last = param;
    last = &param->next;
    sim_scan_accept(scan, ',');
  }
  if (total_bytes) *total_bytes = (u32)offset;
  return first;
}

static void parse_sizes(struct sim_scan *scan, u32 sizes[3]) {
  sizes[0] = (u32)sim_scan_integer(scan);
  for (int axis = 1; axis < 3; axis++) {
    sizes[axis] = sim_scan_accept(scan, ',') ? (u32)sim_scan_integer(scan) : 1;
  }
}

static void parse_attributes(struct sim_scan *scan) {
  struct sim_function *function = scan->function;
  for (const char *word; (word = sim_scan_directive(scan));) {
    u32 sizes[3];
    if (!strcmp(word, "maxntid")) {
      parse_sizes(scan, sizes);
      function->max_threads = sizes[0] * sizes[1] * sizes[2];
    } else if (!strcmp(word, "reqntid")) {
      parse_sizes(scan, function->required_threads);
    } else if (!strcmp(word, "minnctapersm") || !strcmp(word, "maxnreg")) {
      sim_scan_integer(scan);
    } else if (!strcmp(word, "pragma")) {
      sim_scan_string(scan);
      sim_scan_expect(scan, ';');
    } else if (strcmp(word, "noreturn") != 0) {
      sim_scan_fail(scan, "unsupported attribute .%s of %s", word, function->name);
    }
  }
}

static void parse_function(struct sim_scan *scan, bool is_entry) {
  struct sim_function *function = sim_pool_take(&scan->syntax->pool, sizeof *function);
  function->returns = is_entry ? NULL : parse_params(scan, NULL);
  function->is_entry = is_entry;
  function->name = expect_name(scan);
  scan->function = function;
  function->params = parse_params(scan, &function->param_bytes);
  parse_attributes(scan);
  if (sim_scan_accept(scan, '{')) {
    function->has_body = true;
    parse_body(scan);
  } else {
    sim_scan_expect(scan, ';');
  }
  scan->function = NULL;
  function->next = scan->syntax->functions;
  scan->syntax->functions = function;
}

/* .file 1 "name", size, time */
static void parse_file(struct sim_scan *scan) {
  struct sim_syntax *syntax = scan->syntax;
  u32 number = (u32)sim_scan_integer(scan);
  const char *name = sim_scan_string(scan);
  while (sim_scan_accept(scan, ',')) sim_scan_integer(scan);
  if (number >= syntax->file_count) {
    const char **larger = sim_pool_take(&syntax->pool, sizeof *larger * (number + 16));
    if (syntax->file_count) memcpy(larger, syntax->files, sizeof *larger * syntax->file_count);
    syntax->files = larger;
    syntax->file_count = number + 16;
  }
  syntax->files[number] = name;
}

static void skip_section(struct sim_scan *scan) {
  while (*scan->at && *scan->at != '{') scan->line += *scan->at++ == '\n';
  while (*scan->at && *scan->at != '}') scan->line += *scan->at++ == '\n';
  sim_scan_expect(scan, '}');
}

static void skip_to_semicolon(struct sim_scan *scan) {
  while (*scan->at && *scan->at != ';') scan->line += *scan->at++ == '\n';
  sim_scan_expect(scan, ';');
}

static void skip_line(struct sim_scan *scan) {
  while (*scan->at && *scan->at != '\n') scan->at++;
}

static void parse_module_directive(struct sim_scan *scan, bool *is_external) {
  const char *word = sim_scan_directive(scan);
  bool external = *is_external;
  *is_external = false;
  if (!strcmp(word, "version") || !strcmp(word, "target") || !strcmp(word, "address_size")) {
    skip_line(scan);
  } else if (!strcmp(word, "extern")) {
    *is_external = true;
  } else if (!strcmp(word, "visible") || !strcmp(word, "weak") || !strcmp(word, "common")) {
    *is_external = external;
  } else if (!strcmp(word, "entry") || !strcmp(word, "func")) {
    parse_function(scan, *word == 'e');
  } else if (!strcmp(word, "global")) {
    parse_variables(scan, SIM_SYMBOL_GLOBAL, external);
  } else if (!strcmp(word, "const")) {
    parse_variables(scan, SIM_SYMBOL_CONST, external);
  } else if (!strcmp(word, "shared")) {
    parse_variables(scan, SIM_SYMBOL_SHARED, external);
  } else if (!strcmp(word, "file")) {
    parse_file(scan);
  } else if (!strcmp(word, "section")) {
    skip_section(scan);
  } else if (!strcmp(word, "alias") || !strcmp(word, "pragma")) {
    skip_to_semicolon(scan);
  } else {
    sim_scan_fail(scan, "unsupported directive .%s", word);
  }
}

bool sim_parse(struct sim_syntax *syntax, const char *text, char *error, size_t error_bytes) {
  struct sim_scan scan = {
      .at = text, .line = 1, .syntax = syntax, .error = error, .error_bytes = error_bytes};
  if (setjmp(scan.failed)) return false;
  bool is_external = false;
  while (sim_scan_peek(&scan)) {
    if (*scan.at != '.') sim_scan_fail(&scan, "expected a directive at '%.12s'", scan.at);
    parse_module_directive(&scan, &is_external);
  }
  return true;
}

void sim_syntax_free(struct sim_syntax *syntax) {
  for (struct sim_function *function = syntax->functions; function; function = function->next) {
    free(function->statements);
    free(function->scope_parents);
  }
  free(syntax->locations);
  sim_pool_free(&syntax->pool);
}

struct sim_function *sim_find_function(struct sim_syntax *syntax, const char *name) {
  struct sim_function *declared = NULL;
  for (struct sim_function *function = syntax->functions; function; function = function->next) {
    if (strcmp(function->name, name) != 0) continue;
    if (function->has_body) return function;
    declared = function;
  }
  return declared;
}

const struct sim_symbol *sim_find_label(const struct sim_function *function, u32 scope,
                                        const char *name) {
  for (u32 at = scope;; at = function->scope_parents[at]) {
    for (const struct sim_symbol *symbol = function->labels; symbol; symbol = symbol->next) {
      if (symbol->scope == at && !strcmp(symbol->name, name)) return symbol;
    }
    if (at == 0) return NULL;
  }
}

/* operand.c - the operands of a statement: see parse/scan.h. PTX ISA, "Instruction Operands".
 *
 * A name is looked up where it stands: the symbols of the body that are visible there, the last
 * declared first; then parameters; then variables of the module. What is not found is a special
 * register if it begins with %, else a label or a function, which decode/ looks up. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/parse/scan.h"

static bool is_visible(const struct sim_scan *scan, u32 scope) {
  for (u32 at = scan->scope;; at = scan->function->scope_parents[at]) {
    if (at == scope) return true;
    if (at == 0) return false;
  }
}

/* %r12 is member 12 of the family %r. */
static bool is_member(const struct sim_symbol *family, const char *name, u32 *member) {
  size_t length = strlen(family->name);
  if (strncmp(family->name, name, length) != 0 || !isdigit((unsigned char)name[length]))
    return false;
  char *end;
  unsigned long index = strtoul(name + length, &end, 10);
  *member = (u32)index;
  return *end == 0 && index < family->register_count;
}

struct sim_symbol *sim_find_symbol(struct sim_scan *scan, const char *name, u32 *member) {
  *member = 0;
  if (scan->function) {
    for (struct sim_symbol *symbol = scan->function->symbols; symbol; symbol = symbol->next) {
      bool fits = symbol->is_family ? is_member(symbol, name, member) : !strcmp(symbol->name, name);
      if (fits && is_visible(scan, symbol->scope)) return symbol;
    }
    struct sim_symbol *lists[] = {scan->function->params, scan->function->returns};
    for (int list = 0; list < 2; list++) {
      for (struct sim_symbol *symbol = lists[list]; symbol; symbol = symbol->next) {
        if (!strcmp(symbol->name, name)) return symbol;
      }
    }
  }
  for (struct sim_symbol *symbol = scan->syntax->globals; symbol; symbol = symbol->next) {
    if (!strcmp(symbol->name, name)) return symbol;
  }
  return NULL;
}

static struct sim_operand register_operand(const struct sim_symbol *symbol, u32 member) {
  return (struct sim_operand){.kind = SIM_OPERAND_REGISTER,
                              .register_index = symbol->first_register + member,
                              .register_bytes = symbol->register_bytes};
}

static struct sim_operand named_operand(struct sim_scan *scan) {
  const char *name = sim_scan_name(scan);
  if (!name) sim_scan_fail(scan, "expected an operand at '%.12s'", scan->at);
  if (!strcmp(name, "_")) return (struct sim_operand){.kind = SIM_OPERAND_SINK};
  if (!strcmp(name, "WARP_SZ")) {
    return (struct sim_operand){.kind = SIM_OPERAND_LITERAL, .bits = SIM_LANES};
  }
  u32 member;
  struct sim_symbol *symbol = sim_find_symbol(scan, name, &member);
  if (!symbol) {
    bool special = *name == '%';
    return (struct sim_operand){.kind = special ? SIM_OPERAND_SPECIAL : SIM_OPERAND_NAME,
                                .name = name};
  }
  if (symbol->kind == SIM_SYMBOL_REGISTERS) return register_operand(symbol, member);
  return (struct sim_operand){.kind = SIM_OPERAND_SYMBOL, .symbol = symbol, .name = name};
}

static struct sim_operand scan_operand(struct sim_scan *scan);

static void append_item(struct sim_scan *scan, struct sim_operand *list, struct sim_operand item) {
  enum { ITEMS_MAX = 128 }; /* wgmma has the longest list: its accumulators */
  if (!list->items) list->items = sim_pool_take(&scan->syntax->pool, sizeof item * 4);
  if (list->count >= ITEMS_MAX) sim_scan_fail(scan, "more than %d operands in a list", ITEMS_MAX);
  if (list->count >= 4 && (list->count & (list->count - 1)) == 0) {
    struct sim_operand *larger = sim_pool_take(&scan->syntax->pool, sizeof item * list->count * 2);
    memcpy(larger, list->items, sizeof item * list->count);
    list->items = larger;
  }
  list->items[list->count++] = item;
}

static struct sim_operand scan_list(struct sim_scan *scan, char end) {
  struct sim_operand list = {.kind = SIM_OPERAND_VECTOR};
  scan->at++;
  if (sim_scan_accept(scan, end)) return list;
  do {
    append_item(scan, &list, scan_operand(scan));
  } while (sim_scan_accept(scan, ','));
  sim_scan_expect(scan, end);
  return list;
}

static s64 scan_offset(struct sim_scan *scan) {
  s64 offset = 0;
  for (;;) {
    if (sim_scan_accept(scan, '+')) {
      offset += (s64)sim_scan_integer(scan);
    } else if (sim_scan_peek(scan) == '-') {
      offset += (s64)sim_scan_integer(scan);
    } else {
      return offset;
    }
  }
}

static struct sim_operand scan_memory(struct sim_scan *scan) {
  struct sim_operand memory = {.kind = SIM_OPERAND_MEMORY};
  scan->at++;
  do {
    append_item(scan, &memory, scan_operand(scan));
  } while (sim_scan_accept(scan, ','));
  sim_scan_expect(scan, ']');
  memory.offset = memory.items[0].offset;
  return memory;
}

static struct sim_operand scan_operand(struct sim_scan *scan) {
  char first = sim_scan_peek(scan);
  if (first == '{') return scan_list(scan, '}');
  if (first == '(') return scan_list(scan, ')');
  if (first == '[') return scan_memory(scan);
  if (first == '-' || isdigit((unsigned char)first)) return sim_scan_number(scan);
  bool negated = sim_scan_accept(scan, '!');
  struct sim_operand operand = named_operand(scan);
  operand.is_negated = negated;
  if (operand.kind != SIM_OPERAND_NAME) operand.offset = scan_offset(scan);
  if (!sim_scan_accept(scan, '|')) return operand;
  struct sim_operand pair = {.kind = SIM_OPERAND_PAIR};
  append_item(scan, &pair, operand);
  append_item(scan, &pair, named_operand(scan));
  return pair;
}

void sim_scan_operands(struct sim_scan *scan, struct sim_statement *statement) {
  struct sim_operand list = {0};
  if (!sim_scan_accept(scan, ';')) {
    do {
      append_item(scan, &list, scan_operand(scan));
    } while (sim_scan_accept(scan, ','));
    sim_scan_expect(scan, ';');
  }
  statement->operands = list.items;
  statement->count = list.count;
}

struct sim_operand sim_scan_guard(struct sim_scan *scan) {
  bool negated = sim_scan_accept(scan, '!');
  struct sim_operand guard = named_operand(scan);
  if (guard.kind != SIM_OPERAND_REGISTER || guard.register_bytes != 0) {
    sim_scan_fail(scan, "a guard must be a predicate register");
  }
  guard.is_negated = negated;
  return guard;
}

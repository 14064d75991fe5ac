/* scan.h - the scanner of PTX, one token at a time, and the parser of operands on top of it.
 *
 * struct sim_scan is the state of one sim_parse, on its stack: the place in the text, and what is
 * open there. Names, strings and operands go to the pool of the syntax. An error is written to
 * `error` and leaves by longjmp to sim_parse, so that no caller has to check for it. */
#ifndef FOVEA_SIMGPU_PARSE_SCAN_H
#define FOVEA_SIMGPU_PARSE_SCAN_H

#include <setjmp.h>

#include "simgpu/parse/syntax.h"

struct sim_scan {
  const char *at;
  u32 line;
  struct sim_syntax *syntax;
  struct sim_function *function; /* whose body is being read, or NULL */
  u32 scope;                     /* index in function->scope_parents */
  u32 location; /* of the latest .loc: index in syntax->locations, or SIM_NO_LOCATION */
  char *error;
  size_t error_bytes;
  jmp_buf failed;
};

/* parse/scan.c: tokens. Each of them first skips white space and comments. */
_Noreturn void sim_scan_fail(struct sim_scan *scan, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
char sim_scan_peek(struct sim_scan *scan); /* the next character, not consumed; 0 at the end */
bool sim_scan_accept(struct sim_scan *scan, char wanted);
void sim_scan_expect(struct sim_scan *scan, char wanted);
/* A name: letters, digits, _ $ %; where it begins with %, dots too. NULL: no name stands here. */
const char *sim_scan_name(struct sim_scan *scan);
const char *sim_scan_opcode(struct sim_scan *scan); /* with all its modifiers; "" where none is */
const char *sim_scan_directive(struct sim_scan *scan); /* .name without the dot, or NULL */
const char *sim_scan_string(struct sim_scan *scan);    /* without its quotes */
struct sim_operand sim_scan_number(struct sim_scan *scan);
u64 sim_scan_integer(struct sim_scan *scan);

/* parse/operand.c: operands. `member` is the number of a register within its family. */
struct sim_symbol *sim_find_symbol(struct sim_scan *scan, const char *name, u32 *member);
/* Everything from the opcode to the semicolon. */
void sim_scan_operands(struct sim_scan *scan, struct sim_statement *statement);
/* The predicate behind an @. */
struct sim_operand sim_scan_guard(struct sim_scan *scan);

#endif /* FOVEA_SIMGPU_PARSE_SCAN_H */

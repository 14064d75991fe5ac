/* scan.h - reads the characters of PTX: names, numbers, punctuation. Errors leave by longjmp to
 * sim_parse.
 */
#ifndef SIM_SCAN_H
#define SIM_SCAN_H

#include <setjmp.h>

#include "simgpu/parse/syntax.h"

struct sim_scan {
  const char *at;
  u32 line;
  struct sim_syntax *syntax;
  struct sim_function *function; /* whose body is being read, or NULL */
  u32 scope;
  u32 location;
  char *error;
  size_t error_bytes;
  jmp_buf failed;
};

_Noreturn void sim_scan_fail(struct sim_scan *scan, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
char sim_scan_peek(struct sim_scan *scan); /* the next character that is no space or comment */
bool sim_scan_accept(struct sim_scan *scan, char wanted);
void sim_scan_expect(struct sim_scan *scan, char wanted);
/* A name: letters, digits, _ $ %, and dots inside names that begin with %. NULL if there is none.
 */
const char *sim_scan_name(struct sim_scan *scan);
const char *sim_scan_opcode(struct sim_scan *scan);
const char *sim_scan_directive(struct sim_scan *scan); /* .name without the dot, or NULL */
const char *sim_scan_string(struct sim_scan *scan);
struct sim_operand sim_scan_number(struct sim_scan *scan);
u64 sim_scan_integer(struct sim_scan *scan);

struct sim_symbol *sim_find_symbol(struct sim_scan *scan, const char *name, u32 *member);
void sim_scan_operands(struct sim_scan *scan, struct sim_statement *statement);
struct sim_operand sim_scan_guard(struct sim_scan *scan);

#endif

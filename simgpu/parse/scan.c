/* scan.c - the tokens of PTX: see parse/scan.h. PTX ISA, "Syntax": identifiers, constants,
 * comments. Constant expressions are not read: nvcc writes their values. */
#include "simgpu/parse/scan.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simgpu/alu/float.h"

void sim_scan_fail(struct sim_scan *scan, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = snprintf(scan->error, scan->error_bytes, "PTX line %u: ", scan->line);
  if (length > 0 && (size_t)length < scan->error_bytes) {
    vsnprintf(scan->error + length, scan->error_bytes - (size_t)length, format, arguments);
  }
  va_end(arguments);
  longjmp(scan->failed, 1);
}

static void skip_comment(struct sim_scan *scan) {
  if (scan->at[1] == '/') {
    while (*scan->at && *scan->at != '\n') scan->at++;
    return;
  }
  for (scan->at += 2; *scan->at && !(scan->at[0] == '*' && scan->at[1] == '/'); scan->at++) {
    scan->line += *scan->at == '\n';
  }
  if (*scan->at) scan->at += 2;
}

char sim_scan_peek(struct sim_scan *scan) {
  for (;;) {
    char next = *scan->at;
    if (next == '/' && (scan->at[1] == '/' || scan->at[1] == '*')) {
      skip_comment(scan);
    } else if (next == ' ' || next == '\t' || next == '\n' || next == '\r') {
      scan->line += next == '\n';
      scan->at++;
    } else {
      return next;
    }
  }
}

bool sim_scan_accept(struct sim_scan *scan, char wanted) {
  if (sim_scan_peek(scan) != wanted) return false;
  scan->at++;
  return true;
}

void sim_scan_expect(struct sim_scan *scan, char wanted) {
  if (!sim_scan_accept(scan, wanted)) {
    sim_scan_fail(scan, "expected '%c' before '%.12s'", wanted, scan->at);
  }
}

static bool is_name_character(char c) {
  return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%';
}

static char *take_text(struct sim_scan *scan, const char *end) {
  char *text = sim_pool_text(&scan->syntax->pool, scan->at, (size_t)(end - scan->at));
  scan->at = end;
  return text;
}

const char *sim_scan_name(struct sim_scan *scan) {
  char first = sim_scan_peek(scan);
  if (!is_name_character(first) || isdigit((unsigned char)first)) return NULL;
  const char *end = scan->at;
  while (is_name_character(*end) || (first == '%' && *end == '.')) end++;
  return take_text(scan, end);
}

const char *sim_scan_opcode(struct sim_scan *scan) {
  sim_scan_peek(scan);
  const char *end = scan->at;
  while (is_name_character(*end) || *end == '.' || (end[0] == ':' && end[1] == ':')) {
    end += *end == ':' ? 2 : 1;
  }
  return take_text(scan, end);
}

const char *sim_scan_directive(struct sim_scan *scan) {
  if (sim_scan_peek(scan) != '.') return NULL;
  scan->at++;
  const char *end = scan->at;
  while (isalnum((unsigned char)*end) || *end == '_') end++;
  return take_text(scan, end);
}

const char *sim_scan_string(struct sim_scan *scan) {
  sim_scan_expect(scan, '"');
  const char *end = scan->at;
  while (*end && *end != '"') end++;
  const char *text = take_text(scan, end);
  sim_scan_expect(scan, '"');
  return text;
}

static struct sim_operand float_literal(struct sim_scan *scan) {
  bool is_double = tolower((unsigned char)scan->at[1]) == 'd';
  char digits[17] = {0};
  size_t wanted = is_double ? 16 : 8;
  strncpy(digits, scan->at + 2, wanted);
  scan->at += 2 + strnlen(scan->at + 2, wanted);
  return (struct sim_operand){.kind = SIM_OPERAND_LITERAL,
                              .literal = is_double ? SIM_LITERAL_F64 : SIM_LITERAL_F32,
                              .bits = strtoull(digits, NULL, 16)};
}

struct sim_operand sim_scan_number(struct sim_scan *scan) {
  bool negative = sim_scan_accept(scan, '-');
  char first = sim_scan_peek(scan);
  if (!isdigit((unsigned char)first)) sim_scan_fail(scan, "expected a number at '%.12s'", scan->at);
  char second = (char)tolower((unsigned char)scan->at[1]);
  if (first == '0' && (second == 'f' || second == 'd')) {
    struct sim_operand literal = float_literal(scan);
    if (negative) literal.bits ^= 1ull << (literal.literal == SIM_LITERAL_F64 ? 63 : 31);
    return literal;
  }
  struct sim_operand result = {.kind = SIM_OPERAND_LITERAL};
  char *end;
  result.bits =
      second == 'b' && first == '0' ? strtoull(scan->at + 2, &end, 2) : strtoull(scan->at, &end, 0);
  if (*end == '.' && isdigit((unsigned char)end[1])) {
    double value = strtod(scan->at, &end);
    result.literal = SIM_LITERAL_F64;
    result.bits = sim_f64_bits(negative ? -value : value);
  } else if (negative) {
    result.bits = -result.bits;
  }
  scan->at = *end == 'U' ? end + 1 : end;
  return result;
}

u64 sim_scan_integer(struct sim_scan *scan) {
  return sim_scan_number(scan).bits;
}

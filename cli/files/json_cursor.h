/* json_cursor.h - a strict JSON tokenizer over bytes in memory, for headers of fixed structure.
 *
 * The JSON library that the rest of the program uses does not serve here. It reports memory
 * exhaustion as a syntax error, and gives no positions for values. It builds a tree some twenty
 * times the size of the text, recurses, and converts fractions by the locale's rules. A reader of
 * hostile headers can afford none of these. This tokenizer walks the text once, allocates nothing,
 * and knows its offset. It never recurses: the caller asks for exactly the structure it wants, and
 * anything deeper is an error.
 *
 * Every function returns true and moves past what it read, or returns false and leaves in
 * `problem` what was expected and in `at` where. */
#ifndef FOVEA_CLI_FILES_JSON_CURSOR_H
#define FOVEA_CLI_FILES_JSON_CURSOR_H

#include <stdbool.h>
#include <stdint.h>

typedef struct fv_json_cursor {
  uint8_t *bytes;
  uint64_t size;
  uint64_t at;
  const char *problem;
} fv_json_cursor;

/* A string's text between its quotes, escapes still in place: bytes[begin .. end). */
typedef struct fv_json_span {
  uint64_t begin, end;
} fv_json_span;

typedef enum fv_json_step { FV_JSON_MEMBER, FV_JSON_END, FV_JSON_WRONG } fv_json_step;

/* Skips white space, then demands this character. */
bool fv_json_take(fv_json_cursor *cursor, char wanted, const char *problem);

/* Call after an opening bracket (first = true) and after each member: is there another member? */
fv_json_step fv_json_next(fv_json_cursor *cursor, char close, bool first);

/* A string: well-formed UTF-8, no raw control characters, no U+0000 (names end at it in C), escapes
 * complete, surrogates only in pairs. */
bool fv_json_string(fv_json_cursor *cursor, fv_json_span *span);

/* An integer 0 .. 2^64-1, written as such: no sign, fraction, exponent or leading zero. */
bool fv_json_uint(fv_json_cursor *cursor, uint64_t *value);

/* Nothing but white space up to the end. */
bool fv_json_finish(fv_json_cursor *cursor);

/* Of a span that fv_json_string accepted: */
bool fv_json_equals(const fv_json_cursor *cursor, fv_json_span span, const char *text);
/* - its unescaped text, cut to `size` bytes; returns how many were written, without a NUL. */
uint64_t fv_json_unescape(const fv_json_cursor *cursor, fv_json_span span, uint8_t *out,
                          uint64_t size);
/* - unescaped where it stands, with a NUL, which overwrites the closing quote at the latest. The
 *   cursor must already be past the string. */
char *fv_json_settle(fv_json_cursor *cursor, fv_json_span span);

#endif /* FOVEA_CLI_FILES_JSON_CURSOR_H */

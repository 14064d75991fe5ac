/* json_cursor.c - see json_cursor.h. The grammar is RFC 8259's, but numbers are integers only. One
 * function, next_char, knows escapes. Validation, comparison and unescaping are loops over it, so
 * that they cannot disagree. */
#include "cli/files/json_cursor.h"

#include <stddef.h>
#include <string.h>

#include "cli/files/utf8.h"

static bool stop(fv_json_cursor *cursor, const char *problem) {
  cursor->problem = problem;
  return false;
}

static void skip_space(fv_json_cursor *cursor) {
  while (cursor->at < cursor->size) {
    uint8_t byte = cursor->bytes[cursor->at];
    if (byte != ' ' && byte != '\n' && byte != '\r' && byte != '\t') return;
    cursor->at++;
  }
}

static bool next_is(const fv_json_cursor *cursor, char wanted) {
  return cursor->at < cursor->size && cursor->bytes[cursor->at] == (uint8_t)wanted;
}

bool fv_json_take(fv_json_cursor *cursor, char wanted, const char *problem) {
  skip_space(cursor);
  if (!next_is(cursor, wanted)) return stop(cursor, problem);
  cursor->at++;
  return true;
}

fv_json_step fv_json_next(fv_json_cursor *cursor, char close, bool first) {
  skip_space(cursor);
  if (next_is(cursor, close)) {
    cursor->at++;
    return FV_JSON_END;
  }
  if (first) return FV_JSON_MEMBER;
  if (!next_is(cursor, ',')) {
    stop(cursor, close == '}' ? "expected ',' or '}'" : "expected ',' or ']'");
    return FV_JSON_WRONG;
  }
  cursor->at++; /* a bracket right after a comma fails as a missing member */
  return FV_JSON_MEMBER;
}

static bool hex_unit(const uint8_t *digits, uint64_t size, uint32_t *unit) {
  if (size < 4) return false;
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) {
    uint8_t digit = digits[i];
    uint32_t nibble;
    if (digit >= '0' && digit <= '9') {
      nibble = digit - (uint32_t)'0';
    } else if (digit >= 'a' && digit <= 'f') {
      nibble = digit - (uint32_t)'a' + 10;
    } else if (digit >= 'A' && digit <= 'F') {
      nibble = digit - (uint32_t)'A' + 10;
    } else {
      return false;
    }
    value = value << 4 | nibble;
  }
  *unit = value;
  return true;
}

/* The part of \uXXXX after the u. A high surrogate also takes its other half. */
static const char *unicode_escape(const uint8_t *from, uint64_t size, uint64_t *used,
                                  uint32_t *code) {
  uint32_t high, low;
  if (!hex_unit(from, size, &high)) return "expected four hexadecimal digits after '\\u'";
  *used += 4;
  *code = high;
  if (high == 0) return "U+0000 in a string";
  if (high < 0xd800 || high > 0xdfff) return NULL;
  if (high > 0xdbff || size < 10 || from[4] != '\\' || from[5] != 'u' ||
      !hex_unit(from + 6, size - 6, &low) || low < 0xdc00 || low > 0xdfff) {
    return "half of a surrogate pair";
  }
  *used += 6;
  *code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  return NULL;
}

static const char *escape(const uint8_t *from, uint64_t size, uint64_t *used, uint32_t *code) {
  static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  if (size < 2) return "the string does not end";
  *used = 2;
  if (from[1] == 'u') return unicode_escape(from + 2, size - 2, used, code);
  const char *letter = (const char *)memchr(letters, from[1], sizeof letters - 1);
  if (letter == NULL) return "an escape that JSON does not have";
  *code = (uint8_t)meanings[letter - letters];
  return NULL;
}

/* Decodes one character of a string into *code; *used is its number of bytes. Returns NULL, or what
 * is wrong. */
static const char *next_char(const uint8_t *from, uint64_t size, uint64_t *used, uint32_t *code) {
  *used = 0;
  if (from[0] == '\\') return escape(from, size, used, code);
  if (from[0] < 0x20) return "a control character in a string (JSON wants it escaped)";
  *used = fv_utf8_decode(from, size, code);
  return *used == 0 ? "ill-formed UTF-8" : NULL;
}

bool fv_json_string(fv_json_cursor *cursor, fv_json_span *span) {
  if (!fv_json_take(cursor, '"', "expected a string")) return false;
  span->begin = cursor->at;
  while (cursor->at < cursor->size) {
    if (cursor->bytes[cursor->at] == '"') {
      span->end = cursor->at++;
      return true;
    }
    uint64_t used;
    uint32_t code;
    const char *problem =
        next_char(cursor->bytes + cursor->at, cursor->size - cursor->at, &used, &code);
    if (problem != NULL) return stop(cursor, problem);
    cursor->at += used;
  }
  return stop(cursor, "the string does not end");
}

static bool next_is_digit(const fv_json_cursor *cursor) {
  return cursor->at < cursor->size && cursor->bytes[cursor->at] >= '0' &&
         cursor->bytes[cursor->at] <= '9';
}

bool fv_json_uint(fv_json_cursor *cursor, uint64_t *value) {
  skip_space(cursor);
  if (!next_is_digit(cursor)) return stop(cursor, "expected a non-negative integer");
  uint64_t begin = cursor->at, sum = 0;
  for (; next_is_digit(cursor); cursor->at++) {
    if (__builtin_mul_overflow(sum, (uint64_t)10, &sum) ||
        __builtin_add_overflow(sum, (uint64_t)(cursor->bytes[cursor->at] - '0'), &sum)) {
      return stop(cursor, "an integer above 2^64-1");
    }
  }
  if (cursor->bytes[begin] == '0' && cursor->at - begin > 1) {
    cursor->at = begin;
    return stop(cursor, "an integer with a leading zero");
  }
  if (next_is(cursor, '.') || next_is(cursor, 'e') || next_is(cursor, 'E')) {
    return stop(cursor, "an integer written with a fraction or an exponent");
  }
  *value = sum;
  return true;
}

bool fv_json_finish(fv_json_cursor *cursor) {
  skip_space(cursor);
  if (cursor->at == cursor->size) return true;
  return stop(cursor, "more text after the header's last '}'");
}

bool fv_json_equals(const fv_json_cursor *cursor, fv_json_span span, const char *text) {
  for (uint64_t at = span.begin; at < span.end; text++) {
    uint64_t used = 0;
    uint32_t code = 0;
    (void)next_char(cursor->bytes + at, span.end - at, &used, &code);
    /* `text` is ASCII; its NUL equals no character of a string. */
    if (code != (uint8_t)*text) return false;
    at += used;
  }
  return *text == '\0';
}

uint64_t fv_json_unescape(const fv_json_cursor *cursor, fv_json_span span, uint8_t *out,
                          uint64_t size) {
  uint64_t written = 0;
  for (uint64_t at = span.begin; at < span.end;) {
    uint64_t used = 0;
    uint32_t code = 0;
    uint8_t piece[FV_UTF8_MAX_BYTES];
    (void)next_char(cursor->bytes + at, span.end - at, &used, &code);
    uint32_t bytes = fv_utf8_encode(code, piece);
    if (bytes > size - written) break;
    /* In place, out stays behind the read position: no escape is shorter than its character. */
    memcpy(out + written, piece, bytes);
    written += bytes;
    at += used;
  }
  return written;
}

char *fv_json_settle(fv_json_cursor *cursor, fv_json_span span) {
  uint8_t *text = cursor->bytes + span.begin;
  text[fv_json_unescape(cursor, span, text, span.end - span.begin)] = '\0';
  return (char *)text;
}

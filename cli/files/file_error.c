/* file_error.c - the one line that says what is wrong with a file. Its escaping keeps the file's
 * own bytes from acting on the reader's terminal. */
#define _GNU_SOURCE /* strerrordesc_np: strerror's text depends on the locale */
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/files/file_source.h"
#include "cli/files/utf8.h"

enum { PATH_SHOWN = 512 };

fv_file_status fv_file_fail(const char *label, fv_file_error *error, fv_file_status status,
                            uint64_t offset, const char *format, ...) {
  if (error == NULL) return status;
  char shown[PATH_SHOWN];
  fv_escape(shown, sizeof shown, label, strlen(label));
  error->status = status;
  error->offset = offset;
  size_t used;
  if (offset == FV_FILE_NO_OFFSET) {
    used = (size_t)snprintf(error->text, sizeof error->text, "%s: ", shown);
  } else {
    used = (size_t)snprintf(error->text, sizeof error->text, "%s: byte %llu: ", shown,
                            (unsigned long long)offset);
  }
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(error->text + used, sizeof error->text - used, format, arguments);
  va_end(arguments);
  return status;
}

const char *fv_errno_text(int number) {
  const char *text = strerrordesc_np(number);
  return text != NULL ? text : "unknown error";
}

/* Characters that would act on a terminal or reorder the line instead of being seen. */
static bool is_unsafe(uint32_t code) {
  static const struct {
    uint32_t first, last;
  } ranges[] = {
      {0x00, 0x1f},       {0x7f, 0x9f},     /* C0, DEL, C1 */
      {0x061c, 0x061c},   {0x200b, 0x200f}, /* zero width, direction marks */
      {0x2028, 0x202e},   {0x2060, 0x206f}, /* line separators, overrides, isolates */
      {0xfeff, 0xfeff},                     /* byte order mark */
      {0xe0000, 0x10ffff}                   /* tags, variation selectors, private use */
  };
  for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
    if (code >= ranges[i].first && code <= ranges[i].last) return true;
  }
  return false;
}

/* Writes one character in its safe form to piece. Returns how many bytes of text it used. */
static uint32_t escape_one(const uint8_t *text, uint64_t size, char piece[16]) {
  uint32_t code = 0;
  uint32_t bytes = fv_utf8_decode(text, size, &code);
  if (bytes == 0) {
    snprintf(piece, 16, "\\x%02x", text[0]);
    return 1;
  }
  if (code == '\\' || code == '\'') {
    snprintf(piece, 16, "\\%c", (int)code);
  } else if (code == '\n') {
    snprintf(piece, 16, "\\n");
  } else if (is_unsafe(code)) {
    snprintf(piece, 16, "\\u{%x}", code);
  } else {
    memcpy(piece, text, bytes);
    piece[bytes] = '\0';
  }
  return bytes;
}

const char *fv_escape(char *out, size_t out_bytes, const void *text, size_t text_bytes) {
  const uint8_t *from = (const uint8_t *)text;
  size_t used = 0, cut = 0; /* cut: the last character boundary that leaves room for "..." */
  for (size_t at = 0; at < text_bytes;) {
    char piece[16];
    at += escape_one(from + at, text_bytes - at, piece);
    size_t length = strlen(piece);
    if (used + length + 1 > out_bytes) {
      memcpy(out + cut, "...", 4);
      return out;
    }
    memcpy(out + used, piece, length);
    used += length;
    if (used + 4 <= out_bytes) cut = used;
  }
  out[used] = '\0';
  return out;
}

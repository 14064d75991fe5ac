/* status.c - the status list as text, and the one place where failures become words.
 *
 * The detail is in a fixed buffer per thread. A failure must be reportable when memory has run out,
 * and two threads that fail at once must not read each other's text. 512 bytes hold the longest
 * message of the library; a longer one is cut. */
#include "csrc/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { DETAIL_BYTES = 512 };

static _Thread_local char thread_detail[DETAIL_BYTES];

int32_t fovea_version(void) {
  return FOVEA_VERSION_MAJOR * 10000 + FOVEA_VERSION_MINOR * 100 + FOVEA_VERSION_PATCH;
}

const char *fovea_status_name(fovea_status status) {
  /* As an int: a caller may pass any number, and the switch must not assume a valid status. */
  switch ((int)status) {
#define STATUS_NAME(name, value, text) \
  case value:                          \
    return "FOVEA_" #name;
    FOVEA_STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    default:
      return "FOVEA_?";
  }
}

const char *fovea_status_text(fovea_status status) {
  switch ((int)status) {
#define STATUS_TEXT(name, value, text) \
  case value:                          \
    return text;
    FOVEA_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    default:
      return "not a status of this library";
  }
}

const char *fovea_error_detail(void) {
  return thread_detail;
}

fovea_status fv_fail(fovea_status status, const char *format, ...) {
  /* A separate buffer: arguments may point into thread_detail (a failure quotes an earlier one). */
  char text[DETAIL_BYTES];
  va_list arguments;
  va_start(arguments, format);
  text[0] = '\0'; /* what remains if the format fails */
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  memcpy(thread_detail, text, sizeof text);
  return status;
}

fovea_status fv_publish_detail(fovea_status status, char *detail, size_t detail_bytes) {
  if (status == FOVEA_OK || detail == NULL || detail_bytes == 0) return status;
  size_t length = strlen(thread_detail);
  if (length >= detail_bytes) length = detail_bytes - 1;
  memcpy(detail, thread_detail, length);
  detail[length] = '\0';
  return status;
}

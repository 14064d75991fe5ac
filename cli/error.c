/* error.c - see error.h. */
#include "cli/error.h"

#include <stdarg.h>
#include <stdio.h>

int fv_cli_fail(int code, const char *format, ...) {
  va_list values;
  va_start(values, format);
  fputs("fovea: ", stderr);
  vfprintf(stderr, format, values);
  fputc('\n', stderr);
  va_end(values);
  return code;
}

int fv_cli_fail_file(const fv_file_error *error) {
  int code = FV_EXIT_INPUT;
  if (error->status == FV_FILE_OUT_OF_MEMORY || error->status == FV_FILE_NOT_WRITTEN) {
    code = FV_EXIT_OUTPUT;
  }
  return fv_cli_fail(code, "%s", error->text);
}

int fv_cli_fail_call(const char *call, fovea_status status) {
  int code = FV_EXIT_OUTPUT;
  if (status == FOVEA_BAD_ARGUMENT) code = FV_EXIT_INPUT;
  if (status == FOVEA_UNSUPPORTED || status == FOVEA_NO_DEVICE) code = FV_EXIT_DEVICE;
  return fv_cli_fail(code, "%s: %s: %s", call, fovea_status_text(status), fovea_error_detail());
}

int fv_cli_fail_open(fovea_status status) {
  if (status != FOVEA_BAD_ARGUMENT) return fv_cli_fail_call("opening the device", status);
  return fv_cli_fail(FV_EXIT_USAGE, "opening the device: %s", fovea_error_detail());
}

int fv_cli_out_of_memory(void) {
  return fv_cli_fail(FV_EXIT_OUTPUT, "out of memory");
}

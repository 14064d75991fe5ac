/* error.h - how the program ends: exit codes, and one line on stderr that says what to do. */
#ifndef FOVEA_CLI_ERROR_H
#define FOVEA_CLI_ERROR_H

#include <fovea.h>
#include "cli/files/tensor_file.h"

enum {
  FV_EXIT_OK = 0,
  FV_EXIT_MISMATCH = 1,
  FV_EXIT_USAGE = 2,
  FV_EXIT_INPUT = 3,
  FV_EXIT_DEVICE = 4,
  FV_EXIT_OUTPUT = 5, /* not writable, out of memory, driver error */
  FV_EXIT_INTERRUPTED = 130
};

/* Prints "fovea: ..." on stderr and returns code. */
int fv_cli_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a reader's or writer's error, and for a failed call of the library. */
int fv_cli_fail_file(const fv_file_error *error);
int fv_cli_fail_call(const char *call, fovea_status status);
/* The same for a device that cannot be opened. Only the command line and the environment can be
 * wrong then. */
int fv_cli_fail_open(fovea_status status);
int fv_cli_out_of_memory(void);

#endif /* FOVEA_CLI_ERROR_H */

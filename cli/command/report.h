/* report.h - results for people and for programs: the fields that run and validate share. */
#ifndef FOVEA_CLI_COMMAND_REPORT_H
#define FOVEA_CLI_COMMAND_REPORT_H

#include <jansson.h>

#include "cli/judge/criteria.h"

enum { FV_REPORT_SCHEMA = 1 };

/* {schema, command, device, kernel, dtype, seconds, compared, pass, worst, first_bad}. The caller
 * adds the other fields of its command. NULL: out of memory. */
json_t *fv_report_json(const char *command, const char *device, const char *kernel,
                       const char *dtype, double seconds, const fv_verdict *verdict,
                       const char *repeat);

/* Text that need not be UTF-8, such as a path: each ill-formed byte becomes U+FFFD. */
json_t *fv_report_string(const char *text);

/* The command line, quoted for the shell so that it can be typed again. NULL: out of memory. */
char *fv_report_repeat(int argc, char **argv);

/* Writes the report to stdout, with a newline. Returns an exit code; takes the reference. */
int fv_report_write(json_t *report);

/* Prints the worst ratios as a table, then the first bad element if there is one. */
void fv_report_print_verdict(const fv_verdict *verdict, const char *repeat);

/* Makes sure that everything printed has arrived. Returns an exit code; a failure is said once. */
int fv_report_finish(void);

#endif /* FOVEA_CLI_COMMAND_REPORT_H */

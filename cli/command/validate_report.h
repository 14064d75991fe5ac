/* validate_report.h - what `fovea validate` found, and how it is reported. */
#ifndef FOVEA_CLI_COMMAND_VALIDATE_REPORT_H
#define FOVEA_CLI_COMMAND_VALIDATE_REPORT_H

#include "cli/validate/totals.h"

typedef struct fv_validation {
  const char *device; /* as it was asked for: "auto" */
  const char *kernel; /* of a plain problem */
  uint64_t seed;
  double seconds;
  bool interrupted;
  bool held_to_coverage; /* whether the run was large enough for that */
  const fv_totals *totals;
} fv_validation;

bool fv_validation_passes(const fv_validation *validation);

/* Reports to stdout. Returns an exit code. */
int fv_validation_report(const fv_validation *validation, bool json);

#endif /* FOVEA_CLI_COMMAND_VALIDATE_REPORT_H */

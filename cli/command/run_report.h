/* run_report.h - what `fovea run` was asked and found, and how it is reported. */
#ifndef FOVEA_CLI_COMMAND_RUN_REPORT_H
#define FOVEA_CLI_COMMAND_RUN_REPORT_H

#include "cli/input/attention_input.h"
#include "cli/judge/criteria.h"
#include "cli/judge/row_choice.h"

typedef struct fv_run_options {
  fv_input_options input; /* first: input flags and words store into it */
#define FLAG(fields, ...) fields
#include "cli/command/run_flags.def"
#undef FLAG
  char *repeat; /* the command line */
} fv_run_options;

typedef enum fv_run_verdict { FV_RUN_RIGHT, FV_RUN_WRONG, FV_RUN_NOT_CHECKED } fv_run_verdict;

/* NaN anywhere, infinities in out, +infinity in lse (-infinity marks an empty row). */
typedef struct fv_not_finite {
  int64_t count;
  fv_bad_element first; /* only tensor and index have a meaning */
} fv_not_finite;

typedef struct fv_run_result {
  double seconds;
  fovea_info info;
  fovea_support support;
  fv_verdict verdict;
  uint32_t weights_dtype; /* the dtype to which probabilities were rounded */
  bool against_file;
  bool has_distance;     /* the file has an out, of any dtype */
  double distance;       /* the largest difference to it */
  float scale;           /* the value in use, never a default */
  int64_t rows;          /* of all heads */
  int64_t judged;        /* rows judged by the reference */
  int64_t bounded;       /* rows judged against the file, by bounds */
  const char *why_not;   /* why nothing was judged; NULL: something was */
  fv_not_finite strange; /* outputs that are not finite numbers */
  fv_run_verdict outcome;
} fv_run_result;

/* Whether a path asks for .npy, which holds out alone. */
bool fv_run_output_is_npy(const char *path);

/* Each prints to stdout and returns an exit code. */
int fv_run_report_json(const fv_run_options *options, const fv_input *input,
                       const fv_run_result *result);
int fv_run_report_text(const fv_run_options *options, const fv_input *input,
                       const fv_run_result *result);

#endif /* FOVEA_CLI_COMMAND_RUN_REPORT_H */

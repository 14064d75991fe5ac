/* run_report.h - what `fovea run` was asked and found, and how it tells. */
#ifndef FV_RUN_REPORT_H
#define FV_RUN_REPORT_H

#include "cli/input/attention_input.h"
#include "cli/judge/criteria.h"
#include "cli/judge/row_choice.h"

typedef struct fv_run_options {
  fv_input_options input; /* first: its flags and its words are taken for it */
#define FLAG(fields, ...) fields
#include "cli/command/run_flags.def"
#undef FLAG
  char *repeat; /* the command line */
} fv_run_options;

typedef enum fv_run_verdict { FV_RUN_RIGHT, FV_RUN_WRONG, FV_RUN_NOT_CHECKED } fv_run_verdict;

/* NaN anywhere, infinities in out, +infinity in lse (-infinity is a row that sees nothing). */
typedef struct fv_not_finite {
  int64_t count;
  fv_bad_element first; /* of which tensor and index mean something */
} fv_not_finite;

typedef struct fv_run_result {
  double seconds;
  fovea_info info;
  fovea_support support;
  fv_verdict verdict;
  uint32_t weights_dtype; /* that probabilities were rounded to */
  bool against_file;
  bool has_distance;     /* the file has results, but in another dtype than ours */
  double distance;       /* the largest difference to them */
  float scale;           /* as used: no default */
  int64_t rows;          /* of all heads */
  int64_t judged;        /* of them by the reference */
  int64_t bounded;       /* of them against the file, by bounds */
  const char *why_not;   /* nothing was judged because; NULL: something was */
  fv_not_finite strange; /* outputs that are no numbers */
  fv_run_verdict outcome;
} fv_run_result;

/* Whether a path asks for .npy, which holds out alone. */
bool fv_run_output_is_npy(const char *path);

/* Each prints to stdout and returns an exit code. */
int fv_run_report_json(const fv_run_options *options, const fv_input *input,
                       const fv_run_result *result);
int fv_run_report_text(const fv_run_options *options, const fv_input *input,
                       const fv_run_result *result);

#endif /* FV_RUN_REPORT_H */

/* case.h - runs one random case of `fovea validate` and judges it. */
#ifndef FOVEA_CLI_VALIDATE_CASE_H
#define FOVEA_CLI_VALIDATE_CASE_H

#include <stdio.h>

#include "cli/judge/criteria.h"
#include "cli/validate/draw_case.h"

/* What one case showed. */
typedef struct fv_case_result {
  fv_verdict verdict;
  bool failed;
  bool out_of_memory;
  uint64_t digest;  /* of all that the library wrote; 0 if it refused */
  int64_t left_out; /* cases drawn before this one that the device does not support */
  char reason[256]; /* of a failure that is not a number: "a canary behind out was overwritten" */
  char kernel[96];  /* which kernel computed it; "" if none did, or it was no attention call */
} fv_case_result;

/* Notes why the case failed; the first reason stays. */
static inline void fv_case_fail(fv_case_result *result, const char *reason) {
  result->failed = true;
  if (!result->reason[0]) snprintf(result->reason, sizeof result->reason, "%s", reason);
}

static inline void fv_case_fail_call(fv_case_result *result, const char *call,
                                     fovea_status status) {
  char text[256];
  snprintf(text, sizeof text, "%s returned %s: %.150s", call, fovea_status_name(status),
           fovea_error_detail());
  fv_case_fail(result, text);
}

/* One handle per number of threads. A case picks one handle for each of its two runs. */
enum { FV_CASE_HANDLES = 4 };

void fv_run_attention_case(fovea_handle *const handles[FV_CASE_HANDLES], fv_case *c,
                           fv_random *random, fv_case_result *result);

/* Merges of partials, weights, and appends to caches; limited: only what CUDA has of these. All are
 * small cases of their own. */
void fv_run_merge_case(fovea_handle *handle, fv_random *random, fv_case_result *result);
void fv_run_weights_case(fovea_handle *handle, fv_case *c, fv_random *random,
                         fv_case_result *result);
void fv_run_append_case(fovea_handle *handle, bool limited, fv_random *random,
                        fv_case_result *result);

#endif /* FOVEA_CLI_VALIDATE_CASE_H */

/* totals.h - the sum of all that a run of `fovea validate` found, and whether it met enough. */
#ifndef FOVEA_CLI_VALIDATE_TOTALS_H
#define FOVEA_CLI_VALIDATE_TOTALS_H

#include <stdio.h>

#include "cli/validate/case.h"

/* A run of at least FV_COVERAGE_CASES cases must meet each feature and pair FV_COVERAGE_MIN times.
 */
enum { FV_COVERAGE_CASES = 20000, FV_COVERAGE_MIN = 50 };
enum { FV_FAILURES_MAX = 20 }; /* failing cases whose numbers are kept */
enum { FV_KERNELS_MAX = 256 }; /* the most kernels that one device has */

/* The calls that a case may make. */
typedef enum fv_case_kind {
  FV_CASE_MERGE,
  FV_CASE_WEIGHTS,
  FV_CASE_APPEND,
  FV_CASE_ATTENTION
} fv_case_kind;

/* What one kernel was judged on. */
typedef struct fv_kernel_record {
  char name[sizeof((fv_case_result *)0)->kernel];
  int64_t cases;
  int64_t coverage[FV_FEATURE_COUNT];
} fv_kernel_record;

typedef struct fv_totals {
  fv_verdict verdict;
  int64_t run, failed, beyond, long_keys;
  int64_t left_out;                         /* drawn, but not supported by the device */
  uint64_t digest;                          /* the sum of the cases': their order does not matter */
  fv_feature_set features;                  /* features that can be drawn */
  fv_feature_set company[FV_FEATURE_COUNT]; /* for each feature, those that can be drawn with it */
  int64_t coverage[FV_FEATURE_COUNT];
  int64_t pairs[FV_FEATURE_COUNT][FV_FEATURE_COUNT];
  fv_kernel_record kernels[FV_KERNELS_MAX];
  int kernel_count;
  int64_t kinds[FV_CASE_ATTENTION + 1];
  int64_t failures[FV_FAILURES_MAX]; /* the lowest failing indices, in order */
  fv_bad_element first_bad;
  char first_reason[256];
  char first_text[sizeof((fv_case *)0)->text];
  bool out_of_memory;
} fv_totals;

void fv_totals_add(fv_totals *totals, int64_t index, fv_case_kind kind, const fv_case *c,
                   const fv_case_result *result);

/* How many failing indices are kept. */
int fv_totals_failures(const fv_totals *totals);

/* Counts the features and pairs that were met too rarely; prints the first of them unless `to` is
 * NULL. */
int64_t fv_totals_empty_cells(const fv_totals *totals, FILE *to);

/* Pairs that may meet and are never drawn, although each of the two features is. */
int fv_totals_pairs_left_out(const fv_totals *totals);

/* No feature or pair was met too rarely, half of the cases reach beyond two tiles, and a hundredth
 * have 4096 keys or more. */
bool fv_totals_cover(const fv_totals *totals);

#endif /* FOVEA_CLI_VALIDATE_TOTALS_H */

/* row_choice.h - which rows of a result are judged by the reference.
 *
 * The reference takes a hundred times as long as the kernels. A sample of rows tells whether they
 * compute the right thing. A seed chooses it: one row at random from each of N equal parts of all
 * rows, so that it covers every head and every stretch of a sequence.
 *
 * Results in a file are still compared whole. For a row that is not in the sample, the criteria's
 * magnitudes A, R, S and M are replaced by upper bounds that hold for any weights:
 *
 *   A, R <= max_j |v_j|                          the weights sum to 1 at most
 *   S, M <= |scale| sum_d |q_d| max_j |k_jd|
 *
 * The maximum is over all keys of the head. All criteria grow with these magnitudes, so a right
 * result meets them. The hull is that of all keys' magnitudes. */
#ifndef FOVEA_CLI_JUDGE_ROW_CHOICE_H
#define FOVEA_CLI_JUDGE_ROW_CHOICE_H

#include "cli/judge/criteria.h"
#include "cli/progress.h"
#include "cli/random_source.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fv_check { FV_CHECK_AUTO, FV_CHECK_ALL, FV_CHECK_ROWS, FV_CHECK_NONE } fv_check;

/* Largest magnitudes over the keys of one sequence, per kv head. */
typedef struct fv_key_bounds {
  int64_t sequence; /* -1: none yet */
  double *k;        /* [heads_kv][dim] max_j |k_j| */
  double *v;        /* [heads_kv][dim_v] max_j |v_j| */
  double *v_sum;    /* [heads_kv][dim_v] sum_j |v_j| */
  bool *finite;     /* [heads_kv] no k or v is infinite or NaN */
} fv_key_bounds;

typedef struct fv_row_choice {
  const fv_problem *problem;
  fv_random random;
  int64_t total;            /* rows of all heads */
  int64_t wanted;           /* rows to judge by the reference */
  bool bounded;             /* the others are compared with a file */
  int64_t seen, part, pick; /* rows so far; parts begun; the row picked of the last one */
  int64_t referenced, compared_by_bounds; /* rows judged so far */
  fv_key_bounds bounds;
  fv_progress progress;
} fv_row_choice;

/* Rows of all heads of a problem: batch * len_q * heads_q. */
int64_t fv_row_count(const fv_problem *problem);

/* Whether all rows together are so little work (some 0.2 s) that all are judged by default. */
bool fv_rows_are_few(const fv_problem *problem);

/* How many rows the reference computes in that many seconds; at least FV_ROWS_MIN, at most all. */
enum { FV_ROWS_MIN = 16 };
int64_t fv_rows_in_seconds(const fv_problem *problem, double seconds);

/* Judges `wanted` rows by the reference. If `bounded`, judges the others by bounds against the
 * options' expected tensors. Shows progress. False: out of memory. */
bool fv_judge_rows(const fv_problem *problem, const fv_judge_options *options, int64_t wanted,
                   uint64_t seed, bool bounded, fv_row_choice *choice, fv_verdict *verdict);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_JUDGE_ROW_CHOICE_H */

/* attend.h - what the two ways through the CPU backend share: tiles of rows (attend_tile.c) and
 * streams of keys past few rows (attend_stream.c). */
#ifndef FV_ATTEND_H
#define FV_ATTEND_H

#include <stdatomic.h>

#include "../plan.h"
#include "key_tile.h"
#include "tile_kernels.h"
#include "tile_scratch.h"

/* One call. */
typedef struct fv_attend_job {
  const fv_problem *problem;
  const fv_plan *plan;
  const fv_tile_kernels *kernels;
  fv_tile_layout layout;
  float score_factor; /* the exponent's base-2 logarithm per unit of score */
  bool natural;       /* scores are turned into natural logits before softmax */
  bool element_masks; /* mask, tree or bias decide on single keys */
  bool row_masks;     /* rows look at keys one by one: any of these, ALiBi, or a prefix */
  atomic_llong next;  /* the next piece of work */
} fv_attend_job;

/* One worker at one piece of work. */
typedef struct fv_attend_worker {
  const fv_attend_job *job;
  fv_key_source source;
  float *scratch; /* laid out as job->layout says */
  uint32_t errors;
  fv_key_tile keys;
} fv_attend_worker;

/* A row's state of online softmax. */
typedef struct fv_row_state {
  float maximum; /* of the scores, or of logits if job->natural */
  float sum;
} fv_row_state;

/* Computes rows [row_begin, row_begin + rows) of the worker's sequence and kv head, where a row is
 * a pair (position, head of the group); rows <= plan->tile_q. */
void fv_attend_tile(fv_attend_worker *worker, int64_t row_begin, int32_t rows);

/* Adds the sink, divides by the sum and writes out and lse of a row. */
void fv_store_result(const fv_attend_job *job, const fv_sequence *sequence, int64_t position,
                     int64_t head, fv_row_state state, float *out);

/* The keys that the rows of `front` to `back` see by position: a prefix and a window. */
static inline fv_range fv_prefix_keys(const fv_position_mask *mask) {
  return (fv_range){mask->first, fv_min(mask->prefix_end, mask->len)};
}

/* v of keys that no row sees becomes zeros: their weights are 0, but 0 * NaN is NaN. masks [rows]. */
void fv_hide_unseen(fv_attend_worker *worker, const fv_row_mask *masks, int32_t rows);

/* Turns scores[from..to) of a row into logits where job->natural, and hides what it does not see.
 */
void fv_mask_scores(fv_attend_worker *worker, const fv_row_mask *mask, int32_t from, int32_t to,
                    float *scores);

#endif /* FV_ATTEND_H */

/* attend.h - what the two ways through the CPU backend share: tiles of rows (attend_tile.c) and
 * streams of keys past few rows (attend_stream.c). */
#ifndef FV_ATTEND_H
#define FV_ATTEND_H

#include <stdatomic.h>

#include "csrc/cpu/key_tile.h"
#include "csrc/cpu/tile_kernels.h"
#include "csrc/cpu/tile_scratch.h"
#include "csrc/plan.h"

/* One call. */
typedef struct fv_attend_job {
  const fv_problem *problem;
  const fv_plan *plan;
  const fv_tile_kernels *kernels;
  fv_tile_layout layout;
  float score_factor;      /* the exponent's base-2 logarithm per unit of score */
  bool scores_are_logits;  /* scores are turned into natural logits before softmax */
  bool element_masks;      /* mask, tree or bias decide on single keys */
  bool row_masks;          /* rows look at keys one by one: any of these, ALiBi, or a prefix */
  bool split;              /* chunks of a stream are pieces of their own */
  int64_t heads_per_piece; /* kv heads of a stream's piece, at most */
  double *partials;        /* where they leave their results, a slot each */
  size_t slot_doubles;
  atomic_llong next; /* the next piece of work */
} fv_attend_job;

/* One worker at one piece of work. */
typedef struct fv_attend_worker {
  const fv_attend_job *job;
  fv_key_source source;
  float *scratch; /* laid out as job->layout says */
  uint32_t errors;
  fv_key_tile *keys;    /* the tile at hand */
  fv_key_tile tiles[2]; /* that one, and the next of a stream */
} fv_attend_worker;

/* Computes rows [row_begin, row_begin + rows) of the worker's sequence and kv head, where a row is
 * a pair (position, head of the group); rows <= plan->tile_q. */
void fv_attend_tile(fv_attend_worker *worker, int64_t row_begin, int32_t rows);

/* ---- Streams ---- */

/* Sequences with at most so many rows per kv head are streams, unless PHASE is asked for. */
static inline bool fv_is_stream(const fv_attend_job *job, int64_t rows) {
  return rows <= FV_STREAM_ROWS && job->problem->args.reproducible < FOVEA_REPRODUCIBLE_PHASE;
}

/* The keys of a stream are computed in chunks, each from a fresh state, whose results are merged in
 * order: the same sums whether one worker does them all or each another. At most FV_STREAM_CHUNKS,
 * of a length that depends on nothing but the sequence's own. */
int64_t fv_stream_chunk_keys(int64_t len_kv);

static inline int64_t fv_chunk_count(int64_t len_kv) {
  return fv_max(fv_ceil_div(len_kv, fv_stream_chunk_keys(len_kv)), 1);
}

/* `heads` kv heads of the worker's sequence from source.kv_head on, all their rows, over all keys;
 * in all at most FV_BLOCK_ROWS rows. */
void fv_attend_stream(fv_attend_worker *worker, int32_t heads);

/* The same in two steps: chunk `index` of each head into a slot, `slots_per_head` apart; then the
 * slots [heads][chunks] into the results. */
void fv_attend_chunk(fv_attend_worker *worker, int32_t heads, int64_t index, double *slots,
                     int64_t slots_per_head);
void fv_merge_chunks(fv_attend_worker *worker, int32_t heads, const double *slots);

/* Adds the sink, divides by the sum and writes out and lse of a row. */
void fv_store_result(const fv_attend_job *job, const fv_sequence *sequence, int64_t position,
                     int64_t head, fv_row_state state, const double *out);

/* The keys that every row sees whatever its window. */
static inline fv_range fv_prefix_keys(const fv_position_mask *mask) {
  return (fv_range){mask->first, fv_min(mask->prefix_end, mask->len)};
}

/* v of keys that no row sees becomes zeros: their weights are 0, but 0 * NaN is NaN. masks
 * [rows]. */
void fv_hide_unseen(fv_attend_worker *worker, const fv_row_mask *masks, int32_t rows);

/* Turns scores[from..to) of a row into logits where job->scores_are_logits, and hides what it does
 * not see. `mask` is for problems with row_masks; others see `window` of the live keys. */
void fv_mask_scores(fv_attend_worker *worker, const fv_row_mask *mask, fv_range window,
                    int32_t from, int32_t to, float *scores);

#endif /* FV_ATTEND_H */

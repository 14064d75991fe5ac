/* attend.h - what the two ways through the CPU backend share. Tiles are for many rows
 * (attend_tile.c), streams of keys for few (attend_stream.c). */
#ifndef FOVEA_CSRC_CPU_ATTEND_H
#define FOVEA_CSRC_CPU_ATTEND_H

#include <stdatomic.h>

#include "csrc/cpu/key_tile.h"
#include "csrc/cpu/tile_kernels.h"
#include "csrc/cpu/tile_scratch.h"
#include "csrc/host/processor.h"
#include "csrc/plan.h"

/* One call. */
typedef struct fv_attend_job {
  const fv_problem *problem;
  const fv_plan *plan;
  const fv_tile_kernels *kernels;
  fv_tile_layout layout;
  int32_t dim, dim_v; /* of the kernels: rows in whole steps, filled up with zeros */
  bool k_in_place;    /* kernels read rows of k where they lie; others are widened first */
  bool v_in_place;
  float score_factor;     /* base-2 logit per unit of score */
  bool additive;          /* the score is no dot product: keys are packed in streams too */
  bool scores_are_logits; /* softmax gets natural logits in place of raw scores */
  bool element_masks;     /* a mask, a tree, a bias or a distance treats keys one by one */
  bool row_masks;         /* every tile needs fv_row_mask: element_masks, ALiBi or a prefix. So do
                           * tiles of keys that lie in a row's span */
  bool split;             /* each chunk of a stream is a work tile of its own */
  int64_t max_heads;      /* kv heads of a stream's work tile, at most */
  double *partials;       /* one for each chunk of each split stream */
  size_t partial_doubles; /* from one partial to the next */
  atomic_llong next;      /* the next work tile */
} fv_attend_job;

/* One worker and its current work tile. */
typedef struct fv_attend_worker {
  const fv_attend_job *job;
  fv_key_source source;
  float *scratch; /* laid out as job->layout says */
  uint32_t errors;
  fv_key_tile *keys;  /* the current tile */
  fv_key_tile *tiles; /* room for it, and for the next one of a stream */
} fv_attend_worker;

/* Fills in the fields of a job that follow from the problem alone: all before `split` except plan
 * and layout. */
void fv_attend_start(const fv_problem *problem, fv_isa isa, fv_attend_job *job);

/* Computes rows [row_begin, row_begin + rows) of the worker's sequence and kv head, where a row is
 * a pair (position, head of the group); rows <= plan->tile_q. */
void fv_attend_tile(fv_attend_worker *worker, int64_t row_begin, int32_t rows);

/* ---- Streams ---- */

/* Sequences with at most FV_STREAM_ROWS rows per kv head are streams, unless PHASE is asked for. */
static inline bool fv_is_stream(const fv_attend_job *job, int64_t rows) {
  return rows <= FV_STREAM_ROWS && job->problem->args.reproducible < FOVEA_REPRODUCIBLE_PHASE;
}

/* Keys in a chunk of a stream. Each chunk starts from a fresh state, and the partials are merged in
 * order. So the sums are the same whether one worker computes all chunks or several share them.
 * A stream has at most FV_STREAM_CHUNKS chunks. Their length depends on the sequence's alone. */
int64_t fv_stream_chunk_keys(int64_t len_kv);

static inline int64_t fv_chunk_count(int64_t len_kv) {
  return fv_max(fv_ceil_div(len_kv, fv_stream_chunk_keys(len_kv)), 1);
}

/* Computes all rows of `heads` kv heads over all keys. The heads are those of the worker's sequence
 * from source.kv_head on. They have at most FV_BLOCK_ROWS rows together. */
void fv_attend_stream(fv_attend_worker *worker, int32_t heads);

/* The same in two steps. fv_attend_chunk writes the partial of chunk `index` of each head; those of
 * two heads lie partials_per_head places apart. fv_merge_chunks merges the partials [heads][chunks]
 * into the results. */
void fv_attend_chunk(fv_attend_worker *worker, int32_t heads, int64_t index, double *partials,
                     int64_t partials_per_head);
void fv_merge_chunks(fv_attend_worker *worker, int32_t heads, const double *partials);

/* Adds the sink, divides by the sum, and writes a row of out and lse. */
void fv_store_result(const fv_attend_job *job, const fv_sequence *sequence, int64_t position,
                     int64_t head, fv_row_state state, const double *out);

/* Whether rows need fv_row_mask for the keys of the current tile: the window does not decide alone
 * what they see. */
bool fv_needs_masks(const fv_attend_worker *worker, const fv_seen_keys *seen);

/* Replaces v by zeros for keys that no row sees: their weights are 0, but 0 * NaN is NaN. masks
 * [rows]. */
void fv_hide_unseen(fv_attend_worker *worker, const fv_row_mask *masks, int32_t rows);

/* Hides the scores of `keys` that a row does not see, and turns the others into logits if
 * job->scores_are_logits. `mask` decides what the row sees. If it is NULL, the row sees the live
 * keys in `window`. */
void fv_mask_scores(fv_attend_worker *worker, const fv_row_mask *mask, fv_range window,
                    fv_tile_range keys, float *scores);

#endif /* FOVEA_CSRC_CPU_ATTEND_H */

/* sequence.h - the geometry of one sequence, read from the arrays that the caller has in host
 * memory.
 *
 * Lengths and offsets are data, not arguments: no check has seen them. They are read by the rules
 * of shared/sequence_rules.h, and `errors` collects what was wrong. */
#ifndef FOVEA_CSRC_HOST_SEQUENCE_H
#define FOVEA_CSRC_HOST_SEQUENCE_H

#include "csrc/problem.h"
#include "kernels/shared/sequence_rules.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_sequence {
  int64_t index;
  int64_t q_batch, q_begin; /* row 0 is q[q_batch, q_begin] */
  int64_t len_q;
  int64_t kv_batch, kv_begin; /* key 0 is k[kv_batch, kv_begin]; paged: page 0 is ids[kv_begin] */
  int32_t room;               /* capacity in keys */
  fv_position_mask mask;      /* holds len_kv and kv_first */
  const int32_t *spans;       /* of row 0; NULL: none */
  int64_t tree_len;           /* keys under the tree mask: the last ones */
  int64_t tree_start;         /* word of row 0 */
  uint32_t errors;            /* FOVEA_BAD_... */
} fv_sequence;

/* Walks the sequences in order; offsets are read through a running maximum. Zero-initialise. */
typedef struct fv_sequence_cursor {
  int64_t next;
  int64_t q_end, kv_end; /* the maxima so far; paged: kv_end is of the page table's offsets */
} fv_sequence_cursor;

/* Fills in the next sequence. False: none is left. */
bool fv_sequence_next(const fv_problem *problem, fv_sequence_cursor *cursor, fv_sequence *sequence);

/* The sequence as kv head `kv_head` has it: with the head's own pages, length, positions and error
 * bits. Returns `sequence` itself where heads do not differ; else fills in *own and returns it.
 * Where they do, nothing else may be asked about keys, and `sequence` knows only its rows. */
const fv_sequence *fv_sequence_of_head(const fv_problem *problem, const fv_sequence *sequence,
                                       int64_t kv_head, fv_sequence *own);

/* The bits of the sequence's offsets, and of the lengths of all its heads. */
uint32_t fv_sequence_errors(const fv_problem *problem, const fv_sequence *sequence);

/* The range [offsets[index], offsets[index + 1]) of a packed array of `total` elements. An offset
 * below `reached`, the end of the previous range, counts as `reached`: the running maximum. */
fv_range fv_packed_range(const int32_t *offsets, int64_t index, int64_t total, int64_t reached,
                         uint32_t *errors);

/* The keys of row i's span; empty without one. */
fv_range fv_row_span(const fv_problem *problem, const fv_sequence *sequence, int64_t row);

/* The smallest range that holds the spans of rows [row_begin, row_end). */
fv_range fv_rows_span(const fv_problem *problem, const fv_sequence *sequence, int64_t row_begin,
                      int64_t row_end);

/* Adds bits to errors[sequence], if the caller wants them. Threads may call it at once. */
void fv_report_errors(const fv_problem *problem, int64_t sequence, uint32_t bits);

/* Finds the place of a key in `tensor`: k or v. ids: its page ids, NULL unless paged. False: the
 * page is bad. */
bool fv_key_place(const fv_problem *problem, const fv_sequence *sequence,
                  const fovea_tensor *tensor, const int32_t *ids, int64_t key, fv_place *place);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_HOST_SEQUENCE_H */

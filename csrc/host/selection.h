/* selection.h - which sequences, rows and heads a call of fovea_attention_weights has chosen. The
 * numbers are data: any of them may be out of range. */
#ifndef FOVEA_CSRC_HOST_SELECTION_H
#define FOVEA_CSRC_HOST_SELECTION_H

#include "csrc/host/sequence.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The number at `index` of a list, or -1 if it is outside [0, count). NULL lists 0, 1, 2, ... */
static inline int64_t fv_chosen(const int32_t *list, int64_t index, int64_t count) {
  int64_t number = list ? list[index] : index;
  return number >= 0 && number < count ? number : -1;
}

static inline int64_t fv_chosen_rows(const fv_weights_problem *w, const fv_sequence *sequence) {
  return w->row_count < 0 ? sequence->len_q : w->row_count;
}

static inline int64_t fv_chosen_row(const fv_weights_problem *w, const fv_sequence *sequence,
                                    int64_t index) {
  if (w->last_rows) index += sequence->len_q - w->row_count;
  return fv_chosen(w->rows, index, sequence->len_q);
}

/* Finds the sequence that entry `entry` of the selection names. False: there is none, and
 * *sequence is one without rows and keys. Goes on from the cursor's place if it can; zero it
 * first. */
bool fv_chosen_sequence(const fv_weights_problem *w, int64_t entry, fv_sequence_cursor *cursor,
                        fv_sequence *sequence);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_HOST_SELECTION_H */

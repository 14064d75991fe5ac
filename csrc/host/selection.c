/* selection.c - see selection.h. */
#include "csrc/host/selection.h"

bool fv_chosen_sequence(const fv_weights_problem *w, int64_t entry, fv_sequence_cursor *cursor,
                        fv_sequence *sequence) {
  int64_t which = fv_chosen(w->sequences, entry, w->attention.sequences);
  if (which < cursor->next) *cursor = (fv_sequence_cursor){0};
  while (which >= 0 && fv_sequence_next(&w->attention, cursor, sequence)) {
    if (sequence->index == which) return true;
  }
  *sequence = (fv_sequence){.index = -1, .mask = {.key_stride = 1}};
  return false;
}

/* sequence.c - see sequence.h. */
#include "csrc/host/sequence.h"

#define SAME_BIT(ours, header) _Static_assert((int)(ours) == (int)(header), "the header's bits")
SAME_BIT(FV_ERROR_LENGTH, FOVEA_BAD_LENGTH);
SAME_BIT(FV_ERROR_PAGE, FOVEA_BAD_PAGE);
SAME_BIT(FV_ERROR_OFFSET, FOVEA_BAD_OFFSET);
SAME_BIT(FV_ERROR_POSITION, FOVEA_BAD_POSITION);
SAME_BIT(FV_ERROR_SLOT, FOVEA_BAD_SLOT);
SAME_BIT(FV_ERROR_MASK, FOVEA_BAD_MASK);

fv_range fv_packed_range(const int32_t *offsets, int64_t index, int64_t total, int64_t reached,
                         uint32_t *errors) {
  fv_range range;
  range.begin = fv_extend_reach(reached, offsets[index], total);
  range.end = fv_extend_reach(range.begin, offsets[index + 1], total);
  *errors |= fv_offset_errors(range, offsets[index], offsets[index + 1]);
  return range;
}

static void place_queries(const fv_problem *p, fv_sequence_cursor *cursor, fv_sequence *s) {
  fv_range rows = {0, p->rows};
  if (p->q_packed) {
    rows =
        fv_packed_range(p->args.sequences.q_offsets, s->index, p->rows, cursor->q_end, &s->errors);
    cursor->q_end = rows.end;
  }
  s->q_batch = fv_batch_row(p->q_packed, s->index);
  s->q_begin = rows.begin;
  int32_t owned = (int32_t)(rows.end - rows.begin);
  s->len_q = fv_clamped_length(p->args.sequences.q_lengths, s->index, owned, owned, &s->errors);
}

static fv_page_ids find_page_ids(const fv_problem *p, fv_sequence_cursor *cursor, fv_sequence *s) {
  const fovea_pages *pages = &p->args.sequences.pages;
  if (!pages->offsets) return fv_dense_page_ids(s->index, pages->row_stride, pages->count);
  fv_range range =
      fv_packed_range(pages->offsets, s->index, pages->count, cursor->kv_end, &s->errors);
  cursor->kv_end = range.end;
  return fv_packed_page_ids(range);
}

/* Returns the capacity for keys. */
static int32_t place_keys(const fv_problem *p, fv_sequence_cursor *cursor, fv_sequence *s) {
  int64_t extent = p->args.k.shape[1];
  s->kv_batch = fv_batch_row(p->kv_packed, s->index);
  if (p->paged) {
    fv_page_ids ids = find_page_ids(p, cursor, s);
    s->kv_begin = ids.begin;
    return fv_capacity_of_pages(ids.count, extent);
  }
  fv_range keys = {0, extent};
  if (p->kv_packed) {
    keys =
        fv_packed_range(p->args.sequences.kv_offsets, s->index, extent, cursor->kv_end, &s->errors);
    cursor->kv_end = keys.end;
  }
  s->kv_begin = keys.begin;
  return (int32_t)(keys.end - keys.begin);
}

static fv_position_arrays position_arrays(const fv_problem *p) {
  const fovea_attention_args *a = &p->args;
  return (fv_position_arrays){.kv_lengths = a->sequences.kv_lengths,
                              .kv_first = a->sequences.kv_first,
                              .q_position = a->positions.q,
                              .kv_position = a->positions.kv,
                              .prefix_lengths = a->visibility.prefix_lengths,
                              .key_stride = p->kv_position_stride,
                              .window_left = p->window_left,
                              .window_right = p->window_right,
                              .top_left = a->positions.alignment == FOVEA_ALIGN_TOP_LEFT};
}

/* Without bits there are no lengths and starts (check/attention.c), and nothing reads the
 * result. */
static void place_tree(const fv_problem *p, fv_sequence *s) {
  const fovea_tree *tree = &p->args.visibility.tree;
  s->tree_len = tree->lengths ? tree->lengths[s->index] : s->len_q;
  s->tree_start = tree->starts ? tree->starts[s->index] : 0;
  if (s->tree_len < 0) {
    s->tree_len = 0;
    s->errors |= FOVEA_BAD_MASK;
  }
}

static void place_spans(const fv_problem *p, fv_sequence *s) {
  int64_t row = p->q_packed ? s->q_begin : s->index * p->rows;
  s->spans = p->args.visibility.spans ? p->args.visibility.spans + 2 * row : NULL;
}

bool fv_sequence_next(const fv_problem *problem, fv_sequence_cursor *cursor, fv_sequence *s) {
  if (cursor->next >= problem->sequences) return false;
  s->index = cursor->next++;
  s->errors = 0;
  place_queries(problem, cursor, s);
  s->room = place_keys(problem, cursor, s);
  fv_position_arrays arrays = position_arrays(problem);
  s->mask = fv_place_positions(&arrays, s->index, (int32_t)s->len_q, s->room, &s->errors);
  place_tree(problem, s);
  place_spans(problem, s);
  return true;
}

const fv_sequence *fv_sequence_of_head(const fv_problem *problem, const fv_sequence *sequence,
                                       int64_t kv_head, fv_sequence *own) {
  const fovea_pages *pages = &problem->args.sequences.pages;
  if (!problem->heads_differ) return sequence;
  *own = *sequence;
  own->kv_begin += kv_head * pages->head_stride;
  if (!pages->head_lengths) return own;
  fv_position_arrays arrays = position_arrays(problem);
  int32_t len = fv_clamped_length(pages->head_lengths, own->index * problem->heads_kv + kv_head,
                                  own->room, own->room, &own->errors);
  own->mask = fv_place_length(&arrays, own->index, (int32_t)own->len_q, len, &own->errors);
  return own;
}

uint32_t fv_sequence_errors(const fv_problem *problem, const fv_sequence *sequence) {
  uint32_t errors = sequence->errors;
  fv_sequence own;
  for (int64_t g = 0; problem->heads_differ && g < problem->heads_kv; ++g) {
    errors |= fv_sequence_of_head(problem, sequence, g, &own)->errors;
  }
  return errors;
}

fv_range fv_row_span(const fv_problem *problem, const fv_sequence *sequence, int64_t row) {
  if (!sequence->spans) return (fv_range){0, 0};
  const int32_t *span = sequence->spans + 2 * row;
  return fv_span_keys(&sequence->mask, (fv_range){span[0], span[1]},
                      sequence->mask.row_origin + row, problem->span_left, problem->span_right);
}

fv_range fv_rows_span(const fv_problem *problem, const fv_sequence *sequence, int64_t row_begin,
                      int64_t row_end) {
  fv_range keys = {0, 0};
  for (int64_t row = row_begin; sequence->spans && row < row_end; ++row) {
    keys = fv_hull(keys, fv_row_span(problem, sequence, row));
  }
  return keys;
}

void fv_report_errors(const fv_problem *problem, int64_t sequence, uint32_t bits) {
  if (bits && problem->args.errors) {
    __atomic_fetch_or(&problem->args.errors[sequence], bits, __ATOMIC_RELAXED);
  }
}

bool fv_key_place(const fv_problem *problem, const fv_sequence *sequence,
                  const fovea_tensor *tensor, const int32_t *ids, int64_t key, fv_place *place) {
  if (!problem->paged) {
    *place = (fv_place){sequence->kv_batch, sequence->kv_begin + key};
    return true;
  }
  fv_paged_index index = fv_split_index((uint32_t)key, (uint32_t)tensor->shape[1]);
  *place = fv_paged_place(ids, sequence->kv_begin, index);
  return fv_has_page(*place, tensor->shape[0]);
}

/* sequence.c - see sequence.h. */
#include "csrc/host/sequence.h"

fv_range fv_packed_range(const int32_t *offsets, int64_t index, int64_t total, int64_t reached,
                         uint32_t *errors) {
  int64_t begin = fv_clamp(offsets[index], reached, total);
  int64_t end = fv_clamp(offsets[index + 1], begin, total);
  if (begin != offsets[index] || end != offsets[index + 1]) *errors |= FOVEA_BAD_OFFSET;
  return (fv_range){begin, end};
}

static int64_t clamp_length(int64_t value, int64_t high, uint32_t *errors) {
  int64_t clamped = fv_clamp(value, 0, high);
  if (clamped != value) *errors |= FOVEA_BAD_LENGTH;
  return clamped;
}

static void place_queries(const fv_problem *p, fv_sequence_cursor *cursor, fv_sequence *s) {
  s->q_batch = p->q_packed ? 0 : s->index;
  s->q_begin = 0;
  s->len_q = p->rows;
  if (p->q_packed) {
    fv_range rows =
        fv_packed_range(p->args.sequences.q_offsets, s->index, p->rows, cursor->q_end, &s->errors);
    cursor->q_end = rows.end;
    s->q_begin = rows.begin;
    s->len_q = rows.end - rows.begin;
  }
}

/* Returns how many keys there is room for. */
static int64_t place_keys(const fv_problem *p, fv_sequence_cursor *cursor, fv_sequence *s) {
  const fovea_pages *pages = &p->args.sequences.pages;
  s->kv_batch = p->kv_packed ? 0 : s->index;
  s->kv_begin = 0;
  s->page_begin = 0;
  if (p->kv_packed) {
    fv_range keys = fv_packed_range(p->args.sequences.kv_offsets, s->index, p->args.k.shape[1],
                                    cursor->kv_end, &s->errors);
    cursor->kv_end = keys.end;
    s->kv_begin = keys.begin;
    return keys.end - keys.begin;
  }
  if (!p->paged) return p->args.k.shape[1];
  if (!pages->offsets) {
    s->page_begin = s->index * pages->row_stride;
    return pages->count * p->args.k.shape[1];
  }
  fv_range ids =
      fv_packed_range(pages->offsets, s->index, pages->count, cursor->page_end, &s->errors);
  cursor->page_end = ids.end;
  s->page_begin = ids.begin;
  return (ids.end - ids.begin) * p->args.k.shape[1];
}

static void place_positions(const fv_problem *p, fv_sequence *s) {
  const fovea_attention_args *a = &p->args;
  fv_position_mask *mask = &s->mask;
  mask->key_origin = a->positions.kv ? a->positions.kv[s->index] : 0;
  mask->key_stride = p->kv_position_stride;
  if (a->positions.q) {
    mask->row_origin = a->positions.q[s->index];
  } else if (a->positions.alignment == FOVEA_ALIGN_TOP_LEFT) {
    mask->row_origin = 0;
  } else {
    int64_t last_key = mask->key_origin + (mask->len - 1) * mask->key_stride;
    mask->row_origin = last_key + 1 - s->len_q;
  }
  mask->window_left = p->window_left;
  mask->window_right = p->window_right;
  if (a->visibility.causal) mask->window_right = 0;
  mask->prefix_end = 0;
  if (a->visibility.prefix_lengths) {
    mask->prefix_end = fv_keys_below(a->visibility.prefix_lengths[s->index], mask->key_origin,
                                     mask->key_stride, mask->len);
  }
}

/* Without bits there are no lengths and starts either (check/attention.c), and nobody asks. */
static void place_tree(const fv_problem *p, fv_sequence *s) {
  const fovea_tree *tree = &p->args.visibility.tree;
  s->tree_len = tree->lengths ? tree->lengths[s->index] : s->len_q;
  s->tree_start = tree->starts ? tree->starts[s->index] : 0;
  if (s->tree_len < 0) {
    s->tree_len = 0;
    s->errors |= FOVEA_BAD_MASK;
  }
}

bool fv_sequence_next(const fv_problem *problem, fv_sequence_cursor *cursor, fv_sequence *s) {
  if (cursor->next >= problem->sequences) return false;
  s->index = cursor->next++;
  s->errors = 0;
  place_queries(problem, cursor, s);
  int64_t room = place_keys(problem, cursor, s);
  const int32_t *lengths = problem->args.sequences.kv_lengths;
  s->mask.len = lengths ? clamp_length(lengths[s->index], room, &s->errors) : room;
  const int32_t *first = problem->args.sequences.kv_first;
  s->mask.first = first ? clamp_length(first[s->index], s->mask.len, &s->errors) : 0;
  place_positions(problem, s);
  place_tree(problem, s);
  return true;
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
  int64_t page_len = tensor->shape[1];
  int64_t id = ids[sequence->page_begin + key / page_len];
  *place = (fv_place){id, key % page_len};
  return id >= 0 && id < tensor->shape[0];
}

/* row_mask.c - see row_mask.h. */
#include "csrc/host/row_mask.h"

#include <math.h>
#include <string.h>

#include "csrc/numeric.h"

/* Indices below this are readable: any index if the extent broadcasts. */
static int64_t readable(int64_t extent) {
  return extent == 1 ? INT64_MAX : extent;
}

static int64_t row_offset(const fovea_tensor *t, int64_t sequence, int64_t row, int64_t head) {
  return sequence * t->stride[0] + row * t->stride[1] + head * t->stride[2];
}

static void set_mask(const fv_problem *p, const fv_sequence *s, int64_t row, int64_t head,
                     fv_row_mask *m) {
  const fovea_tensor *mask = &p->args.visibility.mask;
  if (mask->dtype == FOVEA_NONE) return;
  m->outside |= row >= readable(mask->shape[1]);
  m->mask = (const uint8_t *)mask->data + (m->outside ? 0 : row_offset(mask, s->index, row, head));
  m->mask_step = mask->stride[3];
  m->mask_keys = readable(mask->shape[3]);
}

static int64_t element_size(uint32_t dtype) {
  return dtype == FOVEA_F32 ? 4 : 2;
}

static void set_bias(const fv_problem *p, const fv_sequence *s, int64_t row, int64_t head,
                     fv_row_mask *m) {
  const fovea_tensor *bias = &p->args.logits.bias;
  if (bias->dtype == FOVEA_NONE) return;
  m->outside |= row >= readable(bias->shape[1]);
  int64_t offset = m->outside ? 0 : row_offset(bias, s->index, row, head);
  m->bias = (const char *)bias->data + offset * element_size(bias->dtype);
  m->bias_dtype = bias->dtype;
  m->bias_step = bias->stride[3];
  m->bias_keys = readable(bias->shape[3]);
  m->bias_scale = p->args.logits.bias_scale ? p->args.logits.bias_scale[head] : 1;
}

static void set_distances(const fv_problem *p, int64_t head, fv_row_mask *m) {
  const fovea_distances *distances = &p->args.logits.distances;
  if (!distances->table) return;
  m->distances = distances->table + head * distances->head_stride;
  m->distance_first = distances->first;
  m->distance_count = distances->count;
}

/* Finds the words of the row. Bits past the end of the tree's words are unreadable. */
static void set_tree(const fv_problem *p, const fv_sequence *s, int64_t row, fv_row_mask *m) {
  const fovea_tree *tree = &p->args.visibility.tree;
  if (!tree->bits) return;
  int64_t row_words = fv_ceil_div(s->tree_len, 32);
  int64_t start = s->tree_start + row * row_words;
  bool inside = start >= 0 && start <= tree->words;
  m->tree = tree->bits + (inside ? start : 0);
  m->tree_bits_readable = inside ? (tree->words - start) * 32 : 0;
  m->tree_key = s->mask.len - s->tree_len;
}

fv_row_mask fv_row_mask_for(const fv_problem *problem, const fv_sequence *sequence, int64_t row,
                            int64_t head) {
  fv_row_mask m = {0};
  m.window = fv_window_keys(&sequence->mask, row);
  m.span = fv_row_span(problem, sequence, row);
  m.first = sequence->mask.first;
  m.prefix_end = sequence->mask.prefix_end;
  m.len = sequence->mask.len;
  set_mask(problem, sequence, row, head, &m);
  set_bias(problem, sequence, row, head, &m);
  set_tree(problem, sequence, row, &m);
  set_distances(problem, head, &m);
  m.plain = !m.mask && !m.bias && !m.tree && !m.distances;
  if (problem->args.logits.alibi_slopes) {
    m.slope = problem->args.logits
                  .alibi_slopes[sequence->index * problem->args.logits.alibi_stride + head];
  }
  m.row_position = sequence->mask.row_origin + row;
  m.key_origin = sequence->mask.key_origin;
  m.key_stride = sequence->mask.key_stride;
  return m;
}

static float bias_at(const fv_row_mask *m, int64_t key) {
  int64_t index = key * m->bias_step;
  if (m->bias_dtype == FOVEA_F32) return ((const float *)m->bias)[index];
  uint16_t code = ((const uint16_t *)m->bias)[index];
  return m->bias_dtype == FOVEA_F16 ? fv_f16_to_f32(code) : fv_bf16_to_f32(code);
}

/* The entry of the table for a key: a number that rises by key_stride from key to key. */
static int64_t distance_entry(const fv_row_mask *m, int64_t key) {
  return m->key_origin + key * m->key_stride - m->row_position - m->distance_first;
}

static float distance_bias_at(const fv_row_mask *m, int64_t key) {
  return m->distances[fv_clamp(distance_entry(m, key), 0, m->distance_count - 1)];
}

bool fv_sees_key(const fv_row_mask *m, int64_t key, fv_added *added, uint32_t *errors) {
  *added = (fv_added){0, 0};
  if (m->plain) return true;
  int64_t bit = key - m->tree_key;
  bool in_tree = m->tree && bit >= 0;
  if (m->outside || (m->mask && key >= m->mask_keys) || (m->bias && key >= m->bias_keys) ||
      (in_tree && bit >= m->tree_bits_readable)) {
    *errors |= FOVEA_BAD_MASK;
    return false;
  }
  if (m->mask && !m->mask[key * m->mask_step]) return false;
  if (in_tree && !(m->tree[bit / 32] >> (bit % 32) & 1)) return false;
  double bias = m->bias ? (double)bias_at(m, key) : 0;
  double by_distance = m->distances ? (double)distance_bias_at(m, key) : 0;
  if (bias == -INFINITY || by_distance == -INFINITY) return false;
  bias *= (double)m->bias_scale;
  *added = (fv_added){by_distance + bias, fabs(by_distance) + fabs(bias)};
  return true;
}

/* ---- Many keys at once ---- */

/* The keys of [first, last) that lie in the tile's [from, to), counted from key `begin`. */
static fv_range within(int64_t first, int64_t last, int64_t begin, int32_t from, int32_t to) {
  return (fv_range){fv_max(first - begin, from), fv_min(last - begin, to)};
}

static void show(fv_range keys, const uint8_t *live, uint8_t *visible) {
  if (keys.begin >= keys.end) return;
  memcpy(visible + keys.begin, live + keys.begin, (size_t)(keys.end - keys.begin));
}

/* Hides the visible keys of `keys`, and reports if there were any. */
static void hide_unreadable(fv_range keys, uint8_t *visible, uint32_t *errors) {
  for (int64_t j = keys.begin; j < keys.end; ++j) {
    if (visible[j]) *errors |= FOVEA_BAD_MASK;
    visible[j] = 0;
  }
}

/* Hides the keys that have no element in mask, bias or tree; reads nothing of them. */
static void hide_beyond_extents(const fv_row_mask *m, int64_t begin, int32_t from, int32_t to,
                                uint8_t *visible, uint32_t *errors) {
  int64_t keys = m->outside ? 0 : INT64_MAX;
  if (m->mask) keys = fv_min(keys, m->mask_keys);
  if (m->bias) keys = fv_min(keys, m->bias_keys);
  if (m->tree) keys = fv_min(keys, m->tree_key + m->tree_bits_readable);
  hide_unreadable((fv_range){fv_max(keys - begin, from), to}, visible, errors);
}

static void hide_by_mask(const fv_row_mask *m, int64_t begin, int32_t from, int32_t to,
                         uint8_t *visible) {
  if (!m->mask_step) {
    if (!*m->mask) memset(visible + from, 0, (size_t)(to - from));
    return;
  }
  int64_t end = fv_min(to, m->mask_keys - begin);
  const uint8_t *mask = m->mask + begin;
  for (int64_t j = from; j < end; ++j) visible[j] &= mask[j] != 0;
}

static void hide_by_tree(const fv_row_mask *m, int64_t begin, int32_t from, int32_t to,
                         uint8_t *visible) {
  int64_t first = fv_max(m->tree_key - begin, from);
  int64_t end = fv_min(to, m->tree_key + m->tree_bits_readable - begin);
  for (int64_t j = first; j < end; ++j) {
    int64_t bit = begin + j - m->tree_key;
    visible[j] &= m->tree[bit / 32] >> (bit % 32) & 1;
  }
}

/* A key that is already hidden may lie past the end of the bias, so its bias is not read. */
static void hide_by_bias(const fv_row_mask *m, int64_t begin, int32_t from, int32_t to,
                         uint8_t *visible) {
  for (int32_t j = from; j < to; ++j) {
    if (visible[j] && bias_at(m, begin + j) == -INFINITY) visible[j] = 0;
  }
}

/* The indices [from, to) in three runs: those of the table's first entry, those that have entries
 * one after the other, those of its last entry. The middle one is [*first, *last). */
static void cut_by_distance(const fv_row_mask *m, int64_t begin, int32_t from, int32_t to,
                            int32_t *first, int32_t *last) {
  int64_t entry = distance_entry(m, begin); /* of index 0 */
  *first = (int32_t)fv_clamp(fv_ceil_div(-entry, m->key_stride), from, to);
  *last = (int32_t)fv_clamp(fv_ceil_div(m->distance_count - entry, m->key_stride), *first, to);
}

static void hide_by_distance(const fv_row_mask *m, int64_t begin, int32_t from, int32_t to,
                             uint8_t *visible) {
  int32_t first, last;
  cut_by_distance(m, begin, from, to, &first, &last);
  if (m->distances[0] == -INFINITY) memset(visible + from, 0, (size_t)(first - from));
  const int64_t entry = distance_entry(m, begin);
  for (int32_t j = first; j < last; ++j) {
    visible[j] &= m->distances[entry + j * m->key_stride] != -INFINITY;
  }
  if (m->distances[m->distance_count - 1] == -INFINITY)
    memset(visible + last, 0, (size_t)(to - last));
}

void fv_find_visible(const fv_row_mask *m, const uint8_t *live, int64_t begin, int32_t from,
                     int32_t to, uint8_t *visible, uint32_t *errors) {
  memset(visible + from, 0, (size_t)(to - from));
  show(within(m->first, fv_min(m->prefix_end, m->len), begin, from, to), live, visible);
  show(within(fv_max(m->window.begin, m->first), fv_min(m->window.end, m->len), begin, from, to),
       live, visible);
  show(within(m->span.begin, m->span.end, begin, from, to), live, visible);
  if (m->plain) return;
  hide_beyond_extents(m, begin, from, to, visible, errors);
  if (m->outside) return;
  if (m->mask) hide_by_mask(m, begin, from, to, visible);
  if (m->tree) hide_by_tree(m, begin, from, to, visible);
  if (m->bias) hide_by_bias(m, begin, from, to, visible);
  if (m->distances) hide_by_distance(m, begin, from, to, visible);
}

/* Nearly all distances fit into 32 bits; a loop that vectorises computes these. */
static void add_alibi(const fv_row_mask *m, int64_t begin, int32_t from, int32_t to,
                      float *logits) {
  const int64_t fits = INT64_C(1) << 29;
  if (from < to && fv_distance(m, begin + from) < fits && fv_distance(m, begin + to) < fits &&
      m->key_stride < fits) {
    int32_t step = (int32_t)m->key_stride;
    int32_t ahead = (int32_t)(m->row_position - m->key_origin - (begin + from) * m->key_stride);
    for (int32_t j = from; j < to; ++j, ahead -= step) {
      logits[j] -= m->slope * (float)(ahead < 0 ? -ahead : ahead);
    }
    return;
  }
  for (int32_t j = from; j < to; ++j) logits[j] -= m->slope * (float)fv_distance(m, begin + j);
}

static void add_by_distance(const fv_row_mask *m, int64_t begin, int32_t from, int32_t to,
                            float *logits) {
  int32_t first, last;
  cut_by_distance(m, begin, from, to, &first, &last);
  const int64_t entry = distance_entry(m, begin);
  const float nearest = m->distances[0], farthest = m->distances[m->distance_count - 1];
  for (int32_t j = from; j < first; ++j) logits[j] += nearest;
  if (m->key_stride == 1) {
    for (int32_t j = first; j < last; ++j) logits[j] += m->distances[entry + j];
  } else {
    for (int32_t j = first; j < last; ++j) logits[j] += m->distances[entry + j * m->key_stride];
  }
  for (int32_t j = last; j < to; ++j) logits[j] += farthest;
}

void fv_add_to_logits(const fv_row_mask *m, const uint8_t *visible, int64_t begin, int32_t from,
                      int32_t to, float *logits) {
  if (m->slope != 0) add_alibi(m, begin, from, to, logits);
  if (m->distances) add_by_distance(m, begin, from, to, logits);
  if (!m->bias) return;
  for (int32_t j = from; j < to; ++j) {
    if (visible[j]) logits[j] += m->bias_scale * bias_at(m, begin + j);
  }
}

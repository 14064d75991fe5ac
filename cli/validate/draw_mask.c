/* draw_mask.c - see validate/draw_sketch.h: positions, masks, and what is added to logits. */
#include <math.h>

#include "cli/validate/draw_sketch.h"
#include "csrc/host/element.h"

/* ---- Positions ---- */

static int32_t *draw_per_sequence(fv_sketch *s, int64_t low, int64_t high) {
  int32_t *values = fv_sketch_i32(s, s->sequences);
  for (int64_t i = 0; values && i < s->sequences; ++i) {
    values[i] = (int32_t)fv_random_between(s->random, low, high);
  }
  return values;
}

/* A row in three has no span, or one that ends before it begins; neighbours often share one. */
static void draw_spans(fv_sketch *s) {
  fovea_visibility *v = &s->c->args.visibility;
  if (!fv_sketch_wish(s, FV_FEATURE_SPANS, 15)) return;
  int64_t rows = s->c->args.q.shape[1] * (s->c->args.sequences.q_offsets ? 1 : s->sequences);
  int32_t *ends = fv_sketch_i32(s, 2 * rows);
  int64_t begin = 0, end = 0;
  for (int64_t i = 0; ends && i < rows; ++i) {
    if (!fv_random_percent(s->random, 80)) {
      begin = fv_random_between(s->random, -3, s->longest_room + 3);
      end = begin + fv_random_between(s->random, -s->longest_room / 4, s->longest_room / 2);
    }
    ends[2 * i] = (int32_t)begin;
    ends[2 * i + 1] = (int32_t)end;
  }
  v->spans = ends;
  v->span_rule = (uint32_t)fv_random_between(s->random, 0, 1);
}

/* Selected keys have no positions. Rows that stand after all of them may be causal: those are rare,
 * and so most are. */
static bool draw_selection(fv_sketch *s) {
  fovea_attention_args *a = &s->c->args;
  if (!fv_sketch_wish(s, FV_FEATURE_SELECTED, 18)) return false;
  a->positions.selected = 1;
  bool one_row_each =
      a->q.shape[1] == 1 || (a->sequences.q_offsets && a->q.shape[1] == s->sequences);
  if (one_row_each && fv_sketch_wish(s, FV_FEATURE_CAUSAL, 90)) a->visibility.causal = 1;
  return true;
}

static void draw_positions(fv_sketch *s) {
  fovea_attention_args *a = &s->c->args;
  int64_t longest = s->longest_room;
  if (draw_selection(s)) return;
  if (fv_sketch_wish(s, FV_FEATURE_CAUSAL, 40)) a->visibility.causal = 1;
  if (fv_sketch_wish(s, FV_FEATURE_TOP_LEFT, 25)) a->positions.alignment = FOVEA_ALIGN_TOP_LEFT;
  if (fv_sketch_wish(s, FV_FEATURE_Q_POSITION, 20))
    a->positions.q = draw_per_sequence(s, -3, longest + 3);
  if (fv_sketch_wish(s, FV_FEATURE_WINDOW_LEFT, 25)) {
    a->visibility.window_left =
        (fovea_window){1, (int32_t)fv_random_between(s->random, 0, longest)};
  }
  if (fv_sketch_wish(s, FV_FEATURE_WINDOW_RIGHT, 20)) {
    a->visibility.window_right =
        (fovea_window){1, (int32_t)fv_random_between(s->random, 0, longest / 2)};
  }
  if (fv_sketch_wish(s, FV_FEATURE_PREFIX, 20))
    a->visibility.prefix_lengths = draw_per_sequence(s, -1, longest / 2);
  draw_spans(s);
  if (fv_sketch_wish(s, FV_FEATURE_KV_FIRST, 20)) {
    a->sequences.kv_first =
        draw_per_sequence(s, s->bad ? -2 : 0, s->bad ? longest + 3 : longest / 3);
  }
  if (fv_sketch_wish(s, FV_FEATURE_KV_POSITION, 20)) {
    a->positions.kv = draw_per_sequence(s, -5, 40);
    a->positions.kv_stride = (int32_t)fv_random_between(s->random, 0, 3);
  }
}

/* ---- Masks and logits ---- */

/* [sequences, rows, heads_q, keys], each extent full or 1. The extents of rows and heads are 1
 * unless `whole`. */
static void draw_grid(fv_sketch *s, fovea_tensor *t, uint32_t dtype, bool whole) {
  int64_t shape[4] = {s->sequences, whole ? s->longest_q : 1, whole ? s->heads_q : 1,
                      s->longest_room};
  bool free_extents = s->c->args.sequences.q_offsets && s->bad;
  for (int d = 0; d < 4; ++d) {
    if (fv_random_percent(s->random, 30)) shape[d] = 1;
  }
  if (free_extents && shape[1] > 3) --shape[1]; /* some row lies outside */
  fv_sketch_tensor(s, t, dtype, shape, 0);
}

static void draw_mask(fv_sketch *s) {
  fovea_tensor *mask = &s->c->args.visibility.mask;
  if (!fv_sketch_wish(s, FV_FEATURE_MASK, 20)) return;
  /* Padding masks are drawn where masks of rows and heads are not supported. */
  draw_grid(s, mask, FOVEA_U8, fv_sketch_may(s, FV_FEATURE_MASK_ROWS));
  /* More than a padding mask: rows or heads of one sequence see different keys. */
  if (mask->shape[1] > 1 || mask->shape[2] > 1) fv_sketch_add(s, FV_FEATURE_MASK_ROWS);
  int64_t count = fv_sketch_span(mask);
  for (int64_t i = 0; mask->data && i < count; ++i) {
    ((uint8_t *)mask->data)[i] = fv_random_percent(s->random, 70) ? 255 : 0;
  }
}

static void draw_bias(fv_sketch *s) {
  fovea_tensor *bias = &s->c->args.logits.bias;
  if (!fv_random_percent(s->random, 30)) return;
  int which = (int)fv_random_between(s->random, 0, 2);
  if (!fv_sketch_may(s, (fv_feature)(FV_FEATURE_BIAS_F32 + which))) return;
  fv_sketch_add(s, (fv_feature)(FV_FEATURE_BIAS_F32 + which));
  draw_grid(s, bias, FOVEA_F32 + (uint32_t)which, true);
  int64_t count = fv_sketch_span(bias);
  for (int64_t i = 0; bias->data && i < count; ++i) {
    float value =
        fv_random_percent(s->random, 10) ? -INFINITY : fv_random_uniform(s->random, -2, 2);
    fv_store_f32(bias->dtype, bias->data, i, value);
  }
  if (fv_sketch_wish(s, FV_FEATURE_BIAS_SCALE, 50))
    s->c->args.logits.bias_scale = fv_sketch_floats(s, s->heads_q, -2, 2);
}

/* An entry in twenty hides its keys. */
static void draw_distances(fv_sketch *s) {
  fovea_distances *d = &s->c->args.logits.distances;
  if (s->c->args.positions.selected || !fv_sketch_wish(s, FV_FEATURE_DISTANCES, 15)) return;
  bool shared = fv_random_percent(s->random, 40);
  d->count = (int32_t)fv_random_between(s->random, 1, s->longest_room + 10);
  d->first = (int32_t)fv_random_between(s->random, -s->longest_room - 5, 5);
  d->head_stride = shared ? 0 : d->count + fv_random_between(s->random, 0, 2);
  int64_t entries = shared ? d->count : d->head_stride * s->heads_q;
  float *table = fv_sketch_floats(s, entries, -2, 2);
  for (int64_t i = 0; table && i < entries; ++i) {
    if (fv_random_percent(s->random, 5)) table[i] = -INFINITY;
  }
  d->table = table;
}

static void draw_tree(fv_sketch *s) {
  fovea_tree *tree = &s->c->args.visibility.tree;
  if (s->c->args.positions.selected || !fv_sketch_wish(s, FV_FEATURE_TREE, 20)) return;
  bool own_lengths = fv_random_percent(s->random, 70);
  bool own_starts = fv_random_percent(s->random, 70);
  int64_t row_words = (s->longest_room + 31) / 32 + (s->longest_q + 31) / 32;
  int64_t sequence_words = row_words * (s->longest_q + 1);
  tree->words = own_starts ? sequence_words * s->sequences : sequence_words;
  if (s->bad) tree->words = tree->words / 2;
  uint32_t *bits = fv_sketch_allocate(s->c, (size_t)(tree->words + 1) * sizeof *bits, 0);
  for (int64_t i = 0; bits && i < tree->words; ++i) {
    bits[i] = (uint32_t)fv_random_bits(s->random) | (uint32_t)fv_random_bits(s->random);
  }
  tree->bits = bits;
  if (own_lengths) tree->lengths = draw_per_sequence(s, s->bad ? -1 : 0, s->longest_room);
  if (!own_starts) return;
  int32_t *starts = fv_sketch_i32(s, s->sequences);
  for (int64_t i = 0; starts && i < s->sequences; ++i) starts[i] = (int32_t)(i * sequence_words);
  tree->starts = starts;
}

static void draw_logits(fv_sketch *s) {
  fovea_attention_args *a = &s->c->args;
  if (!a->positions.selected && fv_sketch_wish(s, FV_FEATURE_ALIBI, 20)) {
    bool own = fv_random_percent(s->random, 50);
    a->logits.alibi_slopes = fv_sketch_floats(s, s->heads_q * (own ? s->sequences : 1), 0, 0.3f);
    a->logits.alibi_stride = own ? s->heads_q : 0;
  }
  if (s->logits == FV_FEATURE_LOGITS_SINK) { /* far above the logits of few keys or tiny q, k */
    fv_sketch_add(s, FV_FEATURE_SINKS);
    a->logits.sinks = fv_sketch_floats(s, s->heads_q, 6, 20);
  } else if (fv_sketch_wish(s, FV_FEATURE_SINKS, 15)) {
    a->logits.sinks = fv_sketch_floats(s, s->heads_q, -3, 3);
  }
  if (fv_sketch_wish(s, FV_FEATURE_SOFTCAP, 20))
    a->logits.softcap = fv_random_uniform(s->random, 0.5f, 30);
  if (fv_sketch_wish(s, FV_FEATURE_ADDITIVE, 12)) {
    bool shared = fv_random_percent(s->random, 50);
    a->logits.additive.head_stride = shared ? 0 : s->dim + fv_random_between(s->random, 0, 2);
    int64_t elements = shared ? s->dim : a->logits.additive.head_stride * s->heads_q;
    a->logits.additive.vector = fv_sketch_floats(s, elements, -1, 1);
  }
  if (fv_sketch_wish(s, FV_FEATURE_SCALE, 30))
    a->logits.scale = fv_random_uniform(s->random, 0.01f, 0.5f);
}

void fv_sketch_draw_rules(fv_sketch *s) {
  draw_positions(s);
  draw_mask(s);
  draw_tree(s);
  draw_bias(s);
  draw_distances(s);
  draw_logits(s);
}

/* attend_tile.c - many rows at a time: each key is packed once for up to tile_q rows.
 *
 *   widen q;  for every key tile that at least one row sees:
 *     pack k and v;  for every panel of rows that sees part of it:
 *       s = q k with its maxima;  mask;  s = exp(s - max);
 *       out = out * rescale + s v;  store the rows that see no further tile
 *
 * A panel's scores stay in the first-level cache, the packed tile in the second. With 576 rows
 * packing is about 1 % of the work, so workers need not share what they pack.
 *
 * On the diagonal of a causal mask each panel computes only the vectors of keys that its rows see.
 * Where only some of its rows see a vector, the kernel masks the scores before it stores them. A
 * key that is left out and a key that is masked give the same bits: weights of 0 add nothing. */
#include <math.h>
#include <string.h>

#include "csrc/cpu/attend.h"
#include "csrc/host/element.h"

enum { TILE_Q_MAX = 576, PANELS_MAX = TILE_Q_MAX / 4 };

/* Ranges of keys, counted from the sequence's key 0. */
typedef struct panel_keys {
  fv_range any; /* keys that at least one row sees */
  fv_range all; /* keys that every row sees */
} panel_keys;

typedef struct tile {
  fv_attend_worker *worker;
  const fv_attend_job *job;
  const fv_problem *problem;
  int64_t row_begin;
  int32_t rows, panels;
  float *q, *k, *v, *scores, *widened;
  double *out;
  double *panel_out; /* used instead of out by panels that see one key tile only */
  fv_row_mask *masks;
  fv_seen_keys seen; /* by at least one row of the tile */
  bool masked;       /* masks [rows] are filled in: some key tile needs them */
  panel_keys keys[PANELS_MAX];
  bool started[PANELS_MAX]; /* the panel's rows have seen keys */
  bool stored[PANELS_MAX];  /* the panel's results are written */
  fv_row_state states[TILE_Q_MAX];
} tile;

static int64_t position_of(const tile *t, int32_t r) {
  return (t->row_begin + r) / t->problem->group;
}

static int64_t head_of(const tile *t, int32_t r) {
  int64_t group = t->problem->group;
  return t->worker->source.kv_head * group + (t->row_begin + r) % group;
}

static int32_t rows_of(const tile *t, int32_t panel) {
  int32_t panel_rows = t->job->kernels->panel_rows, left = t->rows - panel * panel_rows;
  return left < panel_rows ? left : panel_rows;
}

/* ---- Queries ---- */

/* The last panel may have more rows than the tile. Those are zeros, and are never stored. */
static void widen_queries(tile *t) {
  const fovea_attention_args *a = &t->problem->args;
  const fv_sequence *s = t->worker->source.sequence;
  int32_t dim = t->job->dim, end = t->panels * t->job->kernels->panel_rows;
  for (int32_t r = 0; r < t->rows; ++r) {
    fv_place place = {s->q_batch, s->q_begin + position_of(t, r)};
    fv_widen_row(t->job->kernels, &a->q, &a->q_scale, place, head_of(t, r), t->problem->dim,
                 t->q + (int64_t)r * dim);
  }
  memset(t->q + (int64_t)t->rows * dim, 0, (size_t)(end - t->rows) * (size_t)dim * sizeof *t->q);
}

/* ---- Which panel sees what ---- */

static panel_keys keys_of_rows(const tile *t, int32_t first, int32_t count) {
  const fv_position_mask *mask = &t->worker->source.sequence->mask;
  int64_t front_row = position_of(t, first), back_row = position_of(t, first + count - 1);
  fv_range front = fv_window_keys(mask, front_row), back = front;
  if (back_row != front_row) back = fv_window_keys(mask, back_row);
  fv_range span = fv_rows_span(t->problem, t->worker->source.sequence, front_row, back_row + 1);
  return (panel_keys){fv_hull(fv_rows_keys(mask, front_row, back_row + 1), span),
                      {fv_max(front.begin, back.begin), fv_min(front.end, back.end)}};
}

static void start_rows(tile *t) {
  const fv_sequence *s = t->worker->source.sequence;
  int32_t panel_rows = t->job->kernels->panel_rows;
  t->panels = (t->rows + panel_rows - 1) / panel_rows;
  for (int32_t panel = 0; panel < t->panels; ++panel) {
    t->keys[panel] = keys_of_rows(t, panel * panel_rows, rows_of(t, panel));
    t->started[panel] = t->stored[panel] = false;
  }
  for (int32_t r = 0; r < t->panels * panel_rows; ++r) {
    t->states[r] = (fv_row_state){0, -INFINITY};
  }
  t->seen = fv_keys_seen(t->problem, s, position_of(t, 0), position_of(t, t->rows - 1) + 1);
  t->masked = t->job->row_masks || !fv_is_empty(t->seen.span);
  for (int32_t r = 0; r < t->rows && t->masked; ++r) {
    t->masks[r] = fv_row_mask_for(t->problem, s, position_of(t, r), head_of(t, r));
  }
}

/* ---- Keys and values ---- */

static void pack_values(tile *t) {
  const fv_tile_kernels *kernels = t->job->kernels;
  fv_key_tile *keys = t->worker->keys;
  uint32_t dtype = t->problem->args.v.dtype;
  int32_t dim_v = t->job->dim_v, tile_kv = t->job->plan->tile_kv;
  if (t->job->v_in_place) {
    kernels->pack_values(t->v, keys->v, dtype, tile_kv, keys->from, keys->to, dim_v);
    return;
  }
  int32_t width = kernels->panel_columns;
  for (int32_t j = keys->from; j < keys->to; j += width) {
    fv_key_tile_widen_v(&t->worker->source, kernels, keys, (fv_tile_range){j, j + width},
                        t->widened);
    kernels->pack_values(t->v, keys->v, FOVEA_F32, tile_kv, j, j + width, dim_v);
  }
}

/* ---- Results ---- */

static void store_panel(tile *t, int32_t panel, int32_t count, double *out) {
  int32_t first = panel * t->job->kernels->panel_rows;
  for (int32_t r = first; r < first + count; ++r, out += fv_padded_dim(t->problem->dim_v)) {
    fv_store_result(t->job, t->worker->source.sequence, position_of(t, r), head_of(t, r),
                    t->states[r], out);
  }
  t->stored[panel] = true;
}

/* Stores the panels that no key tile stored. A panel that saw no key never wrote its out. That is
 * cleared first: with a sink the row is not empty, and 0 * NaN would be NaN. */
static void store_others(tile *t) {
  int32_t columns = fv_padded_dim(t->problem->dim_v);
  for (int32_t panel = 0; panel < t->panels; ++panel) {
    double *out = t->out + (int64_t)panel * t->job->kernels->panel_rows * columns;
    int32_t count = rows_of(t, panel);
    if (t->stored[panel]) continue;
    if (!t->started[panel]) memset(out, 0, (size_t)count * (size_t)columns * sizeof *out);
    store_panel(t, panel, count, out);
  }
}

/* ---- One panel of rows ---- */

/* Scores of a panel that only positions mask: the kernel masks while it computes. */
static void score_window(tile *t, int32_t panel, int32_t count, fv_tile_range keys, float *maxima) {
  const fv_position_mask *mask = &t->worker->source.sequence->mask;
  int32_t dim = t->job->dim, first = panel * t->job->kernels->panel_rows;
  int64_t begin = t->worker->keys->begin;
  fv_range all = t->keys[panel].all;
  fv_panel_window window = {.begin = (int32_t)fv_clamp(all.begin - begin, keys.begin, keys.end),
                            .end = (int32_t)fv_clamp(all.end - begin, keys.begin, keys.end)};
  bool plain = window.begin == keys.begin && window.end == keys.end;
  for (int32_t r = 0; !plain && r < t->job->kernels->panel_rows; ++r) {
    fv_range seen = fv_window_keys(mask, position_of(t, first + (r < count ? r : 0)));
    window.low[r] = (int32_t)fv_clamp(seen.begin - begin, keys.begin, keys.end);
    window.high[r] = (int32_t)fv_clamp(seen.end - begin, window.low[r], keys.end);
  }
  t->job->kernels->score(t->scores, maxima, t->q + (int64_t)first * dim, t->k, dim, keys,
                         plain ? NULL : &window);
}

/* Additive scores of a panel. Rows past the tile's get zeros. */
static void score_additive(tile *t, int32_t panel, int32_t count, fv_tile_range keys) {
  const fv_tile_kernels *kernels = t->job->kernels;
  int32_t first = panel * kernels->panel_rows;
  const float *vectors[FV_PANEL_ROWS_MAX];
  for (int32_t r = 0; r < count; ++r) {
    vectors[r] = fv_additive_vector(t->problem, head_of(t, first + r));
  }
  kernels->score_additive(t->scores, t->q + (int64_t)first * t->job->dim, vectors, count,
                          t->problem->dim, t->k, keys);
  for (int32_t r = count; r < kernels->panel_rows; ++r) {
    memset(t->scores + (int64_t)r * FV_SCORE_STRIDE + keys.begin, 0,
           (size_t)(keys.end - keys.begin) * sizeof *t->scores);
  }
}

static void score_panel(tile *t, int32_t panel, int32_t count, fv_tile_range keys, float *maxima) {
  const fv_tile_kernels *kernels = t->job->kernels;
  int32_t dim = t->job->dim, first = panel * kernels->panel_rows;
  bool masked = fv_needs_masks(t->worker, &t->seen);
  if (t->job->additive) {
    score_additive(t, panel, count, keys);
  } else if (!masked && !t->job->scores_are_logits && t->worker->keys->whole) {
    score_window(t, panel, count, keys, maxima);
    return;
  } else {
    kernels->score(t->scores, maxima, t->q + (int64_t)first * dim, t->k, dim, keys, NULL);
  }
  for (int32_t r = first; r < first + count; ++r) {
    float *scores = t->scores + (int64_t)(r - first) * FV_SCORE_STRIDE;
    fv_range seen = fv_window_keys(&t->worker->source.sequence->mask, position_of(t, r));
    fv_mask_scores(t->worker, masked ? &t->masks[r] : NULL, seen, keys, scores);
    maxima[r - first] = kernels->largest(scores, keys);
  }
}

static void attend_panel(tile *t, int32_t panel) {
  const fv_tile_kernels *kernels = t->job->kernels;
  fv_key_tile *keys = t->worker->keys;
  int32_t width = kernels->panel_columns, lanes = kernels->lanes;
  int32_t columns = fv_padded_dim(t->problem->dim_v), first = panel * kernels->panel_rows;
  fv_range any = t->keys[panel].any;
  int64_t begin = fv_max(any.begin - keys->begin, keys->from);
  int64_t end = fv_min(any.end - keys->begin, keys->to);
  if (begin >= end) return;

  fv_tile_range seen = {(int32_t)begin, (int32_t)end};
  fv_tile_range scored = {seen.begin / width * width, (seen.end + lanes - 1) / lanes * lanes};
  int32_t count = rows_of(t, panel);
  bool last = any.end <= keys->begin + t->job->plan->tile_kv;
  double *out = last && !t->started[panel] ? t->panel_out : t->out + (int64_t)first * columns;
  float maxima[FV_PANEL_ROWS_MAX];
  double rescale[FV_PANEL_ROWS_MAX] = {0};
  score_panel(t, panel, count, scored, maxima);
  kernels->softmax(t->scores, count, scored, maxima, t->job->score_factor, t->states + first,
                   rescale);
  fv_sums sums = {out, columns, t->started[panel] ? rescale : NULL};
  kernels->accumulate(sums, t->scores, t->v, t->job->plan->tile_kv, seen, t->problem->dim_v);
  t->started[panel] = true;
  if (last) store_panel(t, panel, count, out);
}

/* ---- The tile ---- */

static void attend_key_tile(tile *t, int64_t begin, fv_range keys) {
  int64_t width = t->job->kernels->panel_columns, tile_kv = t->job->plan->tile_kv;
  fv_attend_worker *w = t->worker;
  w->keys->begin = begin;
  w->keys->from = (int32_t)(fv_max(keys.begin - begin, 0) / width * width);
  w->keys->to = (int32_t)fv_min(fv_ceil_div(keys.end - begin, width) * width, tile_kv);
  fv_key_tile_find(&w->source, &t->seen, w->keys, &w->errors);
  if (t->job->element_masks) fv_hide_unseen(w, t->masks, t->rows);
  fv_key_tile_pack_k(&w->source, t->job->kernels, w->keys, t->k, t->widened);
  pack_values(t);
  for (int32_t panel = 0; panel < t->panels; ++panel) attend_panel(t, panel);
}

static void lay_out(tile *t) {
  const fv_tile_layout *layout = &t->job->layout;
  float *scratch = t->worker->scratch;
  t->q = scratch + layout->q;
  t->k = scratch + layout->k;
  t->v = scratch + layout->v;
  t->scores = scratch + layout->scores;
  t->out = (double *)(scratch + layout->out);
  t->panel_out = (double *)(scratch + layout->stream);
  t->widened = scratch + layout->rows;
  t->masks = (fv_row_mask *)(scratch + layout->masks);
}

void fv_attend_tile(fv_attend_worker *worker, int64_t row_begin, int32_t rows) {
  worker->keys = &worker->tiles[0];
  tile t;
  t.worker = worker;
  t.job = worker->job;
  t.problem = worker->job->problem;
  t.row_begin = row_begin;
  t.rows = rows;
  lay_out(&t);
  start_rows(&t);
  widen_queries(&t);

  int64_t tile_kv = worker->job->plan->tile_kv;
  fv_range keys = fv_hull_of_seen(&t.seen);
  for (int64_t key = keys.begin / tile_kv * tile_kv; key < keys.end; key += tile_kv) {
    fv_range here = {key, key + tile_kv};
    if (fv_sees_any(&worker->source.sequence->mask, &t.seen, here)) attend_key_tile(&t, key, keys);
  }
  store_others(&t);
}

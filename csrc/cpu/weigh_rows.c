/* weigh_rows.c - see weigh_rows.h.
 *
 *   for every key tile that some row sees, for every block of 8 rows:
 *     s = q k;  mask;
 *     first pass:   the row's maximum and sums
 *     second pass:  w = exp(s - max) / sum;  store w;  mass += w
 *
 * Keys are read in place (stream_scores): nothing is packed, so the scratch of a worker fits on its
 * stack, and calls need no workspace. A tile of keys stays in the second-level cache while all rows
 * of the unit go over it. Keys that kernels cannot read in place are widened once for all of them,
 * in tiles of 32 keys. Widening a block's queries anew for each tile costs less than a hundredth
 * of the products.
 *
 * A score has the same bits in both passes and in any block, so no weight exceeds 1. Mass is summed
 * in f32 over the rows of a head in a block, in double over blocks, and is added to the tensor once
 * per unit. */
#include "csrc/cpu/weigh_rows.h"

#include <math.h>
#include <string.h>

#include "csrc/host/element_run.h"

enum {
  BLOCK_ROWS = 8, /* of 256 dims or fewer, else half as many: 9 KiB of queries */
  BLOCK_DIM = 256,
  QUERY_FLOATS = FV_DIM_MAX * BLOCK_ROWS / 2
};

/* A worker's scratch, 56 KiB. */
typedef struct block {
  const fv_weigh_job *job;
  const fv_weigh_unit *unit;
  fv_attend_worker worker;
  fv_key_tile tile;
  int64_t first;                /* of the unit's rows */
  int32_t rows;                 /* in this block */
  int64_t position[BLOCK_ROWS]; /* of the sequence's rows; -1: out of range */
  int64_t head[BLOCK_ROWS];
  bool some;                     /* at least one row is in range */
  fv_seen_keys seen;             /* by the rows in range and those between them */
  fv_range all;                  /* keys that every row in range sees by causality and window */
  fv_range windows[BLOCK_ROWS];  /* keys that a row sees by them */
  fv_row_mask masks[BLOCK_ROWS]; /* filled in if `masked` */
  bool masked;
  fv_row_state states[BLOCK_ROWS];
  float q[QUERY_FLOATS];                      /* [rows][dim] */
  float scores[BLOCK_ROWS * FV_SCORE_STRIDE]; /* [rows][keys of the tile] */
  float widened[FV_WIDENED_FLOATS];           /* [keys][dim] */
} block;

static int32_t block_rows(const fv_weigh_job *job) {
  return job->attend.dim <= BLOCK_DIM ? BLOCK_ROWS : BLOCK_ROWS / 2;
}

/* Of the selection. */
static int64_t row_index(const block *b, int32_t r) {
  return b->unit->row_begin + (b->first + r) % b->unit->rows;
}
static int64_t head_index(const block *b, int32_t r) {
  return b->unit->head_begin + (b->first + r) / b->unit->rows;
}

/* ---- Rows ---- */

static void load_query(block *b, int32_t r) {
  const fv_problem *p = b->job->attend.problem;
  const fv_sequence *s = &b->unit->sequence;
  float *q = b->q + (int64_t)r * b->job->attend.dim;
  if (b->position[r] < 0) {
    memset(q, 0, (size_t)b->job->attend.dim * sizeof *q);
    return;
  }
  fv_place place = {s->q_batch, s->q_begin + b->position[r]};
  fv_widen_row(b->job->attend.kernels, &p->args.q, &p->args.q_scale, place, b->head[r], p->dim, q);
}

/* Finds which keys the block's rows see. */
static void look(block *b) {
  const fv_problem *p = b->job->attend.problem;
  const fv_sequence *s = &b->unit->sequence;
  int64_t low = INT64_MAX, high = -1;
  b->all = (fv_range){0, INT64_MAX};
  for (int32_t r = 0; r < b->rows; ++r) {
    if (b->position[r] < 0) continue;
    low = fv_min(low, b->position[r]);
    high = fv_max(high, b->position[r]);
    b->windows[r] = fv_window_keys(&s->mask, b->position[r]);
    b->all.begin = fv_max(b->all.begin, b->windows[r].begin);
    b->all.end = fv_min(b->all.end, b->windows[r].end);
  }
  b->some = high >= 0;
  if (!b->some) return;
  b->seen = fv_keys_seen(p, s, low, high + 1);
  b->masked = b->job->attend.row_masks || !fv_is_empty(b->seen.span);
  for (int32_t r = 0; r < b->rows && b->masked; ++r) {
    if (b->position[r] >= 0) b->masks[r] = fv_row_mask_for(p, s, b->position[r], b->head[r]);
  }
}

/* Takes the rows from `first` on, at most up to `end`. */
static void take_rows(block *b, int64_t first, int64_t end) {
  const fv_weights_problem *w = b->job->weights;
  b->first = first;
  b->rows = (int32_t)fv_min(block_rows(b->job), end - first);
  for (int32_t r = 0; r < b->rows; ++r) {
    b->head[r] = fv_chosen(w->heads, head_index(b, r), w->attention.heads_q);
    b->position[r] = b->head[r] < 0 ? -1 : fv_chosen_row(w, &b->unit->sequence, row_index(b, r));
    load_query(b, r);
  }
  look(b);
}

/* ---- Keys ---- */

/* Finds the addresses of keys of the tile at `begin`: those of `keys` that rows see. False: none
 * is. */
static bool find_tile(block *b, int64_t begin, const fv_seen_keys *seen, fv_range keys) {
  const fv_weigh_job *job = b->job;
  int64_t width = job->attend.kernels->panel_columns;
  fv_key_tile *tile = b->worker.keys;
  if (!fv_overlaps(keys, (fv_range){begin, begin + job->tile_kv})) return false;
  tile->begin = begin;
  tile->from = (int32_t)(fv_max(keys.begin - begin, 0) / width * width);
  tile->to = (int32_t)fv_min(fv_ceil_div(keys.end - begin, width) * width, job->tile_kv);
  fv_key_tile_find(&b->worker.source, seen, tile, &b->worker.errors);
  if (job->widens_tiles) {
    fv_key_tile_widen_k(&b->worker.source, job->attend.kernels, tile,
                        (fv_tile_range){tile->from, tile->to}, b->widened);
  }
  return true;
}

static bool find_seen_tile(block *b, int64_t begin) {
  const fv_weigh_unit *u = b->unit;
  fv_range here = {begin, begin + b->job->tile_kv};
  return fv_sees_any(&u->sequence.mask, &u->seen, here) &&
         find_tile(b, begin, &u->seen, fv_hull_of_seen(&u->seen));
}

/* Keys are widened a few at a time, where a tile of them has no place. */
static void score_widened(block *b, int32_t dim) {
  const fv_tile_kernels *kernels = b->job->attend.kernels;
  fv_key_tile *tile = b->worker.keys;
  int32_t most = FV_WIDENED_FLOATS / dim / 4 * 4;
  for (int32_t j = tile->from; j < tile->to; j += most) {
    fv_tile_range keys = {j, (int32_t)fv_min(j + most, tile->to)};
    fv_key_tile_widen_k(&b->worker.source, kernels, tile, keys, b->widened);
    fv_key_rows rows = {tile->k + j, NULL, FOVEA_F32, keys.end - j};
    kernels->stream_scores(b->scores + j, b->q, b->rows, dim, rows);
  }
}

/* scores = q k of the tile. */
static void score_dots(block *b) {
  const fv_attend_job *job = &b->job->attend;
  const fv_key_tile *tile = b->worker.keys;
  if (!job->k_in_place && !b->job->widens_tiles) {
    score_widened(b, job->dim);
    return;
  }
  uint32_t dtype = job->k_in_place ? job->problem->args.k.dtype : FOVEA_F32;
  fv_key_rows rows = {tile->k + tile->from, NULL, dtype, tile->to - tile->from};
  job->kernels->stream_scores(b->scores + tile->from, b->q, b->rows, job->dim, rows);
}

/* Additive scores take packed keys: here [dims of a slice][panel_columns], which fit whatever the
 * dim is. A slice's scores go to the columns behind the tile, and are added up. */
typedef struct slice {
  int32_t begin, dim;
  float *k, *q, *row; /* parts of `widened` */
} slice;

enum { SLICE_DIM = FV_BLOCK_DIMS };

static void pack_slice(block *b, const slice *s, int32_t column) {
  const fv_attend_job *job = &b->job->attend;
  const int32_t width = job->kernels->panel_columns;
  for (int32_t j = 0; j < width; ++j) {
    fv_tile_range key = {column + j, column + j + 1};
    fv_key_tile_widen_k(&b->worker.source, job->kernels, b->worker.keys, key, s->row);
    const float *from = (const float *)b->worker.keys->k[column + j] + s->begin;
    for (int32_t d = 0; d < s->dim; ++d) s->k[d * width + j] = from[d];
  }
}

static void score_slice(block *b, const slice *s) {
  const fv_attend_job *job = &b->job->attend;
  const fv_key_tile *tile = b->worker.keys;
  const int32_t width = job->kernels->panel_columns, stride = fv_stepped_dim(s->dim);
  float *part = b->scores + FV_WIDENED_TILE;
  const float *vectors[BLOCK_ROWS];
  for (int32_t r = 0; r < b->rows; ++r) {
    vectors[r] = fv_additive_vector(job->problem, fv_max(b->head[r], 0)) + s->begin;
    memcpy(s->q + r * stride, b->q + r * job->dim + s->begin, (size_t)stride * sizeof *s->q);
  }
  for (int32_t j = tile->from; j < tile->to; j += width) {
    pack_slice(b, s, j);
    job->kernels->score_additive(part, s->q, vectors, b->rows, s->dim, s->k,
                                 (fv_tile_range){0, width});
    for (int32_t r = 0; r < b->rows; ++r) {
      float *to = b->scores + r * FV_SCORE_STRIDE + j, *from = part + r * FV_SCORE_STRIDE;
      for (int32_t c = 0; c < width; ++c) to[c] = s->begin ? to[c] + from[c] : from[c];
    }
  }
}

static void score_additive(block *b) {
  const int32_t dim = b->job->attend.problem->dim;
  slice s = {.k = b->widened};
  s.q = s.k + SLICE_DIM * FV_PANEL_COLUMNS_MAX;
  s.row = s.q + SLICE_DIM * BLOCK_ROWS;
  for (; s.begin < dim; s.begin += SLICE_DIM) {
    s.dim = (int32_t)fv_min(dim - s.begin, SLICE_DIM);
    score_slice(b, &s);
  }
}

static void score(block *b) {
  if (b->job->attend.additive) {
    score_additive(b);
  } else {
    score_dots(b);
  }
}

static void fill(float *x, int64_t begin, int64_t end, float value) {
  for (int64_t j = begin; j < end; ++j) x[j] = value;
}

static float *scores_of(block *b, int32_t r) {
  return b->scores + (int64_t)r * FV_SCORE_STRIDE;
}

/* Hides the scores of keys that their rows do not see, as attention does. */
static void mask_scores(block *b) {
  const fv_key_tile *tile = b->worker.keys;
  const fv_tile_range keys = {tile->from, tile->to};
  bool masked = b->masked && fv_needs_masks(&b->worker, &b->seen);
  bool as_it_is = !masked && !b->job->attend.scores_are_logits && tile->whole &&
                  tile->begin + tile->from >= b->all.begin && tile->begin + tile->to <= b->all.end;
  for (int32_t r = 0; r < b->rows; ++r) {
    if (b->position[r] < 0) {
      fill(scores_of(b, r), keys.begin, keys.end, -INFINITY);
    } else if (!as_it_is) {
      fv_mask_scores(&b->worker, masked ? &b->masks[r] : NULL, b->windows[r], keys,
                     scores_of(b, r));
    }
  }
}

/* Scores the tile for the rows from `first` on. False: none of them sees a key of it. */
static bool score_rows(block *b, int64_t first, int64_t end) {
  take_rows(b, first, end);
  if (!b->some || !fv_sees_any(&b->unit->sequence.mask, &b->seen, fv_tile_keys(b->worker.keys)))
    return false;
  score(b);
  mask_scores(b);
  return true;
}

static void start_block(block *b, const fv_weigh_job *job, const fv_weigh_unit *unit) {
  b->job = job;
  b->unit = unit;
  b->worker.job = &job->attend;
  b->worker.source = (fv_key_source){job->attend.problem, &unit->sequence, unit->kv_head};
  b->worker.keys = &b->tile;
  b->worker.tiles = NULL;
  b->worker.scratch = NULL;
  b->worker.errors = 0;
}

static void report_errors(const block *b) {
  const fv_sequence *s = &b->unit->sequence;
  if (s->index < 0) return; /* no sequence was chosen */
  fv_report_errors(b->job->attend.problem, s->index, s->errors | b->worker.errors);
}

/* ---- The first pass ---- */

/* sum_j weights[j] * (maximum - scores[j]) over keys that have a weight. Eight sums side by side
 * are a vector to the compiler. */
static double sum_depths(const float *scores, const float *weights, fv_tile_range keys,
                         float maximum) {
  float sums[8] = {0};
  for (int32_t j = keys.begin; j < keys.end; j += 8) {
    for (int i = 0; i < 8; ++i) {
      float depth = weights[j + i] * (maximum - scores[j + i]);
      sums[i] += weights[j + i] != 0 ? depth : 0;
    }
  }
  double sum = 0;
  for (int i = 0; i < 8; ++i) sum += (double)sums[i];
  return sum;
}

/* The key of the first score that equals the largest, unless an earlier tile has one as large. */
static void find_largest(const block *b, const float *scores, float largest,
                         fv_weigh_state *state) {
  const fv_key_tile *tile = b->worker.keys;
  int32_t j = tile->from;
  if (!(largest > state->maximum)) return;
  while (j < tile->to && scores[j] != largest) ++j;
  state->key = (int32_t)(tile->begin + j);
}

static void note_first(const block *b, const float *scores, fv_weigh_state *state) {
  const fv_key_tile *tile = b->worker.keys;
  int64_t j = b->unit->sequence.mask.first - tile->begin;
  if (j >= tile->from && j < tile->to) state->first = scores[j];
}

/* One step of online softmax for the block. */
static void survey_block(block *b) {
  const fv_attend_job *job = &b->job->attend;
  const fv_key_tile *tile = b->worker.keys;
  const fv_tile_range keys = {tile->from, tile->to};
  const bool statistics = b->job->weights->statistics.dtype != FOVEA_NONE;
  float copy[FV_TILE_KV_MAX];
  for (int32_t r = 0; r < b->rows; ++r) {
    fv_weigh_state *state = &b->unit->states[b->first + r];
    float *scores = scores_of(b, r), largest = job->kernels->largest(scores, keys);
    fv_row_state row = {state->sum, state->maximum};
    double rescale;
    if (statistics) {
      find_largest(b, scores, largest, state);
      note_first(b, scores, state);
      memcpy(copy + keys.begin, scores + keys.begin,
             (size_t)(keys.end - keys.begin) * sizeof *copy);
    }
    job->kernels->softmax(scores, 1, keys, &largest, job->score_factor, &row, &rescale);
    if (statistics && row.maximum > -INFINITY) {
      double raised = state->sum > 0 ? (double)row.maximum - (double)state->maximum : 0;
      state->depth = rescale * (state->depth + state->sum * raised) +
                     sum_depths(copy, scores, keys, row.maximum);
    }
    state->sum = row.sum;
    state->maximum = row.maximum;
  }
}

/* The maximum as a logit. */
static double natural_maximum(const fv_weigh_job *job, const fv_weigh_state *state) {
  double scale = job->attend.scores_are_logits ? 1 : job->attend.problem->scale;
  return scale * (double)state->maximum;
}

/* lse - maximum, where z is the sum of keys and sink relative to the maximum. Nothing overflows,
 * however large the sink is. */
static double find_excess(const fv_weigh_state *state, double sink) {
  if (sink > 0) return sink + log(state->sum * exp(-sink) + 1);
  return log(state->sum + exp(sink));
}

/* The numbers of a row that sees keys: entropy = sum w (lse - t), where lse - t is the sum of lse -
 * max and max - t, neither of which is negative. So nothing cancels. */
static void describe(const fv_weigh_job *job, const fv_weigh_state *state, double sink,
                     float *numbers) {
  double scale = job->attend.scores_are_logits ? 1 : job->attend.problem->scale;
  double maximum = natural_maximum(job, state), excess = find_excess(state, sink - maximum);
  double share = exp(-excess), lead = scale * ((double)state->first - (double)state->maximum);
  numbers[0] = (float)(share * (state->sum * excess + scale * state->depth));
  numbers[1] = (float)share;
  numbers[2] = (float)(exp(lead) * share);
  numbers[3] = (float)(maximum + excess);
}

/* Closes the state of a row, and writes its statistics. */
static void finish_row(block *b, int32_t r) {
  const fv_weights_problem *w = b->job->weights;
  const float *sinks = w->attention.args.logits.sinks;
  fv_weigh_state *state = &b->unit->states[b->first + r];
  double sink = sinks && b->position[r] >= 0 ? (double)sinks[b->head[r]] : -INFINITY;
  float numbers[4] = {0, 0, 0, (float)sink};
  /* A row whose scores are all NaN has the maximum -inf too. Its sum is NaN. */
  bool empty = state->maximum == -INFINITY && state->sum == 0;
  if (!empty) describe(b->job, state, sink, numbers);
  state->share = numbers[1];
  if (w->statistics.dtype == FOVEA_NONE) return;
  const fovea_tensor *t = &w->statistics;
  int64_t row = row_index(b, r), head = head_index(b, r);
  memcpy((float *)t->data + fv_row_offset(t, b->unit->entry, row, head), numbers, sizeof numbers);
  if (!w->largest_keys) return;
  w->largest_keys[(b->unit->entry * w->row_count + row) * w->head_count + head] = state->key;
}

void fv_weigh_survey(const fv_weigh_job *job, const fv_weigh_unit *unit, int64_t begin,
                     int64_t end) {
  block b;
  start_block(&b, job, unit);
  for (int64_t i = begin; i < end; ++i)
    unit->states[i] = (fv_weigh_state){.maximum = -INFINITY, .first = -INFINITY, .key = -1};
  fv_range keys = fv_hull_of_seen(&unit->seen);
  for (int64_t key = keys.begin / job->tile_kv * job->tile_kv; key < keys.end;
       key += job->tile_kv) {
    if (!find_seen_tile(&b, key)) continue;
    for (int64_t i = begin; i < end; i += block_rows(job)) {
      if (score_rows(&b, i, end)) survey_block(&b);
    }
  }
  for (int64_t i = begin; i < end; i += block_rows(job)) {
    take_rows(&b, i, end);
    for (int32_t r = 0; r < b.rows; ++r) finish_row(&b, r);
  }
  report_errors(&b);
}

/* ---- The second pass: weights ---- */

/* Writes `count` elements of a row of weights from key `key` on. */
static void store_weights(block *b, int32_t r, int64_t key, int64_t count, const float *x) {
  const fovea_tensor *t = &b->job->weights->weights;
  int64_t at = fv_row_offset(t, b->unit->entry, row_index(b, r), head_index(b, r)) + key;
  int64_t even = t->dtype == FOVEA_F32 ? 0 : count / 8 * 8;
  char *data = (char *)t->data;
  if (even) b->job->attend.kernels->narrow(data + at * 2, x, t->dtype, even);
  fv_store_run(t->data, t->dtype, at + even, count - even, x + even);
}

/* Writes what the tile's scores have become. `outside` stands where the tile has no score. */
static void store_tile(block *b, int64_t begin, int64_t end, bool scored, float outside) {
  const fv_key_tile *tile = b->worker.keys;
  for (int32_t r = 0; r < b->rows; ++r) {
    float *x = scores_of(b, r);
    int64_t count = end - begin;
    int32_t from = scored ? (int32_t)fv_min(tile->from, count) : 0;
    int32_t to = scored ? tile->to : 0;
    fill(x, 0, from, outside);
    fill(x, to, count, outside);
    store_weights(b, r, begin, count, x);
  }
}

/* ---- The second pass: logits ---- */

/* Rows in range see every key that exists. */
static fv_seen_keys every_key(const fv_weigh_unit *u) {
  fv_seen_keys seen = u->seen;
  if (fv_is_empty(seen.rows)) return seen; /* none is, and there may be no kv head */
  seen.prefix = seen.span = (fv_range){0, 0};
  seen.window = (fv_range){u->sequence.mask.first, u->sequence.mask.len};
  return seen;
}

/* Turns scores into logits that no mask has seen. */
static void leave_unmasked(block *b) {
  const fv_problem *p = b->job->attend.problem;
  const fv_key_tile *tile = b->worker.keys;
  bool softcap = b->job->weights->kind == FOVEA_WEIGHTS_SOFTCAPPED;
  for (int32_t r = 0; r < b->rows; ++r) {
    float *x = scores_of(b, r);
    b->job->attend.kernels->scale_scores(x + tile->from, tile->to - tile->from, p->scale,
                                         softcap ? p->args.logits.softcap : 0);
    for (int32_t j = tile->from; j < tile->to; ++j) {
      if (b->position[r] < 0 || !tile->live[j]) x[j] = -INFINITY;
    }
  }
}

static void scale_logits(block *b) {
  const fv_key_tile *tile = b->worker.keys;
  if (b->job->attend.scores_are_logits) return; /* fv_mask_scores has */
  for (int32_t r = 0; r < b->rows; ++r) {
    float *x = scores_of(b, r);
    for (int32_t j = tile->from; j < tile->to; ++j) x[j] *= b->job->attend.problem->scale;
  }
}

/* Writes the logits of the unit's rows for the keys [begin, end) of one tile. */
static void write_logits(block *b, int64_t begin, int64_t end) {
  const fv_weigh_unit *u = b->unit;
  bool masked = b->job->weights->kind == FOVEA_WEIGHTS_LOGITS;
  fv_seen_keys every = every_key(u);
  bool found = masked ? find_seen_tile(b, begin) : find_tile(b, begin, &every, every.window);
  for (int64_t i = 0, rows = u->heads * u->rows; i < rows; i += block_rows(b->job)) {
    bool scored = false;
    if (masked && found) {
      scored = score_rows(b, i, rows);
      if (scored) scale_logits(b);
    } else {
      take_rows(b, i, rows);
      scored = found && b->some;
      if (scored) {
        score(b);
        leave_unmasked(b);
      }
    }
    store_tile(b, begin, end, scored, -INFINITY);
  }
}

/* ---- The second pass: probabilities ---- */

/* Scores become weights. A hidden key's is 0, even beside a NaN. */
static void weigh_block(block *b) {
  const fv_attend_job *job = &b->job->attend;
  const fv_key_tile *tile = b->worker.keys;
  const fv_tile_range keys = {tile->from, tile->to};
  for (int32_t r = 0; r < b->rows; ++r) {
    const fv_weigh_state *state = &b->unit->states[b->first + r];
    fv_row_state row = {0, state->maximum};
    float *x = scores_of(b, r), share = state->share;
    double rescale;
    job->kernels->softmax(x, 1, keys, &row.maximum, job->score_factor, &row, &rescale);
    for (int32_t j = keys.begin; j < keys.end; ++j) x[j] = x[j] != 0 ? x[j] * share : 0;
  }
}

/* Sums of a tile's weights over rows. */
typedef struct tile_mass {
  double sums[FV_TILE_KV_MAX];
  int64_t head; /* of the selection, or of k; -1: no row yet */
} tile_mass;

/* Adds the sums to the tensor, and starts anew. */
static void flush_mass(const block *b, tile_mass *mass, int64_t begin, int64_t end) {
  const fovea_tensor *t = &b->job->weights->mass;
  float *to = (float *)t->data + fv_row_offset(t, b->unit->entry, 0, mass->head) + begin;
  for (int64_t j = 0; j < end - begin; ++j) {
    to[j] = (float)(b->unit->adds ? (double)to[j] + mass->sums[j] : mass->sums[j]);
    mass->sums[j] = 0;
  }
}

/* Rows of a block up to the next head whose mass is another. */
static int32_t same_mass(const block *b, int32_t r) {
  int32_t end = r + 1;
  if (b->job->weights->mass_by_kv_head) return b->rows;
  while (end < b->rows && head_index(b, end) == head_index(b, r)) ++end;
  return end;
}

static void add_mass(block *b, tile_mass *mass, int64_t begin, int64_t end) {
  const fv_key_tile *tile = b->worker.keys;
  bool by_kv_head = b->job->weights->mass_by_kv_head;
  for (int32_t r = 0, next; r < b->rows; r = next) {
    float sums[FV_TILE_KV_MAX];
    int64_t head = by_kv_head ? b->unit->kv_head : head_index(b, r);
    next = same_mass(b, r);
    for (; mass->head < head; ++mass->head) flush_mass(b, mass, begin, end);
    memset(sums, 0, sizeof sums);
    for (; r < next; ++r) {
      const float *x = scores_of(b, r);
      for (int32_t j = tile->from; j < tile->to; ++j) sums[j] += x[j];
    }
    for (int32_t j = tile->from; j < tile->to; ++j) mass->sums[j] += (double)sums[j];
  }
}

/* Writes weights and mass of the unit's rows for the keys [begin, end) of one tile. */
static void write_probabilities(block *b, int64_t begin, int64_t end) {
  const fv_weights_problem *w = b->job->weights;
  const fv_weigh_unit *u = b->unit;
  bool stores = w->weights.dtype && w->kind == FOVEA_WEIGHTS_PROBABILITIES;
  bool found = find_seen_tile(b, begin);
  tile_mass mass = {.head = w->mass_by_kv_head ? u->kv_head : u->head_begin};
  for (int64_t i = 0, rows = u->heads * u->rows; i < rows && (found || stores);
       i += block_rows(b->job)) {
    bool scored = found && score_rows(b, i, rows);
    if (!found) take_rows(b, i, rows);
    if (scored) weigh_block(b);
    if (scored && w->mass.dtype) add_mass(b, &mass, begin, end);
    if (stores) store_tile(b, begin, end, scored, 0);
  }
  if (!w->mass.dtype) return;
  int64_t last = w->mass_by_kv_head ? u->kv_head : u->head_begin + u->heads - 1;
  for (; mass.head <= last; ++mass.head) flush_mass(b, &mass, begin, end);
}

void fv_weigh_keys(const fv_weigh_job *job, const fv_weigh_unit *units, int64_t count,
                   int64_t begin, int64_t end) {
  const fv_weights_problem *w = job->weights;
  block b;
  for (int64_t key = begin; key < end; key += job->tile_kv) {
    int64_t stop = fv_min(key + job->tile_kv, end);
    for (int64_t i = 0; i < count; ++i) {
      start_block(&b, job, &units[i]);
      if (w->weights.dtype && w->kind != FOVEA_WEIGHTS_PROBABILITIES) write_logits(&b, key, stop);
      if (w->mass.dtype || w->kind == FOVEA_WEIGHTS_PROBABILITIES)
        write_probabilities(&b, key, stop);
      report_errors(&b);
    }
  }
}

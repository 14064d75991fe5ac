/* reference.c - attention in double precision, the header's formula as loops. It judges every other
 * implementation, so it is slow on purpose. Each logit is computed twice, when it is needed.
 * Nothing is tiled, cached or rearranged.
 *
 * For one row:   m = max(sink, max_j t[j]),   z = sum_j exp(t[j] - m) + exp(sink - m),
 *                out = sum_j exp(t[j] - m) v[j] / z,   lse = m + log z. */
#include "csrc/reference/reference.h"

#include <math.h>
#include <string.h>

#include "csrc/host/element.h"
#include "csrc/host/selection.h"

/* What stays the same along a row. */
typedef struct row_context {
  const fv_problem *problem;
  const fv_sequence *sequence; /* as the kv head has it */
  fv_sequence own;
  fv_row_mask mask;
  int64_t kv_head;
  double q[FV_DIM_MAX];
  const float *vector; /* of the additive score; NULL: dot products */
  uint32_t *errors;
} row_context;

/* Reads a row of a tensor in double: data * scale. */
static void load_row(const fovea_tensor *t, const fovea_tensor *scale, fv_place place, int64_t head,
                     int64_t dim, double *row) {
  int64_t offset = fv_row_offset(t, place.outer, place.inner, head);
  if (t->dtype == FOVEA_F32) { /* the same as below, without a look at the type per element */
    for (int64_t d = 0; d < dim; ++d) row[d] = ((const float *)t->data)[offset + d];
    return;
  }
  for (int64_t d = 0; d < dim; ++d) row[d] = fv_load(t->dtype, t->data, offset + d);
  if (scale->dtype == FOVEA_NONE) return;
  for (int64_t d = 0; d < dim; ++d) {
    row[d] *= fv_scale_at(scale, place.outer, place.inner, head, d, dim);
  }
}

/* The logit of one key, and the magnitudes that bound its rounding error. */
typedef struct key_logit {
  double value; /* t[j] */
  double size;  /* the sum of the magnitudes of all its terms */
  double dot;   /* |scale * q.k|, or the magnitude of the additive score */
} key_logit;

/* How far tanh(q + k) moves when the scales round q and k to f32, in units of 2^-24: by their sizes
 * times the slope of tanh where it is largest. */
static double moved_tanh(const fovea_attention_args *a, double q, double k) {
  double scaled = (a->q_scale.dtype ? fabs(q) : 0) + (a->k_scale.dtype ? fabs(k) : 0);
  if (scaled == 0 || !isfinite(q + k)) return 0;
  double inverse_slope = cosh(fmax(0, fabs(q + k) - 0x1p-24 * scaled));
  return scaled / (inverse_slope * inverse_slope);
}

/* Adds up the score of a key, before the scale, and the magnitudes of its terms. tanh(x) is at most
 * x, so q + k may be off by as much as q and k are. */
static double add_score(const row_context *row, const double *k, double *size) {
  const int64_t dim = row->problem->dim;
  double sum = 0;
  *size = 0;
  if (!row->vector) {
    for (int64_t d = 0; d < dim; ++d) {
      sum += row->q[d] * k[d];
      *size += fabs(row->q[d] * k[d]);
    }
    return sum;
  }
  for (int64_t d = 0; d < dim; ++d) {
    sum += (double)row->vector[d] * tanh(row->q[d] + k[d]);
    double tanh_size = fmin(1, fabs(row->q[d]) + fabs(k[d]));
    tanh_size += moved_tanh(&row->problem->args, row->q[d], k[d]) / 8;
    *size += fabs((double)row->vector[d]) * tanh_size;
  }
  return sum;
}

/* Computes the logit of a key. False: the row does not see the key. */
static bool logit(const row_context *row, int64_t key, key_logit *result) {
  const fv_problem *p = row->problem;
  const fovea_attention_args *a = &p->args;
  fv_place place, v_place;
  fv_added added;
  if (!fv_sees_position(&row->mask, key)) return false;
  if (!fv_key_place(p, row->sequence, &a->k, a->sequences.pages.ids, key, &place) ||
      (a->v.dtype &&
       !fv_key_place(p, row->sequence, &a->v, a->sequences.pages.v_ids, key, &v_place))) {
    *row->errors |= FOVEA_BAD_PAGE;
    return false;
  }
  if (!fv_sees_key(&row->mask, key, &added, row->errors)) return false;

  double k[FV_DIM_MAX], size;
  load_row(&a->k, &a->k_scale, place, row->kv_head, p->dim, k);
  double t = p->scale * add_score(row, k, &size);
  result->dot = fabs(t);
  if (a->logits.softcap > 0) t = a->logits.softcap * tanh(t / a->logits.softcap);
  double alibi = (double)row->mask.slope * (double)fv_distance(&row->mask, key);
  result->value = t - alibi + added.value;
  result->size = p->scale * size + fabs(alibi) + added.size;
  return true;
}

/* The first pass: finds the largest logit, the sink included. */
static double row_maximum(const row_context *row, double sink, fv_reference_row *result) {
  double maximum = sink;
  result->logit = result->dot = 0;
  result->visible = 0;
  for (int64_t key = row->mask.first; key < row->mask.len; ++key) {
    key_logit t;
    if (!logit(row, key, &t)) continue;
    ++result->visible;
    if (!(t.value <= maximum)) maximum = t.value; /* a NaN stays */
    if (isnan(maximum)) break;
    if (t.size > result->logit) result->logit = t.size;
    if (t.dot > result->dot) result->dot = t.dot;
  }
  return maximum;
}

static void widen_hull(const double *v, int64_t dim_v, fv_reference_row *result) {
  for (int64_t d = 0; d < dim_v; ++d) {
    if (v[d] < result->lowest[d]) result->lowest[d] = v[d];
    if (v[d] > result->highest[d]) result->highest[d] = v[d];
  }
}

static void add_value(const row_context *row, int64_t key, double weight, bool weighs,
                      double floor_weight, fv_reference_row *result) {
  const fv_problem *p = row->problem;
  fv_place place;
  double v[FV_DIM_V_MAX];
  fv_key_place(p, row->sequence, &p->args.v, p->args.sequences.pages.v_ids, key, &place);
  load_row(&p->args.v, &p->args.v_scale, place, row->kv_head, p->dim_v, v);
  double noisy = weight > floor_weight ? weight : floor_weight;
  for (int64_t d = 0; d < p->dim_v; ++d) {
    result->out[d] += weight * v[d];
    result->magnitude[d] += weight * fabs(v[d]);
    result->noise[d] += noisy * noisy * v[d] * v[d];
    result->spread[d] += fabs(v[d]);
    if (!isfinite(v[d])) result->finite = false;
  }
  if (weighs) widen_hull(v, p->dim_v, result);
}

/* A logit this far below the largest has weight 0 in f32, whatever the errors of both logits.
 * exp(-104) is below 2^-150, and a logit is off by at most 24 u32 (1 + S) (judge/criteria.h). */
static double hull_depth(const fv_reference_row *result) {
  return 104 + 2 * 24 * 0x1p-24 * (1 + result->logit);
}

static void start_hull(bool has_sink, int64_t dim_v, fv_reference_row *result) {
  for (int64_t d = 0; d < dim_v; ++d) {
    result->lowest[d] = has_sink ? 0 : INFINITY;
    result->highest[d] = has_sink ? 0 : -INFINITY;
  }
}

static void start_row(const fv_problem *problem, const fv_sequence *sequence, int64_t row,
                      int64_t head, uint32_t *errors, row_context *context) {
  fv_place place = {sequence->q_batch, sequence->q_begin + row};
  context->problem = problem;
  context->kv_head = head / problem->group;
  context->sequence = fv_sequence_of_head(problem, sequence, context->kv_head, &context->own);
  context->mask = fv_row_mask_for(problem, context->sequence, row, head);
  context->vector = fv_additive_vector(problem, head);
  context->errors = errors;
  *errors |= context->sequence->errors;
  load_row(&problem->args.q, &problem->args.q_scale, place, head, problem->dim, context->q);
}

static double sink_of(const fv_problem *problem, int64_t head) {
  return problem->args.logits.sinks ? problem->args.logits.sinks[head] : -INFINITY;
}

/* Divides out, magnitude and noise by z; computes lse. */
static void finish_row(double maximum, int64_t dim_v, fv_reference_row *result) {
  for (int64_t d = 0; d < dim_v; ++d) {
    result->out[d] /= result->sum;
    result->magnitude[d] /= result->sum;
    result->noise[d] = sqrt(result->noise[d]) / result->sum;
  }
  result->lse = maximum + log(result->sum);
}

void fv_reference_attend(const fv_problem *problem, const fv_sequence *sequence, int64_t row,
                         int64_t head, double weight_floor, fv_reference_row *result,
                         uint32_t *errors) {
  row_context context;
  memset(result, 0, sizeof *result);
  result->finite = true;
  start_row(problem, sequence, row, head, errors, &context);
  double sink = sink_of(problem, head);
  double maximum = row_maximum(&context, sink, result);
  if (fabs(sink) > result->logit && isfinite(sink)) result->logit = fabs(sink);
  if (maximum == -INFINITY) { /* the row sees nothing */
    result->lse = -INFINITY;
    return;
  }
  result->sum = exp(sink - maximum);
  double least = maximum - hull_depth(result);
  start_hull(sink >= least, problem->dim_v, result);
  for (int64_t key = context.mask.first; key < context.mask.len; ++key) {
    key_logit t;
    if (!logit(&context, key, &t)) continue;
    double weight = exp(t.value - maximum);
    if (!isfinite(t.value)) result->finite = false;
    result->sum += weight;
    add_value(&context, key, weight, t.value >= least, weight_floor, result);
  }
  finish_row(maximum, problem->dim_v, result);
}

/* ---- The device ---- */

typedef struct attention_job {
  const fv_problem *problem;
  int32_t workers;
} attention_job;

static void store_row(const fv_problem *p, const fv_sequence *s, int64_t row, int64_t head,
                      const fv_reference_row *result) {
  const fovea_tensor *out = &p->args.out;
  const fovea_tensor *lse = &p->args.lse;
  int64_t inner = s->q_begin + row;
  int64_t offset = fv_row_offset(out, s->q_batch, inner, head);
  for (int64_t d = 0; d < p->dim_v; ++d) {
    double scale = fv_scale_at(&p->args.out_scale, s->q_batch, inner, head, d, p->dim_v);
    fv_store_f64(out->dtype, out->data, offset + d, result->out[d] / scale);
  }
  if (lse->dtype) {
    ((float *)lse->data)[fv_row_offset(lse, s->q_batch, inner, head)] = (float)result->lse;
  }
}

/* Worker w takes every row whose running number, modulo the number of workers, is w. */
static void attention_task(void *context, int64_t worker) {
  const attention_job *job = context;
  const fv_problem *p = job->problem;
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  int64_t number = 0;
  while (fv_sequence_next(p, &cursor, &sequence)) {
    uint32_t errors = fv_sequence_errors(p, &sequence);
    for (int64_t row = 0; row < sequence.len_q; ++row) {
      if (number++ % job->workers != worker) continue;
      for (int64_t head = 0; head < p->heads_q; ++head) {
        fv_reference_row result;
        fv_reference_attend(p, &sequence, row, head, 0, &result, &errors);
        store_row(p, &sequence, row, head, &result);
      }
    }
    fv_report_errors(p, sequence.index, errors);
  }
}

void fv_reference_attention(const fv_problem *problem, fv_parallel parallel) {
  attention_job job = {problem, parallel.threads > 1 ? parallel.threads : 1};
  fv_parallel_run(parallel, job.workers, attention_task, &job);
}

/* ---- Weights ---- */

/* A chosen row of a chosen head. */
typedef struct chosen_row {
  const fv_weights_problem *weights;
  fv_sequence sequence;
  row_context context;
  bool exists; /* all its numbers are in range */
  uint32_t errors;
  double sink, maximum, sum; /* of all logits, the sink included */
} chosen_row;

static void choose_row(const fv_weights_problem *w, int64_t entry, int64_t row_index,
                       int64_t head_index, chosen_row *row) {
  const fv_problem *p = &w->attention;
  fv_sequence_cursor cursor = {0};
  row->weights = w;
  row->exists = fv_chosen_sequence(w, entry, &cursor, &row->sequence);
  int64_t number = row->exists ? fv_chosen_row(w, &row->sequence, row_index) : -1;
  int64_t head = fv_chosen(w->heads, head_index, p->heads_q);
  row->exists = number >= 0 && head >= 0;
  row->sink = row->maximum = -INFINITY;
  row->sum = 0;
  if (!row->exists) return;
  row->errors = row->sequence.errors;
  start_row(p, &row->sequence, number, head, &row->errors, &row->context);
  row->sink = sink_of(p, head);
}

static void sum_row(chosen_row *row) {
  fv_reference_row ignored;
  key_logit t;
  if (!row->exists) return;
  row->maximum = row_maximum(&row->context, row->sink, &ignored);
  row->sum = exp(row->sink - row->maximum);
  for (int64_t key = row->context.mask.first; key < row->context.mask.len; ++key) {
    if (logit(&row->context, key, &t)) row->sum += exp(t.value - row->maximum);
  }
}

static double weight_of(const chosen_row *row, int64_t key) {
  key_logit t;
  if (!row->exists || row->maximum == -INFINITY || !logit(&row->context, key, &t)) return 0;
  return exp(t.value - row->maximum) / row->sum;
}

/* The logit of a key that masks may hide. */
static double unmasked_logit(const chosen_row *row, int64_t key, bool softcap) {
  const fovea_attention_args *a = &row->weights->attention.args;
  const row_context *c = &row->context;
  double k[FV_DIM_MAX], size, cap = a->logits.softcap;
  fv_place place;
  if (!row->exists || key < c->mask.first || key >= c->mask.len) return -INFINITY;
  if (!fv_key_place(c->problem, c->sequence, &a->k, a->sequences.pages.ids, key, &place)) {
    *c->errors |= FOVEA_BAD_PAGE;
    return -INFINITY;
  }
  load_row(&a->k, &a->k_scale, place, c->kv_head, c->problem->dim, k);
  double t = c->problem->scale * add_score(c, k, &size);
  return softcap && cap > 0 ? cap * tanh(t / cap) : t;
}

static double output_of(const chosen_row *row, int64_t key) {
  key_logit t;
  switch (row->weights->kind) {
    case FOVEA_WEIGHTS_PROBABILITIES:
      return weight_of(row, key);
    case FOVEA_WEIGHTS_LOGITS:
      return row->exists && logit(&row->context, key, &t) ? t.value : -INFINITY;
    default:
      return unmasked_logit(row, key, row->weights->kind == FOVEA_WEIGHTS_SOFTCAPPED);
  }
}

/* The entropy, the largest weight, that of the first key, the LSE; and the key of the largest. */
static int32_t describe_row(const chosen_row *row, float *numbers) {
  double entropy = 0, largest = -INFINITY, log_sum = log(row->sum);
  int32_t which = -1;
  key_logit t;
  numbers[0] = numbers[1] = numbers[2] = 0;
  numbers[3] = (float)(row->maximum == -INFINITY ? -INFINITY : row->maximum + log_sum);
  if (!row->exists || row->maximum == -INFINITY) return -1;
  for (int64_t key = row->context.mask.first; key < row->context.mask.len; ++key) {
    if (!logit(&row->context, key, &t)) continue;
    double weight = exp(t.value - row->maximum) / row->sum;
    if (weight != 0) entropy -= weight * (t.value - row->maximum - log_sum);
    if (t.value > largest) largest = t.value, which = (int32_t)key;
  }
  numbers[0] = (float)entropy;
  numbers[1] = (float)(which < 0 ? 0 : exp(largest - row->maximum) / row->sum);
  numbers[2] = (float)weight_of(row, row->context.mask.first);
  return which;
}

static void write_row(const chosen_row *row, int64_t entry, int64_t row_index, int64_t head_index) {
  const fv_weights_problem *w = row->weights;
  const fovea_tensor *t = &w->weights, *s = &w->statistics;
  if (t->dtype) {
    int64_t offset = fv_row_offset(t, entry, row_index, head_index);
    for (int64_t key = 0; key < t->shape[3]; ++key)
      fv_store_f64(t->dtype, t->data, offset + key, output_of(row, key));
  }
  if (!s->dtype) return;
  int32_t key =
      describe_row(row, (float *)s->data + fv_row_offset(s, entry, row_index, head_index));
  if (w->largest_keys)
    w->largest_keys[(entry * w->row_count + row_index) * w->head_count + head_index] = key;
}

/* One chosen row of one chosen sequence, every head. */
static void weights_task(void *context, int64_t index) {
  const fv_weights_problem *w = context;
  for (int64_t head = 0; head < w->head_count; ++head) {
    chosen_row row;
    choose_row(w, index / w->row_count, index % w->row_count, head, &row);
    if (w->statistics.dtype || w->kind == FOVEA_WEIGHTS_PROBABILITIES) sum_row(&row);
    write_row(&row, index / w->row_count, index % w->row_count, head);
    if (row.exists) fv_report_errors(&w->attention, row.sequence.index, row.errors);
  }
}

/* ---- Mass ---- */

enum { MASS_KEYS = 1024 }; /* whose sums are kept at a time; each row is then computed anew */

static int64_t mass_parts(const fv_weights_problem *w) {
  return fv_ceil_div(w->mass.shape[3], MASS_KEYS);
}

static void add_row(const chosen_row *row, fv_range keys, double *sums) {
  keys.end = fv_min(keys.end, row->exists ? row->context.mask.len : 0);
  for (int64_t key = keys.begin; key < keys.end; ++key) {
    sums[key - keys.begin] += weight_of(row, key);
  }
}

/* Adds up the rows of one of the heads that mass sums. */
static void add_head(const fv_weights_problem *w, int64_t entry, int64_t head, fv_range keys,
                     double *sums) {
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  fv_chosen_sequence(w, entry, &cursor, &sequence);
  for (int64_t i = 0, rows = fv_chosen_rows(w, &sequence); i < rows; ++i) {
    chosen_row row;
    choose_row(w, entry, i, head, &row);
    sum_row(&row);
    add_row(&row, keys, sums);
    if (row.exists) fv_report_errors(&w->attention, row.sequence.index, row.errors);
  }
}

/* Some keys of one head of one chosen sequence's mass. */
static void mass_task(void *context, int64_t index) {
  const fv_weights_problem *w = context;
  const fovea_tensor *t = &w->mass;
  int64_t entry = index / mass_parts(w) / t->shape[2], head = index / mass_parts(w) % t->shape[2];
  int64_t begin = index % mass_parts(w) * MASS_KEYS;
  fv_range keys = {begin, fv_min(begin + MASS_KEYS, t->shape[3])}, heads = {head, head + 1};
  double sums[MASS_KEYS] = {0};
  if (w->mass_by_kv_head) {
    heads = (fv_range){head * w->attention.group, (head + 1) * w->attention.group};
    heads.end = fv_min(heads.end, w->head_count);
  }
  for (int64_t h = heads.begin; h < heads.end; ++h) add_head(w, entry, h, keys, sums);
  float *mass = (float *)t->data + fv_row_offset(t, entry, 0, head);
  for (int64_t key = keys.begin; key < keys.end; ++key) {
    double before = w->mass_accumulate ? (double)mass[key] : 0;
    mass[key] = (float)(before + sums[key - keys.begin]);
  }
}

void fv_reference_weights(const fv_weights_problem *problem, fv_parallel parallel) {
  fv_weights_problem w = *problem; /* tasks take a context that is not const */
  if (w.weights.dtype || w.statistics.dtype)
    fv_parallel_run(parallel, w.entries * w.row_count, weights_task, &w);
  if (w.mass.dtype)
    fv_parallel_run(parallel, w.entries * w.mass.shape[2] * mass_parts(&w), mass_task, &w);
}

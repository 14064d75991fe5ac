/* weights_case.c - random cases of fovea_attention_weights: every kind, mass and statistics of
 * random rows of a drawn problem, against the reference's.
 *
 * With the numbers of judge/criteria.h, a logit is off by u32 L and an lse by u32 (L + N). So
 *
 *   weight        |e| <= r w,  r = u32 (2 L + N + 8), and its rounding
 *   mass          the largest r of its rows, and u32 (9 + n / 256) for the sum of n rows
 *   entropy       |e| <= r (H + 2): the derivative of -w log w
 *   lse           |e| <= u32 (L + N + 4 |lse|)
 *   largest key   its logit is the largest but for the errors of both
 *
 * Apart from that, sum_j w[j] v[j] must be the reference's out, which was computed without weights.
 * The weight of a hidden key must be 0: its v is NaN. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/validate/case.h"
#include "cli/validate/digest.h"
#include "csrc/check/check.h"
#include "csrc/dtype.h"
#include "csrc/host/element.h"
#include "csrc/host/selection.h"
#include "csrc/reference/reference.h"

enum { ENTRIES = 2, ROWS = 4, HEADS = 3 };

static const double u32 = 0x1p-24;

typedef struct weights_case {
  fv_problem problem;
  fovea_weights_args args;
  fv_weights_problem wanted; /* the same call with outputs of its own: the reference's */
  int32_t sequences[ENTRIES], rows[ROWS], heads[HEADS];
  int64_t keys, mass_heads;
  float before;    /* in mass */
  float *logits;   /* [entries][rows][heads][keys], if there are statistics */
  void *memory[9]; /* four outputs, twice; logits */
  int blocks;
  bool out_of_memory;
} weights_case;

/* ---- Drawing ---- */

static void *take(weights_case *c, int64_t bytes) {
  void *block = malloc((size_t)bytes + 1);
  if (!block) {
    c->out_of_memory = true;
    return NULL;
  }
  memset(block, 0x5a, (size_t)bytes);
  c->memory[c->blocks++] = block;
  return block;
}

/* Any number, now and then one out of range. */
static void draw_numbers(fv_random *random, int64_t count, int32_t *numbers, int length) {
  for (int i = 0; i < length; ++i) {
    bool outside = count < 1 || fv_random_percent(random, 10);
    numbers[i] = (int32_t)(outside ? (fv_random_percent(random, 50) ? -1 : count)
                                   : fv_random_between(random, 0, count - 1));
  }
}

static void draw_outputs(fv_random *random, weights_case *c) {
  fovea_weights_args *a = &c->args;
  bool weights = fv_random_percent(random, 60), mass = fv_random_percent(random, 50);
  bool statistics = fv_random_percent(random, 40) || (!weights && !mass);
  bool all_heads = fv_random_percent(random, 50);
  bool by_kv_head = mass && all_heads && fv_random_percent(random, 50);
  bool every_row = !weights && !statistics && fv_random_percent(random, 50);
  int64_t heads = all_heads ? c->problem.heads_q : HEADS;
  uint32_t dtype = (uint32_t)fv_random_between(random, FOVEA_F32, FOVEA_BF16);
  c->mass_heads = by_kv_head ? c->problem.heads_kv : heads;
  c->keys = c->problem.kv_capacity + fv_random_between(random, -2, 2);
  if (c->keys < 1) c->keys = 1;
  a->sequences = c->sequences;
  a->heads = all_heads ? NULL : c->heads;
  a->last_rows = !every_row && fv_random_percent(random, 30);
  a->rows = every_row || a->last_rows ? NULL : c->rows;
  a->row_count = every_row ? 0 : ROWS;
  a->kind = weights ? (uint32_t)fv_random_between(random, 0, 3) : 0;
  a->mass_by_kv_head = by_kv_head;
  a->mass_accumulate = mass && fv_random_percent(random, 30);
  c->before = a->mass_accumulate ? 0.25f : 0;
  if (weights)
    a->weights = fovea_contiguous(NULL, (fovea_dtype)dtype, ENTRIES, ROWS, heads, c->keys);
  if (mass) a->mass = fovea_contiguous(NULL, FOVEA_F32, ENTRIES, 1, c->mass_heads, c->keys);
  if (statistics) a->statistics = fovea_contiguous(NULL, FOVEA_F32, ENTRIES, ROWS, heads, 4);
}

static int64_t count_of(const fovea_tensor *t) {
  return t->dtype ? t->shape[0] * t->shape[1] * t->shape[2] * t->shape[3] : 0;
}

static void give_memory(weights_case *c, fovea_weights_args *a) {
  fovea_tensor *outputs[] = {&a->weights, &a->mass, &a->statistics};
  for (int i = 0; i < 3; ++i) {
    if (!outputs[i]->dtype) continue;
    outputs[i]->data = take(c, count_of(outputs[i]) * fv_dtype_block_bytes(outputs[i]->dtype));
  }
  if (a->statistics.dtype) a->largest_keys = take(c, count_of(&a->statistics));
  for (int64_t i = 0; i < count_of(&a->mass) && !c->out_of_memory && a->mass_accumulate; ++i)
    ((float *)a->mass.data)[i] = c->before;
}

/* The reference's outputs, and the logits of its rows. */
static fovea_status want(weights_case *c) {
  fv_parallel alone = {.threads = 1};
  fovea_weights_args a = c->args;
  fv_weights_problem logits;
  a.largest_keys = NULL;
  give_memory(c, &a);
  if (c->out_of_memory) return FOVEA_OK;
  FV_TRY(fv_check_weights(&a, &c->wanted));
  fv_reference_weights(&c->wanted, alone);
  if (!a.statistics.dtype) return FOVEA_OK;
  a.mass = (fovea_tensor){.dtype = FOVEA_NONE};
  a.statistics = a.mass;
  a.largest_keys = NULL;
  a.mass_by_kv_head = a.mass_accumulate = 0;
  a.kind = FOVEA_WEIGHTS_LOGITS;
  int64_t keys = c->problem.kv_capacity;
  c->logits = take(c, (int64_t)ENTRIES * ROWS * c->wanted.head_count * keys * 4);
  a.weights = fovea_contiguous(c->logits, FOVEA_F32, ENTRIES, ROWS, c->wanted.head_count, keys);
  if (c->out_of_memory) return FOVEA_OK;
  FV_TRY(fv_check_weights(&a, &logits));
  if (!logits.attention.empty) fv_reference_weights(&logits, alone);
  return FOVEA_OK;
}

/* ---- Judging ---- */

typedef struct judged_row {
  weights_case *c;
  fv_verdict *verdict;
  fv_sequence whole, own;
  const fv_sequence *sequence;      /* as the kv head has it */
  int64_t entry, index, head_index; /* of the selection */
  int64_t row, head;                /* -1: out of range */
  fv_reference_row magnitudes;
  double logits, relative, lse; /* the bounds: of logits, of weights, of an lse without |lse| */
} judged_row;

static void note(const judged_row *r, const char *tensor, int64_t column, double got,
                 double expected, double bound) {
  const fv_bad_element at = {.criterion = FV_C5,
                             .tensor = tensor,
                             .index = {r->entry, r->index, r->head_index, column},
                             .got = got,
                             .expected = expected};
  double error = got == expected ? 0 : fabs(got - expected);
  ++r->verdict->compared;
  if (isnan(expected) && isnan(got)) return;
  fv_verdict_note(r->verdict, &at, error, bound);
}

static double sum_error(double terms, double blocks) {
  return 2 + (fmin(terms, 64 + blocks) + 4) / 4;
}

/* Finds the row's magnitudes and bounds. False: it saw infinities or NaN, and has none. */
static bool bound_row(judged_row *r) {
  const fv_problem *p = &r->c->problem;
  fv_reference_row *m = &r->magnitudes;
  uint32_t errors = 0;
  memset(m, 0, sizeof *m);
  m->finite = true;
  if (r->row >= 0) {
    fv_reference_attend(p, &r->whole, r->row, r->head, 0, m, &errors);
  }
  double of_logits = fmax(8 * m->logit, sum_error((double)p->dim, 9) * m->dot);
  if (p->args.logits.additive.vector) of_logits += 8 * m->logit;
  double of_sums = fmax(8, sum_error((double)m->visible + 1, 8));
  r->logits = u32 * (of_logits + 8);
  r->relative = u32 * (2 * of_logits + of_sums + 8);
  r->lse = u32 * (of_logits + of_sums);
  return m->finite && m->logit < 0x1p126;
}

static float element(const fovea_tensor *t, const judged_row *r, int64_t column) {
  int64_t offset = fv_row_offset(t, r->entry, r->index, r->head_index) + column;
  return fv_load(t->dtype, t->data, offset);
}

/* The magnitudes of a key's scaled score, 0 if there is none; infinite if f32 cannot form it. */
static double size_of_dot(const judged_row *r, int64_t key) {
  const fv_problem *p = &r->c->problem;
  const fovea_attention_args *a = &p->args;
  const fv_sequence *s = r->sequence;
  int64_t inner = s->q_begin + r->row, kv_head = r->head / p->group;
  const float *vector = r->row < 0 ? NULL : fv_additive_vector(p, r->head);
  fv_place k;
  double size = 0;
  if (r->row < 0 || key < s->mask.first || key >= s->mask.len ||
      !fv_key_place(p, s, &a->k, a->sequences.pages.ids, key, &k))
    return 0;
  for (int64_t d = 0; d < p->dim; ++d) {
    double x = (double)fv_load(a->q.dtype, a->q.data,
                               fv_row_offset(&a->q, s->q_batch, inner, r->head) + d) *
               (double)fv_scale_at(&a->q_scale, s->q_batch, inner, r->head, d, p->dim);
    double y = (double)fv_load(a->k.dtype, a->k.data,
                               fv_row_offset(&a->k, k.outer, k.inner, kv_head) + d) *
               (double)fv_scale_at(&a->k_scale, k.outer, k.inner, kv_head, d, p->dim);
    size += vector ? fabs((double)vector[d]) * fmin(1, fabs(x) + fabs(y)) : fabs(x * y);
  }
  return size < 0x1p120 ? p->scale * size : INFINITY;
}

static void judge_weights(const judged_row *r) {
  static const double roundoff[] = {
      [FOVEA_F32] = 0x1p-24, [FOVEA_F16] = 0x1p-11, [FOVEA_BF16] = 0x1p-8};
  const fovea_tensor *got = &r->c->args.weights, *wanted = &r->c->wanted.weights;
  uint32_t kind = r->c->args.kind;
  for (int64_t key = 0; key < r->c->keys; ++key) {
    double expected = element(wanted, r, key), error = r->logits;
    if (kind == FOVEA_WEIGHTS_PROBABILITIES) error = r->relative * expected + 0x1p-126;
    if (kind == FOVEA_WEIGHTS_SCALED || kind == FOVEA_WEIGHTS_SOFTCAPPED)
      error = u32 * 32 * (1 + size_of_dot(r, key));
    /* A weight of 0 is exact, and so is a logit of -inf; the rest may overflow f16. */
    bool exact = kind == FOVEA_WEIGHTS_PROBABILITIES ? expected == 0 && r->magnitudes.visible == 0
                                                     : expected == -INFINITY;
    if (got->dtype == FOVEA_F16 && fabs(expected) > 6e4 && !exact) continue;
    if (!isfinite(error)) continue;
    double step = got->dtype == FOVEA_F16 ? 0x1p-24 : 0x1p-126;
    note(r, "weights", key, element(got, r, key), expected,
         exact ? 0 : error + 2 * roundoff[got->dtype] * fabs(expected) + step);
  }
}

/* sum_j w[j] v[j]. Weights of f16 lose small ones, and are left out. */
static void judge_values(const judged_row *r) {
  const fv_problem *p = &r->c->problem;
  const fovea_tensor *t = &r->c->args.weights;
  double sum[FV_DIM_V_MAX] = {0};
  if (t->dtype != FOVEA_F32 || r->c->args.kind || r->row < 0 || r->c->keys < r->sequence->mask.len)
    return;
  for (int64_t key = 0; key < r->sequence->mask.len; ++key) {
    double weight = element(t, r, key);
    int64_t kv_head = r->head / p->group;
    fv_place v;
    if (weight == 0) continue;
    /* A bad page of v hides the key from attention alone. */
    if (!fv_key_place(p, r->sequence, &p->args.v, p->args.sequences.pages.v_ids, key, &v)) return;
    int64_t offset = fv_row_offset(&p->args.v, v.outer, v.inner, kv_head);
    for (int64_t d = 0; d < p->dim_v; ++d) {
      double scale = fv_scale_at(&p->args.v_scale, v.outer, v.inner, kv_head, d, p->dim_v);
      sum[d] += weight * (fv_load(p->args.v.dtype, p->args.v.data, offset + d) * scale);
    }
  }
  for (int64_t d = 0; d < p->dim_v; ++d) {
    note(r, "weights times v", d, sum[d], r->magnitudes.out[d],
         r->relative * r->magnitudes.magnitude[d] + 0x1p-126 * r->magnitudes.spread[d]);
  }
}

static void judge_largest(const judged_row *r) {
  int64_t keys = r->c->problem.kv_capacity, heads = r->c->wanted.head_count;
  int64_t row = (r->entry * ROWS + r->index) * heads + r->head_index;
  const float *logits = r->c->logits + row * keys;
  int32_t got = r->c->args.largest_keys[row], expected = r->c->wanted.largest_keys[row];
  if (expected < 0 || got < 0 || got >= keys) {
    note(r, "largest key", 0, got, expected, 0);
    return;
  }
  double best = logits[expected];
  note(r, "largest key's logit", got, logits[got], best, 2 * r->logits + u32 * fabs(best));
}

static void judge_statistics(const judged_row *r) {
  const fovea_tensor *got = &r->c->args.statistics, *wanted = &r->c->wanted.statistics;
  double entropy = element(wanted, r, 0), lse = element(wanted, r, 3);
  note(r, "entropy", 0, element(got, r, 0), entropy, r->relative * (entropy + 2) + 0x1p-100);
  for (int64_t i = 1; i < 3; ++i) {
    double weight = element(wanted, r, i);
    note(r, "statistics", i, element(got, r, i), weight, r->relative * weight + 0x1p-126);
  }
  note(r, "statistics", 3, element(got, r, 3), lse,
       isfinite(lse) ? r->lse + 4 * u32 * fabs(lse) : 0);
  judge_largest(r);
}

static void judge_mass(const judged_row *r, int64_t head, double relative, double rows) {
  const fovea_tensor *got = &r->c->args.mass, *wanted = &r->c->wanted.mass;
  int64_t offset = fv_row_offset(wanted, r->entry, 0, head);
  judged_row at = *r;
  at.index = 0;
  at.head_index = head;
  for (int64_t key = 0; key < r->c->keys; ++key) {
    double expected = ((const float *)wanted->data)[offset + key];
    double added = expected - (double)r->c->before;
    note(&at, "mass", key, ((const float *)got->data)[offset + key], expected,
         (relative + u32 * (9 + rows / 256)) * added + 2 * u32 * expected + rows * 0x1p-126);
  }
}

/* Judges the rows of one chosen sequence's head. Returns the largest relative error that a weight
 * may have: infinite if one may be anything. */
static double judge_head(judged_row *r, int64_t rows) {
  const fv_weights_problem *w = &r->c->wanted;
  double most = 0;
  for (r->index = 0; r->index < rows; ++r->index) {
    r->row = r->head < 0 ? -1 : fv_chosen_row(w, &r->whole, r->index);
    if (!bound_row(r)) {
      most = INFINITY;
      continue;
    }
    most = fmax(most, r->relative);
    if (w->weights.dtype) judge_weights(r);
    if (w->weights.dtype) judge_values(r);
    if (w->statistics.dtype) judge_statistics(r);
  }
  return most;
}

static void judge(weights_case *c, fv_verdict *verdict) {
  const fv_weights_problem *w = &c->wanted;
  static _Thread_local judged_row r;
  for (int64_t entry = 0; entry < ENTRIES; ++entry) {
    fv_sequence_cursor cursor = {0};
    r = (judged_row){.c = c, .verdict = verdict, .entry = entry};
    fv_chosen_sequence(w, entry, &cursor, &r.whole);
    int64_t rows = fv_chosen_rows(w, &r.whole);
    double most = 0, counted = 0;
    for (int64_t h = 0; h < w->head_count; ++h) {
      r.head_index = h;
      r.head = fv_chosen(w->heads, h, c->problem.heads_q);
      bool exists = r.head >= 0 && r.whole.index >= 0;
      r.sequence =
          exists ? fv_sequence_of_head(&c->problem, &r.whole, r.head / c->problem.group, &r.own)
                 : &r.whole;
      most = fmax(most, judge_head(&r, rows));
      counted += (double)rows;
      bool last = !w->mass_by_kv_head || (h + 1) % c->problem.group == 0;
      if (!last || !w->mass.dtype) continue;
      if (isfinite(most))
        judge_mass(&r, w->mass_by_kv_head ? h / c->problem.group : h, most, counted);
      most = counted = 0;
    }
  }
}

/* ---- The case ---- */

static void digest(const weights_case *c, fv_case_result *result) {
  const fovea_tensor *outputs[] = {&c->args.weights, &c->args.mass, &c->args.statistics};
  result->digest = FV_DIGEST_START;
  for (int i = 0; i < 3; ++i) {
    const fovea_tensor *t = outputs[i];
    size_t bytes = (size_t)(count_of(t) * fv_dtype_block_bytes(t->dtype));
    if (t->dtype) result->digest = fv_digest_add(result->digest, t->data, bytes);
  }
}

static void compute(fovea_handle *handle, weights_case *c, fv_case_result *result) {
  fovea_status status = fovea_attention_weights(handle, &c->args, NULL);
  if (status != FOVEA_OK) {
    fv_case_fail_call(result, "fovea_attention_weights", status);
    return;
  }
  digest(c, result);
  status = want(c);
  if (status != FOVEA_OK) {
    fv_case_fail_call(result, "the check of the reference's outputs", status);
  } else if (!c->out_of_memory) {
    judge(c, &result->verdict);
    if (!fv_verdict_passes(&result->verdict)) fv_case_fail(result, "an error is above its bound");
  }
}

void fv_run_weights_case(fovea_handle *handle, fv_case *drawn, fv_random *random,
                         fv_case_result *result) {
  weights_case c = {.args = {.struct_size = sizeof c.args, .attention = &drawn->args}};
  fovea_status status = fv_check_attention_shape(&drawn->args, &c.problem);
  if (status != FOVEA_OK) {
    fv_case_fail_call(result, "the check of the drawn case", status);
    return;
  }
  draw_numbers(random, c.problem.sequences, c.sequences, ENTRIES);
  draw_numbers(random, c.problem.rows, c.rows, ROWS);
  draw_numbers(random, c.problem.heads_q, c.heads, HEADS);
  draw_outputs(random, &c);
  give_memory(&c, &c.args);
  if (!c.out_of_memory) compute(handle, &c, result);
  result->out_of_memory = c.out_of_memory;
  for (int i = 0; i < c.blocks; ++i) free(c.memory[i]);
}

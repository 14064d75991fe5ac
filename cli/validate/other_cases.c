/* other_cases.c - random cases of fovea_merge and fovea_attention_weights, against
 * definitions written out here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mirror/mirror.h"
#include "cli/validate/case.h"
#include "cli/validate/digest.h"
#include "csrc/check/check.h"
#include "csrc/host/element.h"
#include "csrc/reference/reference.h"

static const double u32 = 0x1p-24;

/* ---- Merge ---- */

enum { PARTS_MAX = 5, MERGED_MAX = 4 * 24 };

typedef struct merge_case {
  int32_t count;
  int64_t rows, dim;
  uint32_t dtype;
  float out[PARTS_MAX + 1][MERGED_MAX * 8]; /* [partial][row][dim], of any dtype; last: merged */
  float lse[PARTS_MAX + 1][MERGED_MAX];
} merge_case;

static void draw_merge(fv_random *random, merge_case *m) {
  m->count = (int32_t)fv_random_between(random, 2, PARTS_MAX);
  m->rows = fv_random_between(random, 1, MERGED_MAX / 4);
  m->dim = 8 * fv_random_between(random, 1, 4);
  m->dtype = (uint32_t)fv_random_between(random, FOVEA_F32, FOVEA_BF16);
  for (int32_t n = 0; n < m->count; ++n) {
    for (int64_t r = 0; r < m->rows; ++r) {
      bool empty = fv_random_percent(random, 20);
      m->lse[n][r] = empty ? -INFINITY : fv_random_uniform(random, -20, 20);
      for (int64_t d = 0; d < m->dim; ++d) {
        float value = empty ? NAN : fv_random_uniform(random, -3, 3);
        fv_store_f32(m->dtype, m->out[n], r * m->dim + d, value);
      }
    }
  }
}

/* sum_n exp(lse_n - m) out_n / z in double, and the sum of magnitudes. */
static double merged_value(const merge_case *m, int64_t row, int64_t d, double *size, double *lse) {
  double maximum = -INFINITY, sum = 0, value = 0;
  *size = 0;
  for (int32_t n = 0; n < m->count; ++n) maximum = fmax(maximum, m->lse[n][row]);
  *lse = maximum;
  if (maximum == -INFINITY) return 0;
  for (int32_t n = 0; n < m->count; ++n) {
    if (m->lse[n][row] == -INFINITY) continue;
    double weight = exp(m->lse[n][row] - maximum);
    double x = fv_load(m->dtype, m->out[n], row * m->dim + d);
    sum += weight;
    value += weight * x;
    *size += weight * fabs(x);
  }
  *size /= sum;
  *lse = maximum + log(sum);
  return value / sum;
}

/* f32 throughout. The exponent's argument is off by u32 |lse_n - m| <= 40 u32, the products and
 * sums by u32 each, twice. 8 (1 + 40) u32 of the sum of magnitudes covers them. The error of one
 * rounding to a 16-bit type, its smallest steps included, is subtracted first. */
static void judge_merge(const merge_case *m, fv_verdict *verdict) {
  double rounding = m->dtype == FOVEA_F16 ? 0x1p-11 : 0x1p-8;
  for (int64_t r = 0; r < m->rows; ++r) {
    double size, lse = 0;
    for (int64_t d = 0; d < m->dim; ++d) {
      double expected = merged_value(m, r, d, &size, &lse);
      double got = fv_load(m->dtype, m->out[m->count], r * m->dim + d);
      double error = fabs(got - expected);
      if (m->dtype != FOVEA_F32)
        error = fmax(0, error - rounding * fabs(expected) * (1 + u32) - 0x1p-25);
      const fv_bad_element at = {.criterion = FV_C5,
                                 .tensor = "merged out",
                                 .index = {0, r, 0, d},
                                 .got = got,
                                 .expected = expected};
      fv_verdict_note(verdict, &at, error, 8 * 41 * u32 * size);
    }
    double got = m->lse[m->count][r];
    double error = got == lse ? 0 : fabs(got - lse);
    const fv_bad_element at = {.criterion = FV_C4,
                               .tensor = "merged lse",
                               .index = {0, r, 0, 0},
                               .got = got,
                               .expected = lse};
    fv_verdict_note(verdict, &at, error, u32 * (8 + 4 * fabs(lse)));
    verdict->compared += m->dim + 1;
  }
}

void fv_run_merge_case(fovea_handle *handle, fv_random *random, fv_case_result *result) {
  merge_case *m = calloc(1, sizeof *m);
  fovea_tensor outs[PARTS_MAX], lses[PARTS_MAX];
  if (!m) {
    result->out_of_memory = true;
    return;
  }
  draw_merge(random, m);
  for (int32_t n = 0; n < m->count; ++n) {
    outs[n] = fovea_contiguous(m->out[n], (fovea_dtype)m->dtype, 1, m->rows, 1, m->dim);
    lses[n] = fovea_contiguous(m->lse[n], FOVEA_F32, 1, m->rows, 1, 1);
  }
  fovea_merge_args args = {
      .struct_size = sizeof args, .count = m->count, .outs = outs, .lses = lses};
  args.out = fovea_contiguous(m->out[m->count], (fovea_dtype)m->dtype, 1, m->rows, 1, m->dim);
  args.lse = fovea_contiguous(m->lse[m->count], FOVEA_F32, 1, m->rows, 1, 1);
  fovea_status status = fv_mirror_merge(handle, &args);
  if (status == FOVEA_OK) {
    judge_merge(m, &result->verdict);
    result->digest = fv_digest_add(FV_DIGEST_START, m->out[m->count], sizeof m->out[m->count]);
    result->digest = fv_digest_add(result->digest, m->lse[m->count], sizeof m->lse[m->count]);
    if (!fv_verdict_passes(&result->verdict)) fv_case_fail(result, "an error is above its bound");
  } else {
    fv_case_fail_call(result, "fovea_merge", status);
  }
  free(m);
}

/* ---- Weights ---- */

/* sum_j w[j] v[j] must be the reference's out, which was computed without storing weights. Each
 * weight is rounded to f32 once: the error is u32 A, and double arithmetic gets as much again. The
 * weight of a hidden key must be 0: its v is NaN. */
static void judge_weights(const fv_problem *p, const fv_sequence *s, int64_t row, int64_t head,
                          const float *weights, fv_verdict *verdict) {
  static _Thread_local fv_reference_row expected;
  uint32_t errors = 0;
  double sum[FV_DIM_V_MAX] = {0};
  fv_reference_attend(p, s, row, head, 0, &expected, &errors);
  fv_sequence own;
  const fv_sequence *source = fv_sequence_of_head(p, s, head / p->group, &own);
  for (int64_t key = 0; key < source->mask.len; ++key) {
    fv_place place;
    if (weights[key] == 0) continue;
    if (!fv_key_place(p, source, &p->args.v, p->args.sequences.pages.v_ids, key, &place)) {
      verdict->worst[FV_C5] = INFINITY; /* a weight of a key that does not exist */
      continue;
    }
    int64_t offset = fv_row_offset(&p->args.v, place.outer, place.inner, head / p->group);
    for (int64_t d = 0; d < p->dim_v; ++d) {
      double scale =
          fv_scale_at(&p->args.v_scale, place.outer, place.inner, head / p->group, d, p->dim_v);
      sum[d] += weights[key] * (fv_load(p->args.v.dtype, p->args.v.data, offset + d) * scale);
    }
  }
  for (int64_t d = 0; d < p->dim_v; ++d) {
    double bound = 2 * u32 * expected.magnitude[d] + 0x1p-149 * expected.spread[d];
    const fv_bad_element at = {.criterion = FV_C5,
                               .tensor = "weights",
                               .index = {s->index, row, head, d},
                               .got = sum[d],
                               .expected = expected.out[d]};
    fv_verdict_note(verdict, &at, fabs(sum[d] - expected.out[d]), bound);
  }
  verdict->compared += p->dim_v;
}

static void find(const fv_problem *p, int64_t which, fv_sequence *s) {
  fv_sequence_cursor cursor = {0};
  while (fv_sequence_next(p, &cursor, s) && s->index != which) continue;
}

/* A few rows of the drawn case, all heads. */
void fv_run_weights_case(fovea_handle *handle, fv_case *c, fv_case_result *result) {
  enum { ROWS = 3 };
  fv_problem p;
  fv_sequence s;
  fovea_status status = fv_check_attention_shape(&c->args, &p);
  if (status != FOVEA_OK) {
    fv_case_fail_call(result, "the check of the drawn case", status);
    return;
  }
  int32_t rows[ROWS] = {0, (int32_t)(p.rows / 2), INT32_MAX}; /* the last is out of range */
  int32_t sequence = (int32_t)(p.sequences - 1);
  int64_t keys = p.kv_capacity;
  float *weights = malloc((size_t)(ROWS * p.heads_q * keys + 1) * sizeof *weights);
  if (!weights) {
    result->out_of_memory = true;
    return;
  }
  fovea_weights_args args = {.struct_size = sizeof args, .attention = &c->args};
  args.weights = fovea_contiguous(weights, FOVEA_F32, 1, ROWS, p.heads_q, keys);
  args.sequences = &sequence;
  args.rows = rows;
  status = fovea_attention_weights(handle, &args, NULL);
  if (status != FOVEA_OK) fv_case_fail_call(result, "fovea_attention_weights", status);
  size_t bytes = (size_t)(ROWS * p.heads_q * keys) * sizeof *weights;
  if (status == FOVEA_OK) result->digest = fv_digest_add(FV_DIGEST_START, weights, bytes);
  find(&p, sequence, &s);
  for (int r = 0; r < ROWS && !result->failed; ++r) {
    for (int64_t head = 0; head < p.heads_q; ++head) {
      const float *row = weights + (r * p.heads_q + head) * keys;
      if (rows[r] < s.len_q) {
        judge_weights(&p, &s, rows[r], head, row, &result->verdict);
      } else {
        for (int64_t key = 0; key < keys; ++key) {
          if (row[key] != 0) fv_case_fail(result, "a weight of a row out of range is not 0");
        }
        result->verdict.compared += keys;
      }
    }
  }
  free(weights);
  if (!fv_verdict_passes(&result->verdict)) fv_case_fail(result, "an error is above its bound");
}

/* merge_case.c - random cases of fovea_merge, against its definition written out here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mirror/mirror.h"
#include "cli/validate/case.h"
#include "cli/validate/digest.h"
#include "csrc/host/element.h"

static const double u32 = 0x1p-24;

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

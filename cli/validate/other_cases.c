/* other_cases.c - random cases of fovea_merge and fovea_kv_append, against definitions written out
 * here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/mirror/mirror.h"
#include "cli/validate/case.h"
#include "cli/validate/digest.h"
#include "csrc/host/element.h"

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

/* ---- Append ---- */

enum { TOKENS = 12, HEADS = 2, DIM_MAX = 32, PAGES = 8, PAGE_LEN = 4, POSITIONS = 40 };

typedef struct append_case {
  uint32_t from, to;
  int64_t dim, tokens;
  int32_t rotary_dim;
  uint32_t style;
  bool rope, scaled, by_slots;
  float new_keys[TOKENS * HEADS * DIM_MAX]; /* of dtype `from` */
  float cos[POSITIONS * DIM_MAX / 2], sin[POSITIONS * DIM_MAX / 2];
  int32_t positions[TOKENS], ids[PAGES], length;
  int64_t slots[TOKENS];
  float scale[HEADS];
  unsigned char cache[PAGES * PAGE_LEN * HEADS * DIM_MAX * 4];
  unsigned char expected[PAGES * PAGE_LEN * HEADS * DIM_MAX * 4];
} append_case;

static void draw_append(fv_random *random, uint32_t last_type, append_case *a) {
  a->from = (uint32_t)fv_random_between(random, FOVEA_F32, FOVEA_BF16);
  a->to = (uint32_t)fv_random_between(random, FOVEA_F32, last_type);
  a->dim = 8 * fv_random_between(random, 1, DIM_MAX / 8);
  a->tokens = fv_random_between(random, 1, TOKENS);
  a->rope = fv_random_percent(random, 60);
  a->rotary_dim = 2 * (int32_t)fv_random_between(random, 1, a->dim / 2);
  a->style = (uint32_t)fv_random_between(random, 0, 1);
  a->scaled = a->to >= FOVEA_E4M3 && fv_random_percent(random, 70);
  a->by_slots = fv_random_percent(random, 40);
  a->length = (int32_t)fv_random_between(random, 0, PAGES * PAGE_LEN - TOKENS);
  for (int64_t i = 0; i < a->tokens * HEADS * a->dim; ++i) {
    fv_store_f32(a->from, a->new_keys, i, fv_random_uniform(random, -600, 600));
  }
  for (int64_t i = 0; i < POSITIONS * DIM_MAX / 2; ++i) {
    float angle = fv_random_uniform(random, -3, 3);
    a->cos[i] = cosf(angle);
    a->sin[i] = sinf(angle);
  }
  for (int p = 0; p < PAGES; ++p) a->ids[p] = (p * 3 + a->length) % PAGES; /* 3 is prime to 8 */
  for (int64_t t = 0; t < TOKENS; ++t) {
    a->positions[t] = (int32_t)fv_random_between(random, 0, POSITIONS - 1);
    a->slots[t] = fv_random_percent(random, 20) ? -1 : (t * 5 + a->length) % (PAGES * PAGE_LEN);
  }
  for (int h = 0; h < HEADS; ++h) a->scale[h] = fv_random_uniform(random, 0.5f, 4);
  memset(a->cache, 0x77, sizeof a->cache);
  memset(a->expected, 0x77, sizeof a->expected);
}

static void store_cache(uint32_t dtype, void *data, int64_t index, float value) {
  switch (dtype) {
    case FOVEA_E5M2:
      ((uint8_t *)data)[index] = fv_e5m2_from_f32(value);
      break;
    case FOVEA_I8:
      ((int8_t *)data)[index] = fv_i8_from_f32(value);
      break;
    default:
      fv_store_f32(dtype, data, index, value);
      break;
  }
}

/* Rounds each product and each sum by itself: volatile keeps the compiler from fusing them. */
static void rotate(const append_case *a, int64_t position, float *x) {
  int32_t half = a->rotary_dim / 2;
  for (int32_t i = 0; i < half; ++i) {
    int32_t first = a->style == FOVEA_ROPE_INTERLEAVED ? 2 * i : i;
    int32_t second = a->style == FOVEA_ROPE_INTERLEAVED ? 2 * i + 1 : i + half;
    float c = a->cos[position * half + i], s = a->sin[position * half + i];
    volatile float xc = x[first] * c, ys = x[second] * s, yc = x[second] * c, xs = x[first] * s;
    x[first] = xc - ys;
    x[second] = yc + xs;
  }
}

static void expect_append(append_case *a) {
  for (int64_t t = 0; t < a->tokens; ++t) {
    int64_t n = a->length + t;
    int64_t slot = a->by_slots ? a->slots[t] : a->ids[n / PAGE_LEN] * PAGE_LEN + n % PAGE_LEN;
    if (slot < 0) continue;
    for (int64_t h = 0; h < HEADS; ++h) {
      float row[DIM_MAX];
      for (int64_t d = 0; d < a->dim; ++d) {
        row[d] = fv_load(a->from, a->new_keys, (t * HEADS + h) * a->dim + d);
      }
      if (a->rope) rotate(a, a->positions[t], row);
      for (int64_t d = 0; d < a->dim; ++d) {
        float value = a->scaled ? row[d] / a->scale[h] : row[d];
        store_cache(a->to, a->expected, (slot * HEADS + h) * a->dim + d, value);
      }
    }
  }
}

static fovea_status call_append(fovea_handle *handle, append_case *a) {
  fovea_kv_append_args args = {.struct_size = sizeof args};
  args.k_new = fovea_contiguous(a->new_keys, (fovea_dtype)a->from, 1, a->tokens, HEADS, a->dim);
  args.k_cache = fovea_contiguous(a->cache, (fovea_dtype)a->to, PAGES, PAGE_LEN, HEADS, a->dim);
  if (a->scaled) args.k_scale = fovea_contiguous(a->scale, FOVEA_F32, 1, 1, HEADS, 1);
  if (a->by_slots) {
    args.slots = a->slots;
  } else {
    args.sequences.kv_lengths = &a->length;
    args.sequences.pages = (fovea_pages){.ids = a->ids, .row_stride = PAGES, .count = PAGES};
  }
  if (a->rope) {
    args.rope = (fovea_rope){.cos = a->cos,
                             .sin = a->sin,
                             .rows = POSITIONS,
                             .stride = a->rotary_dim / 2,
                             .positions = a->positions,
                             .rotary_dim = a->rotary_dim,
                             .style = a->style};
  }
  return fv_mirror_append(handle, &args);
}

void fv_run_append_case(fovea_handle *handle, uint32_t last_type, fv_random *random,
                        fv_case_result *result) {
  append_case *a = calloc(1, sizeof *a);
  if (!a) {
    result->out_of_memory = true;
    return;
  }
  draw_append(random, last_type, a);
  expect_append(a);
  fovea_status status = call_append(handle, a);
  if (status != FOVEA_OK) fv_case_fail_call(result, "fovea_kv_append", status);
  result->digest = fv_digest_add(FV_DIGEST_START, a->cache, sizeof a->cache);
  for (size_t i = 0; i < sizeof a->cache && status == FOVEA_OK; ++i) {
    double error = a->cache[i] == a->expected[i] ? 0 : 1;
    const fv_bad_element at = {.criterion = FV_C9,
                               .tensor = "cache byte",
                               .index = {0, 0, 0, (int64_t)i},
                               .got = a->cache[i],
                               .expected = a->expected[i]};
    fv_verdict_note(&result->verdict, &at, error, 0);
    ++result->verdict.compared;
  }
  free(a);
  if (!fv_verdict_passes(&result->verdict)) fv_case_fail(result, "a stored byte differs");
}

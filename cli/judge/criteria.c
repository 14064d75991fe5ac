/* criteria.c - see criteria.h. One pass over the rows: the reference computes a row in double
 * precision together with the magnitudes A, R and S, and the row is judged at once. */
#include "cli/judge/criteria.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "csrc/host/element.h"
#include "csrc/reference/reference.h"

static const double u32 = 0x1p-24;

const char *fv_criterion_name(fv_criterion criterion) {
  static const char *const names[] = {"C1", "C1s", "C2", "C3", "C4", "C5",
                                      "C6", "C7",  "C8", "C9", "C10"};
  return names[criterion];
}

/* A number format as error analysis sees it. */
typedef struct format {
  double roundoff;  /* u: half the distance from 1 to the next number */
  double underflow; /* half the smallest step */
  double largest;
} format;

static format format_of(uint32_t dtype) {
  switch (dtype) {
    case FOVEA_F16:
      return (format){0x1p-11, 0x1p-25, 65504};
    case FOVEA_BF16:
      return (format){0x1p-8, 0x1p-134, 0x1.fep127};
    case FOVEA_E4M3:
      return (format){0x1p-4, 0x1p-10, 448};
    default:
      return (format){0x1p-24, 0x1p-150, 0x1.fffffep127};
  }
}

/* Probabilities in f16 have 15 binades above 1. Kernels put a row's largest into the upper 4 of
 * them, at 2^11 or above, so underflow begins 11 binades further below it. In bf16 the largest is
 * at 2^-4 or above, and what is below 2^-126 is 0: ex2.approx.ftz has no subnormals. */
static format weights_format(uint32_t dtype) {
  format f = format_of(dtype);
  if (dtype == FOVEA_F16) f.underflow *= 0x1p-11;
  if (dtype == FOVEA_BF16) f.underflow = 0x1p-122;
  return f;
}

/* ---- Ratios ---- */

void fv_verdict_note(fv_verdict *verdict, const fv_bad_element *at, double error, double bound) {
  double ratio = error == 0 ? 0 : error / bound;
  verdict->applies[at->criterion] = true;
  if (isnan(ratio)) ratio = INFINITY; /* a NaN is never right */
  if (ratio > verdict->worst[at->criterion]) verdict->worst[at->criterion] = ratio;
  if (ratio > 1 && !verdict->first_bad.any) {
    verdict->first_bad = *at;
    verdict->first_bad.any = true;
  }
}

void fv_verdict_add(fv_verdict *a, const fv_verdict *b) {
  for (int c = 0; c < FV_CRITERIA; ++c) {
    a->applies[c] |= b->applies[c];
    a->worst[c] = fmax(a->worst[c], b->worst[c]);
  }
  a->compared += b->compared;
  a->exempt += b->exempt;
  if (!a->first_bad.any) a->first_bad = b->first_bad;
}

bool fv_verdict_passes(const fv_verdict *verdict) {
  for (int c = 0; c < FV_CRITERIA; ++c) {
    if (!(verdict->worst[c] <= 1)) return false;
  }
  return verdict->compared > 0;
}

/* ---- Rows ---- */

/* Squares summed over a row or the tensor. */
typedef struct norms {
  double error, output, noise, f32;
  int64_t elements;
} norms;

typedef struct judge {
  const fv_problem *problem;
  const fv_judge_options *options;
  fv_verdict *verdict;
  format out, weights;
  double u;    /* the coarser roundoff of the two */
  bool strict; /* probabilities stay in f32 */
  double sums; /* u32 N of the row */
  double f32;  /* u32 (L + N) of the row */
  norms tensor;
  bool by_bounds; /* row holds bounds, and no results to compare with */
  fv_reference_row row;
} judge;

static void add_norms(norms *sum, const norms *x) {
  sum->error += x->error;
  sum->output += x->output;
  sum->noise += x->noise;
  sum->f32 += x->f32;
  sum->elements += x->elements;
}

static double norm_bound(const judge *j, const norms *n, double factor, double underflow) {
  return factor * (j->u * sqrt(n->output + n->noise) + sqrt(n->f32)) +
         underflow * sqrt((double)n->elements);
}

/* One element of out, in units of the value (stored * scale). */
typedef struct element {
  double got, expected;
  double scale;     /* out_scale */
  double underflow; /* what underflow takes */
  double f32;       /* F */
  int64_t index[4];
} element;

static void note_error(judge *j, fv_criterion criterion, const element *e, double error,
                       double bound) {
  fv_bad_element at = {
      .criterion = criterion, .tensor = "out", .got = e->got, .expected = e->expected};
  memcpy(at.index, e->index, sizeof at.index);
  fv_verdict_note(j->verdict, &at, error, bound);
}

static void note(judge *j, fv_criterion criterion, const element *e, double bound) {
  note_error(j, criterion, e, fabs(e->got - e->expected), bound);
}

/* The square root of a sum of squared errors of out, from `index` on. */
static void note_norm(judge *j, fv_criterion criterion, const int64_t index[4], double error,
                      double bound) {
  element e = {.got = error};
  memcpy(e.index, index, sizeof e.index);
  note_error(j, criterion, &e, error, bound);
}

/* Infinities and NaN must be where the reference has them. Beyond the type's largest value plus
 * half a unit, give or take the error that C1 allows, values become infinities. In e4m3 they become
 * the largest value instead. The expected value then does the same. Returns whether there are
 * numbers left to compare. */
static bool compare_class(judge *j, element *e, double allowed) {
  double largest = j->out.largest * fabs(e->scale), size = fabs(e->expected);
  double limit = largest + ldexp(j->out.roundoff, ilogb(j->out.largest)) * fabs(e->scale);
  bool saturates = j->problem->args.out.dtype == FOVEA_E4M3;
  bool either = fabs(size - limit) <= allowed;
  if (saturates && size > largest) {
    e->expected = copysign(largest, e->expected);
  } else if (size > largest || either) {
    bool infinite = either ? isinf(e->got) : size >= limit;
    if (infinite || size > largest)
      e->expected = copysign(infinite ? INFINITY : largest, e->expected);
  }
  if (isfinite(e->got) && isfinite(e->expected)) return true;
  bool same = isnan(e->got) ? isnan(e->expected) : e->got == e->expected;
  note_error(j, FV_C1, e, same ? 0 : INFINITY, 1);
  return false;
}

/* C5. First subtracts what one rounding to out's type explains, so that the ratio shows the f32
 * arithmetic alone. */
static void judge_f32_error(judge *j, const element *e, double size) {
  double error = fabs(e->got - e->expected);
  if (j->problem->args.out.dtype != FOVEA_F32) {
    error -= j->out.roundoff * (size + e->f32) + j->out.underflow * fabs(e->scale);
  }
  note_error(j, FV_C5, e, fmax(error, 0), e->f32 + e->underflow);
}

/* C10: how far outside the hull. An output that saturates does so at its type's largest value. */
static void judge_hull(judge *j, int64_t d, const element *e) {
  double low = j->row.lowest[d], high = j->row.highest[d];
  double size = fmax(fabs(low), fabs(high));
  double weights = j->strict ? 0 : j->weights.roundoff;
  double additions = 2 * (double)fv_min(j->row.visible, 64 + 8) + 3;
  double mean = (u32 * additions + weights) * size;
  if (j->problem->args.out.dtype == FOVEA_E4M3) {
    double largest = j->out.largest * fabs(e->scale);
    low = fmin(fmax(low, -largest), largest);
    high = fmin(fmax(high, -largest), largest);
  }
  double outside = fmax(0, fmax(low - e->got, e->got - high));
  element nearest = *e;
  nearest.expected = e->got < low ? low : high;
  note_error(j, FV_C10, &nearest, outside, mean + j->out.roundoff * (size + mean) + e->underflow);
}

static void judge_element(judge *j, int64_t d, element *e, norms *row) {
  const fv_reference_row *r = &j->row;
  double a = r->magnitude[d], noise = r->noise[d];
  e->f32 = j->f32 * a;
  double divided = j->strict ? 0 : 2 * fabs(e->expected); /* by weights as rounded */
  double c1 = j->u * (a + fmax(a, divided)) + e->f32 + e->underflow;
  if (!compare_class(j, e, c1)) return;
  double size = fabs(e->expected);
  judge_hull(j, d, e);
  double c1s = j->u * size + 4 * j->u * noise + e->f32 + e->underflow;
  note(j, FV_C1, e, c1);
  note(j, FV_C1S, e, c1s);
  if (j->strict) judge_f32_error(j, e, size);
  if (j->options->weights_dtype == FOVEA_E4M3) note(j, FV_C6, e, a / 16 + e->underflow);
  if (j->problem->args.k.dtype > FOVEA_BF16 || j->problem->args.v.dtype > FOVEA_BF16) {
    note(j, FV_C7, e, fmin(c1, c1s));
  }
  if (fabs(a - size) <= 0x1p-40 * a && j->problem->args.out.dtype != FOVEA_F32) {
    double ulp = size > 0 ? ldexp(2 * j->u, ilogb(size)) : 0;
    note(j, FV_C8, e, 2 * ulp + e->f32 + e->underflow);
  }
  double error = e->got - e->expected;
  norms mine = {error * error, size * size, noise * noise, e->f32 * e->f32, 1};
  add_norms(row, &mine);
}

/* Finds what the row is judged by: the reference or bounds. False: by nothing. */
static bool look_at_row(judge *j, const fv_sequence *s, int64_t i, int64_t head,
                        double floor_weight, uint32_t *errors) {
  const fv_judge_options *o = j->options;
  fv_row_judgement how = FV_ROW_BY_REFERENCE;
  if (o->choose) how = o->choose(o->context, s, i, head, floor_weight, &j->row);
  j->by_bounds = how == FV_ROW_BY_BOUNDS;
  if (how == FV_ROW_BY_REFERENCE) {
    fv_reference_attend(j->problem, s, i, head, floor_weight, &j->row, errors);
  }
  return how != FV_ROW_SKIPPED;
}

static void judge_out(judge *j, const fv_sequence *s, int64_t i, int64_t head) {
  const fovea_attention_args *a = &j->problem->args;
  const fovea_tensor *file = j->options->expected_out;
  element e = {.index = {s->q_batch, s->q_begin + i, head, 0}};
  norms row = {0};
  if (j->by_bounds && !file) return;
  int64_t offset = fv_row_offset(&a->out, e.index[0], e.index[1], head);
  double underflow = 0;
  for (int64_t d = 0; d < j->problem->dim_v; ++d) {
    e.index[3] = d;
    e.scale = fv_scale_at(&a->out_scale, e.index[0], e.index[1], head, d, j->problem->dim_v);
    e.got = fv_load(a->out.dtype, a->out.data, offset + d) * e.scale;
    e.expected = j->row.out[d];
    e.underflow = j->out.underflow * fabs(e.scale);
    if (j->row.sum > 0) {
      double weights = j->weights.underflow * j->row.spread[d];
      double products = 0x1p-150 * (double)j->row.visible;
      e.underflow += (weights + products) / j->row.sum;
    }
    if (file) { /* the file's result is itself rounded once */
      e.expected =
          fv_load(file->dtype, file->data, fv_row_offset(file, e.index[0], e.index[1], head) + d);
      e.underflow += format_of(file->dtype).roundoff * fabs(e.expected);
    }
    underflow = fmax(underflow, e.underflow);
    judge_element(j, d, &e, &row);
  }
  if (j->problem->dim_v >= 64 && row.elements) {
    note_norm(j, FV_C2, e.index, sqrt(row.error), norm_bound(j, &row, 1.5, underflow));
  }
  add_norms(&j->tensor, &row);
  j->verdict->compared += j->problem->dim_v;
}

static void judge_lse(judge *j, const fv_sequence *s, int64_t i, int64_t head) {
  const fovea_tensor *lse = &j->problem->args.lse;
  const fovea_tensor *file = j->options->expected_lse;
  int64_t outer = s->q_batch, inner = s->q_begin + i;
  if (!lse->dtype || (j->by_bounds && !file)) return;
  double got = fv_load(FOVEA_F32, lse->data, fv_row_offset(lse, outer, inner, head));
  double expected = j->row.lse;
  if (file) expected = fv_load(FOVEA_F32, file->data, fv_row_offset(file, outer, inner, head));
  bool same = isnan(expected) ? isnan(got) : got == expected;
  double bound = j->f32 + 4 * u32 * fabs(expected);
  if (!isfinite(expected) || !isfinite(got)) bound = 1;
  const fv_bad_element at = {.criterion = FV_C4,
                             .tensor = "lse",
                             .index = {outer, inner, head, 0},
                             .got = got,
                             .expected = expected};
  fv_verdict_note(j->verdict, &at, same ? 0 : fabs(got - expected), bound);
  ++j->verdict->compared;
}

/* sum(n, blocks) of judge/criteria.h. */
static double sum_error(int64_t terms, int64_t blocks) {
  return 2 + ((double)fv_min(terms + 1, 64 + blocks) + 4) / 4;
}

static void judge_row(judge *j, const fv_sequence *s, int64_t i, int64_t head, uint32_t *errors) {
  double floor_weight = j->weights.underflow / j->weights.roundoff;
  if (j->strict) floor_weight = 0;
  if (!look_at_row(j, s, i, head, floor_weight, errors)) return;
  if (!j->row.finite) {
    j->verdict->exempt += j->problem->dim_v;
    return;
  }
  const int64_t dim = j->problem->dim;
  double dots = sum_error(dim, j->strict ? 9 : dim) * j->row.dot;
  j->sums = u32 * fmax(8, sum_error(j->row.visible, 8));
  double tanhs = j->problem->args.logits.additive.vector ? 8 * j->row.logit : 0;
  j->f32 = j->sums + u32 * (fmax(8 * j->row.logit, dots) + tanhs);
  judge_out(j, s, i, head);
  judge_lse(j, s, i, head);
}

/* The roundings of a whole tensor average out, unless they are all the same: values in blocks are
 * few numbers, many times. */
static double tensor_factor(const judge *j) {
  return fv_dtype_is_blocks(j->problem->args.v.dtype) ? 1 : 0.8;
}

/* C3 over all that was compared, and the second half of C6. */
static void judge_tensor(judge *j) {
  const norms *n = &j->tensor;
  const int64_t nowhere[4] = {0, 0, 0, 0};
  if (n->elements >= 4096) {
    double underflow = j->out.underflow;
    note_norm(j, FV_C3, nowhere, sqrt(n->error), norm_bound(j, n, tensor_factor(j), underflow));
  }
  if (j->options->weights_dtype == FOVEA_E4M3 && n->elements) {
    note_norm(j, FV_C6, nowhere, sqrt(n->error), 0.04 * sqrt(n->output));
  }
}

void fv_judge_attention(const fv_problem *problem, const fv_judge_options *options,
                        fv_verdict *verdict, uint32_t *errors) {
  judge j = {.problem = problem, .options = options, .verdict = verdict};
  j.out = format_of(problem->args.out.dtype);
  j.weights = weights_format(options->weights_dtype);
  j.u = fmax(j.out.roundoff, j.weights.roundoff);
  j.strict = options->weights_dtype == FOVEA_F32;

  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  while (fv_sequence_next(problem, &cursor, &sequence)) {
    uint32_t bits = fv_sequence_errors(problem, &sequence);
    int64_t step = 1;
    if (options->rows_at_most) step = fv_max(1, fv_ceil_div(sequence.len_q, options->rows_at_most));
    for (int64_t i = options->first_row % step; i < sequence.len_q; i += step) {
      for (int64_t head = 0; head < problem->heads_q; ++head) {
        judge_row(&j, &sequence, i, head, &bits);
      }
    }
    if (errors) errors[sequence.index] |= bits;
  }
  judge_tensor(&j);
}

double fv_largest_difference(const fovea_tensor *a, const fovea_tensor *b) {
  double largest = 0;
  int64_t rows = a->shape[0] * a->shape[1] * a->shape[2];
  for (int64_t row = 0; row < rows; ++row) {
    int64_t head = row % a->shape[2], inner = row / a->shape[2] % a->shape[1];
    int64_t outer = row / a->shape[2] / a->shape[1];
    int64_t from_a = fv_row_offset(a, outer, inner, head);
    int64_t from_b = fv_row_offset(b, outer, inner, head);
    for (int64_t d = 0; d < a->shape[3]; ++d) {
      double x = fv_load(a->dtype, a->data, from_a + d), y = fv_load(b->dtype, b->data, from_b + d);
      if (!(fabs(x - y) <= largest)) largest = fabs(x - y);
    }
  }
  return largest;
}

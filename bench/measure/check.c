/* check.c - see check.h.
 *
 * The allowance. Let |q|, |k|, |v| <= 1, and let u = 2^-24 be the unit roundoff of f32. A sum of n
 * products of random numbers is off by at most 8 sqrt(n) u times the sum of their sizes. The
 * probability of more is below 2 n exp(-32) (Higham and Mary, SIAM J. Sci. Comput. 41, 2019, lambda
 * = 8). The worst case, n u, would be as large as the results themselves at 16384 keys. So
 *
 *   a logit, dim products of size 1 times 1 / sqrt(dim), is off by at most 8 dim u;
 *   a weight is exp(logit - maximum) / sum. An error e in each logit changes it by a factor within
 *   exp(+-2 e), through itself and through the sum; the polynomial of exp is right to 4 u;
 *   the sums of len_kv weights and of their products are off by 8 sqrt(len_kv) u each;
 *   |out| <= 1, as weights sum to 1 and |v| <= 1.
 *
 * One result is off by at most 16 dim u + 16 sqrt(len_kv) u + 16 u, and two are apart by at most
 * twice that. 16-bit inputs are exact in f32. A 16-bit result is rounded once, on both sides, and
 * fovea may round probabilities to the type as well.
 *
 * Additive scores. A logit sums dim products of a tanh with an entry of the score vector, of size
 * at most 1 / sqrt(dim): the same sizes. Each tanh is off by at most 8 u on either side. The logit
 * is thus off by 8 sqrt(dim) u more, and a result by twice that.
 *
 * Scores in the tensors' dtype, of unit roundoff r. A logit is a sum of dim independent products of
 * mean 0 and size at most 1, divided by sqrt(dim). It exceeds 8 with a probability below 2 exp(-32)
 * (Hoeffding 1963). The logit is stored before the exponential and the weight after it. So a logit
 * is off by 8 r, and a weight by a factor of 1 +- (16 r + r).
 *
 * Typically. Results are sums of weights times values. Let weight j be off by a factor of 1 + d_j,
 * and values be independent of that with mean 0. Then the mean square of the error is that of the
 * result times at most that of d. A uniform logit product has the mean square 1 / 9, so the logit's
 * is 1 / 3. Of d that is r / 3 for the score, r for the weight on either side, and r for the result
 * on either side: at most 4.4 r. The f32 errors above, on both sides, are added.
 *
 * Layers. Projections make of uniform tokens sums of model products of variance 1 / (3 model): of
 * the tokens' size. The n additions of such a sum are off by at most u times a partial sum each,
 * and independently: typically by sqrt(n) u of the result. Four projections, on both sides. A step
 * may round its result to the tensors' dtype, of unit roundoff r: q and k, which puts logits, of a
 * typical 1 / 3, off by sqrt(2) r / 3 each and weights by twice that; the weights; v; the joined
 * heads; the result. That makes 4.94 r on either side. A result is a sum of model independent
 * terms, so is its error, and it exceeds 8 times the typical error, of a size below 1, with a
 * probability below 2 exp(-32).
 *
 * Rounded caches. An element is off by at most the step s (q4_0 cuts one end off), typically by
 * s / sqrt(12), which is s / 2 of a uniform element. So are the values, and out with them. A logit
 * is a sum of dim products of a uniform element and such an error, over sqrt(dim): typically s / 6,
 * and it exceeds 8 s with a probability below 2 exp(-32). A weight is off by as much, and by
 * exp(16 s) - 1 at most. Typically that makes (1/2 + 1/6) s; twice that is allowed. */
#include "bench/measure/check.h"

#include <math.h>

#include "csrc/numeric.h"

static double roundoff_of(fovea_dtype dtype) {
  return dtype == FOVEA_F32 ? 0x1p-24 : dtype == FOVEA_F16 ? 0x1p-11 : 0x1p-8;
}

double fv_bench_score_allowance(const fv_bench_problem *problem) {
  return problem->dtype == FOVEA_F32 ? 0 : 17 * roundoff_of(problem->dtype);
}

/* Of one result, apart from its own rounding. */
static double computed_error(const fv_bench_problem *problem) {
  double dim = (double)problem->dim, keys = (double)problem->len_kv;
  double tanhs = problem->kind == FV_BENCH_ADDITIVE ? sqrt(dim) : 0;
  return 16 * (dim + tanhs + sqrt(keys) + 1) * 0x1p-24;
}

static double typical_of_layer(const fv_bench_problem *problem) {
  double projections = 8 * (sqrt((double)fv_bench_model(problem)) + 1) * 0x1p-24;
  return 2 * computed_error(problem) + projections + 2 * 4.94 * roundoff_of(problem->dtype);
}

double fv_bench_typical_allowance(const fv_bench_problem *problem) {
  if (fv_bench_is_layer(problem)) return typical_of_layer(problem);
  return 2 * computed_error(problem) + 4.4 * roundoff_of(problem->dtype);
}

double fv_bench_allowance(const fv_bench_problem *problem) {
  if (fv_bench_is_layer(problem)) return 8 * typical_of_layer(problem);
  double roundoff = roundoff_of(problem->dtype);
  double rounded = roundoff;                            /* half of it on each side, as |out| <= 1 */
  if (problem->dtype != FOVEA_F32) rounded += roundoff; /* of fovea's probabilities */
  return 2 * computed_error(problem) + rounded;
}

double fv_bench_largest_rounding(double step) {
  return step + expm1(16 * step);
}

double fv_bench_typical_rounding(double step) {
  return step * 4 / 3;
}

static double value_at(const void *data, int64_t index, fovea_dtype dtype) {
  if (dtype == FOVEA_F32) return ((const float *)data)[index];
  uint16_t code = ((const uint16_t *)data)[index];
  return dtype == FOVEA_F16 ? fv_f16_to_f32(code) : fv_bf16_to_f32(code);
}

double fv_bench_distance(const void *a, const void *b, int64_t count, fovea_dtype dtype) {
  double most = 0;
  for (int64_t i = 0; i < count; ++i) {
    double apart = fabs(value_at(a, i, dtype) - value_at(b, i, dtype));
    if (!(apart <= most)) most = apart;
    if (isnan(apart)) return INFINITY;
  }
  return most;
}

double fv_bench_typical_distance(const void *expected, const void *got, int64_t count,
                                 fovea_dtype dtype) {
  double apart = 0, size = 0;
  for (int64_t i = 0; i < count; ++i) {
    double x = value_at(expected, i, dtype), y = value_at(got, i, dtype);
    apart += (x - y) * (x - y);
    size += x * x;
  }
  if (isnan(apart)) return INFINITY;
  return apart > 0 ? sqrt(apart / size) : 0;
}

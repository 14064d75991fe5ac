/* bench_check.c - see bench_check.h.
 *
 * The allowance. With |q|, |k|, |v| <= 1 and u = 2^-24, the unit roundoff of f32:
 *
 *   a logit is a sum of dim products, at most dim in size, times 1 / sqrt(dim), rounded some dim +
 *   4 times (scaling by log2e and conversion of the base among them): off by at most
 *   (dim + 4) u sqrt(dim);
 *   a weight is exp(logit - maximum) / sum. An error e in each logit changes it by a factor within
 *   exp(+-2 e) through itself and the maximum, which cancels, and through the sum; the polynomial of
 *   exp is right to 4 u; the sums of len_kv weights and products are off by len_kv u each;
 *   |out| <= 1, as weights sum to 1 and |v| <= 1.
 *
 * So one result is off by at most 2 (dim + 4) u sqrt(dim) + 2 (len_kv + 8) u, and two are apart by
 * twice that. 16-bit inputs are exact in f32; of 16-bit types the result is rounded once, on both
 * sides, and fovea may round probabilities to the type as well. That is a worst case; results are smaller by far, but so are the errors, and what a bench must not do is
 * to time a pipeline that leaves out a mask, a head or a key block, which is off by 0.01 to 1. */
#include "bench_check.h"

#include <math.h>

#include "../csrc/numeric.h"

double fv_bench_allowance(const fv_bench_problem *problem) {
  double u = 0x1p-24, dim = (double)problem->dim, keys = (double)problem->len_kv;
  double computed = 2 * (dim + 4) * u * sqrt(dim) + 2 * (keys + 8) * u;
  double roundoff = problem->dtype == FOVEA_F32   ? u
                    : problem->dtype == FOVEA_F16 ? 0x1p-11
                                                  : 0x1p-8;
  double rounded = roundoff;                            /* half of it on each side, as |out| <= 1 */
  if (problem->dtype != FOVEA_F32) rounded += roundoff; /* of fovea's probabilities */
  return 2 * computed + rounded;
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

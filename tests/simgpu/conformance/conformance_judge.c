#include <math.h>

#include "tests/simgpu/conformance/conformance.h"

static bool numbers_agree(const struct conform_judge *judge, uint32_t a, uint32_t b) {
  if (a == b) return true;
  double x = number_decode(judge->type, a), y = number_decode(judge->type, b);
  if (isnan(x) || isnan(y)) return isnan(x) && isnan(y);
  if (isinf(x) || isinf(y)) return x == y;
  /* An exact judge tells zeros of different signs apart. */
  if (judge->ulp == 0 && judge->absolute == 0) return false;
  double larger = fmax(fabs(x), fabs(y));
  double unit = larger > 0 ? ldexp(1, ilogb(larger) - number_mantissa_bits(judge->type)) : 0;
  return fabs(x - y) <= judge->ulp * unit + judge->absolute;
}

bool conform_agrees(const struct conform_judge *judge, uint32_t a, uint32_t b) {
  if (judge->type == NUMBER_S32) return a == b;
  int bits = number_bits(judge->type);
  uint32_t mask = bits == 32 ? ~0u : (1u << bits) - 1;
  for (int at = 0; at < 32; at += bits) {
    if (!numbers_agree(judge, a >> at & mask, b >> at & mask)) return false;
  }
  return true;
}

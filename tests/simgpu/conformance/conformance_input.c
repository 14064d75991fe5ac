/* What the kernels read. The seed comes from the kernel's name, so a new row changes no other. */
#include <string.h>

#include "tests/simgpu/conformance/conformance.h"

static uint32_t next(uint64_t *state) {
  /* A linear congruence with Knuth's multiplier; its upper half is random enough. */
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 32);
}

static uint64_t seed_of(const char *name, int cta) {
  uint64_t seed = 0x9e3779b97f4a7c15u + (uint64_t)cta;
  for (; *name; name++) seed = seed * 1099511628211u ^ (uint8_t)*name;
  return seed;
}

static double uniform(uint64_t *state, double low, double high) {
  return low + (high - low) * next(state) / 4294967296.0;
}

static uint32_t special_word(uint32_t choice) {
  static const uint32_t words[] = {0,  1,  2,          3,          0xff,       0xffff,     0x7fff,
                                   31, 32, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, ~0u};
  return words[choice % (sizeof words / sizeof *words)];
}

/* Zeros, ones, infinities, NaN, the ends of the ranges of f32, f16, e4m3 and s32; ties and
 * subnormals. */
static uint32_t special_float(uint32_t choice) {
  static const uint32_t words[] = {
      0x00000000, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
      0xffc12345, 0x7f7fffff, 0xff7fffff, 0x00800000, 0x807fffff, 0x00000001, 0x3f000000,
      0x3fc00000, 0x40200000, 0xc0200000, 0x477fe000, 0x477ff000, 0x477fefff, 0x43e00000,
      0x43e80000, 0x4f000000, 0xcf000000, 0x4f800000, 0x3f800001, 0x3f801000, 0x3f808000,
      0x33800000, 0x33000000, 0x33000001, 0xb3c00000, 0x47600000, 0x47700000, 0x5f000000};
  return words[choice % (sizeof words / sizeof *words)];
}

static uint32_t ordinary_float(uint64_t *state, uint32_t least, uint32_t count) {
  uint32_t sign = next(state) & 0x80000000, exponent = least + next(state) % count;
  return sign | exponent << 23 | next(state) >> 9;
}

static uint32_t half_word(uint64_t *state) {
  static const uint16_t specials[] = {0x0000, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00,
                                      0x7e00, 0xfe12, 0x7bff, 0x0001, 0x83ff, 0x0400};
  if (next(state) % 4 == 0) return specials[next(state) % (sizeof specials / sizeof *specials)];
  return next(state) >> 16;
}

static uint32_t brain_word(uint64_t *state) {
  if (next(state) % 4 == 0) return special_float(next(state)) >> 16;
  return ordinary_float(state, 115, 24) >> 16;
}

static uint32_t packed(uint64_t *state, enum number type, bool whole) {
  uint32_t word = 0;
  for (int at = 0; at < 32; at += number_bits(type)) {
    bool is_integer = type == NUMBER_S8 || type == NUMBER_U8;
    double value = is_integer ? (double)(next(state) >> 24) - 128 : uniform(state, -1, 1);
    /* e5m2 is exact to 4. */
    if (whole) value = (double)(next(state) % 9) - 4;
    word |= number_encode(type, (long double)value) << at;
  }
  return word;
}

static uint32_t accumulator(uint64_t *state, enum number type, bool whole) {
  if (type == NUMBER_S8 || type == NUMBER_U8) return next(state) >> 8;
  double value = whole ? (double)(next(state) % 9) - 4 : uniform(state, -1, 1);
  return number_encode(NUMBER_F32, (long double)value);
}

static uint32_t product_operand(const struct conform_row *row, int input, uint64_t *state) {
  bool whole = row->source >= FROM_WHOLE;
  enum number type = (enum number)(row->source - (whole ? FROM_WHOLE : FROM_UNIT));
  /* Accumulators of f16 are pairs, like the factors. */
  bool is_factor = input < row->inputs - 4 || row->outputs == 2;
  return is_factor ? packed(state, type, whole) : accumulator(state, type, whole);
}

static uint32_t in_range(uint64_t *state, double low, double high) {
  return number_encode(NUMBER_F32, (long double)uniform(state, low, high));
}

static uint32_t draw(const struct conform_row *row, int input, uint64_t *state) {
  switch (row->source) {
    case FROM_WORDS:
      return next(state) % 4 ? next(state) : special_word(next(state));
    case FROM_FLOATS:
      return next(state) % 4 ? ordinary_float(state, 107, 41) : special_float(next(state));
    case FROM_FINITE:
      return ordinary_float(state, 107, 41);
    case FROM_TINY:
      return ordinary_float(state, 0, 3);
    case FROM_POWERS:
      return in_range(state, -130, 130);
    case FROM_POSITIVE:
      return ordinary_float(state, 2, 250) & 0x7fffffff;
    case FROM_NEAR_ONE:
      return in_range(state, 0.5, 2);
    case FROM_ANGLES:
      return in_range(state, -6.28, 6.28);
    case FROM_HALVES: {
      uint32_t low = half_word(state);
      return low | half_word(state) << 16;
    }
    case FROM_BRAINS: {
      uint32_t low = brain_word(state);
      return low | brain_word(state) << 16;
    }
    default:
      return product_operand(row, input, state);
  }
}

void conform_fill(const struct conform_row *row, int cta, uint32_t (*in)[CONFORM_LANES]) {
  uint64_t state = seed_of(row->name, cta);
  for (int input = 0; input < row->inputs; input++) {
    for (int lane = 0; lane < CONFORM_LANES; lane++) in[input][lane] = draw(row, input, &state);
  }
}

/* The rows of the three tables, each with its definition. The definitions are meant to be read:
 * they follow the PTX manual's text, one lane at a time, and share nothing with the simulator. */
#include <fenv.h>
#include <math.h>
#include <string.h>

#include "tests/simgpu/conformance/conformance.h"

typedef uint32_t u32;
typedef int32_t s32;
typedef uint64_t u64;
typedef int64_t s64;
typedef const u32 (*words_in)[CONFORM_LANES];

static inline float f32(u32 bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
static inline u32 w32(float value) {
  u32 bits;
  memcpy(&bits, &value, 4);
  return bits;
}
static inline long double value_of(u32 bits) {
  return (long double)f32(bits);
}
static inline long double relu_of(u32 bits) {
  return value_of(bits) < 0 ? 0 : value_of(bits);
}
static inline void wide(u32 *out, u64 value) {
  out[0] = (u32)value;
  out[1] = (u32)(value >> 32);
}
static inline s64 clamp(s64 value, s64 low, s64 high) {
  return value < low ? low : value > high ? high : value;
}

static int count_bits(u32 word) {
  int count = 0;
  for (; word; word >>= 1) count += word & 1;
  return count;
}
/* -1 if no bit is set. */
static int highest_bit(u32 word) {
  int bit = -1;
  for (; word; word >>= 1) bit++;
  return bit;
}
static u32 reversed(u32 word) {
  u32 result = 0;
  for (int i = 0; i < 32; i++) result |= (word >> i & 1) << (31 - i);
  return result;
}
/* Each byte of the result is one of the eight, or its sign. */
static u32 permuted(u32 a, u32 b, u32 selector) {
  u32 result = 0;
  for (int i = 0; i < 4; i++) {
    u32 choice = selector >> 4 * i & 15, byte = choice & 7;
    u32 value = (byte < 4 ? a >> 8 * byte : b >> 8 * (byte - 4)) & 0xff;
    if (choice & 8) value = value & 0x80 ? 0xff : 0;
    result |= value << 8 * i;
  }
  return result;
}
static u32 extracted(u32 a, u32 position, u32 length, int is_signed) {
  u32 top = position + length - 1 > 31 ? 31 : position + length - 1, result = 0;
  u32 sign = is_signed && length ? a >> top & 1 : 0;
  for (u32 i = 0; i < 32; i++) {
    bool inside = i < length && position + i < 32;
    result |= (inside ? a >> (position + i) & 1 : sign) << i;
  }
  return result;
}
static u32 inserted(u32 a, u32 b, u32 position, u32 length) {
  for (u32 i = 0; i < length && position + i < 32; i++) {
    u32 bit = 1u << (position + i);
    b = a >> i & 1 ? b | bit : b & ~bit;
  }
  return b;
}

static inline float flushed(float value) {
  return fabsf(value) < 0x1p-126f ? copysignf(0, value) : value;
}
static inline double saturated_double(double value) {
  return isnan(value) || value <= 0 ? 0 : value > 1 ? 1 : value;
}
static inline float saturated(float value) {
  return (float)saturated_double((double)value);
}
/* A NaN is never the result if the other is a number; -0 is less than +0. */
static inline double lesser_double(double x, double y) {
  if (isnan(x)) return y;
  if (isnan(y)) return x;
  if (x == y) return signbit(x) ? x : y;
  return x < y ? x : y;
}
static inline float lesser(float x, float y) {
  return (float)lesser_double((double)x, (double)y);
}
static inline u32 positive(u32 code, u32 infinity) {
  return (code & 0x8000) && (code & 0x7fff) <= infinity ? 0 : code;
}
/* Uses the processor's rounding mode. volatile: nothing is computed before the mode is set. */
static float fma_rounded(float x, float y, float z, int mode) {
  volatile float a = x, b = y, c = z;
  int before = fegetround();
  fesetround(mode);
  volatile float result = fmaf(a, b, c);
  fesetround(before);
  return result;
}
static float rounded(double value, int mode) {
  volatile double exact = value;
  int before = fegetround();
  fesetround(mode);
  volatile float result = (float)exact;
  fesetround(before);
  return result;
}
/* cvt to an integer: NaN becomes 0, and a value out of range the nearest limit. */
static s64 whole(double value, s64 low, s64 high) {
  if (isnan(value)) return 0;
  return value <= (double)low ? low : value >= (double)high ? high : (s64)value;
}
static u32 pair_sum(enum number type, u32 a, u32 b) {
  u32 sum = 0;
  for (int at = 0; at < 32; at += 16) {
    double x = number_decode(type, a >> at & 0xffff), y = number_decode(type, b >> at & 0xffff);
    sum |= number_fma(type, x, 1, y) << at;
  }
  return sum;
}

/* The manual's description of shfl: leaves the source lane in *source, returns the predicate. */
static bool shuffle_source(char mode, u32 l, u32 b, u32 bound, u32 *source) {
  s32 lane = (s32)l, step = (s32)b, clamp_lane = bound & 31, segment = bound >> 8 & 31;
  s32 most = (lane & segment) | (clamp_lane & ~segment), least = lane & segment;
  s32 j = mode == 'u'   ? lane - step
          : mode == 'd' ? lane + step
          : mode == 'b' ? lane ^ step
                        : least | (step & ~segment);
  bool inside = mode == 'u' ? j >= most : j <= most;
  *source = (u32)(inside ? j : lane);
  return inside;
}

static u32 half_at(words_in in, u32 row, u32 column) {
  return in[column / 2][row] >> column % 2 * 16 & 0xffff;
}
/* Lane l holds row l / 4, columns 2 (l % 4) and the next; if turned, of the transposed matrix. */
static u32 fragment(words_in in, u32 matrix, u32 l, int turned) {
  u32 result = 0;
  for (u32 i = 0; i < 2; i++) {
    u32 row = l / 4, column = l % 4 * 2 + i;
    result |= half_at(in, 8 * matrix + (turned ? column : row), turned ? row : column) << 16 * i;
  }
  return result;
}
/* One element of a matrix that is spread over the lanes. */
static u32 spread_half(const u32 *words, u32 row, u32 column) {
  return words[row * 4 + column / 2] >> column % 2 * 16 & 0xffff;
}
static u32 turned_fragment(const u32 *words, u32 l) {
  u32 column = l / 4, row = l % 4 * 2;
  return spread_half(words, row, column) | spread_half(words, row + 1, column) << 16;
}
static u32 stored_word(const u32 *words, u32 row, u32 word, int turned) {
  u32 result = 0;
  for (u32 i = 0; i < 2; i++) {
    u32 column = 2 * word + i;
    result |= (turned ? spread_half(words, column, row) : spread_half(words, row, column))
              << 16 * i;
  }
  return result;
}

/* Element (row, k) of A: register 2 (k's half) + (row's half) of lane 4 (row % 8) + k's group. */
static double element_a(words_in in, enum number type, u32 row, u32 k) {
  u32 each = 32 / (u32)number_bits(type), group = k / each;
  u32 word = in[group / 4 * 2 + row / 8][row % 8 * 4 + group % 4];
  return number_decode(type, word >> k % each * (u32)number_bits(type));
}
static double element_b(words_in in, enum number type, u32 k, u32 column) {
  u32 each = 32 / (u32)number_bits(type), group = k / each;
  u32 word = in[group / 4][column * 4 + group % 4];
  return number_decode(type, word >> k % each * (u32)number_bits(type));
}
static double sum_of_products(words_in in, u32 row, u32 column, u32 k_count, enum number type_a,
                              enum number type_b) {
  u32 registers_a = k_count * (u32)number_bits(type_a) / 64;
  double sum = 0;
  for (u32 k = 0; k < k_count; k++) {
    sum += element_a(in, type_a, row, k) * element_b(in + registers_a, type_b, k, column);
  }
  return sum;
}
static void product(words_in in, u32 *out, u32 l, u32 k_count, enum number type_a,
                    enum number type_b) {
  u32 factors = 3 * k_count * (u32)number_bits(type_a) / 128;
  bool is_integer = type_a == NUMBER_S8 || type_a == NUMBER_U8;
  enum number type = is_integer ? NUMBER_S32 : NUMBER_F32;
  for (u32 r = 0; r < 4; r++) {
    double sum = number_decode(type, in[factors + r][l]);
    sum += sum_of_products(in, l / 4 + r / 2 * 8, l % 4 * 2 + r % 2, k_count, type_a, type_b);
    out[r] = is_integer ? (u32)(s32)sum : number_encode(NUMBER_F32, (long double)sum);
  }
}
static void half_product(words_in in, u32 *out, u32 l, u32 k_count) {
  u32 factors = 3 * k_count / 8;
  for (u32 r = 0; r < 2; r++) {
    out[r] = 0;
    for (u32 i = 0; i < 2; i++) {
      double sum = number_decode(NUMBER_F16, in[factors + r][l] >> 16 * i & 0xffff);
      sum += sum_of_products(in, l / 4 + 8 * r, l % 4 * 2 + i, k_count, NUMBER_F16, NUMBER_F16);
      out[r] |= number_encode(NUMBER_F16, (long double)sum) << 16 * i;
    }
  }
}

#define CONFORM(name, sm, inputs, outputs, source, judge, text, ...)                  \
  static void define_##name(words_in in, u32(*all)[CONFORM_LANES], u32 cta) {         \
    for (u32 l = 0; l < CONFORM_LANES; l++) {                                         \
      u32 out[CONFORM_OUTPUTS_MAX] = {0};                                             \
      u32 a = in[0][l], b = inputs > 1 ? in[1][l] : 0, c = inputs > 2 ? in[2][l] : 0, \
          d = inputs > 3 ? in[3][l] : 0;                                              \
      (void)a, (void)b, (void)c, (void)d, (void)cta;                                  \
      __VA_ARGS__                                                                     \
      for (int o = 0; o < outputs; o++) all[o][l] = out[o];                           \
    }                                                                                 \
  }
#include "tests/simgpu/conformance/conformance_arithmetic.def"
#include "tests/simgpu/conformance/conformance_convert.def"
#include "tests/simgpu/conformance/conformance_warp.def"
#undef CONFORM

/* The parentheses keep a judge one argument on its way through the tables' macros. */
#define BITS (NUMBER_S32, 0, 0)
#define F32 (NUMBER_F32, 0, 0)
#define EXACT(type) (type, 0, 0)
#define WITHIN(type, ulp, absolute) (type, ulp, absolute)
#define JUDGE(type, ulp, absolute) \
  { type, ulp, absolute }
#define CONFORM(name, sm, inputs, outputs, source, judge, text, ...) \
  {#name, sm, inputs, outputs, source, JUDGE judge, text, define_##name},
const struct conform_row conform_rows[] = {
#include "tests/simgpu/conformance/conformance_arithmetic.def"
#include "tests/simgpu/conformance/conformance_convert.def"
#include "tests/simgpu/conformance/conformance_warp.def"
};
const size_t conform_row_count = sizeof conform_rows / sizeof *conform_rows;

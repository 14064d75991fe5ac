// The storage formats against their definition. ldexp builds the value of a code in binary64. The
// right code for x is found among all values by comparing x with the midpoints of neighbours. Both
// are exact, because two neighbouring values need at most 12 bits together.
//
// The oracle shares nothing with numeric.c: it has no bit patterns of the source, and no shifts.
#include "csrc/numeric.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

struct Format {
  std::string name;
  int bits;
  int mantissa_bits;
  int bias;
  bool has_infinity;
  bool saturates;
  unsigned nan;
  double largest;
  float (*widen)(unsigned);
  unsigned (*from_f32)(float);
  unsigned (*from_f64)(double);

  unsigned sign() const { return 1u << (bits - 1); }
  unsigned codes() const { return 1u << bits; }
  unsigned exponent_of(unsigned code) const { return (code & (sign() - 1)) >> mantissa_bits; }
  unsigned mantissa_of(unsigned code) const { return code & ((1u << mantissa_bits) - 1); }

  bool top_exponent(unsigned code) const {
    return exponent_of(code) == (sign() - 1) >> mantissa_bits;
  }
  bool is_infinity(unsigned code) const {
    return has_infinity && top_exponent(code) && mantissa_of(code) == 0;
  }
  bool is_nan(unsigned code) const {
    if (has_infinity) return top_exponent(code) && mantissa_of(code) != 0;
    return (code & (sign() - 1)) == sign() - 1;
  }

  // The definition of a code that is neither infinity nor NaN.
  double value(unsigned code) const {
    int exponent = static_cast<int>(exponent_of(code));
    double fraction = std::ldexp(mantissa_of(code), -mantissa_bits);
    double magnitude =
        exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
    return code & sign() ? -magnitude : magnitude;
  }
};

const Format &f16() {
  static const Format f = {"f16",
                           16,
                           10,
                           15,
                           true,
                           false,
                           0x7fff,
                           65504,
                           [](unsigned c) { return fv_f16_to_f32(static_cast<uint16_t>(c)); },
                           [](float x) { return static_cast<unsigned>(fv_f16_from_f32(x)); },
                           [](double x) { return static_cast<unsigned>(fv_f16_from_f64(x)); }};
  return f;
}

const Format &bf16() {
  static const Format f = {"bf16",
                           16,
                           7,
                           127,
                           true,
                           false,
                           0x7fff,
                           std::ldexp(255, 120),
                           [](unsigned c) { return fv_bf16_to_f32(static_cast<uint16_t>(c)); },
                           [](float x) { return static_cast<unsigned>(fv_bf16_from_f32(x)); },
                           [](double x) { return static_cast<unsigned>(fv_bf16_from_f64(x)); }};
  return f;
}

const Format &e4m3() {
  static const Format f = {"e4m3",
                           8,
                           3,
                           7,
                           false,
                           true,
                           0x7f,
                           448,
                           [](unsigned c) { return fv_e4m3_to_f32(static_cast<uint8_t>(c)); },
                           [](float x) { return static_cast<unsigned>(fv_e4m3_from_f32(x)); },
                           [](double x) { return static_cast<unsigned>(fv_e4m3_from_f64(x)); }};
  return f;
}

const Format &e5m2() {
  static const Format f = {"e5m2",
                           8,
                           2,
                           15,
                           true,
                           true,
                           0x7f,
                           57344,
                           [](unsigned c) { return fv_e5m2_to_f32(static_cast<uint8_t>(c)); },
                           [](float x) { return static_cast<unsigned>(fv_e5m2_from_f32(x)); },
                           [](double x) { return static_cast<unsigned>(fv_e5m2_from_f64(x)); }};
  return f;
}

uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

float f32_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

double f64_of(uint64_t bits) {
  double x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// All finite magnitudes in ascending order. The index is the code.
std::vector<double> magnitudes(const Format &f) {
  std::vector<double> list;
  for (unsigned code = 0; code < f.sign() && !f.is_infinity(code) && !f.is_nan(code); code++) {
    list.push_back(f.value(code));
  }
  return list;
}

// The midpoint between code and code + 1. IEEE 754 defines overflow as if the format went on, so
// the largest value has a successor one step above it.
double midpoint_above(const std::vector<double> &list, unsigned code) {
  double step = code + 1 < list.size() ? list[code + 1] - list[code] : list[code] - list[code - 1];
  return list[code] + step / 2;
}

class Oracle {
 public:
  explicit Oracle(const Format &format) : format_(format), list_(magnitudes(format)) {
    for (unsigned code = 0; code < list_.size(); code++) {
      midpoints_.push_back(midpoint_above(list_, code));
    }
  }

  const std::vector<double> &list() const { return list_; }

  unsigned largest() const { return static_cast<unsigned>(list_.size()) - 1; }

  unsigned code(double x) const {
    if (std::isnan(x)) return format_.nan;
    double magnitude = std::fabs(x);
    // Takes the first code whose upper midpoint is not below x. A tie goes up if the code is odd.
    auto at = std::lower_bound(midpoints_.begin(), midpoints_.end(), magnitude);
    unsigned code = static_cast<unsigned>(at - midpoints_.begin());
    if (at != midpoints_.end() && *at == magnitude && code % 2 == 1) code++;
    if (code > largest()) code = format_.saturates ? largest() : largest() + 1;
    return std::signbit(x) ? code | format_.sign() : code;
  }

 private:
  const Format &format_;
  std::vector<double> list_;
  std::vector<double> midpoints_;
};

int i8_oracle(double x) {
  if (std::isnan(x)) return 0;
  return static_cast<int>(std::nearbyint(std::fmin(std::fmax(x, -128), 127)));
}

class StorageFormat : public ::testing::TestWithParam<const Format *> {
 protected:
  const Format &f = *GetParam();
  const Oracle oracle{*GetParam()};

  void expect_code(double x, unsigned expected) const {
    EXPECT_EQ(f.from_f64(x), expected) << f.name << " from f64 " << std::hexfloat << x;
    if (static_cast<double>(static_cast<float>(x)) != x) return;
    EXPECT_EQ(f.from_f32(static_cast<float>(x)), expected) << f.name << " from f32 " << x;
  }
};

INSTANTIATE_TEST_SUITE_P(Numeric, StorageFormat,
                         ::testing::Values(&f16(), &bf16(), &e4m3(), &e5m2()),
                         [](const auto &info) { return info.param->name; });

TEST_P(StorageFormat, LargestValueIsTheOneInTheStandard) {
  EXPECT_EQ(oracle.list().back(), f.largest);
}

TEST_P(StorageFormat, WidensEveryCodeToItsDefinedValue) {
  for (unsigned code = 0; code < f.codes(); code++) {
    float got = f.widen(code);
    if (f.is_nan(code)) {
      EXPECT_TRUE(std::isnan(got)) << code;
    } else if (f.is_infinity(code)) {
      EXPECT_EQ(got, code & f.sign() ? -INFINITY : INFINITY) << code;
    } else {
      EXPECT_EQ(static_cast<double>(got), f.value(code)) << code;
    }
    EXPECT_TRUE(f.is_nan(code) || std::signbit(got) == ((code & f.sign()) != 0)) << code;
  }
}

TEST_P(StorageFormat, GivesEveryFiniteCodeBackUnchanged) {
  for (unsigned code = 0; code < f.codes(); code++) {
    if (f.is_nan(code) || f.is_infinity(code)) continue;
    EXPECT_EQ(f.from_f32(f.widen(code)), code);
    EXPECT_EQ(f.from_f64(f.widen(code)), code);
  }
}

TEST_P(StorageFormat, GivesTheCanonicalNanForEveryNanCode) {
  int seen = 0;
  for (unsigned code = 0; code < f.codes(); code++) {
    if (!f.is_nan(code)) continue;
    seen++;
    EXPECT_EQ(f.from_f32(f.widen(code)), f.nan) << code;
    EXPECT_EQ(f.from_f64(f.widen(code)), f.nan) << code;
  }
  EXPECT_GE(seen, 2);
}

TEST_P(StorageFormat, TurnsEveryKindOfNanIntoTheCanonicalOne) {
  for (uint32_t payload : {1u, 0x1fffu, 0x2000u, 0x3fffffu, 0x400000u, 0x400001u, 0x7fffffu}) {
    for (uint32_t sign : {0u, 0x80000000u}) {
      EXPECT_EQ(f.from_f32(f32_of(sign | 0x7f800000u | payload)), f.nan) << payload;
      uint64_t low = static_cast<uint64_t>(sign) << 32 | UINT64_C(0x7ff0000000000000) | payload;
      EXPECT_EQ(f.from_f64(f64_of(low)), f.nan) << payload;
      EXPECT_EQ(f.from_f64(f64_of(low ^ static_cast<uint64_t>(payload) << 29 ^ payload)), f.nan);
    }
  }
}

TEST_P(StorageFormat, SendsInfinityWhereOverflowGoes) {
  unsigned expected = f.saturates ? oracle.largest() : oracle.largest() + 1;
  EXPECT_EQ(f.is_infinity(expected), !f.saturates);
  for (double x : {static_cast<double>(INFINITY), std::ldexp(1, 1000), f.largest * 2}) {
    expect_code(x, expected);
    expect_code(-x, expected | f.sign());
  }
}

TEST_P(StorageFormat, RoundsMidpointsToTheEvenCodeAndTheirNeighboursToTheNearest) {
  unsigned beyond = f.saturates ? oracle.largest() : oracle.largest() + 1;
  for (unsigned code = 0; code <= oracle.largest(); code++) {
    double middle = midpoint_above(oracle.list(), code);
    unsigned above = code == oracle.largest() ? beyond : code + 1;
    unsigned tie = code % 2 == 0 ? code : above;
    ASSERT_EQ(static_cast<double>(static_cast<float>(middle)), middle);
    float middle_f32 = static_cast<float>(middle);
    for (unsigned sign : {0u, f.sign()}) {
      double s = sign ? -1 : 1;
      expect_code(s * middle, tie | sign);
      expect_code(s * std::nextafter(middle, 0), code | sign);
      expect_code(s * std::nextafter(middle, INFINITY), above | sign);
      expect_code(s * static_cast<double>(std::nextafterf(middle_f32, 0)), code | sign);
      expect_code(s * static_cast<double>(std::nextafterf(middle_f32, INFINITY)), above | sign);
    }
  }
}

TEST_P(StorageFormat, KeepsValuesThatAreJustBesideARepresentableOne) {
  for (unsigned code = 1; code <= oracle.largest(); code++) {
    double value = oracle.list()[code];
    for (double x : {std::nextafter(value, 0), value, std::nextafter(value, INFINITY)}) {
      expect_code(x, code);
      expect_code(-x, code | f.sign());
    }
  }
}

TEST_P(StorageFormat, KeepsTheSignOfWhateverRoundsToZero) {
  double half_of_smallest = oracle.list()[1] / 2;
  double smallest_f64 = std::numeric_limits<double>::denorm_min();
  for (double x :
       {0.0, smallest_f64, std::ldexp(1, -1022), std::ldexp(1, -200), half_of_smallest}) {
    expect_code(x, 0);
    expect_code(-x, f.sign());
  }
}

TEST_P(StorageFormat, RoundsBinary64Once) {
  // Each x lies above a midpoint by less than binary32 can hold. Rounded to binary32 it is the
  // midpoint, and the tie goes down to an even code.
  for (unsigned code = 2; code < oracle.largest(); code += 2) {
    double x = midpoint_above(oracle.list(), code) * (1 + std::ldexp(1, -40));
    EXPECT_EQ(f.from_f64(x), code + 1) << std::hexfloat << x;
    EXPECT_EQ(f.from_f32(static_cast<float>(x)), code) << std::hexfloat << x;
  }
}

TEST_P(StorageFormat, AgreesWithTheDefinitionOnRandomBinary64Patterns) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 400000; i++) {
    // Half have any bits, half have an exponent near the range of the format.
    double x = f64_of(random());
    if (i % 2) {
      x = std::ldexp(static_cast<double>(random()), -64 - f.bias - 12 + i % (2 * f.bias + 20));
    }
    ASSERT_EQ(f.from_f64(x), oracle.code(x)) << std::hexfloat << x;
  }
}

TEST_P(StorageFormat, IsMonotonicInBinary64) {
  std::mt19937_64 random(2);
  std::vector<double> xs(200000);
  for (double &x : xs) {
    x = std::ldexp(static_cast<double>(random()), -64 + static_cast<int>(random() % 40) - 20);
  }
  std::sort(xs.begin(), xs.end());
  unsigned last = 0;
  for (double x : xs) {
    unsigned code = f.from_f64(x);
    ASSERT_GE(code, last) << std::hexfloat << x;
    last = code;
  }
}

// Walks binary32 upwards with the oracle's code as a cursor, which moves up when x passes the
// midpoint above it. So one comparison per value proves both value and monotonicity.
void sweep_f32(const Format &f, const Oracle &oracle, uint32_t step) {
  unsigned beyond = f.saturates ? oracle.largest() : oracle.largest() + 1;
  unsigned code = 0;
  double middle = midpoint_above(oracle.list(), 0);
  for (uint64_t bits = 0; bits <= 0x7f800000u; bits += step) {
    float x = f32_of(static_cast<uint32_t>(bits));
    double wide = static_cast<double>(x);
    while (code <= oracle.largest() && (wide > middle || (wide == middle && code % 2 == 1))) {
      code++;
      if (code <= oracle.largest()) middle = midpoint_above(oracle.list(), code);
    }
    unsigned expected = std::min(code, beyond);
    ASSERT_EQ(f.from_f32(x), expected) << std::hexfloat << x;
    ASSERT_EQ(f.from_f32(-x), expected | f.sign()) << std::hexfloat << x;
  }
  for (uint64_t bits = 0x7f800001u; bits < 0x80000000u; bits += step) {
    ASSERT_EQ(f.from_f32(f32_of(static_cast<uint32_t>(bits))), f.nan) << bits;
    ASSERT_EQ(f.from_f32(f32_of(static_cast<uint32_t>(bits) | 0x80000000u)), f.nan) << bits;
  }
}

TEST_P(StorageFormat, AgreesWithTheDefinitionOnEvery1021stBinary32) {
  sweep_f32(f, oracle, 1021);
}

// All 2^32 take about a minute per format, so it runs on demand (--gtest_also_run_disabled_tests).
TEST_P(StorageFormat, DISABLED_AgreesWithTheDefinitionOnEveryBinary32) {
  sweep_f32(f, oracle, 1);
}

// The modes that a thread may have changed. They must not change the value of any conversion.
class OtherArithmetic {
 public:
  explicit OtherArithmetic(int rounding) {
    std::fegetenv(&saved_);
    std::fesetround(rounding);
#if defined(__x86_64__)
    _mm_setcsr(_mm_getcsr() | 0x8040);  // flush to zero, denormals are zero
#endif
  }
  ~OtherArithmetic() {
    std::fesetenv(&saved_);
  }

 private:
  std::fenv_t saved_;
};

TEST_P(StorageFormat, IgnoresRoundingModeAndFlushToZero) {
  std::vector<uint32_t> inputs;
  for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 65521) {
    inputs.push_back(static_cast<uint32_t>(bits));
  }
  std::vector<uint32_t> expected;
  for (uint32_t bits : inputs) expected.push_back(oracle.code(f32_of(bits)));
  for (unsigned code = 0; code < f.codes(); code++) expected.push_back(bits_of(f.widen(code)));
  for (int rounding : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::vector<uint32_t> got;
    {
      OtherArithmetic scope(rounding);
      for (uint32_t bits : inputs) got.push_back(f.from_f32(f32_of(bits)));
      for (unsigned code = 0; code < f.codes(); code++) got.push_back(bits_of(f.widen(code)));
    }
    EXPECT_EQ(got, expected) << rounding;
  }
}

TEST(Int8, WidensEveryCode) {
  for (int code = -128; code <= 127; code++) {
    EXPECT_EQ(fv_i8_to_f32(static_cast<int8_t>(code)), static_cast<float>(code));
    EXPECT_EQ(fv_i8_from_f32(fv_i8_to_f32(static_cast<int8_t>(code))), code);
  }
}

TEST(Int8, RoundsHalvesToTheEvenInteger) {
  for (int n = -128; n < 127; n++) {
    float middle = static_cast<float>(n) + 0.5f;
    EXPECT_EQ(fv_i8_from_f32(middle), n % 2 == 0 ? n : n + 1) << middle;
    EXPECT_EQ(fv_i8_from_f32(std::nextafterf(middle, -INFINITY)), n) << middle;
    EXPECT_EQ(fv_i8_from_f32(std::nextafterf(middle, INFINITY)), n + 1) << middle;
  }
}

TEST(Int8, ClampsAndMapsNanToZero) {
  EXPECT_EQ(fv_i8_from_f32(127.5f), 127);
  EXPECT_EQ(fv_i8_from_f32(128.0f), 127);
  EXPECT_EQ(fv_i8_from_f32(-128.5f), -128);
  EXPECT_EQ(fv_i8_from_f32(-129.0f), -128);
  EXPECT_EQ(fv_i8_from_f32(-255.9f), -128);
  EXPECT_EQ(fv_i8_from_f32(256.0f), 127);
  EXPECT_EQ(fv_i8_from_f32(std::numeric_limits<float>::max()), 127);
  EXPECT_EQ(fv_i8_from_f32(INFINITY), 127);
  EXPECT_EQ(fv_i8_from_f32(-INFINITY), -128);
  EXPECT_EQ(fv_i8_from_f32(f32_of(0x7f800001u)), 0);
  EXPECT_EQ(fv_i8_from_f32(f32_of(0xffffffffu)), 0);
}

void sweep_i8(uint32_t step) {
  for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += step) {
    float x = f32_of(static_cast<uint32_t>(bits));
    ASSERT_EQ(fv_i8_from_f32(x), i8_oracle(x)) << std::hexfloat << x;
  }
}

TEST(Int8, AgreesWithTheDefinitionOnEvery1021stBinary32) {
  sweep_i8(1021);
}

TEST(Int8, DISABLED_AgreesWithTheDefinitionOnEveryBinary32) {
  sweep_i8(1);
}

#if defined(__x86_64__)
// A second opinion on f16, from silicon.
__attribute__((target("f16c"))) unsigned hardware_f16(float x) {
  return _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT);
}

__attribute__((target("f16c"))) float hardware_f32(unsigned code) {
  return _cvtsh_ss(static_cast<unsigned short>(code));
}

TEST(Float16, AgreesWithTheProcessorsOwnConversion) {
  // clang 14 can't ask for F16C, but every processor with AVX2 has it.
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "this processor has no F16C";
  for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 251) {
    float x = f32_of(static_cast<uint32_t>(bits));
    if (std::isnan(x)) continue;  // the processor keeps payloads
    ASSERT_EQ(fv_f16_from_f32(x), hardware_f16(x)) << std::hexfloat << x;
  }
  for (unsigned code = 0; code < 0x10000; code++) {
    if (f16().is_nan(code)) continue;
    ASSERT_EQ(bits_of(fv_f16_to_f32(static_cast<uint16_t>(code))), bits_of(hardware_f32(code)));
  }
}
#endif

}  // namespace

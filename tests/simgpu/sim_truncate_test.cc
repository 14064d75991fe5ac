// How mma.sync adds products of 16-bit floats to f32 accumulators: as tensor cores do, which cut
// off what lies too far below the largest addend. Cases worked out by hand, and random ones against
// integers of 64 bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>

#include "tests/simgpu/sim_vector.h"

using namespace simgpu;
using u16 = uint16_t;
using u32 = uint32_t;

namespace {

u32 bits(float value) {
  u32 word;
  memcpy(&word, &value, 4);
  return word;
}

// A power of two, or a number with few bits, in 16 bits. The test's numbers are exact.
u16 encode(double value, bool is_half) {
  if (!is_half) return static_cast<u16>(bits(static_cast<float>(value)) >> 16);
  const u16 sign = std::signbit(value) ? 0x8000 : 0;
  if (value == 0) return sign;
  if (std::isinf(value)) return sign | 0x7c00;
  const int exponent = std::max(std::ilogb(value), -14);
  const auto units = static_cast<u16>(std::ldexp(std::fabs(value), 10 - exponent));
  const u16 field = units < 1024 ? 0 : static_cast<u16>(exponent + 15);
  return static_cast<u16>(sign | field << 10 | (units & 1023));
}

// One product of matrices, all bits: D = A B + C.
struct Matrices {
  std::array<std::array<u16, 16>, 16> a{};
  std::array<std::array<u16, 8>, 16> b{};
  std::array<std::array<u32, 8>, 16> c{};
};
using Result = std::array<std::array<u32, 8>, 16>;

class SimgpuTruncation : public testing::Test {
 protected:
  ~SimgpuTruncation() override { choose("sm_80"); }
  void choose(const char *form) {
    ASSERT_TRUE(Gpu::instance().function<int (*)(const char *)>("simgpu_set_mma")(form)) << form;
  }

  // `k` is 8 or 16: an instruction takes that many columns of A.
  static Result multiply(const Matrices &in, bool is_half, int k = 16) {
    std::vector<u32> words;
    for (int r = 0; r < k / 4; r++) {
      for (int lane = 0; lane < 32; lane++) {
        const auto &row = in.a[lane / 4 + 8 * (r % 2)];
        const int column = lane % 4 * 2 + 8 * (r / 2);
        words.push_back(row[column] | u32{row[column + 1]} << 16);
      }
    }
    for (int r = 0; r < k / 8; r++) {
      for (int lane = 0; lane < 32; lane++) {
        const int row = lane % 4 * 2 + 8 * r;
        words.push_back(in.b[row][lane / 4] | u32{in.b[row + 1][lane / 4]} << 16);
      }
    }
    for (int r = 0; r < 4; r++) {
      for (int lane = 0; lane < 32; lane++) {
        words.push_back(in.c[lane / 4 + 8 * (r / 2)][lane % 4 * 2 + r % 2]);
      }
    }
    const std::string type = is_half ? "f16" : "bf16";
    const std::string operands = k == 16 ? "{%r0, %r1, %r2, %r3}, {%r4, %r5}, {%r6, %r7, %r8, %r9}"
                                         : "{%r0, %r1}, {%r2}, {%r3, %r4, %r5, %r6}";
    const std::vector<u32> out =
        run_warp_body("mma.sync.aligned.m16n8k" + std::to_string(k) + ".row.col.f32." + type + "." +
                          type + ".f32 {%o0, %o1, %o2, %o3}, " + operands + ";",
                      k == 16 ? 10 : 7, 4, words);
    Result d;
    for (int r = 0; r < 4; r++) {
      for (int lane = 0; lane < 32; lane++) {
        d[lane / 4 + 8 * (r / 2)][lane % 4 * 2 + r % 2] = out[r * 32 + lane];
      }
    }
    return d;
  }

  // c and the products of a[k] and 2^scale, in one element. The other rows are zeros.
  static double add(double c, const std::vector<double> &a, int scale = 0, bool is_half = false) {
    Matrices in;
    for (size_t k = 0; k < a.size(); k++) in.a[11][k] = encode(a[k], is_half);
    for (auto &row : in.b) row[5] = encode(std::ldexp(1, scale), is_half);
    in.c[11][5] = bits(static_cast<float>(c));
    const Result d = multiply(in, is_half);
    for (int m = 0; m < 16; m++) {
      for (int n = 0; n < 8 && m != 11; n++) EXPECT_EQ(d[m][n], 0u) << m << ", " << n;
    }
    float sum;
    memcpy(&sum, &d[11][5], 4);
    return sum;
  }
};

using Addends = std::vector<double>;

// One addend at 1, and what is left of a smaller one after they cancel.
TEST_F(SimgpuTruncation, KeepsOneBitMoreThanF32OnSm80AndTwoOnSm90) {
  for (bool is_half : {false, true}) {
    choose("sm_80");
    EXPECT_EQ(add(-(1 - 0x1p-24), {1}, 0, is_half), 0x1p-24);
    EXPECT_EQ(add(-0x1p24, {0x1p12, 0x1p-12}, 12, is_half), 1);
    EXPECT_EQ(add(-0x1p25, {0x1p13, 0x1p-12}, 12, is_half), 0);
    choose("sm_90");
    EXPECT_EQ(add(-0x1p25, {0x1p13, 0x1p-12}, 12, is_half), 1);
    EXPECT_EQ(add(-0x1p26, {0x1p14, 0x1p-12}, 12, is_half), 0);
  }
}

TEST_F(SimgpuTruncation, CutsAndNeverRoundsUp) {
  for (double sign : {1.0, -1.0}) {
    choose("sm_80");  // the unit beside 2^24 is 1
    EXPECT_EQ(add(sign * 0x1p24, Addends(16, 0.75 * sign)), sign * 0x1p24);
    EXPECT_EQ(add(-sign * 0x1p24, Addends(16, 0.75 * sign)), -sign * 0x1p24) << "towards zero";
    choose("sm_90");  // each is cut to a half, and the sum is exact
    EXPECT_EQ(add(sign * 0x1p24, Addends(16, 0.75 * sign)), sign * (0x1p24 + 8));
    EXPECT_EQ(add(-sign * 0x1p24, Addends(16, 0.75 * sign)), -sign * (0x1p24 - 8));
    choose("round");  // each addition is rounded to the nearest even number
    EXPECT_EQ(add(sign * 0x1p24, Addends(16, 1.5 * sign)), sign * (0x1p24 + 32));
  }
}

// 2^25 plus ones: below the unit of sm_80, at that of sm_90. Threes become twos on sm_80.
TEST_F(SimgpuTruncation, IsStuckWhereAddendsAreBelowTheUnit) {
  choose("sm_80");
  EXPECT_EQ(add(0x1p25, Addends(16, 1)), 0x1p25);
  EXPECT_EQ(add(0x1p25, Addends(16, 3)), 0x1p25 + 32);
  choose("sm_90");
  EXPECT_EQ(add(0x1p25, Addends(16, 1)), 0x1p25 + 16);
  EXPECT_EQ(add(0x1p25, Addends(16, 3)), 0x1p25 + 48);
  EXPECT_EQ(add(0x1p26, Addends(16, 1)), 0x1p26);
  choose("round");
  EXPECT_EQ(add(0x1p25, Addends(16, 3)), 0x1p25 + 64);
}

// Here nothing is cut before the addition: the sum has a bit too many, and f32 loses it.
TEST_F(SimgpuTruncation, CutsTheSumToF32) {
  for (const char *form : {"sm_80", "sm_90"}) {
    choose(form);
    for (double sign : {1.0, -1.0}) {
      EXPECT_EQ(add(sign * 0x1p24, {sign}), sign * 0x1p24);
      EXPECT_EQ(add(sign * 0x1p24, {sign, sign, sign}), sign * (0x1p24 + 2));
      EXPECT_EQ(add(sign * (0x1p24 - 1), {sign, sign, sign, sign}), sign * (0x1p24 + 2));
    }
  }
}

TEST_F(SimgpuTruncation, AddsBlocksInTheirOrder) {
  Addends large_first(16, 1), large_last(16, 1);
  large_first[0] = large_last[8] = 0x1p25;
  large_first[8] = large_last[9] = -0x1p25;
  choose("sm_80");  // blocks of 8
  EXPECT_EQ(add(0, large_first), 0) << "seven ones are cut beside 2^25, seven beside -2^25";
  EXPECT_EQ(add(0, large_last), 8) << "eight ones are a sum of their own";
  choose("sm_90");  // one block
  EXPECT_EQ(add(0, large_first), 14);
  EXPECT_EQ(add(0, large_last), 14);
}

TEST_F(SimgpuTruncation, AlignsProductsByTheExponentsOfTheirFactors) {
  // 1.5 * 1.5 = 2.25 has the exponent 0: its unit is 2^-24, and 2^-24 is kept.
  Matrices in;
  in.a[0] = {encode(1.5, true), encode(1, true), encode(-1.5, true)};
  in.b[0][0] = in.b[2][0] = encode(1.5, true);
  in.b[1][0] = encode(0x1p-24, true);
  choose("sm_80");
  EXPECT_EQ(multiply(in, true)[0][0], bits(0x1p-24f));
}

TEST_F(SimgpuTruncation, GivesZerosNoExponent) {
  for (const char *form : {"sm_80", "sm_90"}) {
    choose(form);
    EXPECT_EQ(add(0x1.000002p-60, {0, -0.0}, 127), 0x1.000002p-60);
    EXPECT_FALSE(std::signbit(add(-0.0, {-0.0, -0.0}, 0)));
    Matrices beside_huge;  // beside an element that exceeds f32, others are added one by one
    beside_huge.a[0].fill(encode(-0.0, false));
    beside_huge.a[0][0] = beside_huge.b[0][0] = encode(0x1p100, false);
    beside_huge.b[0][1] = encode(-0.0, false);
    beside_huge.c[0].fill(bits(-0.0f));
    EXPECT_EQ(multiply(beside_huge, false)[0][1], 0u);
  }
}

TEST_F(SimgpuTruncation, ReachesTheEndsOfF32) {
  for (const char *form : {"sm_80", "sm_90"}) {
    choose(form);
    EXPECT_EQ(add(0, {0x1.8p-20}, -129), 0x1p-149) << "a subnormal, cut";
    EXPECT_EQ(add(0, {-0x1p-25}, -125), 0);
    EXPECT_EQ(add(0x1p-149, {0x1p-24, -0x1p-24}, -125), 0x1p-149);
    EXPECT_EQ(add(0x1.fffffep127, {0x1p20}, 83), 0x1.fffffep127) << "half a unit more";
    EXPECT_EQ(add(0x1.fffffep127, {0x1p20}, 84), HUGE_VAL);
    EXPECT_EQ(add(-0x1p127, {0x1p100, -0x1p100}, 28), -0x1p127) << "products beyond f32";
    EXPECT_EQ(add(0, {0x1p100, -0x1p99}, 28), 0x1p127) << "2^128 - 2^127";
    EXPECT_EQ(add(0, {-0x1p100}, 100), -HUGE_VAL);
  }
}

TEST_F(SimgpuTruncation, KeepsInfinitiesAndNan) {
  for (const char *form : {"round", "sm_80", "sm_90"}) {
    choose(form);
    for (bool is_half : {false, true}) {
      EXPECT_EQ(add(1, {1, HUGE_VAL}, 0, is_half), HUGE_VAL);
      EXPECT_EQ(add(-HUGE_VAL, {1}, 0, is_half), -HUGE_VAL);
      EXPECT_TRUE(std::isnan(add(0, {HUGE_VAL, -HUGE_VAL}, 0, is_half)));
      EXPECT_TRUE(std::isnan(add(-HUGE_VAL, {0, 0, HUGE_VAL}, 0, is_half)));
      EXPECT_TRUE(std::isnan(add(NAN, {1}, 0, is_half)));
    }
  }
}

// ---- Random matrices, against integers ----

// sign * units * 2^exponent; a product has `point` bits behind the point.
struct Addend {
  bool is_negative;
  int64_t units;
  int point, exponent;
};

struct Form {
  const char *name;
  int block, bits, least;
};

// A number of `fraction` bits and a bias. Its exponent is that of the format, also if it is
// subnormal.
Addend decode(u32 word, int fraction, int bias) {
  const u32 exponent = word >> fraction & (2u * bias + 1);
  const int64_t units = word & ((1u << fraction) - 1);
  return {(word >> (fraction == 10 || fraction == 7 ? 15 : 31)) != 0,
          exponent ? units | 1 << fraction : units, fraction,
          static_cast<int>(exponent ? exponent : 1) - bias};
}

// Sums of integers in units of 2^(top - bits), then bit by bit to f32.
u32 sum_of(const std::vector<Addend> &addends, const Form &form) {
  int top = form.least;
  for (const Addend &a : addends) {
    if (a.units) top = std::max(top, a.exponent);
  }
  int64_t sum = 0;
  for (const Addend &a : addends) {
    const int left = form.bits - a.point - (top - a.exponent);
    const int64_t cut = left >= 0 ? a.units << left : left > -63 ? a.units >> -left : 0;
    sum += a.is_negative ? -cut : cut;
  }
  if (sum == 0) return 0;
  const u32 sign = sum < 0 ? 1u << 31 : 0;
  uint64_t units = static_cast<uint64_t>(std::llabs(sum));
  int exponent = top - form.bits;  // units * 2^exponent
  while (units >= 1u << 24) {
    units >>= 1;
    exponent++;
  }
  while (units < 1u << 23 && exponent > -149) {
    units <<= 1;
    exponent--;
  }
  while (exponent < -149) {
    units >>= 1;
    exponent++;
  }
  if (units < 1u << 23) return sign | static_cast<u32>(units);
  if (exponent + 150 > 254) return sign | 0x7f800000;
  return sign | static_cast<u32>(exponent + 150) << 23 | (static_cast<u32>(units) & 0x7fffff);
}

u32 dot_of(const Matrices &in, int m, int n, int k, bool is_half, const Form &form) {
  const int fraction = is_half ? 10 : 7, bias = is_half ? 15 : 127;
  u32 c = in.c[m][n];
  for (int first = 0; first < k; first += form.block) {
    std::vector<Addend> addends = {decode(c, 23, 127)};
    for (int i = first; i < std::min(k, first + form.block); i++) {
      const Addend a = decode(in.a[m][i], fraction, bias), b = decode(in.b[i][n], fraction, bias);
      addends.push_back({a.is_negative != b.is_negative, a.units * b.units, 2 * fraction,
                         a.exponent + b.exponent});
    }
    c = sum_of(addends, form);
    if ((c & 0x7f800000) == 0x7f800000) return c;  // what is finite keeps it so
  }
  return c;
}

// Finite bits, whose exponents lie `spread` binades around the middle one; 0: anywhere. Some are
// zeros.
u32 draw(std::mt19937 &random, int fraction, int fields, int spread) {
  if (random() % 16 == 0) return 0;
  int field = static_cast<int>(random() % fields);
  if (spread) {
    field = fields / 2 - spread / 2 + static_cast<int>(random() % static_cast<unsigned>(spread));
    field = std::max(0, std::min(fields - 1, field));
  }
  const u32 sign = random() % 2, mask = (1u << fraction) - 1;
  const u32 units = random() % 4 ? random() & mask : random() % 2 ? mask : 0;
  return sign << (fraction == 23 ? 31 : 15) | static_cast<u32>(field) << fraction | units;
}

TEST_F(SimgpuTruncation, IsWhatIntegersGive) {
  std::mt19937 random(1);
  for (const Form &form : {Form{"sm_80", 8, 24, -132}, Form{"sm_90", 16, 25, -133}}) {
    choose(form.name);
    for (int trial = 0; trial < 200; trial++) {
      const bool is_half = trial % 2, is_short = trial % 8 < 2;
      const int spread = std::array<int, 5>{1, 4, 12, 30, 0}[trial % 5];
      const int fraction = is_half ? 10 : 7, fields = is_half ? 31 : 255, k = is_short ? 8 : 16;
      Matrices in;
      for (auto &row : in.a) {
        for (u16 &value : row) value = static_cast<u16>(draw(random, fraction, fields, spread));
      }
      for (auto &row : in.b) {
        for (u16 &value : row) value = static_cast<u16>(draw(random, fraction, fields, spread));
      }
      for (auto &row : in.c) {
        for (u32 &value : row) value = draw(random, 23, 255, is_half && !spread ? 80 : spread);
      }
      const Result d = multiply(in, is_half, k);
      for (int m = 0; m < 16; m++) {
        for (int n = 0; n < 8; n++) {
          ASSERT_EQ(d[m][n], dot_of(in, m, n, k, is_half, form))
              << form.name << ", trial " << trial << ", row " << m << ", column " << n;
        }
      }
    }
  }
}

}  // namespace

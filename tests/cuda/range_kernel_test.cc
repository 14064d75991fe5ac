// range_kernel_test.cc - logits, weights and sums at the ends of the range of numbers. The judge's
// bounds grow with the logits and with the number of keys, so results here are known in closed
// form. Where weights are equal, or 0 beside others, the result is one of the values or a ratio of
// counts.
//
// FOVEA_LONG_KEYS=N gives LongRangeKernel's rows N keys.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <tuple>

#include "tests/cuda/kernel_device.h"

namespace fovea_test {
namespace {

const float kLn2 = 0.693147180559945309f;
const float kAnyScale = 0.7f;  // its products with a score are rounded

struct Path {
  const char *name;
  uint32_t level;
  int64_t rows;  // 1: a narrow tile, except under PHASE
};

const Path kPaths[] = {{"decode", FOVEA_REPRODUCIBLE_RUN, 1},
                       {"run", FOVEA_REPRODUCIBLE_RUN, 70},
                       {"batch", FOVEA_REPRODUCIBLE_BATCH, 3},
                       {"phase", FOVEA_REPRODUCIBLE_PHASE, 1}};

class RangeKernel : public OnCuda<testing::TestWithParam<std::tuple<uint32_t, int, int64_t>>> {
 protected:
  uint32_t dtype() { return std::get<0>(GetParam()); }
  const Path &path() { return kPaths[std::get<1>(GetParam())]; }
  // Logits in base 2 are q k times a power of two: q's first column is 1 and its others are 0.
  Attention problem(int64_t keys, int exponent = 0) {
    Attention a = Attention().on(kCuda).type(dtype()).dim(std::get<2>(GetParam())).heads(1, 1);
    a.len_q(path().rows).len_kv(keys).reproducible(path().level).sm_count(FEW_MULTIPROCESSORS);
    a.fill("q", [](const At &at) { return at.d == 0 ? 1.0 : 0.0; });
    return a.scale(std::ldexp(kLn2, exponent));
  }
  // k's first column.
  static Fill first(const std::function<double(int64_t)> &of_key) {
    return [of_key](const At &at) { return at.d == 0 ? of_key(at.i) : 0.0; };
  }
  void expect_all(const Outcome &outcome, double value, double relative, const std::string &what) {
    for (int64_t i = 0; i < path().rows; ++i) {
      for (int64_t d : {0, 1, 9}) {
        ASSERT_NEAR(outcome.at(0, i, 0, d), value, relative * std::fabs(value))
            << what << ", row " << i << ", column " << d;
      }
    }
  }
};

TEST_P(RangeKernel, AveragesValuesWhereLogitsAreLargeAndEqual) {
  for (int exponent : {21, 22, 23, 26, 28, 30, 32, 60, 126}) {
    for (double k : {1.0, -1.0, 1.375}) {
      Attention a = problem(150, exponent).fill("k", first([k](int64_t) { return k; }));
      a.scale(std::ldexp(kAnyScale, exponent)).fill("v", [](const At &) { return 1.5; });
      const Outcome outcome = a.run();
      const double lse = k * std::ldexp(double{kAnyScale}, exponent) + std::log(150.0);
      expect_all(outcome, 1.5, 0, "2^" + std::to_string(exponent));
      ASSERT_NEAR(outcome.lse_at(0, 0, 0), lse, 0x1p-21 * std::fabs(lse)) << exponent << " " << k;
      Attention hidden = Attention(a).mask(0.3, "sk").causal();
      expect_all(hidden.run(), 1.5, 0, "hidden in part, 2^" + std::to_string(exponent));
      if (HasFatalFailure()) return;
    }
  }
}

// The largest logit comes late, far or little above the others, and two keys share it.
TEST_P(RangeKernel, GivesTheValuesOfTheLargestLogitsHoweverTheyRise) {
  for (double before : {-1.0, 0.0, 0.5, 0.9921875}) {
    for (int exponent : {20, 22, 25, 29, 33, 100, 126}) {
      Attention a =
          problem(300, exponent).fill("k", first([before](int64_t key) {
                                        return 1.375 * (key == 201 || key == 270 ? 1.0 : before);
                                      }));
      a.scale(std::ldexp(kAnyScale, exponent));
      a.fill("v", [](const At &at) { return at.i == 201 ? 1.0 : at.i == 270 ? 2.0 : 7.0; });
      expect_all(a.run(), 1.5, 0, std::to_string(before) + " 2^" + std::to_string(exponent));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(RangeKernel, TakesSinksToTheEndsOfF32) {
  for (int exponent : {0, 24, 100}) {
    Attention a = problem(150, exponent).sinks().fill("k", first([](int64_t) { return 1.0; }));
    a.fill("v", [](const At &) { return 1.5; });
    const Outcome above = Attention(a).fill("sink", [](const At &) { return 3e38; }).run();
    expect_all(above, 0, 0, "a sink of 3e38");
    EXPECT_EQ(above.lse_at(0, 0, 0), 3e38f);
    const Outcome below = Attention(a).fill("sink", [](const At &) { return -3e38; }).run();
    expect_all(below, 1.5, 0, "a sink of -3e38");
    if (HasFatalFailure()) return;
  }
}

// One key with value 0 has the weight 1. All others together have far less weight, but all the
// value.
TEST_P(RangeKernel, AddsUpFaintWeights) {
  const int64_t keys = path().rows > 1 ? 3000 : 20000;
  for (int faint : {20, 26, 30, 33}) {
    for (int64_t dominant : {int64_t{0}, keys - 1}) {
      Attention a = problem(keys);
      a.fill("k", first([=](int64_t key) { return key == dominant ? faint : 0.0; }));
      a.fill("v", [=](const At &at) { return at.i == dominant ? 0.0 : 1024.0; });
      const double sum = std::ldexp(static_cast<double>(keys - 1), -faint);
      expect_all(a.run(), 1024 * sum / (1 + sum), dtype() == FOVEA_F16 ? 0x1p-9 : 0x1p-7,
                 "2^-" + std::to_string(faint));
      if (HasFatalFailure()) return;
    }
  }
}

// These weights are not exact in 16 bits. The sum must be rounded as each of them is.
TEST_P(RangeKernel, GivesTheValueThatAllHaveWhateverTheirWeightsAreRoundedTo) {
  Attention a = problem(500).fill("k", first([](int64_t key) { return key < 3 ? 1.375 : 0.0; }));
  a.scale(0.83f);
  for (double value : {1.0, -1.3828125, 0.109375}) {
    expect_all(Attention(a).fill("v", [=](const At &) { return value; }).run(), value, 0, "equal");
  }
}

TEST_P(RangeKernel, StaysFiniteWhereValuesAreTheLargestOfTheirType) {
  const double largest = dtype() == FOVEA_F16 ? 65504 : 0x1.fep127;
  Attention a = problem(dtype() == FOVEA_F16 ? 200 : 12).fill("k", [](const At &) { return 0.0; });
  expect_all(a.fill("v", [=](const At &) { return largest; }).run(), largest, 0, "largest");
}

// Sums of many terms of one sign, of weights that are not exact in binary. Rows of 20,000 keys are
// parked twice.
TEST_P(RangeKernel, SumsLongRows) {
  const int64_t keys = path().rows > 1 ? 9000 : 20000;
  Attention a = problem(keys).fill("k", first([](int64_t key) { return key == 5 ? 2.0 : 0.75; }));
  a.scale(1).fill("v", [](const At &at) { return at.i % 2 ? 1.7265625 : 1.21875; });
  a.expect_matches_oracle();
  const double others = static_cast<double>(keys - 1) * std::exp(0.75);
  EXPECT_NEAR(a.run().lse_at(0, 0, 0), std::log(std::exp(2.0) + others), 0x1p-19);
}

std::string name_of(const testing::TestParamInfo<RangeKernel::ParamType> &info) {
  const bool half = std::get<0>(info.param) == FOVEA_F16;
  return std::string(half ? "f16_d" : "bf16_d") + std::to_string(std::get<2>(info.param)) + "_" +
         kPaths[std::get<1>(info.param)].name;
}

INSTANTIATE_TEST_SUITE_P(Paths, RangeKernel,
                         testing::Combine(testing::Values(FOVEA_F16, FOVEA_BF16),
                                          testing::Range(0, 4), testing::Values(64)),
                         name_of);

// One sign throughout, so that all that additions cut off or round away adds up: tensor cores cut
// (simgpu/alu/truncate.h), and f32 sums over tiles round alike where terms are. The row is parked
// 15 times. Without parking its LSE is off by 2.3 times the bound. If products of tiles do not
// begin at zero either, f16's output is off by 1.5 times its bound, with sums that are rounded or
// cut as sm_90 does.
class LongRangeKernel : public OnCuda<testing::TestWithParam<uint32_t>> {};

TEST_P(LongRangeKernel, SumsManyTermsOfOneSign) {
  const char *wish = std::getenv("FOVEA_LONG_KEYS");
  const int64_t keys = wish ? std::strtoll(wish, nullptr, 10) : 131072;
  Attention a = Attention().on(kCuda).type(GetParam()).dim(32).heads(1, 1).len_q(1).len_kv(keys);
  a.reproducible(FOVEA_REPRODUCIBLE_PHASE).sm_count(FEW_MULTIPROCESSORS).scale(1);
  a.fill("q", [](const At &at) { return at.d == 0 ? 1.0 : 0.0; });
  a.fill("k", [](const At &at) { return at.d ? 0.0 : at.i == 5 ? 2.0 : 0.75; });
  a.fill("v", [](const At &at) { return 1 + static_cast<double>((at.i + at.d) % 13) / 16; });
  a.expect_matches_oracle();
}

INSTANTIATE_TEST_SUITE_P(Types, LongRangeKernel, testing::Values(FOVEA_F16, FOVEA_BF16),
                         [](const auto &info) { return info.param == FOVEA_F16 ? "f16" : "bf16"; });

// One tile has rows whose bases move at different tiles by different steps, and rows with large
// logits. Each has the bits that it has alone.
class RangeInvarianceKernel : public OnCuda<testing::TestWithParam<uint32_t>> {};

TEST_P(RangeInvarianceKernel, ChangesNoBitWithRowsWhoseBasesMoveAtOtherTiles) {
  Attention a = Attention().on(kCuda).type(GetParam()).dim(64).heads(1, 1).len_q(32).len_kv(9000);
  a.reproducible(FOVEA_REPRODUCIBLE_PHASE).sm_count(FEW_MULTIPROCESSORS).scale(1);
  a.fill("q", [](const At &at) {
    if (at.d > 1) return 0.0;
    if (at.d == 1) return at.i % 5 == 0 ? 2048.0 : 0.0;
    return at.i % 3 == 0 ? -1.0 : 0.25 * static_cast<double>(at.i);
  });
  a.fill("k", [](const At &at) {
    if (at.d > 1) return 0.0;
    return at.d == 1 ? 2048.0 : std::sqrt(static_cast<double>(at.i)) / 8;
  });
  const Outcome together = Attention(a).run();
  for (int64_t i : {0, 1, 3, 5, 16, 31}) {
    const Outcome alone = Attention(a).row_shift(i).len_q(1).run();
    EXPECT_EQ(difference(together, 0, alone, 0, i), "") << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, RangeInvarianceKernel, testing::Values(FOVEA_F16, FOVEA_BF16),
                         [](const auto &info) { return info.param == FOVEA_F16 ? "f16" : "bf16"; });

}  // namespace
}  // namespace fovea_test

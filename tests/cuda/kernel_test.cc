// kernel_test.cc - the CUDA kernels against the tests' own oracle, on whatever driver there is: a GPU,
// or the software GPU (FOVEA_CUDA_DRIVER). Sizes are chosen by their relation to the tiles: 64 rows
// (position, head of the group) by 64 keys.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "mirror.h"
#include "support/attention_builder.h"

namespace fovea_test {
namespace {

Device cuda_device() {
  Device device;
  device.name = "cuda";
  device.kind = FOVEA_DEVICE_CUDA;
  device.threads = 0;
  device.exact_probabilities = false;  // tensor cores take them in q's type
  return device;
}

const Device kCuda = cuda_device();

fovea_status call_on_device(fovea_handle *handle, const fovea_attention_args *args) {
  double seconds = 0;
  return fv_mirror_attention(handle, args, &seconds);
}

class Kernel : public testing::TestWithParam<std::tuple<uint32_t, int64_t>> {
 protected:
  static void SetUpTestSuite() { attention_call = call_on_device; }
  void SetUp() override {
    try {
      handle_of(kCuda);
    } catch (const std::exception &why) {
      GTEST_SKIP() << why.what();
    }
  }
  uint32_t dtype() { return std::get<0>(GetParam()); }
  int64_t dim() { return std::get<1>(GetParam()); }
  Attention problem(int64_t len_q, int64_t len_kv) {
    return Attention().on(kCuda).type(dtype()).dim(dim()).len_q(len_q).len_kv(len_kv);
  }
};

struct Sizes {
  int64_t len_q, len_kv, heads_q, heads_kv;
};

// Below, at and above one tile and two, with groups that do and do not divide a tile.
const Sizes kSizes[] = {{5, 0, 2, 1},    {1, 1, 1, 1},    {1, 64, 4, 1},    {3, 65, 6, 2},
                        {16, 63, 2, 2},  {17, 128, 3, 1}, {64, 64, 1, 1},   {65, 33, 1, 1},
                        {50, 129, 5, 1}, {1, 300, 8, 1},  {130, 200, 2, 1}, {40, 7, 7, 1}};

TEST_P(Kernel, MatchesTheOracleWithAllKeysVisible) {
  for (const Sizes &n : kSizes) {
    problem(n.len_q, n.len_kv).heads(n.heads_q, n.heads_kv).expect_matches_oracle();
  }
}

TEST_P(Kernel, MatchesTheOracleWithCausality) {
  for (const Sizes &n : kSizes) {
    Attention bottom_right = problem(n.len_q, n.len_kv).heads(n.heads_q, n.heads_kv).causal();
    bottom_right.expect_matches_oracle();
    problem(n.len_q, n.len_kv)
        .heads(n.heads_q, n.heads_kv)
        .causal()
        .top_left()
        .expect_matches_oracle();
  }
}

TEST_P(Kernel, MatchesTheOracleWithLengthsOfEverySequence) {
  for (const Sizes &n : kSizes) {
    Attention a = problem(n.len_q, 130).batch(4).heads(n.heads_q, n.heads_kv);
    a.lengths({0, n.len_kv > 130 ? 130 : n.len_kv, 130, 64});
    a.expect_matches_oracle();
    a.causal().expect_matches_oracle();
  }
}

TEST_P(Kernel, ReportsLengthsThatAreNone) {
  problem(5, 70).batch(4).lengths({-1, 71, 70, INT32_MIN}).expect_matches_oracle();
}

TEST_P(Kernel, MatchesTheOracleWithPaddingMasks) {
  for (const char *full : {"k", "sk", "s", ""}) {
    for (double hidden : {0.3, 0.97}) {
      problem(20, 150).batch(3).heads(4, 2).mask(hidden, full).expect_matches_oracle();
      problem(20, 150)
          .batch(3)
          .mask(hidden, full)
          .lengths({150, 0, 90})
          .causal()
          .expect_matches_oracle();
    }
  }
}

TEST_P(Kernel, HasDimsOfValuesThatDifferFromThoseOfKeys) {
  for (int64_t dim_v : {8, 24, 64, 120}) {
    problem(9, 70).dim_v(dim_v).expect_matches_oracle();
  }
}

TEST_P(Kernel, MakesEmptyRowsZero) {
  Attention a = problem(70, 3).causal();  // the first 67 rows stand before all keys
  const Outcome outcome = a.run();
  for (int64_t i = 0; i < 67; ++i) {
    for (int64_t d = 0; d < dim(); ++d) ASSERT_EQ(outcome.at(0, i, 0, d), 0.0) << i;
    ASSERT_EQ(outcome.lse_at(0, i, 0), -INFINITY);
  }
  ASSERT_GT(outcome.lse_at(0, 67, 0), -INFINITY);
}

TEST_P(Kernel, ChangesNoBitWithStridesAndAlignment) {
  Attention a = problem(30, 100).batch(2).heads(4, 2).causal();
  const Outcome plain = Attention(a).contiguous().run();
  for (uint64_t layout = 1; layout <= 6; ++layout) {
    EXPECT_EQ(difference(plain, Attention(a).layout_seed(layout).run()), "") << layout;
  }
}

// One tensor at a time leaves multiples of 16 bytes, by its base or by one stride: whoever takes its
// word for another's, or looks at too few of its strides, reads or writes across them.
TEST_P(Kernel, ChangesNoBitWithOneTensorAskew) {
  Attention a = problem(11, 70).batch(2).heads(4, 2).causal();
  const Outcome plain = Attention(a).contiguous().run();
  for (char tensor : {'q', 'k', 'v', 'o'}) {
    for (int dimension = -1; dimension < 3; ++dimension) {
      EXPECT_EQ(difference(plain, Attention(a).askew(tensor, dimension).run()), "")
          << tensor << " " << dimension;
    }
  }
}

TEST_P(Kernel, ChangesNoBitWithWhatLiesInMemoryThatIsNotRead) {
  Attention a = problem(30, 100).batch(2).causal().lengths({77, 100}).mask(0.3, "sk");
  EXPECT_EQ(difference(Attention(a).run(), Attention(a).clean().run()), "");
}

TEST_P(Kernel, ChangesNoBitWithTheNumberOfMultiprocessors) {
  Attention a = problem(130, 90).batch(2).heads(4, 2).causal();
  Case whole(a.s), narrow(a.s);
  narrow.args.sm_count = 1;
  EXPECT_EQ(difference(whole.run(kCuda), narrow.run(kCuda)), "");
}

// A row alone, as in decoding, has the bits it has among the others.
TEST_P(Kernel, ChangesNoBitWithOtherRowsAndOtherSequences) {
  Attention a = problem(40, 150).batch(3).heads(6, 2);
  const Outcome together = Attention(a).run();
  for (int64_t i : {0, 11, 39}) {
    const Outcome alone = Attention(a).pick({1}).row_shift(i).len_q(1).run();
    for (int64_t h = 0; h < 6; ++h) {
      for (int64_t d = 0; d < dim(); ++d) {
        ASSERT_EQ(together.bits(1, i, h, d), alone.bits(0, 0, h, d)) << i << " " << h << " " << d;
      }
      ASSERT_EQ(together.lse_at(1, i, h), alone.lse_at(0, 0, h));
    }
  }
}

// With a factor of 1 - 2^-24 each tile's base is rounded by the same part of a unit, and with a
// maximum that rises in every tile whatever is lost in moving from base to base adds up.
TEST_P(Kernel, LosesNothingWhereTheMaximumRisesInEveryTile) {
  const float ln_2 = 0.693147180559945309f;
  Attention a = problem(1, 160 * 64).heads(1, 1).scale(std::nextafter(ln_2, 0.0f));
  a.fill("q", [](const At &at) { return at.d == 0 ? 1.0 : at.d == 1 ? 0x1p-8 : 0.0; });
  a.fill("k", [](const At &at) {
    return at.d == 0 ? 150.0 : at.d == 1 ? static_cast<double>(at.i / 64) : 0.0;
  });
  a.expect_matches_oracle();
}

TEST_P(Kernel, GivesNanWhereALogitIsInfinite) {
  Attention a = problem(3, 70).heads(1, 1).fill(
      "k", [](const At &at) { return at.i == 5 && at.d == 0 ? INFINITY : 0.0; });
  a.fill("q", [](const At &) { return 1.0; });
  const Outcome outcome = a.run();
  EXPECT_TRUE(std::isnan(outcome.lse_at(0, 1, 0)));
  EXPECT_TRUE(std::isnan(outcome.at(0, 1, 0, 2)));
}

INSTANTIATE_TEST_SUITE_P(Rows, Kernel,
                         testing::Combine(testing::Values(FOVEA_F16, FOVEA_BF16),
                                          testing::Values(8, 32, 40, 64, 104, 128)),
                         [](const auto &info) {
                           const bool half = std::get<0>(info.param) == FOVEA_F16;
                           return std::string(half ? "f16_d" : "bf16_d") +
                                  std::to_string(std::get<1>(info.param));
                         });

}  // namespace
}  // namespace fovea_test

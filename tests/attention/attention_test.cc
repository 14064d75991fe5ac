// attention_test.cc - every feature alone, and lengths at tile edges, against the oracle.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

class AttentionFeature : public testing::TestWithParam<std::tuple<Device, Feature>> {
 protected:
  Attention problem(uint64_t seed) {
    return base_of(std::get<1>(GetParam()), std::get<0>(GetParam()), seed);
  }
};

TEST_P(AttentionFeature, MatchesTheOracleInEveryLayout) {
  for (uint64_t seed = 1; seed <= 6; ++seed) problem(seed).expect_matches_oracle();
}

INSTANTIATE_TEST_SUITE_P(Every, AttentionFeature,
                         testing::Combine(testing::ValuesIn(devices()),
                                          testing::ValuesIn(features())),
                         [](const auto &info) {
                           return std::get<0>(info.param).name + "_" + std::get<1>(info.param).name;
                         });

class AttentionForward : public testing::TestWithParam<Device> {
 protected:
  Attention on_device() { return Attention().on(GetParam()); }
};

// Keys: one less, as many and one more than powers of two. Rows: few, and about 16.
TEST_P(AttentionForward, MatchesTheOracleAtEveryLengthRoundATileOfKeys) {
  for (int64_t tile : {8, 16, 32, 64, 128}) {
    for (int64_t len_kv = tile - 1; len_kv <= tile + 1; ++len_kv) {
      for (int64_t len_q : {1, 7, 16, 17}) {
        on_device()
            .len_q(len_q)
            .len_kv(len_kv)
            .seed(static_cast<uint64_t>(len_kv))
            .expect_matches_oracle();
        on_device().len_q(len_q).len_kv(len_kv).causal().type(FOVEA_BF16).expect_matches_oracle();
      }
    }
  }
}

TEST_P(AttentionForward, MatchesTheOracleAtEveryNumberOfRowsRoundATile) {
  for (int64_t len_q : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65}) {
    on_device().len_q(len_q).len_kv(40).heads(2, 2).causal().expect_matches_oracle();
    on_device().len_q(len_q).len_kv(40).heads(6, 1).type(FOVEA_F16).expect_matches_oracle();
  }
}

TEST_P(AttentionForward, MatchesTheOracleForEveryGroupSize) {
  for (int64_t group = 1; group <= 17; ++group) {
    on_device().heads(2 * group, 2).len_q(3).len_kv(33).causal().expect_matches_oracle();
  }
}

TEST_P(AttentionForward, MatchesTheOracleForEveryDim) {
  for (int64_t dim = 8; dim <= 576; dim += dim < 136 ? 8 : 40) {
    on_device()
        .dim(dim)
        .dim_v(std::min<int64_t>(dim, 512))
        .len_q(2)
        .len_kv(20)
        .type(FOVEA_BF16)
        .expect_matches_oracle();
    on_device()
        .dim(16)
        .dim_v(std::min<int64_t>(dim, 512))
        .len_q(2)
        .len_kv(20)
        .expect_matches_oracle();
  }
}

TEST_P(AttentionForward, MatchesTheOracleForEveryCombinationOfTypes) {
  for (uint32_t q : {FOVEA_F32, FOVEA_F16, FOVEA_BF16, FOVEA_E4M3}) {
    for (uint32_t k = FOVEA_F32; k <= FOVEA_Q4_0; ++k) {
      for (uint32_t v = FOVEA_F32; v <= FOVEA_Q4_0; ++v) {
        for (uint32_t out : {FOVEA_F32, FOVEA_F16, FOVEA_BF16, FOVEA_E4M3}) {
          if (k == FOVEA_U8 || v == FOVEA_U8) continue;
          const int64_t dim = std::max(block_of(k), int64_t{16}),
                        dim_v = std::max(block_of(v), int64_t{16});
          on_device()
              .types(q, k, v, out)
              .dim(dim)
              .dim_v(dim_v)
              .len_q(3)
              .len_kv(20)
              .expect_matches_oracle();
        }
      }
    }
  }
}

TEST_P(AttentionForward, MatchesTheOracleForLongSequences) {
  on_device()
      .batch(2)
      .len_q(70)
      .len_kv(700)
      .heads(2, 1)
      .dim(64)
      .type(FOVEA_BF16)
      .causal()
      .expect_matches_oracle();
  on_device().len_q(3).len_kv(5000).heads(4, 1).dim(64).type(FOVEA_F16).expect_matches_oracle();
  on_device().len_q(130).len_kv(260).heads(2, 2).dim(32).window(70, 10).expect_matches_oracle();
}

TEST_P(AttentionForward, AcceptsEveryExtentOfZero) {
  on_device().batch(0).expect_matches_oracle();
  on_device().len_q(0).expect_matches_oracle();
  on_device().len_kv(0).expect_matches_oracle();
  on_device().len_q(0).len_kv(0).expect_matches_oracle();
  on_device().rows({0, 0, 0}).expect_matches_oracle();
  on_device().rows({0}).keys({0}).contiguous().expect_matches_oracle();
  on_device().batch(0).paged(16).expect_matches_oracle();
}

// Four sequences with every combination of these numbers of keys; 65 is one more than a tile.
TEST_P(AttentionForward, MatchesTheOracleForEveryMixOfShortAndEmptySequences) {
  const Ints lengths = {0, 1, 2, 65};
  for (int64_t code = 0; code < 256; ++code) {
    const auto pick = [&](int64_t n) {
      return lengths[static_cast<size_t>((code >> (2 * n)) & 3)];
    };
    const Ints keys = {pick(0), pick(1), pick(2), pick(3)};
    const Ints rows = {code % 3, (code / 3) % 3, (code / 9) % 3, (code / 27) % 3};
    on_device().rows(rows).keys(keys).dim(8).causal().expect_matches_oracle();
    if (testing::Test::HasFailure()) return;
  }
}

// Scales reach far beyond the logits whose exp() overflows or vanishes.
TEST_P(AttentionForward, MatchesTheOracleAtEveryMagnitudeOfLogits) {
  for (int exponent = -40; exponent <= 100; exponent += 5) {
    const double scale = std::ldexp(1.0, exponent);
    on_device().len_q(5).len_kv(67).scale(scale).expect_matches_oracle();
    on_device().len_q(5).len_kv(1).scale(scale).expect_matches_oracle();
  }
}

TEST_P(AttentionForward, MatchesTheOracleForEveryMagnitudeOfValues) {
  for (int exponent = -130; exponent <= 120; exponent += 10) {
    on_device()
        .len_q(3)
        .len_kv(70)
        .fill("v",
              [=](const At &at) {
                return std::ldexp(
                    normal(mix(static_cast<uint64_t>(at.i), static_cast<uint64_t>(at.d))),
                    exponent);
              })
        .expect_matches_oracle();
  }
}

TEST_P(AttentionForward, SaturatesE4m3AndOverflowsF16ToInfinity) {
  const Fill huge = [](const At &at) { return at.d % 2 == 0 ? 3e6 : -3e6; };
  for (uint32_t out : {FOVEA_E4M3, FOVEA_F16}) {
    Outcome outcome = on_device().types(FOVEA_F32, FOVEA_F32, FOVEA_F32, out).fill("v", huge).run();
    const double limit = out == FOVEA_E4M3 ? 448.0 : std::numeric_limits<double>::infinity();
    EXPECT_EQ(outcome.at(0, 0, 0, 0), limit);
    EXPECT_EQ(outcome.at(0, 0, 0, 1), -limit);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, AttentionForward, testing::ValuesIn(devices()),
                         [](const auto &info) { return info.param.name; });

}  // namespace
}  // namespace fovea_test

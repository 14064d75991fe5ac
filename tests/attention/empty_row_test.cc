// empty_row_test.cc - a row that sees no key: out = 0, lse = -inf; with a sink lse = the sink.
//
// Every feature is tested with every way to hide all keys, from whole sequences and single rows.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

const float kMinusInfinity = -std::numeric_limits<float>::infinity();

class EmptyRow : public testing::TestWithParam<std::tuple<Device, Feature>> {
 protected:
  Attention problem() { return base_of(std::get<1>(GetParam()), std::get<0>(GetParam()), 17); }
  // Without what has no positions.
  Attention positioned() {
    Attention a = problem();
    a.s.selected = false;
    return a;
  }
};

void expect_empty(const Attention &a, const std::function<bool(int64_t s, int64_t i)> &empty) {
  Case laid(a.s);
  const Outcome outcome = a.run();
  for (size_t s = 0; s < outcome.len_q.size(); ++s) {
    const int64_t n = static_cast<int64_t>(s);
    for (int64_t i = 0; i < outcome.len_q[s]; ++i) {
      for (int64_t h = 0; h < outcome.heads && empty(n, i); ++h) {
        for (int64_t d = 0; d < outcome.dim_v; ++d) {
          ASSERT_EQ(outcome.at(n, i, h, d), 0.0) << a.text();
        }
        if (outcome.lse.empty()) continue;
        const float expected = a.s.sinks ? laid.args.logits.sinks[h] : kMinusInfinity;
        ASSERT_EQ(outcome.lse_at(n, i, h), expected) << a.text();
      }
    }
  }
}

bool always(int64_t, int64_t) {
  return true;
}

TEST_P(EmptyRow, IsZeroWhereTheLengthIsZero) {
  expect_empty(problem().lengths({0, 0, 0}), always);
  if (problem().s.keys.empty()) {
    expect_empty(problem().lengths({20, 0, 3}), [](int64_t s, int64_t) { return s == 1; });
  }
}

TEST_P(EmptyRow, IsZeroWhereAllKeysAreGone) {
  expect_empty(positioned().kv_first({static_cast<int32_t>(kKeys), kKeys, kKeys}), always);
}

TEST_P(EmptyRow, IsZeroBeforeAllKeys) {
  Attention a = positioned().causal().q_position({-100, -100, -100}).kv_position({0, 0, 0});
  if (!a.s.prefix.empty()) a.prefix({0, 0, 0});
  a.s.span_rule = -1;
  expect_empty(a, always);
}

TEST_P(EmptyRow, IsZeroOutsideTheWindow) {
  Attention a = positioned().window(3, 3).q_position({5000, 5000, 5000});
  if (!a.s.prefix.empty()) a.prefix({0, 0, 0});
  a.s.span_rule = -1;
  expect_empty(a, always);
}

TEST_P(EmptyRow, IsZeroUnderAMaskThatHidesEverything) {
  expect_empty(problem().mask(1.0), always);
  expect_empty(problem().mask(1.0, ""), always);
}

TEST_P(EmptyRow, IsZeroUnderABiasOfMinusInfinity) {
  expect_empty(problem().bias(FOVEA_F32, 1.0), always);
  expect_empty(problem().bias(FOVEA_F16, 1.0, ""), always);
}

TEST_P(EmptyRow, IsZeroUnderATreeThatHidesEverything) {
  expect_empty(positioned().tree(kKeys + 5).fill("tree", [](const At &) { return 0.0; }), always);
}

TEST_P(EmptyRow, IsZeroAmongRowsThatSeeKeys) {
  const auto hidden = [](int64_t i) { return i % 2 == 0; };
  Attention a = problem().mask(0.0).fill("mask", [=](const At &at) { return !hidden(at.i); });
  expect_empty(a, [=](int64_t, int64_t i) { return hidden(i); });
  a.expect_matches_oracle();
}

INSTANTIATE_TEST_SUITE_P(Every, EmptyRow,
                         testing::Combine(testing::ValuesIn(devices()),
                                          testing::ValuesIn(features())),
                         [](const auto &info) {
                           return std::get<0>(info.param).name + "_" + std::get<1>(info.param).name;
                         });

class HiddenBlock : public testing::TestWithParam<Device> {};

// The hidden keys are the first, a middle or the last block: a single key up to two tiles of 64.
TEST_P(HiddenBlock, MatchesTheOracleWhereverItStands) {
  for (int64_t begin : {0, 1, 60, 64, 100, 128}) {
    for (int64_t count : {1, 4, 63, 64, 65, 128}) {
      for (int way = 0; way < 2; ++way) {
        Attention a;
        a.on(GetParam()).len_q(3).len_kv(256).seed(4);
        const auto hidden = [=](const At &at) { return at.d >= begin && at.d < begin + count; };
        if (way == 0) {
          a.mask().fill("mask", [=](const At &at) { return !hidden(at); });
        } else {
          a.bias().fill("bias", [=](const At &at) {
            return hidden(at) ? -std::numeric_limits<double>::infinity() : 0.0;
          });
        }
        a.expect_matches_oracle();
      }
    }
  }
}

TEST_P(HiddenBlock, MayHideAllButOneKeyAnywhere) {
  for (int64_t key = 0; key < 200; key += 7) {
    Attention a;
    a.on(GetParam()).len_q(2).len_kv(200).mask();
    a.fill("mask", [=](const At &at) { return at.d == key; }).expect_matches_oracle();
  }
}

// A row is also empty if all its logits are -inf, here from an infinite query.
TEST_P(HiddenBlock, OfLogitsOfMinusInfinityLeavesTheRowEmpty) {
  Attention a;
  a.on(GetParam()).len_q(2).len_kv(70).heads(1, 1).dim(8);
  a.fill("q", [](const At &at) {
    return at.d == 0 && at.i == 1 ? -std::numeric_limits<double>::infinity() : 1.0;
  });
  a.fill("k", [](const At &) { return 1.0; });
  expect_empty(a, [](int64_t, int64_t i) { return i == 1; });
  a.expect_matches_oracle();
  a.sinks();
  expect_empty(a, [](int64_t, int64_t i) { return i == 1; });
}

INSTANTIATE_TEST_SUITE_P(Devices, HiddenBlock, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

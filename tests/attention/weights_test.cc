// weights_test.cc - fovea_attention_weights against the oracle's weights, in every feature.
//
// A weight is exp(t - lse), so the errors of t and lse both enter:
// |e| <= u w + eta + 16 u32 (1 + S) w, plus what single precision may flush below 2^-126.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

// Which weights to ask for, how many keys of each row, and in which type.
struct Selection {
  Ints sequences, rows, heads;
  int64_t keys;
  uint32_t dtype = FOVEA_F32;
};

struct Weights {
  fovea_status status = FOVEA_OK;
  std::string detail;
  std::vector<double> values;  // [sequence][row][head][key]
  bool gaps_intact = true;
};

std::vector<int32_t> narrow(const Ints &list) {
  std::vector<int32_t> out;
  for (int64_t x : list) out.push_back(static_cast<int32_t>(x));
  return out;
}

Weights weights_of(const Device &device, const fovea_attention_args &attention,
                   const Selection &pick, bool by_numbers = true) {
  const std::vector<int32_t> s = narrow(pick.sequences), r = narrow(pick.rows),
                             h = narrow(pick.heads);
  const int64_t pitch = pick.keys + 3;
  const size_t width = size_of(pick.dtype);
  const int64_t count = static_cast<int64_t>(s.size() * r.size() * h.size());
  Block block(static_cast<size_t>(count * pitch) * width, width);
  block.fill(0xa5);
  fovea_weights_args args{};
  args.struct_size = sizeof args;
  args.attention = &attention;
  args.weights = fovea_contiguous(block.data(), static_cast<fovea_dtype>(pick.dtype),
                                  static_cast<int64_t>(s.size()), static_cast<int64_t>(r.size()),
                                  static_cast<int64_t>(h.size()), pitch);
  args.weights.shape[3] = pick.keys;
  args.sequences = by_numbers ? s.data() : nullptr;
  args.rows = by_numbers ? r.data() : nullptr;
  args.heads = by_numbers ? h.data() : nullptr;
  Weights result;
  result.status = fovea_attention_weights(handle_of(device), &args, nullptr);
  if (result.status != FOVEA_OK) result.detail = fovea_error_detail();
  for (int64_t n = 0; n < count; ++n) {
    for (int64_t j = 0; j < pitch; ++j) {
      const uint8_t *at = block.data() + static_cast<size_t>(n * pitch + j) * width;
      if (j < pick.keys) result.values.push_back(load(pick.dtype, at));
      for (size_t b = 0; b < width && j >= pick.keys; ++b) {
        result.gaps_intact = result.gaps_intact && at[b] == 0xa5;
      }
    }
  }
  result.gaps_intact = result.gaps_intact && block.margins_intact();
  return result;
}

void expect_weights(const Device &device, const fovea_attention_args &args, const Selection &pick,
                    const std::string &text) {
  const Weights got = weights_of(device, args, pick);
  ASSERT_EQ(got.status, FOVEA_OK) << got.detail << "\n" << text;
  EXPECT_TRUE(got.gaps_intact) << text;
  const Geometry geometry(args);
  const int64_t count = static_cast<int64_t>(geometry.sequences().size());
  const double u = unit_roundoff(pick.dtype);
  size_t at = 0;
  for (int64_t s : pick.sequences) {
    for (int64_t i : pick.rows) {
      for (int64_t h : pick.heads) {
        const bool inside = s >= 0 && s < count && i >= 0 && h >= 0 && h < geometry.heads_q() &&
                            i < geometry.sequences()[static_cast<size_t>(s)].len_q;
        Row row;
        std::vector<double> expected(static_cast<size_t>(pick.keys), 0.0);
        if (inside) expected = weigh(geometry, s, i, h, pick.keys, &row);
        for (int64_t j = 0; j < pick.keys; ++j, ++at) {
          const double w = expected[static_cast<size_t>(j)];
          const double limit =
              u * w + half_step(pick.dtype) + 16.0 * device.work * (1.0 + row.size) * w + 0x1p-126;
          if (w == 0.0) {
            ASSERT_EQ(got.values[at], 0.0) << s << ' ' << i << ' ' << h << ' ' << j << '\n' << text;
          } else {
            ASSERT_NEAR(got.values[at], w, limit) << s << ' ' << i << ' ' << h << ' ' << j << '\n'
                                                  << text;
          }
        }
      }
    }
  }
}

class WeightsFeature : public testing::TestWithParam<std::tuple<Device, Feature>> {};

TEST_P(WeightsFeature, MatchTheOracle) {
  const Device &device = std::get<0>(GetParam());
  const Attention a = base_of(std::get<1>(GetParam()), device);
  Case laid(a.s);
  Ints heads;
  for (int64_t h = 0; h < a.s.heads_q; ++h) heads.push_back(h);
  const Selection all = {{0, 1, 2}, {0, 1, 2, 3, 4, 5}, heads, kKeys, FOVEA_F32};
  expect_weights(device, laid.args, all, a.text());
  EXPECT_EQ(weights_of(device, laid.args, all).values,
            weights_of(device, laid.args, all, /*by_numbers=*/false).values);
  fovea_attention_args bare = laid.args;
  bare.v = bare.out = bare.lse = bare.v_scale = bare.out_scale = fovea_tensor{};
  const Selection some = {{2, 0}, {5, 5, 1}, {0}, 20, FOVEA_BF16};
  // Without v the page table of v cannot hide a key, so such a problem is left out.
  if (bare.sequences.pages.v_ids == nullptr) expect_weights(device, bare, some, a.text());
}

INSTANTIATE_TEST_SUITE_P(Every, WeightsFeature,
                         testing::Combine(testing::ValuesIn(devices()),
                                          testing::ValuesIn(features())),
                         [](const auto &info) {
                           return std::get<0>(info.param).name + "_" + std::get<1>(info.param).name;
                         });

class WeightsCall : public testing::TestWithParam<Device> {
 protected:
  Attention base() { return Attention().on(GetParam()).batch(2).len_q(5).len_kv(70).causal(); }
};

TEST_P(WeightsCall, GivesZerosForNumbersOutOfRange) {
  Case laid(base().s);
  const int64_t low = std::numeric_limits<int32_t>::min();
  const int64_t high = std::numeric_limits<int32_t>::max();
  expect_weights(
      GetParam(), laid.args,
      {{0, -1, 2, low, high, 1}, {4, 5, -1, low, high}, {1, 2, -1, low, high}, 70, FOVEA_F32},
      "numbers out of range");
}

TEST_P(WeightsCall, GivesZerosPastTheSequence) {
  Case laid(base().lengths({3, 0}).s);
  expect_weights(GetParam(), laid.args, {{0, 1}, {0, 4}, {0, 1}, 100, FOVEA_F16}, "past the end");
}

TEST_P(WeightsCall, SumsToOneWithoutASinkAndToLessWithOne) {
  Case laid(base().s);
  Case sunk(base().sinks().s);
  const Selection pick = {{1}, {4}, {1}, 70, FOVEA_F32};
  double one = 0, less = 0;
  for (double w : weights_of(GetParam(), laid.args, pick).values) one += w;
  for (double w : weights_of(GetParam(), sunk.args, pick).values) less += w;
  EXPECT_NEAR(one, 1.0, 70 * 0x1p-24 + 16 * 0x1p-24 * 5);  // roundings and logits of size < 4
  EXPECT_LT(less, 0.999);
}

TEST_P(WeightsCall, GivesTheSameBitsTwice) {
  Case laid(base().type(FOVEA_BF16).s);
  const Selection pick = {{0, 1}, {0, 1, 2}, {0, 1}, 70, FOVEA_BF16};
  EXPECT_EQ(weights_of(GetParam(), laid.args, pick).values,
            weights_of(GetParam(), laid.args, pick).values);
}

TEST_P(WeightsCall, GivesZerosWhereThereAreNoRowsOrHeads) {
  for (int64_t heads_kv : {0, 2}) {
    Case headless(base().heads(0, heads_kv).s);
    expect_weights(GetParam(), headless.args, {{0, 1}, {0, 1}, {0, 1}, 9}, "no heads");
  }
  Case rowless(base().len_q(0).s);
  expect_weights(GetParam(), rowless.args, {{0, 1}, {0, 1}, {0, 1}, 9}, "no rows");
  Case keyless(base().len_kv(0).s);
  expect_weights(GetParam(), keyless.args, {{0, 1}, {0, 1}, {0, 1}, 9}, "no keys");
}

TEST_P(WeightsCall, AcceptsEmptySelections) {
  Case laid(base().s);
  for (const Selection &pick : {Selection{{}, {0}, {0}, 70}, Selection{{0}, {}, {0}, 70},
                                Selection{{0}, {0}, {}, 70}, Selection{{0}, {0}, {0}, 0}}) {
    EXPECT_EQ(weights_of(GetParam(), laid.args, pick).status, FOVEA_OK);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, WeightsCall, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

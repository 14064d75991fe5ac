// weights_test.cc - fovea_attention_weights against the oracle, in every feature and every output.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/attention/features.h"
#include "tests/attention/weights_call.h"

namespace fovea_test {
namespace {

Ints up_to(int64_t count) {
  Ints list;
  for (int64_t n = 0; n < count; ++n) list.push_back(n);
  return list;
}

// Every row and head of all sequences, and some that do not exist.
Wish everything(const Attention &a, int64_t keys = kKeys) {
  Wish wish;
  wish.sequences = up_to(kSequences);
  wish.rows = up_to(kRows);
  wish.heads = up_to(a.s.heads_q);
  wish.keys = keys;
  return wish;
}

class WeightsFeature : public testing::TestWithParam<std::tuple<Device, Feature>> {
 protected:
  const Device &device() { return std::get<0>(GetParam()); }
  Attention base() { return base_of(std::get<1>(GetParam()), device()); }
};

TEST_P(WeightsFeature, MatchTheOracle) {
  const Attention a = base();
  Case laid(a.s);
  const Wish all = everything(a);
  expect_answer(device(), laid.args, all, a.text());
  Wish unlisted = all;
  unlisted.by_numbers = false;
  EXPECT_EQ(weigh(device(), laid.args, all), weigh(device(), laid.args, unlisted));
  fovea_attention_args bare = laid.args;
  bare.v = bare.out = bare.lse = bare.v_scale = bare.out_scale = fovea_tensor{};
  Wish some;
  some.sequences = {2, 0};
  some.rows = {5, 5, 1};
  some.heads = {0};
  some.keys = 20;
  some.dtype = FOVEA_BF16;
  // Without v the page table of v cannot hide a key, so such a problem is left out.
  if (bare.sequences.pages.v_ids == nullptr) expect_answer(device(), bare, some, a.text());
}

TEST_P(WeightsFeature, GivesLogitsOfEveryKind) {
  const Attention a = base();
  Case laid(a.s);
  Wish wish;
  wish.sequences = {1, 0, 2, -1};
  wish.rows = {0, 5, 2, 6};
  wish.heads = {a.s.heads_q - 1, 0, a.s.heads_q};
  wish.keys = kKeys + 4;
  for (uint32_t kind : {FOVEA_WEIGHTS_SCALED, FOVEA_WEIGHTS_SOFTCAPPED, FOVEA_WEIGHTS_LOGITS}) {
    wish.kind = kind;
    wish.dtype = kind == FOVEA_WEIGHTS_SCALED ? FOVEA_F32 : FOVEA_F16;
    expect_answer(device(), laid.args, wish, a.text() + " kind " + std::to_string(kind));
  }
}

TEST_P(WeightsFeature, AddsUpTheMassOfEachKey) {
  const Attention a = base();
  Case laid(a.s);
  Wish wish = everything(a);
  wish.dtype = FOVEA_NONE;
  wish.mass = true;
  expect_answer(device(), laid.args, wish, a.text());
  wish.by_kv_head = wish.every_row = true;
  expect_answer(device(), laid.args, wish, a.text() + " by kv head");
}

TEST_P(WeightsFeature, DescribesEachRow) {
  const Attention a = base();
  Case laid(a.s);
  Wish wish = everything(a);
  wish.dtype = FOVEA_NONE;
  wish.statistics = true;
  expect_answer(device(), laid.args, wish, a.text());
}

INSTANTIATE_TEST_SUITE_P(Every, WeightsFeature,
                         testing::Combine(testing::ValuesIn(weighing_devices()),
                                          testing::ValuesIn(features())),
                         [](const auto &info) {
                           return std::get<0>(info.param).name + "_" + std::get<1>(info.param).name;
                         });

class WeightsCall : public testing::TestWithParam<Device> {
 protected:
  Attention base() { return Attention().on(GetParam()).batch(2).len_q(5).len_kv(70).causal(); }
};

TEST_P(WeightsCall, TakesNumbersOutOfRangeForEmptyRows) {
  Case laid(base().s);
  const int64_t low = std::numeric_limits<int32_t>::min();
  const int64_t high = std::numeric_limits<int32_t>::max();
  Wish wish;
  wish.sequences = {0, -1, 2, low, high, 1};
  wish.rows = {4, 5, -1, low, high};
  wish.heads = {1, 2, -1, low, high};
  wish.keys = 70;
  wish.mass = wish.statistics = true;
  expect_answer(GetParam(), laid.args, wish, "numbers out of range");
  wish.kind = FOVEA_WEIGHTS_LOGITS;
  expect_answer(GetParam(), laid.args, wish, "logits of numbers out of range");
  wish.by_kv_head = true;
  wish.heads = {0, 1};
  expect_answer(GetParam(), laid.args, wish, "mass by kv head of numbers out of range");
}

TEST_P(WeightsCall, GivesZerosPastTheSequence) {
  Case laid(base().lengths({3, 0}).s);
  Wish wish;
  wish.sequences = {0, 1};
  wish.rows = {0, 4};
  wish.heads = {0, 1};
  wish.keys = 100;
  wish.dtype = FOVEA_F16;
  wish.mass = wish.statistics = true;
  expect_answer(GetParam(), laid.args, wish, "past the end");
}

TEST_P(WeightsCall, SumsToOneWithoutASinkAndToLessWithOne) {
  Case laid(base().s);
  Case sunk(base().sinks().s);
  Wish pick;
  pick.sequences = {1};
  pick.rows = {4};
  pick.heads = {1};
  pick.keys = 70;
  double one = 0, less = 0;
  for (double w : weigh(GetParam(), laid.args, pick).weights) one += w;
  for (double w : weigh(GetParam(), sunk.args, pick).weights) less += w;
  EXPECT_NEAR(one, 1.0, 70 * 0x1p-24 + 16 * 0x1p-24 * 5);  // roundings and logits of size < 4
  EXPECT_LT(less, 0.999);
}

TEST_P(WeightsCall, GivesTheSameBitsTwice) {
  Case laid(base().type(FOVEA_BF16).s);
  Wish pick;
  pick.sequences = {0, 1};
  pick.rows = {0, 1, 2};
  pick.heads = {0, 1};
  pick.keys = 70;
  pick.dtype = FOVEA_BF16;
  pick.mass = pick.statistics = true;
  EXPECT_EQ(weigh(GetParam(), laid.args, pick), weigh(GetParam(), laid.args, pick));
}

TEST_P(WeightsCall, WritesItsOutputsWhereThereAreNoRowsHeadsOrKeys) {
  Wish wish;
  wish.sequences = wish.rows = wish.heads = {0, 1};
  wish.keys = 9;
  wish.mass = wish.statistics = true;
  for (int64_t heads_kv : {0, 2}) {
    Case headless(base().heads(0, heads_kv).s);
    expect_answer(GetParam(), headless.args, wish, "no heads");
    Wish by_kv_head = wish;
    by_kv_head.heads = {};
    by_kv_head.by_kv_head = true;
    expect_answer(GetParam(), headless.args, by_kv_head, "no heads, mass by kv head");
  }
  Case rowless(base().len_q(0).s);
  expect_answer(GetParam(), rowless.args, wish, "no rows");
  Case keyless(base().len_kv(0).s);
  expect_answer(GetParam(), keyless.args, wish, "no keys");
  for (uint32_t kind : {FOVEA_WEIGHTS_SCALED, FOVEA_WEIGHTS_LOGITS}) {
    wish.kind = kind;
    expect_answer(GetParam(), keyless.args, wish, "no keys, logits");
  }
}

TEST_P(WeightsCall, AcceptsEmptySelections) {
  Case laid(base().s);
  for (int empty = 0; empty < 4; ++empty) {
    Wish wish;
    wish.sequences = empty == 0 ? Ints{} : Ints{0};
    wish.rows = empty == 1 ? Ints{} : Ints{0};
    wish.heads = empty == 2 ? Ints{} : Ints{0};
    wish.keys = empty == 3 ? 0 : 70;
    wish.mass = wish.statistics = true;
    expect_answer(GetParam(), laid.args, wish, "empty");
  }
}

TEST_P(WeightsCall, TakesTheLastRowsOfEachSequence) {
  const Attention a = base().len_q(9).rows({9, 2, 0}).batch(3);
  Case laid(a.s);
  Wish wish;
  wish.sequences = {2, 1, 0};
  wish.rows = {0, 0, 0, 0};
  wish.heads = {0, 1};
  wish.keys = 70;
  wish.mass = wish.statistics = wish.last_rows = true;
  expect_answer(GetParam(), laid.args, wish, "last rows " + a.text());
  wish.dtype = FOVEA_NONE;
  wish.statistics = false;
  expect_answer(GetParam(), laid.args, wish, "mass of the last rows " + a.text());
}

// Every output has the bits that it has alone, and a chosen row those that it has among others.
TEST_P(WeightsCall, GivesEachOutputAsIfItWereAlone) {
  Case laid(base().heads(6, 2).sinks().alibi().softcap(3).s);
  Wish wish;
  wish.sequences = {1, 0};
  wish.rows = {4, 0, 3};
  wish.heads = {5, 4, 0, 1, 2};
  wish.keys = 70;
  for (uint32_t kind :
       {FOVEA_WEIGHTS_PROBABILITIES, FOVEA_WEIGHTS_SOFTCAPPED, FOVEA_WEIGHTS_LOGITS}) {
    Wish all = wish, weights = wish, mass = wish, statistics = wish;
    all.kind = weights.kind = kind;
    all.mass = all.statistics = mass.mass = statistics.statistics = true;
    mass.dtype = statistics.dtype = FOVEA_NONE;
    const Answer whole = weigh(GetParam(), laid.args, all);
    EXPECT_EQ(whole.weights, weigh(GetParam(), laid.args, weights).weights);
    EXPECT_EQ(whole.mass, weigh(GetParam(), laid.args, mass).mass);
    const Answer described = weigh(GetParam(), laid.args, statistics);
    EXPECT_EQ(whole.statistics, described.statistics);
    EXPECT_EQ(whole.largest, described.largest);
  }
}

// ---- Hostile data -------------------------------------------------------------------------------

// Every row and head of three sequences, all outputs, and the bits that the call reports.
std::vector<uint32_t> bits_of(const Device &device, fovea_attention_args args, uint32_t kind,
                              const std::string &text) {
  std::vector<uint32_t> errors(3, 0);
  args.errors = errors.data();
  Wish wish;
  wish.sequences = {2, 0, 1};
  wish.rows = up_to(args.q.shape[1]);
  wish.heads = {0, 1};
  wish.keys = 75;
  wish.kind = kind;
  wish.mass = wish.statistics = kind == FOVEA_WEIGHTS_PROBABILITIES;
  expect_answer(device, args, wish, text);
  return errors;
}

const uint32_t kKinds[] = {FOVEA_WEIGHTS_PROBABILITIES, FOVEA_WEIGHTS_SCALED,
                           FOVEA_WEIGHTS_SOFTCAPPED, FOVEA_WEIGHTS_LOGITS};

TEST_P(WeightsCall, ReportsLengthsOutOfRange) {
  for (uint32_t kind : kKinds) {
    Case laid(base().batch(3).lengths({-1, 70, 71}).s);
    EXPECT_EQ(bits_of(GetParam(), laid.args, kind, "bad lengths"),
              (std::vector<uint32_t>{FOVEA_BAD_LENGTH, 0, FOVEA_BAD_LENGTH}));
  }
}

TEST_P(WeightsCall, HidesAndReportsKeysOnBadPages) {
  for (uint32_t kind : kKinds) {
    for (size_t slot : {size_t{0}, size_t{1}, size_t{4}}) {
      Case laid(base().batch(3).lengths({70, 17, 48}).paged(16).s);
      const fovea_pages &pages = laid.args.sequences.pages;
      std::vector<int32_t> ids(pages.ids, pages.ids + 2 * pages.row_stride + pages.count);
      ids[slot] = slot == 1 ? -1 : std::numeric_limits<int32_t>::max();
      laid.args.sequences.pages.ids = ids.data();
      EXPECT_EQ(bits_of(GetParam(), laid.args, kind, "bad page"),
                (std::vector<uint32_t>{FOVEA_BAD_PAGE, 0, 0}));
    }
  }
}

TEST_P(WeightsCall, ReportsMasksThatDoNotReach) {
  Case laid(base().batch(3).lengths({70, 70, 70}).mask(0.3).s);
  laid.args.visibility.mask.shape[3] = 60;
  EXPECT_EQ(bits_of(GetParam(), laid.args, FOVEA_WEIGHTS_LOGITS, "short mask"),
            (std::vector<uint32_t>(3, FOVEA_BAD_MASK)));
  EXPECT_EQ(bits_of(GetParam(), laid.args, FOVEA_WEIGHTS_SCALED, "masks are not looked at"),
            (std::vector<uint32_t>(3, 0)));
}

TEST_P(WeightsCall, ClampsOffsetsThatDecreaseOrExceed) {
  const int32_t low = std::numeric_limits<int32_t>::min();
  const int32_t high = std::numeric_limits<int32_t>::max();
  const std::vector<std::vector<int32_t>> lists = {
      {0, 4, 2, 9}, {-1, 4, 8, 9}, {0, high, 1, 2}, {5, 4, 3, 2}, {0, low, high, 0}};
  for (const std::vector<int32_t> &list : lists) {
    Case laid(base().clean().contiguous().rows({3, 3, 3}).keys({3, 3, 3}).s);
    laid.args.sequences.q_offsets = list.data();
    laid.args.sequences.kv_offsets = list.data();
    for (uint32_t bits : bits_of(GetParam(), laid.args, 0, "bad offsets"))
      EXPECT_EQ(bits & ~uint32_t{FOVEA_BAD_OFFSET}, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, WeightsCall, testing::ValuesIn(weighing_devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

// hostile_test.cc - bad numbers in device memory.
//
// They lead to no access outside the tensors, set bits in errors, and change no other sequence.
// All inputs end at guard pages, so an access outside them is a fault.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

const int64_t kMin = std::numeric_limits<int32_t>::min();
const int64_t kMax = std::numeric_limits<int32_t>::max();
const double kNan = std::numeric_limits<double>::quiet_NaN();
const double kInfinity = std::numeric_limits<double>::infinity();

class Hostile : public testing::TestWithParam<Device> {
 protected:
  Attention base() { return Attention().on(GetParam()).len_q(4).len_kv(70).batch(3).seed(9); }
  // For a problem whose arrays a test has exchanged.
  void expect_oracle(Case *problem, const char *what) {
    expect_matches(*problem, GetParam(), what);
  }
};

TEST_P(Hostile, LengthsOutOfRangeAreClampedAndReported) {
  for (int64_t bad : {kMin, int64_t{-1}, int64_t{71}, int64_t{72}, kMax}) {
    for (const Ints &lengths : {Ints{bad, 5, 70}, Ints{64, bad, 0}, Ints{1, 2, bad}}) {
      base().lengths(lengths).causal().expect_matches_oracle();
      base().lengths(lengths).keys({70, 70, 70}).rows({4, 1, 0}).expect_matches_oracle();
      base().lengths(lengths).paged(16).expect_matches_oracle();
      base().lengths(lengths).paged(7, true, true).expect_matches_oracle();
    }
  }
}

TEST_P(Hostile, LengthsInRangeRaiseNoBit) {
  const Outcome outcome = base().lengths({0, 70, 33}).causal().run();
  EXPECT_EQ(outcome.errors, (std::vector<uint32_t>{0, 0, 0}));
}

TEST_P(Hostile, LengthsOutOfRangeRaiseExactlyTheirBit) {
  const Outcome outcome = base().lengths({-1, 70, 71}).run();
  EXPECT_EQ(outcome.errors, (std::vector<uint32_t>{FOVEA_BAD_LENGTH, 0, FOVEA_BAD_LENGTH}));
}

TEST_P(Hostile, BadNumbersAreClampedWhereNoErrorsAreWanted) {
  Case problem(base().clean().lengths({-5, 100, 70}).contiguous().s);
  const Outcome reported = problem.run(GetParam());
  std::vector<float> out(3 * 4 * 2 * 16);
  Block workspace(1 << 22, 1, 256);
  fovea_attention_args args = problem.args;
  args.out.data = out.data();
  args.lse = fovea_tensor{};
  args.errors = nullptr;
  args.workspace = workspace.data();
  args.workspace_bytes = workspace.size();
  ASSERT_EQ(fovea_attention(handle_of(GetParam()), &args, nullptr), FOVEA_OK);
  EXPECT_EQ(static_cast<double>(out[8 * 16 * 2 + 5]), reported.at(2, 0, 0, 5));
}

TEST_P(Hostile, FirstKeysOutOfRangeAreClampedAndReported) {
  for (int64_t bad : {kMin, int64_t{-1}, int64_t{70}, int64_t{71}, kMax}) {
    base().kv_first({bad, 5, 0}).expect_matches_oracle();
    base().kv_first({1, 69, bad}).lengths({30, 70, 70}).paged(8).expect_matches_oracle();
  }
}

// A running max and clamping make offsets valid: no row has two owners, none lies outside.
TEST_P(Hostile, OffsetsThatDecreaseOrExceedAreClampedAndReported) {
  const int32_t low = std::numeric_limits<int32_t>::min();
  const int32_t high = std::numeric_limits<int32_t>::max();
  const std::vector<std::vector<int32_t>> lists = {
      {0, 4, 2, 9},    {-1, 4, 8, 9},     {low, 0, 0, 9},  {0, 100, 5, 9},
      {0, high, 1, 2}, {5, 4, 3, 2},      {9, 9, 9, 9},    {0, 3, 3, 10},
      {10, 0, 5, 9},   {0, low, high, 0}, {high, 0, 0, 0}, {-5, -4, -3, -2}};
  for (const std::vector<int32_t> &list : lists) {
    Case rows(base().clean().contiguous().rows({3, 3, 3}).causal().s);
    rows.args.sequences.q_offsets = list.data();
    expect_oracle(&rows, "bad q_offsets");
    Case keys(base().clean().contiguous().keys({3, 3, 3}).causal().s);
    keys.args.sequences.kv_offsets = list.data();
    expect_oracle(&keys, "bad kv_offsets");
    Case both(base().clean().contiguous().rows({3, 3, 3}).keys({3, 3, 3}).s);
    both.args.sequences.q_offsets = list.data();
    both.args.sequences.kv_offsets = list.data();
    expect_oracle(&both, "bad offsets of both");
    const int32_t lengths[3] = {2, 2, 2};
    both.args.sequences.kv_lengths = lengths;
    expect_oracle(&both, "bad offsets of both, with lengths");
    if (HasFailure()) {
      FAIL() << "offsets " << list[0] << ' ' << list[1] << ' ' << list[2] << ' ' << list[3];
    }
  }
}

TEST_P(Hostile, PageIdsOutsideTheCacheHideTheirKeysAndAreReported) {
  for (bool csr : {false, true}) {
    for (int table = 0; table < 2; ++table) {
      for (int64_t slot = 0; slot < 5; ++slot) {
        Case problem(base().lengths({70, 17, 48}).paged(16, csr, true).causal().s);
        const int32_t pages = static_cast<int32_t>(problem.args.k.shape[0]);
        const fovea_pages &pages_of = problem.args.sequences.pages;
        const size_t slots =
            static_cast<size_t>(csr ? pages_of.count : pages_of.row_stride * 2 + pages_of.count);
        for (int32_t bad : {-1, std::numeric_limits<int32_t>::min(), pages, pages + 1,
                            std::numeric_limits<int32_t>::max()}) {
          const int32_t *&used =
              table == 0 ? problem.args.sequences.pages.ids : problem.args.sequences.pages.v_ids;
          const int32_t *original = used;
          std::vector<int32_t> changed(original, original + slots);
          changed[static_cast<size_t>(slot)] = bad;
          used = changed.data();
          expect_oracle(&problem, "bad page id");
          used = original;
        }
      }
    }
  }
}

TEST_P(Hostile, PageIdsAreReportedForTheirSequenceAlone) {
  Case problem(base().lengths({16, 32, 16}).paged(16, true).s);
  std::vector<int32_t> ids(problem.args.sequences.pages.ids, problem.args.sequences.pages.ids + 4);
  ids[2] = -7;  // the second page of sequence 1
  problem.args.sequences.pages.ids = ids.data();
  EXPECT_EQ(problem.run(GetParam()).errors, (std::vector<uint32_t>{0, FOVEA_BAD_PAGE, 0}));
}

TEST_P(Hostile, OffsetsOfPageTablesOutOfRangeStayInsideTheTable) {
  const std::vector<std::vector<int32_t>> lists = {
      {0, 100, 3, 4}, {-5, 1, 2, 4}, {4, 3, 2, 1}, {0, 1, std::numeric_limits<int32_t>::max(), 4}};
  for (const std::vector<int32_t> &list : lists) {
    Case problem(base().clean().lengths({16, 32, 16}).paged(16, true).s);
    problem.args.sequences.pages.offsets = list.data();
    expect_oracle(&problem, "bad page offsets");
  }
}

TEST_P(Hostile, ExtremePositionsDoNotOverflow) {
  for (int64_t q : {kMin, int64_t{-1}, kMax}) {
    for (int64_t k : {kMin, int64_t{0}, kMax}) {
      for (int32_t stride : {0, 1, 2147483647}) {
        for (int64_t window : {int64_t{-1}, int64_t{0}, kMax}) {
          base()
              .causal()
              .q_position({q, 0, q})
              .kv_position({k, k, 0}, stride)
              .window(window, window)
              .expect_matches_oracle();
        }
        base()
            .causal()
            .kv_position({k, 0, k}, stride)
            .prefix({kMin, kMax, 0})
            .expect_matches_oracle();
        base()
            .q_position({q, q, 1})
            .kv_position({k, 3, k}, stride)
            .alibi()
            .fill("slope", [](const At &at) { return at.h == 0 ? 1e-9 : -1e-12; })
            .expect_matches_oracle();
      }
    }
  }
}

TEST_P(Hostile, TreesOutsideTheirWordsHideTheKeyAndAreReported) {
  for (int32_t start :
       {std::numeric_limits<int32_t>::min(), -1, 1, 3, std::numeric_limits<int32_t>::max()}) {
    for (int32_t length : {0, 1, 40, 70, 71, std::numeric_limits<int32_t>::max()}) {
      Case problem(base().clean().tree(40).s);
      const int32_t starts[3] = {0, start, 8};
      const int32_t lengths[3] = {40, length, 40};
      problem.args.visibility.tree.starts = starts;
      problem.args.visibility.tree.lengths = lengths;
      expect_oracle(&problem, "bad tree");
    }
  }
}

TEST_P(Hostile, TreesEndWithTheirWordsAlsoWithinARow) {
  for (int64_t words : {0, 1, 2, 3, 7}) {  // a row of 40 columns has two
    Case problem(base().clean().tree(40).fill("tree", [](const At &) { return 1.0; }).s);
    problem.args.visibility.tree.words = words;
    expect_oracle(&problem, "short tree");
  }
}

TEST_P(Hostile, MasksNarrowerThanAPackedSequenceHideTheRestAndAreReported) {
  for (const char *form : {"srhk", "rk", "k", "r"}) {
    for (bool of_bias : {false, true}) {
      Attention a = base().clean().rows({4, 1, 2}).keys({70, 3, 20});
      if (of_bias) {
        a.bias(FOVEA_F32, 0.2, form);
      } else {
        a.mask(0.2, form);
      }
      Case problem(a.s);
      fovea_tensor &t = of_bias ? problem.args.logits.bias : problem.args.visibility.mask;
      if (t.shape[1] > 1) t.shape[1] = 3;
      if (t.shape[3] > 1) t.shape[3] = 33;
      expect_oracle(&problem, "narrow mask");
    }
  }
}

TEST_P(Hostile, ANonFiniteKeyOrValueSpoilsOnlyItsSequenceAndHead) {
  const auto problem = [&]() { return base().heads(4, 2).causal(); };
  const Outcome plain = problem().run();
  for (const char *which : {"k", "v"}) {
    for (double bad : {kNan, kInfinity, -kInfinity}) {
      const Fill fill = [=](const At &at) {
        if (at.tag == 1 && at.i == 66 && at.h == 1 && at.d == 3) return bad;
        return normal(mix(1, static_cast<uint64_t>(which[0]), static_cast<uint64_t>(at.i),
                          static_cast<uint64_t>(at.tag * 64 + at.h * 32 + at.d)));
      };
      const Fill good = [=](const At &at) {
        if (at.tag == 1 && at.i == 66 && at.h == 1 && at.d == 3) return 0.5;
        return fill(at);
      };
      const Outcome spoiled = problem().fill(which, fill).run();
      const Outcome healthy = problem().fill(which, good).run();
      for (int64_t s = 0; s < 3; ++s) {
        for (int64_t h = 0; h < 4; ++h) {
          if (s == 1 && h >= 2) continue;
          for (int64_t i = 0; i < 4; ++i) {
            EXPECT_EQ(spoiled.bits(s, i, h, 5), healthy.bits(s, i, h, 5)) << which << bad;
            EXPECT_EQ(spoiled.lse[spoiled.row(s, i, h)], healthy.lse[healthy.row(s, i, h)]);
          }
        }
      }
      problem().fill(which, fill).expect_matches_oracle();
    }
  }
}

TEST_P(Hostile, ANonFiniteQuerySpoilsOnlyItsRow) {
  for (double bad : {kNan, kInfinity, -kInfinity}) {
    const Fill fill = [=](const At &at) {
      if (at.tag == 1 && at.i == 2 && at.h == 1 && at.d == 3) return bad;
      return normal(mix(7, static_cast<uint64_t>(at.i), static_cast<uint64_t>(at.tag),
                        static_cast<uint64_t>(at.h * 16 + at.d)));
    };
    base().fill("q", fill).expect_matches_oracle();
    base().fill("q", fill).causal().lengths({70, 3, 64}).sinks().expect_matches_oracle();
  }
}

TEST_P(Hostile, AnInfiniteBiasGivesNan) {
  Attention a = base().bias().fill("bias", [](const At &at) {
    return at.tag == 1 && at.i == 1 && at.d == 69 ? kInfinity : 0.0;
  });
  const Outcome outcome = a.run();
  EXPECT_TRUE(std::isnan(outcome.at(1, 1, 0, 0)));
  EXPECT_TRUE(std::isnan(outcome.lse_at(1, 1, 0)));
  EXPECT_FALSE(std::isnan(outcome.at(1, 2, 0, 0)));
  EXPECT_FALSE(std::isnan(outcome.at(0, 1, 0, 0)));
}

TEST_P(Hostile, ANanBiasGivesNanWhereItIsSeen) {
  const Fill fill = [](const At &at) { return at.tag == 1 && at.d == 69 ? kNan : 0.0; };
  base().bias().fill("bias", fill).causal(FOVEA_ALIGN_TOP_LEFT).expect_matches_oracle();
  base().bias().fill("bias", fill).expect_matches_oracle();
}

// Some masks are the lowest finite number: as a bias it is a logit like any other.
TEST_P(Hostile, LowestFiniteBiasIsNotMinusInfinity) {
  const double lowest = -largest(FOVEA_F32);
  base()
      .bias()
      .fill("bias", [=](const At &at) { return at.i == 1 ? lowest : 0.0; })
      .expect_matches_oracle();
  base()
      .bias()
      .fill("bias", [=](const At &at) { return at.d < 65 ? lowest : 0.0; })
      .expect_matches_oracle();
  for (double logit : {-5e4, -5e5, -1e10, -1e30}) {
    base().bias().fill("bias", [=](const At &) { return logit; }).expect_matches_oracle();
    base().len_kv(1).bias().fill("bias", [=](const At &) { return logit; }).expect_matches_oracle();
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Hostile, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

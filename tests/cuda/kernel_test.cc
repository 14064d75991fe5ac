// kernel_test.cc - the CUDA kernels against the tests' own oracle, on a GPU or on the software GPU
// (FOVEA_CUDA_DRIVER). Sizes are chosen by their relation to the tiles: 64 or 128 rows (position,
// head of the group) by 64 keys.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "tests/cuda/kernel_device.h"

namespace fovea_test {
namespace {

class Kernel : public OnCuda<testing::TestWithParam<std::tuple<uint32_t, int64_t>>> {
 protected:
  uint32_t dtype() { return std::get<0>(GetParam()); }
  int64_t dim() { return std::get<1>(GetParam()); }
  Attention problem(int64_t len_q, int64_t len_kv) {
    return Attention().on(kCuda).type(dtype()).dim(dim()).len_q(len_q).len_kv(len_kv);
  }
};

// These take long on a simulated device, so a few kernel rows stand for all.
class Serving : public Kernel {};

struct Sizes {
  int64_t len_q, len_kv, heads_q, heads_kv;
};

const uint32_t kLevels[] = {FOVEA_REPRODUCIBLE_RUN, FOVEA_REPRODUCIBLE_BATCH,
                            FOVEA_REPRODUCIBLE_PHASE};

// Below, at and above one tile and two tiles, with groups that do and do not divide a tile.
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

TEST_P(Kernel, MatchesTheOracleWithWindows) {
  for (const auto &[left, right] :
       {std::pair<int64_t, int64_t>{0, 0}, {20, -1}, {-1, 9}, {70, 3}, {63, 64}}) {
    Attention a = problem(90, 150).heads(2, 1).window(left, right);
    a.expect_matches_oracle();
    a.causal().top_left().expect_matches_oracle();
  }
}

TEST_P(Kernel, MatchesTheOracleWithPositionsOfEverySequence) {
  Attention a = problem(33, 140).batch(4).heads(4, 2).causal();
  Attention(a).q_position({0, 100, -20, 200}).expect_matches_oracle();
  Attention(a).kv_first({0, 64, 65, 140}).expect_matches_oracle();
  Attention(a).kv_position({5, -3, 0, 100}).window(40, -1).expect_matches_oracle();
  a.kv_position({0, 10, -70, 3}, 3).q_position({100, 0, 64, 500}).window(90, -1);
  a.lengths({140, 0, 64, 129}).kv_first({1, 0, 64, 100}).expect_matches_oracle();
}

TEST_P(Kernel, ReportsFirstKeysThatAreNone) {
  problem(5, 70).batch(3).kv_first({-1, 71, 70}).expect_matches_oracle();
}

TEST_P(Kernel, MatchesTheOracleWithSoftcapAndSinks) {
  problem(20, 140).heads(4, 2).causal().softcap(5).expect_matches_oracle();
  problem(20, 140).heads(4, 2).softcap(50).scale(1).expect_matches_oracle();
  problem(20, 140).heads(4, 2).causal().sinks().expect_matches_oracle();
  problem(70, 3).heads(2, 2).causal().sinks().softcap(2).expect_matches_oracle();
  for (double sink : {-HUGE_VAL, -1e30, 1e30, 40.0}) {
    Attention a = problem(9, 70).heads(3, 1).sinks();
    a.fill("sink", [sink](const At &) { return sink; }).expect_matches_oracle();
  }
}

TEST_P(Serving, MatchesTheOracleWithPages) {
  for (int64_t page_len : {1, 16, 24, 100}) {
    for (bool v_table : {false, true}) {
      Attention a = problem(9, 150).batch(3).heads(6, 2).paged(page_len, false, v_table);
      a.lengths({150, 0, 97}).causal().expect_matches_oracle();
    }
  }
  problem(70, 200).batch(2).paged(16).lengths({200, 130}).window(50, 0).expect_matches_oracle();
}

TEST_P(Serving, MatchesTheOracleWithPackedSequences) {
  const Ints rows = {1, 0, 70, 16, 3, 0, 1}, keys = {300, 9, 70, 0, 65, 0, 1};
  for (uint32_t level : kLevels) {
    Attention a = problem(0, 0).heads(4, 2).rows(rows).keys(keys).causal().reproducible(level);
    a.expect_matches_oracle();
    a.lengths({290, 9, 71, 0, -1, 0, 1}).window(100, -1).sinks().expect_matches_oracle();
  }
}

// A serving step: a chunk of prefill beside rows that decode, over pages.
TEST_P(Serving, MatchesTheOracleWithMixedBatchesOverPages) {
  for (uint32_t level : kLevels) {
    for (bool csr : {false, true}) {
      Attention a = problem(0, 330).heads(6, 2).rows({1, 90, 1, 0, 2, 1}).reproducible(level);
      a.lengths({330, 200, 64, 0, 129, 1}).causal().paged(16, csr, csr).expect_matches_oracle();
    }
  }
}

TEST_P(Serving, MatchesTheOracleWhereKeysAreCutIntoManyParts) {
  for (uint32_t level : kLevels) {
    for (int64_t rows : {1, 3, 20}) {
      Attention a = problem(rows, 1500).heads(4, 1).causal().reproducible(level);
      a.expect_matches_oracle();
      Case few(a.s);
      few.args.sm_count = 3;
      expect_matches(few, kCuda, a.text() + ", on 3 multiprocessors");
    }
  }
}

// BATCH promises this, alone or in any batch.
TEST_P(Serving, ChangesNoBitOfASequenceWithItsNeighboursAndItsPages) {
  Attention a = problem(0, 1400).heads(4, 2).rows({1, 40, 3}).lengths({1400, 300, 700}).causal();
  a.reproducible(FOVEA_REPRODUCIBLE_BATCH).paged(16);
  const Outcome together = Attention(a).run();
  const Outcome elsewhere = Attention(a).layout_seed(9).paged(24, true).run();
  EXPECT_EQ(difference(together, elsewhere), "");
  for (int64_t s : {0, 1, 2}) {
    EXPECT_EQ(difference(together, s, Attention(a).pick({s}).run(), 0), "") << s;
  }
}

TEST_P(Serving, ReportsOffsetsThatAreNone) {
  Case problem_case(problem(0, 0).heads(2, 1).rows({3, 4, 5}).keys({20, 70, 9}).s);
  const int32_t backwards[4] = {0, 7, 3, 1000000};
  problem_case.args.sequences.q_offsets = backwards;
  expect_matches(problem_case, kCuda, "offsets that fall and then leave the tensor");
}

TEST_P(Serving, ReportsABadPageWhoseKeysAMaskHides) {
  Attention a = problem(3, 64).heads(2, 1).paged(16).mask(0.3, "sk");
  a.fill("mask", [](const At &at) { return at.d / 16 == 1 ? 0.0 : 1.0; });
  Case problem_case(a.s);
  std::vector<int32_t> ids(problem_case.args.sequences.pages.ids,
                           problem_case.args.sequences.pages.ids + 4);
  ids[1] = 1000000;
  problem_case.args.sequences.pages.ids = ids.data();
  problem_case.args.sequences.pages.count = problem_case.args.sequences.pages.row_stride = 4;
  expect_matches(problem_case, kCuda, "a bad page that is hidden");
  EXPECT_EQ(problem_case.run(kCuda).errors[0] & FOVEA_BAD_PAGE, uint32_t{FOVEA_BAD_PAGE});
}

TEST_P(Kernel, HasDimsOfValuesThatDifferFromThoseOfKeys) {
  for (int64_t dim_v : {8, 24, 64, 120, 128, 200}) {
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

// One tensor at a time is not aligned to 16 bytes, by its base or by one stride. A kernel that
// checks another tensor instead, or too few strides, would make unaligned accesses.
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

TEST_P(Serving, ChangesNoBitWithTheNumberOfMultiprocessors) {
  for (uint32_t level : {FOVEA_REPRODUCIBLE_BATCH, FOVEA_REPRODUCIBLE_PHASE}) {
    for (int64_t rows : {1, 130}) {
      Attention a = problem(rows, 600).batch(2).heads(4, 2).causal().reproducible(level);
      Case whole(a.s), narrow(a.s);
      narrow.args.sm_count = 1;
      EXPECT_EQ(difference(whole.run(kCuda), narrow.run(kCuda)), "");
    }
  }
}

// A row computed alone, as in decoding, has the same bits as among the others.
TEST_P(Kernel, ChangesNoBitWithOtherRowsAndOtherSequences) {
  Attention a = problem(40, 150).batch(3).heads(6, 2).reproducible(FOVEA_REPRODUCIBLE_PHASE);
  const Outcome together = Attention(a).run();
  for (int64_t i : {0, 11, 39}) {
    const Outcome alone = Attention(a).pick({1}).row_shift(i).len_q(1).run();
    EXPECT_EQ(difference(together, 1, alone, 0, i), "") << i;
  }
}

// With a factor of 1 - 2^-24, each tile's base is rounded by the same part of a unit. The max rises
// in every tile, so whatever is lost in moving from base to base adds up.
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

using Parameters = testing::TestParamInfo<std::tuple<uint32_t, int64_t>>;

std::string name_of(const Parameters &info) {
  const bool half = std::get<0>(info.param) == FOVEA_F16;
  return std::string(half ? "f16_d" : "bf16_d") + std::to_string(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Rows, Kernel,
                         testing::Combine(testing::Values(FOVEA_F16, FOVEA_BF16),
                                          testing::Values(8, 32, 64, 96, 128, 192, 256)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Between, Kernel,
                         testing::Combine(testing::Values(FOVEA_F16),
                                          testing::Values(40, 104, 248)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Rows, Serving,
                         testing::Values(std::make_tuple(FOVEA_F16, 64),
                                         std::make_tuple(FOVEA_BF16, 32),
                                         std::make_tuple(FOVEA_BF16, 128),
                                         std::make_tuple(FOVEA_BF16, 256)),
                         name_of);

}  // namespace
}  // namespace fovea_test

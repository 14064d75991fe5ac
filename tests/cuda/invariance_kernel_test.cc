// invariance_kernel_test.cc - what must not change a bit on CUDA, for every feature that kernels
// have, on narrow and wide tiles, at every level of `reproducible`.
#include <gtest/gtest.h>

#include "tests/cuda/feature_problem.h"

namespace fovea_test {
namespace {

class InvarianceKernel : public OnCuda<testing::TestWithParam<std::tuple<Way, Feature>>> {
 protected:
  const Way &way() { return std::get<0>(GetParam()); }
  Attention problem() { return feature_problem(std::get<1>(GetParam()), way()); }
};

TEST_P(InvarianceKernel, MatchesTheOracle) {
  problem().expect_matches_oracle();
}

TEST_P(InvarianceKernel, UnreadMemoryChangesNoBit) {
  EXPECT_EQ(difference(problem().run(), problem().clean().run()), "") << problem().text();
  const Attention even = problem().contiguous();
  EXPECT_EQ(difference(even.run(), Attention(even).clean().run()), "") << even.text();
}

TEST_P(InvarianceKernel, StridesGapsAndPageOrderChangeNoBit) {
  const Outcome plain = problem().contiguous().run();
  for (uint64_t layout : {1, 2}) {
    EXPECT_EQ(difference(plain, problem().layout_seed(layout).run()), "") << layout;
  }
}

TEST_P(InvarianceKernel, OtherSequencesChangeNoBitOfBatch) {
  if (way().level == FOVEA_REPRODUCIBLE_RUN) return;
  const Outcome together = problem().run();
  for (const Ints &order : {Ints{1}, Ints{2, 1, 0}, Ints{1, 1, 2, 0, 1}}) {
    const Outcome other = problem().pick(order).run();
    for (size_t n = 0; n < order.size(); ++n) {
      ASSERT_EQ(difference(together, order[n], other, static_cast<int64_t>(n)), "");
    }
  }
}

TEST_P(InvarianceKernel, MultiprocessorsChangeNoBitOfBatch) {
  if (way().level == FOVEA_REPRODUCIBLE_RUN) return;
  const Outcome one = problem().sm_count(1).run();
  EXPECT_EQ(difference(one, problem().sm_count(13).run()), "");
}

// A row computed alone, as in decoding, has the same bits as among its sequence's rows.
TEST_P(InvarianceKernel, OtherRowsOfTheSequenceChangeNoBitOfPhase) {
  if (way().level != FOVEA_REPRODUCIBLE_PHASE) return;
  const Case laid(problem().s);
  const Geometry geometry(laid.args);
  const Outcome together = problem().run();
  for (const Sequence &s : geometry.sequences()) {
    for (int64_t i = 0; i < s.len_q; i += 3) {
      Attention alone = problem().pick({s.index}).row_shift(i);
      if (!alone.s.selected) alone.q_position({s.row0 + i});
      if (alone.s.rows.empty()) {
        alone.len_q(1);
      } else {
        alone.rows({1});
      }
      if (alone.s.tree == 0) alone.tree(s.len_q);
      ASSERT_EQ(difference(together, s.index, alone.run(), 0, i), "");
    }
  }
}

const Way kWays[] = {
    {"run_narrow", FOVEA_F16, FOVEA_REPRODUCIBLE_RUN, true, 16, 16, false},
    {"run_wide", FOVEA_BF16, FOVEA_REPRODUCIBLE_RUN, false, 16, 16, true},
    {"batch_narrow", FOVEA_BF16, FOVEA_REPRODUCIBLE_BATCH, true, 16, 16, true},
    {"batch_wide", FOVEA_F16, FOVEA_REPRODUCIBLE_BATCH, false, 16, 16, false},
    {"phase", FOVEA_F16, FOVEA_REPRODUCIBLE_PHASE, false, 16, 16, false},
};

INSTANTIATE_TEST_SUITE_P(Every, InvarianceKernel,
                         testing::Combine(testing::ValuesIn(kWays),
                                          testing::ValuesIn(kernel_features())),
                         [](const auto &info) {
                           return std::string(std::get<0>(info.param).name) + "_" +
                                  std::get<1>(info.param).name;
                         });

TEST(KernelFeatures, AreThoseOfTheTableAndTheirKin) {
  EXPECT_GE(kernel_features().size(), 40u);
}

// ---- Batches

class BatchKernel : public OnCuda<testing::Test> {
 protected:
  // One to five chunks of keys, and none; few rows, many, and none.
  Attention batch() {
    Attention a;
    a.on(kCuda).type(FOVEA_BF16).dim(32).heads(4, 2).len_kv(2304).causal();
    a.rows({1, 3, 0, 2, 12, 1, 0, 1}).lengths({2304, 257, 0, 511, 700, 0, 1, 2049});
    return a.reproducible(FOVEA_REPRODUCIBLE_BATCH).sm_count(FEW_MULTIPROCESSORS);
  }
};

TEST_F(BatchKernel, ChangesNoBitOfASequenceWithItsNeighbours) {
  const Outcome together = batch().paged(16).run();
  const Ints orders[] = {{0},    {1},    {4},          {7, 6, 5, 4, 3, 2, 1, 0},
                         {1, 0}, {3, 1}, {2, 5, 3, 6}, {1, 3, 1, 4, 3, 1, 7, 1}};
  for (const Ints &order : orders) {
    const Outcome other = batch().pick(order).paged(16).run();
    for (size_t n = 0; n < order.size(); ++n) {
      EXPECT_EQ(difference(together, order[n], other, static_cast<int64_t>(n)), "") << order[n];
    }
  }
}

TEST_F(BatchKernel, ChangesNoBitOfASequenceWithItsPagesAndMultiprocessors) {
  const Outcome plain = batch().run();
  EXPECT_EQ(difference(plain, batch().sm_count(1).run()), "");
  EXPECT_EQ(difference(plain, batch().sm_count(108).run()), "");
  for (int64_t page_len : {1, 17, 64, 3000}) {
    EXPECT_EQ(difference(plain, batch().paged(page_len).run()), "") << page_len;
    EXPECT_EQ(difference(plain, batch().paged(page_len, true, true).sm_count(9).run()), "");
  }
}

TEST_F(BatchKernel, ChangesNoBitWithWhatLiesInMemoryThatIsNotRead) {
  for (uint32_t level :
       {FOVEA_REPRODUCIBLE_RUN, FOVEA_REPRODUCIBLE_BATCH, FOVEA_REPRODUCIBLE_PHASE}) {
    const Attention a =
        batch().paged(16, false, true).window(600, -1).kv_first({2000, 1, 0, 250, 64, 0, 1, 0});
    Attention poisoned = a, clean = a;
    poisoned.s.reproducible = clean.s.reproducible = level;
    EXPECT_EQ(difference(poisoned.run(), clean.clean().run()), "") << level;
  }
}

}  // namespace
}  // namespace fovea_test

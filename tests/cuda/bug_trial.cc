// bug_trial.cc - the problems that try the bugs planted in the attention kernels. They are few and
// small because planted_bugs.py runs all of them twice for each bug. Together they reach every
// branch of the kernels. Those of Trial use the row bf16_d32 of kernels/shared/attention_fwd.def:
// tiles of 64 rows, 16 to a warp, and two stages. Those of ManyRows use the rows with tiles of 128,
// and those of Cached rows of 8-bit caches.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/cuda/kernel_device.h"

namespace fovea_test {
namespace {

// A tile is 64 rows (position, head of the group) by 64 keys.
class Trial : public testing::Test {
 protected:
  static void SetUpTestSuite() { attention_call = call_on_device; }
  // Rows begin at multiples of 16 bytes and follow each other without a gap. There is no schedule.
  Attention dense(int64_t len_q, int64_t len_kv) {
    Attention a = Attention().on(kCuda).type(FOVEA_BF16).dim(32).len_q(len_q).len_kv(len_kv);
    return a.contiguous().reproducible(FOVEA_REPRODUCIBLE_PHASE);
  }
  // The same, with a schedule that shares the work.
  Attention shared(int64_t len_q, int64_t len_kv) {
    return dense(len_q, len_kv).reproducible(FOVEA_REPRODUCIBLE_RUN);
  }
  // In any layout, with a schedule.
  Attention loose(int64_t len_q, int64_t len_kv) {
    Attention a = Attention().on(kCuda).type(FOVEA_BF16).dim(32).len_q(len_q).len_kv(len_kv);
    return a.reproducible(FOVEA_REPRODUCIBLE_RUN);
  }
};

TEST_F(Trial, RowsAndKeysPastTwoTiles) {
  dense(45, 150).heads(6, 2).expect_matches_oracle();
}

TEST_F(Trial, WholeTiles) {
  dense(64, 256).heads(1, 1).expect_matches_oracle();
}

TEST_F(Trial, RowsOfOneWarp) {
  dense(5, 200).heads(2, 1).batch(2).expect_matches_oracle();
}

TEST_F(Trial, Causality) {
  dense(70, 130).heads(2, 2).causal().expect_matches_oracle();
}

TEST_F(Trial, RowsWithoutAKey) {
  dense(70, 66).heads(1, 1).causal().expect_matches_oracle();
}

TEST_F(Trial, LengthsGoodAndBad) {
  dense(9, 100).batch(5).lengths({-1, 70, 0, 1000, 100}).causal().expect_matches_oracle();
}

TEST_F(Trial, PaddingMask) {
  dense(20, 150).batch(2).mask(0.3, "sk").expect_matches_oracle();
}

TEST_F(Trial, MaskThatHidesNearlyAll) {
  dense(20, 150).batch(2).mask(0.97, "sk").causal().expect_matches_oracle();
}

// Tiles have columns that the tensors lack, and rows lie at any address.
TEST_F(Trial, NarrowHeadsInAnyLayout) {
  for (int64_t layout : {1, 2, 3}) {
    const int64_t ragged = layout == 3;  // the last chunk of 8 columns is not whole
    Attention a = Attention().on(kCuda).type(FOVEA_BF16).layout_seed(static_cast<uint64_t>(layout));
    a.dim(24 - 3 * ragged).dim_v(8 - 3 * ragged);
    a.reproducible(FOVEA_REPRODUCIBLE_PHASE);
    a.heads(4, 2).len_q(40).len_kv(70).batch(2).causal().expect_matches_oracle();
  }
}

TEST_F(Trial, NarrowHeadsWithoutGaps) {
  dense(40, 70).dim(24).dim_v(8).heads(4, 2).expect_matches_oracle();
}

// Columns past the last key's dim are past the tensor's end.
TEST_F(Trial, WholeTilesOfNarrowHeads) {
  dense(40, 128).dim(24).dim_v(8).heads(1, 1).expect_matches_oracle();
}

TEST_F(Trial, SharesThatCutThroughTiles) {
  shared(40, 300).heads(4, 2).causal().expect_matches_oracle();
}

TEST_F(Trial, SequencesOfFewRows) {
  shared(2, 500).heads(4, 2).batch(2).lengths({500, 77}).expect_matches_oracle();
}

TEST_F(Trial, PositionsAndWindows) {
  Attention a = dense(20, 100).batch(2).window(30, 5).kv_first({3, 64});
  a.q_position({10, 90}).kv_position({0, -3}, 2).expect_matches_oracle();
}

TEST_F(Trial, SoftcapAndSinks) {
  dense(9, 150).heads(4, 2).softcap(5).sinks().expect_matches_oracle();
}

// ---- Schedules: what attention_prepare makes, and results merged from partials ----

TEST_F(Trial, PackedRowsOverPages) {
  Attention a = shared(0, 200).heads(4, 2).rows({1, 40, 0, 3}).causal().paged(16);
  a.lengths({200, 90, 64, 5}).expect_matches_oracle();
}

TEST_F(Trial, PackedKeysInAnyLayout) {
  Attention a = loose(0, 0).heads(2, 1).rows({3, 0, 40, 1}).keys({70, 9, 100, 0}).causal();
  a.expect_matches_oracle();
  a.reproducible(FOVEA_REPRODUCIBLE_PHASE).expect_matches_oracle();
}

TEST_F(Trial, PagesInATableWithOffsetsAndValuesInTheirOwn) {
  Attention a = loose(3, 130).batch(3).heads(4, 2).paged(24, true, true);
  a.lengths({130, 0, 50}).causal().expect_matches_oracle();
}

TEST_F(Trial, PagesOfEachHead) {
  shared(3, 100).batch(2).heads(4, 2).paged(16).head_pages().expect_matches_oracle();
}

TEST_F(Trial, SequencesShorterThanTheirRoom) {
  shared(20, 90).batch(3).q_lengths({5, 20, 0}).causal().expect_matches_oracle();
}

TEST_F(Trial, ChunksOfLongSequences) {
  Attention a = loose(1, 700).heads(4, 2).batch(2).lengths({700, 300});
  a.reproducible(FOVEA_REPRODUCIBLE_BATCH).expect_matches_oracle();
}

TEST_F(Trial, LengthsGoodAndBadInASchedule) {
  Attention a = loose(2, 100).batch(5).lengths({-1, 70, 0, 1000, 100}).causal();
  a.kv_first({0, 64, 0, 3, 200}).expect_matches_oracle();
}

TEST_F(Trial, OffsetsThatFallAndLeaveTheTensor) {
  Case problem(loose(0, 0).heads(2, 1).rows({3, 4, 5}).keys({20, 70, 9}).s);
  const int32_t backwards[4] = {0, 7, 3, 1000000};
  problem.args.sequences.q_offsets = backwards;
  expect_matches(problem, kCuda, "offsets of rows");
}

TEST_F(Trial, PagesThatAreNone) {
  Attention a = shared(2, 100).batch(2).paged(16).lengths({100, 90});
  Case problem(a.s);
  const fovea_pages &pages = problem.args.sequences.pages;
  std::vector<int32_t> ids(pages.ids, pages.ids + pages.row_stride + pages.count);
  ids[1] = -1;
  ids[static_cast<size_t>(pages.row_stride) + 2] = static_cast<int32_t>(problem.args.k.shape[0]);
  problem.args.sequences.pages.ids = ids.data();
  expect_matches(problem, kCuda, "pages");
}

TEST_F(Trial, MoreSequencesThanThreadsThatPlaceThem) {
  Ints rows(260);
  rows[3] = 2;
  rows[257] = 1;
  rows[259] = 20;
  shared(0, 40).heads(1, 1).rows(rows).expect_matches_oracle();
}

TEST_F(Trial, LseLeftOut) {
  dense(20, 70).no_lse().expect_matches_oracle();
}

// Sums are parked twice on the way.
TEST_F(Trial, RowsParkedOnTheWay) {
  dense(2, 2 * 8192 + 70).heads(1, 1).expect_matches_oracle();
}

TEST_F(Trial, NarrowRowsParkedOnTheWay) {
  shared(1, 8192 + 500).heads(1, 1).expect_matches_oracle();
}

// Fewer CTAs than tiles: each computes several.
TEST_F(Trial, OneMultiprocessor) {
  Attention a = dense(40, 140).heads(4, 1).batch(2);
  Case problem(a.s);
  problem.args.sm_count = 1;
  expect_matches(problem, kCuda, a.text());
}

// ---- Tiles of 128 rows ----

// bf16_d64 and bf16_d128 have 32 rows in each of four warps; bf16_d256 has 16 in each of eight.
// bf16_d64 has two stages, the others one. These calls have enough rows for them on a device of one
// multiprocessor alone.
class ManyRows : public Trial, public testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    const char *count = std::getenv("FOVEA_SIMGPU_MULTIPROCESSORS");
    if (!count || std::string(count) != "1") GTEST_SKIP() << "needs FOVEA_SIMGPU_MULTIPROCESSORS=1";
  }
  void expect_matches(const Attention &problem) {
    Attention a = problem;
    const Case laid(a.s);
    fovea_support support = {};
    support.struct_size = sizeof support;
    ASSERT_EQ(fovea_attention_support(handle_of(kCuda), &laid.args, &support), FOVEA_OK);
    ASSERT_EQ(support.kernel, "fovea_attention_fwd_sm80_bf16_d" + std::to_string(GetParam()));
    a.expect_matches_oracle();
  }
};

TEST_P(ManyRows, RowsAndKeysPastTwoTiles) {
  expect_matches(dense(135, 200).dim(GetParam()).heads(2, 1));
}

TEST_P(ManyRows, CausalSharesThatCutThroughTiles) {
  expect_matches(shared(131, 330).dim(GetParam()).heads(2, 2).causal());
}

TEST_P(ManyRows, ManyAndFewRowsTogether) {
  Attention a = shared(0, 200).dim(GetParam()).heads(4, 1).rows({2, 65, 4, 3}).causal();
  expect_matches(a.lengths({200, 150, 0, 33}));
}

TEST_P(ManyRows, NarrowerHeads) {
  const int dim = GetParam() - 24;
  expect_matches(dense(130, 128).dim(dim).dim_v(dim - 32).heads(2, 1).mask(0.2, "sk"));
}

INSTANTIATE_TEST_SUITE_P(Many, ManyRows, testing::Values(64, 128, 256),
                         [](const auto &dim) { return "bf16_d" + std::to_string(dim.param); });

// ---- 8-bit caches ----

class Cached : public Trial, public testing::WithParamInterface<uint32_t> {
 protected:
  Attention cached(int64_t len_q, int64_t len_kv, uint32_t k = FOVEA_E4M3, uint32_t v = FOVEA_I8) {
    Attention a = shared(len_q, len_kv).dim(48).dim_v(32).heads(2, 1).sm_count(3);
    return a.types(GetParam(), k, v, GetParam());
  }
};

TEST_P(Cached, WideTiles) {
  Attention a = cached(40, 200).scales("kv", "h").causal();
  a.expect_matches_oracle();
  a.dim_v(24).expect_matches_oracle();  // rows of values are not aligned
}

TEST_P(Cached, ScalesOfTokens) {
  Attention a = cached(40, 140, FOVEA_E5M2, FOVEA_E4M3).scales("k", "bsh");
  a.scales("v", "bsh", 1, 50).mask(0.3, "sk");  // times weights, they are past the largest f16
  a.fill("v", [](const At &at) { return 200.0 + 8 * at.d; }).expect_matches_oracle();
}

TEST_P(Cached, ScalesFarApart) {
  Attention a = cached(40, 140).scales("v", "bsh", 1, 1e-3);
  a.wide_scales(20).expect_matches_oracle();
}

// Whatever weights are rounded to, in each row otherwise, the average is the value.
TEST_P(Cached, ValuesThatAreAlike) {
  Attention a = cached(40, 140).scales("v", "bsh");
  a.fill("q", [](const At &at) { return 0.25 + 0.015625 * static_cast<double>(at.i); });
  a.fill("k", [](const At &at) { return at.i == 0 ? 1.0 : 0.5; });
  a.fill("v", [](const At &) { return 2.0; }).fill("v_scale", [](const At &) { return 0.5; });
  const Outcome outcome = a.run();
  for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(outcome.at(0, i, 1, 7), 1) << i;
}

TEST_P(Cached, ScalesOfBlocks) {
  cached(40, 140).scales("kv", "bsh", 4).wide_scales(3).expect_matches_oracle();
}

TEST_P(Cached, NarrowTiles) {
  Attention a = cached(2, 300).batch(2).lengths({300, 77}).scales("kv", "bsh");
  a.expect_matches_oracle();
}

TEST_P(Cached, NarrowScalesOfBlocksOnPages) {
  Attention a = cached(2, 200, FOVEA_I8, FOVEA_E5M2).batch(2).lengths({200, 70}).paged(16);
  a.scales("kv", "bsh", 2).expect_matches_oracle();
}

// Rows that see a NaN are not judged by the oracle. One key leaves no doubt.
TEST_P(Cached, NaNStaysNaN) {
  Attention a = cached(3, 1, FOVEA_E4M3, FOVEA_E4M3);
  a.fill("v", [](const At &at) { return at.d == 5 ? NAN : 0.5; });
  const Outcome outcome = a.run();
  for (int64_t d = 0; d < 32; ++d) EXPECT_EQ(std::isnan(outcome.at(0, 1, 1, d)), d == 5) << d;
}

INSTANTIATE_TEST_SUITE_P(EightBits, Cached, testing::Values(FOVEA_F16, FOVEA_BF16),
                         [](const auto &q) {
                           return q.param == FOVEA_F16 ? "f16_d64_kv8" : "bf16_d64_kv8";
                         });

}  // namespace
}  // namespace fovea_test

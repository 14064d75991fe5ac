// exact_kernel_test.cc - the exact oracles (support/exact_oracle.h) on CUDA. Every edge of lengths,
// masks, windows and pages lies at every offset around the borders of tiles, and keys are split
// anywhere.
//
// Keys come in tiles of 64 or 32; a warp of a narrow tile takes 32 or 16. To cover every offset
// around a border, each sequence of a call has the edge at another place.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/cuda/feature_problem.h"
#include "tests/support/exact_oracle.h"

namespace fovea_test {
namespace {

const int64_t kSweep = 21;  // sequences of a sweep: 10 places on either side of a border

// from, from + step, ...
Ints sweep(int64_t from, int64_t step = 1) {
  Ints numbers;
  for (int64_t n = 0; n < kSweep; ++n) numbers.push_back(from + n * step);
  return numbers;
}

class ExactKernel : public OnCuda<testing::TestWithParam<Way>> {
 protected:
  const Way &way() { return GetParam(); }
  int64_t rows() { return way().narrow ? 2 : 10; }  // times 6 heads: 12 or 60 rows of a tile
  Attention problem(int64_t len_kv) {
    Attention a;
    a.on(kCuda).type(way().dtype).dim(way().dim).dim_v(way().dim_v).heads(6, 1);
    a.len_q(rows()).len_kv(len_kv).reproducible(way().level);
    if (way().contiguous) a.contiguous();
    // Wide tiles of RUN are shared only if they are fewer than twice the workers.
    const bool few_tiles_are_shared = way().level == FOVEA_REPRODUCIBLE_RUN && !way().narrow;
    return a.sm_count(few_tiles_are_shared ? 24 : FEW_MULTIPROCESSORS);
  }
  // Needles and counts show every effect of positions.
  void expect_edges(const Attention &a) {
    expect_needles_at_edges(a);
    if (!HasFatalFailure()) expect_counts(a);
  }
};

TEST_P(ExactKernel, AtEveryNumberOfKeysAboutTheBordersOfTiles) {
  const Ints lengths = {0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129};
  const int64_t count = static_cast<int64_t>(lengths.size());
  Attention a = problem(129).batch(count).lengths(lengths);
  if (!way().narrow) a.len_q(11);  // 66 rows: a second tile of two rows
  expect_exact(a);
  expect_edges(Attention(a).causal());
  expect_edges(Attention(a).causal().top_left());
  // In packed keys, the next sequence's keys follow at once.
  Attention packed = problem(0).keys(lengths).batch(count);
  expect_edges(packed.rows(Ints(lengths.size(), rows())).causal());
}

TEST_P(ExactKernel, WhereCausalityEnds) {
  for (int64_t from : {48, 112}) {
    expect_edges(problem(150).batch(kSweep).causal().q_position(sweep(from)));
  }
}

TEST_P(ExactKernel, WhereWindowsBeginAndEnd) {
  const int64_t windows[][2] = {{0, 0},  {1, -1},  {-1, 0},  {15, 1},
                                {63, 0}, {64, 31}, {65, 64}, {-1, 63}};
  int64_t from = 48;
  for (const auto &w : windows) {
    Attention a = problem(150).batch(kSweep).window(w[0], w[1]).q_position(sweep(from));
    expect_edges(a);
    if (HasFatalFailure()) return;
    from = 160 - from;  // 112, 48, ...
  }
}

TEST_P(ExactKernel, WhereFirstKeysAndLengthsLie) {
  const Attention a = problem(150).batch(kSweep);
  expect_edges(Attention(a).kv_first(sweep(54)).lengths(sweep(118)));
  expect_edges(Attention(a).kv_first(sweep(118)).causal());
  expect_edges(Attention(a).lengths(sweep(54)).window(20, 0));
  expect_edges(Attention(a).kv_first(sweep(27, 2)).lengths(sweep(30, 2)));  // three keys
}

TEST_P(ExactKernel, WherePositionsWithStrideEnd) {
  for (int32_t stride : {1, 2, 3}) {
    const Ints keys = sweep(-10, 3);
    Ints rows;
    for (int64_t key : keys) rows.push_back(key + 64 * stride - 5 + key % 7);
    Attention a = problem(100).batch(kSweep).causal().window(40, -1);
    expect_edges(a.kv_position(keys, stride).q_position(rows));
    if (HasFatalFailure()) return;
  }
}

TEST_P(ExactKernel, WherePaddingMasksEnd) {
  const Attention a = problem(140).batch(kSweep);
  const auto with = [&](const Fill &fill) { return Attention(a).mask(0, "sk").fill("mask", fill); };
  expect_edges(with([](const At &at) { return at.d < 54 + at.tag; }));
  expect_edges(with([](const At &at) { return at.d >= 118 + at.tag; }));
  expect_edges(with([](const At &at) { return (at.d + at.tag) % 32 == 31; }).causal());
  expect_edges(with([](const At &at) { return (at.d * 7 + at.tag) % 5 != 0; }));
}

TEST_P(ExactKernel, WherePagesEnd) {
  for (int64_t page_len : {1, 15, 16, 17, 64}) {
    for (bool others : {false, true}) {
      Attention a = problem(129).batch(8).paged(page_len, others, others).causal();
      expect_exact(a.lengths({0, 1, page_len, page_len + 1, 63, 64, 65, 129}));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(ExactKernel, WherePackedSequencesEnd) {
  const Ints few = {1, 2, 0, 2, 1, 2, 0}, many = {10, 0, 1, 11, 3, 21, 2};
  Attention a = problem(0).rows(way().narrow ? few : many).keys({63, 5, 129, 0, 64, 65, 1});
  expect_exact(Attention(a).causal());
  expect_edges(Attention(a).window(30, 5).sinks());
  expect_edges(Attention(a).lengths({62, 5, 128, 0, 1, 65, 0}).causal());
}

TEST_P(ExactKernel, InEveryFeatureKeysAreCountedAndEqualValuesComeOutAsTheyAre) {
  for (const Feature &feature : kernel_features()) {
    const Attention a = feature_problem(feature, way());
    // Without an LSE no empty row shows; with v_in_k the test can't choose the values.
    if (!a.s.lse || a.s.v_in_k) continue;
    if (a.s.bias.present || a.s.alibi || a.s.distances) continue;  // weights are then not alike
    if (a.s.v_scale.present) continue;                             // nor are values 0 and 1
    expect_counts(a);
    // A sink takes weight, so equal values do not come out as they are. Nor do those that a cache
    // of 8 bits does not hold.
    if (a.s.sinks || a.s.v_type != a.s.out_type) continue;
    for (double value : {1.0, -0.109375, 1.75}) expect_constant(a, value);
    ASSERT_FALSE(HasFatalFailure()) << feature.name;
  }
}

TEST_P(ExactKernel, PowersOfTwoMoveBetweenOperands) {
  const Attention a = problem(300).batch(2).lengths({300, 200}).causal();
  expect_queries_keys_and_scale_trade_powers(a);
  expect_values_carry_powers_into_out(a);
}

const Way kWays[] = {
    {"f16_run_wide", FOVEA_F16, FOVEA_REPRODUCIBLE_RUN, false, 32, 32, true},
    {"bf16_run_narrow", FOVEA_BF16, FOVEA_REPRODUCIBLE_RUN, true, 32, 32, true},
    {"f16_batch_narrow_anywhere", FOVEA_F16, FOVEA_REPRODUCIBLE_BATCH, true, 16, 24, false},
    {"bf16_phase", FOVEA_BF16, FOVEA_REPRODUCIBLE_PHASE, false, 32, 32, true},
    {"bf16_run_narrow_of_d192", FOVEA_BF16, FOVEA_REPRODUCIBLE_RUN, true, 136, 16, true},
    {"f16_batch_wide_of_d192_anywhere", FOVEA_F16, FOVEA_REPRODUCIBLE_BATCH, false, 136, 16, false},
    {"f16_batch_narrow", FOVEA_F16, FOVEA_REPRODUCIBLE_BATCH, true, 32, 32, true},
};

INSTANTIATE_TEST_SUITE_P(Ways, ExactKernel, testing::ValuesIn(kWays),
                         [](const auto &info) { return info.param.name; });

// ---- Keys split where shares of work end

class ExactShares : public ExactKernel {
 protected:
  // Packed queries always have a schedule, whatever their number.
  Attention packed(const Ints &lengths, int32_t sm_count) {
    const int64_t most = *std::max_element(lengths.begin(), lengths.end());
    return problem(most).rows(Ints(lengths.size(), rows())).lengths(lengths).sm_count(sm_count);
  }
};

// Each number of multiprocessors splits at other tiles; some split one tile into several parts.
TEST_P(ExactShares, WhereSharesCutKeys) {
  for (int32_t sm_count = 1; sm_count <= 14; ++sm_count) {
    const int64_t other = 40 + 37 * sm_count;  // shares have at least sqrt(longest tile) units
    expect_exact(packed({way().narrow ? 700 : 400, other}, sm_count));
    if (HasFatalFailure()) return;
  }
}

TEST_P(ExactShares, WhereSharesCutWhatWindowsAndPagesLeave) {
  for (int32_t sm_count : {2, 3, 5, 7, 16, 40}) {
    expect_exact(packed({400, 250, 0, 65}, sm_count).window(140, 0).paged(17));
    expect_exact(packed({300, 250}, sm_count).kv_first({100, 130}).causal().sinks());
    if (HasFatalFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, ExactShares, testing::Values(kWays[0], kWays[1], kWays[4]),
                         [](const auto &info) { return info.param.name; });

// ---- Keys split where chunks begin

class ExactChunks : public ExactKernel {};

// A chunk has 256 keys in sequences of up to 2048 keys, and 512 in those up to 4096. Wide tiles are
// not split.
TEST_P(ExactChunks, WhereChunksBegin) {
  const struct {
    Ints lengths, rows;
  } batches[] = {{{255, 256, 257, 511, 512, 513, 0, 1, 256}, {2, 2, 2, 1, 2, 2, 2, 2, 10}},
                 {{2047, 2048, 2049, 2303, 2304, 2305, 700}, {2, 1, 2, 2, 2, 2, 0}}};
  for (const auto &batch : batches) {
    const Attention a = problem(2305).rows(batch.rows).lengths(batch.lengths);
    for (int32_t sm_count : {1, 7}) {
      expect_exact(Attention(a).sm_count(sm_count));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(ExactChunks, WhereTheFirstChunkIsGoneInPart) {
  const Ints lengths = {600, 600, 600, 600, 600, 600, 600};
  const Ints first = {0, 1, 255, 256, 257, 511, 512};
  const Attention a = problem(600).batch(7).lengths(lengths);
  expect_exact(Attention(a).kv_first(first));
  expect_edges(
      Attention(a).causal().window(300, -1).q_position({300, 555, 556, 557, 598, 811, 812}));
  expect_edges(Attention(a).causal().q_position({0, 254, 255, 256, 511, 512, 599}).paged(16));
}

INSTANTIATE_TEST_SUITE_P(Ways, ExactChunks, testing::Values(kWays[2], kWays[6]),
                         [](const auto &info) { return info.param.name; });

}  // namespace
}  // namespace fovea_test

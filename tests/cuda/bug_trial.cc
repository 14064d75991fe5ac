// bug_trial.cc - the problems on which bugs planted in the attention kernel are tried: few and small,
// for each bug runs all of them twice (planted_bugs.py), and together they reach every branch of the
// kernel. All are for the row bf16_d32 of kernels/attention_fwd.def.
#include <gtest/gtest.h>

#include "mirror.h"
#include "support/attention_builder.h"

namespace fovea_test {
namespace {

fovea_status call_on_device(fovea_handle *handle, const fovea_attention_args *args) {
  double seconds = 0;
  return fv_mirror_attention(handle, args, &seconds);
}

Device cuda_device() {
  Device device;
  device.name = "cuda";
  device.kind = FOVEA_DEVICE_CUDA;
  device.threads = 0;
  device.exact_probabilities = false;  // tensor cores take them in q's type
  return device;
}

const Device kCuda = cuda_device();

// A tile is 64 rows (position, head of the group) by 64 keys.
class Trial : public testing::Test {
 protected:
  static void SetUpTestSuite() { attention_call = call_on_device; }
  // Rows begin at multiples of 16 bytes, and follow each other without a gap. No schedule is made.
  Attention dense(int64_t len_q, int64_t len_kv) {
    Attention a = Attention().on(kCuda).type(FOVEA_BF16).dim(32).len_q(len_q).len_kv(len_kv);
    return a.contiguous().reproducible(FOVEA_REPRODUCIBLE_PHASE);
  }
  // The same, shared by a schedule.
  Attention shared(int64_t len_q, int64_t len_kv) {
    return dense(len_q, len_kv).reproducible(FOVEA_REPRODUCIBLE_RUN);
  }
};

TEST_F(Trial, RowsAndKeysPastTwoTiles) {
  dense(45, 150).heads(6, 2).expect_matches_oracle();
}

TEST_F(Trial, WholeTiles) {
  dense(64, 128).heads(1, 1).expect_matches_oracle();
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

// Columns of the tiles that the tensors do not have, rows at any address.
TEST_F(Trial, NarrowHeadsInAnyLayout) {
  for (uint64_t layout : {1, 2, 3}) {
    Attention a = Attention().on(kCuda).type(FOVEA_BF16).dim(24).dim_v(8).layout_seed(layout);
    a.reproducible(FOVEA_REPRODUCIBLE_PHASE);
    a.heads(4, 2).len_q(40).len_kv(70).batch(2).causal().expect_matches_oracle();
  }
}

TEST_F(Trial, NarrowHeadsWithoutGaps) {
  dense(40, 70).dim(24).dim_v(8).heads(4, 2).expect_matches_oracle();
}

TEST_F(Trial, SharesThatCutThroughTiles) {
  shared(40, 300).heads(4, 2).causal().expect_matches_oracle();
}

TEST_F(Trial, SequencesOfFewRows) {
  shared(2, 500).heads(4, 2).batch(2).lengths({500, 77}).expect_matches_oracle();
}

TEST_F(Trial, LseLeftOut) {
  dense(20, 70).no_lse().expect_matches_oracle();
}

// Fewer CTAs than tiles: each computes several.
TEST_F(Trial, OneMultiprocessor) {
  Attention a = dense(40, 140).heads(4, 1).batch(2);
  Case problem(a.s);
  problem.args.sm_count = 1;
  expect_matches(problem, kCuda, a.text());
}

}  // namespace
}  // namespace fovea_test

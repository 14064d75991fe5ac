// grid_kernel_test.cc - calls with more tiles than the 65,535 CTAs that a grid's second or third
// dimension can have. Nearly all sequences are empty, so a tile costs little. Rows count their
// keys.
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/cuda/kernel_device.h"
#include "tests/support/exact_oracle.h"

namespace fovea_test {
namespace {

const int64_t kLimit = 65535;

class GridKernel : public OnCuda<testing::Test> {
 protected:
  // One row each. Every 4093rd sequence, those near the limit and the last have one key.
  Attention sequences_with_a_key(int64_t count, int64_t heads, uint32_t level) {
    Ints lengths;
    for (int64_t n = 0; n < count; ++n) {
      const bool is_near = std::llabs(n * heads - kLimit) < 4 || n + 1 == count;
      lengths.push_back(n % 4093 == 0 || is_near ? 1 : 0);
    }
    Attention a;
    a.on(kCuda).type(FOVEA_F16).dim(16).heads(heads, heads).batch(count).len_q(1).len_kv(1);
    return a.lengths(lengths).reproducible(level).contiguous();
  }
  void expect_line(const Attention &a, const char *line) {
    const Case laid(a.s);
    char text[4096] = "";
    ASSERT_EQ(fovea_attention_explain(handle_of(kCuda), &laid.args, text, sizeof text), FOVEA_OK);
    EXPECT_NE(std::string(text).find(line), std::string::npos) << text;
  }
};

TEST_F(GridKernel, HasACtaForEveryTile) {
  const Attention a = sequences_with_a_key(32800, 2, FOVEA_REPRODUCIBLE_PHASE);
  expect_line(a, "workers      65600\n");
  expect_counts(a);
}

TEST_F(GridKernel, SharesTheTilesOfManySequences) {
  Attention a = sequences_with_a_key(65600, 1, FOVEA_REPRODUCIBLE_RUN);
  a.sm_count(FEW_MULTIPROCESSORS);
  expect_line(a, "at most 65600\n");
  expect_counts(a);
}

}  // namespace
}  // namespace fovea_test

// grid_kernel_test.cc - calls of more tiles than two dimensions of a grid have CTAs: 65,535. Nearly all
// sequences are empty, so that a tile costs little; rows count their keys.
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernel_device.h"
#include "support/exact_oracle.h"

namespace fovea_test {
namespace {

const int64_t kLimit = 65535;

class GridKernel : public OnCuda<testing::Test> {
 protected:
  // One row and, every now and then and about the limit, one key.
  Attention many_sequences(uint32_t level) {
    Ints lengths;
    const int64_t count = kLimit + 65;
    for (int64_t n = 0; n < count; ++n) {
      lengths.push_back(n % 4093 == 0 || std::llabs(n - kLimit) < 4 || n + 1 == count);
    }
    Attention a;
    a.on(kCuda).type(FOVEA_F16).dim(16).heads(1, 1).batch(count).len_q(1).len_kv(1);
    return a.lengths(lengths).reproducible(level).contiguous();
  }
  void expect_workers(const Attention &a, const char *line) {
    const Case laid(a.s);
    char text[4096] = "";
    ASSERT_EQ(fovea_attention_explain(handle_of(kCuda), &laid.args, text, sizeof text), FOVEA_OK);
    EXPECT_NE(std::string(text).find(line), std::string::npos) << text;
  }
};

TEST_F(GridKernel, HasACtaForEveryTileOfManySequences) {
  const Attention a = many_sequences(FOVEA_REPRODUCIBLE_PHASE);
  expect_workers(a, "workers      65600\n");
  expect_counts(a);
}

TEST_F(GridKernel, HasACtaForEveryTileOfManyHeads) {
  Attention a;
  a.on(kCuda).type(FOVEA_BF16).dim(16).heads(257, 257).batch(256).len_q(1).len_kv(2);
  Ints lengths(256, 0);
  lengths[0] = lengths[127] = lengths[255] = 2;
  a.lengths(lengths).reproducible(FOVEA_REPRODUCIBLE_PHASE).contiguous();
  expect_workers(a, "workers      65792\n");
  expect_counts(a);
}

TEST_F(GridKernel, SharesManySequences) {
  const Attention a = many_sequences(FOVEA_REPRODUCIBLE_RUN).sm_count(FEW_MULTIPROCESSORS);
  expect_workers(a, "at most 65600\n");
  expect_counts(a);
}

}  // namespace
}  // namespace fovea_test

// rows_kernel_test.cc - a few cheap problems for every row of shared/attention_fwd.def: wide and
// narrow tiles, keys split by shares and by chunks, pages. They are cheap enough to run on several
// simulated devices.
#include <gtest/gtest.h>

#include "csrc/cuda/plan.h"
#include "tests/cuda/kernel_device.h"

namespace fovea_test {
namespace {

class RowKernel : public OnCuda<testing::TestWithParam<int>> {
 protected:
  const fv_cuda_row &row() { return *fv_cuda_row_at(GetParam()); }
  Attention problem(uint32_t level) {
    Attention a;
    a.on(kCuda).type(row().dtype).dim(row().dim).dim_v(row().dim_v);
    if (row().general) a.bias(FOVEA_BF16, 0.1, "hk");
    return a.reproducible(level).sm_count(3);
  }
  void expect_matches(const Attention &a) {
    const Case laid(a.s);
    fovea_support support = {};
    support.struct_size = sizeof support;
    ASSERT_EQ(fovea_attention_support(handle_of(kCuda), &laid.args, &support), FOVEA_OK);
    ASSERT_STREQ(support.kernel, row().kernel.name);
    a.expect_matches_oracle();
  }
};

TEST_P(RowKernel, MatchesTheOracleOnWideTilesThatSharesCut) {
  Attention a = problem(FOVEA_REPRODUCIBLE_RUN).rows({40}).len_kv(200).heads(2, 1).causal();
  expect_matches(a);
}

TEST_P(RowKernel, MatchesTheOracleOnNarrowTilesThatSharesCut) {
  expect_matches(problem(FOVEA_REPRODUCIBLE_RUN).len_q(2).len_kv(200).heads(4, 1).causal());
}

TEST_P(RowKernel, MatchesTheOracleOnChunksOfPages) {
  Attention a = problem(FOVEA_REPRODUCIBLE_BATCH).rows({1, 0, 17, 2}).len_kv(300).heads(2, 1);
  expect_matches(a.lengths({300, 64, 33, 130}).paged(16, true).causal());
}

TEST_P(RowKernel, MatchesTheOracleWithoutASchedule) {
  Attention a = problem(FOVEA_REPRODUCIBLE_PHASE).batch(2).len_q(3).len_kv(70).heads(4, 2);
  expect_matches(a.lengths({70, 31}).window(40, 0));
}

int count_rows() {
  int count = 0;
  while (fv_cuda_row_at(count)) ++count;
  return count;
}

INSTANTIATE_TEST_SUITE_P(Table, RowKernel, testing::Range(0, count_rows()), [](const auto &info) {
  return std::string(fv_cuda_row_at(info.param)->kernel.name);
});

}  // namespace
}  // namespace fovea_test

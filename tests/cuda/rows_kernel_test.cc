// rows_kernel_test.cc - a few cheap problems for every row of shared/attention_fwd.def: wide and
// narrow tiles, keys split by shares and by chunks, pages. They are cheap enough to run on several
// simulated devices, of one multiprocessor: so that a few hundred rows are many.
#include <gtest/gtest.h>

#include <string>

#include "csrc/cuda/plan.h"
#include "tests/cuda/kernel_device.h"
#include "tests/cuda/mirrored.h"

namespace fovea_test {
namespace {

class RowKernel : public OnCuda<testing::TestWithParam<int>> {
 protected:
  const fv_cuda_row &row() { return *fv_cuda_row_at(GetParam()); }
  Attention problem(uint32_t level) {
    Attention a;
    a.on(kCuda).type(row().dtype).dim(row().dim).dim_v(row().dim_v);
    if (row().kv_bytes == 1) {
      a.types(row().dtype, FOVEA_E4M3, FOVEA_I8, row().dtype).scales("kv", "h");
    }
    if (row().general) a.bias(FOVEA_BF16, 0.1, "hk");
    return a.reproducible(level).sm_count(3);
  }
  // Tiles of 128 rows serve calls whose rows fill the device, in sequences of more than 64. The
  // problems below have more than 256 rows then, which fill one multiprocessor; `times` as many
  // heads fill all.
  bool serves_many() { return row().kernel.tile_q == 128; }
  int64_t times() {
    int count = 1;
    if (serves_many()) {
      driver()->cuDeviceGetAttribute(&count, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0);
    }
    return count;
  }
  // A device without the shared memory for tiles of 128 rows takes those of 64.
  std::string expected_kernel() {
    int most = 0;
    driver()->cuDeviceGetAttribute(&most, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 0);
    return row().kernel.name + std::string(row().shared_bytes > most ? "_q64" : "");
  }
  Attention with_heads(Attention a, int64_t heads_q, int64_t heads_kv) {
    return a.heads(heads_q * times(), heads_kv * times());
  }
  void expect_matches(const Attention &a) {
    const Case laid(a.s);
    fovea_support support = {};
    support.struct_size = sizeof support;
    ASSERT_EQ(fovea_attention_support(handle_of(kCuda), &laid.args, &support), FOVEA_OK);
    ASSERT_EQ(std::string(support.kernel), expected_kernel());
    a.expect_matches_oracle();
  }
};

TEST_P(RowKernel, MatchesTheOracleOnWideTilesThatSharesCut) {
  Attention a = problem(FOVEA_REPRODUCIBLE_RUN).rows({40}).len_kv(200).causal();
  if (serves_many()) a.rows({141});
  expect_matches(with_heads(a, 2, 1));
}

TEST_P(RowKernel, MatchesTheOracleOnNarrowTilesThatSharesCut) {
  Attention a = problem(FOVEA_REPRODUCIBLE_RUN).len_q(2).len_kv(200).causal();
  if (serves_many()) a.rows({2, 65, 4, 3}).lengths({200, 150, 0, 33});
  expect_matches(with_heads(a, 4, 1));
}

TEST_P(RowKernel, MatchesTheOracleOnChunksOfPages) {
  Attention a = problem(FOVEA_REPRODUCIBLE_BATCH).rows({1, 0, 17, 2}).len_kv(300);
  if (serves_many()) a.rows({1, 0, 131, 2});
  expect_matches(with_heads(a.lengths({300, 64, 33, 130}).paged(16, true).causal(), 2, 1));
}

TEST_P(RowKernel, MatchesTheOracleWithoutASchedule) {
  Attention a = problem(FOVEA_REPRODUCIBLE_PHASE).batch(2).len_q(3).len_kv(70);
  if (serves_many()) a.len_q(67);
  expect_matches(with_heads(a.lengths({70, 31}).window(40, 0), 4, 2));
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

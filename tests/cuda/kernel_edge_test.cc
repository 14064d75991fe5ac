// kernel_edge_test.cc - the CUDA kernels where a small mistake would show: at the edges of what a loop
// covers and of what a word holds. Each case is the one that tells some broken kernel from ours, all in
// the row bf16_d32, where they are cheapest; tiles are 64 rows by 64 keys.
#include <gtest/gtest.h>

#include "cuda/kernel_call.h"

namespace fovea_test {
namespace {

const Device kCuda = cuda_device();

class KernelEdge : public testing::Test {
 protected:
  static void SetUpTestSuite() { attention_call = call_on_device; }
  void SetUp() override {
    try {
      handle_of(kCuda);
    } catch (const std::exception &why) {
      GTEST_SKIP() << why.what();
    }
  }
  Attention problem(int64_t len_q, int64_t len_kv) {
    return Attention().on(kCuda).type(FOVEA_BF16).dim(32).len_q(len_q).len_kv(len_kv);
  }
};

// The kernel that prepares a schedule goes through sequences and through tiles 256 at a time.
TEST_F(KernelEdge, MoreTilesThanThreadsThatListThem) {
  problem(0, 3).heads(1, 1).rows(Ints(258, 1)).lengths(Ints(258, 2)).expect_matches_oracle();
}

}  // namespace
}  // namespace fovea_test

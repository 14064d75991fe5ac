// kernel_edge_test.cc - the CUDA kernels where a small mistake would show: at the edges of what a
// loop covers and of what a word holds. Each case tells some broken kernel from ours. All but one
// run the cheapest row, bf16_d32, whose tiles are 64 rows by 64 keys.
#include <gtest/gtest.h>

#include <vector>

#include "csrc/cuda/device.h"
#include "csrc/cuda/driver.h"
#include "tests/cuda/kernel_device.h"

namespace fovea_test {
namespace {

class KernelEdge : public OnCuda<testing::Test> {
 protected:
  Attention problem(int64_t len_q, int64_t len_kv) {
    return Attention().on(kCuda).type(FOVEA_BF16).dim(32).len_q(len_q).len_kv(len_kv);
  }
};

// The kernel that prepares a schedule goes through sequences and through tiles 256 at a time.
TEST_F(KernelEdge, MoreTilesThanThreadsThatListThem) {
  problem(0, 3).heads(1, 1).rows(Ints(258, 1)).lengths(Ints(258, 2)).expect_matches_oracle();
}

// A tile holds zeros past dim. Even a small number there would show: it would be the whole logit,
// and a single key's LSE is its logit. The layouts have gaps of any size, so some rows are
// unaligned and are read element by element.
TEST_F(KernelEdge, ZeroQueriesHaveTheLogitZero) {
  for (int64_t rows : {1, 64}) {
    for (uint64_t layout : {1, 2, 3, 4, 5, 6}) {
      Attention a = problem(rows, 1).type(FOVEA_F16).dim(16).batch(3).layout_seed(layout);
      for (uint32_t bits : a.fill("q", [](const At &) { return 0.0; }).run().lse) {
        ASSERT_EQ(bits, 0u) << rows << " " << layout;
      }
    }
  }
}

// Where dim is no multiple of 8, a row's last chunk is cut, whether the row begins at a multiple of
// 16 bytes or not. Layouts put NaN behind the row, and nothing may be written there.
TEST_F(KernelEdge, ReadsAndWritesRowsOfAnyDimAndNothingBehindThem) {
  for (const auto &[dim, dim_v] : {std::pair<int64_t, int64_t>{1, 1},
                                   {7, 9},
                                   {9, 7},
                                   {31, 32},
                                   {60, 60},
                                   {65, 63},
                                   {100, 127},
                                   {161, 100},
                                   {255, 251}}) {
    for (int64_t rows : {3, 40}) {
      for (uint64_t layout : {1, 2, 3}) {
        Attention a = problem(rows, 70).dim(dim).dim_v(dim_v).heads(2, 1).layout_seed(layout);
        a.causal().expect_matches_oracle();
      }
      problem(rows, 70).dim(dim).dim_v(dim_v).contiguous().paged(16).expect_matches_oracle();
    }
  }
}

// Rows past a sequence's length are padding: not read, not written, in no tile.
TEST_F(KernelEdge, LeavesRowsPastEachSequencesLengthAlone) {
  for (uint32_t level :
       {FOVEA_REPRODUCIBLE_RUN, FOVEA_REPRODUCIBLE_BATCH, FOVEA_REPRODUCIBLE_PHASE}) {
    Attention dense = problem(90, 150).batch(5).heads(4, 2).lengths({150, 9, 150, 0, 70}).causal();
    dense.reproducible(level).q_lengths({90, 3, 0, 65, 1}).expect_matches_oracle();
    Attention(dense).q_lengths({-1, 91, 90, 2, INT32_MAX}).expect_matches_oracle();
    Attention packed = problem(0, 150).rows({70, 0, 5, 40}).heads(4, 2).causal();
    packed.reproducible(level).q_lengths({66, 0, 6, 4}).expect_matches_oracle();
  }
}

TEST_F(KernelEdge, LooksAtThePageIdsOfKeysAndOfValues) {
  for (bool of_values : {false, true}) {
    Attention a = problem(2, 100).batch(2).paged(16, false, true).lengths({100, 90});
    Case one(a.s);
    const int32_t *&table =
        of_values ? one.args.sequences.pages.v_ids : one.args.sequences.pages.ids;
    std::vector<int32_t> ids(
        table, table + one.args.sequences.pages.row_stride + one.args.sequences.pages.count);
    ids[1] = static_cast<int32_t>(one.args.k.shape[0]);
    table = ids.data();
    expect_matches(one, kCuda, of_values ? "a bad id of values" : "a bad id of keys");
  }
}

// ---- Memory that is not there ----------------------------------------------------------------

// Keys of shape [1, gone + 10, 1, 32]. Only the last ten are written.
class LateKeys {
 public:
  LateKeys(const fv_driver *driver, int64_t gone) : driver_(driver), gone_(gone) {
    std::vector<uint16_t> numbers(10 * 32);
    for (size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = static_cast<uint16_t>(0x3f00 + i * 37 % 256);  // from 1/2 to 2
    }
    EXPECT_EQ(driver_->cuMemAlloc(&memory_, static_cast<size_t>(gone + 10) * 64), CUDA_SUCCESS);
    EXPECT_EQ(driver_->cuMemcpyHtoD(first(), numbers.data(), numbers.size() * 2), CUDA_SUCCESS);
  }
  ~LateKeys() { driver_->cuMemFree(memory_); }
  LateKeys(const LateKeys &) = delete;
  LateKeys &operator=(const LateKeys &) = delete;

  CUdeviceptr first() const { return memory_ + static_cast<CUdeviceptr>(gone_) * 64; }
  fovea_tensor all() const { return view(memory_, gone_ + 10); }
  fovea_tensor late() const { return view(first(), 10); }

 private:
  static fovea_tensor view(CUdeviceptr at, int64_t keys) {
    return fovea_contiguous(reinterpret_cast<void *>(at), FOVEA_BF16, 1, keys, 1, 32);
  }
  const fv_driver *driver_;
  int64_t gone_;
  CUdeviceptr memory_ = 0;
};

// Keys before kv_first may have lost their contents. A simulated device reports every read of a
// byte that was never written, even if it has no effect.
TEST_F(KernelEdge, ReadsNothingOfKeysThatAreGone) {
  fovea_handle *handle = handle_of(kCuda);
  const fv_driver *driver = nullptr;
  CUcontext context = nullptr;
  ASSERT_EQ(fv_driver_open(&driver), FOVEA_OK);
  ASSERT_EQ(driver->cuCtxPushCurrent(fv_cuda_device_of(handle)->primary), CUDA_SUCCESS);
  {
    const LateKeys k(driver, 128), v(driver, 128), few(driver, 0);
    CUdeviceptr first = 0, out = 0;
    const int32_t gone = 128;
    ASSERT_EQ(driver->cuMemAlloc(&first, sizeof gone), CUDA_SUCCESS);
    ASSERT_EQ(driver->cuMemcpyHtoD(first, &gone, sizeof gone), CUDA_SUCCESS);
    ASSERT_EQ(driver->cuMemAlloc(&out, 3 * 64), CUDA_SUCCESS);
    fovea_attention_args a = {};
    a.struct_size = sizeof a;
    a.reproducible = FOVEA_REPRODUCIBLE_PHASE;
    a.q = few.late();
    a.q.shape[1] = 3;
    a.out = a.q;
    a.out.data = reinterpret_cast<void *>(out);
    const auto result = [&] {
      std::vector<uint16_t> values(3 * 32);
      EXPECT_EQ(fovea_attention(handle, &a, nullptr), FOVEA_OK) << fovea_error_detail();
      EXPECT_EQ(driver->cuStreamSynchronize(nullptr), CUDA_SUCCESS);
      EXPECT_EQ(driver->cuMemcpyDtoH(values.data(), out, values.size() * 2), CUDA_SUCCESS);
      return values;
    };
    a.k = k.late();
    a.v = v.late();
    const std::vector<uint16_t> alone = result();
    a.k = k.all();
    a.v = v.all();
    a.sequences.kv_first = reinterpret_cast<const int32_t *>(first);
    EXPECT_EQ(result(), alone);
    driver->cuMemFree(first);
    driver->cuMemFree(out);
  }
  driver->cuCtxPopCurrent(&context);
}

}  // namespace
}  // namespace fovea_test

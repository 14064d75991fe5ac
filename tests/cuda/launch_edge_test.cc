// launch_edge_test.cc - launches at the edges of their arguments: no work, the least work there can
// be, and the unused part of a kernel's parameters.
#include "tests/cuda/cache_call.h"

namespace fovea_test {
namespace {

TEST(AppendLaunch, IsOneCtaForOneHead) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    AppendCall call;
    for (fovea_tensor *t : {&call.args.k_new, &call.args.v_new}) t->shape[0] = t->shape[1] = 1;
    for (fovea_tensor *t :
         {&call.args.k_new, &call.args.v_new, &call.args.k_cache, &call.args.v_cache}) {
      t->shape[2] = 1;
    }
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().config.gridDimX, 1u);
  });
}

TEST(AppendLaunch, CountsHeadsOfBothSidesOrOfOne) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    AppendCall call;
    call.args.k_new.shape[1] = call.args.v_new.shape[1] = 2;
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().config.gridDimX, 4u);  // 4 tokens, 4 heads, 2 sides: 32 warps
    call.args.v_new = call.args.v_cache = fovea_tensor{};
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().config.gridDimX, 2u);
    EXPECT_EQ(fake->launches.back().append.side_count, 1);
  });
}

// Rows of one element count, and there may be values without keys.
TEST(AppendLaunch, CountsHeadsOfAnyDimThatIsNotNone) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    AppendCall call;
    call.args.rope = fovea_rope{};
    call.args.k_new.shape[1] = call.args.v_new.shape[1] = 2;
    call.args.v_new.shape[3] = call.args.v_cache.shape[3] = 1;
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().config.gridDimX, 4u);  // 4 tokens, 4 heads, 2 sides: 32 warps
    call.args.k_new.shape[3] = call.args.k_cache.shape[3] = 0;
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().config.gridDimX, 2u);
  });
}

// There is no row, or there are neither elements nor an LSE to write. A row without elements still
// has its LSE.
TEST(MergeLaunch, IsNoneWhereThereIsNothingToWrite) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    for (int i = 0; i < 3; ++i) {
      MergeCall call;
      for (fovea_tensor *t : {&call.args.out, &call.args.lse}) t->shape[i] = 0;
      for (int n = 0; n < 3; ++n) call.outs[n].shape[i] = call.lses[n].shape[i] = 0;
      EXPECT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
      EXPECT_TRUE(fake->calls.empty()) << i;
    }
    MergeCall call;
    call.args.out.shape[3] = 0;
    for (fovea_tensor &part : call.outs) part.shape[3] = 0;
    fovea_merge_args without = call.args;
    without.lse = fovea_tensor{};
    EXPECT_EQ(fovea_merge(handle, &without, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_TRUE(fake->calls.empty());
    EXPECT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.size(), 1u);
  });
}

// Leaves bytes other than 0 on the stack: code that hands over unwritten memory would hand over
// these.
void soil_stack() {
  volatile char dirt[48 << 10];
  for (volatile char &c : dirt) c = 0x5a;
}

TEST(MergeLaunch, HandsOverZerosWhereThereIsNoPart) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    for (int32_t count : {2, 7, 9, 65}) {
      MergeCall call(count);
      soil_stack();
      ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
      const std::string &unused = fake->launches.back().unused;
      EXPECT_FALSE(unused.empty());
      EXPECT_EQ(unused, std::string(unused.size(), '\0')) << count;
    }
  });
}

TEST(Launch, TakesAMaskOfOneKeyForAllKeys) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call;
    uint8_t mask[2] = {1, 0};
    call.args.visibility.mask = fovea_contiguous(mask, FOVEA_U8, 2, 1, 1, 1);
    call.args.visibility.mask.stride[3] = 0;
    ASSERT_EQ(fovea_attention(handle, &call.args, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().params.mask_keys, INT32_MAX);
    EXPECT_EQ(fake->launches.back().params.mask.batch, 1);
    EXPECT_EQ(fake->launches.back().params.mask.seq, 0);
  });
}

}  // namespace
}  // namespace fovea_test

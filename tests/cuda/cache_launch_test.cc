// cache_launch_test.cc - what fovea_kv_append and fovea_merge ask of the driver: launches, capture,
// parameters, and every failure of every call.
#include <type_traits>

#include "csrc/cuda/rows.h"
#include "tests/cuda/cache_call.h"

namespace fovea_test {
namespace {

using Names = std::vector<std::string>;

const CUresult kErrors[] = {CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_OUT_OF_MEMORY,
                            CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_NOT_SUPPORTED,
                            CUDA_ERROR_DEINITIALIZED};

// Calls of the first launch, from a thread without a context, on a stream of its own.
const Names kCalls = {"cuCtxGetCurrent",    "cuStreamGetCtx",       "cuCtxPushCurrent",
                      "cuCtxGetDevice",     "cuStreamIsCapturing",  "cuLibraryLoadData",
                      "cuLibraryGetKernel", "cuKernelSetAttribute", "cuLaunchKernelEx",
                      "cuCtxPopCurrent"};

fovea_limits any_limits() {
  fovea_limits limits{};
  limits.struct_size = sizeof limits;
  limits.heads_q = limits.heads_kv = 1;
  limits.sequences = limits.total_q = limits.len_kv = 1;
  return limits;
}

template <class Call>
class CacheLaunch : public testing::Test {};

using Calls = testing::Types<AppendCall, MergeCall>;
TYPED_TEST_SUITE(CacheLaunch, Calls);

TYPED_TEST(CacheLaunch, IsOneLaunchWithoutWaitingAllocatingOrCopying) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    TypeParam call;
    CUstream_st stream{&fake->primary[0], false};
    ASSERT_EQ(call.call(handle, &stream), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->calls, kCalls);
    fake->calls.clear();
    ASSERT_EQ(call.call(handle, &stream), FOVEA_OK);
    EXPECT_EQ(fake->calls, (Names{"cuCtxGetCurrent", "cuStreamGetCtx", "cuCtxPushCurrent",
                                  "cuCtxGetDevice", "cuLaunchKernelEx", "cuCtxPopCurrent"}));
    EXPECT_EQ(fake->launches.back().config.hStream, &stream);
    EXPECT_FALSE(call.untouched()) << "the fake driver shows that something was queued";
  });
}

TYPED_TEST(CacheLaunch, LoadsNothingWhileTheStreamIsCaptured) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    TypeParam call;
    CUstream_st stream{&fake->primary[0], true};
    EXPECT_EQ(call.call(handle, &stream), FOVEA_NOT_PREPARED);
    EXPECT_TRUE(fake->launches.empty());
    EXPECT_TRUE(call.untouched());
    const fovea_limits limits = any_limits();
    ASSERT_EQ(fovea_prepare(handle, &limits), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(call.call(handle, &stream), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.size(), 1u);
  });
}

TYPED_TEST(CacheLaunch, PassesDriverErrorsOnWithTheNameOfTheCall) {
  for (const std::string &name : kCalls) {
    for (CUresult error : kErrors) {
      SCOPED_TRACE(name + " fails with " + std::to_string(error));
      in_fresh_process([&name, error] {
        FakeDriver *fake = use_fake_driver();
        fovea_handle *handle = open_device(fake);
        CUstream_st stream{&fake->primary[0], false};
        TypeParam call;
        fake->fail = name;
        fake->with = error;
        const fovea_status status = call.call(handle, &stream);
        const bool queued = !fake->launches.empty();
        EXPECT_EQ(status, queued ? FOVEA_PARTIAL : FOVEA_DRIVER_ERROR) << fovea_error_detail();
        EXPECT_EQ(queued, name == "cuCtxPopCurrent");
        const std::string words = name + " returned " + std::to_string(error);
        EXPECT_NE(std::string(fovea_error_detail()).find(words), std::string::npos)
            << fovea_error_detail();
        EXPECT_TRUE(queued || call.untouched());
        // The next call finds nothing broken.
        fake->fail = "";
        EXPECT_EQ(call.call(handle, &stream), FOVEA_OK) << fovea_error_detail();
      });
    }
  }
}

TYPED_TEST(CacheLaunch, RefusesStreamsOfOtherDevices) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    TypeParam call;
    CUstream_st stream{&fake->primary[1], false};
    EXPECT_EQ(call.call(handle, &stream), FOVEA_BAD_ARGUMENT);
    EXPECT_TRUE(fake->launches.empty());
  });
}

TEST(AppendLaunch, HandsTheKernelWhatTheCallSays) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    AppendCall call;
    call.args.v_cache.data = call.v_cache.data() + 1;
    call.args.v_cache.shape[0] = call.args.k_cache.shape[0] = 7;
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    const FakeLaunch &launch = fake->launches.back();
    const fv_append_params &p = launch.append;
    EXPECT_EQ(launch.kernel, "fovea_kv_append_sm80");
    EXPECT_EQ(launch.config.gridDimX, 6u);  // 6 tokens, 4 heads, 2 sides: 48 warps
    EXPECT_EQ(launch.config.blockDimX, 256u);
    EXPECT_EQ(p.side_count, 2);
    EXPECT_EQ(p.heads, 4);
    EXPECT_EQ(p.sequences, 2);
    EXPECT_EQ(p.rows, 3);
    EXPECT_EQ(p.cache_rows, 7);
    EXPECT_EQ(p.cache_slots, 16);
    EXPECT_EQ(p.page_count, 2);
    EXPECT_EQ(p.page_stride, 2);
    EXPECT_EQ(p.rope_positions, 100);
    EXPECT_EQ(p.rope_stride, 16);
    EXPECT_EQ(p.flags,
              static_cast<uint32_t>(FV_APPEND_INTERLEAVED |
                                    (reinterpret_cast<uintptr_t>(call.table.data()) % 16 == 0
                                         ? FV_APPEND_TABLE_ALIGNED
                                         : 0)));
    EXPECT_EQ(p.sides[0].half, 16);
    EXPECT_EQ(p.sides[1].half, 0);
    EXPECT_EQ(p.sides[0].dim, 64);
    EXPECT_EQ(p.sides[1].dim, 32);
    EXPECT_EQ(p.sides[0].from_type, static_cast<uint32_t>(FOVEA_BF16));
    EXPECT_EQ(p.sides[0].to_type, static_cast<uint32_t>(FOVEA_F16));
    EXPECT_EQ(p.sides[1].aligned, static_cast<uint32_t>(FV_APPEND_FROM_ALIGNED));
    EXPECT_EQ(p.sides[1].ids, call.ids);
    EXPECT_EQ(p.sides[0].to.batch, 16 * 4 * 64);
  });
}

TEST(AppendLaunch, IsNoneWhereThereIsNothingToDo) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    AppendCall call;
    call.args.k_new.shape[1] = call.args.v_new.shape[1] = 0;
    EXPECT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_TRUE(fake->calls.empty());
  });
}

TEST(AppendLaunch, TakesNoMoreCtasThanAreResident) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    AppendCall call;
    call.args.k_new.shape[1] = call.args.v_new.shape[1] = 1 << 20;
    call.args.k_new.stride[0] = call.args.v_new.stride[0] = 0;
    call.args.k_new.stride[1] = call.args.v_new.stride[1] = 0;
    EXPECT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().config.gridDimX, 3u * 132);
  });
}

TEST(MergeLaunch, TakesTheFirstRowWithRoomForTheParts) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    const struct {
      int32_t count;
      const char *kernel;
    } rows[] = {{2, "fovea_merge_sm80_p8"},    {8, "fovea_merge_sm80_p8"},
                {9, "fovea_merge_sm80_p64"},   {64, "fovea_merge_sm80_p64"},
                {65, "fovea_merge_sm80_p448"}, {448, "fovea_merge_sm80_p448"}};
    for (const auto &row : rows) {
      MergeCall call(row.count);
      ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
      EXPECT_EQ(fake->launches.back().kernel, row.kernel);
      EXPECT_EQ(fake->launches.back().parts.back().out.data, call.outs.back().data);
    }
    MergeCall more(449);
    EXPECT_EQ(more.call(handle, nullptr), FOVEA_UNSUPPORTED);
    EXPECT_TRUE(more.untouched());
  });
}

TEST(MergeLaunch, HandsTheKernelWhatTheCallSays) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    MergeCall call;
    call.outs[1].data = call.parts.data() + 30 * 40 + 1;
    call.outs[2].stride[0] = 0;
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    const FakeLaunch &launch = fake->launches.back();
    EXPECT_EQ(launch.config.gridDimX, 2u);  // 40 elements are 5 lanes of 8: 16 rows of 128 threads
    EXPECT_EQ(launch.config.blockDimX, 128u);
    EXPECT_EQ(launch.merge.rows, 30);
    EXPECT_EQ(launch.merge.len_q, 5);
    EXPECT_EQ(launch.merge.heads, 3);
    EXPECT_EQ(launch.merge.lanes, 8);
    EXPECT_EQ(launch.merge.count, 3);
    EXPECT_EQ(launch.merge.merged.type, static_cast<uint32_t>(FOVEA_BF16));
    EXPECT_EQ(launch.parts[0].type, static_cast<uint32_t>(FOVEA_F16));
    EXPECT_EQ(launch.parts[0].aligned, 1u);
    EXPECT_EQ(launch.parts[1].aligned, 0u);
    EXPECT_EQ(launch.parts[2].out.batch, 0);
    // The stride of an extent of 1 is never used, so even an odd one keeps the tensor aligned.
    MergeCall one;
    for (fovea_tensor *t : {&one.args.out, &one.args.lse}) t->shape[0] = 1;
    for (int n = 0; n < 3; ++n) one.outs[n].shape[0] = one.lses[n].shape[0] = 1;
    one.outs[0].stride[0] = 3;
    ASSERT_EQ(one.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().parts[0].aligned, 1u);
  });
}

// ---- What support says of both ---------------------------------------------------------------

fovea_support support_of(fovea_handle *handle, const fovea_kv_append_args &args) {
  fovea_support support{};
  support.struct_size = sizeof support;
  EXPECT_EQ(fovea_kv_append_support(handle, &args, &support), FOVEA_OK) << fovea_error_detail();
  return support;
}

fovea_support support_of(fovea_handle *handle, const fovea_merge_args &args) {
  fovea_support support{};
  support.struct_size = sizeof support;
  EXPECT_EQ(fovea_merge_support(handle, &args, &support), FOVEA_OK) << fovea_error_detail();
  return support;
}

TYPED_TEST(CacheLaunch, IsOfTheKernelThatSupportNames) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    TypeParam call;
    const fovea_support support = support_of(handle, call.args);
    EXPECT_EQ(support.supported, 1u);
    EXPECT_STRNE(support.reason, "");
    EXPECT_TRUE(fake->calls.empty()) << "support asks the driver nothing";
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().kernel, support.kernel);
  });
}

TYPED_TEST(CacheLaunch, SupportRefusesWhatTheCallRefuses) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    TypeParam call;
    call.args.reserved = 1;
    fovea_support support{};
    support.struct_size = sizeof support;
    const fovea_status status = [&] {
      if constexpr (std::is_same_v<TypeParam, MergeCall>)
        return fovea_merge_support(handle, &call.args, &support);
      else
        return fovea_kv_append_support(handle, &call.args, &support);
    }();
    EXPECT_EQ(status, FOVEA_BAD_ARGUMENT);
    EXPECT_EQ(std::string(fovea_error_detail()).rfind("reserved is 1", 0), 0u);
    EXPECT_STREQ(support.reason, "");
  });
}

// Unsupported, for the reason that the call itself gives.
template <class Call>
void expect_support_says_no(fovea_handle *handle, Call *call, const std::string &words) {
  const fovea_support support = support_of(handle, call->args);
  EXPECT_EQ(support.supported, 0u) << words;
  EXPECT_STREQ(support.kernel, "");
  EXPECT_NE(std::string(support.reason).find(words), std::string::npos) << support.reason;
  EXPECT_EQ(call->call(handle, nullptr), FOVEA_UNSUPPORTED);
  EXPECT_STREQ(fovea_error_detail(), support.reason);
  EXPECT_TRUE(call->untouched());
}

TEST(AppendLaunch, IsNotSupportedIntoBlocks) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    AppendCall k, v;
    k.args.k_cache.dtype = FOVEA_Q8_0;
    expect_support_says_no(handle, &k, "no CUDA kernel appends to q8_0; the CPU does");
    v.args.v_cache.dtype = FOVEA_Q4_0;
    expect_support_says_no(handle, &v, "no CUDA kernel appends to q4_0; the CPU does");
    EXPECT_TRUE(fake->launches.empty());
  });
}

TEST(AppendLaunch, IsNotSupportedWithQueriesOrNorms) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    const std::vector<float> gain(64);
    const fovea_norm norm = {gain.data(), 0, 1e-6f, 0, FOVEA_NORM_HEAD, {}};
    std::vector<uint16_t> queries(2 * 3 * 8 * 64);
    AppendCall q, k, v;
    q.args.q = q.args.q_out = fovea_contiguous(queries.data(), FOVEA_BF16, 2, 3, 8, 64);
    expect_support_says_no(handle, &q, "no CUDA kernel prepares q; the CPU does");
    k.args.k_norm = norm;
    expect_support_says_no(handle, &k, "no CUDA kernel has k_norm; the CPU has");
    v.args.v_norm = norm;
    expect_support_says_no(handle, &v, "no CUDA kernel has v_norm; the CPU has");
    EXPECT_TRUE(fake->launches.empty());
  });
}

// k has a scale per token and block, v one for each head; the arrays themselves are not read here.
TEST(AppendLaunch, HandsTheKernelTheScalesOfEightBitCaches) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    AppendCall call;
    std::vector<uint16_t> k_scale(8 * 16 * 4);
    std::vector<float> v_scale(4);
    auto *bytes = reinterpret_cast<uint8_t *>(call.k_cache.data());
    call.args.k_cache = fovea_contiguous(bytes + 8, FOVEA_E4M3, 8, 15, 4, 64);
    call.args.v_cache = fovea_contiguous(call.v_cache.data(), FOVEA_I8, 8, 15, 4, 32);
    call.args.v_cache.stride[1] = 4 * 32 + 4;
    call.args.v_cache.stride[0] = 15 * (4 * 32 + 4);
    call.args.k_scale = fovea_contiguous(k_scale.data(), FOVEA_F16, 8, 15, 1, 4);
    call.args.v_scale = fovea_contiguous(v_scale.data(), FOVEA_F32, 1, 1, 4, 1);
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    const fv_append_side &k = fake->launches.back().append.sides[0];
    const fv_append_side &v = fake->launches.back().append.sides[1];
    EXPECT_EQ(k.to_type, static_cast<uint32_t>(FOVEA_E4M3));
    EXPECT_EQ(k.aligned, 3u) << "rows of bytes at multiples of 8";
    EXPECT_EQ(k.scale.data, k_scale.data());
    EXPECT_EQ(k.scale.batch, 15 * 4);
    EXPECT_EQ(k.scale.seq, 4);
    EXPECT_EQ(k.scale.head, 0);
    EXPECT_EQ(k.scale.block, 1);
    EXPECT_EQ(k.scale.block_len, 16);
    EXPECT_EQ(k.scale.type, static_cast<uint32_t>(FOVEA_F16));
    EXPECT_EQ(v.to_type, static_cast<uint32_t>(FOVEA_I8));
    EXPECT_EQ(v.aligned, static_cast<uint32_t>(FV_APPEND_FROM_ALIGNED));
    EXPECT_EQ(v.scale.data, v_scale.data());
    EXPECT_EQ(v.scale.batch | v.scale.seq | v.scale.block, 0);
    EXPECT_EQ(v.scale.head, 1);
    EXPECT_EQ(v.scale.block_len, 32);
    EXPECT_EQ(v.scale.type, static_cast<uint32_t>(FOVEA_F32));
    call.args.k_scale = fovea_tensor{};
    ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.back().append.sides[0].scale.data, nullptr);
  });
}

TEST(MergeLaunch, IsNotSupportedOfMorePartsThanAKernelHasRoomFor) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    for (int32_t count : {2, 8, 9, 64, 65, 448}) {
      MergeCall call(count);
      const fovea_support support = support_of(handle, call.args);
      EXPECT_EQ(support.supported, 1u) << support.reason;
      ASSERT_EQ(call.call(handle, nullptr), FOVEA_OK) << fovea_error_detail();
      EXPECT_EQ(fake->launches.back().kernel, support.kernel) << count;
    }
    fake->launches.clear();
    MergeCall more(449);
    expect_support_says_no(handle, &more, "count is 449");
    EXPECT_TRUE(fake->launches.empty());
  });
}

// ---- Rows ------------------------------------------------------------------------------------

TEST(CudaRows, AreListedOnceEachByName) {
  Names names;
  for (int32_t i = 0; fv_cuda_kernel_at(i).name; ++i) {
    names.push_back(fv_cuda_kernel_at(i).name);
    EXPECT_NE(fv_cuda_kernel_at(i).image, nullptr);
  }
  EXPECT_EQ(names[FV_CUDA_APPEND_FIRST], "fovea_kv_append_sm80");
  EXPECT_EQ(names[FV_CUDA_MERGE_FIRST], "fovea_merge_sm80_p8");
  EXPECT_EQ(names.back(), "fovea_merge_sm80_p448");
  EXPECT_EQ(fv_cuda_kernel_at(-1).name, nullptr);
  Names public_names;
  for (int32_t i = 0; fovea_kernel_name(i); ++i) public_names.push_back(fovea_kernel_name(i));
  ASSERT_GT(public_names.size(), names.size());
  EXPECT_TRUE(std::equal(names.rbegin(), names.rend(), public_names.rbegin()));
}

}  // namespace
}  // namespace fovea_test

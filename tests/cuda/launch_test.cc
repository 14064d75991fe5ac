// launch_test.cc - what a call asks of the driver: contexts, loading, capture, parameters, threads.
#include <cstring>
#include <thread>

#include "tests/cuda/fake_gpu.h"

namespace fovea_test {
namespace {

using Names = std::vector<std::string>;

TEST(Launch, IsOneLaunchWithoutWaitingAllocatingOrCopying) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call;
    CUstream_st stream{&fake->primary[0], false};
    ASSERT_EQ(fovea_attention(handle, &call.args, &stream), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->calls,
              (Names{"cuCtxGetCurrent", "cuStreamGetCtx", "cuCtxPushCurrent", "cuCtxGetDevice",
                     "cuStreamIsCapturing", "cuLibraryLoadData", "cuLibraryGetKernel",
                     "cuKernelSetAttribute", "cuLaunchKernelEx", "cuCtxPopCurrent"}));
    fake->calls.clear();
    ASSERT_EQ(fovea_attention(handle, &call.args, &stream), FOVEA_OK);
    EXPECT_EQ(fake->calls, (Names{"cuCtxGetCurrent", "cuStreamGetCtx", "cuCtxPushCurrent",
                                  "cuCtxGetDevice", "cuLaunchKernelEx", "cuCtxPopCurrent"}));
  });
}

TEST(Launch, PushesNoContextThatIsCurrent) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call;
    void *library = dlopen(FOVEA_FAKE_DRIVER, RTLD_NOW);
    auto push = reinterpret_cast<CUresult (*)(CUcontext)>(dlsym(library, "cuCtxPushCurrent_v2"));
    CUctx_st other{0};  // a second context of the device, as some programs make
    push(&other);
    fake->calls.clear();
    CUstream_st stream{&other, false};
    for (fovea_stream s : {static_cast<fovea_stream>(nullptr), &stream}) {
      ASSERT_EQ(fovea_attention(handle, &call.args, s), FOVEA_OK) << fovea_error_detail();
      EXPECT_EQ(fake->launches.back().context, &other);
    }
    EXPECT_EQ(fake->count("cuCtxPushCurrent"), 0);
  });
}

TEST(Launch, RunsSpecialStreamsInThePrimaryContextOfTheHandlesDevice) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake, 1);
    Call call;
    for (fovea_stream s :
         {static_cast<fovea_stream>(nullptr), CU_STREAM_LEGACY, CU_STREAM_PER_THREAD}) {
      ASSERT_EQ(fovea_attention(handle, &call.args, s), FOVEA_OK) << fovea_error_detail();
      EXPECT_EQ(fake->launches.back().context, &fake->primary[1]);
      EXPECT_EQ(fake->launches.back().config.hStream, s);
    }
    EXPECT_EQ(fake->count("cuCtxPushCurrent"), 3);
    EXPECT_EQ(fake->count("cuCtxPopCurrent"), 3);
  });
}

TEST(Launch, RefusesStreamsOfOtherDevices) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call;
    CUstream_st stream{&fake->primary[1], false};
    EXPECT_EQ(fovea_attention(handle, &call.args, &stream), FOVEA_BAD_ARGUMENT);
    EXPECT_NE(std::string(fovea_error_detail()).find("stream belongs to CUDA device 1"),
              std::string::npos);
    EXPECT_TRUE(fake->launches.empty());
    EXPECT_EQ(fake->count("cuCtxPushCurrent"), fake->count("cuCtxPopCurrent"));
  });
}

TEST(Launch, LoadsNothingWhileTheStreamIsCaptured) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call;
    CUstream_st stream{&fake->primary[0], true};
    EXPECT_EQ(fovea_attention(handle, &call.args, &stream), FOVEA_NOT_PREPARED);
    EXPECT_NE(std::string(fovea_error_detail()).find("fovea_prepare"), std::string::npos);
    EXPECT_TRUE(fake->launches.empty());
    fovea_limits limits{};
    limits.struct_size = sizeof limits;
    limits.heads_q = limits.heads_kv = 1;
    limits.sequences = limits.total_q = limits.len_kv = 1;
    ASSERT_EQ(fovea_prepare(handle, &limits), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fovea_attention(handle, &call.args, &stream), FOVEA_OK) << fovea_error_detail();
    EXPECT_EQ(fake->launches.size(), 1u);
  });
}

TEST(Prepare, LoadsWhatCallsWithinTheLimitsCanChooseAndNothingElse) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    fovea_limits limits{};
    limits.struct_size = sizeof limits;
    limits.heads_q = limits.heads_kv = 1;
    limits.sequences = limits.total_q = limits.len_kv = 1;
    limits.q_dtype = limits.k_dtype = limits.v_dtype = FOVEA_BF16;
    limits.dim = limits.dim_v = 32;
    ASSERT_EQ(fovea_prepare(handle, &limits), FOVEA_OK) << fovea_error_detail();
    const int others = 5;  // preparing, appending and merging, which no limit rules out
    EXPECT_EQ(fake->count("cuLibraryLoadData"), 2 + others) << "and the general class";
    limits.dim = 40;
    ASSERT_EQ(fovea_prepare(handle, &limits), FOVEA_OK);
    EXPECT_EQ(fake->count("cuLibraryLoadData"), 3 + others);
    limits.k_dtype = limits.v_dtype = FOVEA_I8;
    ASSERT_EQ(fovea_prepare(handle, &limits), FOVEA_OK);
    EXPECT_EQ(fake->count("cuLibraryLoadData"), 5 + others) << "8-bit caches, both classes";
    limits.q_dtype = limits.k_dtype = limits.v_dtype = 0;
    limits.dim = limits.dim_v = 0;
    ASSERT_EQ(fovea_prepare(handle, &limits), FOVEA_OK);
    EXPECT_EQ(fake->count("cuLibraryLoadData"), 32 + others);
    EXPECT_EQ(fake->count("cuCtxPushCurrent"), fake->count("cuCtxPopCurrent"));
  });
}

TEST(Launch, LoadsOncePerProcessAndSetsAttributesOncePerDevice) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handles[2] = {open_device(fake, 0), open_device(fake, 1)};
    std::vector<std::thread> threads;
    for (int t = 0; t < 16; ++t) {
      threads.emplace_back([t, &handles] {
        Call call;
        for (int i = 0; i < 50; ++i) {
          EXPECT_EQ(fovea_attention(handles[(t + i) % 2], &call.args, nullptr), FOVEA_OK);
        }
      });
    }
    for (std::thread &thread : threads) thread.join();
    EXPECT_EQ(fake->count("cuLibraryLoadData"), 1);
    EXPECT_EQ(fake->count("cuKernelSetAttribute"), 2);
    EXPECT_EQ(fake->launches.size(), 800u);
    for (const FakeLaunch &launch : fake->launches) ASSERT_NE(launch.context, nullptr);
  });
}

TEST(Launch, HandsTheKernelWhatTheCallSays) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call(FOVEA_F16, 40);
    const int32_t lengths[2] = {7, 9};
    uint32_t errors[2] = {};
    std::vector<uint8_t> mask(2 * 200, 1);
    call.args.sequences.kv_lengths = lengths;
    call.args.errors = errors;
    call.args.visibility.causal = 1;
    call.args.positions.alignment = FOVEA_ALIGN_TOP_LEFT;
    call.args.logits.scale = 0.5f;
    call.args.visibility.mask = fovea_contiguous(mask.data(), FOVEA_U8, 2, 1, 1, 200);
    ASSERT_EQ(fovea_attention(handle, &call.args, nullptr), FOVEA_OK) << fovea_error_detail();
    const FakeLaunch &launch = fake->launches.back();
    const fv_attention_params &p = launch.params;
    EXPECT_EQ(launch.kernel, "fovea_attention_fwd_sm80_f16_d64_q64");
    // 100 rows of 3 heads are 5 tiles of 64; 2 sequences and 2 kv heads.
    EXPECT_EQ(launch.config.gridDimX, 20u);
    EXPECT_EQ(launch.config.blockDimX, 128u);
    EXPECT_EQ(launch.config.sharedMemBytes, 2u * 64 * (64 + 4 * 64) + FV_WORK_ITEM_BYTES + 8 * 64);
    EXPECT_EQ(p.tiles, 20);
    EXPECT_EQ(p.row_tiles, 5);
    EXPECT_EQ(p.heads_kv, 2);
    EXPECT_EQ(p.group, 3);
    EXPECT_EQ(p.len_q, 100);
    EXPECT_EQ(p.len_kv, 200);
    EXPECT_EQ(p.dim, 40);
    EXPECT_EQ(p.dim_v, 40);
    EXPECT_EQ(p.flags, static_cast<uint32_t>(FV_FLAG_TOP_LEFT));
    EXPECT_FLOAT_EQ(p.scale_log2e, 0.5f * 1.44269504f);
    EXPECT_EQ(p.kv_lengths, lengths);
    EXPECT_EQ(p.errors, errors);
    EXPECT_EQ(p.q.data, call.q.data());
    EXPECT_EQ(p.k.seq, 80);
    EXPECT_EQ(p.k.head, 40);
    EXPECT_EQ(p.mask.batch, 200);
    EXPECT_EQ(p.mask.seq, 1);
    EXPECT_EQ(p.mask_keys, 200);
  });
}

TEST(Launch, TellsTheKernelWhichRowsAreAligned) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call;
    auto aligned = [&] {
      EXPECT_EQ(fovea_attention(handle, &call.args, nullptr), FOVEA_OK) << fovea_error_detail();
      return fake->launches.back().params.aligned;
    };
    const uint32_t all = FV_ALIGNED_Q | FV_ALIGNED_K | FV_ALIGNED_V | FV_ALIGNED_OUT;
    EXPECT_EQ(aligned(), all);
    call.args.k.shape[1] = call.args.v.shape[1] = 199;
    call.args.v.data = call.v.data() + 1;
    EXPECT_EQ(aligned(), all & ~FV_ALIGNED_V);
    call.args.k.stride[1] = 129;
    call.args.k.shape[1] = call.args.v.shape[1] = 100;
    EXPECT_EQ(aligned(), static_cast<uint32_t>(FV_ALIGNED_Q | FV_ALIGNED_OUT));
  });
}

// Only the device knows the lengths. One CTA prepares, and the next launch waits for it by itself.
TEST(Launch, PreparesASchedule) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call;
    const int32_t offsets[4] = {0, 50, 90, 100};
    call.args.sequences.q_offsets = offsets;
    call.args.sequences.count = 3;
    for (fovea_tensor *t : {&call.args.q, &call.args.out, &call.args.lse}) t->shape[0] = 1;
    for (fovea_tensor *t : {&call.args.k, &call.args.v}) {
      t->shape[0] = 3;
      t->shape[1] = 100;
      t->stride[0] = 100 * 2 * 64;
    }
    call.args.reproducible = FOVEA_REPRODUCIBLE_RUN;
    ASSERT_EQ(fovea_attention(handle, &call.args, nullptr), FOVEA_OK) << fovea_error_detail();
    ASSERT_EQ(fake->launches.size(), 2u);
    const FakeLaunch &prepare = fake->launches[0], &attend = fake->launches[1];
    EXPECT_EQ(prepare.kernel, "fovea_attention_prepare_sm80");
    EXPECT_EQ(prepare.config.gridDimX, 1u);
    EXPECT_EQ(prepare.config.blockDimX, static_cast<unsigned>(FV_PREPARE_THREADS));
    EXPECT_EQ(prepare.config.numAttrs, 0u);
    EXPECT_EQ(attend.kernel, "fovea_attention_fwd_sm80_bf16_d64_q64");
    // 100 rows of 3 heads and 3 ragged ends are at most 8 tiles, times 2 heads and 2 key tiles.
    EXPECT_EQ(attend.config.gridDimX, 32u);
    EXPECT_EQ(attend.config.numAttrs, 1u);
    const fv_attention_params &p = attend.params;
    EXPECT_EQ(std::memcmp(&p, &prepare.params, sizeof p), 0);
    EXPECT_EQ(p.q_offsets, offsets);
    EXPECT_EQ(p.sequences, 3);
    EXPECT_EQ(p.tile_q, 64);
    EXPECT_EQ(p.tile_kv, 64);
    EXPECT_EQ(p.schedule.workers, 32);
    EXPECT_EQ(static_cast<void *>(p.schedule.totals), call.args.workspace);
    // Each kind of tile has two places per CTA, and no two arrays of the workspace overlap.
    const fv_device_line &wide = p.schedule.lines[FV_WIDE], &narrow = p.schedule.lines[FV_NARROW];
    EXPECT_EQ(p.schedule.places, 2 * 2 * 32);
    EXPECT_EQ(wide.arrived, p.schedule.arrived);
    EXPECT_EQ(narrow.arrived, wide.arrived + 2 * 32);
    EXPECT_EQ(wide.partial_floats, 4 * narrow.partial_floats);
    const void *const places[] = {p.schedule.totals,
                                  p.schedule.sequences,
                                  p.schedule.sequences + 3,
                                  p.schedule.arrived,
                                  p.schedule.arrived + p.schedule.places,
                                  wide.tiles,
                                  wide.partials,
                                  wide.partials + 64 * wide.partial_floats,
                                  narrow.tiles,
                                  narrow.tiles + 3,
                                  narrow.partials,
                                  narrow.partials + 64 * narrow.partial_floats};
    EXPECT_TRUE(std::is_sorted(std::begin(places), std::end(places)));
    call.args.flags = FOVEA_ALLOW_DEPENDENT_LAUNCH;
    ASSERT_EQ(fovea_attention(handle, &call.args, nullptr), FOVEA_OK);
    EXPECT_EQ(fake->launches[2].config.numAttrs, 1u);
  });
}

TEST(Launch, UsesNoMoreBlocksThanMultiprocessorsAllowed) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call;
    call.args.sm_count = 3;
    ASSERT_EQ(fovea_attention(handle, &call.args, nullptr), FOVEA_OK);
    EXPECT_EQ(fake->launches.back().config.gridDimX, 3u);
    EXPECT_EQ(fake->launches.back().params.tiles, 20);
  });
}

}  // namespace
}  // namespace fovea_test

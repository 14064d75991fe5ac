// refusal_test.cc - every driver call fails in every way, and what the kernels lack is refused.
#include "csrc/cuda/plan.h"
#include "tests/cuda/fake_gpu.h"

namespace fovea_test {
namespace {

const CUresult kErrors[] = {CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_OUT_OF_MEMORY,
                            CUDA_ERROR_ILLEGAL_ADDRESS, CUDA_ERROR_NOT_SUPPORTED,
                            CUDA_ERROR_DEINITIALIZED};

// Calls of fovea_attention, from a thread without a context, on a stream of its own.
const char *const kCallsOfLaunch[] = {
    "cuCtxGetCurrent",     "cuStreamGetCtx",    "cuCtxPushCurrent",   "cuCtxGetDevice",
    "cuStreamIsCapturing", "cuLibraryLoadData", "cuLibraryGetKernel", "cuKernelSetAttribute",
    "cuLaunchKernelEx",    "cuCtxPopCurrent"};

const char *const kCallsOfCreation[] = {"cuDriverGetVersion",      "cuInit",
                                        "cuDeviceGetCount",        "cuDeviceGet",
                                        "cuDeviceGetName",         "cuDeviceGetAttribute",
                                        "cuDevicePrimaryCtxRetain"};

void expect_detail(const std::string &call, CUresult error) {
  const std::string words = call + " returned " + std::to_string(error);
  EXPECT_NE(std::string(fovea_error_detail()).find(words), std::string::npos)
      << fovea_error_detail() << "; expected: " << words;
}

TEST(DriverErrors, ComeBackUnchangedWithTheNameOfTheCall) {
  for (const char *name : kCallsOfLaunch) {
    for (CUresult error : kErrors) {
      SCOPED_TRACE(std::string(name) + " fails with " + std::to_string(error));
      in_fresh_process([name, error] {
        FakeDriver *fake = use_fake_driver();
        fovea_handle *handle = nullptr;
        ASSERT_EQ(create(&handle), FOVEA_OK) << fovea_error_detail();
        CUstream_st stream{&fake->primary[0], false};
        Call call;
        fake->fail = name;
        fake->with = error;
        const fovea_status status = fovea_attention(handle, &call.args, &stream);
        const bool queued = !fake->launches.empty();
        EXPECT_EQ(status, queued ? FOVEA_PARTIAL : FOVEA_DRIVER_ERROR) << fovea_error_detail();
        EXPECT_EQ(queued, std::string(name) == "cuCtxPopCurrent");
        expect_detail(name, error);
        EXPECT_TRUE(queued || call.untouched());
        // The next call finds nothing broken.
        fake->fail = "";
        EXPECT_EQ(fovea_attention(handle, &call.args, &stream), FOVEA_OK) << fovea_error_detail();
      });
    }
  }
}

TEST(DriverErrors, EndTheCreationOfAHandle) {
  for (const char *name : kCallsOfCreation) {
    for (CUresult error : kErrors) {
      SCOPED_TRACE(std::string(name) + " fails with " + std::to_string(error));
      in_fresh_process([name, error] {
        FakeDriver *fake = use_fake_driver();
        fake->fail = name;
        fake->with = error;
        fovea_handle *handle = nullptr;
        const fovea_status status = create(&handle);
        const bool opened = std::string(name).find("cuDevice") == 0;
        const bool memory = opened && error == CUDA_ERROR_OUT_OF_MEMORY;
        EXPECT_EQ(status, memory ? FOVEA_OUT_OF_MEMORY : FOVEA_NO_DEVICE) << fovea_error_detail();
        expect_detail(name, error);
        EXPECT_EQ(handle, nullptr);
      });
    }
  }
}

TEST(DriverErrors, OfMemoryHaveTheirOwnStatusWhenPreparing) {
  for (const char *name : {"cuLibraryLoadData", "cuLibraryGetKernel", "cuKernelSetAttribute"}) {
    for (CUresult error : kErrors) {
      in_fresh_process([name, error] {
        FakeDriver *fake = use_fake_driver();
        fovea_handle *handle = nullptr;
        ASSERT_EQ(create(&handle), FOVEA_OK);
        fovea_limits limits{};
        limits.struct_size = sizeof limits;
        limits.heads_q = limits.heads_kv = 1;
        limits.sequences = limits.total_q = limits.len_kv = 1;
        fake->fail = name;
        fake->with = error;
        EXPECT_EQ(fovea_prepare(handle, &limits),
                  error == CUDA_ERROR_OUT_OF_MEMORY ? FOVEA_OUT_OF_MEMORY : FOVEA_DRIVER_ERROR);
        expect_detail(name, error);
        EXPECT_EQ(fake->count("cuCtxPushCurrent"), fake->count("cuCtxPopCurrent"));
      });
    }
  }
}

// Asks for support after one change to a call that is supported.
fovea_support support_after(const std::function<void(fovea_attention_args &)> &change) {
  static FakeDriver *fake = use_fake_driver();
  static fovea_handle *handle = nullptr;
  if (handle == nullptr) {
    EXPECT_EQ(create(&handle), FOVEA_OK) << fovea_error_detail();
  }
  Call call;
  change(call.args);
  fovea_support support{};
  support.struct_size = sizeof support;
  EXPECT_EQ(fovea_attention_support(handle, &call.args, &support), FOVEA_OK)
      << fovea_error_detail();
  call.args.out.data = call.out.data();
  if (!support.supported) {
    EXPECT_STREQ(support.kernel, "");
  }
  EXPECT_TRUE(fake->launches.empty());
  return support;
}

TEST(CudaSupport, NamesEveryFeatureThatTheKernelsLeaveOut) {
  in_fresh_process([] {
    static int32_t ints[3];
    static float floats[6];
    struct {
      const char *words;
      std::function<void(fovea_attention_args &)> change;
    } changes[] = {
        {"f16 or bf16",
         [](fovea_attention_args &a) {
           a.q.dtype = a.k.dtype = a.v.dtype = a.out.dtype = FOVEA_F32;
         }},
        {"another dtype", [](fovea_attention_args &a) { a.out.dtype = FOVEA_F16; }},
        {"another dtype", [](fovea_attention_args &a) { a.q.dtype = FOVEA_F16; }},
        {"another dtype", [](fovea_attention_args &a) { a.k.dtype = FOVEA_I8; }},
        {"k or v in blocks", [](fovea_attention_args &a) { a.k.dtype = FOVEA_Q8_0; }},
        {"k or v in blocks", [](fovea_attention_args &a) { a.v.dtype = FOVEA_Q4_0; }},
        {"pages.head_lengths",
         [](fovea_attention_args &a) {
           a.sequences.pages = {ints, nullptr, nullptr, 1, 1, 0, ints, {}};
         }},
        {"additive",
         [](fovea_attention_args &a) {
           a.logits.additive = {floats, 0, {}};
         }},
        {"dim 264", [](fovea_attention_args &a) { a.q.shape[3] = a.k.shape[3] = 264; }},
    };
    for (const auto &one : changes) {
      const fovea_support support = support_after(one.change);
      EXPECT_EQ(support.supported, 0u) << one.words;
      EXPECT_NE(std::string(support.reason).find(one.words), std::string::npos) << support.reason;
    }
  });
}

TEST(CudaSupport, SaysYesToWhatTheKernelsCover) {
  in_fresh_process([] {
    static int32_t ints[3];
    static float floats[6];
    static uint8_t mask[400];
    EXPECT_STREQ(support_after([](fovea_attention_args &) {}).kernel,
                 "fovea_attention_fwd_sm80_bf16_d64_q64");
    auto narrow = [](fovea_attention_args &a) {
      a.q.shape[3] = a.k.shape[3] = 8;
      a.v.shape[3] = a.out.shape[3] = 24;
    };
    EXPECT_STREQ(support_after(narrow).kernel, "fovea_attention_fwd_sm80_bf16_d32");
    auto wide = [](fovea_attention_args &a) { a.q.shape[3] = a.k.shape[3] = 72; };
    EXPECT_STREQ(support_after(wide).kernel, "fovea_attention_fwd_sm80_bf16_d96");
    auto wider = [](fovea_attention_args &a) { a.q.shape[3] = a.k.shape[3] = 136; };
    EXPECT_STREQ(support_after(wider).kernel, "fovea_attention_fwd_sm80_bf16_d192_d128");
    auto all = [](fovea_attention_args &a) {
      a.visibility.causal = 1;
      a.positions.alignment = FOVEA_ALIGN_TOP_LEFT;
      a.sequences.kv_lengths = ints;
      a.visibility.mask = fovea_contiguous(mask, FOVEA_U8, 2, 1, 1, 200);
      a.lse.dtype = FOVEA_NONE;
      a.visibility.window_left = {FOVEA_WINDOW_LIMITED, 3};
      a.visibility.window_right = {FOVEA_WINDOW_LIMITED, 0};
      a.positions.q = a.sequences.kv_first = a.positions.kv = ints;
      a.positions.kv_stride = 2;
      a.logits.sinks = floats;
      a.logits.softcap = 30;
      a.sequences.pages = {ints, nullptr, nullptr, 1, 1, 0, nullptr, {}};
      a.reproducible = FOVEA_REPRODUCIBLE_PHASE;
    };
    EXPECT_EQ(support_after(all).supported, 1u);
    auto selected = [](fovea_attention_args &a) {
      a.sequences.kv_lengths = ints;
      a.sequences.pages = {ints, nullptr, nullptr, 1, 1, 0, nullptr, {}};
      a.positions.selected = 1;
    };
    EXPECT_EQ(support_after(selected).supported, 1u) << "keys that no mask hides by position";
  });
}

TEST(CudaSupport, ChoosesTheGeneralClassForRulesOfRowsAlone) {
  in_fresh_process([] {
    static int32_t ints[400];
    static float floats[6];
    static uint32_t words[2 * 100 * 6 * 200];
    const std::function<void(fovea_attention_args &)> changes[] = {
        [](fovea_attention_args &a) { a.visibility.spans = ints; },
        [](fovea_attention_args &a) { a.visibility.prefix_lengths = ints; },
        [](fovea_attention_args &a) {
          a.visibility.mask = fovea_contiguous(words, FOVEA_U8, 1, 1, 6, 200);
        },
        [](fovea_attention_args &a) {
          a.visibility.mask = fovea_contiguous(words, FOVEA_U8, 1, 100, 1, 200);
        },
        [](fovea_attention_args &a) {
          a.visibility.tree = {words, 1, nullptr, nullptr, {}};
        },
        [](fovea_attention_args &a) {
          a.logits.bias = fovea_contiguous(words, FOVEA_F32, 1, 1, 1, 200);
        },
        [](fovea_attention_args &a) {
          a.logits.distances = {floats, 0, 0, 1, {}};
        },
        [](fovea_attention_args &a) { a.logits.alibi_slopes = floats; },
    };
    for (const auto &change : changes) {
      EXPECT_STREQ(support_after(change).kernel, "fovea_attention_fwd_sm80_bf16_d64_general");
    }
    auto wide = [](fovea_attention_args &a) {
      a.logits.alibi_slopes = floats;
      a.q.shape[3] = a.k.shape[3] = 72;
    };
    EXPECT_STREQ(support_after(wide).kernel, "fovea_attention_fwd_sm80_bf16_d128_general");
  });
}

TEST(CudaSupport, ChoosesKernelsOf8BitCaches) {
  in_fresh_process([] {
    static float floats[6];
    for (const uint32_t k : {FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8}) {
      for (const uint32_t v : {FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8}) {
        const auto plain = [=](fovea_attention_args &a) {
          a.k.dtype = k;
          a.v.dtype = v;
          a.k_scale = fovea_contiguous(floats, FOVEA_F32, 1, 1, 2, 1);
        };
        EXPECT_STREQ(support_after(plain).kernel, "fovea_attention_fwd_sm80_bf16_d64_kv8");
        const auto general = [=](fovea_attention_args &a) {
          plain(a);
          a.logits.alibi_slopes = floats;
          a.q.shape[3] = a.k.shape[3] = 72;
        };
        EXPECT_STREQ(support_after(general).kernel,
                     "fovea_attention_fwd_sm80_bf16_d128_general_kv8");
      }
    }
  });
}

TEST(CudaSupport, RefusesTheOtherFunctions) {
  in_fresh_process([] {
    use_fake_driver();
    fovea_handle *handle = nullptr;
    ASSERT_EQ(create(&handle), FOVEA_OK);
    Call call;
    fovea_weights_args weights{};
    weights.struct_size = sizeof weights;
    weights.attention = &call.args;
    std::vector<float> room(2 * 100 * 6 * 200);
    weights.weights = fovea_contiguous(room.data(), FOVEA_F32, 2, 100, 6, 200);
    EXPECT_EQ(fovea_attention_weights(handle, &weights, nullptr), FOVEA_UNSUPPORTED)
        << fovea_error_detail();
    EXPECT_NE(std::string(fovea_error_detail()).find("fovea_attention_weights"), std::string::npos);
    fovea_support support{};
    support.struct_size = sizeof support;
    ASSERT_EQ(fovea_attention_weights_support(handle, &weights, &support), FOVEA_OK)
        << fovea_error_detail();
    EXPECT_EQ(support.supported, 0u);
    EXPECT_STREQ(support.kernel, "");
    EXPECT_NE(std::string(support.reason).find("fovea_attention_weights; the CPU does"),
              std::string::npos)
        << support.reason;
    std::vector<float> sums(2 * 6 * 200);
    fovea_weights_args mass = weights;
    mass.weights = fovea_tensor{};
    mass.mass = fovea_contiguous(sums.data(), FOVEA_F32, 2, 1, 6, 200);
    EXPECT_EQ(fovea_attention_weights(handle, &mass, nullptr), FOVEA_UNSUPPORTED);
    EXPECT_NE(std::string(fovea_error_detail()).find("fovea_attention_weights"), std::string::npos);
    fovea_weights_args none = weights;
    none.weights.shape[3] = 0;
    EXPECT_EQ(fovea_attention_weights(handle, &none, nullptr), FOVEA_OK) << "nothing to do";
    weights.weights.dtype = FOVEA_I8;
    EXPECT_EQ(fovea_attention_weights_support(handle, &weights, &support), FOVEA_BAD_ARGUMENT);
    EXPECT_EQ(std::string(fovea_error_detail()).rfind("weights.dtype", 0), 0u);
  });
}

TEST(CudaSupport, WorkspaceOfACallIsWhatTheCallAsksFor) {
  in_fresh_process([] {
    FakeDriver *fake = use_fake_driver();
    fovea_handle *handle = open_device(fake);
    Call call;
    size_t bytes = 77;
    call.args.out.dtype = FOVEA_F16;  // unlike q's
    EXPECT_EQ(fovea_attention_workspace_for(handle, &call.args, &bytes), FOVEA_UNSUPPORTED);
    EXPECT_NE(std::string(fovea_error_detail()).find("another dtype"), std::string::npos);
    EXPECT_EQ(bytes, 77u);
    call.args.out.dtype = call.args.q.dtype;
    static const int32_t lengths[2] = {200, 3};
    call.args.sequences.kv_lengths = lengths;
    call.args.reproducible = FOVEA_REPRODUCIBLE_RUN;  // the device makes a schedule
    ASSERT_EQ(fovea_attention_workspace_for(handle, &call.args, &bytes), FOVEA_OK);
    EXPECT_TRUE(fake->calls.empty()) << "which asks the driver nothing";
    ASSERT_GT(bytes, 0u);
    call.args.workspace_bytes = bytes;
    EXPECT_EQ(fovea_attention(handle, &call.args, nullptr), FOVEA_OK) << fovea_error_detail();
    call.args.workspace_bytes = bytes - 1;
    EXPECT_EQ(fovea_attention(handle, &call.args, nullptr), FOVEA_BAD_ARGUMENT);
    EXPECT_EQ(std::string(fovea_error_detail()).rfind("workspace_bytes", 0), 0u);
  });
}

// Tiles of 64 rows fit sm_86, sm_89 and sm_120, and those of 128 fit sm_80.
TEST(CudaPlan, EveryRowFitsItsSmallestDeviceAndItsTileIsWhatTheHostThinks) {
  for (int32_t i = 0; fv_cuda_row_at(i); ++i) {
    const fv_cuda_row *row = fv_cuda_row_at(i);
    const int32_t shared_bytes = row->kernel.tile_q == 64 ? 101376 : 166912;
    EXPECT_LE(row->shared_bytes, shared_bytes) << row->kernel.name;
    const int32_t rows_of_a_warp = row->kernel.tile_q / (row->threads / 32);
    EXPECT_TRUE(rows_of_a_warp == 16 || rows_of_a_warp == 32) << row->kernel.name;
    EXPECT_EQ(fv_cuda_row_index(&row->kernel), i);
    EXPECT_EQ(*static_cast<const uint32_t *>(row->image), 0xba55ed50u) << "the magic of a fatbin";
  }
}

TEST(CudaPlan, LeavesOutRowsThatDoNotFitTheDevice) {
  in_fresh_process([] {
    use_fake_driver()->shared_bytes = 48 << 10;
    EXPECT_EQ(support_after([](fovea_attention_args &) {}).supported, 1u);
    auto wide = [](fovea_attention_args &a) { a.q.shape[3] = a.k.shape[3] = 72; };
    const fovea_support support = support_after(wide);
    EXPECT_EQ(support.supported, 0u);
    EXPECT_NE(std::string(support.reason).find("49152 bytes"), std::string::npos);
  });
}

}  // namespace
}  // namespace fovea_test

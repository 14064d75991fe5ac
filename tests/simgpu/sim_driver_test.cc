// The driver's side: order of work, graphs, refusals, sticky errors.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

#include "tests/simgpu/sim_vector.h"

using simgpu::Gpu;

static const char *INCREMENT =
    ".version 9.0\n.target sm_80\n.address_size 64\n"
    ".visible .entry increment(.param .u64 data) {\n"
    ".reg .b32 %r<3>; .reg .b64 %d<4>;\n"
    "ld.param.u64 %d0, [data]; mov.u32 %r0, %tid.x; mul.wide.u32 %d1, %r0, 4; add.s64 %d0, %d0, "
    "%d1;\n"
    "ld.global.u32 %r1, [%d0]; add.s32 %r1, %r1, 1; st.global.u32 [%d0], %r1; ret;\n}\n";

class SimgpuDriver : public testing::Test {
 protected:
  void SetUp() override {
    gpu.reset();
    module = gpu.load(INCREMENT);
    kernel = gpu.find(module, "increment");
    data = gpu.upload(std::vector<unsigned>(32, 0));
  }
  template <typename... A>
  CUresult call(const char *name, A... arguments) {
    return gpu.function<CUresult (*)(A...)>(name)(arguments...);
  }
  CUresult launch(CUstream stream) {
    void *arguments[] = {&data};
    CUlaunchConfig config = {};
    config.gridDimX = config.gridDimY = config.gridDimZ = 1;
    config.blockDimX = 32, config.blockDimY = config.blockDimZ = 1;
    config.hStream = stream;
    return call<const CUlaunchConfig *, CUfunction, void **, void **>("cuLaunchKernelEx", &config,
                                                                      kernel, arguments, nullptr);
  }
  unsigned first() { return gpu.read<unsigned>(data, 1)[0]; }

  Gpu &gpu = Gpu::instance();
  CUmodule module;
  CUfunction kernel;
  CUdeviceptr data;
};

TEST_F(SimgpuDriver, WorkWaitsUntilSomebodySynchronises) {
  CUstream stream;
  ASSERT_EQ(CUDA_SUCCESS, (call<CUstream *, unsigned>("cuStreamCreate", &stream, 1)));
  launch(stream);
  launch(stream);
  EXPECT_EQ(0u, first()) << "a non-blocking stream does not wait for the legacy one";
  call<CUstream>("cuStreamSynchronize", stream);
  EXPECT_EQ(2u, first());
  call<CUstream>("cuStreamDestroy_v2", stream);
}

// A kernel from a file replaces the kernel of its name, whatever files come before it.
TEST_F(SimgpuDriver, KernelsOfFilesTakeThePlaceOfThoseOfTheirNames) {
  const std::string folder = testing::TempDir(), other = folder + "sim_other.ptx",
                    same = folder + "sim_same.ptx";
  std::string text = INCREMENT;
  text.replace(text.find("%r1, 1;"), 7, "%r1, 7;");
  std::ofstream(same) << text;
  std::ofstream(other) << text.replace(text.find("increment"), 9, "other");
  setenv("FOVEA_SIMGPU_PTX", (other + ":" + same).c_str(), 1);
  kernel = gpu.find(gpu.load(INCREMENT), "increment");
  launch(nullptr);
  EXPECT_EQ(7u, first());
  setenv("FOVEA_SIMGPU_PTX", other.c_str(), 1);
  kernel = gpu.find(gpu.load(INCREMENT), "increment");
  launch(nullptr);
  EXPECT_EQ(8u, first());
  unsetenv("FOVEA_SIMGPU_PTX");
}

TEST_F(SimgpuDriver, TheLegacyStreamWaitsForBlockingOnes) {
  CUstream stream;
  call<CUstream *, unsigned>("cuStreamCreate", &stream, 0);
  launch(stream);
  EXPECT_EQ(1u, first());
  call<CUstream>("cuStreamDestroy_v2", stream);
}

TEST_F(SimgpuDriver, EventsOrderStreams) {
  CUstream one, two;
  CUevent event;
  call<CUstream *, unsigned>("cuStreamCreate", &one, 1);
  call<CUstream *, unsigned>("cuStreamCreate", &two, 1);
  call<CUevent *, unsigned>("cuEventCreate", &event, 0);
  launch(one);
  call<CUevent, CUstream>("cuEventRecord", event, one);
  call<CUstream, CUevent, unsigned>("cuStreamWaitEvent", two, event, 0);
  launch(two);
  call<CUstream>("cuStreamSynchronize", two);
  EXPECT_EQ(2u, first());
  EXPECT_EQ(CUDA_SUCCESS, call<CUevent>("cuEventQuery", event));
  call<CUevent>("cuEventDestroy_v2", event);
}

TEST_F(SimgpuDriver, ACapturedGraphRunsOncePerLaunchAndNotAtCapture) {
  CUstream stream;
  CUgraph graph;
  CUgraphExec executable;
  call<CUstream *, unsigned>("cuStreamCreate", &stream, 1);
  ASSERT_EQ(CUDA_SUCCESS, (call<CUstream, int>("cuStreamBeginCapture_v2", stream, 0)));
  launch(stream);
  launch(stream);
  int status = 0;
  call<CUstream, int *>("cuStreamIsCapturing", stream, &status);
  EXPECT_EQ(1, status);
  ASSERT_EQ(CUDA_SUCCESS, (call<CUstream, CUgraph *>("cuStreamEndCapture", stream, &graph)));
  call<CUstream>("cuStreamSynchronize", stream);
  EXPECT_EQ(0u, first());
  ASSERT_EQ(CUDA_SUCCESS, (call<CUgraphExec *, CUgraph, unsigned long long>(
                              "cuGraphInstantiateWithFlags", &executable, graph, 0)));
  call<CUgraph>("cuGraphDestroy", graph);
  for (int i = 0; i < 3; i++) call<CUgraphExec, CUstream>("cuGraphLaunch", executable, stream);
  call<CUstream>("cuStreamSynchronize", stream);
  EXPECT_EQ(6u, first());
  call<CUgraphExec>("cuGraphExecDestroy", executable);
}

TEST_F(SimgpuDriver, SynchronisingInACaptureInvalidatesIt) {
  CUstream stream;
  CUgraph graph;
  call<CUstream *, unsigned>("cuStreamCreate", &stream, 1);
  call<CUstream, int>("cuStreamBeginCapture_v2", stream, 0);
  EXPECT_EQ(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, call<CUstream>("cuStreamSynchronize", stream));
  EXPECT_EQ(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED,
            (call<CUstream, CUgraph *>("cuStreamEndCapture", stream, &graph)));
}

TEST_F(SimgpuDriver, AnErrorSticksUntilTheContextIsReset) {
  CUdeviceptr kept = data;
  data = 0x1234;
  launch(nullptr);
  EXPECT_EQ(CUDA_ERROR_ILLEGAL_ADDRESS, gpu.finish());
  EXPECT_EQ(CUDA_ERROR_ILLEGAL_ADDRESS, gpu.finish());
  ASSERT_EQ(1u, gpu.reports().size());
  EXPECT_EQ("out-of-bounds", gpu.reports()[0].kind);
  gpu.reset();
  data = kept;
  launch(nullptr);
  EXPECT_EQ(CUDA_SUCCESS, gpu.finish());
  EXPECT_EQ(1u, first());
}

TEST_F(SimgpuDriver, RefusesImpossibleLaunches) {
  Gpu::Shape shape;
  shape.block[0] = 1025;
  EXPECT_EQ(CUDA_ERROR_INVALID_VALUE, gpu.run(kernel, shape, data));
  shape.block[0] = 32;
  shape.shared = 49153;
  EXPECT_EQ(CUDA_ERROR_INVALID_VALUE, gpu.run(kernel, shape, data));
  EXPECT_EQ(CUDA_SUCCESS, (call<CUfunction, int, int>("cuFuncSetAttribute", kernel, 8, 49153)));
  EXPECT_EQ(CUDA_SUCCESS, gpu.run(kernel, shape, data));
}

TEST_F(SimgpuDriver, FindsTheNewestVersionOfAName) {
  void *found = nullptr;
  int status = -1;
  EXPECT_EQ(CUDA_SUCCESS, (call<const char *, void **, int, uint64_t, int *>(
                              "cuGetProcAddress_v2", "cuMemAlloc", &found, 13000, 0, &status)));
  EXPECT_EQ(gpu.symbol("cuMemAlloc_v2"), found);
  EXPECT_EQ(CUDA_ERROR_NOT_FOUND,
            (call<const char *, void **, int, uint64_t, int *>("cuGetProcAddress_v2", "cuNothing",
                                                               &found, 13000, 0, &status)));
}

// This needs a process of its own: in the other tests' process the device is open already.
TEST(SimgpuDriverAlone, IsNoGpuUnlessAskedToBeOne) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        unsetenv("FOVEA_SIMGPU");
        void *library = dlopen(SIMGPU_LIBRARY, RTLD_NOW);
        auto initialise = reinterpret_cast<CUresult (*)(unsigned)>(dlsym(library, "cuInit"));
        exit(initialise(0) == CUDA_ERROR_NO_DEVICE ? 0 : 1);
      },
      testing::ExitedWithCode(0), "set FOVEA_SIMGPU=1");
}

// 2^25 plus sixteen threes says how the device adds: see sim_truncate_test.cc.
TEST(SimgpuDriverAlone, AddsAsTheTensorCoresOfItsArchitecture) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto sum = [](const char *device, const char *form) {
    setenv("FOVEA_SIMGPU_DEVICE", device, 1);
    setenv("FOVEA_SIMGPU_MMA", form, 1);
    std::vector<uint32_t> words(320, 0x3f803f80);                     // bf16: A is ones
    std::fill(words.begin() + 128, words.begin() + 192, 0x40404040);  // B is threes
    std::fill(words.begin() + 192, words.end(), 0x4c000000);          // C is 2^25, in f32
    const std::vector<uint32_t> d = simgpu::run_warp_body(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%o0, %o1, %o2, %o3}, "
        "{%r0, %r1, %r2, %r3}, {%r4, %r5}, {%r6, %r7, %r8, %r9};",
        10, 4, words);
    float first;
    memcpy(&first, &d[0], 4);
    exit(static_cast<int>(first - 0x1p25f));
  };
  for (const char *device : {"sm_80", "sm_86"}) {
    EXPECT_EXIT(sum(device, ""), testing::ExitedWithCode(32), "") << device;
  }
  for (const char *device : {"sm_90", "sm_120"}) {
    EXPECT_EXIT(sum(device, ""), testing::ExitedWithCode(48), "") << device;
  }
  EXPECT_EXIT(sum("sm_80", "sm_90"), testing::ExitedWithCode(48), "");
  EXPECT_EXIT(sum("sm_90", "round"), testing::ExitedWithCode(64), "");
}

TEST(SimgpuDriverAlone, RefusesAFormOfSumsThatItDoesNotKnow) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        setenv("FOVEA_SIMGPU", "1", 1);
        setenv("FOVEA_SIMGPU_MMA", "sm_70", 1);
        void *library = dlopen(SIMGPU_LIBRARY, RTLD_NOW);
        auto initialise = reinterpret_cast<CUresult (*)(unsigned)>(dlsym(library, "cuInit"));
        exit(initialise(0) == CUDA_ERROR_NO_DEVICE ? 0 : 1);
      },
      testing::ExitedWithCode(0), "FOVEA_SIMGPU_MMA=sm_70: must be round, sm_80 or sm_90");
}

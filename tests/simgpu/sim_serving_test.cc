// Kernels that serve many sequences (sim_serving_kernels.cu), as nvcc compiles them.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "tests/simgpu/gpu.h"

using simgpu::Gpu;

class SimgpuServing : public testing::Test {
 protected:
  void SetUp() override {
    gpu.reset();
    module = gpu.load_file(SIMGPU_KERNELS "sim_serving_kernels.fatbin");
  }
  void TearDown() override { gpu.unload(module); }
  template <typename... A>
  CUresult call(const char *name, A... arguments) {
    return gpu.function<CUresult (*)(A...)>(name)(arguments...);
  }
  template <typename... A>
  CUresult run(const char *name, unsigned ctas, unsigned threads, A... arguments) {
    Gpu::Shape shape;
    shape.grid[0] = ctas, shape.block[0] = threads;
    return gpu.run(gpu.find(module, name), shape, arguments...);
  }
  std::string first_kind() {
    std::vector<simgpu::Report> reports = gpu.reports();
    return reports.empty() ? "-" : reports[0].kind;
  }

  Gpu &gpu = Gpu::instance();
  CUmodule module = nullptr;
};

TEST_F(SimgpuServing, DividesByValuesOfTheCall) {
  for (int b : {1, 3, -7, 1 << 30, INT32_MIN}) {
    CUdeviceptr results = gpu.allocate(32 * 4 * 8);
    ASSERT_EQ(CUDA_SUCCESS, run("divide", 1, 32, results, gpu.upload(std::vector<int>(1, b))));
    std::vector<int64_t> got = gpu.read<int64_t>(results, 128);
    for (int i = 0; i < 32; i++) {
      int32_t a = (i - 16) * 1000003;
      EXPECT_EQ(got[i * 4], a / b);
      EXPECT_EQ(got[i * 4 + 1], a % b);
      EXPECT_EQ(got[i * 4 + 2], static_cast<uint32_t>(a) / static_cast<uint32_t>(b));
      EXPECT_EQ(got[i * 4 + 3], int64_t{a} * 1000003 / b);
    }
  }
}

TEST_F(SimgpuServing, DrawsEachTicketOnceUnderEverySchedule) {
  CUdeviceptr counter = gpu.allocate(4), owner = gpu.allocate(50 * 4);
  for (unsigned seed = 0; seed < 8; seed++) {
    gpu.reset(seed);
    call<CUdeviceptr, unsigned, size_t, CUstream>("cuMemsetD32Async", counter, 0, 1, nullptr);
    call<CUdeviceptr, unsigned, size_t, CUstream>("cuMemsetD32Async", owner, 0, 50, nullptr);
    ASSERT_EQ(CUDA_SUCCESS, run("draw_tickets", 6, 64, counter, owner, 50u));
    for (unsigned number : gpu.read<unsigned>(owner, 50)) EXPECT_GE(number, 1u);
    EXPECT_EQ(56u, gpu.read<unsigned>(counter, 1)[0]);
  }
}

TEST_F(SimgpuServing, LetsACtaSpinOnAVolatileWord) {
  CUdeviceptr flag = gpu.upload(std::vector<unsigned>(1, 0)), seen = gpu.allocate(4);
  for (unsigned seed = 0; seed < 4; seed++) {
    gpu.reset(seed);
    ASSERT_EQ(CUDA_SUCCESS, run("spin", 3, 1, flag, seen));
    EXPECT_EQ(7u, gpu.read<unsigned>(seen, 1)[0]);
  }
}

TEST_F(SimgpuServing, HasMoreCtasThanSixteenBitsCount) {
  const unsigned ctas = 70000;
  CUdeviceptr marks = gpu.upload(std::vector<unsigned char>(ctas, 0));
  ASSERT_EQ(CUDA_SUCCESS, run("mark_ctas", ctas, 1, marks));
  EXPECT_EQ(std::vector<unsigned char>(ctas, 1), gpu.read<unsigned char>(marks, ctas));
}

// The PTX manual gives tanh.approx.f32 a relative error of 2^-11.
TEST_F(SimgpuServing, CapsLogits) {
  std::vector<float> values;
  for (int i = 0; i < 32; i++) values.push_back((i - 16) * 7.0f);
  CUdeviceptr data = gpu.upload(values);
  ASSERT_EQ(CUDA_SUCCESS, run("cap", 1, 32, data, 30.0f));
  std::vector<float> got = gpu.read<float>(data, 32);
  for (int i = 0; i < 32; i++) {
    double wanted = 30 * std::tanh(values[i] / 30.0);
    EXPECT_NEAR(got[i], wanted, std::fabs(wanted) * (0x1p-11 + 0x1p-22)) << i;
  }
}

TEST_F(SimgpuServing, WaitsForAllGroupsButSome) {
  std::vector<unsigned> values(256);
  for (unsigned i = 0; i < 256; i++) values[i] = i;
  CUdeviceptr out = gpu.allocate(1024);
  ASSERT_EQ(CUDA_SUCCESS, run("copy_in_groups", 1, 32, out, gpu.upload(values)));
  EXPECT_EQ(values, gpu.read<unsigned>(out, 256));
}

TEST_F(SimgpuServing, CountsAfterTheLaunchBefore) {
  CUdeviceptr counter = gpu.upload(std::vector<unsigned>(1, 0));
  Gpu::Shape shape;
  shape.grid[0] = 3, shape.overlaps = true;
  for (int i = 0; i < 4; i++) gpu.queue(gpu.find(module, "count_after"), shape, {&counter});
  ASSERT_EQ(CUDA_SUCCESS, gpu.finish());
  EXPECT_EQ(4u * 3 * 32, gpu.read<unsigned>(counter, 1)[0]);
}

TEST_F(SimgpuServing, GivesKernelsMoreSharedMemoryWhenAsked) {
  CUfunction kernel = gpu.find(module, "mark_ctas");
  int blocks = 0, most = 0;
  const int bytes = 100 << 10, attribute = 8;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
  EXPECT_EQ(CUDA_SUCCESS,
            (call<CUfunction, int, int>("cuFuncSetAttribute", kernel, attribute, bytes)));
  EXPECT_EQ(CUDA_SUCCESS,
            (call<int *, int, CUfunction>("cuFuncGetAttribute", &most, attribute, kernel)));
  EXPECT_EQ(bytes, most);
  EXPECT_EQ(CUDA_SUCCESS,
            (call<int, int, CUfunction, int>("cuKernelSetAttribute", attribute, bytes, kernel, 0)));
  EXPECT_EQ(CUDA_SUCCESS,
            (call<int *, CUfunction, int, size_t>("cuOccupancyMaxActiveBlocksPerMultiprocessor",
                                                  &blocks, kernel, 128, bytes)));
  EXPECT_EQ(1, blocks);
  CUdeviceptr marks = gpu.allocate(1);
  Gpu::Shape shape;
  shape.shared = bytes, shape.block[0] = 1;
  EXPECT_EQ(CUDA_SUCCESS, gpu.run(kernel, shape, marks));
}

// The memory of the process that is resident, in kB.
static long resident_kb() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::stol(line.substr(6));
  }
  return 0;
}

// The tensors of a serving cache are far larger than the part that one call touches.
TEST_F(SimgpuServing, KeepsOfALargeTensorWhatWasTouched) {
  const size_t bytes = size_t{20} << 30;
  const int64_t stride = 1 << 20, last = bytes / 4 / stride - 1;
  long before = resident_kb();
  CUdeviceptr from = gpu.allocate(bytes), to = gpu.allocate(bytes);
  for (int64_t page : {int64_t{0}, int64_t{2049}, last}) {
    std::vector<unsigned> values(32, static_cast<unsigned>(page));
    gpu.upload(from + page * stride * 4, values.data(), 128);
    ASSERT_EQ(CUDA_SUCCESS, run("copy_page", 1, 32, to, from, page, stride)) << page;
    EXPECT_EQ(page + 1, gpu.read<unsigned>(to + page * stride * 4, 1)[0]);
  }
  EXPECT_LT(resident_kb() - before, 100 << 10);
  gpu.release(from);
  gpu.release(to);
}

// Thousands of calls go through gigabytes of addresses. Use of freed memory is reported for at
// least the last gigabyte freed. Memory in use stays known however old it is.
TEST_F(SimgpuServing, KnowsOldMemoryAndForgetsWhatWasFreedLongAgo) {
  const size_t block = 900 << 10;
  CUdeviceptr from = gpu.allocate(4096), to = gpu.allocate(4096), gone = gpu.allocate(1 << 16);
  gpu.upload(from, std::vector<unsigned>(32, 1).data(), 128);
  gpu.release(gone);
  for (size_t bytes = 0; bytes < size_t{1} << 30; bytes += block) gpu.release(gpu.allocate(block));
  run("copy_page", 1, 32, to, gone, int64_t{1}, int64_t{8192});
  EXPECT_EQ("use-after-free", first_kind());
  gpu.reset();
  for (size_t bytes = 0; bytes < size_t{3} << 30; bytes += block) gpu.release(gpu.allocate(block));
  EXPECT_EQ(CUDA_SUCCESS, run("copy_page", 1, 32, to, from, int64_t{0}, int64_t{32}));
  run("copy_page", 1, 32, to, from, int64_t{1}, int64_t{32});
  EXPECT_EQ("uninitialised-read", first_kind());
  gpu.reset();
  run("copy_page", 1, 32, to, gone, int64_t{1}, int64_t{8192});
  EXPECT_EQ("out-of-bounds", first_kind());
  gpu.reset();
  gpu.release(from);
  gpu.release(to);
}

TEST_F(SimgpuServing, WatchesLargeTensorsToo) {
  const size_t bytes = size_t{5} << 30;
  const int64_t stride = 1 << 20, pages = bytes / 4 / stride;
  CUdeviceptr from = gpu.allocate(bytes), to = gpu.allocate(bytes);
  run("copy_page", 1, 32, to, from, int64_t{1100}, stride);
  EXPECT_EQ("uninitialised-read", first_kind());
  gpu.reset();
  run("copy_page", 1, 32, to, from, pages, stride);
  EXPECT_EQ("out-of-bounds", first_kind());
  gpu.reset();
  gpu.upload(from + 1100 * stride * 4, std::vector<unsigned>(32, 1).data(), 128);
  ASSERT_EQ(CUDA_SUCCESS, run("copy_page", 1, 32, to, from, int64_t{1100}, stride));
  gpu.release(from);
  run("copy_page", 1, 32, to, from, int64_t{1100}, stride);
  EXPECT_EQ("use-after-free", first_kind());
  gpu.reset();
  run("copy_page", 1, 32, to, from, int64_t{0}, stride);
  EXPECT_EQ("use-after-free", first_kind());
  gpu.reset();
  gpu.release(to);
}

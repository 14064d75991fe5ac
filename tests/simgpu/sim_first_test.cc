// The simplest kernels, as nvcc compiles them.
#include <gtest/gtest.h>

#include "tests/simgpu/gpu.h"

using simgpu::Gpu;

TEST(SimgpuFirst, AddsVectorsAndLeavesWhatLiesBehindThemAlone) {
  Gpu &gpu = Gpu::instance();
  gpu.reset();
  CUmodule module = gpu.load_file(SIMGPU_KERNELS "sim_first_kernels.fatbin");
  std::vector<float> a(1000), b(1000);
  for (int i = 0; i < 1000; i++) a[i] = i, b[i] = 0.5f * i;
  CUdeviceptr sum = gpu.upload(std::vector<float>(1024, -1));
  Gpu::Shape shape;
  shape.grid[0] = 8, shape.block[0] = 128;
  EXPECT_EQ(CUDA_SUCCESS, gpu.run(gpu.find(module, "add_vectors"), shape, sum, gpu.upload(a),
                                  gpu.upload(b), 1000));
  std::vector<float> got = gpu.read<float>(sum, 1024);
  for (int i = 0; i < 1024; i++) EXPECT_EQ(i < 1000 ? 1.5f * i : -1, got[i]) << i;
  EXPECT_TRUE(gpu.reports().empty());
}

TEST(SimgpuFirst, ReducesWithoutAReportUnderTwentySeeds) {
  Gpu &gpu = Gpu::instance();
  CUmodule module = gpu.load_file(SIMGPU_KERNELS "sim_first_kernels.fatbin");
  CUdeviceptr values = gpu.upload(std::vector<float>(5000, 1));
  for (unsigned seed = 0; seed < 20; seed++) {
    gpu.reset(seed);
    CUdeviceptr total = gpu.upload(std::vector<float>(1, 0));
    Gpu::Shape shape;
    shape.grid[0] = 4, shape.block[0] = 256;
    EXPECT_EQ(CUDA_SUCCESS, gpu.run(gpu.find(module, "reduce"), shape, total, values, 5000));
    EXPECT_EQ(5000, gpu.read<float>(total, 1)[0]);
    EXPECT_TRUE(gpu.reports().empty());
  }
}

TEST(SimgpuFirst, SeesTheOrderThatFencesAndAtomicsMakeBetweenCtas) {
  Gpu &gpu = Gpu::instance();
  CUmodule module = gpu.load_file(SIMGPU_KERNELS "sim_first_kernels.fatbin");
  CUdeviceptr values = gpu.upload(std::vector<float>(16 * 64, 1));
  for (unsigned seed = 0; seed < 20; seed++) {
    gpu.reset(seed);
    CUdeviceptr total = gpu.allocate(4), partials = gpu.allocate(64);
    CUdeviceptr arrived = gpu.upload(std::vector<unsigned>(1, 0));
    Gpu::Shape shape;
    shape.grid[0] = 16, shape.block[0] = 64;
    EXPECT_EQ(CUDA_SUCCESS, gpu.run(gpu.find(module, "reduce_in_one_launch"), shape, total,
                                    partials, arrived, values));
    EXPECT_EQ(1024, gpu.read<float>(total, 1)[0]);
    EXPECT_TRUE(gpu.reports().empty());
  }
}

// Kernels of sim_library_kernels.cu: right numbers and no report under any schedule.
#include <gtest/gtest.h>

#include <functional>

#include "tests/simgpu/gpu.h"

using namespace simgpu;

namespace {

enum { THREADS = 256, TILES = 7 };

void expect(const char *kernel,
            const std::function<int(const std::vector<int> &in, int t)> &value) {
  Gpu &gpu = Gpu::instance();
  gpu.reset();
  CUmodule module = gpu.load_file(std::string(SIMGPU_KERNELS) + "sim_library_kernels.fatbin");
  std::vector<int> words;
  for (int i = 0; i < THREADS * TILES; i++) words.push_back(i * 37 % 1009);
  CUdeviceptr in = gpu.upload(words), out = gpu.allocate(THREADS * sizeof(int));
  Gpu::Shape shape;
  shape.block[0] = THREADS;
  for (unsigned seed = 0; seed < 10; seed++) {
    gpu.reset(seed);
    ASSERT_EQ(CUDA_SUCCESS, gpu.run(gpu.find(module, kernel), shape, in, out, int{TILES}));
    std::vector<int> got = gpu.read<int>(out, THREADS);
    for (int t = 0; t < THREADS; t++) ASSERT_EQ(value(words, t), got[t]) << kernel << " " << t;
  }
  gpu.release(in);
  gpu.release(out);
  gpu.unload(module);
}

int sum_of_tiles(const std::vector<int> &in, int t) {
  int sum = 0;
  for (int i = 0; i < TILES; i++)
    sum += in[static_cast<size_t>(i * THREADS + (t * 7 + i) % THREADS)];
  return sum;
}

TEST(SimgpuLibrary, Barriers) {
  expect("through_barrier", sum_of_tiles);
}

TEST(SimgpuLibrary, Pipelines) {
  expect("through_pipeline", sum_of_tiles);
}

TEST(SimgpuLibrary, Tiles) {
  expect("in_tiles", [](const std::vector<int> &in, int t) {
    int sum = 16;
    for (int i = t / 16 * 16; i < t / 16 * 16 + 16; i++) sum += in[static_cast<size_t>(i)];
    return sum;
  });
}

TEST(SimgpuLibrary, AtomicsOfThreeScopes) {
  expect("by_atomics", [](const std::vector<int> &, int) { return 323232; });
}

}  // namespace

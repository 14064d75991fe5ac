// fake_gpu.h - tests on the fake driver. The library opens a driver once per process, so each
// test's body runs in a child of its own.
#ifndef FOVEA_TESTS_CUDA_FAKE_GPU_H
#define FOVEA_TESTS_CUDA_FAKE_GPU_H

#include <dlfcn.h>
#include <fovea.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "tests/cuda/fake_driver.h"

namespace fovea_test {

// Runs the body in a child and reports what failed there.
inline void in_fresh_process(const std::function<void()> &body) {
  fflush(stdout);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    body();
    fflush(stdout);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status)) << "the test's process ended by signal " << WTERMSIG(status);
  EXPECT_EQ(WEXITSTATUS(status), 0) << "see above: the test's process failed";
}

// The fake driver, which the library will open.
inline FakeDriver *use_fake_driver(const char *path = FOVEA_FAKE_DRIVER) {
  setenv("FOVEA_CUDA_DRIVER", path, 1);
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw std::runtime_error(dlerror());
  return reinterpret_cast<FakeDriver *(*)()>(dlsym(library, "fake_driver"))();
}

inline fovea_status create(fovea_handle **handle, int32_t ordinal = 0) {
  fovea_options options{};
  options.struct_size = sizeof options;
  options.device = FOVEA_DEVICE_CUDA;
  options.ordinal = ordinal;
  return fovea_create(&options, handle);
}

// Opens the device and forgets what that took.
inline fovea_handle *open_device(FakeDriver *fake, int32_t ordinal = 0) {
  fovea_handle *handle = nullptr;
  EXPECT_EQ(create(&handle, ordinal), FOVEA_OK) << fovea_error_detail();
  fake->calls.clear();
  return handle;
}

// Larger than any call here needs. It is never touched.
inline void *some_workspace(size_t *bytes) {
  alignas(256) static unsigned char room[64 << 20];
  *bytes = sizeof room;
  return room;
}

// A call that the kernels cover: 2 sequences, 100 rows, 200 keys, heads 6 over 2, dim 64. The host
// knows all of it and BATCH splits no wide tile, so it is one launch.
struct Call {
  std::vector<uint16_t> q, k, v, out;
  std::vector<float> lse;
  fovea_attention_args args{};

  explicit Call(fovea_dtype dtype = FOVEA_BF16, int64_t dim = 64)
      : q(2 * 100 * 6 * dim), k(2 * 200 * 2 * dim), v(k.size()), out(q.size()), lse(2 * 100 * 6) {
    args.struct_size = sizeof args;
    args.q = fovea_contiguous(q.data(), dtype, 2, 100, 6, dim);
    args.k = fovea_contiguous(k.data(), dtype, 2, 200, 2, dim);
    args.v = fovea_contiguous(v.data(), dtype, 2, 200, 2, dim);
    args.out = fovea_contiguous(out.data(), dtype, 2, 100, 6, dim);
    args.lse = fovea_contiguous(lse.data(), FOVEA_F32, 2, 100, 6, 1);
    args.reproducible = FOVEA_REPRODUCIBLE_BATCH;
    args.workspace = some_workspace(&args.workspace_bytes);
  }
  bool untouched() const {
    for (uint16_t x : out) {
      if (x != 0) return false;
    }
    return true;
  }
};

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CUDA_FAKE_GPU_H

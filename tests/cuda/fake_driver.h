// fake_driver.h - a CUDA driver that computes nothing: it keeps the rules of contexts, records
// calls, and fails where a test says so. It is a shared object with the driver's exported names.
// The library opens it by FOVEA_CUDA_DRIVER, and the test opens the same file to reach
// fake_driver().
#ifndef FOVEA_TESTS_CUDA_FAKE_DRIVER_H
#define FOVEA_TESTS_CUDA_FAKE_DRIVER_H

#include <cuda.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/shared/params.h"
#include "kernels/shared/params_append.h"
#include "kernels/shared/params_merge.h"

// The driver's opaque handles.
struct CUctx_st {
  CUdevice device;
};
struct CUstream_st {
  CUcontext context;
  bool capturing;
};
struct CUkern_st {
  std::string name;
};
struct CUlib_st {
  const void *image;
};

namespace fovea_test {

struct FakeLaunch {
  std::string kernel;
  CUcontext context;  // current on the calling thread
  CUlaunchConfig config;
  fv_attention_params params;  // of attention
  fv_append_params append;     // of fovea_kv_append
  fv_merge_head merge;         // of fovea_merge, with its parts
  std::vector<fv_merge_part> parts;
  std::string unused;  // the bytes of the kernel's room for further parts
};

struct FakeDriver {
  int version = 13000;
  int devices = 2;
  int capability = 90;
  int shared_bytes = 232448;
  std::string fail;  // name of the call that fails
  CUresult with = CUDA_SUCCESS;
  CUctx_st primary[2] = {{0}, {1}};
  int retained[2] = {0, 0};
  std::mutex lock;
  std::vector<std::string> calls;  // names, in order
  std::vector<FakeLaunch> launches;

  int count(const std::string &call) {
    std::lock_guard<std::mutex> guard(lock);
    int n = 0;
    for (const std::string &made : calls) n += made == call;
    return n;
  }
};

}  // namespace fovea_test

extern "C" fovea_test::FakeDriver *fake_driver();

#endif  // FOVEA_TESTS_CUDA_FAKE_DRIVER_H

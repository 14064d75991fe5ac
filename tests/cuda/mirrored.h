// mirrored.h - a vector with a copy on the device, for tests that keep data there between calls.
#ifndef FOVEA_TESTS_CUDA_MIRRORED_H
#define FOVEA_TESTS_CUDA_MIRRORED_H

#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "csrc/cuda/driver.h"

namespace fovea_test {

inline const fv_driver *driver() {
  const fv_driver *found = nullptr;
  fv_driver_open(&found);
  return found;
}

// Needs a current context.
template <class T>
class Mirrored {
 public:
  explicit Mirrored(std::vector<T> values) : host(std::move(values)) {
    EXPECT_EQ(driver()->cuMemAlloc(&device_, bytes()), CUDA_SUCCESS);
    put();
  }
  ~Mirrored() { driver()->cuMemFree(device_); }
  Mirrored(const Mirrored &) = delete;
  Mirrored &operator=(const Mirrored &) = delete;

  void put() { EXPECT_EQ(driver()->cuMemcpyHtoD(device_, host.data(), bytes()), CUDA_SUCCESS); }
  std::vector<T> there() const {
    std::vector<T> values(host.size());
    EXPECT_EQ(driver()->cuMemcpyDtoH(values.data(), device_, bytes()), CUDA_SUCCESS);
    return values;
  }
  T *pointer() const { return reinterpret_cast<T *>(device_); }

  std::vector<T> host;

 private:
  size_t bytes() const { return host.size() * sizeof(T); }
  CUdeviceptr device_ = 0;
};

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CUDA_MIRRORED_H

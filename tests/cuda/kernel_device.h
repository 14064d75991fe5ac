// kernel_device.h - the CUDA device for tests that build their problems with Attention: whatever
// the driver offers, a GPU or the software GPU (FOVEA_CUDA_DRIVER). Arguments lie in host memory
// and are mirrored.
#ifndef FOVEA_TESTS_CUDA_KERNEL_DEVICE_H
#define FOVEA_TESTS_CUDA_KERNEL_DEVICE_H

#include <gtest/gtest.h>

#include <ostream>

#include "cli/mirror/mirror.h"
#include "tests/support/attention_builder.h"

namespace fovea_test {

inline Device cuda_device() {
  Device device;
  device.name = "cuda";
  device.kind = FOVEA_DEVICE_CUDA;
  device.threads = 0;
  device.exact_probabilities = false;  // tensor cores take probabilities in q's type
  return device;
}

inline const Device kCuda = cuda_device();

inline fovea_status call_on_device(fovea_handle *handle, const fovea_attention_args *args) {
  double seconds = 0;
  return fv_mirror_attention(handle, args, &seconds);
}

// Base of a suite that runs on the device, and is skipped where there is none.
template <class Base>
class OnCuda : public Base {
 protected:
  static void SetUpTestSuite() { attention_call = call_on_device; }
  void SetUp() override {
    try {
      handle_of(kCuda);
    } catch (const std::exception &why) {
      GTEST_SKIP() << why.what();
    }
  }
};

// Few multiprocessors need a small workspace, and the mirrored calls spend most time copying it.
enum { FEW_MULTIPROCESSORS = 5 };

// How a call is computed. A tile is 64 rows (position, head of the group), a narrow one 16.
struct Way {
  const char *name;
  uint32_t dtype;
  uint32_t level;
  bool narrow;         // rows of a sequence fit into one narrow tile; PHASE has none
  int64_t dim, dim_v;  // these choose the kernel row, and with it tile_kv
  // Keys begin at multiples of 16 bytes, so that whole tiles are copied as they are. Otherwise they
  // begin wherever the layout's seed puts them.
  bool contiguous;
};

inline void PrintTo(const Way &way, std::ostream *out) {
  *out << way.name;
}

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CUDA_KERNEL_DEVICE_H

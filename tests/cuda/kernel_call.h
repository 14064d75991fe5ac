// kernel_call.h - attention on CUDA, whatever driver there is, for the tests' builder.
#ifndef FOVEA_TESTS_KERNEL_CALL_H
#define FOVEA_TESTS_KERNEL_CALL_H

#include "mirror.h"
#include "support/attention_builder.h"

namespace fovea_test {

inline Device cuda_device() {
  Device device;
  device.name = "cuda";
  device.kind = FOVEA_DEVICE_CUDA;
  device.threads = 0;
  device.exact_probabilities = false;  // tensor cores take them in q's type
  return device;
}

// What attention_call is to be: the builder's arguments lie in host memory.
inline fovea_status call_on_device(fovea_handle *handle, const fovea_attention_args *args) {
  double seconds = 0;
  return fv_mirror_attention(handle, args, &seconds);
}

}  // namespace fovea_test

#endif  // FOVEA_TESTS_KERNEL_CALL_H

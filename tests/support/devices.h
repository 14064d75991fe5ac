// devices.h - the devices that tests run on: the reference, and the CPU with every instruction set
// of this machine. Programs of tests/cuda add GPUs. A process has one handle of each device.
#ifndef FOVEA_TESTS_SUPPORT_DEVICES_H
#define FOVEA_TESTS_SUPPORT_DEVICES_H

#include <fovea.h>

#include <string>
#include <vector>

namespace fovea_test {

struct Device {
  std::string name;  // "reference", "cpu_portable", "cpu_avx2", "cpu_avx2_phase", ...
  uint32_t kind = FOVEA_DEVICE_REFERENCE;
  std::string isa;  // FOVEA_CPU_ISA while it is created; "" leaves the choice to the library
  int32_t threads = 2;
  double work = 0x1p-24;            // unit roundoff of its arithmetic
  bool exact_probabilities = true;  // they are never rounded to q's type
  // The level that calls ask for unless a test asks for more. With PHASE the CPU computes few rows
  // as it computes many. Most problems of the tests have few rows.
  uint32_t reproducible = FOVEA_REPRODUCIBLE_RUN;
};

// How cases call the library: fovea_attention, unless a program sets another function. It does if
// its device has memory of its own.
using AttentionCall = fovea_status (*)(fovea_handle *, const fovea_attention_args *);
extern AttentionCall attention_call;

// The reference, and two devices per instruction set: one for each way through the CPU backend.
std::vector<Device> devices();
std::vector<Device> cpu_devices();  // without the reference
Device device_named(const std::string &name);

// Opens another handle, which the caller destroys. Only device and threads of `options` are
// replaced.
fovea_handle *open(const Device &device, const fovea_options *options = nullptr);
// The handle that the process keeps until its end.
fovea_handle *handle_of(const Device &device);

// For INSTANTIATE_TEST_SUITE_P.
template <typename Info>
std::string device_name(const Info &info) {
  return info.param.name;
}
void PrintTo(const Device &device, std::ostream *out);

}  // namespace fovea_test

#endif  // FOVEA_TESTS_SUPPORT_DEVICES_H

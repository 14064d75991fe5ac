// devices.cc - see devices.h.
#include "tests/support/devices.h"

#include <cstdlib>
#include <map>
#include <ostream>
#include <stdexcept>

namespace fovea_test {
namespace {

fovea_status call_at_once(fovea_handle *handle, const fovea_attention_args *args) {
  return fovea_attention(handle, args, nullptr);
}

}  // namespace

AttentionCall attention_call = call_at_once;

std::vector<Device> cpu_devices() {
  std::vector<Device> list;
  list.push_back({"cpu_portable", FOVEA_DEVICE_CPU, "portable", 2, 0x1p-24});
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    list.push_back({"cpu_avx2", FOVEA_DEVICE_CPU, "avx2", 2, 0x1p-24});
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    list.push_back({"cpu_avx512", FOVEA_DEVICE_CPU, "avx512", 2, 0x1p-24});
  }
#endif
  return list;
}

namespace {

Device of_phase(Device device) {
  device.name += "_phase";
  device.reproducible = FOVEA_REPRODUCIBLE_PHASE;
  return device;
}

std::vector<Device> all_devices() {
  std::vector<Device> list = {{"reference", FOVEA_DEVICE_REFERENCE, "", 2, 0x1p-50}};
  for (const Device &device : cpu_devices()) {
    list.push_back(device);
    list.push_back(of_phase(device));
  }
  return list;
}

// Under a sanitizer, phase on one instruction set: elsewhere it takes paths that are taken anyway,
// and minutes.
bool is_left_out(const Device &device) {
#ifdef __SANITIZE_ADDRESS__
  return device.reproducible == FOVEA_REPRODUCIBLE_PHASE && device.isa != "portable";
#else
  (void)device;
  return false;
#endif
}

}  // namespace

std::vector<Device> devices() {
  std::vector<Device> list;
  for (const Device &device : all_devices()) {
    if (!is_left_out(device)) list.push_back(device);
  }
  return list;
}

Device device_named(const std::string &name) {
  for (const Device &device : all_devices()) {
    if (device.name == name) return device;
  }
  throw std::runtime_error("this machine has no device " + name);
}

fovea_handle *open(const Device &device, const fovea_options *options) {
  fovea_options own{};
  if (options != nullptr) own = *options;
  own.struct_size = sizeof own;
  own.device = device.kind;
  own.threads = device.threads;
  // fovea_create takes the instruction set from the environment, and reads it only here.
  if (device.isa.empty()) {
    unsetenv("FOVEA_CPU_ISA");
  } else {
    setenv("FOVEA_CPU_ISA", device.isa.c_str(), 1);
  }
  fovea_handle *handle = nullptr;
  const fovea_status status = fovea_create(&own, &handle);
  unsetenv("FOVEA_CPU_ISA");
  if (status != FOVEA_OK) throw std::runtime_error(fovea_error_detail());
  return handle;
}

fovea_handle *handle_of(const Device &device) {
  struct Handles {
    std::map<std::string, fovea_handle *> open;
    ~Handles() {
      for (auto &entry : open) fovea_destroy(entry.second);
    }
  };
  static Handles handles;
  const std::string key = device.name + "/" + std::to_string(device.threads);
  auto found = handles.open.find(key);
  if (found == handles.open.end()) found = handles.open.emplace(key, open(device)).first;
  return found->second;
}

void PrintTo(const Device &device, std::ostream *out) {
  *out << device.name;
}

}  // namespace fovea_test

// handle_of.h - one handle per device and number of threads, opened when a test first asks for it.
#ifndef FOVEA_TESTS_HANDLE_OF_H
#define FOVEA_TESTS_HANDLE_OF_H

#include <fovea.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

namespace fovea_test {

struct CloseHandle {
  void operator()(fovea_handle *handle) const { fovea_destroy(handle); }
};

inline fovea_handle *handle_of(fovea_device device, int threads) {
  static std::map<std::pair<int, int>, std::unique_ptr<fovea_handle, CloseHandle>> handles;
  auto &handle = handles[{device, threads}];
  if (!handle) {
    fovea_options options = {};
    options.struct_size = sizeof options;
    options.device = device;
    options.threads = threads;
    fovea_handle *opened = nullptr;
    EXPECT_EQ(fovea_create(&options, &opened), FOVEA_OK) << fovea_error_detail();
    handle.reset(opened);
  }
  return handle.get();
}

// The reason why the device cannot be opened here, with which tests are skipped; "" if it can.
inline std::string why_there_is_no(fovea_device device) {
  fovea_options options = {};
  options.struct_size = sizeof options;
  options.device = device;
  fovea_handle *handle = nullptr;
  if (fovea_create(&options, &handle) != FOVEA_OK) return fovea_error_detail();
  fovea_destroy(handle);
  return "";
}

}  // namespace fovea_test

#endif  // FOVEA_TESTS_HANDLE_OF_H

// The software GPU for tests: opened like a driver, with one context; its reports are read back.
#ifndef FOVEA_TESTS_SIMGPU_GPU_H
#define FOVEA_TESTS_SIMGPU_GPU_H

#include <cstdint>
#include <string>
#include <vector>

extern "C" {
#include "simgpu/driver/api.h"
}

namespace simgpu {

struct Report {
  std::string kind, source, opcode, detail;
};

// There is one per process, because the library keeps one device.
class Gpu {
 public:
  static Gpu &instance();

  // Forgets earlier errors; `seed` sets the order of execution from here on.
  void reset(unsigned seed = 0);
  CUmodule load_file(const std::string &path);
  CUmodule load(const std::string &image);  // asserts success
  CUresult try_load(const std::string &image, CUmodule *module);
  CUfunction find(CUmodule module, const std::string &name);
  void unload(CUmodule module);

  CUdeviceptr allocate(size_t bytes);
  void release(CUdeviceptr address);
  void upload(CUdeviceptr to, const void *from, size_t bytes);
  CUresult download(void *to, CUdeviceptr from, size_t bytes);
  template <typename T>
  CUdeviceptr upload(const std::vector<T> &values) {
    CUdeviceptr address = allocate(values.size() * sizeof(T));
    upload(address, values.data(), values.size() * sizeof(T));
    return address;
  }
  template <typename T>
  std::vector<T> read(CUdeviceptr from, size_t count) {
    std::vector<T> values(count);
    download(values.data(), from, count * sizeof(T));
    return values;
  }

  struct Shape {
    unsigned grid[3] = {1, 1, 1};
    unsigned block[3] = {32, 1, 1};
    unsigned shared = 0;
    bool overlaps = false;  // programmatic stream serialization
  };
  // Queues a launch; finish() runs it and gives its result.
  CUresult queue(CUfunction function, const Shape &shape, std::vector<void *> arguments);
  CUresult finish();
  template <typename... Arguments>
  CUresult run(CUfunction function, const Shape &shape, Arguments... arguments) {
    CUresult queued = queue(function, shape, {&arguments...});
    return queued ? queued : finish();
  }
  std::vector<Report> reports() const;
  // A function of the driver by its exported name.
  void *symbol(const char *name) const;
  template <typename F>
  F function(const char *name) const {
    return reinterpret_cast<F>(symbol(name));
  }

 private:
  Gpu();
  void *library_;
  std::string report_path_;
};

std::string read_file(const std::string &path);

}  // namespace simgpu

#endif  // FOVEA_TESTS_SIMGPU_GPU_H

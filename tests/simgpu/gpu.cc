#include "tests/simgpu/gpu.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace simgpu {

std::string read_file(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

Gpu &Gpu::instance() {
  static Gpu gpu;
  return gpu;
}

Gpu::Gpu() {
  report_path_ = testing::TempDir() + "simgpu-" + std::to_string(getpid()) + ".json";
  setenv("FOVEA_SIMGPU", "1", 1);
  setenv("FOVEA_SIMGPU_REPORT", report_path_.c_str(), 1);
  library_ = dlopen(SIMGPU_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (!library_) {
    ADD_FAILURE() << dlerror();
    abort();
  }
  CUcontext context;
  EXPECT_EQ(CUDA_SUCCESS, function<CUresult (*)(unsigned)>("cuInit")(0));
  EXPECT_EQ(CUDA_SUCCESS,
            (function<CUresult (*)(CUcontext *, int)>("cuDevicePrimaryCtxRetain")(&context, 0)));
  EXPECT_EQ(CUDA_SUCCESS, function<CUresult (*)(CUcontext)>("cuCtxSetCurrent")(context));
}

void *Gpu::symbol(const char *name) const {
  void *found = dlsym(library_, name);
  if (!found) {
    ADD_FAILURE() << "no " << name;
    abort();
  }
  return found;
}

void Gpu::reset(unsigned seed) {
  function<CUresult (*)(int)>("cuDevicePrimaryCtxReset_v2")(0);
  function<void (*)(uint64_t)>("simgpu_set_seed")(seed);
  std::remove(report_path_.c_str());
}

CUresult Gpu::try_load(const std::string &image, CUmodule *module) {
  return function<CUresult (*)(CUmodule *, const void *)>("cuModuleLoadData")(module,
                                                                              image.c_str());
}

CUmodule Gpu::load(const std::string &image) {
  CUmodule module = nullptr;
  EXPECT_EQ(CUDA_SUCCESS, try_load(image, &module));
  return module;
}

CUmodule Gpu::load_file(const std::string &path) {
  return load(read_file(path));
}

CUfunction Gpu::find(CUmodule module, const std::string &name) {
  CUfunction found = nullptr;
  EXPECT_EQ(CUDA_SUCCESS, (function<CUresult (*)(CUfunction *, CUmodule, const char *)>(
                              "cuModuleGetFunction")(&found, module, name.c_str())))
      << name;
  return found;
}

void Gpu::unload(CUmodule module) {
  function<CUresult (*)(CUmodule)>("cuModuleUnload")(module);
}

CUdeviceptr Gpu::allocate(size_t bytes) {
  CUdeviceptr address = 0;
  EXPECT_EQ(CUDA_SUCCESS,
            (function<CUresult (*)(CUdeviceptr *, size_t)>("cuMemAlloc_v2")(&address, bytes)));
  return address;
}

void Gpu::release(CUdeviceptr address) {
  function<CUresult (*)(CUdeviceptr)>("cuMemFree_v2")(address);
}

void Gpu::upload(CUdeviceptr to, const void *from, size_t bytes) {
  EXPECT_EQ(CUDA_SUCCESS, (function<CUresult (*)(CUdeviceptr, const void *, size_t)>(
                              "cuMemcpyHtoD_v2")(to, from, bytes)));
}

CUresult Gpu::download(void *to, CUdeviceptr from, size_t bytes) {
  return function<CUresult (*)(void *, CUdeviceptr, size_t)>("cuMemcpyDtoH_v2")(to, from, bytes);
}

CUresult Gpu::queue(CUfunction kernel, const Shape &shape, std::vector<void *> arguments) {
  CUlaunchAttribute attribute = {};
  attribute.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  attribute.value.number = 1;
  CUlaunchConfig config = {};
  config.gridDimX = shape.grid[0], config.gridDimY = shape.grid[1], config.gridDimZ = shape.grid[2];
  config.blockDimX = shape.block[0], config.blockDimY = shape.block[1];
  config.blockDimZ = shape.block[2];
  config.sharedMemBytes = shape.shared;
  config.attrs = &attribute;
  config.numAttrs = shape.overlaps ? 1 : 0;
  return function<CUresult (*)(const CUlaunchConfig *, CUfunction, void **, void **)>(
      "cuLaunchKernelEx")(&config, kernel, arguments.data(), nullptr);
}

CUresult Gpu::finish() {
  return function<CUresult (*)()>("cuCtxSynchronize")();
}

// The value of a key in one line of the report file. Each line is one object.
static std::string value_of(const std::string &line, const std::string &key) {
  size_t start = line.find("\"" + key + "\": \"");
  if (start == std::string::npos) return "";
  start += key.size() + 5;
  return line.substr(start, line.find('"', start) - start);
}

std::vector<Report> Gpu::reports() const {
  std::vector<Report> reports;
  std::istringstream lines(read_file(report_path_));
  for (std::string line; std::getline(lines, line);) {
    if (line.find("\"kind\"") == std::string::npos) continue;
    reports.push_back({value_of(line, "kind"), value_of(line, "source"), value_of(line, "opcode"),
                       value_of(line, "detail")});
  }
  return reports;
}

}  // namespace simgpu

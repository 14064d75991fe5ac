// simgpu/driver/api.h, which needs no toolkit, has the same numbers and layouts as cuda.h.
#include <cuda.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>

namespace sim {
extern "C" {
#include "simgpu/driver/api.h"
}
}  // namespace sim

// Every enumerator of the file. The first test fails if one is missing here.
#define EACH_ENUMERATOR(X)                                 \
  X(CUDA_SUCCESS)                                          \
  X(CUDA_ERROR_INVALID_VALUE)                              \
  X(CUDA_ERROR_OUT_OF_MEMORY)                              \
  X(CUDA_ERROR_NOT_INITIALIZED)                            \
  X(CUDA_ERROR_NO_DEVICE)                                  \
  X(CUDA_ERROR_INVALID_DEVICE)                             \
  X(CUDA_ERROR_INVALID_IMAGE)                              \
  X(CUDA_ERROR_INVALID_CONTEXT)                            \
  X(CUDA_ERROR_NO_BINARY_FOR_GPU)                          \
  X(CUDA_ERROR_INVALID_PTX)                                \
  X(CUDA_ERROR_INVALID_HANDLE)                             \
  X(CUDA_ERROR_NOT_FOUND)                                  \
  X(CUDA_ERROR_NOT_READY)                                  \
  X(CUDA_ERROR_ILLEGAL_ADDRESS)                            \
  X(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)                    \
  X(CUDA_ERROR_NOT_SUPPORTED)                              \
  X(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED)                 \
  X(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED)                 \
  X(CUDA_ERROR_STREAM_CAPTURE_UNJOINED)                    \
  X(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)                    \
  X(CU_LAUNCH_ATTRIBUTE_COOPERATIVE)                       \
  X(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)                 \
  X(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION) \
  X(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)               \
  X(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)                   \
  X(CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES)                    \
  X(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)                    \
  X(CU_FUNC_ATTRIBUTE_NUM_REGS)                            \
  X(CU_FUNC_ATTRIBUTE_PTX_VERSION)                         \
  X(CU_FUNC_ATTRIBUTE_BINARY_VERSION)                      \
  X(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)       \
  X(CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT)

TEST(SimgpuApi, EveryEnumeratorIsCompared) {
  std::map<std::string, int> known;
#define KNOWN(name) known[#name] = sim::name;
  EACH_ENUMERATOR(KNOWN)
  std::ifstream file(FOVEA_SOURCE_DIR "/simgpu/driver/api.h");
  std::string text(std::istreambuf_iterator<char>(file), {});
  std::regex enumerator("\\b(CU[A-Z_]+) = ([0-9]+)");
  int found = 0;
  for (std::sregex_iterator at(text.begin(), text.end(), enumerator), end; at != end; ++at) {
    EXPECT_EQ(1u, known.count((*at)[1])) << "not compared: " << (*at)[1];
    found++;
  }
  EXPECT_EQ(known.size(), static_cast<size_t>(found));
}

TEST(SimgpuApi, EnumeratorsHaveTheirNumbers) {
#define SAME(name) EXPECT_EQ(static_cast<int>(::name), static_cast<int>(sim::name)) << #name;
  EACH_ENUMERATOR(SAME)
}

#define SAME_MEMBER(type, member)                                   \
  EXPECT_EQ(offsetof(::type, member), offsetof(sim::type, member)); \
  EXPECT_EQ(sizeof(::type::member), sizeof(sim::type::member));

TEST(SimgpuApi, StructsHaveTheirLayouts) {
  EXPECT_EQ(sizeof(::CUlaunchAttribute), sizeof(sim::CUlaunchAttribute));
  SAME_MEMBER(CUlaunchAttribute, id)
  SAME_MEMBER(CUlaunchAttribute, pad)
  SAME_MEMBER(CUlaunchAttribute, value)
  EXPECT_EQ(sizeof(::CUlaunchConfig), sizeof(sim::CUlaunchConfig));
  SAME_MEMBER(CUlaunchConfig, gridDimX)
  SAME_MEMBER(CUlaunchConfig, gridDimY)
  SAME_MEMBER(CUlaunchConfig, gridDimZ)
  SAME_MEMBER(CUlaunchConfig, blockDimX)
  SAME_MEMBER(CUlaunchConfig, blockDimY)
  SAME_MEMBER(CUlaunchConfig, blockDimZ)
  SAME_MEMBER(CUlaunchConfig, sharedMemBytes)
  SAME_MEMBER(CUlaunchConfig, hStream)
  SAME_MEMBER(CUlaunchConfig, attrs)
  SAME_MEMBER(CUlaunchConfig, numAttrs)
}

TEST(SimgpuApi, HandlesAndAddressesHaveTheirSizes) {
  EXPECT_EQ(sizeof(::CUresult), sizeof(sim::CUresult));
  EXPECT_EQ(sizeof(::CUdevice), sizeof(sim::CUdevice));
  EXPECT_EQ(sizeof(::CUdeviceptr), sizeof(sim::CUdeviceptr));
  EXPECT_EQ(sizeof(::CUstream), sizeof(sim::CUstream));
}

// The members of an attribute's value that the software GPU reads have cuda.h's offsets.
TEST(SimgpuApi, AttributesHaveTheirValuesInPlace) {
  ::CUlaunchAttribute attribute = {};
  attribute.value.clusterDim.y = 5;
  sim::CUlaunchAttribute copy;
  static_assert(sizeof copy == sizeof attribute, "the test copies one to the other");
  memcpy(&copy, &attribute, sizeof copy);
  EXPECT_EQ(5u, copy.value.size[1]);
  attribute.value.programmaticStreamSerializationAllowed = 7;
  memcpy(&copy, &attribute, sizeof copy);
  EXPECT_EQ(7, copy.value.number);
}

// The simulator's source has attributes as plain numbers. Asked for by cuda.h's names, they must
// have the values of NVIDIA's table of compute capabilities for 9.0.
TEST(SimgpuApi, DeviceAttributesAnswerToTheirNames) {
  setenv("FOVEA_SIMGPU", "1", 1);
  setenv("FOVEA_SIMGPU_DEVICE", "sm_90", 1);
  void *library = dlopen(SIMGPU_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  ASSERT_NE(nullptr, library) << dlerror();
  auto init = reinterpret_cast<CUresult (*)(unsigned)>(dlsym(library, "cuInit"));
  auto get = reinterpret_cast<CUresult (*)(int *, CUdevice_attribute, CUdevice)>(
      dlsym(library, "cuDeviceGetAttribute"));
  ASSERT_EQ(::CUDA_SUCCESS, init(0));
  const std::map<CUdevice_attribute, int> facts = {
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 2147483647},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 49152},
      {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
      {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 50 << 20},
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 233472},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 232448},
      {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32},
      {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
      {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
      {CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1},
      {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1},
      {CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, 1},
  };
  for (auto [attribute, fact] : facts) {
    int value = -1;
    EXPECT_EQ(::CUDA_SUCCESS, get(&value, attribute, 0));
    EXPECT_EQ(fact, value) << "attribute " << attribute;
  }
}

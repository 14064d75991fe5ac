// driver_call.h - the driver's calls that only tests need, by their exported names.
#ifndef FOVEA_TESTS_CUDA_DRIVER_CALL_H
#define FOVEA_TESTS_CUDA_DRIVER_CALL_H

#include <cuda.h>
#include <dlfcn.h>

#include <cstdlib>

namespace fovea_test {

template <class F>
F *driver_call(const char *name) {
  const char *path = getenv("FOVEA_CUDA_DRIVER");
  void *library = dlopen(path && *path ? path : "libcuda.so.1", RTLD_NOW);
  return library ? reinterpret_cast<F *>(dlsym(library, name)) : nullptr;
}
#define DRIVER_CALL(exported) fovea_test::driver_call<decltype(exported)>(#exported)

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CUDA_DRIVER_CALL_H

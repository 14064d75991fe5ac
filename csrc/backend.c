/* backend.c - see backend.h. */
#include "csrc/backend.h"

#include "csrc/handle.h"

/* Their kernels are numbered in this order. */
static const fv_backend *const backends[] = {&fv_cpu_backend, &fv_reference_backend,
                                             &fv_cuda_backend};

enum { BACKENDS = sizeof backends / sizeof backends[0] };

/* AUTO is the CPU as well. The CUDA kernels cover only a part of the header so far, and a caller
 * without a preference must not find features missing. */
const fv_backend *fv_backend_for(uint32_t device) {
  for (int i = 0; i < BACKENDS; ++i) {
    if (backends[i]->device == device) return backends[i];
  }
  return &fv_cpu_backend;
}

const char *fv_backend_kernel_name(int32_t index) {
  for (int i = 0; i < BACKENDS && index >= 0; ++i) {
    int32_t row = 0;
    for (; backends[i]->kernel_name && backends[i]->kernel_name(row); ++row) {
      if (row == index) return backends[i]->kernel_name(row);
    }
    index -= row;
  }
  return NULL;
}

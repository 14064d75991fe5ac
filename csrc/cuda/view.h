/* view.h - tensors in the form that kernels take. */
#ifndef FOVEA_CSRC_CUDA_VIEW_H
#define FOVEA_CSRC_CUDA_VIEW_H

#include <stdbool.h>

#include <fovea.h>
#include "kernels/shared/params.h"
#include "kernels/shared/params_type.h"

_Static_assert((int)FV_TYPE_F32 == (int)FOVEA_F32, "kernels are told the header's numbers");
_Static_assert((int)FV_TYPE_F16 == (int)FOVEA_F16, "kernels are told the header's numbers");
_Static_assert((int)FV_TYPE_BF16 == (int)FOVEA_BF16, "kernels are told the header's numbers");
_Static_assert((int)FV_TYPE_E4M3 == (int)FOVEA_E4M3, "kernels are told the header's numbers");
_Static_assert((int)FV_TYPE_E5M2 == (int)FOVEA_E5M2, "kernels are told the header's numbers");
_Static_assert((int)FV_TYPE_I8 == (int)FOVEA_I8, "kernels are told the header's numbers");

static inline fv_device_view fv_cuda_view(const fovea_tensor *t) {
  if (t->dtype == FOVEA_NONE) return (fv_device_view){0};
  return (fv_device_view){t->data, t->stride[0], t->stride[1], t->stride[2]};
}

/* Whether all rows begin at multiples of 16 bytes. Unused strides must be 0. */
static inline bool fv_cuda_rows_aligned(const fovea_tensor *t) {
  const int64_t odd = t->stride[0] | t->stride[1] | t->stride[2];
  return (uintptr_t)t->data % 16 == 0 && odd % (t->dtype == FOVEA_F32 ? 4 : 8) == 0;
}

#endif /* FOVEA_CSRC_CUDA_VIEW_H */

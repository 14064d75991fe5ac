/* params_type.h - element types, for kernels that take more than one. The numbers are those of
 * fovea_dtype in fovea.h, which kernels do not read. */
#ifndef FOVEA_KERNELS_SHARED_PARAMS_TYPE_H
#define FOVEA_KERNELS_SHARED_PARAMS_TYPE_H

enum {
  FV_TYPE_F32 = 1,
  FV_TYPE_F16 = 2,
  FV_TYPE_BF16 = 3,
  FV_TYPE_E4M3 = 4,
  FV_TYPE_E5M2 = 5,
  FV_TYPE_I8 = 6
};

#endif /* FOVEA_KERNELS_SHARED_PARAMS_TYPE_H */

/* params_type.h - element types as kernels that take more than one of them are told: the numbers of
 * fovea_dtype, which kernels do not read. */
#ifndef FOVEA_KERNELS_SHARED_PARAMS_TYPE_H
#define FOVEA_KERNELS_SHARED_PARAMS_TYPE_H

enum { FV_TYPE_F32 = 1, FV_TYPE_F16 = 2, FV_TYPE_BF16 = 3 };

#endif /* FOVEA_KERNELS_SHARED_PARAMS_TYPE_H */

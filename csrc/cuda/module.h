/* module.h - the loaded kernels. Each row of the tables is loaded once per process and stays, since
 * a captured graph may hold its kernel for ever. */
#ifndef FOVEA_CSRC_CUDA_MODULE_H
#define FOVEA_CSRC_CUDA_MODULE_H

#include "csrc/cuda/driver.h"

/* The kernel of row `row` (cuda/rows.h), ready for launches on the device. It is loaded if it is
 * not yet. Stream capture forbids that: FOVEA_NOT_PREPARED while `stream` is being captured. */
fovea_status fv_module_kernel(const fv_driver *driver, int32_t row, CUdevice device,
                              CUstream stream, CUfunction *kernel);

#endif /* FOVEA_CSRC_CUDA_MODULE_H */

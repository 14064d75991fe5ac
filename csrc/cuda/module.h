/* module.h - the kernels in memory: each row of the tables is loaded once per process and stays,
 * since a captured graph may hold its kernel for ever. */
#ifndef FV_MODULE_H
#define FV_MODULE_H

#include "csrc/cuda/driver.h"

/* The kernel of row `row` (cuda/rows.h), ready for launches on the device. If it is not yet, it is
 * loaded, which stream capture forbids: while `stream` is being captured the answer is
 * FOVEA_NOT_PREPARED. */
fovea_status fv_module_kernel(const fv_driver *driver, int32_t row, CUdevice device,
                              CUstream stream, CUfunction *kernel);

#endif /* FV_MODULE_H */

/* driver.h - the CUDA driver, opened at run time: a table of function pointers.
 *
 * The library links to no part of CUDA, so that one binary runs with and without a GPU. The driver
 * is libcuda.so.1, or the file that FOVEA_CUDA_DRIVER names. The first request opens it, once per
 * process, and it stays open. */
#ifndef FOVEA_CSRC_CUDA_DRIVER_H
#define FOVEA_CSRC_CUDA_DRIVER_H

#include <cuda.h>

#include <stdbool.h>

#include "csrc/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The images hold PTX 9.0. Drivers load that from CUDA 13.0 on. */
enum { FV_DRIVER_VERSION_NEEDED = 13000 };

typedef struct fv_driver {
#define FV_DRIVER_CALL(name, exported, need) __typeof__(exported) *name;
#include "csrc/cuda/driver.def"
#undef FV_DRIVER_CALL
  int32_t version; /* 13000 is 13.0 */
} fv_driver;

/* The driver, ready for use. FOVEA_NO_DEVICE, with the reason as the error detail, if there is
 * none. */
fovea_status fv_driver_open(const fv_driver **driver);

/* Says which driver call failed with what. FOVEA_OUT_OF_MEMORY if memory was short, else
 * FOVEA_DRIVER_ERROR. */
fovea_status fv_driver_fail(const fv_driver *driver, const char *call, CUresult result);

/* Calls the driver, and returns its failure from the function. */
#define FV_DRIVER_TRY(driver, name, ...)                 \
  do {                                                   \
    CUresult fv_result = (driver)->name(__VA_ARGS__);    \
    if (fv_result != CUDA_SUCCESS) {                     \
      return fv_driver_fail((driver), #name, fv_result); \
    }                                                    \
  } while (0)

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_DRIVER_H */

/* append.h - fovea_kv_append on a GPU. */
#ifndef FOVEA_CSRC_CUDA_APPEND_H
#define FOVEA_CSRC_CUDA_APPEND_H

#include "csrc/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Finds the row of cuda/rows.h that runs the call. FOVEA_UNSUPPORTED, with the reason, for
 * queries, norms, and caches of 8-bit dtypes. */
fovea_status fv_choose_cuda_append(const fv_append_problem *problem, int32_t *row);

/* Queues the call. Queues nothing if there is nothing to do, or no kernel for it. */
fovea_status fv_launch_cuda_append(const fv_cuda_device *device, const fv_append_problem *problem,
                                   fovea_stream stream);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_APPEND_H */

/* merge.h - fovea_merge on a GPU. */
#ifndef FOVEA_CSRC_CUDA_MERGE_H
#define FOVEA_CSRC_CUDA_MERGE_H

#include "csrc/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Finds the row of cuda/rows.h that runs the call. FOVEA_UNSUPPORTED, with the reason, for more
 * partials than the kernels take. */
fovea_status fv_choose_cuda_merge(const fv_merge_problem *problem, int32_t *row);

/* Queues the call. Queues nothing if there is nothing to do, or no kernel for it. */
fovea_status fv_launch_cuda_merge(const fv_cuda_device *device, const fv_merge_problem *problem,
                                  fovea_stream stream);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_MERGE_H */

/* append.h - fovea_kv_append on a GPU. */
#ifndef FV_LAUNCH_APPEND_CUDA_H
#define FV_LAUNCH_APPEND_CUDA_H

#include "csrc/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Queues the call; FOVEA_UNSUPPORTED, with the reason, for caches of 8-bit types. */
fovea_status fv_launch_cuda_append(const fv_cuda_device *device, const fv_append_problem *problem,
                                   fovea_stream stream);

#ifdef __cplusplus
}
#endif

#endif /* FV_LAUNCH_APPEND_CUDA_H */

/* attention.h - queues planned calls on a stream of a CUDA device, and loads kernels ahead. */
#ifndef FOVEA_CSRC_CUDA_ATTENTION_H
#define FOVEA_CSRC_CUDA_ATTENTION_H

#include "csrc/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

fovea_status fv_launch_cuda_attention(const fv_cuda_device *device, const fv_plan *plan,
                                      const fv_problem *problem, fovea_stream stream);

/* Loads every kernel that calls within the limits can choose. */
fovea_status fv_prepare_cuda(const fv_cuda_device *device, const fovea_limits *limits);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_ATTENTION_H */

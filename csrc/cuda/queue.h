/* queue.h - queues the launches of a call, given the parameters of its kernels. */
#ifndef FOVEA_CSRC_CUDA_QUEUE_H
#define FOVEA_CSRC_CUDA_QUEUE_H

#include "csrc/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_cuda_launch {
  int32_t row; /* of cuda/rows.h */
  int32_t grid, threads;
  bool early;   /* may start before earlier work on the stream ends: its kernel waits by itself */
  void *params; /* the kernel's struct */
} fv_cuda_launch;

/* Loads the kernels that are not loaded yet, then queues the launches in the stream's context.
 * FOVEA_PARTIAL only if a launch was queued and something failed after it. */
fovea_status fv_queue_cuda(const fv_cuda_device *device, const fv_cuda_launch *launches,
                           int32_t count, fovea_stream stream);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_QUEUE_H */

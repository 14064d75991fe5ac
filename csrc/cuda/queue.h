/* queue.h - queues the launches of a call: all of it but their parameters. */
#ifndef FV_QUEUE_CUDA_H
#define FV_QUEUE_CUDA_H

#include "csrc/cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_cuda_launch {
  int32_t row; /* of cuda/rows.h */
  int32_t grid, threads;
  bool early; /* may start before what is queued before it has ended: its kernel waits by itself */
  void *params; /* the kernel's struct */
} fv_cuda_launch;

/* In the stream's context, after loading the kernels that are not yet. FOVEA_PARTIAL only if a
 * launch was queued and something failed after it. */
fovea_status fv_queue_cuda(const fv_cuda_device *device, const fv_cuda_launch *launches,
                           int32_t count, fovea_stream stream);

#ifdef __cplusplus
}
#endif

#endif /* FV_QUEUE_CUDA_H */

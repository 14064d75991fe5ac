/* queue_cuda.h - queues one launch of one kernel: all of a call but its parameters. */
#ifndef FV_QUEUE_CUDA_H
#define FV_QUEUE_CUDA_H

#include "device_cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_cuda_launch {
  int32_t row; /* of row_cuda.h */
  int32_t grid, threads;
  void *params; /* the kernel's struct */
} fv_cuda_launch;

/* In the stream's context, after loading the kernel if it is not yet. FOVEA_PARTIAL only if the
 * launch was queued and something failed after it. */
fovea_status fv_queue_cuda(const fv_cuda_device *device, const fv_cuda_launch *launch,
                           fovea_stream stream);

#ifdef __cplusplus
}
#endif

#endif /* FV_QUEUE_CUDA_H */

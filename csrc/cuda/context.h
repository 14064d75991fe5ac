/* context.h - the context that a call to the driver runs in.
 *
 * The context is the stream's. It is pushed only if it is not current, so that threads without a
 * context (Go, Rust) work and others pay nothing. The streams that belong to no context (NULL,
 * CU_STREAM_LEGACY, CU_STREAM_PER_THREAD) are those of the current context if that is of the
 * handle's device, else of the device's primary context. */
#ifndef FV_CONTEXT_CUDA_H
#define FV_CONTEXT_CUDA_H

#include "csrc/cuda/device.h"
#include "csrc/cuda/driver.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes the stream's context current; *pushed says whether leaving has something to undo. */
fovea_status fv_context_enter(const fv_driver *driver, const fv_cuda_device *device,
                              CUstream stream, bool *pushed);

/* Undoes entering, without losing the failure of what happened in between: `status`. */
fovea_status fv_context_leave(const fv_driver *driver, bool pushed, fovea_status status);

/* In the stream's context: a stream of its own belongs to the handle's device. */
fovea_status fv_context_need_device(const fv_driver *driver, const fv_cuda_device *device,
                                    CUstream stream);

#ifdef __cplusplus
}
#endif

#endif /* FV_CONTEXT_CUDA_H */

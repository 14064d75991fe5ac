/* context.h - the context that a call to the driver runs in.
 *
 * The context is the stream's. It is pushed only if it is not current: threads without a context
 * (Go, Rust) work, and others pay nothing. Three streams belong to no context: NULL,
 * CU_STREAM_LEGACY and CU_STREAM_PER_THREAD. They mean the current context if that is of the
 * handle's device, else the device's primary context. */
#ifndef FOVEA_CSRC_CUDA_CONTEXT_H
#define FOVEA_CSRC_CUDA_CONTEXT_H

#include "csrc/cuda/device.h"
#include "csrc/cuda/driver.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Makes the stream's context current. *pushed: fv_context_leave has something to undo. */
fovea_status fv_context_enter(const fv_driver *driver, const fv_cuda_device *device,
                              CUstream stream, bool *pushed);

/* Undoes fv_context_enter. Returns `status`, or its own failure if `status` is FOVEA_OK. */
fovea_status fv_context_leave(const fv_driver *driver, bool pushed, fovea_status status);

/* Needs the stream's context to be current. FOVEA_BAD_ARGUMENT if the stream belongs to a context
 * of another device than the handle's. */
fovea_status fv_context_need_device(const fv_driver *driver, const fv_cuda_device *device,
                                    CUstream stream);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_CONTEXT_H */

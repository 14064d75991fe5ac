/* device.h - what a device of the host is: threads. The handle's state of the reference, and the
 * first part of the CPU's. */
#ifndef FV_HOST_DEVICE_H
#define FV_HOST_DEVICE_H

#include "csrc/handle.h"
#include "csrc/host/parallel.h"
#include "csrc/host/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_host_device {
  fv_pool *pool; /* NULL if the caller brings parallel_for, or one thread is enough */
  fv_parallel parallel;
} fv_host_device;

static inline fv_parallel fv_host_parallel(const fovea_handle *handle) {
  return ((const fv_host_device *)handle->state)->parallel;
}

/* Allocates the state, `bytes` large and zero but for its first part, and starts the threads. */
fovea_status fv_host_open(fovea_handle *handle, const fovea_options *options, size_t bytes);
void fv_host_close(fovea_handle *handle);

/* fovea_merge and fovea_kv_append, which the devices of the host share. Both cover all of the
 * header. */
fovea_status fv_host_choose_merge(const fovea_handle *handle, const fv_merge_problem *problem,
                                  fv_choice *choice);
fovea_status fv_host_choose_append(const fovea_handle *handle, const fv_append_problem *problem,
                                   fv_choice *choice);
/* Kernel `index` of those two, or NULL. */
const char *fv_host_kernel_name(int32_t index);
fovea_status fv_host_merge(const fovea_handle *handle, const fv_merge_problem *problem,
                           fovea_stream stream);
fovea_status fv_host_append(const fovea_handle *handle, const fv_append_problem *problem,
                            fovea_stream stream);

#ifdef __cplusplus
}
#endif

#endif /* FV_HOST_DEVICE_H */

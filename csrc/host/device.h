/* device.h - the threads of a host device. fv_host_device is the reference handle's state and the
 * first member of the CPU handle's. */
#ifndef FOVEA_CSRC_HOST_DEVICE_H
#define FOVEA_CSRC_HOST_DEVICE_H

#include "csrc/handle.h"
#include "csrc/host/parallel.h"
#include "csrc/host/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_host_device {
  fv_pool *pool; /* NULL if the caller gives parallel_for, or there is one thread */
  fv_parallel parallel;
} fv_host_device;

static inline fv_parallel fv_host_parallel(const fovea_handle *handle) {
  return ((const fv_host_device *)handle->state)->parallel;
}

/* Allocates `bytes` of state, fills in the fv_host_device it begins with, zeroes the rest, and
 * starts the threads. */
fovea_status fv_host_open(fovea_handle *handle, const fovea_options *options, size_t bytes);
void fv_host_close(fovea_handle *handle);

/* fovea_merge and fovea_kv_append, which the host devices share. Both cover all that the header
 * allows. */
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

#endif /* FOVEA_CSRC_HOST_DEVICE_H */

/* device.c - see device.h. */
#include "csrc/host/device.h"

#include <stdio.h>
#include <stdlib.h>

#include "csrc/host/append.h"
#include "csrc/host/merge.h"
#include "csrc/status.h"

static void pool_for(void *user, int64_t count, fovea_task task, void *context) {
  fv_pool_run(user, count, task, context);
}

static fovea_status start_threads(fv_host_device *device, const fovea_options *options,
                                  int32_t threads) {
  device->parallel = (fv_parallel){options->parallel_for, options->parallel_for_user, threads};
  if (options->parallel_for || threads == 1) return FOVEA_OK;
  if (fv_pool_create(&device->pool, threads) != 0) {
    return fv_fail(FOVEA_OUT_OF_MEMORY, "no memory for a pool of %d threads", threads);
  }
  device->parallel = (fv_parallel){pool_for, device->pool, threads};
  return FOVEA_OK;
}

fovea_status fv_host_open(fovea_handle *handle, const fovea_options *options, size_t bytes) {
  int32_t threads = options->threads ? options->threads : fv_pool_default_threads();
  handle->threads = threads < FV_THREADS_MAX ? threads : FV_THREADS_MAX;
  handle->state = calloc(1, bytes);
  if (!handle->state) {
    return fv_fail(FOVEA_OUT_OF_MEMORY, "no memory for a device (%zu bytes)", bytes);
  }
  fovea_status status = start_threads(handle->state, options, handle->threads);
  if (status != FOVEA_OK) free(handle->state);
  return status;
}

void fv_host_close(fovea_handle *handle) {
  fv_host_device *device = handle->state;
  if (device->pool) fv_pool_destroy(device->pool);
  free(device);
}

static const char merge_kernel[] = "fovea_merge_host";
static const char append_kernel[] = "fovea_kv_append_host";

const char *fv_host_kernel_name(int32_t index) {
  return index == 0 ? merge_kernel : index == 1 ? append_kernel : NULL;
}

fovea_status fv_host_choose_merge(const fovea_handle *handle, const fv_merge_problem *problem,
                                  fv_choice *choice) {
  (void)handle, (void)problem;
  choice->kernel = merge_kernel;
  snprintf(choice->reason, sizeof choice->reason, "any number of parts of every dtype and shape");
  return FOVEA_OK;
}

fovea_status fv_host_choose_append(const fovea_handle *handle, const fv_append_problem *problem,
                                   fv_choice *choice) {
  (void)handle, (void)problem;
  choice->kernel = append_kernel;
  snprintf(choice->reason, sizeof choice->reason, "every cache, dtype and rotation");
  return FOVEA_OK;
}

fovea_status fv_host_merge(const fovea_handle *handle, const fv_merge_problem *problem,
                           fovea_stream stream) {
  (void)stream;
  fv_merge_parts(problem, fv_host_parallel(handle));
  return FOVEA_OK;
}

fovea_status fv_host_append(const fovea_handle *handle, const fv_append_problem *problem,
                            fovea_stream stream) {
  (void)stream;
  fv_append_tokens(problem, fv_host_parallel(handle));
  return FOVEA_OK;
}

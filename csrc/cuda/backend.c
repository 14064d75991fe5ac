/* backend.c - the device FOVEA_DEVICE_CUDA: plans calls on the host and queues their work on the
 * caller's stream. A build without CUDA has cuda/absent.c in its place. */
#include "csrc/backend.h"

#include <stdio.h>
#include <stdlib.h>

#include "csrc/cuda/append.h"
#include "csrc/cuda/attention.h"
#include "csrc/cuda/device.h"
#include "csrc/cuda/merge.h"
#include "csrc/cuda/rows.h"
#include "csrc/cuda/schedule.h"
#include "csrc/status.h"

static fovea_status open_cuda(fovea_handle *handle, const fovea_options *options) {
  fv_cuda_device *device = malloc(sizeof *device);
  if (!device) {
    return fv_fail(FOVEA_OUT_OF_MEMORY, "no memory for a device (%zu bytes)", sizeof *device);
  }
  fovea_status status = fv_cuda_open(options->ordinal, device);
  if (status == FOVEA_OK) {
    handle->threads = device->facts.sm_count;
    handle->state = device;
    return FOVEA_OK;
  }
  free(device);
  if (status == FOVEA_NO_DEVICE) {
    return fv_fail(status, "options.device is CUDA, but %s; use AUTO or CPU", fovea_error_detail());
  }
  if (status == FOVEA_DRIVER_ERROR) return fv_fail(FOVEA_NO_DEVICE, "%s", fovea_error_detail());
  return status;
}

static void close_cuda(fovea_handle *handle) {
  fv_cuda_close(handle->state);
  free(handle->state);
}

static void describe(const fovea_handle *handle, fovea_info *info) {
  const fv_cuda_device *device = fv_cuda_device_of(handle);
  snprintf(info->isa, sizeof info->isa, "sm_%d", (int)device->facts.sm);
  snprintf(info->name, sizeof info->name, "%s", device->name);
  snprintf(info->features, sizeof info->features,
           "%d multiprocessors, %d bytes of shared memory per block, driver for CUDA %d.%d",
           (int)device->facts.sm_count, (int)device->facts.shared_bytes,
           (int)device->driver_version / 1000, (int)device->driver_version % 1000 / 10);
}

static const char *kernel_name(int32_t index) {
  return fv_cuda_kernel_at(index).name;
}

static fovea_status plan_attention(const fovea_handle *handle, const fv_problem *problem,
                                   fv_plan *plan) {
  return fv_plan_cuda(&fv_cuda_device_of(handle)->facts, problem, plan);
}

static fovea_status choose_weights(const fovea_handle *handle, const fv_weights_problem *problem,
                                   fv_choice *choice) {
  (void)handle, (void)problem, (void)choice;
  return fv_fail(FOVEA_UNSUPPORTED, "no CUDA kernel covers fovea_attention_weights; the CPU does");
}

static fovea_status choose_merge(const fovea_handle *handle, const fv_merge_problem *problem,
                                 fv_choice *choice) {
  int32_t row = 0;
  (void)handle;
  FV_TRY(fv_choose_cuda_merge(problem, &row));
  choice->kernel = kernel_name(row);
  snprintf(choice->reason, sizeof choice->reason, "the smallest that takes %d parts",
           (int)problem->args.count);
  return FOVEA_OK;
}

static fovea_status choose_append(const fovea_handle *handle, const fv_append_problem *problem,
                                  fv_choice *choice) {
  int32_t row = 0;
  (void)handle;
  FV_TRY(fv_choose_cuda_append(problem, &row));
  choice->kernel = kernel_name(row);
  snprintf(choice->reason, sizeof choice->reason, "caches of f32, f16 and bf16, every rotation");
  return FOVEA_OK;
}

static size_t workspace(const fovea_handle *handle, const fovea_limits *limits) {
  return fv_cuda_workspace(&fv_cuda_device_of(handle)->facts, limits);
}

static fovea_status prepare(const fovea_handle *handle, const fovea_limits *limits) {
  return fv_prepare_cuda(fv_cuda_device_of(handle), limits);
}

static fovea_status attention(const fovea_handle *handle, const fv_plan *plan,
                              const fv_problem *problem, fovea_stream stream) {
  return fv_launch_cuda_attention(fv_cuda_device_of(handle), plan, problem, stream);
}

static fovea_status weights(const fovea_handle *handle, const fv_weights_problem *problem,
                            fovea_stream stream) {
  fv_choice choice;
  (void)stream;
  return choose_weights(handle, problem, &choice);
}

static fovea_status merge(const fovea_handle *handle, const fv_merge_problem *problem,
                          fovea_stream stream) {
  return fv_launch_cuda_merge(fv_cuda_device_of(handle), problem, stream);
}

static fovea_status append(const fovea_handle *handle, const fv_append_problem *problem,
                           fovea_stream stream) {
  return fv_launch_cuda_append(fv_cuda_device_of(handle), problem, stream);
}

const fv_backend fv_cuda_backend = {.name = "cuda",
                                    .device = FOVEA_DEVICE_CUDA,
                                    .open = open_cuda,
                                    .close = close_cuda,
                                    .describe = describe,
                                    .explain_absence = fv_cuda_describe,
                                    .kernel_name = kernel_name,
                                    .plan = plan_attention,
                                    .choose_weights = choose_weights,
                                    .choose_merge = choose_merge,
                                    .choose_append = choose_append,
                                    .workspace = workspace,
                                    .prepare = prepare,
                                    .attention = attention,
                                    .weights = weights,
                                    .merge = merge,
                                    .append = append};

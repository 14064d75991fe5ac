/* backend.c - the device FOVEA_DEVICE_REFERENCE: the formula in double precision. It judges the
 * other devices. */
#include "csrc/backend.h"

#include <stdio.h>

#include "csrc/host/device.h"
#include "csrc/host/processor.h"
#include "csrc/reference/reference.h"

static const fv_kernel kernel = {"fovea_attention_reference_f64", 1, 1};
static const char weights_kernel[] = "fovea_attention_weights_reference_f64";

void fv_plan_reference(int32_t threads, const fv_problem *problem, fv_plan *plan) {
  *plan = (fv_plan){.kernel = &kernel,
                    .tile_q = kernel.tile_q,
                    .tile_kv = kernel.tile_kv,
                    .tiles_bound = fv_plan_tiles_bound(problem, kernel.tile_q),
                    .workers = threads};
  snprintf(plan->reason, sizeof plan->reason,
           "the reference device was asked for: double precision, every feature");
}

static fovea_status open_reference(fovea_handle *handle, const fovea_options *options) {
  return fv_host_open(handle, options, sizeof(fv_host_device));
}

static void describe_reference(const fovea_handle *handle, fovea_info *info) {
  (void)handle;
  snprintf(info->isa, sizeof info->isa, "scalar");
  fv_processor_name(info->name, sizeof info->name);
  fv_describe_features(fv_processor_features(), info->features, sizeof info->features);
}

static const char *kernel_name(int32_t index) {
  return index == 0 ? kernel.name : index == 1 ? weights_kernel : NULL;
}

static fovea_status plan_attention(const fovea_handle *handle, const fv_problem *problem,
                                   fv_plan *plan) {
  fv_plan_reference(handle->threads, problem, plan);
  return FOVEA_OK;
}

static fovea_status choose_weights(const fovea_handle *handle, const fv_weights_problem *problem,
                                   fv_choice *choice) {
  (void)handle, (void)problem;
  choice->kernel = weights_kernel;
  snprintf(choice->reason, sizeof choice->reason, "double precision, every feature");
  return FOVEA_OK;
}

static size_t workspace(const fovea_handle *handle, const fovea_limits *limits) {
  (void)handle, (void)limits;
  return 0;
}

static fovea_status attention(const fovea_handle *handle, const fv_plan *plan,
                              const fv_problem *problem, fovea_stream stream) {
  (void)plan, (void)stream;
  fv_reference_attention(problem, fv_host_parallel(handle));
  return FOVEA_OK;
}

static fovea_status weights(const fovea_handle *handle, const fv_weights_problem *problem,
                            fovea_stream stream) {
  (void)stream;
  fv_reference_weights(problem, fv_host_parallel(handle));
  return FOVEA_OK;
}

const fv_backend fv_reference_backend = {.name = "reference",
                                         .device = FOVEA_DEVICE_REFERENCE,
                                         .open = open_reference,
                                         .close = fv_host_close,
                                         .describe = describe_reference,
                                         .kernel_name = kernel_name,
                                         .plan = plan_attention,
                                         .choose_weights = choose_weights,
                                         .choose_merge = fv_host_choose_merge,
                                         .choose_append = fv_host_choose_append,
                                         .workspace = workspace,
                                         .attention = attention,
                                         .weights = weights,
                                         .merge = fv_host_merge,
                                         .append = fv_host_append};

/* backend.c - the device FOVEA_DEVICE_CPU: tiled, threaded, vectorised. */
#define _GNU_SOURCE /* secure_getenv */
#include "csrc/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csrc/cpu/attention.h"
#include "csrc/cpu/device.h"
#include "csrc/cpu/plan.h"
#include "csrc/cpu/weights.h"
#include "csrc/host/processor.h"
#include "csrc/status.h"

/* The best instruction set of the processor, or the one that FOVEA_CPU_ISA names. */
static fovea_status choose_isa(fv_isa *isa) {
  const char *wish = secure_getenv("FOVEA_CPU_ISA");
  fv_isa best = fv_best_isa(fv_processor_features());
  *isa = best;
  if (!wish || !*wish) return FOVEA_OK;
  if (!strcmp(wish, "portable")) {
    *isa = FV_ISA_PORTABLE;
    return FOVEA_OK;
  }
  if (!strcmp(wish, "avx2")) {
    *isa = FV_ISA_AVX2;
  } else if (!strcmp(wish, "avx512")) {
    *isa = FV_ISA_AVX512;
  } else {
    return fv_fail(
        FOVEA_BAD_ARGUMENT,
        "FOVEA_CPU_ISA names no instruction set; use portable, avx2 or avx512, or unset it");
  }
  if (*isa <= best) return FOVEA_OK;
  return fv_fail(FOVEA_BAD_ARGUMENT, "FOVEA_CPU_ISA=%s, but this processor lacks %s; unset it",
                 wish, *isa == FV_ISA_AVX2 ? "AVX2, FMA or F16C" : "AVX-512 with F, BW, DQ and VL");
}

static fovea_status open_cpu(fovea_handle *handle, const fovea_options *options) {
  fv_isa isa;
  FV_TRY(choose_isa(&isa));
  FV_TRY(fv_host_open(handle, options, sizeof(fv_cpu_device)));
  ((fv_cpu_device *)handle->state)->isa = isa;
  return FOVEA_OK;
}

static void describe_cpu(const fovea_handle *handle, fovea_info *info) {
  snprintf(info->isa, sizeof info->isa, "%s", fv_isa_name(fv_cpu_facts_of(handle).isa));
  fv_processor_name(info->name, sizeof info->name);
  fv_describe_features(fv_processor_features(), info->features, sizeof info->features);
}

/* By fv_isa. */
static const char *const weights_kernels[] = {"fovea_attention_weights_cpu_portable",
                                              "fovea_attention_weights_cpu_avx2",
                                              "fovea_attention_weights_cpu_avx512"};

enum { WEIGHTS_KERNELS = sizeof weights_kernels / sizeof weights_kernels[0] };

static const char *kernel_name(int32_t index) {
  const fv_cpu_row *row = fv_cpu_row_at(index);
  if (row) return row->kernel.name;
  index -= fv_cpu_row_count();
  if (index >= 0 && index < WEIGHTS_KERNELS) return weights_kernels[index];
  return fv_host_kernel_name(index - WEIGHTS_KERNELS);
}

static fovea_status plan_attention(const fovea_handle *handle, const fv_problem *problem,
                                   fv_plan *plan) {
  fv_cpu_facts facts = fv_cpu_facts_of(handle);
  fv_plan_cpu(&facts, problem, plan);
  return FOVEA_OK;
}

static fovea_status choose_weights(const fovea_handle *handle, const fv_weights_problem *problem,
                                   fv_choice *choice) {
  (void)problem;
  fv_isa isa = fv_cpu_facts_of(handle).isa;
  choice->kernel = weights_kernels[isa];
  snprintf(choice->reason, sizeof choice->reason,
           "covers every dtype, shape, mask and output; instruction set %s", fv_isa_name(isa));
  return FOVEA_OK;
}

static size_t workspace(const fovea_handle *handle, const fovea_limits *limits) {
  fv_cpu_facts facts = fv_cpu_facts_of(handle);
  return fv_cpu_workspace(&facts, limits);
}

static fovea_status attention(const fovea_handle *handle, const fv_plan *plan,
                              const fv_problem *problem, fovea_stream stream) {
  (void)stream;
  fv_cpu_attention(problem, plan, fv_host_parallel(handle));
  return FOVEA_OK;
}

static fovea_status weights(const fovea_handle *handle, const fv_weights_problem *problem,
                            fovea_stream stream) {
  (void)stream;
  fv_cpu_weights(problem, fv_cpu_facts_of(handle).isa, fv_host_parallel(handle));
  return FOVEA_OK;
}

const fv_backend fv_cpu_backend = {.name = "cpu",
                                   .device = FOVEA_DEVICE_CPU,
                                   .open = open_cpu,
                                   .close = fv_host_close,
                                   .describe = describe_cpu,
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

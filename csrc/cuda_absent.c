/* cuda_absent.c - the CUDA side of a build without a CUDA compiler: says so. A handle for CUDA can't
 * be opened, so that nothing else here is ever called with one. */
#include <stdio.h>
#include <string.h>

#include "launch_append_cuda.h"
#include "launch_cuda.h"
#include "launch_merge_cuda.h"
#include "row_cuda.h"
#include "schedule_cuda.h"
#include "status.h"

static const char no_cuda[] = "this build has no CUDA kernels";

fovea_status fv_cuda_open(int32_t ordinal, fv_cuda_device *device) {
  (void)ordinal;
  memset(device, 0, sizeof *device);
  return fv_fail(FOVEA_NO_DEVICE, "%s", no_cuda);
}

void fv_cuda_close(fv_cuda_device *device) {
  (void)device;
}

void fv_cuda_describe(char *text, size_t capacity) {
  snprintf(text, capacity, "%s", no_cuda);
}

fv_cuda_kernel fv_cuda_kernel_at(int32_t index) {
  (void)index;
  return (fv_cuda_kernel){0};
}

fovea_status fv_plan_cuda(const fv_cuda_facts *facts, const fv_problem *problem, fv_plan *plan) {
  (void)facts, (void)problem, (void)plan;
  return fv_fail(FOVEA_UNSUPPORTED, "%s", no_cuda);
}

size_t fv_cuda_workspace(const fv_cuda_facts *facts, const fovea_limits *limits) {
  (void)facts, (void)limits;
  return 0;
}

fovea_status fv_launch_cuda_attention(const fv_cuda_device *device, const fv_plan *plan,
                                      const fv_problem *problem, fovea_stream stream) {
  (void)device, (void)plan, (void)problem, (void)stream;
  return fv_fail(FOVEA_UNSUPPORTED, "%s", no_cuda);
}

fovea_status fv_prepare_cuda(const fv_cuda_device *device, const fovea_limits *limits) {
  (void)device, (void)limits;
  return fv_fail(FOVEA_UNSUPPORTED, "%s", no_cuda);
}

fovea_status fv_launch_cuda_append(const fv_cuda_device *device, const fv_append_problem *problem,
                                   fovea_stream stream) {
  (void)device, (void)problem, (void)stream;
  return fv_fail(FOVEA_UNSUPPORTED, "%s", no_cuda);
}

fovea_status fv_launch_cuda_merge(const fv_cuda_device *device, const fv_merge_problem *problem,
                                  fovea_stream stream) {
  (void)device, (void)problem, (void)stream;
  return fv_fail(FOVEA_UNSUPPORTED, "%s", no_cuda);
}

/* absent.c - the CUDA backend of a build without a CUDA compiler: it only says so. */
#include <stdio.h>

#include "csrc/backend.h"
#include "csrc/status.h"

static const char no_cuda[] = "this build has no CUDA kernels";

static fovea_status open_nothing(fovea_handle *handle, const fovea_options *options) {
  (void)handle, (void)options;
  return fv_fail(FOVEA_NO_DEVICE, "options.device is CUDA, but %s; use AUTO or CPU", no_cuda);
}

static void explain_absence(char *text, size_t capacity) {
  snprintf(text, capacity, "%s", no_cuda);
}

const fv_backend fv_cuda_backend = {.name = "cuda",
                                    .device = FOVEA_DEVICE_CUDA,
                                    .open = open_nothing,
                                    .explain_absence = explain_absence};

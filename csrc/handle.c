/* handle.c - opens and closes devices, and describes them. */
#include "csrc/handle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csrc/check/check.h"
#include "csrc/check/rule.h"
#include "csrc/status.h"

static void tell(const fovea_options *options, const fovea_handle *handle) {
  fovea_info info = {.struct_size = sizeof info};
  char text[160];
  if (!options->log) return;
  handle->backend->describe(handle, &info);
  snprintf(text, sizeof text, "fovea: device %s, %s, %d %s", handle->backend->name, info.isa,
           (int)handle->threads,
           handle->backend->device == FOVEA_DEVICE_CUDA ? "multiprocessors" : "threads");
  options->log(options->log_user, 2, text);
}

fovea_status fovea_create(const fovea_options *options, fovea_handle **handle) {
  fovea_options copy;
  if (!handle) return fv_fail(FOVEA_BAD_ARGUMENT, "handle is NULL; pass where to store it");
  *handle = NULL;
  FV_TRY(fv_check_options(options, &copy));
  fovea_handle *made = calloc(1, sizeof *made);
  if (!made)
    return fv_fail(FOVEA_OUT_OF_MEMORY, "no memory for a handle (%zu bytes)", sizeof *made);
  made->backend = fv_backend_for(copy.device);
  made->ordinal = copy.ordinal;
  fovea_status status = made->backend->open(made, &copy);
  if (status != FOVEA_OK) {
    free(made);
    return status;
  }
  tell(&copy, made);
  *handle = made;
  return FOVEA_OK;
}

void fovea_destroy(fovea_handle *handle) {
  if (!handle) return;
  handle->backend->close(handle);
  free(handle);
}

fovea_status fovea_get_info(const fovea_handle *handle, fovea_info *info) {
  if (!handle) return fv_fail(FOVEA_BAD_ARGUMENT, "handle is NULL; see fovea_create");
  FV_TRY(fv_rule_check_room(info, FV_FIRST_BYTES(fovea_info, cuda), "fovea_info"));
  fovea_info known = {
      .device = handle->backend->device, .ordinal = handle->ordinal, .threads = handle->threads};
  handle->backend->describe(handle, &known);
  fv_cuda_backend.explain_absence(known.cuda, sizeof known.cuda);
  fv_rule_write_struct(info, &known, sizeof known);
  return FOVEA_OK;
}

/* fail.c - see fail.h. */
#include "layers/fail.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "layers/fovea_layers.h"

/* Longer than fovea's own texts, which it may quote. */
enum { DETAIL_BYTES = 640, STRUCT_MAX = 4096 };

static _Thread_local char thread_detail[DETAIL_BYTES];

int32_t fovea_layers_version(void) {
  return FOVEA_VERSION_MAJOR * 10000 + FOVEA_VERSION_MINOR * 100 + FOVEA_VERSION_PATCH;
}

const char *fovea_layers_error_detail(void) {
  return thread_detail;
}

fovea_status fv_layers_fail(fovea_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(thread_detail, sizeof thread_detail, format, arguments);
  va_end(arguments);
  return status;
}

fovea_status fv_layers_fail_as(fovea_status status, const char *doing) {
  return fv_layers_fail(status, "%s: %s", doing, fovea_error_detail());
}

fovea_status fv_layers_fail_renamed(fovea_status status, const char *doing, const char *from,
                                    const char *to) {
  const char *detail = fovea_error_detail(), *found = strstr(detail, from);
  if (!found) return fv_layers_fail_as(status, doing);
  return fv_layers_fail(status, "%s: %.*s%s%s", doing, (int)(found - detail), detail, to,
                        found + strlen(from));
}

/* The name that a user knows: without the pointer that leads to it. */
static const char *field_name(const char *field) {
  const char *arrow = strstr(field, "->");
  return arrow ? arrow + 2 : field;
}

fovea_status fv_layers_refuse(const char *owner, const char *field, const char *op,
                              const char *bound, long long left, long long right) {
  const char *sense = strcmp(op, "==") == 0 ? "" : op;
  return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s is %lld, must be %s%s%s, which is %lld", owner,
                        field_name(field), left, sense, *sense ? " " : "", field_name(bound),
                        right);
}

fovea_status fv_layers_copy_args(void *copy, size_t bytes, size_t first, const void *args,
                                 const char *type) {
  size_t given;
  if (!args) return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s is NULL", type);
  memcpy(&given, args, sizeof given);
  if (given < first || given > STRUCT_MAX || given % sizeof(uint64_t)) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT,
                          "struct_size of %s is %zu, must be sizeof(%s), which is %zu", type, given,
                          type, bytes);
  }
  memset(copy, 0, bytes);
  memcpy(copy, args, given < bytes ? given : bytes);
  for (size_t at = bytes; at < given; ++at) {
    if (((const unsigned char *)args)[at] == 0) continue;
    return fv_layers_fail(FOVEA_BAD_ARGUMENT,
                          "%s has a field at byte %zu that this version (%d) does not know", type,
                          at, (int)fovea_layers_version());
  }
  return FOVEA_OK;
}

fovea_status fv_layers_check_handle(const fovea_handle *handle) {
  fovea_info info = {.struct_size = sizeof info};
  if (fovea_get_info(handle, &info) != FOVEA_OK) {
    return fv_layers_fail_as(FOVEA_BAD_ARGUMENT, "the handle");
  }
  if (info.device != FOVEA_DEVICE_CUDA) return FOVEA_OK;
  return fv_layers_fail(FOVEA_UNSUPPORTED,
                        "layers run on the CPU; the handle is CUDA device %d: open one with "
                        "options.device = FOVEA_DEVICE_CPU",
                        (int)info.ordinal);
}

fovea_status fv_layers_check_workspace(const void *workspace, size_t given, size_t needed) {
  if (needed == SIZE_MAX) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "the call needs more workspace than there is memory");
  }
  if (given < needed) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "workspace_bytes is %zu, must be at least %zu", given,
                          needed);
  }
  if (needed && (!workspace || (uintptr_t)workspace % 256)) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "workspace %p must be there, aligned to 256 bytes",
                          workspace);
  }
  return FOVEA_OK;
}

/* backend.h - what a device does: each device is a table of functions. The folders reference/, cpu/
 * and cuda/ define one table each; only this file and backend.c name them all. */
#ifndef FOVEA_CSRC_BACKEND_H
#define FOVEA_CSRC_BACKEND_H

#include "csrc/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_backend {
  const char *name; /* "cpu" */
  fovea_device device;

  /* Sets handle->threads and handle->state. If this build lacks the backend, `open` fails and says
   * why, and of the other functions only `explain_absence` is not NULL. */
  fovea_status (*open)(fovea_handle *handle, const fovea_options *options);
  void (*close)(fovea_handle *handle);
  /* Fills in isa, name and features. */
  void (*describe)(const fovea_handle *handle, fovea_info *info);
  /* Says in one sentence why the device is available or not. NULL: it always is. */
  void (*explain_absence)(char *text, size_t capacity);
  /* Kernel `index` of this build, or NULL. */
  const char *(*kernel_name)(int32_t index);

  /* Returns FOVEA_OK, or FOVEA_UNSUPPORTED with the reason as the error detail. A pure function of
   * the problem and of what the handle knows of its device. */
  fovea_status (*plan)(const fovea_handle *handle, const fv_problem *problem, fv_plan *plan);
  /* As `plan`, for the other calls: they need no workspace. */
  fovea_status (*choose_weights)(const fovea_handle *handle, const fv_weights_problem *problem,
                                 fv_choice *choice);
  fovea_status (*choose_merge)(const fovea_handle *handle, const fv_merge_problem *problem,
                               fv_choice *choice);
  fovea_status (*choose_append)(const fovea_handle *handle, const fv_append_problem *problem,
                                fv_choice *choice);
  /* An upper bound on workspace_bytes of the plan of any problem within the limits. The limits are
   * checked. */
  size_t (*workspace)(const fovea_handle *handle, const fovea_limits *limits);
  /* Loads what calls within the limits need. NULL: there is nothing to load. */
  fovea_status (*prepare)(const fovea_handle *handle, const fovea_limits *limits);

  /* The calls; each problem is checked. A backend that computes before it returns ignores the
   * stream. */
  fovea_status (*attention)(const fovea_handle *handle, const fv_plan *plan,
                            const fv_problem *problem, fovea_stream stream);
  fovea_status (*weights)(const fovea_handle *handle, const fv_weights_problem *problem,
                          fovea_stream stream);
  fovea_status (*merge)(const fovea_handle *handle, const fv_merge_problem *problem,
                        fovea_stream stream);
  fovea_status (*append)(const fovea_handle *handle, const fv_append_problem *problem,
                         fovea_stream stream);
} fv_backend;

extern const fv_backend fv_cpu_backend, fv_reference_backend, fv_cuda_backend;

/* The backend of the device that a caller asks for. FOVEA_DEVICE_AUTO is the CPU. */
const fv_backend *fv_backend_for(uint32_t device);

/* Kernel `index` of the kernels of all backends, numbered together; or NULL. */
const char *fv_backend_kernel_name(int32_t index);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_BACKEND_H */

/* backend.h - what a device does: one table of functions for each. The rooms reference/, cpu/ and
 * cuda/ define one each; this file and backend.c alone name them all. */
#ifndef FV_BACKEND_H
#define FV_BACKEND_H

#include "csrc/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_backend {
  const char *name; /* "cpu" */
  fovea_device device;

  /* Sets handle->threads and handle->state. A backend that this build lacks has `open`, which says
   * why, and `explain_absence`; the rest is NULL. */
  fovea_status (*open)(fovea_handle *handle, const fovea_options *options);
  void (*close)(fovea_handle *handle);
  /* Fills in isa, name and features. */
  void (*describe)(const fovea_handle *handle, fovea_info *info);
  /* Why the device is or is not available, in one sentence. NULL: it always is. */
  void (*explain_absence)(char *text, size_t capacity);
  /* Kernel `index` of this build, or NULL. */
  const char *(*kernel_name)(int32_t index);

  /* FOVEA_OK, or FOVEA_UNSUPPORTED with the reason as the error detail. A pure function of the
   * problem and of what the handle knows of its device. */
  fovea_status (*plan)(const fovea_handle *handle, const fv_problem *problem, fv_plan *plan);
  /* As `plan`, for the other calls, which need no workspace. choose_weights and weights may be
   * NULL: the reference's do. */
  fovea_status (*choose_weights)(const fovea_handle *handle, const fv_weights_problem *problem,
                                 fv_choice *choice);
  fovea_status (*choose_merge)(const fovea_handle *handle, const fv_merge_problem *problem,
                               fv_choice *choice);
  fovea_status (*choose_append)(const fovea_handle *handle, const fv_append_problem *problem,
                                fv_choice *choice);
  /* What `plan` stays within for all problems within the limits, which are checked. */
  size_t (*workspace)(const fovea_handle *handle, const fovea_limits *limits);
  /* NULL: there is nothing to load. */
  fovea_status (*prepare)(const fovea_handle *handle, const fovea_limits *limits);

  /* The calls, each checked. A backend that computes before it returns ignores the stream. */
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

/* The backend of what a caller asks for: FOVEA_DEVICE_AUTO is the CPU. */
const fv_backend *fv_backend_for(uint32_t device);

/* Who computes weights for `backend`: a tool to look at a few rows. The judge's code serves the CPU
 * as well. */
const fv_backend *fv_backend_of_weights(const fv_backend *backend);

/* Kernel `index` of all backends' kernels in one numbering, or NULL. */
const char *fv_backend_kernel_name(int32_t index);

#ifdef __cplusplus
}
#endif

#endif /* FV_BACKEND_H */

/* api.c - every exported call that computes or plans: check, plan, run. Creation is in handle.c,
 * texts are in status.c. */
#include <fovea.h>

#include <stdio.h>
#include <string.h>

#include "csrc/check/check.h"
#include "csrc/check/rule.h"
#include "csrc/handle.h"

static fovea_status need_handle(const fovea_handle *handle) {
  return handle ? FOVEA_OK : fv_fail(FOVEA_BAD_ARGUMENT, "handle is NULL; see fovea_create");
}

/* ---- Attention ---- */

static fovea_status need_workspace(const fv_plan *plan, const fovea_attention_args *args) {
  if (args->workspace_bytes >= plan->workspace_bytes &&
      (args->workspace || !plan->workspace_bytes)) {
    return FOVEA_OK;
  }
  return fv_fail(FOVEA_BAD_ARGUMENT,
                 "workspace_bytes (%zu%s) must be at least %zu; ask "
                 "fovea_attention_workspace, or fovea_attention_workspace_for for this call alone",
                 args->workspace_bytes, args->workspace ? "" : ", workspace NULL",
                 plan->workspace_bytes);
}

static fovea_status attend(fovea_handle *handle, const fovea_attention_args *args,
                           fovea_stream stream) {
  fv_problem problem;
  fv_plan plan;
  FV_TRY(need_handle(handle));
  FV_TRY(fv_check_attention(args, &problem));
  if (problem.empty) return FOVEA_OK; /* no output rows: nothing to do */
  FV_TRY(handle->backend->plan(handle, &problem, &plan));
  FV_TRY(need_workspace(&plan, &problem.args));
  return handle->backend->attention(handle, &plan, &problem, stream);
}

/* Copies the detail to the caller's buffer; its value is the status. If the check refuses
 * struct_size, nobody knows which fields exist, and nothing is copied. */
#define PUBLISH(type, args, status)                                              \
  ((args) && has_detail((args)->struct_size, FV_FIRST_BYTES(type, detail_bytes)) \
       ? fv_publish_detail((status), (args)->detail, (args)->detail_bytes)       \
       : (status))

static bool has_detail(size_t struct_size, size_t first) {
  return struct_size >= first && struct_size <= FV_STRUCT_MAX;
}

fovea_status fovea_attention(fovea_handle *handle, const fovea_attention_args *args,
                             fovea_stream stream) {
  fovea_status status = attend(handle, args, stream);
  return PUBLISH(fovea_attention_args, args, status);
}

static fovea_status need_support(const fovea_handle *handle, const fovea_support *support) {
  FV_TRY(need_handle(handle));
  return fv_rule_check_room(support, FV_FIRST_BYTES(fovea_support, reason), "fovea_support");
}

/* Fills in *support. kernel NULL: none runs the call; the reason is then the error detail. */
static void write_support(const char *kernel, const char *reason, fovea_support *support) {
  fovea_support known = {.supported = kernel != NULL};
  snprintf(known.kernel, sizeof known.kernel, "%s", kernel ? kernel : "");
  snprintf(known.reason, sizeof known.reason, "%s", kernel ? reason : fovea_error_detail());
  fv_rule_write_struct(support, &known, sizeof known);
}

/* Fills in *support from a backend's choice. */
static void write_choice(fovea_status chosen, const fv_choice *choice, fovea_support *support) {
  write_support(chosen == FOVEA_OK ? choice->kernel : NULL, choice->reason, support);
}

static fovea_status support(fovea_handle *handle, const fovea_attention_args *args,
                            fovea_support *result) {
  fv_problem problem;
  fv_plan plan;
  FV_TRY(need_support(handle, result));
  FV_TRY(fv_check_attention_shape(args, &problem));
  bool planned = handle->backend->plan(handle, &problem, &plan) == FOVEA_OK;
  write_support(planned ? plan.kernel->name : NULL, plan.reason, result);
  return FOVEA_OK;
}

fovea_status fovea_attention_support(fovea_handle *handle, const fovea_attention_args *args,
                                     fovea_support *result) {
  fovea_status status = support(handle, args, result);
  return PUBLISH(fovea_attention_args, args, status);
}

static fovea_status explain(fovea_handle *handle, const fovea_attention_args *args, char *text,
                            size_t capacity) {
  fv_problem problem;
  fv_plan plan;
  FV_TRY(need_handle(handle));
  if (!text || !capacity) return fv_fail(FOVEA_BAD_ARGUMENT, "text is NULL or capacity is 0");
  FV_TRY(fv_check_attention_shape(args, &problem));
  FV_TRY(handle->backend->plan(handle, &problem, &plan));
  fv_plan_print(&plan, &problem, text, capacity);
  return FOVEA_OK;
}

fovea_status fovea_attention_explain(fovea_handle *handle, const fovea_attention_args *args,
                                     char *text, size_t capacity) {
  fovea_status status = explain(handle, args, text, capacity);
  return PUBLISH(fovea_attention_args, args, status);
}

fovea_status fovea_attention_workspace(fovea_handle *handle, const fovea_limits *limits,
                                       size_t *bytes) {
  fovea_limits copy;
  FV_TRY(need_handle(handle));
  if (!bytes) return fv_fail(FOVEA_BAD_ARGUMENT, "bytes is NULL; pass where to store the size");
  FV_TRY(fv_check_limits(limits, &copy));
  *bytes = handle->backend->workspace(handle, &copy);
  return FOVEA_OK;
}

static fovea_status size_workspace(fovea_handle *handle, const fovea_attention_args *args,
                                   size_t *bytes) {
  fv_problem problem;
  fv_plan plan;
  FV_TRY(need_handle(handle));
  if (!bytes) return fv_fail(FOVEA_BAD_ARGUMENT, "bytes is NULL; pass where to store the size");
  FV_TRY(fv_check_attention_shape(args, &problem));
  if (problem.empty) {
    *bytes = 0;
    return FOVEA_OK;
  }
  FV_TRY(handle->backend->plan(handle, &problem, &plan));
  *bytes = plan.workspace_bytes;
  return FOVEA_OK;
}

fovea_status fovea_attention_workspace_for(fovea_handle *handle, const fovea_attention_args *args,
                                           size_t *bytes) {
  fovea_status status = size_workspace(handle, args, bytes);
  return PUBLISH(fovea_attention_args, args, status);
}

fovea_status fovea_prepare(fovea_handle *handle, const fovea_limits *limits) {
  fovea_limits copy;
  FV_TRY(need_handle(handle));
  FV_TRY(fv_check_limits(limits, &copy));
  return handle->backend->prepare ? handle->backend->prepare(handle, &copy) : FOVEA_OK;
}

const char *fovea_kernel_name(int32_t index) {
  return fv_backend_kernel_name(index);
}

/* ---- Weights ---- */

static fovea_status weigh(fovea_handle *handle, const fovea_weights_args *args,
                          fovea_stream stream) {
  fv_weights_problem problem;
  FV_TRY(need_handle(handle));
  FV_TRY(fv_check_weights(args, &problem));
  if (problem.attention.empty) return FOVEA_OK; /* no weights were asked for */
  return handle->backend->weights(handle, &problem, stream);
}

/* The caller's buffer for the detail of weights is in the arguments of the attention. */
static fovea_status publish_weights(const fovea_weights_args *args, fovea_status status) {
  if (!args || !has_detail(args->struct_size, FV_FIRST_BYTES(fovea_weights_args, heads)))
    return status;
  return PUBLISH(fovea_attention_args, args->attention, status);
}

fovea_status fovea_attention_weights(fovea_handle *handle, const fovea_weights_args *args,
                                     fovea_stream stream) {
  return publish_weights(args, weigh(handle, args, stream));
}

static fovea_status support_weights(fovea_handle *handle, const fovea_weights_args *args,
                                    fovea_support *result) {
  fv_weights_problem problem;
  fv_choice choice;
  FV_TRY(need_support(handle, result));
  FV_TRY(fv_check_weights_shape(args, &problem));
  write_choice(handle->backend->choose_weights(handle, &problem, &choice), &choice, result);
  return FOVEA_OK;
}

fovea_status fovea_attention_weights_support(fovea_handle *handle, const fovea_weights_args *args,
                                             fovea_support *result) {
  return publish_weights(args, support_weights(handle, args, result));
}

/* ---- Merge ---- */

static fovea_status merge(fovea_handle *handle, const fovea_merge_args *args, fovea_stream stream) {
  fv_merge_problem problem;
  FV_TRY(need_handle(handle));
  FV_TRY(fv_check_merge(args, &problem));
  return handle->backend->merge(handle, &problem, stream);
}

fovea_status fovea_merge(fovea_handle *handle, const fovea_merge_args *args, fovea_stream stream) {
  fovea_status status = merge(handle, args, stream);
  return PUBLISH(fovea_merge_args, args, status);
}

static fovea_status support_merge(fovea_handle *handle, const fovea_merge_args *args,
                                  fovea_support *result) {
  fv_merge_problem problem;
  fv_choice choice;
  FV_TRY(need_support(handle, result));
  FV_TRY(fv_check_merge_shape(args, &problem));
  write_choice(handle->backend->choose_merge(handle, &problem, &choice), &choice, result);
  return FOVEA_OK;
}

fovea_status fovea_merge_support(fovea_handle *handle, const fovea_merge_args *args,
                                 fovea_support *result) {
  fovea_status status = support_merge(handle, args, result);
  return PUBLISH(fovea_merge_args, args, status);
}

/* ---- Append ---- */

static fovea_status append(fovea_handle *handle, const fovea_kv_append_args *args,
                           fovea_stream stream) {
  fv_append_problem problem;
  FV_TRY(need_handle(handle));
  FV_TRY(fv_check_append(args, &problem));
  return handle->backend->append(handle, &problem, stream);
}

fovea_status fovea_kv_append(fovea_handle *handle, const fovea_kv_append_args *args,
                             fovea_stream stream) {
  fovea_status status = append(handle, args, stream);
  return PUBLISH(fovea_kv_append_args, args, status);
}

static fovea_status support_append(fovea_handle *handle, const fovea_kv_append_args *args,
                                   fovea_support *result) {
  fv_append_problem problem;
  fv_choice choice;
  FV_TRY(need_support(handle, result));
  FV_TRY(fv_check_append_shape(args, &problem));
  write_choice(handle->backend->choose_append(handle, &problem, &choice), &choice, result);
  return FOVEA_OK;
}

fovea_status fovea_kv_append_support(fovea_handle *handle, const fovea_kv_append_args *args,
                                     fovea_support *result) {
  fovea_status status = support_append(handle, args, result);
  return PUBLISH(fovea_kv_append_args, args, status);
}

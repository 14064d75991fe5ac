/* memory.c - the keys and values of a memory, projected once. */
#include <string.h>

#include "layers/multihead.h"
#include "layers/span_list.h"

typedef struct memory_call {
  fovea_memory_args args;
  fv_stream k, v;
  fv_linear_scratch k_last, v_last; /* of the steps that write k and v */
} memory_call;

static const fovea_linear no_projection;

static fovea_status check_output(const char *name, const fovea_memory_args *args,
                                 const fovea_tensor *out, int64_t dim) {
  const int64_t shape[4] = {args->x_k.shape[0], args->x_k.shape[1], args->heads_kv, dim};
  FV_LAYERS_TRY(fv_tokens_check("", name, out, false));
  FV_LAYERS_TRY(fv_tokens_check_shape("", name, out, shape));
  return fv_tokens_check_output("", name, out);
}

static fovea_status check_addresses(const fovea_memory_args *args) {
  fv_span_list list;
  int64_t heads = args->heads_kv;
  fv_span_list_begin(&list);
  fv_span_list_writes(&list, "k", &args->k, 0);
  fv_span_list_writes(&list, "v", &args->v, 0);
  fv_span_list_workspace(&list, args->workspace, args->workspace_bytes);
  fv_span_list_reads(&list, "x_k", &args->x_k, 0);
  fv_span_list_reads(&list, "x_v", &args->x_v, 0);
  fv_span_list_reads(&list, "k_proj.weight", &args->k_proj.weight, 0);
  fv_span_list_reads(&list, "k_proj.bias", &args->k_proj.bias, 0);
  fv_span_list_reads(&list, "v_proj.weight", &args->v_proj.weight, 0);
  fv_span_list_reads(&list, "v_proj.bias", &args->v_proj.bias, 0);
  fv_span_list_array(&list, "k_norm.gain", args->k_norm.gain,
                     (heads - 1) * args->k_norm.stride + args->dim);
  fv_span_list_array(&list, "v_norm.gain", args->v_norm.gain,
                     (heads - 1) * args->v_norm.stride + args->dim_v);
  return fv_span_list_check(&list);
}

static fovea_status check_values(const fovea_memory_args *args) {
  const fovea_tensor *values = args->x_v.dtype ? &args->x_v : &args->x_k;
  if (!args->v.dtype) {
    FV_LAYERS_REQUIRE("", args->x_v.dtype, ==, FOVEA_NONE);
    FV_LAYERS_REQUIRE("", args->v_proj.weight.dtype, ==, FOVEA_NONE);
    if (!args->v_norm.gain) return FOVEA_OK;
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "v_norm.gain must be absent without v");
  }
  FV_LAYERS_REQUIRE("", args->dim_v, >=, 1);
  FV_LAYERS_TRY(fv_tokens_check("", "x_v", values, false));
  FV_LAYERS_REQUIRE("", values->shape[0], ==, args->x_k.shape[0]);
  FV_LAYERS_REQUIRE("", values->shape[1], ==, args->x_k.shape[1]);
  FV_LAYERS_TRY(check_output("v", args, &args->v, args->dim_v));
  return fv_linear_check("v_proj.", &args->v_proj, fv_tokens_width(values),
                         (int64_t)args->heads_kv * args->dim_v);
}

static fovea_status check(const fovea_handle *handle, const fovea_memory_args *given,
                          memory_call *call) {
  fovea_memory_args *args = &call->args;
  memset(call, 0, sizeof *call);
  FV_LAYERS_TRY(FV_LAYERS_COPY(args, given, fovea_memory_args, workspace_bytes));
  FV_LAYERS_TRY(fv_layers_check_handle(handle));
  FV_LAYERS_REQUIRE("", args->heads_kv, >=, 1);
  FV_LAYERS_REQUIRE("", args->reserved, ==, 0);
  FV_LAYERS_REQUIRE("", args->dim, >=, 1);
  FV_LAYERS_TRY(fv_tokens_check("", "x_k", &args->x_k, false));
  FV_LAYERS_TRY(check_output("k", args, &args->k, args->dim));
  FV_LAYERS_TRY(fv_linear_check("k_proj.", &args->k_proj, fv_tokens_width(&args->x_k),
                                (int64_t)args->heads_kv * args->dim));
  return check_values(args);
}

/* ---- Keys, then values, in the same workspace ---- */

/* Without a norm the projection goes straight to its place; else there by way of the workspace. */
static fovea_status plan_stream(fovea_handle *handle, fv_stream *s, const fovea_tensor *to,
                                const char *doing, const char *norm, fv_arena arena,
                                fv_linear_scratch *last, size_t *peak) {
  if (!s->used) return FOVEA_OK;
  s->prepared = s->append.q_norm.gain != NULL;
  if (s->prepared) {
    FV_LAYERS_TRY(fv_stream_plan(handle, s, doing, norm, to->shape[2], to->shape[3], &arena));
    fv_stream_take_scratch(s, &arena);
    *last = fv_linear_take(&arena, &no_projection, &s->ready, to, false);
  } else {
    *last = fv_linear_take(&arena, s->linear, &s->from, to, false);
  }
  if (arena.used > *peak) *peak = arena.used;
  return FOVEA_OK;
}

static fovea_status run_stream(fovea_handle *handle, const fv_stream *s, const fovea_tensor *to,
                               const fv_linear_scratch *last) {
  if (!s->used) return FOVEA_OK;
  if (!s->prepared) {
    fv_linear_run(s->linear, &s->from, NULL, to, last);
    return FOVEA_OK;
  }
  FV_LAYERS_TRY(fv_stream_run(handle, s));
  fv_linear_run(&no_projection, &s->ready, NULL, to, last);
  return FOVEA_OK;
}

static fovea_status plan(fovea_handle *handle, memory_call *call, void *workspace, size_t *bytes) {
  const fovea_memory_args *a = &call->args;
  const fv_arena arena = {.base = workspace};
  *bytes = 0;
  call->k = (fv_stream){.used = true, .linear = &a->k_proj, .from = a->x_k};
  call->v = (fv_stream){.used = a->v.dtype != FOVEA_NONE,
                        .linear = &a->v_proj,
                        .from = a->x_v.dtype ? a->x_v : a->x_k};
  call->k.append.q_norm = a->k_norm;
  call->v.append.q_norm = a->v_norm;
  FV_LAYERS_TRY(
      plan_stream(handle, &call->k, &a->k, "keys", "k_norm", arena, &call->k_last, bytes));
  return plan_stream(handle, &call->v, &a->v, "values", "v_norm", arena, &call->v_last, bytes);
}

/* ---- The calls ---- */

fovea_status fovea_memory_workspace(fovea_handle *handle, const fovea_memory_args *args,
                                    size_t *bytes) {
  memory_call call;
  if (!bytes) return fv_layers_fail(FOVEA_BAD_ARGUMENT, "bytes is NULL");
  FV_LAYERS_TRY(check(handle, args, &call));
  return plan(handle, &call, NULL, bytes);
}

fovea_status fovea_memory(fovea_handle *handle, const fovea_memory_args *args,
                          fovea_stream stream) {
  memory_call call;
  size_t needed;
  (void)stream;
  FV_LAYERS_TRY(check(handle, args, &call));
  const fovea_memory_args *a = &call.args;
  FV_LAYERS_TRY(plan(handle, &call, NULL, &needed));
  FV_LAYERS_TRY(fv_layers_check_workspace(a->workspace, a->workspace_bytes, needed));
  FV_LAYERS_TRY(check_addresses(a));
  FV_LAYERS_TRY(plan(handle, &call, a->workspace, &needed));
  FV_LAYERS_TRY(run_stream(handle, &call.k, &a->k, &call.k_last));
  return run_stream(handle, &call.v, &a->v, &call.v_last);
}

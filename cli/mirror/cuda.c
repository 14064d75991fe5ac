/* cuda.c - see cuda.h. */
#include "cli/mirror/cuda.h"

#include <stdlib.h>
#include <time.h>

#include "cli/mirror/blocks.h"
#include "csrc/check/check.h"
#include "csrc/check/fields.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The fields of `args` with copies on the device in place of the host's memory. */
static fovea_status add_fields(fv_mirror *m, const fv_problem *p, fovea_attention_args *args) {
  const fv_fields *fields = &fv_attention_fields;
  for (int i = 0; i < fields->tensor_count; ++i) {
    const fv_tensor_field *field = &fields->tensors[i];
    FV_TRY(fv_mirror_add_tensor(m, fv_tensor_at(args, field), field->rule.written));
  }
  for (int i = 0; i < fields->array_count; ++i) {
    const fv_array_field *field = &fields->arrays[i];
    int64_t bytes = (int64_t)fv_attention_elements(p, field) * (int64_t)field->size;
    FV_TRY(fv_mirror_add(m, fv_array_at(args, field), bytes, field->written));
  }
  return FOVEA_OK;
}

static fovea_status attend(fv_mirror *m, fovea_handle *handle, const fovea_attention_args *args,
                           double *seconds) {
  fovea_attention_args there = *args;
  fv_problem problem;
  FV_TRY(fv_check_attention(args, &problem));
  FV_TRY(add_fields(m, &problem, &there));
  FV_TRY(fv_mirror_add(m, &there.workspace, (int64_t)there.workspace_bytes, false));
  double start = now();
  FV_TRY(fovea_attention(handle, &there, NULL));
  FV_TRY(fv_mirror_wait(m));
  *seconds = now() - start;
  return fv_mirror_bring_back(m);
}

fovea_status fv_mirror_attention_cuda(fovea_handle *handle, const fovea_attention_args *args,
                                      double *seconds) {
  fv_mirror m;
  *seconds = 0;
  FV_TRY(fv_mirror_open(&m, handle));
  return fv_mirror_close(&m, attend(&m, handle, args, seconds));
}

/* ---- Append ---- */

/* Interleaved caches are one block of memory here, and so also on the device. */
static fovea_status add_caches(fv_mirror *m, fovea_kv_append_args *a) {
  if (a->k_cache.dtype && a->v_cache.dtype) {
    FV_TRY(fv_mirror_join(m, &a->k_cache, &a->v_cache));
  }
  FV_TRY(fv_mirror_add_tensor(m, &a->k_cache, true));
  FV_TRY(fv_mirror_add_tensor(m, &a->v_cache, true));
  return fv_mirror_add_tensor(m, &a->q_out, true); /* before q, which may lie there */
}

static fovea_status add_append_fields(fv_mirror *m, const fv_append_problem *p,
                                      fovea_kv_append_args *args) {
  const fv_fields *fields = &fv_append_fields;
  FV_TRY(add_caches(m, args));
  for (int i = 0; i < fields->tensor_count; ++i) {
    const fv_tensor_field *field = &fields->tensors[i];
    if (!field->rule.written) FV_TRY(fv_mirror_add_tensor(m, fv_tensor_at(args, field), false));
  }
  for (int i = 0; i < fields->array_count; ++i) {
    const fv_array_field *field = &fields->arrays[i];
    int64_t bytes = (int64_t)fv_append_elements(p, field) * (int64_t)field->size;
    FV_TRY(fv_mirror_add(m, fv_array_at(args, field), bytes, field->written));
  }
  return FOVEA_OK;
}

static fovea_status append(fv_mirror *m, fovea_handle *handle, const fovea_kv_append_args *args) {
  fovea_kv_append_args there = *args;
  fv_append_problem problem;
  FV_TRY(fv_check_append(args, &problem));
  FV_TRY(add_append_fields(m, &problem, &there));
  FV_TRY(fovea_kv_append(handle, &there, NULL));
  FV_TRY(fv_mirror_wait(m));
  return fv_mirror_bring_back(m);
}

fovea_status fv_mirror_append_cuda(fovea_handle *handle, const fovea_kv_append_args *args) {
  fv_mirror m;
  FV_TRY(fv_mirror_open(&m, handle));
  return fv_mirror_close(&m, append(&m, handle, args));
}

/* ---- Merge ---- */

/* The results come first: a partial may lie where one of them does. */
static fovea_status merge(fv_mirror *m, fovea_handle *handle, fovea_merge_args *there,
                          fovea_tensor *outs, fovea_tensor *lses) {
  FV_TRY(fv_mirror_add_tensor(m, &there->out, true));
  FV_TRY(fv_mirror_add_tensor(m, &there->lse, true));
  for (int32_t n = 0; n < there->count; ++n) {
    outs[n] = there->outs[n];
    lses[n] = there->lses[n];
    FV_TRY(fv_mirror_add_tensor(m, &outs[n], false));
    FV_TRY(fv_mirror_add_tensor(m, &lses[n], false));
  }
  there->outs = outs;
  there->lses = lses;
  FV_TRY(fovea_merge(handle, there, NULL));
  FV_TRY(fv_mirror_wait(m));
  return fv_mirror_bring_back(m);
}

fovea_status fv_mirror_merge_cuda(fovea_handle *handle, const fovea_merge_args *args) {
  fv_mirror m;
  fv_merge_problem problem;
  fovea_merge_args there = *args;
  FV_TRY(fv_check_merge(args, &problem));
  fovea_tensor *parts = calloc((size_t)args->count * 2, sizeof *parts);
  if (!parts) return fv_fail(FOVEA_OUT_OF_MEMORY, "no memory for %d parts", (int)args->count);
  fovea_status status = fv_mirror_open(&m, handle);
  if (status == FOVEA_OK) {
    status = fv_mirror_close(&m, merge(&m, handle, &there, parts, parts + args->count));
  }
  free(parts);
  return status;
}

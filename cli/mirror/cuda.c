/* cuda.c - see cuda.h. */
#include "cli/mirror/cuda.h"

#include <stdlib.h>
#include <time.h>

#include "cli/mirror/blocks.h"
#include "csrc/check/check.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static fovea_status add_tensors(fv_mirror *m, fovea_attention_args *a) {
  fovea_tensor *inputs[] = {&a->q,          &a->k,       &a->v,         &a->q_scale,
                            &a->k_scale,    &a->v_scale, &a->out_scale, &a->visibility.mask,
                            &a->logits.bias};
  fovea_tensor *outputs[] = {&a->out, &a->lse};
  for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; ++i) {
    FV_TRY(fv_mirror_add_tensor(m, inputs[i], false));
  }
  for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; ++i) {
    FV_TRY(fv_mirror_add_tensor(m, outputs[i], true));
  }
  return FOVEA_OK;
}

static fovea_status add_arrays(fv_mirror *m, fovea_attention_args *a, const fv_problem *p) {
  const int64_t sequences = p->sequences, word = 4;
  const fovea_pages *pages = &a->sequences.pages;
  int64_t ids = pages->offsets || !sequences ? pages->count
                                             : (sequences - 1) * pages->row_stride + pages->count;
  int64_t slopes = sequences ? (sequences - 1) * a->logits.alibi_stride + p->heads_q : 0;
  struct {
    const void *pointer; /* to the field */
    int64_t count;
  } arrays[] = {{&a->sequences.q_offsets, sequences + 1},
                {&a->sequences.kv_offsets, sequences + 1},
                {&a->sequences.kv_lengths, sequences},
                {&a->sequences.pages.ids, ids},
                {&a->sequences.pages.v_ids, ids},
                {&a->sequences.pages.offsets, sequences + 1},
                {&a->positions.q, sequences},
                {&a->sequences.kv_first, sequences},
                {&a->positions.kv, sequences},
                {&a->visibility.prefix_lengths, sequences},
                {&a->visibility.tree.bits, a->visibility.tree.words},
                {&a->visibility.tree.lengths, sequences},
                {&a->visibility.tree.starts, sequences},
                {&a->logits.alibi_slopes, slopes},
                {&a->logits.sinks, p->heads_q}};
  for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; ++i) {
    FV_TRY(fv_mirror_add(m, (void **)arrays[i].pointer, arrays[i].count * word, false));
  }
  return fv_mirror_add(m, (void **)&a->errors, sequences * word, true);
}

static fovea_status attend(fv_mirror *m, fovea_handle *handle, const fovea_attention_args *args,
                           double *seconds) {
  fovea_attention_args there = *args;
  fv_problem problem;
  FV_TRY(fv_check_attention(args, &problem));
  FV_TRY(add_tensors(m, &there));
  FV_TRY(add_arrays(m, &there, &problem));
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
  return fv_mirror_add_tensor(m, &a->v_cache, true);
}

static fovea_status add_append_arrays(fv_mirror *m, fovea_kv_append_args *a,
                                      const fv_append_problem *p) {
  const int64_t sequences = p->sequences, tokens = p->rows * (p->packed ? 1 : sequences);
  const fovea_pages *pages = &a->sequences.pages;
  const fovea_rope *rope = &a->rope;
  int64_t ids = pages->offsets || !sequences ? pages->count
                                             : (sequences - 1) * pages->row_stride + pages->count;
  int64_t table = rope->rows ? (rope->rows - 1) * rope->stride + rope->rotary_dim / 2 : 0;
  struct {
    const void *pointer; /* to the field */
    int64_t bytes;
  } arrays[] = {{&a->sequences.q_offsets, (sequences + 1) * 4},
                {&a->sequences.kv_lengths, sequences * 4},
                {&a->sequences.pages.ids, ids * 4},
                {&a->sequences.pages.v_ids, ids * 4},
                {&a->sequences.pages.offsets, (sequences + 1) * 4},
                {&a->slots, tokens * 8},
                {&a->rope.positions, tokens * 4},
                {&a->rope.cos, table * 4},
                {&a->rope.sin, table * 4}};
  for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; ++i) {
    FV_TRY(fv_mirror_add(m, (void **)arrays[i].pointer, arrays[i].bytes, false));
  }
  return fv_mirror_add(m, (void **)&a->errors, sequences * 4, true);
}

static fovea_status append(fv_mirror *m, fovea_handle *handle, const fovea_kv_append_args *args) {
  fovea_kv_append_args there = *args;
  fovea_tensor *inputs[] = {&there.k_new, &there.v_new, &there.k_scale, &there.v_scale};
  fv_append_problem problem;
  FV_TRY(fv_check_append(args, &problem));
  FV_TRY(add_caches(m, &there));
  for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; ++i) {
    FV_TRY(fv_mirror_add_tensor(m, inputs[i], false));
  }
  FV_TRY(add_append_arrays(m, &there, &problem));
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

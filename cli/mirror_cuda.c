/* mirror_cuda.c - see mirror_cuda.h.
 *
 * Each tensor and each array becomes an allocation of its own, exactly as long as what it spans, so
 * that a tool which watches the device's memory sees the first byte too far. */
#include "mirror_cuda.h"

#include <time.h>

#include "check.h"
#include "cpu/element.h"
#include "driver.h"
#include "handle.h"

enum { BLOCKS = 32, ALIGNMENT = 16 };

typedef struct block {
  CUdeviceptr begin; /* of the allocation */
  CUdeviceptr data;
  void *host;
  size_t bytes;
  bool written; /* copied back */
} block;

typedef struct mirror {
  const fv_driver *driver;
  block blocks[BLOCKS];
  int count;
} mirror;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Copies `bytes` from *pointer to the device and points it there. */
static fovea_status add(mirror *m, void **pointer, int64_t bytes, bool written) {
  if (!*pointer || bytes <= 0) return FOVEA_OK;
  if (m->count == BLOCKS) return fv_fail(FOVEA_OUT_OF_MEMORY, "more than %d arrays", BLOCKS);
  size_t offset = (uintptr_t)*pointer % ALIGNMENT;
  block *b = &m->blocks[m->count];
  *b = (block){.host = *pointer, .bytes = (size_t)bytes, .written = written};
  FV_DRIVER_TRY(m->driver, cuMemAlloc, &b->begin, b->bytes + offset);
  ++m->count;
  b->data = b->begin + offset;
  FV_DRIVER_TRY(m->driver, cuMemcpyHtoD, b->data, b->host, b->bytes);
  *pointer = (void *)b->data;
  return FOVEA_OK;
}

static int64_t span_bytes(const fovea_tensor *t) {
  int64_t last = 0;
  for (int d = 0; d < 4; ++d) {
    if (t->shape[d] == 0) return 0;
    if (t->shape[d] > 1) last += (t->shape[d] - 1) * t->stride[d];
  }
  return (last + 1) * fv_dtype_bytes(t->dtype);
}

static fovea_status add_tensors(mirror *m, fovea_attention_args *a) {
  fovea_tensor *inputs[] = {&a->q,       &a->k,         &a->v,    &a->q_scale, &a->k_scale,
                            &a->v_scale, &a->out_scale, &a->mask, &a->bias};
  fovea_tensor *outputs[] = {&a->out, &a->lse};
  for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; ++i) {
    if (inputs[i]->dtype) FV_TRY(add(m, &inputs[i]->data, span_bytes(inputs[i]), false));
  }
  for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; ++i) {
    if (outputs[i]->dtype) FV_TRY(add(m, &outputs[i]->data, span_bytes(outputs[i]), true));
  }
  return FOVEA_OK;
}

static fovea_status add_arrays(mirror *m, fovea_attention_args *a, const fv_problem *p) {
  const int64_t sequences = p->sequences, word = 4;
  const fovea_pages *pages = &a->pages;
  int64_t ids = pages->offsets || !sequences ? pages->count
                                             : (sequences - 1) * pages->row_stride + pages->count;
  int64_t slopes = sequences ? (sequences - 1) * a->alibi_stride + p->heads_q : 0;
  struct {
    const void *pointer; /* to the field */
    int64_t count;
  } arrays[] = {{&a->q_offsets, sequences + 1}, {&a->kv_offsets, sequences + 1},
                {&a->kv_lengths, sequences},    {&a->pages.ids, ids},
                {&a->pages.v_ids, ids},         {&a->pages.offsets, sequences + 1},
                {&a->q_position, sequences},    {&a->kv_first, sequences},
                {&a->kv_position, sequences},   {&a->prefix_lengths, sequences},
                {&a->tree.bits, a->tree.words}, {&a->tree.lengths, sequences},
                {&a->tree.starts, sequences},   {&a->alibi_slopes, slopes},
                {&a->sinks, p->heads_q}};
  for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; ++i) {
    FV_TRY(add(m, (void **)arrays[i].pointer, arrays[i].count * word, false));
  }
  return add(m, (void **)&a->errors, sequences * word, true);
}

static fovea_status need_memory_calls(const fv_driver *driver) {
  bool whole = driver->cuMemAlloc && driver->cuMemFree && driver->cuMemcpyHtoD &&
               driver->cuMemcpyDtoH && driver->cuStreamSynchronize;
  if (whole) return FOVEA_OK;
  return fv_fail(FOVEA_NO_DEVICE, "the CUDA driver lacks calls to copy memory");
}

static fovea_status attend(mirror *m, fovea_handle *handle, const fovea_attention_args *args,
                           double *seconds) {
  fovea_attention_args there = *args;
  fv_problem problem;
  FV_TRY(fv_check_attention(args, &problem));
  FV_TRY(add_tensors(m, &there));
  FV_TRY(add_arrays(m, &there, &problem));
  there.workspace = NULL; /* the kernels need none */
  there.workspace_bytes = 0;
  double start = now();
  FV_TRY(fovea_attention(handle, &there, NULL));
  FV_DRIVER_TRY(m->driver, cuStreamSynchronize, NULL);
  *seconds = now() - start;
  for (int i = 0; i < m->count; ++i) {
    block *b = &m->blocks[i];
    if (b->written) FV_DRIVER_TRY(m->driver, cuMemcpyDtoH, b->host, b->data, b->bytes);
  }
  return FOVEA_OK;
}

fovea_status fv_mirror_attention_cuda(fovea_handle *handle, const fovea_attention_args *args,
                                      double *seconds) {
  mirror m = {.count = 0};
  CUcontext context;
  *seconds = 0;
  FV_TRY(fv_driver_open(&m.driver));
  FV_TRY(need_memory_calls(m.driver));
  FV_DRIVER_TRY(m.driver, cuCtxPushCurrent, handle->cuda.primary);
  fovea_status status = attend(&m, handle, args, seconds);
  for (int i = 0; i < m.count; ++i) m.driver->cuMemFree(m.blocks[i].begin);
  m.driver->cuCtxPopCurrent(&context);
  return status;
}

/* blocks.c - see blocks.h. */
#include "cli/mirror/blocks.h"

#include "csrc/host/element.h"

enum { ALIGNMENT = 16 };

static fovea_status need_memory_calls(const fv_driver *driver) {
  bool whole = driver->cuMemAlloc && driver->cuMemFree && driver->cuMemcpyHtoD &&
               driver->cuMemcpyDtoH && driver->cuStreamSynchronize;
  if (whole) return FOVEA_OK;
  return fv_fail(FOVEA_NO_DEVICE, "the CUDA driver lacks calls to copy memory");
}

fovea_status fv_mirror_open(fv_mirror *m, const fovea_handle *handle) {
  m->count = 0;
  FV_TRY(fv_driver_open(&m->driver));
  FV_TRY(need_memory_calls(m->driver));
  FV_DRIVER_TRY(m->driver, cuCtxPushCurrent, fv_cuda_device_of(handle)->primary);
  return FOVEA_OK;
}

fovea_status fv_mirror_close(fv_mirror *m, fovea_status status) {
  CUcontext context;
  for (int i = 0; i < m->count; ++i) m->driver->cuMemFree(m->blocks[i].begin);
  m->driver->cuCtxPopCurrent(&context);
  return status;
}

/* The block that already holds the bytes, or NULL. */
static fv_mirror_block *find_block(fv_mirror *m, const char *host, size_t bytes) {
  for (int i = 0; i < m->count; ++i) {
    fv_mirror_block *b = &m->blocks[i];
    if (host >= b->host && host + bytes <= b->host + b->bytes) return b;
  }
  return NULL;
}

static fovea_status add_block(fv_mirror *m, char *host, size_t bytes, bool written) {
  if (m->count == FV_MIRROR_BLOCKS) {
    return fv_fail(FOVEA_OUT_OF_MEMORY, "more than %d arrays", FV_MIRROR_BLOCKS);
  }
  size_t offset = (uintptr_t)host % ALIGNMENT;
  fv_mirror_block *b = &m->blocks[m->count];
  *b = (fv_mirror_block){.host = host, .bytes = bytes, .written = written};
  FV_DRIVER_TRY(m->driver, cuMemAlloc, &b->begin, b->bytes + offset);
  ++m->count;
  b->data = b->begin + offset;
  FV_DRIVER_TRY(m->driver, cuMemcpyHtoD, b->data, b->host, b->bytes);
  return FOVEA_OK;
}

fovea_status fv_mirror_add(fv_mirror *m, void **pointer, int64_t bytes, bool written) {
  if (!*pointer || bytes <= 0) return FOVEA_OK;
  char *host = *pointer;
  fv_mirror_block *b = find_block(m, host, (size_t)bytes);
  if (!b) {
    FV_TRY(add_block(m, host, (size_t)bytes, written));
    b = &m->blocks[m->count - 1];
  }
  b->written |= written;
  *pointer = (void *)(b->data + (CUdeviceptr)(host - b->host));
  return FOVEA_OK;
}

static int64_t span_bytes(const fovea_tensor *t) {
  int64_t last = 0;
  for (int d = 0; d < 4; ++d) {
    if (t->shape[d] == 0) return 0;
    if (t->shape[d] > 1) last += (t->shape[d] - 1) * t->stride[d];
  }
  int64_t blocks = (last >> fv_dtype_block_shift(t->dtype)) + 1;
  return blocks * fv_dtype_block_bytes(t->dtype);
}

fovea_status fv_mirror_add_tensor(fv_mirror *m, fovea_tensor *tensor, bool written) {
  if (tensor->dtype == FOVEA_NONE) return FOVEA_OK;
  return fv_mirror_add(m, &tensor->data, span_bytes(tensor), written);
}

fovea_status fv_mirror_join(fv_mirror *m, const fovea_tensor *a, const fovea_tensor *b) {
  char *a_begin = a->data, *b_begin = b->data;
  char *a_end = a_begin + span_bytes(a), *b_end = b_begin + span_bytes(b);
  if (a_begin >= b_end || b_begin >= a_end) return FOVEA_OK;
  char *begin = a_begin < b_begin ? a_begin : b_begin, *end = a_end > b_end ? a_end : b_end;
  return add_block(m, begin, (size_t)(end - begin), true);
}

fovea_status fv_mirror_wait(fv_mirror *m) {
  FV_DRIVER_TRY(m->driver, cuStreamSynchronize, NULL);
  return FOVEA_OK;
}

fovea_status fv_mirror_bring_back(fv_mirror *m) {
  for (int i = 0; i < m->count; ++i) {
    fv_mirror_block *b = &m->blocks[i];
    if (b->written) FV_DRIVER_TRY(m->driver, cuMemcpyDtoH, b->host, b->data, b->bytes);
  }
  return FOVEA_OK;
}

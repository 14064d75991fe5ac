/* memory.c - the driver's functions for allocation, copies and fills. Device memory is the arena of
 * memory/memory.h. Pinned memory is the host's; a table of it tells pinned from pageable, which
 * decides when a copy reads and writes. */
#include <stdlib.h>
#include <string.h>

#include "simgpu/driver/driver.h"
#include "simgpu/memory/memory.h"

enum { PINNED_MAX = 1024 };
static struct {
  u8 *start;
  size_t bytes;
} pinned[PINNED_MAX];

static bool is_device(u64 address) {
  return sim_in_arena(address, 1);
}

static bool is_pinned(u64 address) {
  for (int i = 0; i < PINNED_MAX; i++) {
    if (pinned[i].start && address - (u64)(uintptr_t)pinned[i].start < pinned[i].bytes) return true;
  }
  return false;
}

static CUresult allocate(CUdeviceptr *address, size_t bytes) {
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  *address = sim_memory_allocate(bytes);
  return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

SIM_EXPORT CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
  SIM_CALL(true, allocate(address, bytes));
}

SIM_EXPORT CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
  (void)stream;
  SIM_CALL(true, allocate(address, bytes));
}

static CUresult free_now(CUdeviceptr address) {
  if (!address) return CUDA_SUCCESS;
  CUresult result = sim_run_everything();
  return sim_memory_free(address) ? result : CUDA_ERROR_INVALID_VALUE;
}

SIM_EXPORT CUresult cuMemFree_v2(CUdeviceptr address) {
  SIM_CALL(true, free_now(address));
}

static CUresult free_later(CUdeviceptr address, struct sim_stream *stream) {
  u64 base, bytes;
  if (!sim_memory_find(address, &base, &bytes) || base != address) return CUDA_ERROR_INVALID_VALUE;
  struct sim_work *work = sim_work_new(SIM_WORK_FREE);
  work->target = address;
  return sim_queue(stream, work);
}

SIM_EXPORT CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  SIM_CALL(true, free_later(address, sim_stream_of(stream)));
}

SIM_EXPORT CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
  SIM_CALL(true, (*total = SIM_GLOBAL_BYTES, *available = SIM_GLOBAL_BYTES - sim_memory.used,
                  CUDA_SUCCESS));
}

static CUresult find_range(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
  u64 start, size;
  if (!sim_memory_find(address, &start, &size)) return CUDA_ERROR_NOT_FOUND;
  if (base) *base = start;
  if (bytes) *bytes = size;
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
  SIM_CALL(true, find_range(base, bytes, address));
}

static CUresult allocate_host(void **memory, size_t bytes) {
  for (int i = 0; i < PINNED_MAX; i++) {
    if (pinned[i].start) continue;
    pinned[i].start = malloc(bytes);
    pinned[i].bytes = bytes;
    *memory = pinned[i].start;
    return *memory ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
  }
  return CUDA_ERROR_OUT_OF_MEMORY;
}

SIM_EXPORT CUresult cuMemAllocHost_v2(void **memory, size_t bytes) {
  SIM_CALL(true, allocate_host(memory, bytes));
}

SIM_EXPORT CUresult cuMemHostAlloc(void **memory, size_t bytes, unsigned flags) {
  (void)flags;
  SIM_CALL(true, allocate_host(memory, bytes));
}

static CUresult free_host(void *memory) {
  sim_run_everything();
  for (int i = 0; memory && i < PINNED_MAX; i++) {
    if (pinned[i].start != memory) continue;
    free(memory);
    pinned[i].start = NULL;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

SIM_EXPORT CUresult cuMemFreeHost(void *memory) {
  SIM_CALL(true, free_host(memory));
}

static void copy_device_to_device(u64 target, u64 source, u64 bytes) {
  u64 to = target - SIM_GLOBAL_BASE, from = source - SIM_GLOBAL_BASE;
  memmove(sim_memory.bytes + to, sim_memory.bytes + from, bytes);
  memmove(sim_memory.state + to, sim_memory.state + from, bytes);
}

static void fill(const struct sim_work *work) {
  u8 *to = sim_memory.bytes + (work->target - SIM_GLOBAL_BASE);
  for (u64 i = 0; i < work->bytes; i += work->value_bytes) {
    memcpy(to + i, &work->value, work->value_bytes);
  }
  memset(sim_memory.state + (work->target - SIM_GLOBAL_BASE), SIM_BYTE_READY, work->bytes);
}

void sim_work_transfer(const struct sim_work *work) {
  if (work->kind == SIM_WORK_SET) {
    fill(work);
    return;
  }
  bool to_device = is_device(work->target), from_device = is_device(work->source);
  if (to_device && from_device) {
    copy_device_to_device(work->target, work->source, work->bytes);
    return;
  }
  const u8 *from = work->staged ? work->staged : (const u8 *)(uintptr_t)work->source;
  u8 *to = (u8 *)(uintptr_t)work->target;
  if (from_device) from = sim_memory.bytes + (work->source - SIM_GLOBAL_BASE);
  if (to_device) {
    to = sim_memory.bytes + (work->target - SIM_GLOBAL_BASE);
    memset(sim_memory.state + (work->target - SIM_GLOBAL_BASE), SIM_BYTE_READY, work->bytes);
  }
  memcpy(to, from, work->bytes);
}

static bool is_valid_side(u64 address, u64 bytes) {
  return is_device(address) ? sim_memory_holds(address, bytes) : address != 0;
}

/* A copy from pageable memory reads the bytes during the call; one to pageable memory is done when
 * the call returns. All others wait for their turn in the stream. */
static CUresult copy(u64 target, u64 source, size_t bytes, struct sim_stream *stream,
                     bool is_async) {
  if (!bytes) return CUDA_SUCCESS;
  if (!is_valid_side(target, bytes) || !is_valid_side(source, bytes))
    return CUDA_ERROR_INVALID_VALUE;
  bool from_pageable = !is_device(source) && !is_pinned(source);
  bool to_pageable = !is_device(target) && !is_pinned(target);
  if (stream->capture && !is_async) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  struct sim_work *work = sim_work_new(SIM_WORK_COPY);
  work->target = target;
  work->source = source;
  work->bytes = bytes;
  if (from_pageable && !stream->capture) {
    work->staged = malloc(bytes);
    if (work->staged) memcpy(work->staged, (const void *)(uintptr_t)source, bytes);
  }
  CUresult result = sim_queue(stream, work);
  if (result || stream->capture || (is_async && !to_pageable)) return result;
  return sim_run_until(stream, stream->queued);
}

#define COPY_NOW(to, from) \
  SIM_CALL(true, copy((u64)(to), (u64)(from), bytes, &sim_driver.legacy, false))
#define COPY_LATER(to, from) \
  SIM_CALL(true, copy((u64)(to), (u64)(from), bytes, sim_stream_of(stream), true))

SIM_EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
  COPY_NOW(to, (uintptr_t)from);
}
SIM_EXPORT CUresult cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
  COPY_NOW((uintptr_t)to, from);
}
SIM_EXPORT CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  COPY_NOW(to, from);
}
SIM_EXPORT CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
  COPY_NOW(to, from);
}
SIM_EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes,
                                         CUstream stream) {
  COPY_LATER(to, (uintptr_t)from);
}
SIM_EXPORT CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes,
                                         CUstream stream) {
  COPY_LATER((uintptr_t)to, from);
}
SIM_EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                                         CUstream stream) {
  COPY_LATER(to, from);
}
SIM_EXPORT CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
  COPY_LATER(to, from);
}

static CUresult set(CUdeviceptr target, u32 value, u32 value_bytes, size_t count,
                    struct sim_stream *stream, bool is_async) {
  u64 bytes = (u64)count * value_bytes;
  if (!bytes) return CUDA_SUCCESS;
  if (!sim_memory_holds(target, bytes) || target % value_bytes) return CUDA_ERROR_INVALID_VALUE;
  struct sim_work *work = sim_work_new(SIM_WORK_SET);
  work->target = target;
  work->bytes = bytes;
  work->value = value;
  work->value_bytes = value_bytes;
  CUresult result = sim_queue(stream, work);
  if (result || stream->capture || is_async) return result;
  return sim_run_until(stream, stream->queued);
}

#define SET_PAIR(width, type)                                                               \
  SIM_EXPORT CUresult cuMemsetD##width##_v2(CUdeviceptr target, type value, size_t count) { \
    SIM_CALL(true, set(target, value, sizeof(type), count, &sim_driver.legacy, false));     \
  }                                                                                         \
  SIM_EXPORT CUresult cuMemsetD##width##Async(CUdeviceptr target, type value, size_t count, \
                                              CUstream stream) {                            \
    SIM_CALL(true, set(target, value, sizeof(type), count, sim_stream_of(stream), true));   \
  }
SET_PAIR(8, unsigned char)
SET_PAIR(16, unsigned short)
SET_PAIR(32, unsigned)

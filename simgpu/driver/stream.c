/* stream.c - the driver's functions for streams, events and host calls: see driver/driver.h.
 *
 * A stream is a queue of pending work. To run a stream up to some work is to run its queue in
 * order; a wait in it first runs the awaited stream up to its serial. The legacy stream and the
 * blocking streams wait for each other: each gets a wait before the work that it is given. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "simgpu/driver/driver.h"
#include "simgpu/memory/memory.h"

u64 sim_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

/* NULL, CU_STREAM_LEGACY and CU_STREAM_PER_THREAD are one stream here. */
struct sim_stream *sim_stream_of(CUstream stream) {
  return (uintptr_t)stream <= 2 ? &sim_driver.legacy : stream;
}

bool sim_is_capturing(void) {
  for (const struct sim_stream *stream = sim_driver.streams; stream; stream = stream->next) {
    if (stream->capture) return true;
  }
  return false;
}

struct sim_work *sim_work_new(enum sim_work_kind kind) {
  struct sim_work *work = calloc(1, sizeof *work);
  if (!work) abort();
  work->kind = kind;
  return work;
}

static u8 *copy_bytes(const u8 *bytes, u64 count) {
  if (!bytes) return NULL;
  u8 *copy = malloc(count ? count : 1);
  if (!copy) abort();
  return memcpy(copy, bytes, count);
}

struct sim_work *sim_work_copy(const struct sim_work *work) {
  struct sim_work *copy = sim_work_new(work->kind);
  *copy = *work;
  copy->next = NULL;
  copy->params = copy_bytes(work->params, work->kernel ? work->kernel->param_bytes : 0);
  copy->staged = copy_bytes(work->staged, work->bytes);
  return copy;
}

void sim_work_free(struct sim_work *work) {
  free(work->params);
  free(work->staged);
  free(work);
}

static void append(struct sim_stream *stream, struct sim_work *work) {
  work->serial = ++stream->queued;
  if (stream->last) {
    stream->last->next = work;
  } else {
    stream->first = work;
  }
  stream->last = work;
}

static void append_wait(struct sim_stream *stream, struct sim_stream *awaited) {
  if (awaited == stream || awaited->queued == awaited->done) return;
  struct sim_work *wait = sim_work_new(SIM_WORK_WAIT);
  wait->awaited = awaited;
  wait->awaited_serial = awaited->queued;
  append(stream, wait);
}

/* The legacy stream waits for all blocking streams, and they wait for it. */
static void append_legacy_order(struct sim_stream *stream) {
  if (stream != &sim_driver.legacy) {
    if (stream->is_blocking) append_wait(stream, &sim_driver.legacy);
    return;
  }
  for (struct sim_stream *other = sim_driver.streams; other; other = other->next) {
    if (other->is_blocking) append_wait(stream, other);
  }
}

static CUresult capture_work(struct sim_graph *graph, struct sim_work *work) {
  if (work->kind == SIM_WORK_FREE) {
    graph->is_invalid = true;
    sim_work_free(work);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  if (graph->last) {
    graph->last->next = work;
  } else {
    graph->first = work;
  }
  graph->last = work;
  graph->count++;
  return CUDA_SUCCESS;
}

static bool blocks_a_capture(const struct sim_stream *stream) {
  if (stream != &sim_driver.legacy) return false;
  for (const struct sim_stream *other = sim_driver.streams; other; other = other->next) {
    if (other->capture && other->is_blocking) return true;
  }
  return false;
}

CUresult sim_queue(struct sim_stream *stream, struct sim_work *work) {
  if (stream->capture) return capture_work(stream->capture, work);
  if (blocks_a_capture(stream)) {
    sim_work_free(work);
    return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
  }
  append_legacy_order(stream);
  append(stream, work);
  return CUDA_SUCCESS;
}

CUresult sim_work_run(struct sim_stream *stream, struct sim_work *work) {
  if (work->kind == SIM_WORK_WAIT) return sim_run_until(work->awaited, work->awaited_serial);
  if (sim_driver.failed) return sim_driver.failed;
  if (work->kind == SIM_WORK_LAUNCH) return sim_work_launch(stream, work);
  stream->last_launch = 0;
  switch (work->kind) {
    case SIM_WORK_COPY:
    case SIM_WORK_SET:
      sim_work_transfer(work);
      break;
    case SIM_WORK_EVENT:
      work->event->nanoseconds = sim_now();
      break;
    case SIM_WORK_CALL:
      work->call(work->data);
      break;
    case SIM_WORK_FREE:
      sim_memory_free(work->target);
      break;
    default:
      break;
  }
  return CUDA_SUCCESS;
}

CUresult sim_run_until(struct sim_stream *stream, u64 serial) {
  while (stream->first && stream->first->serial <= serial) {
    struct sim_work *work = stream->first;
    stream->first = work->next;
    if (!stream->first) stream->last = NULL;
    CUresult result = sim_work_run(stream, work);
    stream->done = work->serial;
    sim_work_free(work);
    if (result && !sim_driver.failed) sim_driver.failed = result;
  }
  return sim_driver.failed;
}

CUresult sim_run_everything(void) {
  for (struct sim_stream *stream = sim_driver.streams; stream; stream = stream->next) {
    sim_run_until(stream, stream->queued);
  }
  return sim_run_until(&sim_driver.legacy, sim_driver.legacy.queued);
}

static CUresult create_stream(CUstream *stream, unsigned flags, int priority) {
  *stream = calloc(1, sizeof **stream);
  if (!*stream) return CUDA_ERROR_OUT_OF_MEMORY;
  **stream = (struct sim_stream){.context = sim_current,
                                 .is_blocking = !(flags & 1),
                                 .priority = priority,
                                 .next = sim_driver.streams};
  sim_driver.streams = *stream;
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuStreamCreate(CUstream *stream, unsigned flags) {
  SIM_CALL(true, create_stream(stream, flags, 0));
}

SIM_EXPORT CUresult cuStreamCreateWithPriority(CUstream *stream, unsigned flags, int priority) {
  SIM_CALL(true, create_stream(stream, flags, priority));
}

static CUresult destroy_stream(CUstream stream) {
  if ((uintptr_t)stream <= 2) return CUDA_ERROR_INVALID_HANDLE;
  sim_run_until(stream, stream->queued);
  struct sim_stream **link = &sim_driver.streams;
  while (*link && *link != stream) link = &(*link)->next;
  if (!*link) return CUDA_ERROR_INVALID_HANDLE;
  *link = stream->next;
  free(stream);
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
  SIM_CALL(true, destroy_stream(stream));
}

static CUresult synchronise(struct sim_stream *stream) {
  if (stream->capture) {
    stream->capture->is_invalid = true;
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  append_legacy_order(stream);
  return sim_run_until(stream, stream->queued);
}

SIM_EXPORT CUresult cuStreamSynchronize(CUstream stream) {
  SIM_CALL(true, synchronise(sim_stream_of(stream)));
}

/* A query runs one piece of work, so that a program which polls comes to an end. */
static CUresult query(struct sim_stream *stream, u64 serial) {
  if (stream->done < serial && stream->first) sim_run_until(stream, stream->first->serial);
  if (sim_driver.failed) return sim_driver.failed;
  return stream->done < serial ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuStreamQuery(CUstream stream) {
  SIM_CALL(true, query(sim_stream_of(stream), sim_stream_of(stream)->queued));
}

SIM_EXPORT CUresult cuStreamGetCtx(CUstream stream, CUcontext *context) {
  SIM_CALL(false, (*context = (uintptr_t)stream <= 2 ? sim_current : stream->context,
                   *context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT));
}

SIM_EXPORT CUresult cuStreamGetDevice(CUstream stream, CUdevice *device) {
  (void)stream;
  SIM_CALL(true, (*device = 0, CUDA_SUCCESS));
}

SIM_EXPORT CUresult cuStreamGetPriority(CUstream stream, int *priority) {
  SIM_CALL(true, (*priority = sim_stream_of(stream)->priority, CUDA_SUCCESS));
}

SIM_EXPORT CUresult cuStreamGetFlags(CUstream stream, unsigned *flags) {
  SIM_CALL(true, (*flags = !sim_stream_of(stream)->is_blocking, CUDA_SUCCESS));
}

static CUresult add_call(struct sim_stream *stream, CUhostFn call, void *data) {
  struct sim_work *work = sim_work_new(SIM_WORK_CALL);
  work->call = call;
  work->data = data;
  return sim_queue(stream, work);
}

SIM_EXPORT CUresult cuLaunchHostFunc(CUstream stream, CUhostFn call, void *data) {
  SIM_CALL(true, call ? add_call(sim_stream_of(stream), call, data) : CUDA_ERROR_INVALID_VALUE);
}

SIM_EXPORT CUresult cuEventCreate(CUevent *event, unsigned flags) {
  (void)flags;
  SIM_CALL(true, (*event = calloc(1, sizeof **event)) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY);
}

static CUresult destroy_event(CUevent event) {
  if (event->is_recorded && !event->capture) sim_run_until(event->stream, event->serial);
  free(event);
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuEventDestroy_v2(CUevent event) {
  SIM_CALL(true, event ? destroy_event(event) : CUDA_ERROR_INVALID_HANDLE);
}

static CUresult record(CUevent event, struct sim_stream *stream) {
  event->is_recorded = true;
  event->stream = stream;
  event->capture = stream->capture;
  if (stream->capture) return CUDA_SUCCESS;
  struct sim_work *work = sim_work_new(SIM_WORK_EVENT);
  work->event = event;
  CUresult result = sim_queue(stream, work);
  event->serial = stream->queued;
  return result;
}

SIM_EXPORT CUresult cuEventRecord(CUevent event, CUstream stream) {
  SIM_CALL(true, event ? record(event, sim_stream_of(stream)) : CUDA_ERROR_INVALID_HANDLE);
}

/* A stream that waits for an event of a capture joins the capture. The graph keeps the order of
 * issue, so nothing has to wait in it. */
static CUresult wait_event(struct sim_stream *stream, CUevent event) {
  if (!event->is_recorded) return CUDA_SUCCESS;
  if (event->capture) {
    if (!stream->capture) stream->capture = event->capture;
    return CUDA_SUCCESS;
  }
  if (stream->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  struct sim_work *work = sim_work_new(SIM_WORK_WAIT);
  work->awaited = event->stream;
  work->awaited_serial = event->serial;
  return sim_queue(stream, work);
}

SIM_EXPORT CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags) {
  (void)flags;
  SIM_CALL(true, event ? wait_event(sim_stream_of(stream), event) : CUDA_ERROR_INVALID_HANDLE);
}

SIM_EXPORT CUresult cuEventSynchronize(CUevent event) {
  SIM_CALL(true, event->is_recorded ? sim_run_until(event->stream, event->serial) : CUDA_SUCCESS);
}

SIM_EXPORT CUresult cuEventQuery(CUevent event) {
  SIM_CALL(true, event->is_recorded ? query(event->stream, event->serial) : CUDA_SUCCESS);
}

static CUresult elapsed(float *milliseconds, CUevent from, CUevent to) {
  if (!from->is_recorded || !to->is_recorded) return CUDA_ERROR_INVALID_HANDLE;
  if (from->stream->done < from->serial || to->stream->done < to->serial)
    return CUDA_ERROR_NOT_READY;
  *milliseconds = (float)(s64)(to->nanoseconds - from->nanoseconds) * 1e-6f;
  return CUDA_SUCCESS;
}

SIM_EXPORT CUresult cuEventElapsedTime_v2(float *milliseconds, CUevent from, CUevent to) {
  SIM_CALL(true, elapsed(milliseconds, from, to));
}

SIM_EXPORT CUresult cuEventElapsedTime(float *milliseconds, CUevent from, CUevent to) {
  SIM_CALL(true, elapsed(milliseconds, from, to));
}

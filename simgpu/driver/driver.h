/* driver.h - what the files of the driver share: the device, contexts, streams and their pending
 * work.
 *
 * Work runs as late as its order allows. A launch or an asynchronous copy waits in its stream until
 * a call synchronises with it, so a program that forgets to synchronise finds nothing done.
 *
 * There is one struct sim_driver. Its mutex is held during every call, launches included, and
 * guards everything here; the current context is each thread's own. A stream or a graph owns its
 * work. The program owns what it creates: streams, events, graphs, contexts, modules. */
#ifndef FOVEA_SIMGPU_DRIVER_DRIVER_H
#define FOVEA_SIMGPU_DRIVER_DRIVER_H

#include <pthread.h>

#include "simgpu/base.h"
#include "simgpu/driver/api.h"
#include "simgpu/driver/module.h"

/* The facts of a device: a row of device.c. Sizes in bytes; `processors` are multiprocessors. */
struct sim_profile_of_device {
  const char *name;
  u32 sm, processors, shared_per_block_optin, shared_per_processor, threads_per_processor;
  u32 l2_bytes;
  const char *mma; /* the form of its sums: alu/truncate.h */
};

struct sim_context {
  bool is_primary;
  u32 retained;
};

/* SIM_WORK_WAIT waits for another stream, SIM_WORK_CALL calls a function of the program. */
enum sim_work_kind {
  SIM_WORK_LAUNCH,
  SIM_WORK_COPY,
  SIM_WORK_SET,
  SIM_WORK_WAIT,
  SIM_WORK_EVENT,
  SIM_WORK_CALL,
  SIM_WORK_FREE
};

struct sim_work {
  enum sim_work_kind kind;
  u64 serial; /* counts the work of its stream, from 1 */
  struct sim_work *next;
  /* Launches. */
  struct sim_kernel *kernel;
  u32 grid[3], block[3], shared_bytes;
  u8 *params;    /* owned: a copy, as the kernel sees it */
  bool overlaps; /* the launch before it (programmatic stream serialization) */
  /* Copies and fills. An address in the arena is the device's, any other one is the host's. */
  u64 target, source, bytes;
  u32 value, value_bytes;
  u8 *staged; /* owned: the bytes of a copy from pageable memory */
  /* Waits: until a stream has done a serial. Events. Calls. */
  struct sim_stream *awaited;
  u64 awaited_serial;
  struct sim_event *event;
  CUhostFn call;
  void *data;
};

struct sim_stream {
  struct sim_context *context;
  struct sim_work *first, *last;
  u64 queued, done;          /* serials of the latest work that was queued, and done */
  bool is_blocking;          /* takes part in the legacy stream's order */
  u32 last_launch;           /* serial of the launch that just ran here, 0 after other work */
  struct sim_graph *capture; /* the graph that work goes to, or NULL */
  bool is_origin;            /* the capture began here, and ends here */
  int priority;
  struct sim_stream *next;
};

struct sim_event {
  struct sim_stream *stream; /* where it was recorded, as work number `serial` */
  u64 serial;
  bool is_recorded;
  u64 nanoseconds;
  struct sim_graph *capture;
};

/* A graph, and an executable graph: work in the order of issue. */
struct sim_graph {
  struct sim_work *first, *last;
  u32 count;
  bool is_invalid;
};

struct sim_driver {
  pthread_mutex_t mutex;
  bool is_ready;
  CUresult failed; /* sticky, until the primary context is reset */
  const struct sim_profile_of_device *device;
  u32 processors; /* the device's, unless the environment names another number */
  u64 seed;
  bool is_eager;
  bool goes_on; /* reports leave the context as it is */
  struct sim_context primary;
  struct sim_stream legacy;
  struct sim_stream *streams;
  u32 launch_serial;
};

extern struct sim_driver sim_driver;
extern _Thread_local struct sim_context *sim_current;

/* Locks the driver and returns what forbids a call: not initialised, no context, an earlier
 * error. */
CUresult sim_enter(bool needs_context);
CUresult sim_leave(CUresult result); /* unlocks; returns its argument */
/* The body of an exported function: evaluates the expression under the lock and returns it. */
#define SIM_CALL(needs_context, ...)                     \
  do {                                                   \
    CUresult entered = sim_enter(needs_context);         \
    return sim_leave(entered ? entered : (__VA_ARGS__)); \
  } while (0)

struct sim_stream *sim_stream_of(CUstream stream);
/* Adds work to the stream, or to the graph that the stream captures into. Takes the work. */
CUresult sim_queue(struct sim_stream *stream, struct sim_work *work);
struct sim_work *sim_work_new(enum sim_work_kind kind);
struct sim_work *sim_work_copy(const struct sim_work *work);
void sim_work_free(struct sim_work *work);
/* Runs the work of a stream up to a serial, and first all that it waits for. */
CUresult sim_run_until(struct sim_stream *stream, u64 serial);
CUresult sim_run_everything(void);
CUresult sim_work_run(struct sim_stream *stream, struct sim_work *work);
CUresult sim_work_launch(struct sim_stream *stream, const struct sim_work *work);
void sim_work_transfer(const struct sim_work *work);
/* Calls that synchronise are refused while a stream captures. */
bool sim_is_capturing(void);
u64 sim_now(void);

#endif /* FOVEA_SIMGPU_DRIVER_DRIVER_H */

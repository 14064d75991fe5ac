/* decode_cpu.c - the server on the CPU: arrays have one address, and calls are done when they
 * return. So there is nothing to copy, to wait for or to record: a replay is the calls
 * themselves. */
#include <stdlib.h>
#include <string.h>

#include "examples/decode.h"

enum { ARRAYS_MAX = 16, ALIGNMENT = 256 /* of the workspace */ };

static void *arrays[ARRAYS_MAX];
static int array_count;

static void do_nothing(void) {}

static void leave_array(const twin *array) {
  (void)array;
}

static twin allocate(size_t bytes) {
  void *memory = NULL;
  stop_unless(array_count < ARRAYS_MAX && !posix_memalign(&memory, ALIGNMENT, bytes), "no memory");
  arrays[array_count++] = memory;
  memset(memory, 0, bytes);
  return (twin){memory, memory, bytes};
}

static fovea_stream no_stream(void) {
  return NULL;
}

static void leave_calls(int which, queue_calls *queue, void *context) {
  (void)which, (void)queue, (void)context;
}

static void make_calls(int which, queue_calls *queue, void *context) {
  queue(context, which);
}

static void free_arrays(void) {
  while (array_count) free(arrays[--array_count]);
}

const device cpu_device = {.kind = FOVEA_DEVICE_CPU,
                           .by = "by calls with room for",
                           .open = do_nothing,
                           .allocate = allocate,
                           .upload = leave_array,
                           .download = leave_array,
                           .wait = do_nothing,
                           .stream = no_stream,
                           .record = leave_calls,
                           .replay = make_calls,
                           .close = free_arrays};

/* peer.c - see peer.h. The handle stays open from call to call, as in a server. */
#include "bench/measure/peer.h"

#include <stdlib.h>
#include <string.h>

#include "bench/pipelines/pipeline.h"

static fv_bench_machine machine;

static fv_bench_peer_allocate callers_memory; /* of the current call of open */

static void *allocate(const fv_bench_place *place, size_t bytes) {
  (void)place;
  return callers_memory(bytes);
}

static void deallocate(const fv_bench_place *place, void *memory) {
  (void)place, (void)memory; /* the caller's */
}

static fv_bench_place device = {.device = "cuda", .allocate = allocate, .deallocate = deallocate};

typedef struct peer_state {
  fv_bench_tensors tensors;
  const fv_bench_pipeline *pipeline;
  void *calls;
} peer_state;

static bool open_handle(int threads, const char *name) {
  bool cuda = !strcmp(name, "cuda");
  fovea_options options = {.struct_size = sizeof options,
                           .device = cuda ? FOVEA_DEVICE_CUDA : FOVEA_DEVICE_CPU,
                           .threads = cuda ? 0 : threads};
  return machine.handle || fovea_create(&options, &machine.handle) == FOVEA_OK;
}

void *fv_bench_peer_open(int threads, const char *row, void *q, void *k, void *v, void *out,
                         fv_bench_peer_allocate allocate_there) {
  fv_bench_row_key key;
  if (!fv_bench_row_parse(row, &key) || !fv_bench_is_dense(&key.problem)) return NULL;
  if (!open_handle(threads, key.device)) return NULL;
  peer_state *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  bool layer = fv_bench_is_layer(&key.problem);
  state->pipeline = layer ? &fv_bench_layer_cpu : &fv_bench_fovea_cpu;
  state->tensors = (fv_bench_tensors){.problem = key.problem, .q = q, .k = k, .v = v, .out = out};
  if (layer) state->tensors.projections = k;
  machine.threads = threads;
  callers_memory = allocate_there;
  machine.place = allocate_there ? &device : NULL;
  state->calls = state->pipeline->open(&machine, &state->tensors);
  if (state->calls) return state;
  free(state);
  return NULL;
}

int fv_bench_peer_run(void *opaque) {
  peer_state *state = opaque;
  return state->pipeline->run(state->calls);
}

void fv_bench_peer_close(void *opaque) {
  peer_state *state = opaque;
  state->pipeline->close(state->calls);
  free(state);
}

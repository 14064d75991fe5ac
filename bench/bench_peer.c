/* bench_peer.c - see bench_peer.h. The handle stays open from call to call, as a server's does. */
#include "bench_peer.h"

#include <stdlib.h>

#include "bench_pipeline.h"

static fv_bench_machine machine;

typedef struct peer_state {
  fv_bench_tensors tensors;
  void *calls;
} peer_state;

static bool open_handle(int threads) {
  fovea_options options = {
      .struct_size = sizeof options, .device = FOVEA_DEVICE_CPU, .threads = threads};
  return machine.handle || fovea_create(&options, &machine.handle) == FOVEA_OK;
}

void *fv_bench_peer_open(int threads, const char *row, void *q, void *k, void *v, void *out) {
  fv_bench_row_key key;
  if (!fv_bench_row_parse(row, &key) || !open_handle(threads)) return NULL;
  peer_state *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->tensors = (fv_bench_tensors){.problem = key.problem, .q = q, .k = k, .v = v, .out = out};
  state->calls = fv_bench_fovea_cpu.open(&machine, &state->tensors);
  if (state->calls) return state;
  free(state);
  return NULL;
}

int fv_bench_peer_run(void *opaque) {
  peer_state *state = opaque;
  return fv_bench_fovea_cpu.run(state->calls);
}

void fv_bench_peer_close(void *opaque) {
  peer_state *state = opaque;
  fv_bench_fovea_cpu.close(state->calls);
  free(state);
}

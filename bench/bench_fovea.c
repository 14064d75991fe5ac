/* bench_fovea.c - the library itself as a pipeline. */
#include <stdio.h>
#include <stdlib.h>

#include "bench_pipeline.h"

typedef struct fovea_state {
  fovea_handle *handle;
  const fv_bench_place *place; /* of the workspace; NULL: host memory */
  fovea_attention_args args;
} fovea_state;

static size_t workspace_bytes(fovea_handle *handle, const fv_bench_problem *problem) {
  size_t bytes = 0;
  fovea_limits limits = {.struct_size = sizeof limits,
                         .q_dtype = problem->dtype,
                         .k_dtype = problem->dtype,
                         .v_dtype = problem->dtype,
                         .out_dtype = problem->dtype,
                         .dim = (int32_t)problem->dim,
                         .dim_v = (int32_t)problem->dim,
                         .heads_q = (int32_t)problem->heads_q,
                         .heads_kv = (int32_t)problem->heads_kv,
                         .sequences = problem->batch,
                         .total_q = problem->batch * problem->len_q,
                         .len_kv = problem->len_kv};
  fovea_attention_workspace(handle, &limits, &bytes);
  return bytes;
}

static double fovea_scratch(const fv_bench_machine *machine, const fv_bench_problem *problem) {
  return (double)workspace_bytes(machine->handle, problem);
}

static fovea_tensor view(void *data, const fv_bench_problem *problem, int64_t len, int64_t heads) {
  return fovea_contiguous(data, problem->dtype, problem->batch, len, heads, problem->dim);
}

/* Aligned to more than 256 in either place. */
static void *allocate(const fv_bench_place *place, size_t bytes) {
  return place ? place->allocate(place, bytes) : fv_bench_map(bytes);
}

static void *open_fovea(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  const fv_bench_problem *problem = &tensors->problem;
  fovea_state *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->handle = machine->handle;
  state->place = machine->place;
  fovea_attention_args *args = &state->args;
  args->struct_size = sizeof *args;
  args->causal = problem->causal;
  args->q = view(tensors->q, problem, problem->len_q, problem->heads_q);
  args->k = view(tensors->k, problem, problem->len_kv, problem->heads_kv);
  args->v = view(tensors->v, problem, problem->len_kv, problem->heads_kv);
  args->out = view(tensors->out, problem, problem->len_q, problem->heads_q);
  args->workspace_bytes = workspace_bytes(machine->handle, problem);
  if (!args->workspace_bytes) return state;
  args->workspace = allocate(machine->place, args->workspace_bytes);
  if (args->workspace) return state;
  free(state);
  return NULL;
}

static bool run_fovea(void *opaque) {
  fovea_state *state = opaque;
  if (fovea_attention(state->handle, &state->args, NULL) == FOVEA_OK) return true;
  fprintf(stderr, "fovea-bench: fovea_attention: %s\n", fovea_error_detail());
  return false;
}

static void close_fovea(void *opaque) {
  fovea_state *state = opaque;
  if (!state) return;
  if (state->place) {
    state->place->deallocate(state->place, state->args.workspace);
  } else {
    fv_bench_unmap(state->args.workspace, state->args.workspace_bytes);
  }
  free(state);
}

const fv_bench_pipeline fv_bench_fovea_cpu = {"cpu",     "fovea",     fovea_scratch, open_fovea,
                                              run_fovea, close_fovea, false};
const fv_bench_pipeline fv_bench_fovea_cuda = {"cuda",    "fovea",     fovea_scratch, open_fovea,
                                               run_fovea, close_fovea, false};

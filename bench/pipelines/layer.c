/* layer.c - fovea's multi-head layer as a pipeline: self-attention with the projections around it.
 */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/pipelines/pipeline.h"
#include "layers/fovea_layers.h"

typedef struct layer {
  fovea_handle *handle;
  int threads;
  fovea_source source;
  fovea_multihead_args args;
} layer;

/* Projection n of q, k, v and out, [model, model] as [out, in], and its bias. */
static fovea_linear projection(const fv_bench_tensors *tensors, int n) {
  const fv_bench_problem *p = &tensors->problem;
  int64_t model = fv_bench_model(p), bytes = fv_bench_dtype_bytes(p->dtype);
  char *weights = tensors->projections, *biases = weights + 4 * model * model * bytes;
  return (fovea_linear){
      .weight = fovea_contiguous(weights + n * model * model * bytes, p->dtype, 1, model, 1, model),
      .bias = fovea_contiguous(biases + n * model * bytes, p->dtype, 1, 1, 1, model)};
}

static void describe(layer *state, const fv_bench_tensors *tensors) {
  const fv_bench_problem *p = &tensors->problem;
  int64_t model = fv_bench_model(p);
  fovea_tensor x = fovea_contiguous(tensors->q, p->dtype, p->batch, p->len_q, 1, model);
  state->source = (fovea_source){.x_k = x,
                                 .k_proj = projection(tensors, 1),
                                 .v_proj = projection(tensors, 2),
                                 .visibility.causal = p->causal};
  state->args = (fovea_multihead_args){
      .struct_size = sizeof state->args,
      .x = x,
      .q_proj = projection(tensors, 0),
      .heads_q = (int32_t)p->heads_q,
      .heads_kv = (int32_t)p->heads_kv,
      .dim = (int32_t)p->dim,
      .dim_v = (int32_t)p->dim,
      .source_count = 1,
      .sources = &state->source,
      .out_proj = projection(tensors, 3),
      .out = fovea_contiguous(tensors->out, p->dtype, p->batch, p->len_q, 1, model)};
}

static bool complain(void) {
  fprintf(stderr, "fovea-bench: fovea_multihead: %s\n", fovea_layers_error_detail());
  return false;
}

/* 0 if the call is refused, which opening it will say. */
static double layer_scratch(const fv_bench_machine *machine, const fv_bench_problem *problem) {
  char nowhere = 0; /* stands for addresses, at which nothing looks */
  fv_bench_tensors tensors = {.problem = *problem, .projections = &nowhere};
  layer state;
  size_t bytes = 0;
  describe(&state, &tensors);
  fovea_multihead_workspace(machine->handle, &state.args, &bytes);
  return (double)bytes;
}

static void close_layer(void *opaque) {
  layer *state = opaque;
  if (!state) return;
  fv_bench_unmap(state->args.workspace, state->args.workspace_bytes);
  free(state);
}

static void *open_layer(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  layer *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->handle = machine->handle;
  state->threads = machine->threads;
  describe(state, tensors);
  fovea_status status =
      fovea_multihead_workspace(machine->handle, &state->args, &state->args.workspace_bytes);
  if (status != FOVEA_OK) complain();
  if (status == FOVEA_OK) state->args.workspace = fv_bench_map(state->args.workspace_bytes);
  if (state->args.workspace) return state;
  close_layer(state);
  return NULL;
}

/* OpenBLAS belongs to the process, and the naive pipeline takes its threads away. */
static bool run_layer(void *opaque) {
  layer *state = opaque;
  openblas_set_num_threads(state->threads);
  return fovea_multihead(state->handle, &state->args, NULL) == FOVEA_OK || complain();
}

const fv_bench_pipeline fv_bench_layer_cpu = {.device = "cpu",
                                              .name = "fovea",
                                              .scratch_bytes = layer_scratch,
                                              .open = open_layer,
                                              .run = run_layer,
                                              .close = close_layer,
                                              .covers = fv_bench_is_layer};

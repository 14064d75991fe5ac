/* fovea.c - the library itself as a pipeline. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/pipelines/fovea.h"

/* The capacity for keys of the longest sequence: whole pages. */
static int64_t room_of(const fv_bench_problem *problem) {
  if (!problem->page_len) return problem->len_kv;
  return fv_bench_pages_of(problem, 0) * problem->page_len;
}

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
                         .total_q = fv_bench_rows(problem),
                         .len_kv = room_of(problem)};
  fovea_attention_workspace(handle, &limits, &bytes);
  return bytes;
}

double fv_bench_fovea_scratch(const fv_bench_machine *machine, const fv_bench_problem *problem) {
  return (double)workspace_bytes(machine->handle, problem);
}

static fovea_tensor view_of_rows(const fv_bench_tensors *tensors, void *data) {
  const fv_bench_problem *p = &tensors->problem;
  bool packed = tensors->index.q_offsets != NULL;
  return fovea_contiguous(data, p->dtype, packed ? 1 : p->batch,
                          packed ? fv_bench_rows(p) : p->len_q, p->heads_q, p->dim);
}

static fovea_tensor view_of_keys(const fv_bench_tensors *tensors, void *data) {
  const fv_bench_problem *p = &tensors->problem;
  const fv_bench_index *index = &tensors->index;
  int64_t batch = p->batch, len = p->len_kv;
  if (index->kv_offsets) batch = 1, len = fv_bench_keys(p);
  if (index->page_ids) batch = index->pages, len = p->page_len;
  return fovea_contiguous(data, p->dtype, batch, len, p->heads_kv, p->dim);
}

/* Whose rows and keys are whose, and what every server knows: the most pages that a sequence has.
 */
static void describe_sequences(const fv_bench_tensors *tensors, fovea_attention_args *args) {
  const fv_bench_index *index = &tensors->index;
  if (!index->count) return;
  args->sequences.count = tensors->problem.batch;
  args->sequences.q_offsets = index->q_offsets;
  args->sequences.kv_offsets = index->kv_offsets;
  args->sequences.kv_lengths = index->kv_lengths;
  args->sequences.pages = (fovea_pages){
      .ids = index->page_ids, .row_stride = index->row_stride, .count = index->row_stride};
}

/* Aligned to more than 256 bytes in either place. */
static void *allocate(const fv_bench_place *place, size_t bytes) {
  return place ? place->allocate(place, bytes) : fv_bench_map(bytes);
}

void *fv_bench_fovea_open(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  const fv_bench_problem *problem = &tensors->problem;
  fv_bench_fovea *state = calloc(1, sizeof *state);
  if (!state) return NULL;
  state->handle = machine->handle;
  state->place = machine->place;
  fovea_attention_args *args = &state->args;
  args->struct_size = sizeof *args;
  args->visibility.causal = problem->causal;
  args->q = view_of_rows(tensors, tensors->q);
  args->k = view_of_keys(tensors, tensors->k);
  args->v = view_of_keys(tensors, tensors->v);
  args->out = view_of_rows(tensors, tensors->out);
  describe_sequences(tensors, args);
  args->logits.additive.vector = tensors->score_vector;
  args->logits.additive.head_stride = tensors->score_vector ? problem->dim : 0;
  args->workspace_bytes = workspace_bytes(machine->handle, problem);
  if (!args->workspace_bytes) return state;
  args->workspace = allocate(machine->place, args->workspace_bytes);
  if (args->workspace) return state;
  free(state);
  return NULL;
}

/* ---- The calls ---- */

bool fv_bench_fovea_run(void *opaque) {
  fv_bench_fovea *state = opaque;
  if (fovea_attention(state->handle, &state->args, NULL) == FOVEA_OK) return true;
  fprintf(stderr, "fovea-bench: fovea_attention: %s\n", fovea_error_detail());
  return false;
}

void fv_bench_fovea_close(void *opaque) {
  fv_bench_fovea *state = opaque;
  if (!state) return;
  if (state->place) {
    state->place->deallocate(state->place, state->args.workspace);
  } else {
    fv_bench_unmap(state->args.workspace, state->args.workspace_bytes);
  }
  free(state->numbers);
  fv_bench_unmap(state->memory, state->memory_bytes);
  free(state);
}

const fv_bench_pipeline fv_bench_fovea_cpu = {.device = "cpu",
                                              .name = "fovea",
                                              .scratch_bytes = fv_bench_fovea_scratch,
                                              .open = fv_bench_fovea_open,
                                              .run = fv_bench_fovea_run,
                                              .close = fv_bench_fovea_close,
                                              .covers = fv_bench_is_attention};
const fv_bench_pipeline fv_bench_fovea_cuda = {.device = "cuda",
                                               .name = "fovea",
                                               .scratch_bytes = fv_bench_fovea_scratch,
                                               .open = fv_bench_fovea_open,
                                               .run = fv_bench_fovea_run,
                                               .close = fv_bench_fovea_close};

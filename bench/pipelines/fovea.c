/* fovea.c - the library itself as a pipeline. */
#include <stdio.h>
#include <stdlib.h>

#include "bench/pipelines/pipeline.h"

typedef struct fovea_state {
  fovea_handle *handle;
  const fv_bench_place *place; /* of the workspace; NULL: host memory */
  fovea_attention_args args;
  int32_t *numbers; /* of a feature; NULL: none */
} fovea_state;

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

static double fovea_scratch(const fv_bench_machine *machine, const fv_bench_problem *problem) {
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

static void *open_fovea(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  const fv_bench_problem *problem = &tensors->problem;
  fovea_state *state = calloc(1, sizeof *state);
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
  args->workspace_bytes = workspace_bytes(machine->handle, problem);
  if (!args->workspace_bytes) return state;
  args->workspace = allocate(machine->place, args->workspace_bytes);
  if (args->workspace) return state;
  free(state);
  return NULL;
}

/* ---- Features that leave the result as it is ---- */

static bool is_paged_decode(const fv_bench_problem *problem) {
  return problem->kind == FV_BENCH_PAGED;
}

static bool is_causal_prefill(const fv_bench_problem *problem) {
  return problem->kind == FV_BENCH_PREFILL && problem->causal;
}

/* Head g's table begins with page g + 1 of the sequence and goes round. The last page may not be
 * full, so it stays where it is. */
static void fill_head_table(const fv_bench_tensors *tensors, int64_t sequence, int64_t head,
                            int32_t *ids) {
  const int32_t *shared = tensors->index.page_ids + sequence * tensors->index.row_stride;
  int64_t count = fv_bench_pages_of(&tensors->problem, sequence), full = count - 1;
  for (int64_t p = 0; p < full; ++p) ids[p] = shared[(p + head + 1) % full];
  ids[full] = shared[full];
}

static void close_fovea(void *opaque);

/* Opens fovea's pipeline with room for a feature's numbers. NULL: out of memory. */
static fovea_state *open_with_numbers(const fv_bench_machine *machine,
                                      const fv_bench_tensors *tensors, int64_t count) {
  fovea_state *state = open_fovea(machine, tensors);
  if (!state) return NULL;
  state->numbers = calloc((size_t)count, sizeof *state->numbers);
  if (state->numbers) return state;
  close_fovea(state);
  return NULL;
}

static void *open_selected(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  const fv_bench_problem *p = &tensors->problem;
  int64_t width = tensors->index.row_stride, tables = p->batch * p->heads_kv;
  fovea_state *state = open_with_numbers(machine, tensors, tables * (width + 1));
  if (!state) return NULL;
  int32_t *lengths = state->numbers + tables * width;
  for (int64_t n = 0; n < tables; ++n) {
    int64_t sequence = n / p->heads_kv;
    fill_head_table(tensors, sequence, n % p->heads_kv, state->numbers + n * width);
    lengths[n] = (int32_t)fv_bench_keys_of(p, sequence);
  }
  state->args.positions.selected = 1;
  state->args.sequences.kv_lengths = NULL;
  state->args.sequences.pages = (fovea_pages){.ids = state->numbers,
                                              .row_stride = p->heads_kv * width,
                                              .count = width,
                                              .head_stride = width,
                                              .head_lengths = lengths};
  return state;
}

/* Images of 256 tokens, one after the other. A span ends behind its own row. */
static void *open_spans(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  enum { IMAGE = 256 };
  const fv_bench_problem *p = &tensors->problem;
  fovea_state *state = open_with_numbers(machine, tensors, 2 * p->batch * p->len_q);
  if (!state) return NULL;
  for (int64_t row = 0; row < p->batch * p->len_q; ++row) {
    int64_t position = row % p->len_q + p->len_kv - p->len_q;
    state->numbers[2 * row] = (int32_t)(position / IMAGE * IMAGE);
    state->numbers[2 * row + 1] = (int32_t)position + 1;
  }
  state->args.visibility.spans = state->numbers;
  return state;
}

/* ---- The calls ---- */

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
  free(state->numbers);
  free(state);
}

#define FOVEA_PIPELINE(device, name, open, covers) \
  { device, name, fovea_scratch, open, run_fovea, close_fovea, false, covers }

const fv_bench_pipeline fv_bench_fovea_cpu = FOVEA_PIPELINE("cpu", "fovea", open_fovea, NULL);
const fv_bench_pipeline fv_bench_selected_cpu =
    FOVEA_PIPELINE("cpu", "selected", open_selected, is_paged_decode);
const fv_bench_pipeline fv_bench_spans_cpu =
    FOVEA_PIPELINE("cpu", "spans", open_spans, is_causal_prefill);
const fv_bench_pipeline fv_bench_fovea_cuda = FOVEA_PIPELINE("cuda", "fovea", open_fovea, NULL);

/* features.c - fovea's pipelines with one more feature each, to show what it costs beside the plain
 * call. pipeline.h lists them. Their results are those of the plain call, or near them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/pipelines/fovea.h"

/* ---- Which keys ---- */

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

/* Opens fovea's pipeline with room for a feature's numbers. NULL: out of memory. */
static fv_bench_fovea *open_with_numbers(const fv_bench_machine *machine,
                                         const fv_bench_tensors *tensors, int64_t count) {
  fv_bench_fovea *state = fv_bench_fovea_open(machine, tensors);
  if (!state) return NULL;
  state->numbers = calloc((size_t)count, sizeof *state->numbers);
  if (state->numbers) return state;
  fv_bench_fovea_close(state);
  return NULL;
}

static void *open_selected(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  const fv_bench_problem *p = &tensors->problem;
  int64_t width = tensors->index.row_stride, tables = p->batch * p->heads_kv;
  fv_bench_fovea *state = open_with_numbers(machine, tensors, tables * (width + 1));
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
  fv_bench_fovea *state = open_with_numbers(machine, tensors, 2 * p->batch * p->len_q);
  if (!state) return NULL;
  for (int64_t row = 0; row < p->batch * p->len_q; ++row) {
    int64_t position = row % p->len_q + p->len_kv - p->len_q;
    state->numbers[2 * row] = (int32_t)(position / IMAGE * IMAGE);
    state->numbers[2 * row + 1] = (int32_t)position + 1;
  }
  state->args.visibility.spans = state->numbers;
  return state;
}

/* ---- Attention mass ---- */

enum { MASS_ROWS = 32 };

static bool is_prefill(const fv_bench_problem *problem) {
  return problem->kind == FV_BENCH_PREFILL && problem->len_q >= MASS_ROWS;
}

static bool map_memory(fv_bench_fovea *state, size_t bytes) {
  state->memory_bytes = bytes;
  state->memory = fv_bench_map(bytes);
  return state->memory != NULL;
}

static void *open_mass(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  const fv_bench_problem *p = &tensors->problem;
  fv_bench_fovea *state = fv_bench_fovea_open(machine, tensors);
  if (!state) return NULL;
  if (!map_memory(state, (size_t)(p->batch * p->heads_kv * p->len_kv) * sizeof(float))) {
    fv_bench_fovea_close(state);
    return NULL;
  }
  state->weights = (fovea_weights_args){.struct_size = sizeof state->weights,
                                        .attention = &state->args,
                                        .row_count = MASS_ROWS,
                                        .last_rows = 1,
                                        .mass_by_kv_head = 1};
  state->weights.mass =
      fovea_contiguous(state->memory, FOVEA_F32, p->batch, 1, p->heads_kv, p->len_kv);
  return state;
}

static bool run_mass(void *opaque) {
  fv_bench_fovea *state = opaque;
  if (!fv_bench_fovea_run(state)) return false;
  if (fovea_attention_weights(state->handle, &state->weights, NULL) == FOVEA_OK) return true;
  fprintf(stderr, "mass: %s\n", fovea_error_detail());
  return false;
}

/* ---- Caches of blocks ---- */

static bool is_decode_of_blocks(const fv_bench_problem *problem) {
  bool decode = problem->kind == FV_BENCH_DECODE || problem->kind == FV_BENCH_PAGED;
  return decode && problem->dim % 32 == 0;
}

/* Writes all of `from` to `to`, each token to its own place. */
static bool quantise(fv_bench_fovea *state, fovea_tensor from, fovea_tensor to) {
  int64_t tokens = from.shape[0] * from.shape[1];
  int64_t *slots = malloc((size_t)tokens * sizeof *slots);
  if (!slots) return false;
  for (int64_t n = 0; n < tokens; ++n) slots[n] = n;
  fovea_kv_append_args args = {
      .struct_size = sizeof args, .k_new = from, .k_cache = to, .slots = slots};
  bool done = fovea_kv_append(state->handle, &args, NULL) == FOVEA_OK;
  if (!done) fprintf(stderr, "blocks: %s\n", fovea_error_detail());
  free(slots);
  return done;
}

/* Both caches in the type, whose blocks of 32 take so many bytes. */
static void *open_blocks(const fv_bench_machine *machine, const fv_bench_tensors *tensors,
                         fovea_dtype dtype, int64_t block_bytes) {
  fv_bench_fovea *state = fv_bench_fovea_open(machine, tensors);
  if (!state) return NULL;
  fovea_tensor k = state->args.k, v = state->args.v;
  size_t bytes = (size_t)(k.shape[0] * k.shape[1] * k.shape[2] * k.shape[3] / 32 * block_bytes);
  bool mapped = map_memory(state, 2 * bytes);
  state->args.k.data = state->memory;
  state->args.v.data = (char *)state->memory + bytes;
  state->args.k.dtype = state->args.v.dtype = dtype;
  if (mapped && quantise(state, k, state->args.k) && quantise(state, v, state->args.v))
    return state;
  fv_bench_fovea_close(state);
  return NULL;
}

static void *open_q8_0(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  return open_blocks(machine, tensors, FOVEA_Q8_0, 34);
}

static void *open_q4_0(const fv_bench_machine *machine, const fv_bench_tensors *tensors) {
  return open_blocks(machine, tensors, FOVEA_Q4_0, 18);
}

/* ---- The table ---- */

#define FEATURE(label, open_it, run_it, covers_it, rounding)                                  \
  {                                                                                           \
    .device = "cpu", .name = label, .scratch_bytes = fv_bench_fovea_scratch, .open = open_it, \
    .run = run_it, .close = fv_bench_fovea_close, .covers = covers_it, .step = rounding       \
  }

const fv_bench_pipeline fv_bench_selected_cpu =
    FEATURE("selected", open_selected, fv_bench_fovea_run, is_paged_decode, 0);
const fv_bench_pipeline fv_bench_spans_cpu =
    FEATURE("spans", open_spans, fv_bench_fovea_run, is_causal_prefill, 0);
const fv_bench_pipeline fv_bench_mass_cpu = FEATURE("mass", open_mass, run_mass, is_prefill, 0);
const fv_bench_pipeline fv_bench_q8_0_cpu =
    FEATURE("q8_0", open_q8_0, fv_bench_fovea_run, is_decode_of_blocks, 1.0 / 127);
const fv_bench_pipeline fv_bench_q4_0_cpu =
    FEATURE("q4_0", open_q4_0, fv_bench_fovea_run, is_decode_of_blocks, 1.0 / 8);

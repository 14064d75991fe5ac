/* fuzz_layers.c - libFuzzer target: any bytes as the arguments of the layers' calls.
 *
 * The first byte chooses the call. Each three more XOR a byte of a valid case, of its struct, its
 * sources or its arrays of numbers: a place in 16 bits, and what is XOR-ed there. Then every tensor
 * gets memory of its own if what it spans fits into that. Else it has none, which the call must
 * refuse. So whatever a call touches outside is its own fault. What can be measured is run in a
 * workspace of exactly so many bytes. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layers/fovea_layers.h"

__extension__ typedef __int128 wide;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define DEMAND(condition)                                                       \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: demanded: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                  \
    }                                                                           \
  } while (0)

enum { REGION = 2048, REGIONS_MAX = 48, NUMBERS = 8, TOKENS_MAX = 512, WORKSPACE_MAX = 1 << 22 };

/* All that a case consists of. */
typedef struct fuzz_case {
  fovea_source sources[2];
  int32_t numbers[NUMBERS];
  union {
    fovea_linear_args linear;
    fovea_normalise_args normalise;
    fovea_multihead_args multihead;
    fovea_memory_args memory;
    fovea_recurrent_args recurrent;
  } args;
} fuzz_case;

static void *regions[REGIONS_MAX];
static int region_count;

static void *take_region(void) {
  DEMAND(region_count < REGIONS_MAX);
  float *region = malloc(REGION);
  DEMAND(region);
  for (int i = 0; i < REGION / 4; ++i) region[i] = 0.25f;
  return regions[region_count++] = region;
}

/* ---- Memory ---- */

static bool fits(const fovea_tensor *t) {
  wide reach = 1, tokens = 1;
  for (int i = 0; i < 4; ++i) {
    bool counts = t->shape[i] > 1; /* else no one looks at the stride */
    if (t->shape[i] < 0 || (counts && t->stride[i] < 0)) return true; /* refused */
    if (counts) reach += (wide)(t->shape[i] - 1) * t->stride[i];
    tokens *= t->shape[i];
    if (tokens > TOKENS_MAX * 64) return false;
  }
  return reach * 4 <= REGION;
}

static void give(fovea_tensor *t) {
  t->data = t->dtype && fits(t) ? take_region() : NULL;
}

static void give_linear(fovea_linear *linear) {
  give(&linear->weight);
  give(&linear->bias);
}

/* An address that is there is one of memory; the fuzzer says which are there. */
static void *there(const void *address) {
  return address ? take_region() : NULL;
}

static void give_norm(fovea_norm *norm) {
  int small = norm->stride >= 0 && norm->stride <= 64;
  norm->gain = small ? there(norm->gain) : NULL;
}

static void give_source(fovea_source *s, const int32_t *numbers) {
  give(&s->x_k), give(&s->x_v), give(&s->k), give(&s->v);
  give_linear(&s->k_proj), give_linear(&s->v_proj);
  give_norm(&s->k_norm), give_norm(&s->v_norm);
  give(&s->k_scale), give(&s->v_scale), give(&s->bias), give(&s->visibility.mask);
  s->sequences.kv_lengths = s->sequences.kv_lengths ? numbers : NULL;
  s->sequences.kv_first = s->sequences.kv_first ? numbers + 2 : NULL;
  s->sequences.kv_offsets = s->sequences.kv_offsets ? numbers + 4 : NULL;
  memset(&s->sequences.pages, 0, sizeof s->sequences.pages);
  s->sequences.q_offsets = s->sequences.q_lengths = NULL;
  memset(&s->visibility.tree, 0, sizeof s->visibility.tree);
  s->visibility.prefix_lengths = s->visibility.spans = NULL;
  s->positions.q = s->positions.kv = NULL;
  s->bias_scale = s->alibi_slopes = NULL;
  s->distances.table = NULL;
}

/* ---- Valid cases ---- */

static fovea_tensor view(int64_t a, int64_t b, int64_t c, int64_t d) {
  return fovea_contiguous(regions, FOVEA_F32, a, b, c, d); /* any address: memory comes later */
}

static fovea_linear linear_of(int64_t in, int64_t out) {
  fovea_linear linear = {.weight = view(1, out, 1, in), .bias = view(1, 1, 1, out)};
  return linear;
}

static fuzz_case valid(int call) {
  fuzz_case c;
  memset(&c, 0, sizeof c);
  c.sources[0] =
      (fovea_source){.x_k = view(2, 3, 1, 8), .k_proj = linear_of(8, 8), .v_proj = linear_of(8, 8)};
  c.sources[1] = (fovea_source){.k = view(2, 5, 2, 4), .v = view(2, 5, 2, 4)};
  for (int i = 0; i < NUMBERS; ++i) c.numbers[i] = i / 2;
  switch (call) {
    case 0:
      c.args.linear = (fovea_linear_args){.struct_size = sizeof c.args.linear,
                                          .linear = linear_of(8, 6),
                                          .x = view(2, 3, 1, 8),
                                          .residual = view(2, 3, 1, 6),
                                          .out = view(2, 3, 1, 6)};
      break;
    case 1:
      c.args.normalise = (fovea_normalise_args){.struct_size = sizeof c.args.normalise,
                                                .eps = 1,
                                                .x = view(2, 3, 2, 4),
                                                .residual = view(2, 3, 2, 4),
                                                .out = view(2, 3, 2, 4)};
      break;
    case 2:
      c.args.multihead = (fovea_multihead_args){.struct_size = sizeof c.args.multihead,
                                                .heads_q = 2,
                                                .heads_kv = 2,
                                                .dim = 4,
                                                .dim_v = 4,
                                                .source_count = 2,
                                                .x = view(2, 3, 1, 8),
                                                .q_proj = linear_of(8, 8),
                                                .out_proj = linear_of(8, 8),
                                                .residual = view(2, 3, 1, 8),
                                                .out = view(2, 3, 1, 8),
                                                .lse = view(2, 3, 2, 1),
                                                .weights = view(2, 3, 1, 8)};
      break;
    case 3:
      c.args.memory = (fovea_memory_args){.struct_size = sizeof c.args.memory,
                                          .heads_kv = 2,
                                          .dim = 4,
                                          .dim_v = 4,
                                          .x_k = view(2, 3, 1, 8),
                                          .k_proj = linear_of(8, 8),
                                          .v_proj = linear_of(8, 8),
                                          .k = view(2, 3, 2, 4),
                                          .v = view(2, 3, 2, 4)};
      break;
    default:
      c.args.recurrent = (fovea_recurrent_args){.struct_size = sizeof c.args.recurrent,
                                                .cell = FOVEA_CELL_LSTM,
                                                .x = view(2, 3, 1, 4),
                                                .weight_x = view(1, 12, 1, 4),
                                                .weight_h = view(1, 12, 1, 3),
                                                .bias_x = view(1, 1, 1, 12),
                                                .h_first = view(2, 1, 1, 3),
                                                .states = view(2, 3, 1, 3),
                                                .c_last = view(2, 1, 1, 3)};
  }
  return c;
}

/* ---- Calls ---- */

static int is_right(fovea_status status) {
  return status == FOVEA_OK || ((status == FOVEA_BAD_ARGUMENT || status == FOVEA_UNSUPPORTED) &&
                                fovea_layers_error_detail()[0]);
}

static fovea_handle *handle;

/* Measures and runs: the struct's type, its two calls. */
#define RUN(measure, call, struct_)                                                       \
  do {                                                                                    \
    size_t needed = 0;                                                                    \
    fovea_status status_ = measure(handle, &(struct_), &needed);                          \
    DEMAND(is_right(status_));                                                            \
    if (status_ != FOVEA_OK || needed > WORKSPACE_MAX) break;                             \
    (struct_).workspace = needed ? aligned_alloc(256, (needed + 255) / 256 * 256) : NULL; \
    (struct_).workspace_bytes = needed;                                                   \
    DEMAND(is_right(call(handle, &(struct_), NULL)));                                     \
    free((struct_).workspace);                                                            \
  } while (0)

static void run_linear(fovea_linear_args *a) {
  a->struct_size = sizeof *a;
  give_linear(&a->linear);
  give(&a->x), give(&a->residual), give(&a->out);
  RUN(fovea_linear_workspace, fovea_linear_apply, *a);
}

static void run_normalise(fovea_normalise_args *a) {
  a->struct_size = sizeof *a;
  give(&a->x), give(&a->residual), give(&a->out);
  a->gain = there(a->gain), a->shift = there(a->shift);
  if (fits(&a->x)) DEMAND(is_right(fovea_normalise(handle, a, NULL)));
}

static void run_multihead(fovea_multihead_args *a, fuzz_case *c) {
  a->struct_size = sizeof *a;
  a->sources = c->sources;
  if (a->source_count > 2) a->source_count = 2;
  for (int n = 0; n < 2; ++n) give_source(&c->sources[n], c->numbers);
  give_linear(&a->q_proj), give_linear(&a->out_proj);
  give_norm(&a->q_norm);
  give(&a->x), give(&a->residual), give(&a->out), give(&a->lse), give(&a->weights);
  memset(&a->rope, 0, sizeof a->rope);
  memset(&a->additive, 0, sizeof a->additive);
  a->q_offsets = a->q_offsets ? c->numbers + 1 : NULL;
  a->q_lengths = a->q_lengths ? c->numbers + 3 : NULL;
  a->sinks = there(a->sinks);
  a->errors = there(a->errors);
  if (a->sequence_count > 2 || a->x.shape[0] > 2 || a->heads_q > 64) return; /* arrays have 2 */
  RUN(fovea_multihead_workspace, fovea_multihead, *a);
}

static void run_memory(fovea_memory_args *a) {
  a->struct_size = sizeof *a;
  give(&a->x_k), give(&a->x_v), give(&a->k), give(&a->v);
  give_linear(&a->k_proj), give_linear(&a->v_proj);
  give_norm(&a->k_norm), give_norm(&a->v_norm);
  RUN(fovea_memory_workspace, fovea_memory, *a);
}

static void run_recurrent(fovea_recurrent_args *a, const int32_t *numbers) {
  a->struct_size = sizeof *a;
  give(&a->x), give(&a->weight_x), give(&a->weight_h), give(&a->bias_x), give(&a->bias_h);
  give(&a->h_first), give(&a->c_first), give(&a->states), give(&a->h_last), give(&a->c_last);
  a->lengths = a->lengths && a->x.shape[0] <= NUMBERS ? numbers : NULL;
  RUN(fovea_recurrent_workspace, fovea_recurrent, *a);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  fovea_options options = {.struct_size = sizeof options, .device = FOVEA_DEVICE_CPU, .threads = 1};
  if (!handle) DEMAND(fovea_create(&options, &handle) == FOVEA_OK);
  if (!size) return 0;
  int call = bytes[0] % 5;
  fuzz_case c = valid(call);
  uint8_t *over = call == 2 ? (uint8_t *)&c : (uint8_t *)&c.args;
  size_t room = call == 2 ? sizeof c : sizeof c.args;
  for (size_t i = 1; i + 2 < size; i += 3) {
    over[(size_t)(bytes[i] | bytes[i + 1] << 8) % room] ^= bytes[i + 2];
  }
  switch (call) {
    case 0:
      run_linear(&c.args.linear);
      break;
    case 1:
      run_normalise(&c.args.normalise);
      break;
    case 2:
      run_multihead(&c.args.multihead, &c);
      break;
    case 3:
      run_memory(&c.args.memory);
      break;
    default:
      run_recurrent(&c.args.recurrent, c.numbers);
  }
  while (region_count) free(regions[--region_count]);
  return 0;
}

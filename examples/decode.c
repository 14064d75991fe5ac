/* decode.c - the loop of an inference server, on the CPU or on a GPU. Requests of different lengths
 * arrive, share one paged key/value cache, grow by a token per step and leave. A step can mix new
 * prompts with tokens that are being generated. Whatever the mixture, a step is two calls:
 *
 *   fovea_kv_append   rotates the new keys and queries (RoPE), rounds them, puts keys and values
 *                     into their pages
 *   fovea_attention   reads the pages through the page table; lengths and offsets delimit sequences
 *
 * Nothing is allocated after the start: the workspace is sized once, for all steps, from limits.
 * The calls read lengths, offsets and page ids where the work is done. So the calls of a step are
 * recorded once, for one number of rows or another, and replayed with other contents: on a GPU that
 * is a captured CUDA graph.
 *
 * This example has no model. Queries, keys and values come from a hash of (request, position, head,
 * element), so they can be computed again; decode_check.c does so. decode.h has the sizes. */
#include "examples/decode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct request {
  int arrives; /* at this step */
  int32_t prompt, wanted;
} requests[REQUESTS] = {{0, 90, 4}, {0, 30, 9}, {2, 70, 3}, {3, 5, 2}, {4, 1, 6}};

/* A step is recorded with room for so many rows; the smallest that suffices is replayed. The first
 * is that of steps in which every sequence decodes. */
static const int32_t recorded_rows[] = {SEQUENCES, ROWS};
enum { RECORDINGS = sizeof recorded_rows / sizeof recorded_rows[0] };

void stop_unless(bool fine, const char *what) {
  if (fine) return;
  fprintf(stderr, "decode: %s\n", what);
  exit(1);
}

static void must(fovea_status status, const char *what) {
  if (status == FOVEA_OK) return;
  fprintf(stderr, "decode: %s: %s\n", what, fovea_error_detail());
  exit(1);
}

/* ---- The model's part ---- */

/* Element d of the query, key or value of a token: from -1 to 1, always the same. */
float element(char which, int request, int32_t position, int head, int d) {
  uint32_t x = (uint32_t)which * 0x9e3779b1u ^ (uint32_t)request * 0x85ebca6bu ^
               (uint32_t)position * 0xc2b2ae35u ^ (uint32_t)head * 0x27d4eb2fu ^ (uint32_t)d;
  x = (x ^ x >> 15) * 0x2c1b3c6du;
  x = (x ^ x >> 12) * 0x297a2d39u;
  return (float)((x ^ x >> 15) >> 8) * 0x1p-23f - 1;
}

static void fill(float *rows, char which, int heads, int request, int32_t position) {
  for (int h = 0; h < heads; ++h) {
    for (int d = 0; d < DIM; ++d) rows[h * DIM + d] = element(which, request, position, h, d);
  }
}

/* The tokens [begin, end) of a request, in the input's rows from `row` on. */
void fill_tokens(step_input *in, int request, int32_t begin, int32_t end, int32_t row) {
  for (int32_t position = begin; position < end; ++position, ++row) {
    stop_unless(row < ROWS, "more new tokens than ROWS");
    fill(in->q[row][0], 'q', HEADS_Q, request, position);
    fill(in->k_new[row][0], 'k', HEADS_KV, request, position);
    fill(in->v_new[row][0], 'v', HEADS_KV, request, position);
    in->slots[row] = row;
    in->positions[row] = position;
  }
}

/* ---- Pages and sequences ---- */

static int32_t pages_for(int32_t tokens) {
  return (tokens + PAGE_LEN - 1) / PAGE_LEN;
}

int32_t life_of(int request) {
  return requests[request].prompt + requests[request].wanted;
}

/* Lets requests in while there is room for all that they will ever need. */
static void admit(server *s) {
  step_input *in = s->input.here;
  while (s->arrived < REQUESTS && requests[s->arrived].arrives <= s->step) {
    int32_t needed = pages_for(life_of(s->arrived));
    if (s->count == SEQUENCES || s->promised + needed > PAGES) {
      printf("  request %d waits\n", s->arrived);
      return;
    }
    s->promised += needed;
    s->running[s->count] = (sequence){s->arrived++, 0};
    in->lengths[s->count++] = 0;
  }
}

/* An id that is not in use is -1. A token without a page is then skipped and reported, and never
 * written to another sequence's page. */
static void forget_pages(step_input *in, int i) {
  for (int p = 0; p < PAGES_EACH; ++p) in->page_table[i][p] = -1;
}

static void finish(server *s, int i) {
  step_input *in = s->input.here;
  sequence *gone = &s->running[i];
  check_request(s, gone->request);
  printf("  request %d is done and returns %d pages\n", gone->request, gone->pages);
  s->promised -= pages_for(life_of(gone->request));
  for (int p = 0; p < gone->pages; ++p) s->free_pages[s->free_count++] = in->page_table[i][p];
  int last = --s->count; /* takes the free place in the batch */
  s->running[i] = s->running[last];
  in->lengths[i] = in->lengths[last];
  memcpy(in->page_table[i], in->page_table[last], sizeof in->page_table[i]);
  in->lengths[last] = 0;
  forget_pages(in, last);
}

/* Packs the new tokens of all sequences, and gives them the pages that they need. Places of the
 * batch that no sequence has get no rows. */
static int32_t fill_batch(server *s) {
  step_input *in = s->input.here;
  int32_t row = 0;
  for (int i = 0; i < SEQUENCES; ++i) {
    int32_t begin = in->lengths[i], end = begin;
    in->offsets[i] = row;
    if (i < s->count) end = begin ? begin + 1 : requests[s->running[i].request].prompt;
    for (; i < s->count && s->running[i].pages < pages_for(end); ++s->running[i].pages) {
      in->page_table[i][s->running[i].pages] = s->free_pages[--s->free_count];
    }
    if (end > begin) fill_tokens(in, s->running[i].request, begin, end, row);
    in->lengths_before[i] = begin;
    in->lengths[i] = end;
    row += end - begin;
  }
  in->offsets[SEQUENCES] = row;
  for (int32_t unused = row; unused < ROWS; ++unused) in->slots[unused] = -1;
  return row;
}

/* ---- The two calls ---- */

/* The device's addresses. They are given to calls and never looked at here. */
static step_input *input_of(const server *s) {
  return s->input.there;
}

static fovea_tensor queries_of(const server *s, int32_t rows) {
  return fovea_contiguous(s->queries.there, s->dtype, 1, rows, HEADS_Q, DIM);
}

static fovea_sequences sequences_of(const server *s) {
  const step_input *in = input_of(s);
  return (fovea_sequences){
      .count = SEQUENCES,
      .q_offsets = in->offsets,
      .pages = {.ids = in->page_table[0], .row_stride = PAGES_EACH, .count = PAGES_EACH}};
}

static fovea_rope rope_of(const server *s) {
  return (fovea_rope){.cos = s->cosines.there,
                      .sin = s->sines.there,
                      .rows = LONGEST,
                      .stride = DIM / 2,
                      .rotary_dim = DIM};
}

/* New keys and values, with room for `rows` of them. */
fovea_kv_append_args append_args(const server *s, int32_t rows) {
  step_input *in = input_of(s);
  fovea_kv_append_args args = {.struct_size = sizeof args, .rope = rope_of(s)};
  args.k_new = fovea_contiguous(in->k_new, FOVEA_F32, 1, rows, HEADS_KV, DIM);
  args.v_new = fovea_contiguous(in->v_new, FOVEA_F32, 1, rows, HEADS_KV, DIM);
  args.k_cache = fovea_contiguous(s->k_cache.there, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.v_cache = fovea_contiguous(s->v_cache.there, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.sequences = sequences_of(s);
  args.sequences.kv_lengths = in->lengths_before; /* new tokens go to these places */
  args.errors = s->errors.there;
  return args;
}

static void add_queries(const server *s, fovea_kv_append_args *args, int32_t rows) {
  args->q = fovea_contiguous(input_of(s)->q, FOVEA_F32, 1, rows, HEADS_Q, DIM);
  args->q_out = queries_of(s, rows);
}

/* Where a device's appends do not prepare queries, the queries are appended like keys: to a "cache"
 * with a slot for each row. */
static void queue_queries(const server *s, int32_t rows) {
  step_input *in = input_of(s);
  fovea_kv_append_args args = {.struct_size = sizeof args, .rope = rope_of(s), .slots = in->slots};
  args.k_new = fovea_contiguous(in->q, FOVEA_F32, 1, rows, HEADS_Q, DIM);
  args.k_cache = queries_of(s, rows);
  args.rope.positions = in->positions;
  must(fovea_kv_append(s->handle, &args, s->device->stream()), "fovea_kv_append of queries");
}

void queue_append(const server *s, const fovea_kv_append_args *args, int32_t rows) {
  fovea_kv_append_args both = *args;
  if (s->appends_prepare_queries) {
    add_queries(s, &both, rows);
  } else {
    queue_queries(s, rows);
  }
  must(fovea_kv_append(s->handle, &both, s->device->stream()), "fovea_kv_append");
}

fovea_attention_args attention_args(const server *s, int32_t rows) {
  fovea_attention_args args = {
      .struct_size = sizeof args, .reproducible = s->reproducible, .visibility.causal = 1};
  /* The kernel may be on its way while the append still runs; it waits before it reads. */
  args.flags = FOVEA_ALLOW_DEPENDENT_LAUNCH;
  args.q = queries_of(s, rows);
  args.k = fovea_contiguous(s->k_cache.there, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.v = fovea_contiguous(s->v_cache.there, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.out = fovea_contiguous(s->out.there, s->dtype, 1, rows, HEADS_Q, DIM);
  args.sequences = sequences_of(s);
  args.sequences.kv_lengths = input_of(s)->lengths;
  args.errors = s->errors.there;
  args.workspace = s->workspace.there;
  args.workspace_bytes = s->workspace.bytes;
  return args;
}

void queue_attention(const server *s, const fovea_attention_args *args) {
  must(fovea_attention(s->handle, args, s->device->stream()), "fovea_attention");
}

static void queue_step(void *context, int recording) {
  const server *s = context;
  int32_t rows = recorded_rows[recording];
  fovea_kv_append_args append = append_args(s, rows);
  fovea_attention_args attention = attention_args(s, rows);
  queue_append(s, &append, rows);
  queue_attention(s, &attention);
}

/* ---- The loop ---- */

static void fill_rope(server *s) {
  float(*cosines)[DIM / 2] = s->cosines.here, (*sines)[DIM / 2] = s->sines.here;
  for (int position = 0; position < LONGEST; ++position) {
    for (int d = 0; d < DIM / 2; ++d) {
      double angle = position * pow(10000, -2.0 * d / DIM);
      cosines[position][d] = (float)cos(angle);
      sines[position][d] = (float)sin(angle);
    }
  }
  s->device->upload(&s->cosines);
  s->device->upload(&s->sines);
}

static void allocate(server *s, size_t workspace_bytes) {
  twin (*get)(size_t) = s->device->allocate;
  s->input = get(sizeof(step_input));
  s->queries = get(sizeof(float) * ROWS * HEADS_Q * DIM);
  s->out = get(sizeof(float) * ROWS * HEADS_Q * DIM);
  s->errors = get(sizeof(uint32_t) * SEQUENCES);
  s->k_cache = get(sizeof(uint16_t) * PAGES * PAGE_LEN * HEADS_KV * DIM);
  s->v_cache = get(sizeof(uint16_t) * PAGES * PAGE_LEN * HEADS_KV * DIM);
  s->k_dense = get(sizeof(uint16_t) * LONGEST * HEADS_KV * DIM);
  s->v_dense = get(sizeof(uint16_t) * LONGEST * HEADS_KV * DIM);
  s->cosines = get(sizeof(float) * LONGEST * DIM / 2);
  s->sines = get(sizeof(float) * LONGEST * DIM / 2);
  s->workspace = get(workspace_bytes);
}

/* What the device covers, before anything relies on it. */
static void ask(server *s) {
  fovea_support support = {.struct_size = sizeof support};
  fovea_kv_append_args append = append_args(s, ROWS);
  fovea_attention_args attention = attention_args(s, ROWS);
  add_queries(s, &append, ROWS);
  must(fovea_kv_append_support(s->handle, &append, &support), "fovea_kv_append_support");
  s->appends_prepare_queries = support.supported;
  if (!support.supported)
    printf("queries are appended by a call of their own: %s\n", support.reason);
  must(fovea_attention_support(s->handle, &attention, &support), "fovea_attention_support");
  stop_unless(support.supported, support.reason);
  printf("attention by %s\n", support.kernel);
}

static void start(server *s) {
  fovea_options options = {.struct_size = sizeof options, .device = s->device->kind};
  must(fovea_create(&options, &s->handle), "fovea_create");
  s->device->open();
  fovea_limits limits = {.struct_size = sizeof limits, .dim = DIM, .dim_v = DIM};
  limits.heads_q = HEADS_Q;
  limits.heads_kv = HEADS_KV;
  limits.sequences = SEQUENCES;
  limits.total_q = ROWS;
  limits.len_kv = LONGEST;
  size_t bytes;
  must(fovea_attention_workspace(s->handle, &limits, &bytes), "fovea_attention_workspace");
  allocate(s, bytes);
  ask(s);
  /* Loads the kernels of all later calls, which a capture may not do. */
  must(fovea_prepare(s->handle, &limits), "fovea_prepare");
  fill_rope(s);
  for (int p = 0; p < PAGES; ++p) s->free_pages[s->free_count++] = p;
  for (int i = 0; i < SEQUENCES; ++i) forget_pages(s->input.here, i);
  for (int i = 0; i < RECORDINGS; ++i) s->device->record(i, queue_step, s);
}

static void run_step(server *s) {
  const step_input *in = s->input.here;
  int recording = 0;
  admit(s);
  int32_t rows = fill_batch(s);
  while (recorded_rows[recording] < rows) ++recording;
  memset(s->errors.here, 0, s->errors.bytes);
  s->device->upload(&s->input);
  s->device->upload(&s->errors);
  s->device->replay(recording, queue_step, s);
  s->device->download(&s->out);
  s->device->download(&s->errors);
  s->device->wait();
  double worst = check_step(s);
  printf("step %2d: %3d new tokens, %s %d rows;", s->step, rows, s->device->by,
         recorded_rows[recording]);
  for (int i = 0; i < s->count; ++i) {
    printf(" request %d holds %d,", s->running[i].request, in->lengths[i]);
  }
  printf(" %d of %d pages free; worst error %.2f of its bound\n", s->free_count, PAGES, worst);
  for (int i = s->count; i-- > 0;) {
    if (in->lengths[i] == life_of(s->running[i].request)) finish(s, i);
  }
}

/* ---- The command line ---- */

static const char help[] =
    "usage: decode [--device cpu|cuda] [--reproducible run|batch|phase]\n"
    "\n"
    "A server's loop: five requests of different lengths share a paged cache, three at a time.\n"
    "Each step appends the new tokens of prompts and of sequences that decode, and attends to\n"
    "all, in one packed batch. On a GPU the calls of a step are a captured CUDA graph: one with\n"
    "room for a token of each sequence, one for prompts. Lengths, offsets and pages change in\n"
    "device memory. Every row of every step is compared with a plain loop in double precision.\n"
    "When a request is done, its rows are computed once more by one call on dense memory.\n"
    "\n"
    "  --device        cpu (the default) or cuda. Without a GPU, on the software GPU:\n"
    "                  FOVEA_SIMGPU=1 FOVEA_CUDA_DRIVER=build/libsimgpu.so decode --device cuda\n"
    "  --reproducible  how far bits are promised (default: phase). phase: a decoded token has\n"
    "                  the bits of the one call, or the program fails. run and batch promise\n"
    "                  less, and may be faster: the program says how many rows are the same\n"
    "\n"
    "Exit status: 0 every row was right, 1 one was not, or the device is missing, 2 usage.\n";

static const device *device_named(const char *name) {
  if (strcmp(name, "cpu") == 0) return &cpu_device;
  if (strcmp(name, "cuda") != 0) return NULL;
#ifdef DECODE_CUDA
  return &cuda_device;
#else
  fputs("decode: this build has no CUDA; see FOVEA_CUDA in cmake/FoveaCuda.cmake\n", stderr);
  exit(1);
#endif
}

static bool take_option(server *s, const char *name, const char *value) {
  static const char *const levels[] = {"run", "batch", "phase"}; /* as fovea_reproducible */
  if (strcmp(name, "--device") == 0) return (s->device = device_named(value)) != NULL;
  if (strcmp(name, "--reproducible") != 0) return false;
  for (uint32_t level = 0; level < sizeof levels / sizeof levels[0]; ++level) {
    if (strcmp(value, levels[level]) != 0) continue;
    s->reproducible = level;
    return true;
  }
  return false;
}

static void read_options(server *s, int count, char **words) {
  if (count == 2 && strcmp(words[1], "--help") == 0) {
    fputs(help, stdout);
    exit(0);
  }
  for (int i = 1; i < count; i += 2) {
    if (i + 1 < count && take_option(s, words[i], words[i + 1])) continue;
    fprintf(stderr, "decode: what is '%s'?\n%s", words[i], help);
    exit(2);
  }
}

int main(int count, char **words) {
  static server s = {.device = &cpu_device, .reproducible = FOVEA_REPRODUCIBLE_PHASE};
  read_options(&s, count, words);
  s.dtype = s.device->kind == FOVEA_DEVICE_CUDA ? FOVEA_BF16 : FOVEA_F32;
  start(&s);
  for (; s.arrived < REQUESTS || s.count > 0; ++s.step) run_step(&s);
  stop_unless(s.free_count == PAGES, "pages were lost");
  printf("%d requests in %d steps, every row right\n", REQUESTS, s.step);
  s.device->close();
  fovea_destroy(s.handle);
}

/* decode.c - the loop of an inference server. Requests of different lengths arrive, share one paged
 * key/value cache, grow by a token per step and leave. A step can mix new prompts with tokens that
 * are being generated. Whatever the mixture, a step is two calls:
 *
 *   fovea_kv_append   rotates the new keys (RoPE), rounds them to bf16, puts them into their pages
 *   fovea_attention   reads the pages through the page table; lengths and offsets delimit sequences
 *
 * Nothing is allocated after the start: the workspace is sized once, for all steps, from limits.
 *
 * This example has no model. Queries, keys and values come from a hash of (request, position, head,
 * element), so they can be computed again. Every row of every step is compared with a plain loop in
 * double precision that knows no pages. */
#include <fovea.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  HEADS_Q = 4,
  HEADS_KV = 2,
  DIM = 16,
  PAGE_LEN = 4,
  PAGES = 12,     /* of the cache, shared by all sequences */
  PAGES_EACH = 8, /* of one sequence, at most */
  SEQUENCES = 3,  /* at a time */
  ROWS = 32       /* new tokens in a step, at most */
};

static const struct request {
  int arrives; /* at this step */
  int32_t prompt, wanted;
} requests[] = {{0, 9, 4}, {0, 3, 9}, {2, 14, 3}, {3, 5, 2}, {4, 1, 6}};
enum { REQUESTS = sizeof requests / sizeof requests[0] };

typedef struct sequence {
  int request;
  int32_t pages; /* it holds the first `pages` entries of its row of the page table */
} sequence;

typedef struct server {
  fovea_handle *handle;
  void *workspace;
  size_t workspace_bytes;
  int step, arrived;

  /* The cache, its free pages, and how many pages are promised to running sequences. */
  uint16_t k_cache[PAGES][PAGE_LEN][HEADS_KV][DIM]; /* bf16 */
  uint16_t v_cache[PAGES][PAGE_LEN][HEADS_KV][DIM];
  int32_t free_pages[PAGES];
  int32_t free_count, promised;
  float cosines[PAGES_EACH * PAGE_LEN][DIM / 2], sines[PAGES_EACH * PAGE_LEN][DIM / 2];

  /* The batch: what a call reads. Row s of each array belongs to running[s]. */
  sequence running[SEQUENCES];
  int32_t count;
  int32_t page_table[SEQUENCES][PAGES_EACH];
  int32_t lengths[SEQUENCES];     /* tokens in the cache */
  int32_t offsets[SEQUENCES + 1]; /* where each sequence's new rows begin */
  uint32_t errors[SEQUENCES];
  float q[ROWS][HEADS_Q][DIM], k_new[ROWS][HEADS_KV][DIM], v_new[ROWS][HEADS_KV][DIM];
  float out[ROWS][HEADS_Q][DIM];
} server;

static void stop_unless(bool fine, const char *what) {
  if (fine) return;
  fprintf(stderr, "decode: %s: %s\n", what, fovea_error_detail());
  exit(1);
}

/* ---- The model's part ---- */

/* Element d of the query, key or value of a token: from -1 to 1, always the same. */
static float element(char which, int request, int32_t position, int head, int d) {
  uint32_t x = (uint32_t)which * 0x9e3779b1u ^ (uint32_t)request * 0x85ebca6bu ^
               (uint32_t)position * 0xc2b2ae35u ^ (uint32_t)head * 0x27d4eb2fu ^ (uint32_t)d;
  x = (x ^ x >> 15) * 0x2c1b3c6du;
  x = (x ^ x >> 12) * 0x297a2d39u;
  return (float)((x ^ x >> 15) >> 8) * 0x1p-23f - 1;
}

static void fill(float row[DIM], char which, int request, int32_t position, int head) {
  for (int d = 0; d < DIM; ++d) row[d] = element(which, request, position, head, d);
}

/* RoPE in the half-split style, for the check: fovea_kv_append rotates queries and keys. */
static void rotate(const server *s, float row[DIM], int32_t position) {
  for (int d = 0; d < DIM / 2; ++d) {
    float x = row[d], y = row[d + DIM / 2];
    row[d] = x * s->cosines[position][d] - y * s->sines[position][d];
    row[d + DIM / 2] = y * s->cosines[position][d] + x * s->sines[position][d];
  }
}

/* ---- Pages and sequences ---- */

static int32_t pages_for(int32_t tokens) {
  return (tokens + PAGE_LEN - 1) / PAGE_LEN;
}

static int32_t life_of(int request) {
  return requests[request].prompt + requests[request].wanted;
}

/* Lets requests in while there is room for all that they will ever need. */
static void admit(server *s) {
  while (s->arrived < REQUESTS && requests[s->arrived].arrives <= s->step) {
    int32_t needed = pages_for(life_of(s->arrived));
    if (s->count == SEQUENCES || s->promised + needed > PAGES) {
      printf("  request %d waits\n", s->arrived);
      return;
    }
    s->promised += needed;
    s->running[s->count] = (sequence){s->arrived++, 0};
    s->lengths[s->count++] = 0;
  }
}

static void finish(server *s, int i) {
  sequence *gone = &s->running[i];
  printf("  request %d is done and returns %d pages\n", gone->request, gone->pages);
  s->promised -= pages_for(life_of(gone->request));
  for (int p = 0; p < gone->pages; ++p) s->free_pages[s->free_count++] = s->page_table[i][p];
  int last = --s->count; /* takes the free place in the batch */
  s->running[i] = s->running[last];
  s->lengths[i] = s->lengths[last];
  memcpy(s->page_table[i], s->page_table[last], sizeof s->page_table[i]);
}

/* Packs the new tokens of all sequences, and gives them the pages that they need. */
static void fill_batch(server *s) {
  int32_t row = 0;
  for (int i = 0; i < s->count; ++i) {
    int request = s->running[i].request;
    int32_t begin = s->lengths[i], end = begin ? begin + 1 : requests[request].prompt;
    while (s->running[i].pages < pages_for(end)) {
      s->page_table[i][s->running[i].pages++] = s->free_pages[--s->free_count];
    }
    s->offsets[i] = row;
    for (int32_t position = begin; position < end; ++position, ++row) {
      stop_unless(row < ROWS, "more new tokens than ROWS");
      for (int h = 0; h < HEADS_Q; ++h) fill(s->q[row][h], 'q', request, position, h);
      for (int h = 0; h < HEADS_KV; ++h) {
        fill(s->k_new[row][h], 'k', request, position, h);
        fill(s->v_new[row][h], 'v', request, position, h);
      }
    }
  }
  s->offsets[s->count] = row;
}

/* ---- The two calls ---- */

static fovea_pages pages_of(const server *s) {
  return (fovea_pages){.ids = s->page_table[0], .row_stride = PAGES_EACH, .count = PAGES_EACH};
}

static void append(server *s) {
  int32_t rows = s->offsets[s->count];
  fovea_kv_append_args args = {.struct_size = sizeof args, .sequences.count = s->count};
  args.k_new = fovea_contiguous(s->k_new, FOVEA_F32, 1, rows, HEADS_KV, DIM);
  args.v_new = fovea_contiguous(s->v_new, FOVEA_F32, 1, rows, HEADS_KV, DIM);
  args.q = fovea_contiguous(s->q, FOVEA_F32, 1, rows, HEADS_Q, DIM);
  args.q_out = args.q; /* in place */
  args.k_cache = fovea_contiguous(s->k_cache, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.v_cache = fovea_contiguous(s->v_cache, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.sequences.q_offsets = s->offsets;
  args.sequences.kv_lengths = s->lengths; /* before this step: new tokens go to these places */
  args.sequences.pages = pages_of(s);
  args.rope.cos = s->cosines[0];
  args.rope.sin = s->sines[0];
  args.rope.rows = PAGES_EACH * PAGE_LEN;
  args.rope.stride = DIM / 2;
  args.rope.rotary_dim = DIM;
  args.errors = s->errors;
  stop_unless(fovea_kv_append(s->handle, &args, NULL) == FOVEA_OK, "fovea_kv_append");
}

static void attend(server *s) {
  int32_t rows = s->offsets[s->count];
  fovea_attention_args args = {
      .struct_size = sizeof args, .sequences.count = s->count, .visibility.causal = 1};
  args.q = fovea_contiguous(s->q, FOVEA_F32, 1, rows, HEADS_Q, DIM);
  args.k = fovea_contiguous(s->k_cache, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.v = fovea_contiguous(s->v_cache, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.out = fovea_contiguous(s->out, FOVEA_F32, 1, rows, HEADS_Q, DIM);
  args.sequences.q_offsets = s->offsets;
  args.sequences.kv_lengths = s->lengths; /* after this step */
  args.sequences.pages = pages_of(s);
  args.errors = s->errors;
  args.workspace = s->workspace;
  args.workspace_bytes = s->workspace_bytes;
  stop_unless(fovea_attention(s->handle, &args, NULL) == FOVEA_OK, "fovea_attention");
}

/* ---- The check ---- */

/* Rounds to nearest even. The values here are finite. */
static double rounded_to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* scale * q.k, with the key computed again. *size is the same sum with magnitudes. */
static double logit(const server *s, const float q[DIM], int request, int32_t key, int head,
                    double *size) {
  float k[DIM];
  double dot = 0;
  *size = 0;
  fill(k, 'k', request, key, head);
  rotate(s, k, key);
  for (int d = 0; d < DIM; ++d) {
    double product = q[d] * rounded_to_bf16(k[d]) / sqrt(DIM);
    dot += product;
    *size += fabs(product);
  }
  return dot;
}

/* The error of one row of one head, relative to the bound on f32 arithmetic, 8 u (1 + S). u is
 * 2^-24, S the largest sum of magnitudes behind a logit, and no value is larger than 1. */
static double row_error(const server *s, int32_t row, int request, int32_t position, int head) {
  double out[DIM] = {0}, sum = 0, largest = 0, worst = 0;
  float q[DIM];
  fill(q, 'q', request, position, head);
  rotate(s, q, position);
  int kv_head = head / (HEADS_Q / HEADS_KV);
  for (int32_t key = 0; key <= position; ++key) {
    double size, weight = exp(logit(s, q, request, key, kv_head, &size));
    if (size > largest) largest = size;
    sum += weight;
    for (int d = 0; d < DIM; ++d) {
      out[d] += weight * rounded_to_bf16(element('v', request, key, kv_head, d));
    }
  }
  for (int d = 0; d < DIM; ++d) {
    double error = fabs(s->out[row][head][d] - out[d] / sum);
    if (!(error <= worst)) worst = error; /* a NaN stays */
  }
  return worst / (8 * 0x1p-24 * (1 + largest));
}

static double check(const server *s) {
  double worst = 0;
  for (int i = 0; i < s->count; ++i) {
    stop_unless(s->errors[i] == 0, "a sequence reported bad data");
    for (int32_t row = s->offsets[i]; row < s->offsets[i + 1]; ++row) {
      int32_t position = s->lengths[i] - (s->offsets[i + 1] - row);
      for (int h = 0; h < HEADS_Q; ++h) {
        double error = row_error(s, row, s->running[i].request, position, h);
        if (!(error <= worst)) worst = error;
      }
    }
  }
  stop_unless(worst <= 1, "a row differs from the plain loop");
  return worst;
}

/* ---- The loop ---- */

static void start(server *s) {
  stop_unless(fovea_create(NULL, &s->handle) == FOVEA_OK, "fovea_create");
  fovea_limits limits = {.struct_size = sizeof limits, .dim = DIM, .dim_v = DIM};
  limits.heads_q = HEADS_Q;
  limits.heads_kv = HEADS_KV;
  limits.sequences = SEQUENCES;
  limits.total_q = ROWS;
  limits.len_kv = PAGES_EACH * PAGE_LEN;
  stop_unless(fovea_attention_workspace(s->handle, &limits, &s->workspace_bytes) == FOVEA_OK,
              "fovea_attention_workspace");
  stop_unless(!posix_memalign(&s->workspace, 256, s->workspace_bytes), "no memory");
  /* Loads the kernels of all later calls, if the device has any to load. */
  stop_unless(fovea_prepare(s->handle, &limits) == FOVEA_OK, "fovea_prepare");

  for (int p = 0; p < PAGES; ++p) s->free_pages[s->free_count++] = p;
  for (int position = 0; position < PAGES_EACH * PAGE_LEN; ++position) {
    for (int d = 0; d < DIM / 2; ++d) {
      double angle = position * pow(10000, -2.0 * d / DIM);
      s->cosines[position][d] = (float)cos(angle);
      s->sines[position][d] = (float)sin(angle);
    }
  }
}

static void run_step(server *s) {
  admit(s);
  fill_batch(s);
  append(s);
  for (int i = 0; i < s->count; ++i) s->lengths[i] += s->offsets[i + 1] - s->offsets[i];
  attend(s);
  double worst = check(s);
  printf("step %2d: %2d new tokens;", s->step, s->offsets[s->count]);
  for (int i = 0; i < s->count; ++i) {
    printf(" request %d holds %d,", s->running[i].request, s->lengths[i]);
  }
  printf(" %d of %d pages free; worst error %.2f of its bound\n", s->free_count, PAGES, worst);
  for (int i = s->count; i-- > 0;) {
    if (s->lengths[i] == life_of(s->running[i].request)) finish(s, i);
  }
}

int main(void) {
  static server s;
  start(&s);
  for (; s.arrived < REQUESTS || s.count > 0; ++s.step) run_step(&s);
  stop_unless(s.free_count == PAGES, "pages were lost");
  printf("%d requests in %d steps, every row right\n", REQUESTS, s.step);
  free(s.workspace);
  fovea_destroy(s.handle);
}

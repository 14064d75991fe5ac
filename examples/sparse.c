/* sparse.c - a token attends to the pages that matter, and to no others. Its cache has 32768 keys.
 * Each kv head reads 2048 of them, by a choice of its own:
 *
 *   1. every page has a summary: the least and the largest element of its keys, per channel. It is
 *      made once, when the page is full;
 *   2. a query and a summary bound the logits of the page's keys from above (Tang et al., Quest,
 *      2024). The pages with the largest bounds are chosen, for each kv head;
 *   3. their ids become a short page table. fovea_attention reads the same cache through it.
 *
 * This example has no model. Stretches of the text are about topics, and a query asks for one. The
 * program compares the result with that of all keys, and every selected row with a plain loop in
 * double precision. */
#include <fovea.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  HEADS_Q = 8,
  HEADS_KV = 4,
  GROUP = HEADS_Q / HEADS_KV,
  DIM = 128,
  PAGE_LEN = 32,
  KEYS = 32768 - 5, /* the last page is not full */
  PAGES = (KEYS + PAGE_LEN - 1) / PAGE_LEN,
  CHOSEN = 64, /* pages of each kv head */
  TOPICS = 64,
  RUNS = 20
};

typedef struct cache_page {
  uint16_t x[PAGE_LEN][HEADS_KV][DIM]; /* bf16 */
} cache_page;

typedef struct summary {
  float least[DIM], largest[DIM];
} summary;

typedef struct server {
  fovea_handle *handle;
  void *workspace;
  size_t workspace_bytes;
  cache_page *k, *v;
  summary (*summaries)[PAGES]; /* [HEADS_KV] */
  float q[HEADS_Q][DIM];

  int32_t all[PAGES]; /* the page table of all keys, in order */
  int32_t all_length[1];
  int32_t chosen[HEADS_KV][CHOSEN]; /* the page tables of the kv heads */
  int32_t chosen_lengths[HEADS_KV];
} server;

typedef struct result {
  float out[HEADS_Q][DIM], lse[HEADS_Q];
  uint32_t errors[1];
} result;

static void stop_unless(bool fine, const char *what) {
  if (fine) return;
  fprintf(stderr, "sparse: %s: %s\n", what, fovea_error_detail());
  exit(1);
}

static double now(void) {
  struct timespec t;
  timespec_get(&t, TIME_UTC);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- The model's part ---- */

/* A number from -1 to 1, always the same for the same place. */
static float element(char which, uint32_t a, uint32_t b, uint32_t d) {
  uint32_t x = (uint32_t)which * 0x9e3779b1u ^ a * 0x85ebca6bu ^ b * 0xc2b2ae35u ^ d * 0x27d4eb2fu;
  x = (x ^ x >> 15) * 0x2c1b3c6du;
  x = (x ^ x >> 12) * 0x297a2d39u;
  return (float)((x ^ x >> 15) >> 8) * 0x1p-23f - 1;
}

static float sign_of(char which, uint32_t topic, uint32_t head, uint32_t d) {
  return element(which, topic, head, d) < 0 ? -1.0f : 1.0f;
}

/* What a page is about: the same for four pages in a row. */
static uint32_t topic_of(uint32_t page) {
  return (uint32_t)(int32_t)((element('t', page / 4, 0, 0) + 1) * (TOPICS / 2)) % TOPICS;
}

static uint16_t to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t x) {
  uint32_t bits = (uint32_t)x << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* A key points to its page's topic, and so does a value; both with noise. */
static void fill_page(server *s, uint32_t page) {
  uint32_t topic = topic_of(page);
  for (uint32_t slot = 0; slot < PAGE_LEN; ++slot) {
    for (uint32_t h = 0; h < HEADS_KV; ++h) {
      for (uint32_t d = 0; d < DIM; ++d) {
        uint32_t key = page * PAGE_LEN + slot;
        float k = 0.7f * sign_of('u', topic, h, d) + element('k', key, h, d);
        float v = sign_of('w', topic, h, d) + element('v', key, h, d);
        s->k[page].x[slot][h][d] = to_bf16(k);
        s->v[page].x[slot][h][d] = to_bf16(v);
      }
    }
  }
}

/* Each query head asks for a topic of its own. */
static void fill_queries(server *s) {
  for (uint32_t h = 0; h < HEADS_Q; ++h) {
    uint32_t topic = topic_of(h * 97 + 5);
    for (uint32_t d = 0; d < DIM; ++d) {
      s->q[h][d] = sign_of('u', topic, h / GROUP, d) + element('q', 0, h, d);
    }
  }
}

/* ---- Which pages matter ---- */

static void summarise_page(server *s, int32_t page) {
  for (int h = 0; h < HEADS_KV; ++h) {
    summary *sum = &s->summaries[h][page];
    for (int d = 0; d < DIM; ++d) {
      sum->least[d] = INFINITY;
      sum->largest[d] = -INFINITY;
    }
    for (int slot = 0; slot < PAGE_LEN && page * PAGE_LEN + slot < KEYS; ++slot) {
      for (int d = 0; d < DIM; ++d) {
        float x = from_bf16(s->k[page].x[slot][h][d]);
        sum->least[d] = x < sum->least[d] ? x : sum->least[d];
        sum->largest[d] = x > sum->largest[d] ? x : sum->largest[d];
      }
    }
  }
}

/* No key of the page has a larger product with the query. */
static float bound(const float q[DIM], const summary *page) {
  enum { LANES = 16 }; /* sums that do not wait for each other */
  float sums[LANES] = {0}, total = 0;
  for (int d = 0; d < DIM; d += LANES) {
    for (int i = 0; i < LANES; ++i) {
      float low = q[d + i] * page->least[d + i], high = q[d + i] * page->largest[d + i];
      sums[i] += low > high ? low : high;
    }
  }
  for (int i = 0; i < LANES; ++i) total += sums[i];
  return total;
}

typedef struct candidate {
  float score;
  int32_t page;
} candidate;

static int by_score(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->score != y->score) return x->score < y->score ? 1 : -1;
  return x->page < y->page ? -1 : 1;
}

/* Writes a kv head's page table. The last page is always chosen, since it holds the newest tokens,
 * and stands last: it is not full, and a length cuts the end of a table. */
static void choose_pages(server *s, int h) {
  candidate candidates[PAGES - 1];
  for (int32_t page = 0; page < PAGES - 1; ++page) {
    float score = -INFINITY;
    for (int i = h * GROUP; i < (h + 1) * GROUP; ++i) {
      float of_head = bound(s->q[i], &s->summaries[h][page]);
      score = of_head > score ? of_head : score;
    }
    candidates[page] = (candidate){score, page};
  }
  qsort(candidates, PAGES - 1, sizeof candidates[0], by_score);
  for (int i = 0; i < CHOSEN - 1; ++i) s->chosen[h][i] = candidates[i].page;
  s->chosen[h][CHOSEN - 1] = PAGES - 1;
  s->chosen_lengths[h] = CHOSEN * PAGE_LEN - (PAGES * PAGE_LEN - KEYS);
}

/* ---- The calls ---- */

static fovea_attention_args arguments(const server *s, result *r) {
  fovea_attention_args args = {.struct_size = sizeof args, .visibility.causal = 1};
  args.q = fovea_contiguous((void *)s->q, FOVEA_F32, 1, 1, HEADS_Q, DIM);
  args.k = fovea_contiguous(s->k, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.v = fovea_contiguous(s->v, FOVEA_BF16, PAGES, PAGE_LEN, HEADS_KV, DIM);
  args.out = fovea_contiguous(r->out, FOVEA_F32, 1, 1, HEADS_Q, DIM);
  args.lse = fovea_contiguous(r->lse, FOVEA_F32, 1, 1, HEADS_Q, 1);
  args.errors = r->errors;
  args.workspace = s->workspace;
  args.workspace_bytes = s->workspace_bytes;
  return args;
}

static void attend_to_all(const server *s, result *r) {
  fovea_attention_args args = arguments(s, r);
  args.sequences.kv_lengths = s->all_length;
  args.sequences.pages.ids = s->all;
  args.sequences.pages.row_stride = args.sequences.pages.count = PAGES;
  stop_unless(fovea_attention(s->handle, &args, NULL) == FOVEA_OK, "fovea_attention");
}

static void attend_to_chosen(const server *s, result *r) {
  fovea_attention_args args = arguments(s, r);
  args.positions.selected = 1; /* the order of the table says nothing about positions */
  args.sequences.pages.ids = s->chosen[0];
  args.sequences.pages.head_lengths = s->chosen_lengths;
  args.sequences.pages.head_stride = args.sequences.pages.count = CHOSEN;
  args.sequences.pages.row_stride = HEADS_KV * CHOSEN; /* to the next sequence's tables */
  stop_unless(fovea_attention(s->handle, &args, NULL) == FOVEA_OK, "fovea_attention");
}

/* ---- The checks ---- */

/* The largest error of a head's row relative to the bound on f32 arithmetic, 8 u (1 + S) times the
 * largest value. S is the largest sum of magnitudes behind a logit. */
static double row_error(const server *s, const result *r, int head) {
  double out[DIM] = {0}, sum = 0, size = 0, worst = 0;
  int h = head / GROUP;
  for (int32_t j = 0; j < s->chosen_lengths[h]; ++j) {
    const cache_page *k = &s->k[s->chosen[h][j / PAGE_LEN]];
    const cache_page *v = &s->v[s->chosen[h][j / PAGE_LEN]];
    double logit = 0, magnitude = 0;
    for (int d = 0; d < DIM; ++d) {
      double product =
          (double)s->q[head][d] * (double)from_bf16(k->x[j % PAGE_LEN][h][d]) / sqrt(DIM);
      logit += product;
      magnitude += fabs(product);
    }
    size = fmax(size, magnitude);
    sum += exp(logit);
    for (int d = 0; d < DIM; ++d) {
      out[d] += exp(logit) * (double)from_bf16(v->x[j % PAGE_LEN][h][d]);
    }
  }
  for (int d = 0; d < DIM; ++d) {
    double error = fabs((double)r->out[head][d] - out[d] / sum);
    if (!(error <= worst)) worst = error; /* a NaN stays */
  }
  return worst / (2 * 8 * 0x1p-24 * (1 + size)); /* no value is larger than 2 */
}

/* How far the chosen keys' result is from that of all keys, relative to its size; and the least
 * share of a head's weight that the chosen keys have. That share follows from the LSEs alone. */
static void compare(const result *all, const result *chosen, double *error, double *kept) {
  double difference = 0, size = 0;
  *kept = 1;
  for (int h = 0; h < HEADS_Q; ++h) {
    *kept = fmin(*kept, exp((double)chosen->lse[h] - (double)all->lse[h]));
    for (int d = 0; d < DIM; ++d) {
      double a = (double)all->out[h][d], b = (double)chosen->out[h][d];
      difference += (a - b) * (a - b);
      size += a * a;
    }
  }
  *error = sqrt(difference / size);
}

/* ---- The measurement ---- */

static double median(double seconds[RUNS]) {
  for (int i = 1; i < RUNS; ++i) {
    for (int j = i; j > 0 && seconds[j] < seconds[j - 1]; --j) {
      double swap = seconds[j];
      seconds[j] = seconds[j - 1];
      seconds[j - 1] = swap;
    }
  }
  return seconds[RUNS / 2];
}

static void measure(server *s, result *all, result *chosen) {
  double full[RUNS], choice[RUNS], sparse[RUNS], error, kept;
  for (int run = 0; run < RUNS; ++run) {
    double begin = now();
    attend_to_all(s, all);
    full[run] = now() - begin;
    begin = now();
    for (int h = 0; h < HEADS_KV; ++h) choose_pages(s, h);
    choice[run] = now() - begin;
    begin = now();
    attend_to_chosen(s, chosen);
    sparse[run] = now() - begin;
  }
  compare(all, chosen, &error, &kept);
  double before = median(full), after = median(choice) + median(sparse);
  printf("all keys       %5d keys of each kv head   %7.3f ms\n", KEYS, 1e3 * before);
  printf("chosen pages   %5d keys of each kv head   %7.3f ms, and %.3f ms to choose them\n",
         s->chosen_lengths[0], 1e3 * median(sparse), 1e3 * median(choice));
  printf(
      "%.1f times as fast; %.1f %% of the weight kept, or more; error %.3f of the result's size\n",
      before / after, 100 * kept, error);
  stop_unless(all->errors[0] == 0 && chosen->errors[0] == 0, "bad data was reported");
  stop_unless(kept > 0.9 && kept <= 1.0001 && error < 0.1, "the wrong pages were chosen");
}

static void start(server *s) {
  stop_unless(fovea_create(NULL, &s->handle) == FOVEA_OK, "fovea_create");
  fovea_limits limits = {.struct_size = sizeof limits, .dim = DIM, .dim_v = DIM};
  limits.heads_q = HEADS_Q;
  limits.heads_kv = HEADS_KV;
  limits.sequences = limits.total_q = 1;
  limits.len_kv = PAGES * PAGE_LEN;
  stop_unless(fovea_attention_workspace(s->handle, &limits, &s->workspace_bytes) == FOVEA_OK,
              "fovea_attention_workspace");
  stop_unless(!posix_memalign(&s->workspace, 256, s->workspace_bytes), "no memory");
  s->k = malloc(PAGES * sizeof *s->k);
  s->v = malloc(PAGES * sizeof *s->v);
  s->summaries = malloc(HEADS_KV * sizeof *s->summaries);
  stop_unless(s->k && s->v && s->summaries, "no memory");
  for (int32_t page = 0; page < PAGES; ++page) {
    fill_page(s, (uint32_t)page);
    summarise_page(s, page);
    s->all[page] = page;
  }
  s->all_length[0] = KEYS;
  fill_queries(s);
}

int main(void) {
  static server s;
  static result all, chosen;
  double worst = 0;
  start(&s);
  measure(&s, &all, &chosen);
  for (int head = 0; head < HEADS_Q; ++head) worst = fmax(worst, row_error(&s, &chosen, head));
  stop_unless(worst <= 1, "a row differs from the plain loop");
  printf("every selected row right; worst error %.2f of its bound\n", worst);
  free(s.k);
  free(s.v);
  free(s.summaries);
  free(s.workspace);
  fovea_destroy(s.handle);
}

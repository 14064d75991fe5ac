/* attention_cpu.c - attention over tiles of keys with online softmax (Milakov and Gimelshein 2018;
 * Dao et al. 2022), in memory that does not grow with the number of keys.
 *
 * A tile is up to tile_q rows of one sequence and one kv head, where a row is a pair (position,
 * query head of the group), so that the heads of a group share each load of their keys. For every
 * key tile that some row sees:
 *
 *   load k, transposed;  s = q k;  hide and bias;  load v;  s = exp(s - max), rescale;  out += s v
 *
 * Key tiles start at absolute multiples of FV_TILE_KV, and a key tile that a row sees nothing of
 * leaves the row's state as it was, bit by bit. So a row's bits depend on nothing but its own
 * query, its keys and its masks: every level of reproducibility holds.
 *
 * Workers take tiles from a shared counter; each walks the sequences itself, which costs less than
 * a table of tiles and allocates nothing. */
#include "attention_cpu.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "element.h"
#include "row_mask.h"
#include "tile_kernels.h"
#include "tile_scratch.h"

enum { MAX_TILE_Q = 48 };

static const float log2_e = 1.44269504f;

typedef struct job {
  const fv_problem *problem;
  const fv_plan *plan;
  const fv_tile_kernels *kernels;
  fv_tile_layout layout;
  float score_factor; /* the exponent's base-2 logarithm per unit of score */
  bool natural;       /* scores are turned into natural logits before softmax */
  atomic_llong next_tile;
} job;

/* One tile in the making. */
typedef struct tile {
  const job *job;
  const fv_problem *problem;
  const fv_sequence *sequence;
  int64_t kv_head;
  int64_t row_begin; /* first row of the tile, in (position, head of the group) pairs */
  int32_t rows;
  uint32_t errors;
  fv_row_mask masks[MAX_TILE_Q];
  float maximum[MAX_TILE_Q];
  float sum[MAX_TILE_Q];
  float rescale[MAX_TILE_Q];
  bool live[FV_TILE_KV]; /* keys of this key tile that were loaded */
  bool seen[FV_TILE_KV]; /* keys that some row sees */
  float *q, *k, *v, *scores, *out, *row;
} tile;

static int64_t row_position(const tile *t, int32_t r) {
  return (t->row_begin + r) / t->problem->group;
}

static int64_t row_head(const tile *t, int32_t r) {
  return t->kv_head * t->problem->group + (t->row_begin + r) % t->problem->group;
}

/* ---- Loading ---- */

/* Row [place, head] of x times its scale, as f32. */
static void load_row(const tile *t, const fovea_tensor *x, const fovea_tensor *scale,
                     fv_place place, int64_t head, int32_t dim, float *row) {
  int64_t offset = fv_row_offset(x, place.outer, place.inner, head);
  const char *from = (const char *)x->data + offset * fv_dtype_bytes(x->dtype);
  t->job->kernels->widen(row, from, x->dtype, dim);
  if (scale->dtype == FOVEA_NONE) return;
  int32_t blocks = (int32_t)scale->shape[3], block_dim = dim / blocks;
  for (int32_t b = 0; b < blocks; ++b) {
    float factor = fv_scale_at(scale, place.outer, place.inner, head, b * block_dim, dim);
    for (int32_t d = 0; d < block_dim; ++d) row[b * block_dim + d] *= factor;
  }
}

static void load_queries(tile *t) {
  const fv_problem *p = t->problem;
  for (int32_t r = 0; r < t->rows; ++r) {
    int64_t position = row_position(t, r), head = row_head(t, r);
    fv_place place = {t->sequence->q_batch, t->sequence->q_begin + position};
    load_row(t, &p->args.q, &p->args.q_scale, place, head, p->dim, t->q + (int64_t)r * p->dim);
    t->masks[r] = fv_row_mask_for(p, t->sequence, position, head);
    t->maximum[r] = -INFINITY;
    t->sum[r] = 0;
  }
  memset(t->out, 0, (size_t)t->rows * (size_t)fv_padded_dim(p->dim_v) * sizeof *t->out);
}

/* Whether some row of the tile sees the key by position. Rows are consecutive positions, so the
 * first and the last window decide (shape.h). */
static bool tile_sees_position(const tile *t, int64_t key) {
  const fv_row_mask *front = &t->masks[0], *back = &t->masks[t->rows - 1];
  if (key < front->first || key >= front->len) return false;
  return key < front->prefix_end || (key >= front->window.begin && key < back->window.end);
}

/* Finds the key in k and in v; false: one of its pages lies outside the cache. */
static bool find_key(const tile *t, int64_t key, fv_place *k_place, fv_place *v_place) {
  const fovea_attention_args *a = &t->problem->args;
  return fv_key_place(t->problem, t->sequence, &a->k, a->pages.ids, key, k_place) &&
         fv_key_place(t->problem, t->sequence, &a->v, fv_v_page_ids(t->problem), key, v_place);
}

/* Loads the keys that some row may see; the others become zeros, whatever memory holds. */
static void load_keys(tile *t, int64_t key_begin) {
  const fv_problem *p = t->problem;
  const fv_tile_kernels *kernels = t->job->kernels;
  for (int32_t j = 0; j < FV_TILE_KV; ++j) {
    fv_place place, v_place;
    t->seen[j] = false;
    t->live[j] = tile_sees_position(t, key_begin + j);
    if (t->live[j] && !find_key(t, key_begin + j, &place, &v_place)) {
      t->live[j] = false;
      t->errors |= FOVEA_BAD_PAGE;
    }
    if (t->live[j]) {
      load_row(t, &p->args.k, &p->args.k_scale, place, t->kv_head, p->dim, t->row);
    } else {
      memset(t->row, 0, (size_t)p->dim * sizeof *t->row);
    }
    kernels->place_key(t->k, t->row, p->dim, j);
  }
}

/* Loads the values of keys that some row sees. The weight of the others is 0 in every row, but
 * 0 * NaN is NaN: they become zeros. */
static void load_values(tile *t, int64_t key_begin) {
  const fv_problem *p = t->problem;
  int32_t columns = fv_padded_dim(p->dim_v);
  for (int32_t j = 0; j < FV_TILE_KV; ++j) {
    float *row = t->v + (int64_t)j * columns;
    int32_t loaded = 0;
    fv_place place;
    if (t->seen[j]) {
      fv_key_place(p, t->sequence, &p->args.v, fv_v_page_ids(p), key_begin + j, &place);
      load_row(t, &p->args.v, &p->args.v_scale, place, t->kv_head, p->dim_v, row);
      loaded = p->dim_v;
    }
    memset(row + loaded, 0, (size_t)(columns - loaded) * sizeof *row);
  }
}

/* ---- Masks and logits ---- */

/* t[j] of the header from q.k, in natural units. */
static float logit(const fv_problem *p, const fv_row_mask *mask, int64_t key, float dot,
                   float bias) {
  float softcap = p->args.softcap;
  float value = dot * p->scale;
  if (softcap > 0) value = softcap * tanhf(value / softcap);
  if (mask->slope != 0) value -= mask->slope * (float)fv_distance(mask, key);
  return value + bias;
}

/* Hides what the row does not see and turns the rest into logits where that takes more than the
 * factor. */
static void mask_row(tile *t, int32_t r, int64_t key_begin) {
  const fv_row_mask *mask = &t->masks[r];
  float *scores = t->scores + r * FV_TILE_KV;
  for (int32_t j = 0; j < FV_TILE_KV; ++j) {
    int64_t key = key_begin + j;
    float bias = 0;
    if (!t->live[j] || !fv_sees_position(mask, key) || !fv_sees_key(mask, key, &bias, &t->errors)) {
      scores[j] = -INFINITY;
      continue;
    }
    t->seen[j] = true;
    if (t->job->natural) scores[j] = logit(t->problem, mask, key, scores[j], bias);
  }
}

/* ---- One tile ---- */

static void attend_key_tile(tile *t, int64_t key_begin) {
  const fv_tile_kernels *kernels = t->job->kernels;
  load_keys(t, key_begin);
  kernels->score(t->scores, t->q, t->k, t->rows, t->problem->dim);
  for (int32_t r = 0; r < t->rows; ++r) mask_row(t, r, key_begin);
  load_values(t, key_begin);
  for (int32_t r = 0; r < t->rows; ++r) {
    t->rescale[r] = kernels->softmax(t->scores + r * FV_TILE_KV, t->job->score_factor,
                                     &t->maximum[r], &t->sum[r]);
  }
  kernels->accumulate(t->out, t->rescale, t->scores, t->v, t->rows,
                      fv_padded_dim(t->problem->dim_v));
}

/* The sink joins the sum as one more logit without a value. Returns the factor for out. */
static float add_sink(float sink, float *maximum, float *sum) {
  float next = sink > *maximum ? sink : *maximum;
  if (next == -INFINITY) return 1;
  float rescale = expf(*maximum - next);
  *sum = *sum * rescale + expf(sink - next);
  *maximum = next;
  return rescale;
}

static void store_row(tile *t, int32_t r) {
  const fv_problem *p = t->problem;
  const fovea_attention_args *a = &p->args;
  int64_t head = row_head(t, r), outer = t->sequence->q_batch;
  int64_t inner = t->sequence->q_begin + row_position(t, r);
  float maximum = t->job->natural ? t->maximum[r] : t->maximum[r] * p->scale;
  float sum = t->sum[r], rescale = 1;
  if (a->sinks) rescale = add_sink(a->sinks[head], &maximum, &sum);

  /* A row of nothing but NaN has the maximum -inf too, since NaN is never larger; its sum is NaN.
   */
  bool empty = maximum == -INFINITY && sum == 0;

  const float *out = t->out + (int64_t)r * fv_padded_dim(p->dim_v);
  int64_t offset = fv_row_offset(&a->out, outer, inner, head);
  for (int32_t d = 0; d < p->dim_v; ++d) {
    /* Adding 0 turns -0, which tells how sums of nothing but underflows came about, into 0. */
    float value = empty ? 0.0f : out[d] * rescale / sum + 0.0f;
    if (a->out_scale.dtype) value /= fv_scale_at(&a->out_scale, outer, inner, head, d, p->dim_v);
    fv_store_f32(a->out.dtype, a->out.data, offset + d, value);
  }
  if (a->lse.dtype) {
    float lse = empty ? -INFINITY : maximum + logf(sum);
    ((float *)a->lse.data)[fv_row_offset(&a->lse, outer, inner, head)] = lse;
  }
}

static void attend_tile(tile *t) {
  load_queries(t);
  const fv_position_mask *mask = &t->sequence->mask;
  int64_t first_row = row_position(t, 0), end_row = row_position(t, t->rows - 1) + 1;
  fv_range keys = fv_rows_keys(mask, first_row, end_row);
  int64_t key = fv_floor_div(keys.begin, FV_TILE_KV) * FV_TILE_KV;
  for (; key < keys.end; key += FV_TILE_KV) {
    fv_range here = {key, key + FV_TILE_KV};
    if (fv_rows_see(mask, first_row, end_row, here)) attend_key_tile(t, key);
  }
  for (int32_t r = 0; r < t->rows; ++r) store_row(t, r);
  fv_report_errors(t->problem, t->sequence->index, t->errors);
}

/* ---- Tiles to workers ---- */

static void set_scratch(const job *job, int64_t worker, tile *t) {
  char *base = (char *)job->problem->args.workspace + (size_t)worker * job->plan->scratch_bytes;
  float *floats = (float *)base;
  t->q = floats + job->layout.q;
  t->k = floats + job->layout.k;
  t->v = floats + job->layout.v;
  t->scores = floats + job->layout.scores;
  t->out = floats + job->layout.out;
  t->row = floats + job->layout.row;
}

static void work(void *context, int64_t worker) {
  job *job = context;
  const fv_problem *p = job->problem;
  int32_t tile_q = job->plan->kernel->tile_q;
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  tile t = {.job = job, .problem = p, .sequence = &sequence};
  set_scratch(job, worker, &t);

  int64_t mine = atomic_fetch_add(&job->next_tile, 1);
  int64_t begin = 0; /* number of the sequence's first tile */
  while (fv_sequence_next(p, &cursor, &sequence)) {
    int64_t rows = sequence.len_q * p->group;
    int64_t row_tiles = fv_ceil_div(rows, tile_q);
    for (; mine < begin + row_tiles * p->heads_kv; mine = atomic_fetch_add(&job->next_tile, 1)) {
      int64_t number = mine - begin;
      t.kv_head = number / row_tiles;
      t.row_begin = number % row_tiles * tile_q;
      t.rows = (int32_t)fv_min(tile_q, rows - t.row_begin);
      t.errors = 0;
      attend_tile(&t);
    }
    begin += row_tiles * p->heads_kv;
  }
}

/* Bad lengths and offsets are reported for every sequence, also for those without rows. Returns the
 * number of tiles. */
static int64_t survey(const fv_problem *p, int32_t tile_q) {
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  int64_t tiles = 0;
  while (fv_sequence_next(p, &cursor, &sequence)) {
    fv_report_errors(p, sequence.index, sequence.errors);
    tiles += fv_ceil_div(sequence.len_q * p->group, tile_q) * p->heads_kv;
  }
  return tiles;
}

static const fv_tile_kernels *kernels_for(fv_isa isa) {
#if defined(__x86_64__)
  if (isa == FV_ISA_AVX2) return &fv_tile_kernels_avx2;
#endif
  (void)isa;
  return &fv_tile_kernels_portable;
}

void fv_cpu_attention(const fv_problem *problem, const fv_plan *plan, fv_parallel parallel) {
  const fovea_attention_args *a = &problem->args;
  job job = {.problem = problem, .plan = plan, .kernels = kernels_for(plan->kernel->isa)};
  job.layout =
      fv_tile_layout_for(plan->kernel->tile_q, plan->kernel->tile_kv, problem->dim, problem->dim_v);
  job.natural = a->softcap > 0 || a->alibi_slopes || a->bias.dtype;
  job.score_factor = job.natural ? log2_e : problem->scale * log2_e;
  atomic_init(&job.next_tile, 0);
  int64_t tiles = survey(problem, plan->kernel->tile_q);
  fv_parallel_run(parallel, fv_min(plan->workers, tiles), work, &job);
}

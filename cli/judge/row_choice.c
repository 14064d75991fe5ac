/* row_choice.c - see row_choice.h. */
#include "cli/judge/row_choice.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "csrc/host/element.h"
#include "csrc/reference/reference.h"

int64_t fv_row_count(const fv_problem *problem) {
  const int64_t *shape = problem->args.out.shape;
  return shape[0] * shape[1] * shape[2];
}

/* 2^27 products and sums in double precision: 0.2 to 0.8 s of one core. This counts work and not
 * time, so that every machine judges the same input whole. */
bool fv_rows_are_few(const fv_problem *problem) {
  double keys = (double)problem->kv_capacity, dims = problem->dim + problem->dim_v;
  return (double)fv_row_count(problem) * keys * dims <= 0x1p27;
}

/* If the problem is causal, the middle row sees half of the keys: as many as the mean row. */
int64_t fv_rows_in_seconds(const fv_problem *problem, double seconds) {
  int64_t total = fv_row_count(problem), rows = FV_ROWS_MIN;
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  if (total && fv_sequence_next(problem, &cursor, &sequence)) {
    fv_reference_row row;
    uint32_t errors = 0;
    double start = fv_seconds_now();
    fv_reference_attend(problem, &sequence, sequence.len_q / 2, 0, 0, &row, &errors);
    double one = fv_seconds_now() - start;
    if (one > 0 && seconds / one > (double)rows) rows = (int64_t)fmin(seconds / one, 0x1p62);
  }
  return rows < total ? rows : total;
}

/* ---- Bounds ---- */

static bool make_bounds(fv_key_bounds *bounds, const fv_problem *p) {
  size_t heads = (size_t)p->heads_kv + 1; /* + 1: 0 heads are no failure */
  *bounds = (fv_key_bounds){.sequence = -1};
  bounds->k = calloc(heads * (size_t)p->dim, sizeof *bounds->k);
  bounds->v = calloc(heads * (size_t)p->dim_v, sizeof *bounds->v);
  bounds->v_sum = calloc(heads * (size_t)p->dim_v, sizeof *bounds->v_sum);
  bounds->finite = calloc(heads, sizeof *bounds->finite);
  return bounds->k && bounds->v && bounds->v_sum && bounds->finite;
}

static void free_bounds(fv_key_bounds *bounds) {
  free(bounds->k);
  free(bounds->v);
  free(bounds->v_sum);
  free(bounds->finite);
}

/* Raises largest[dim] and, unless NULL, sum[dim] by one row. False if the row is not finite. */
static bool add_row(const fovea_tensor *tensor, int64_t batch, int64_t key, int64_t head,
                    int64_t dim, double *largest, double *sum) {
  int64_t offset = fv_row_offset(tensor, batch, key, head);
  bool finite = true;
  for (int64_t d = 0; d < dim; ++d) {
    double size = fabs((double)fv_load(tensor->dtype, tensor->data, offset + d));
    finite &= isfinite(size) != 0;
    largest[d] = fmax(largest[d], size);
    if (sum) sum[d] += size;
  }
  return finite;
}

static void bound_keys(fv_key_bounds *bounds, const fv_problem *p, const fv_sequence *s) {
  const fovea_attention_args *a = &p->args;
  size_t heads = (size_t)p->heads_kv, dim = (size_t)p->dim, dim_v = (size_t)p->dim_v;
  memset(bounds->k, 0, heads * dim * sizeof *bounds->k);
  memset(bounds->v, 0, heads * dim_v * sizeof *bounds->v);
  memset(bounds->v_sum, 0, heads * dim_v * sizeof *bounds->v_sum);
  for (size_t head = 0; head < heads; ++head) {
    double *k = bounds->k + head * dim, *v = bounds->v + head * dim_v;
    double *v_sum = bounds->v_sum + head * dim_v;
    bool finite = true;
    for (int64_t key = 0; key < p->kv_capacity; ++key) {
      finite &= add_row(&a->k, s->kv_batch, key, (int64_t)head, p->dim, k, NULL);
      finite &= add_row(&a->v, s->kv_batch, key, (int64_t)head, p->dim_v, v, v_sum);
    }
    bounds->finite[head] = finite;
  }
  bounds->sequence = s->index;
}

/* Fills in the magnitudes that the criteria use. False: something is infinite, so there is no such
 * bound. z is at least 1, and a probability that underflows counts as weight_floor. */
static bool bound_row(fv_row_choice *c, const fv_sequence *s, int64_t i, int64_t head,
                      double weight_floor, fv_reference_row *row) {
  const fv_problem *p = c->problem;
  size_t kv_head = (size_t)(head / p->group);
  if (c->bounds.sequence != s->index) bound_keys(&c->bounds, p, s);
  const double *k = c->bounds.k + kv_head * (size_t)p->dim;
  const double *v = c->bounds.v + kv_head * (size_t)p->dim_v;
  const double *v_sum = c->bounds.v_sum + kv_head * (size_t)p->dim_v;
  int64_t offset = fv_row_offset(&p->args.q, s->q_batch, s->q_begin + i, head);
  double dot = 0;
  for (int64_t d = 0; d < p->dim; ++d) {
    dot += fabs((double)fv_load(p->args.q.dtype, p->args.q.data, offset + d)) * k[d];
  }
  if (!c->bounds.finite[kv_head] || !isfinite(dot)) return false;
  memset(row, 0, sizeof *row);
  row->finite = true;
  row->visible = p->kv_capacity;
  row->logit = row->dot = fabs((double)p->scale) * dot;
  row->sum = 1;
  double noise = 1 + weight_floor * sqrt((double)p->kv_capacity);
  for (int64_t d = 0; d < p->dim_v; ++d) {
    row->magnitude[d] = v[d];
    row->noise[d] = noise * v[d];
    row->spread[d] = v_sum[d];
    row->lowest[d] = -v[d]; /* wide enough for 0, the result of an empty row */
    row->highest[d] = v[d];
  }
  return true;
}

/* ---- Choosing ---- */

/* The first row of a part; there are as many parts as rows are wanted. */
static int64_t part_begin(const fv_row_choice *c, int64_t part) {
  return (int64_t)((__int128)part * c->total / c->wanted);
}

/* Whether the next row is in the sample. */
static bool is_picked(fv_row_choice *c) {
  int64_t row = c->seen++;
  if (!c->wanted) return false;
  if (c->part < c->wanted && row == part_begin(c, c->part)) {
    int64_t end = part_begin(c, ++c->part);
    c->pick = fv_random_between(&c->random, row, end - 1);
  }
  return row == c->pick;
}

static fv_row_judgement choose(void *context, const struct fv_sequence *sequence, int64_t row,
                               int64_t head, double weight_floor, fv_reference_row *bounds) {
  fv_row_choice *c = context;
  bool picked = is_picked(c);
  fv_progress_step(&c->progress, c->bounded ? c->seen : c->referenced,
                   c->bounded ? c->total : c->wanted);
  if (!picked && !c->bounded) return FV_ROW_SKIPPED;
  if (!picked && bound_row(c, sequence, row, head, weight_floor, bounds)) {
    ++c->compared_by_bounds;
    return FV_ROW_BY_BOUNDS;
  }
  ++c->referenced;
  return FV_ROW_BY_REFERENCE;
}

bool fv_judge_rows(const fv_problem *problem, const fv_judge_options *options, int64_t wanted,
                   uint64_t seed, bool bounded, fv_row_choice *choice, fv_verdict *verdict) {
  fv_judge_options mine = *options;
  *choice = (fv_row_choice){
      .problem = problem, .total = fv_row_count(problem), .wanted = wanted, .pick = -1};
  choice->bounded = bounded && wanted < choice->total;
  choice->random = fv_random_for(seed, 0);
  mine.choose = choose;
  mine.context = choice;
  bool made = make_bounds(&choice->bounds, problem);
  if (made) {
    fv_progress_start(&choice->progress, "checking");
    fv_judge_attention(problem, &mine, verdict, NULL);
    fv_progress_finish(&choice->progress);
  }
  free_bounds(&choice->bounds);
  return made;
}

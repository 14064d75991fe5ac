/* weights.c - fovea_attention_weights in rounds, because the states of all rows have no place: a
 * call allocates nothing and has no workspace.
 *
 *   for every round:  make units of the next chosen rows;
 *     every thread takes rows of units:   the first pass
 *     every thread takes keys of units:   the second pass
 *
 * A unit has the rows of one kv head, so its heads share each load of their keys. How rows are cut
 * into units follows from the sequence and the selection alone, and each element of mass is summed
 * by one task, in the order of units. So neither the threads nor the rest of the batch change a
 * bit.
 *
 * Sizes: 512 states are 16 KiB, and 32 units 12 KiB, both on the caller's stack. Within one unit
 * all rows of a decoding step's heads fit, or the last 128 rows of four heads. */
#include "csrc/cpu/weights.h"

#include <string.h>

#include "csrc/cpu/weigh_rows.h"

/* ---- Units ---- */

/* Where the next unit begins. */
typedef struct unit_cursor {
  const fv_weights_problem *w;
  fv_sequence_cursor sequences;
  fv_sequence sequence; /* of the current entry */
  int64_t entry, entries;
  int64_t head, row; /* of the selection */
  int64_t group;     /* of k, with mass_by_kv_head */
  bool done;
} unit_cursor;

static void start_entry(unit_cursor *c) {
  c->head = c->row = c->group = 0;
  c->done = c->entry >= c->entries;
  if (!c->done) fv_chosen_sequence(c->w, c->entry, &c->sequences, &c->sequence);
}

static int64_t kv_head_of(const fv_weights_problem *w, int64_t head_index) {
  int64_t head = fv_chosen(w->heads, head_index, w->attention.heads_q);
  return head < 0 ? -1 : head / w->attention.group;
}

/* Chosen heads in a row that share a kv head, from `head` on. */
static int64_t heads_in_a_row(const unit_cursor *c) {
  const fv_weights_problem *w = c->w;
  int64_t kv_head = kv_head_of(w, c->head), end = c->head + 1;
  while (end < w->head_count && end - c->head < FV_UNIT_ROWS && kv_head_of(w, end) == kv_head)
    ++end;
  return end - c->head;
}

/* The end of the current kv head's query heads, which mass_by_kv_head adds up: none if q has no
 * heads. */
static int64_t end_of_group(const unit_cursor *c) {
  return c->w->head_count ? (c->group + 1) * c->w->attention.group : 0;
}

/* Goes on to the next unit's place. */
static void advance(unit_cursor *c, const fv_weigh_unit *unit) {
  int64_t rows = fv_chosen_rows(c->w, &c->sequence);
  c->row += unit->rows;
  if (c->row < rows) return;
  c->row = 0;
  c->head += unit->heads;
  if (c->w->mass_by_kv_head) {
    if (c->head < end_of_group(c)) return;
    if (++c->group < c->w->attention.heads_kv) return;
  } else if (c->head < c->w->head_count) {
    return;
  }
  ++c->entry;
  start_entry(c);
}

/* Rows of the sequence from the first chosen one to the last; empty without one in range. */
static fv_range chosen_range(const fv_weights_problem *w, const fv_weigh_unit *u) {
  fv_range range = {INT64_MAX, 0};
  for (int64_t i = 0; i < u->rows; ++i) {
    int64_t row = fv_chosen_row(w, &u->sequence, u->row_begin + i);
    if (row < 0) continue;
    range.begin = fv_min(range.begin, row);
    range.end = fv_max(range.end, row + 1);
  }
  return range;
}

static void see(const fv_weights_problem *w, fv_weigh_unit *u) {
  fv_range rows = chosen_range(w, u);
  u->seen = (fv_seen_keys){0};
  if (u->kv_head < 0 || u->heads == 0 || fv_is_empty(rows)) return;
  u->seen = fv_keys_seen(&w->attention, &u->sequence, rows.begin, rows.end);
}

/* The sequence as the unit's kv head has it. */
static void place_unit(const unit_cursor *c, fv_weigh_unit *u) {
  fv_sequence own;
  bool exists = u->kv_head >= 0 && c->sequence.index >= 0;
  u->sequence =
      exists ? *fv_sequence_of_head(&c->w->attention, &c->sequence, u->kv_head, &own) : c->sequence;
}

/* Makes the unit at the cursor: whole heads if their rows fit, else some rows of one head. */
static void make_unit(const unit_cursor *c, fv_weigh_unit *u) {
  const fv_weights_problem *w = c->w;
  int64_t rows = fv_chosen_rows(w, &c->sequence);
  bool by_group = w->mass_by_kv_head;
  int64_t heads = by_group ? end_of_group(c) - c->head : heads_in_a_row(c);
  u->entry = c->entry;
  u->kv_head = by_group ? c->group : kv_head_of(w, c->head);
  place_unit(c, u);
  u->rows = fv_min(rows - c->row, FV_UNIT_ROWS);
  u->heads = fv_min(heads, fv_max(FV_UNIT_ROWS / fv_max(rows, 1), 1));
  u->head_begin = c->head;
  u->row_begin = c->row;
  bool later = c->row > 0 || (by_group && c->head > c->group * w->attention.group);
  u->adds = later || w->mass_accumulate;
  see(w, u);
}

/* ---- A round ---- */

typedef struct weigh_round {
  fv_weigh_job job;
  int64_t units, rows;         /* in use */
  int64_t rows_per_task;       /* of the first pass; a multiple of 8 */
  int64_t keys, keys_per_task; /* of the second pass; a multiple of tile_kv */
  fv_weigh_unit unit[FV_ROUND_UNITS];
  fv_weigh_state states[FV_UNIT_ROWS];
} weigh_round;

/* Fills the round with as many units as fit; the first always does. */
static void fill_round(weigh_round *r, unit_cursor *c) {
  r->units = r->rows = 0;
  while (!c->done && r->units < FV_ROUND_UNITS) {
    fv_weigh_unit *u = &r->unit[r->units];
    make_unit(c, u);
    int64_t rows = u->heads * u->rows;
    if (r->rows + rows > FV_UNIT_ROWS) return;
    u->states = &r->states[r->rows];
    r->rows += rows;
    ++r->units;
    advance(c, u);
  }
}

/* Whether two units in a row may write to the same mass. */
static bool follows(const fv_weigh_unit *u, const fv_weigh_unit *before) {
  return u->entry == before->entry && u->kv_head == before->kv_head;
}

static int64_t tasks_per_unit(const weigh_round *r) {
  return fv_ceil_div(FV_UNIT_ROWS, r->rows_per_task);
}

static void survey_task(void *context, int64_t index) {
  weigh_round *r = context;
  const fv_weigh_unit *u = &r->unit[index / tasks_per_unit(r)];
  int64_t begin = index % tasks_per_unit(r) * r->rows_per_task, rows = u->heads * u->rows;
  if (begin < rows) fv_weigh_survey(&r->job, u, begin, fv_min(begin + r->rows_per_task, rows));
}

static void keys_task(void *context, int64_t index) {
  weigh_round *r = context;
  int64_t first = index % r->units, begin = index / r->units * r->keys_per_task, count = 1;
  if (first > 0 && follows(&r->unit[first], &r->unit[first - 1])) return;
  while (first + count < r->units && follows(&r->unit[first + count], &r->unit[first])) ++count;
  fv_weigh_keys(&r->job, &r->unit[first], count, begin, fv_min(begin + r->keys_per_task, r->keys));
}

/* Enough tasks to balance the threads; no result depends on it. */
static void cut_tasks(weigh_round *r, int32_t threads) {
  int64_t wanted = 4 * (int64_t)threads, tile = r->job.tile_kv;
  int64_t rows = threads > 1 ? fv_ceil_div(r->rows, wanted) : FV_UNIT_ROWS;
  int64_t parts = threads > 1 ? fv_ceil_div(wanted, r->units) : 1;
  r->rows_per_task = fv_max(fv_ceil_div(rows, 8) * 8, 8);
  r->keys_per_task = fv_max(fv_ceil_div(fv_ceil_div(r->keys, parts), tile) * tile, tile);
}

static void run_round(weigh_round *r, fv_parallel parallel) {
  cut_tasks(r, parallel.threads);
  if (r->job.softmax) fv_parallel_run(parallel, r->units * tasks_per_unit(r), survey_task, r);
  fv_parallel_run(parallel, r->units * fv_ceil_div(r->keys, r->keys_per_task), keys_task, r);
}

static int64_t keys_of(const fv_weights_problem *w) {
  return w->mass.dtype ? w->mass.shape[3] : w->weights.dtype ? w->weights.shape[3] : 0;
}

void fv_cpu_weights(const fv_weights_problem *problem, fv_isa isa, fv_parallel parallel) {
  const fv_problem *p = &problem->attention;
  unit_cursor cursor = {.w = problem, .entries = problem->entries};
  weigh_round r;
  fv_attend_start(p, isa, &r.job.attend);
  r.job.weights = problem;
  r.job.widens_tiles = !r.job.attend.additive && !r.job.attend.k_in_place &&
                       r.job.attend.dim * FV_WIDENED_TILE <= FV_WIDENED_FLOATS;
  r.job.tile_kv = r.job.widens_tiles || r.job.attend.additive
                      ? FV_WIDENED_TILE
                      : fv_class_tile(fv_dim_class(p->dim, p->dim));
  r.job.softmax = problem->mass.dtype || problem->statistics.dtype ||
                  problem->kind == FOVEA_WEIGHTS_PROBABILITIES;
  r.keys = keys_of(problem);
  if (!problem->mass_by_kv_head && !problem->head_count) return;
  if (problem->mass_by_kv_head && !p->heads_kv) return;
  for (start_entry(&cursor); !cursor.done;) {
    fill_round(&r, &cursor);
    run_round(&r, parallel);
  }
}

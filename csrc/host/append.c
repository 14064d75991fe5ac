/* append.c - writes new tokens into a KV cache: find the place, rotate, scale, convert, write.
 *
 * Every step of the arithmetic is one f32 operation with its own rounding, in the order that the
 * header states. So every device stores the same bits. The file must be compiled with
 * -ffp-contract=off, for a machine that evaluates float as float.
 *
 * Threads: two tokens may go to one place (a slot given twice, a page in two tables). The header
 * says that one of them wins, never a mixture. So the work is divided by destination, not by token:
 * every task walks all tokens and writes those whose place hashes to it. One task then makes all
 * writes to a place, in the order of the tokens, whatever the number of threads. The walk costs
 * every task 17 ns per token (measured, 2.8 GHz Xeon). A plain copy of 1024 elements takes 0.4 us,
 * their conversion 10 us. Nothing is allocated.
 *
 * Task 0 alone reports errors, because every task sees all of them. */
#include "csrc/host/append.h"

#include <float.h>
#include <stdbool.h>

#include "csrc/host/element_run.h"
#include "csrc/host/sequence.h"

#if FLT_EVAL_METHOD != 0
#error "host/append.c needs float arithmetic in f32"
#endif

/* Elements converted at a time; even, for interleaved pairs. Two such buffers of f32 take 1 KiB of
 * stack and stay in the L1 cache. */
enum { CHUNK = 128 };

/* With fewer elements a task costs more than it saves. Waking a thread takes some 10 us. This many
 * elements take 12 us to copy and 300 us to convert (measured). */
enum { ELEMENTS_PER_TASK = 32768 };

/* One of the pairs (k_new, k_cache) and (v_new, v_cache). */
typedef struct side {
  const fovea_tensor *from;
  const fovea_tensor *to;
  const fovea_tensor *scale;
  const int32_t *ids;     /* the page table; NULL: not paged */
  const fovea_rope *rope; /* NULL: not rotated */
} side;

typedef struct work {
  const fv_append_problem *problem;
  side sides[2];
  int32_t side_count;
  fv_cache_extents cache;
  int64_t tasks;
} work;

/* A sequence of new tokens; also the cursor over all sequences, in order. */
typedef struct sequence {
  int64_t index;
  fv_range rows;         /* of the new tensors */
  int64_t tokens;        /* as many of these rows are in use */
  fv_page_ids pages;     /* of the page tables, if the cache is paged */
  int64_t pages_reached; /* the largest of their offsets so far */
  int32_t length;        /* tokens already in the cache */
  uint32_t errors;
} sequence;

/* A token to write. */
typedef struct token {
  int64_t batch; /* it is [batch, row] of the new tensors */
  int64_t row;
  int64_t position;
  fv_place place[2]; /* per side; outer is FV_NOWHERE if there is none */
} token;

/* One head of a token. */
typedef struct run {
  const char *from;
  char *to;
  uint32_t from_dtype;
  uint32_t to_dtype;
  int64_t dim;
  const char *scale; /* of block 0; NULL: none */
  uint32_t scale_dtype;
  int64_t scale_stride; /* from block to block */
  int64_t block_len;
} run;

/* ---- Writing ------------------------------------------------------------------------------- */

static char *element(const fovea_tensor *tensor, int64_t i, int64_t j, int64_t head) {
  int64_t offset = i * tensor->stride[0] + j * tensor->stride[1] + head * tensor->stride[2];
  return (char *)tensor->data + offset * fv_dtype_bytes(tensor->dtype);
}

/* Divides x[i] by the scale of element first + i. */
static void divide(const run *run, int64_t first, int64_t count, float *x) {
  for (int64_t i = 0; i < count;) {
    int64_t block = (first + i) / run->block_len;
    int64_t end = (block + 1) * run->block_len - first;
    if (end > count) end = count;
    float scale;
    fv_load_run(run->scale, run->scale_dtype, block * run->scale_stride, 1, &scale);
    for (; i < end; ++i) x[i] = x[i] / scale;
  }
}

static void store(const run *run, int64_t first, int64_t count, float *x) {
  if (run->scale) divide(run, first, count, x);
  fv_store_run(run->to, run->to_dtype, first, count, x);
}

/* Writes elements [first, dim), which are not rotated. */
static void write_plain(const run *run, int64_t first) {
  float x[CHUNK];
  if (run->from_dtype == run->to_dtype && !run->scale) {
    int64_t bytes = fv_dtype_bytes(run->to_dtype);
    memcpy(run->to + first * bytes, run->from + first * bytes,
           (size_t)((run->dim - first) * bytes));
    return;
  }
  for (int64_t d = first; d < run->dim; d += CHUNK) {
    int64_t count = run->dim - d < CHUNK ? run->dim - d : CHUNK;
    fv_load_run(run->from, run->from_dtype, d, count, x);
    store(run, d, count, x);
  }
}

/* Rotates and writes the pairs (i, i + half). */
static void write_half_split(const run *run, int64_t half, const float *c, const float *s) {
  float x[CHUNK], y[CHUNK];
  for (int64_t first = 0; first < half; first += CHUNK) {
    int64_t count = half - first < CHUNK ? half - first : CHUNK;
    fv_load_run(run->from, run->from_dtype, first, count, x);
    fv_load_run(run->from, run->from_dtype, half + first, count, y);
    for (int64_t i = 0; i < count; ++i) {
      float x_old = x[i], y_old = y[i];
      x[i] = x_old * c[first + i] - y_old * s[first + i];
      y[i] = y_old * c[first + i] + x_old * s[first + i];
    }
    store(run, first, count, x);
    store(run, half + first, count, y);
  }
}

/* Rotates and writes the pairs (2i, 2i + 1). */
static void write_interleaved(const run *run, int64_t half, const float *c, const float *s) {
  float x[CHUNK];
  for (int64_t first = 0; first < 2 * half; first += CHUNK) {
    int64_t count = 2 * half - first < CHUNK ? 2 * half - first : CHUNK;
    fv_load_run(run->from, run->from_dtype, first, count, x);
    for (int64_t i = 0; i < count; i += 2) {
      float x_old = x[i], y_old = x[i + 1];
      int64_t pair = (first + i) / 2;
      x[i] = x_old * c[pair] - y_old * s[pair];
      x[i + 1] = y_old * c[pair] + x_old * s[pair];
    }
    store(run, first, count, x);
  }
}

static void write_head(const side *side, const token *token, fv_place place, int64_t head) {
  run run = {.from = element(side->from, token->batch, token->row, head),
             .to = element(side->to, place.outer, place.inner, head),
             .from_dtype = side->from->dtype,
             .to_dtype = side->to->dtype,
             .dim = side->to->shape[3]};
  if (side->scale->dtype != FOVEA_NONE) {
    run.scale = element(side->scale, place.outer, place.inner, head);
    run.scale_dtype = side->scale->dtype;
    run.scale_stride = side->scale->stride[3];
    run.block_len = run.dim / side->scale->shape[3];
  }
  int64_t half = 0;
  if (side->rope) {
    int64_t table_row = token->position * side->rope->stride;
    const float *c = side->rope->cos + table_row;
    const float *s = side->rope->sin + table_row;
    half = side->rope->rotary_dim / 2;
    if (side->rope->style == FOVEA_ROPE_INTERLEAVED) {
      write_interleaved(&run, half, c, s);
    } else {
      write_half_split(&run, half, c, s);
    }
  }
  write_plain(&run, 2 * half);
}

/* The task that writes to a place. Knuth's multiplicative hash spreads neighbours evenly. */
static int64_t task_of(const work *work, fv_place place) {
  uint64_t slot = (uint64_t)(place.outer * work->cache.slots + place.inner);
  uint64_t hash = slot * UINT64_C(0x9e3779b97f4a7c15) >> 32;
  return (int64_t)(hash * (uint64_t)work->tasks >> 32);
}

static void write_token(const work *work, const token *token, int64_t task) {
  for (int32_t i = 0; i < work->side_count; ++i) {
    if (task_of(work, token->place[i]) != task) continue;
    for (int64_t head = 0; head < work->problem->heads_kv; ++head) {
      write_head(&work->sides[i], token, token->place[i], head);
    }
  }
}

/* ---- Finding the place --------------------------------------------------------------------- */

/* Fills in the token. False: skip it; *errors says why. A token with a negative slot is padding:
 * nothing reads its position, and it is no error. */
static bool find_token(const work *work, const sequence *sequence, int64_t row, token *token,
                       uint32_t *errors) {
  const fovea_kv_append_args *args = &work->problem->args;
  bool packed = work->problem->packed;
  int64_t number = packed ? row : sequence->index * work->problem->rows + row;
  uint32_t n = fv_token_index(sequence->length, row - sequence->rows.begin);
  bool found = true;
  for (int32_t i = 0; i < work->side_count; ++i) {
    token->place[i] = args->slots ? fv_place_of_slot(work->cache, args->slots[number], errors)
                                  : fv_place_of_index(work->cache, work->sides[i].ids,
                                                      sequence->pages, sequence->index, n, errors);
    found = found && token->place[i].outer != FV_NOWHERE;
  }
  token->batch = fv_batch_row(packed, sequence->index);
  token->row = row;
  token->position = n;
  if (args->rope.positions) token->position = args->rope.positions[number];
  bool skipped_by_caller = args->slots && args->slots[number] < 0;
  if (!args->rope.cos || skipped_by_caller) return found;
  return fv_has_position(token->position, args->rope.rows, errors) && found;
}

/* Moves on to sequence `index`: finds its rows of the new tensors, its length and its pages. */
static void next_sequence(const work *work, int64_t index, sequence *sequence) {
  const fv_append_problem *problem = work->problem;
  const fovea_pages *pages = &problem->args.sequences.pages;
  sequence->index = index;
  sequence->errors = 0;
  if (problem->packed) {
    sequence->rows = fv_packed_range(problem->args.sequences.q_offsets, index, problem->rows,
                                     sequence->rows.end, &sequence->errors);
  } else {
    sequence->rows = (fv_range){0, problem->rows};
  }
  int32_t owned = (int32_t)(sequence->rows.end - sequence->rows.begin);
  sequence->tokens =
      fv_clamped_length(problem->args.sequences.q_lengths, index, owned, owned, &sequence->errors);
  /* With slots there are no lengths, and nothing needs them: RoPE must then have positions. */
  sequence->length =
      problem->args.sequences.kv_lengths ? problem->args.sequences.kv_lengths[index] : 0;
  if (!problem->paged) return;
  if (!pages->offsets) {
    sequence->pages = fv_dense_page_ids(index, pages->row_stride, pages->count);
    return;
  }
  fv_range range = fv_packed_range(pages->offsets, index, pages->count, sequence->pages_reached,
                                   &sequence->errors);
  sequence->pages_reached = range.end;
  sequence->pages = fv_packed_page_ids(range);
}

static void append_sequence(const work *work, sequence *sequence, int64_t task) {
  token token;
  int64_t end = sequence->rows.begin + sequence->tokens;
  if (!fv_takes_tokens(sequence->tokens, sequence->length, &sequence->errors)) return;
  for (int64_t row = sequence->rows.begin; row < end; ++row) {
    if (find_token(work, sequence, row, &token, &sequence->errors)) {
      write_token(work, &token, task);
    }
  }
}

static void append_task(void *context, int64_t task) {
  const work *work = context;
  uint32_t *errors = work->problem->args.errors;
  sequence sequence = {0};
  for (int64_t i = 0; i < work->problem->sequences; ++i) {
    next_sequence(work, i, &sequence);
    append_sequence(work, &sequence, task);
    if (task == 0 && errors && sequence.errors) errors[i] |= sequence.errors;
  }
}

/* ---- The call ------------------------------------------------------------------------------ */

static void add_side(work *work, const fovea_tensor *from, const fovea_tensor *to,
                     const fovea_tensor *scale, const int32_t *ids, const fovea_rope *rope) {
  if (from->dtype == FOVEA_NONE) return;
  work->sides[work->side_count++] = (side){from, to, scale, ids, rope};
  work->cache = (fv_cache_extents){.rows = to->shape[0], .slots = to->shape[1]};
}

/* An upper bound on the elements to write. */
static double count_elements(const work *work) {
  const fv_append_problem *problem = work->problem;
  int64_t tokens = problem->packed ? problem->rows : problem->sequences * problem->rows;
  double elements = 0;
  for (int32_t i = 0; i < work->side_count; ++i) {
    elements += (double)tokens * (double)problem->heads_kv * (double)work->sides[i].to->shape[3];
  }
  return elements;
}

void fv_append_tokens(const fv_append_problem *problem, fv_parallel parallel) {
  const fovea_kv_append_args *args = &problem->args;
  const fovea_rope *rope = args->rope.cos ? &args->rope : NULL;
  const fovea_pages *pages = &args->sequences.pages;
  work work = {.problem = problem};
  add_side(&work, &args->k_new, &args->k_cache, &args->k_scale, pages->ids, rope);
  add_side(&work, &args->v_new, &args->v_cache, &args->v_scale, pages->v_ids, NULL);
  double elements = count_elements(&work);
  /* Rows without elements take no memory, so there could be 2^62 of them to walk for nothing. */
  if (elements == 0) return;
  double tasks = elements / ELEMENTS_PER_TASK;
  work.tasks = tasks < 1 ? 1 : tasks > parallel.threads ? parallel.threads : (int64_t)tasks;
  fv_parallel_run(parallel, work.tasks, append_task, &work);
}

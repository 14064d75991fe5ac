/* attention.c - attention with online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), in
 * memory that does not grow with the number of keys.
 *
 * A row is a pair (position, query head of the group), so that the heads of a group share each load
 * of their keys. There are two kinds of work tiles:
 *
 *   tiles     of rows, for sequences with many (attend_tile.c). The last tiles come first. Under a
 *             causal mask they are the longest, and a long one at the end leaves threads idle
 *   streams   all rows of a sequence and kv head, if they are few (attend_stream.c). A work tile
 *             may have the streams of several heads. If there are too few streams for the threads,
 *             each of their chunks is a work tile, and a second pass merges the partials
 *
 * The sequence alone decides whether its rows are few. The sums of neither kind depend on the other
 * work of the call. So a row's bits are the same in any batch and with any number of threads.
 *
 * Workers take work tiles from a shared counter. Each walks the sequences itself: that costs less
 * than a table of work tiles and allocates nothing. */
#include "csrc/cpu/attention.h"

#include "csrc/cpu/attend.h"
#include "csrc/cpu/plan.h"

static const float log2_e = 1.44269504f;

/* The work tiles of one sequence. */
typedef struct work_tiles {
  bool stream;
  int64_t rows;      /* (position, head of the group) pairs of a kv head */
  int32_t tile_q;    /* rows of each tile except the last */
  int64_t heads;     /* kv heads of a block, computed together */
  int64_t blocks;    /* of kv heads; the last may have fewer heads */
  int64_t per_block; /* tiles, chunks, or one stream */
  int64_t count;
} work_tiles;

/* Makes tiles of equal size: a last tile of few rows would pack as much as a whole one. */
static void cut_tiles(work_tiles *w) {
  int64_t tiles = fv_ceil_div(w->rows, w->tile_q);
  int64_t even = fv_ceil_div(w->rows, tiles);
  w->tile_q = (int32_t)(fv_ceil_div(even, FV_PANEL_ROWS_MAX) * FV_PANEL_ROWS_MAX);
  w->per_block = fv_ceil_div(w->rows, w->tile_q);
}

/* Makes blocks of nearly equal size. */
static void cut_heads(const fv_attend_job *job, work_tiles *w) {
  int64_t heads_kv = job->problem->heads_kv, most = fv_min(FV_BLOCK_ROWS / w->rows, job->max_heads);
  w->heads = fv_ceil_div(heads_kv, fv_ceil_div(heads_kv, most));
  w->blocks = fv_ceil_div(heads_kv, w->heads);
}

static work_tiles work_tiles_of(const fv_attend_job *job, const fv_sequence *sequence) {
  work_tiles w = {.rows = sequence->len_q * job->problem->group, .tile_q = job->plan->tile_q};
  w.stream = fv_is_stream(job, w.rows);
  w.heads = 1;
  w.blocks = job->problem->heads_kv;
  if (w.rows > 0 && w.stream) {
    w.per_block = job->split ? fv_chunk_count(sequence->mask.len) : 1;
    cut_heads(job, &w);
  } else if (w.rows > 0) {
    cut_tiles(&w);
  }
  w.count = w.per_block * w.blocks;
  return w;
}

/* Handles work tile `number` of a sequence. `partial` is the number of the
 * sequence's first partial. */
typedef void (*handle_work_tile)(fv_attend_worker *worker, const work_tiles *w, int64_t number,
                                 int64_t partial);

/* Sets the worker's kv head to the first of a stream's work tile. Returns how many it has. */
static int32_t take_heads(fv_attend_worker *worker, const work_tiles *w, int64_t number) {
  int64_t head = number / w->per_block * w->heads;
  worker->source.kv_head = head;
  return (int32_t)fv_min(w->heads, worker->job->problem->heads_kv - head);
}

static void attend(fv_attend_worker *worker, const work_tiles *w, int64_t number, int64_t partial) {
  const fv_attend_job *job = worker->job;
  int64_t heads_kv = job->problem->heads_kv;
  if (!w->stream) {
    int64_t row_begin = (w->per_block - 1 - number / heads_kv) * w->tile_q;
    worker->source.kv_head = number % heads_kv;
    fv_attend_tile(worker, row_begin, (int32_t)fv_min(w->tile_q, w->rows - row_begin));
    return;
  }
  int32_t heads = take_heads(worker, w, number);
  if (job->split) {
    int64_t head = worker->source.kv_head, chunk = number % w->per_block;
    fv_attend_chunk(worker, heads, chunk,
                    job->partials + (partial + head * w->per_block + chunk) * job->partial_doubles,
                    w->per_block);
  } else {
    fv_attend_stream(worker, heads);
  }
}

static void merge(fv_attend_worker *worker, const work_tiles *w, int64_t number, int64_t partial) {
  const fv_attend_job *job = worker->job;
  if (!w->stream || number % w->per_block) return;
  int32_t heads = take_heads(worker, w, number);
  int64_t first = partial + worker->source.kv_head * w->per_block;
  fv_merge_chunks(worker, heads, job->partials + first * job->partial_doubles);
}

/* Takes work tiles until none is left. */
static void take_work_tiles(fv_attend_job *job, int64_t index, handle_work_tile handle) {
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  fv_attend_worker worker;
  worker.job = job;
  worker.source = (fv_key_source){job->problem, &sequence, 0};
  worker.scratch = (float *)((char *)job->problem->args.workspace +
                             (size_t)index * job->plan->cpu.scratch_bytes);

  int64_t mine = atomic_fetch_add(&job->next, 1);
  int64_t begin = 0, partial = 0; /* the sequence's first work tile and partial */
  while (fv_sequence_next(job->problem, &cursor, &sequence)) {
    work_tiles w = work_tiles_of(job, &sequence);
    for (; mine < begin + w.count; mine = atomic_fetch_add(&job->next, 1)) {
      worker.errors = 0;
      handle(&worker, &w, mine - begin, partial);
      fv_report_errors(job->problem, sequence.index, worker.errors);
    }
    begin += w.count;
    if (w.stream) partial += w.per_block * job->problem->heads_kv;
  }
}

static void work(void *context, int64_t index) {
  take_work_tiles(context, index, attend);
}

static void finish(void *context, int64_t index) {
  take_work_tiles(context, index, merge);
}

/* ---- The call ---- */

typedef struct survey {
  int64_t work_tiles;
  int64_t streams; /* of single kv heads; chunks of them if job->split */
} survey;

static survey count_work(const fv_attend_job *job) {
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  survey total = {0};
  while (fv_sequence_next(job->problem, &cursor, &sequence)) {
    work_tiles w = work_tiles_of(job, &sequence);
    /* Bad lengths and offsets are reported for all sequences, those without rows included. */
    fv_report_errors(job->problem, sequence.index, sequence.errors);
    total.work_tiles += w.count;
    if (w.stream) total.streams += w.per_block * job->problem->heads_kv;
  }
  return total;
}

static const fv_tile_kernels *kernels_for(fv_isa isa) {
#if defined(__x86_64__)
  if (isa == FV_ISA_AVX512) return &fv_tile_kernels_avx512;
  if (isa == FV_ISA_AVX2) return &fv_tile_kernels_avx2;
#endif
  (void)isa;
  return &fv_tile_kernels_portable;
}

static void start_job(const fv_problem *problem, const fv_plan *plan, fv_attend_job *job) {
  const fovea_attention_args *a = &problem->args;
  job->problem = problem;
  job->plan = plan;
  job->kernels = kernels_for(((const fv_cpu_row *)plan->kernel)->isa);
  job->layout = fv_tile_layout_for(plan->tile_q, plan->tile_kv, problem->dim, problem->dim_v);
  job->dim = fv_stepped_dim(problem->dim);
  job->dim_v = fv_stepped_dim(problem->dim_v);
  job->k_in_place = fv_is_in_place(job->kernels, &a->k);
  job->v_in_place = fv_is_in_place(job->kernels, &a->v);
  job->scores_are_logits = a->logits.softcap > 0 || a->logits.alibi_slopes ||
                           a->logits.distances.table || a->logits.bias.dtype;
  job->element_masks = a->visibility.mask.dtype || a->logits.bias.dtype ||
                       a->logits.distances.table || a->visibility.tree.bits;
  job->row_masks = job->element_masks || a->logits.alibi_slopes || a->visibility.prefix_lengths;
  job->score_factor = job->scores_are_logits ? log2_e : problem->scale * log2_e;
  job->partial_doubles = plan->cpu.partial_bytes / sizeof(double);
  job->partials =
      (double *)((char *)a->workspace + plan->cpu.scratch_bytes * (size_t)plan->workers);
  job->split = false;
  job->max_heads = 1;
  atomic_init(&job->next, 0);
}

/* As many heads as leave each thread FV_BLOCK_WORK_TILES work tiles, to balance the threads. */
static int64_t choose_max_heads(const fv_plan *plan, int64_t streams) {
  if (plan->workers == 1) return FV_BLOCK_ROWS;
  return fv_max(streams / ((int64_t)FV_BLOCK_WORK_TILES * plan->workers), 1);
}

void fv_cpu_attention(const fv_problem *problem, const fv_plan *plan, fv_parallel parallel) {
  fv_attend_job job;
  start_job(problem, plan, &job);
  survey total = count_work(&job);
  /* The plan has places for the partials of max_split_streams streams. */
  if (total.streams > 0 && total.streams <= plan->cpu.max_split_streams) {
    job.split = true;
    total = count_work(&job);
  }
  job.max_heads = choose_max_heads(plan, total.streams);
  fv_parallel_run(parallel, fv_min(plan->workers, total.work_tiles), work, &job);
  if (!job.split) return;
  atomic_store(&job.next, 0);
  fv_parallel_run(parallel, fv_min(plan->workers, total.streams), finish, &job);
}

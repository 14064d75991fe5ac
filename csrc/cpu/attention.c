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
 * than a table of work tiles and allocates nothing. Where kv heads have pages or lengths of their
 * own, each head of a sequence is a step of the walk. */
#include "csrc/cpu/attention.h"

#include "csrc/cpu/attend.h"
#include "csrc/cpu/plan.h"

static const float log2_e = 1.44269504f;

/* Kv heads of a sequence for which its geometry is the same: all, or one if they differ. */
typedef struct share {
  const fv_sequence *sequence; /* as those heads have it */
  int64_t first_head, heads;
} share;

/* Walks the shares in order. Zero-initialise. */
typedef struct share_walk {
  fv_sequence_cursor cursor;
  fv_sequence sequence, own;
  share now;
} share_walk;

static bool next_share(const fv_problem *p, share_walk *walk) {
  int64_t head = walk->now.first_head + walk->now.heads; /* heads is 0 before the first */
  if (!walk->now.heads || head >= p->heads_kv) {
    if (!fv_sequence_next(p, &walk->cursor, &walk->sequence)) return false;
    head = 0;
  }
  walk->now.sequence = fv_sequence_of_head(p, &walk->sequence, head, &walk->own);
  walk->now.first_head = head;
  walk->now.heads = p->heads_differ ? 1 : p->heads_kv;
  return true;
}

/* The work tiles of a share. */
typedef struct work_tiles {
  share share;
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
  int64_t heads = w->share.heads, most = fv_min(FV_BLOCK_ROWS / w->rows, job->max_heads);
  w->heads = fv_ceil_div(heads, fv_ceil_div(heads, most));
  w->blocks = fv_ceil_div(heads, w->heads);
}

static work_tiles work_tiles_of(const fv_attend_job *job, share share) {
  work_tiles w = {.share = share,
                  .rows = share.sequence->len_q * job->problem->group,
                  .tile_q = job->plan->tile_q};
  w.stream = fv_is_stream(job, w.rows);
  w.heads = 1;
  w.blocks = share.heads;
  if (w.rows > 0 && w.stream) {
    w.per_block = job->split ? fv_chunk_count(share.sequence->mask.len) : 1;
    cut_heads(job, &w);
  } else if (w.rows > 0) {
    cut_tiles(&w);
  }
  w.count = w.per_block * w.blocks;
  return w;
}

/* Handles work tile `number` of a share. `partial` is the number of the share's first partial. */
typedef void (*handle_work_tile)(fv_attend_worker *worker, const work_tiles *w, int64_t number,
                                 int64_t partial);

/* Sets the worker's kv head to the first of a stream's work tile. *skipped receives how many heads
 * of the share come before it. Returns how many the work tile has. */
static int32_t take_heads(fv_attend_worker *worker, const work_tiles *w, int64_t number,
                          int64_t *skipped) {
  *skipped = number / w->per_block * w->heads;
  worker->source.kv_head = w->share.first_head + *skipped;
  return (int32_t)fv_min(w->heads, w->share.heads - *skipped);
}

static void attend(fv_attend_worker *worker, const work_tiles *w, int64_t number, int64_t partial) {
  const fv_attend_job *job = worker->job;
  if (!w->stream) {
    int64_t row_begin = (w->per_block - 1 - number / w->share.heads) * w->tile_q;
    worker->source.kv_head = w->share.first_head + number % w->share.heads;
    fv_attend_tile(worker, row_begin, (int32_t)fv_min(w->tile_q, w->rows - row_begin));
    return;
  }
  int64_t skipped;
  int32_t heads = take_heads(worker, w, number, &skipped);
  if (job->split) {
    int64_t chunk = number % w->per_block;
    int64_t place = partial + skipped * w->per_block + chunk;
    fv_attend_chunk(worker, heads, chunk, job->partials + place * job->partial_doubles,
                    w->per_block);
  } else {
    fv_attend_stream(worker, heads);
  }
}

static void merge(fv_attend_worker *worker, const work_tiles *w, int64_t number, int64_t partial) {
  const fv_attend_job *job = worker->job;
  if (!w->stream || number % w->per_block) return;
  int64_t skipped;
  int32_t heads = take_heads(worker, w, number, &skipped);
  int64_t first = partial + skipped * w->per_block;
  fv_merge_chunks(worker, heads, job->partials + first * job->partial_doubles);
}

/* Takes work tiles until none is left. */
static void take_work_tiles(fv_attend_job *job, int64_t index, handle_work_tile handle) {
  share_walk walk = {0};
  fv_key_tile tiles[2];
  fv_attend_worker worker;
  worker.job = job;
  worker.tiles = tiles;
  worker.source.problem = job->problem;
  worker.scratch = (float *)((char *)job->problem->args.workspace +
                             (size_t)index * job->plan->cpu.scratch_bytes);

  int64_t mine = atomic_fetch_add(&job->next, 1);
  int64_t begin = 0, partial = 0; /* the share's first work tile and partial */
  while (next_share(job->problem, &walk)) {
    work_tiles w = work_tiles_of(job, walk.now);
    worker.source.sequence = walk.now.sequence;
    for (; mine < begin + w.count; mine = atomic_fetch_add(&job->next, 1)) {
      worker.errors = 0;
      handle(&worker, &w, mine - begin, partial);
      fv_report_errors(job->problem, walk.sequence.index, worker.errors);
    }
    begin += w.count;
    if (w.stream) partial += w.per_block * w.share.heads;
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
  share_walk walk = {0};
  survey total = {0};
  while (next_share(job->problem, &walk)) {
    work_tiles w = work_tiles_of(job, walk.now);
    /* Bad lengths and offsets are reported for all sequences, those without rows included. */
    fv_report_errors(job->problem, walk.sequence.index, walk.now.sequence->errors);
    total.work_tiles += w.count;
    if (w.stream) total.streams += w.per_block * w.share.heads;
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

void fv_attend_start(const fv_problem *problem, fv_isa isa, fv_attend_job *job) {
  const fovea_attention_args *a = &problem->args;
  job->problem = problem;
  job->kernels = kernels_for(isa);
  job->dim = fv_stepped_dim(problem->dim);
  job->dim_v = fv_stepped_dim(problem->dim_v);
  job->k_in_place = fv_is_in_place(job->kernels, &a->k);
  job->v_in_place = fv_is_in_place(job->kernels, &a->v);
  job->additive = a->logits.additive.vector != NULL;
  job->scores_are_logits = a->logits.softcap > 0 || a->logits.alibi_slopes ||
                           a->logits.distances.table || a->logits.bias.dtype;
  job->element_masks = a->visibility.mask.dtype || a->logits.bias.dtype ||
                       a->logits.distances.table || a->visibility.tree.bits;
  job->row_masks = job->element_masks || a->logits.alibi_slopes || a->visibility.prefix_lengths;
  job->score_factor = job->scores_are_logits ? log2_e : problem->scale * log2_e;
}

static void start_job(const fv_problem *problem, const fv_plan *plan, fv_attend_job *job) {
  fv_attend_start(problem, ((const fv_cpu_row *)plan->kernel)->isa, job);
  job->plan = plan;
  job->layout = fv_tile_layout_for(plan->tile_q, plan->tile_kv, problem->dim, problem->dim_v);
  job->partial_doubles = plan->cpu.partial_bytes / sizeof(double);
  job->partials =
      (double *)((char *)problem->args.workspace + plan->cpu.scratch_bytes * (size_t)plan->workers);
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

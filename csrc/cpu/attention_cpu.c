/* attention_cpu.c - attention with online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), in
 * memory that does not grow with the number of keys.
 *
 * Work comes in pieces: tiles of rows (attend_tile.c). A row is a pair (position, query head of the
 * group), so that the heads of a group share each load of their keys. The last tiles of a sequence
 * come first: under a causal mask they are the longest, and a long piece at the end would leave
 * threads idle.
 *
 * Key tiles start at absolute multiples of plan->tile_kv, and a key tile that a row sees nothing of
 * leaves the row's state as it was, bit by bit. So a row's bits depend on nothing but its own
 * query, its keys and its masks.
 *
 * Workers take pieces from a shared counter; each walks the sequences itself, which costs less than
 * a table of pieces and allocates nothing. */
#include "attention_cpu.h"

#include "attend.h"

static const float log2_e = 1.44269504f;

/* The pieces of one sequence. */
typedef struct pieces {
  int64_t rows;     /* (position, head of the group) pairs of a kv head */
  int32_t tile_q;   /* of all tiles but the last */
  int64_t tiles;    /* per kv head */
  int64_t count;
} pieces;

/* Tiles of one size: a last tile of few rows would cost as much packing as a whole one. */
static pieces pieces_of(const fv_attend_job *job, const fv_sequence *sequence) {
  pieces p = {sequence->len_q * job->problem->group, job->plan->tile_q, 0, 0};
  p.tiles = fv_ceil_div(p.rows, p.tile_q);
  if (p.tiles > 0) {
    int64_t even = fv_ceil_div(p.rows, p.tiles);
    p.tile_q = (int32_t)(fv_ceil_div(even, FV_PANEL_ROWS_MOST) * FV_PANEL_ROWS_MOST);
    p.tiles = fv_ceil_div(p.rows, p.tile_q);
  }
  p.count = p.tiles * job->problem->heads_kv;
  return p;
}

static void attend_piece(fv_attend_worker *worker, const pieces *p, int64_t number) {
  const fv_problem *problem = worker->job->problem;
  int64_t tile = p->tiles - 1 - number / problem->heads_kv;
  int64_t row_begin = tile * p->tile_q;
  worker->source.kv_head = number % problem->heads_kv;
  worker->errors = 0;
  fv_attend_tile(worker, row_begin, (int32_t)fv_min(p->tile_q, p->rows - row_begin));
  fv_report_errors(problem, worker->source.sequence->index, worker->errors);
}

static void work(void *context, int64_t index) {
  fv_attend_job *job = context;
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  fv_attend_worker worker;
  worker.job = job;
  worker.source = (fv_key_source){job->problem, &sequence, 0};
  worker.scratch =
      (float *)((char *)job->problem->args.workspace + (size_t)index * job->plan->scratch_bytes);

  int64_t mine = atomic_fetch_add(&job->next, 1);
  int64_t begin = 0; /* number of the sequence's first piece */
  while (fv_sequence_next(job->problem, &cursor, &sequence)) {
    pieces p = pieces_of(job, &sequence);
    for (; mine < begin + p.count; mine = atomic_fetch_add(&job->next, 1)) {
      attend_piece(&worker, &p, mine - begin);
    }
    begin += p.count;
  }
}

/* Bad lengths and offsets are reported for every sequence, also for those without rows. Returns the
 * number of pieces. */
static int64_t survey(const fv_attend_job *job) {
  fv_sequence_cursor cursor = {0};
  fv_sequence sequence;
  int64_t count = 0;
  while (fv_sequence_next(job->problem, &cursor, &sequence)) {
    fv_report_errors(job->problem, sequence.index, sequence.errors);
    count += pieces_of(job, &sequence).count;
  }
  return count;
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
  fv_attend_job job = {.problem = problem, .plan = plan};
  job.kernels = kernels_for(plan->kernel->isa);
  job.layout = fv_tile_layout_for(plan->tile_q, plan->tile_kv, problem->dim, problem->dim_v);
  job.natural = a->softcap > 0 || a->alibi_slopes || a->bias.dtype;
  job.element_masks = a->mask.dtype || a->bias.dtype || a->tree.bits;
  job.row_masks = job.element_masks || a->alibi_slopes || a->prefix_lengths;
  job.score_factor = job.natural ? log2_e : problem->scale * log2_e;
  atomic_init(&job.next, 0);
  int64_t pieces = survey(&job);
  fv_parallel_run(parallel, fv_min(plan->workers, pieces), work, &job);
}

/* index.c - see index.h. */
#include "bench/problem/index.h"

#include <string.h>

#include "bench/problem/tensors.h"

static int32_t *take(fv_bench_index *index, int64_t count) {
  int32_t *begin = index->numbers ? index->numbers + index->count : NULL;
  index->count += count;
  return begin;
}

fv_bench_index fv_bench_index_at(const fv_bench_problem *problem, int32_t *numbers) {
  fv_bench_index index = {.numbers = numbers};
  bool prompts = problem->kind == FV_BENCH_PACKED;
  if (prompts || problem->kind == FV_BENCH_MIXED) {
    index.q_offsets = take(&index, problem->batch + 1);
  }
  if (prompts) index.kv_offsets = take(&index, problem->batch + 1);
  if (!problem->page_len) return index;
  index.row_stride = fv_bench_pages_of(problem, 0);
  index.pages = fv_bench_pages(problem);
  index.kv_lengths = take(&index, problem->batch);
  index.page_ids = take(&index, problem->batch * index.row_stride);
  return index;
}

static void fill_offsets(int32_t *offsets, const fv_bench_problem *problem,
                         int64_t (*length)(const fv_bench_problem *, int64_t)) {
  offsets[0] = 0;
  for (int64_t s = 0; s < problem->batch; ++s) {
    offsets[s + 1] = offsets[s] + (int32_t)length(problem, s);
  }
}

/* The shuffle of Fisher and Yates. */
static void shuffle(int32_t *ids, int64_t count) {
  for (int64_t i = count - 1; i > 0; --i) {
    int64_t other = (int64_t)(fv_bench_random(4, i) % (uint64_t)(i + 1));
    int32_t id = ids[i];
    ids[i] = ids[other];
    ids[other] = id;
  }
}

/* The ids are shuffled at the start of the table, then dealt out to its lines from the last one on.
 * No line overwrites ids that are still to be dealt. */
static void fill_pages(const fv_bench_index *index, const fv_bench_problem *problem) {
  int32_t *ids = index->page_ids;
  int64_t left = index->pages;
  for (int64_t i = 0; i < left; ++i) ids[i] = (int32_t)i;
  shuffle(ids, left);
  for (int64_t s = problem->batch - 1; s >= 0; --s) {
    int64_t count = fv_bench_pages_of(problem, s);
    int32_t *line = ids + s * index->row_stride;
    left -= count;
    memmove(line, ids + left, (size_t)count * sizeof *line);
    for (int64_t i = count; i < index->row_stride; ++i) line[i] = -1;
  }
}

void fv_bench_index_fill(const fv_bench_index *index, const fv_bench_problem *problem) {
  if (index->q_offsets) fill_offsets(index->q_offsets, problem, fv_bench_rows_of);
  if (index->kv_offsets) fill_offsets(index->kv_offsets, problem, fv_bench_keys_of);
  for (int64_t s = 0; index->kv_lengths && s < problem->batch; ++s) {
    index->kv_lengths[s] = (int32_t)fv_bench_keys_of(problem, s);
  }
  if (index->page_ids) fill_pages(index, problem);
}

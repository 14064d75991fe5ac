/* wide.c - see wide.h. */
#include "bench/pipelines/wide.h"

#include <stdlib.h>
#include <string.h>

#include "bench/pipelines/vector.h"

enum { CONVERT_CHUNK = 1 << 15 };

static bool is_narrow(const fv_bench_problem *problem) {
  return problem->dtype != FOVEA_F32;
}

/* ---- Memory ---- */

static int64_t count_of_rows(const fv_bench_problem *p) {
  return fv_bench_rows(p) * p->heads_q * p->dim;
}

static int64_t count_of_keys(const fv_bench_problem *p) {
  return fv_bench_keys(p) * p->heads_kv * p->dim;
}

size_t fv_bench_wide_bytes(const fv_bench_problem *problem) {
  int64_t count = 0;
  if (is_narrow(problem)) count += 2 * count_of_rows(problem);
  if (is_narrow(problem) || problem->page_len) count += 2 * count_of_keys(problem);
  return (size_t)count * sizeof(float);
}

static void place(fv_bench_wide *wide) {
  const fv_bench_tensors *t = wide->tensors;
  float *next = wide->memory;
  wide->q = t->q, wide->k = t->k, wide->v = t->v, wide->out = t->out;
  if (is_narrow(&t->problem)) {
    wide->q = next;
    wide->out = wide->q + t->q_count;
    next = wide->out + t->q_count;
  }
  if (!is_narrow(&t->problem) && !t->problem.page_len) return;
  wide->k = next;
  wide->v = wide->k + count_of_keys(&t->problem);
}

static bool count_keys(fv_bench_wide *wide) {
  const fv_bench_problem *p = &wide->tensors->problem;
  int64_t first = 0;
  wide->first_keys = malloc((size_t)p->batch * sizeof *wide->first_keys);
  for (int64_t s = 0; wide->first_keys && s < p->batch; ++s) {
    wide->first_keys[s] = first;
    first += fv_bench_keys_of(p, s);
  }
  return wide->first_keys != NULL;
}

bool fv_bench_wide_open(fv_bench_wide *wide, const fv_bench_tensors *tensors, fv_pool *pool) {
  *wide = (fv_bench_wide){.tensors = tensors, .pool = pool};
  wide->bytes = fv_bench_wide_bytes(&tensors->problem);
  if (wide->bytes) wide->memory = fv_bench_map(wide->bytes);
  if (wide->bytes && !wide->memory) return false;
  place(wide);
  return !tensors->problem.page_len || count_keys(wide);
}

void fv_bench_wide_close(fv_bench_wide *wide) {
  fv_bench_unmap(wide->memory, wide->bytes);
  free(wide->first_keys);
}

/* ---- Without pages ---- */

typedef struct conversion {
  float *wide;
  uint16_t *narrow;
  int64_t count;
  fovea_dtype dtype;
  bool widen;
} conversion;

static void convert_chunk(void *context, int64_t index) {
  const conversion *job = context;
  int64_t begin = index * CONVERT_CHUNK, left = job->count - begin;
  int64_t count = left < CONVERT_CHUNK ? left : CONVERT_CHUNK;
  if (job->widen) fv_bench_widen(job->wide + begin, job->narrow + begin, count, job->dtype);
  if (!job->widen) fv_bench_narrow(job->narrow + begin, job->wide + begin, count, job->dtype);
}

static void convert(const fv_bench_wide *at, float *wide, void *narrow, int64_t count, bool widen) {
  conversion job = {wide, narrow, count, at->tensors->problem.dtype, widen};
  fv_pool_run(at->pool, (count + CONVERT_CHUNK - 1) / CONVERT_CHUNK, convert_chunk, &job);
}

/* ---- From pages ---- */

static void bring(float *to, const void *tensor, int64_t from, int64_t count, fovea_dtype dtype) {
  if (dtype == FOVEA_F32) {
    memcpy(to, (const float *)tensor + from, (size_t)count * sizeof *to);
  } else {
    fv_bench_widen(to, (const uint16_t *)tensor + from, count, dtype);
  }
}

/* One entry of the page table; entries past a sequence's last page hold nothing. */
static void gather_page(void *context, int64_t index) {
  const fv_bench_wide *wide = context;
  const fv_bench_tensors *t = wide->tensors;
  const fv_bench_problem *p = &t->problem;
  int64_t sequence = index / t->index.row_stride, width = p->heads_kv * p->dim;
  int64_t first = index % t->index.row_stride * p->page_len;
  int64_t keys = fv_bench_keys_of(p, sequence) - first;
  if (keys <= 0) return;
  if (keys > p->page_len) keys = p->page_len;
  int64_t from = t->index.page_ids[index] * p->page_len * width;
  int64_t to = (wide->first_keys[sequence] + first) * width;
  bring(wide->k + to, t->k, from, keys * width, p->dtype);
  bring(wide->v + to, t->v, from, keys * width, p->dtype);
}

/* ---- All of it ---- */

void fv_bench_wide_fill(const fv_bench_wide *wide) {
  const fv_bench_tensors *t = wide->tensors;
  bool narrow = is_narrow(&t->problem);
  if (narrow) convert(wide, wide->q, t->q, t->q_count, true);
  if (t->problem.page_len) {
    fv_pool_run(wide->pool, t->problem.batch * t->index.row_stride, gather_page, (void *)wide);
  } else if (narrow) {
    convert(wide, wide->k, t->k, t->kv_count, true);
    convert(wide, wide->v, t->v, t->kv_count, true);
  }
}

void fv_bench_wide_finish(const fv_bench_wide *wide) {
  const fv_bench_tensors *t = wide->tensors;
  if (is_narrow(&t->problem)) convert(wide, wide->out, t->out, t->q_count, false);
}

/* tensors.c - see tensors.h. */
#include "bench/problem/tensors.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#else
#include <stdlib.h>
#include <unistd.h>
#endif

#include "csrc/host/element.h"
#include "csrc/numeric.h"

void *fv_bench_map(size_t bytes) {
  void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? NULL : memory;
}

void fv_bench_unmap(void *memory, size_t bytes) {
  if (memory) munmap(memory, bytes);
}

/* ---- Contents ---- */

enum { FILL_CHUNK = 1 << 16 };

typedef struct fill_job {
  void *data;
  int64_t count;
  fovea_dtype dtype;
  uint64_t seed;
} fill_job;

/* The mixing of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), applied to a counter. */
static inline uint64_t random_bits(uint64_t seed, int64_t index) {
  uint64_t z = seed + (uint64_t)index * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t fv_bench_random(uint64_t seed, int64_t index) {
  return random_bits(seed, index);
}

static float random_at(uint64_t seed, int64_t index) {
  return (float)(int32_t)(random_bits(seed, index) >> 32) * 0x1p-31f;
}

static void fill_chunk(void *context, int64_t index) {
  const fill_job *job = context;
  int64_t end = (index + 1) * FILL_CHUNK < job->count ? (index + 1) * FILL_CHUNK : job->count;
  for (int64_t i = index * FILL_CHUNK; i < end; ++i) {
    float x = random_at(job->seed, i);
    if (job->dtype == FOVEA_F32) ((float *)job->data)[i] = x;
    if (job->dtype == FOVEA_F16) ((uint16_t *)job->data)[i] = fv_f16_from_f32(x);
    if (job->dtype == FOVEA_BF16) ((uint16_t *)job->data)[i] = fv_bf16_from_f32(x);
  }
}

void fv_bench_fill(void *data, int64_t count, fovea_dtype dtype, uint64_t seed, fv_pool *pool) {
  fill_job job = {data, count, dtype, seed};
  fv_pool_run(pool, (count + FILL_CHUNK - 1) / FILL_CHUNK, fill_chunk, &job);
}

/* ---- The tensors of a problem ---- */

/* At least one: nothing cannot be mapped. */
static size_t bytes_of(const fv_bench_tensors *tensors, int64_t count) {
  int64_t bytes = count * fv_bench_dtype_bytes(tensors->problem.dtype);
  return (size_t)(bytes ? bytes : 1);
}

static bool make_index(fv_bench_tensors *tensors) {
  const fv_bench_problem *problem = &tensors->problem;
  tensors->index = fv_bench_index_at(problem, NULL);
  if (!tensors->index.count) return true;
  int32_t *numbers = fv_bench_map((size_t)tensors->index.count * sizeof *numbers);
  tensors->index = fv_bench_index_at(problem, numbers);
  if (numbers) fv_bench_index_fill(&tensors->index, problem);
  return numbers != NULL;
}

static size_t score_vector_bytes(const fv_bench_problem *problem) {
  return (size_t)(problem->heads_q * problem->dim) * sizeof(float);
}

static bool make_score_vector(fv_bench_tensors *tensors, fv_pool *pool) {
  const fv_bench_problem *problem = &tensors->problem;
  if (problem->kind != FV_BENCH_ADDITIVE) return true;
  tensors->score_vector = fv_bench_map(score_vector_bytes(problem));
  if (!tensors->score_vector) return false;
  int64_t count = problem->heads_q * problem->dim;
  fv_bench_fill(tensors->score_vector, count, FOVEA_F32, 4, pool);
  for (int64_t i = 0; i < count; ++i) tensors->score_vector[i] /= sqrtf((float)problem->dim);
  return true;
}

static size_t projection_bytes(const fv_bench_problem *problem) {
  return (size_t)(fv_bench_projection_count(problem) * fv_bench_dtype_bytes(problem->dtype));
}

static bool make_projections(fv_bench_tensors *tensors, fv_pool *pool) {
  const fv_bench_problem *p = &tensors->problem;
  if (!fv_bench_is_layer(p)) return true;
  int64_t count = fv_bench_projection_count(p);
  float factor = sqrtf(3 / (float)fv_bench_model(p));
  tensors->projections = fv_bench_map(projection_bytes(p));
  if (!tensors->projections) return false;
  fv_bench_fill(tensors->projections, count, p->dtype, 5, pool);
  for (int64_t i = 0; i < count; ++i) {
    float element = fv_load(p->dtype, tensors->projections, i);
    fv_store_f32(p->dtype, tensors->projections, i, factor * element);
  }
  return true;
}

bool fv_bench_tensors_make(fv_bench_tensors *tensors, const fv_bench_problem *problem,
                           fv_pool *pool) {
  fv_bench_tensors made = {.problem = *problem};
  int64_t slots =
      problem->page_len ? fv_bench_pages(problem) * problem->page_len : fv_bench_keys(problem);
  made.q_count = fv_bench_rows(problem) * problem->heads_q * problem->dim;
  made.kv_count = fv_bench_is_layer(problem) ? 0 : slots * problem->heads_kv * problem->dim;
  made.q = fv_bench_map(bytes_of(&made, made.q_count));
  made.k = fv_bench_map(bytes_of(&made, made.kv_count));
  made.v = fv_bench_map(bytes_of(&made, made.kv_count));
  made.out = fv_bench_map(bytes_of(&made, made.q_count));
  bool completed =
      make_index(&made) && make_score_vector(&made, pool) && make_projections(&made, pool);
  *tensors = made;
  if (!made.q || !made.k || !made.v || !made.out || !completed) {
    fv_bench_tensors_free(tensors);
    return false;
  }
  fv_bench_fill(made.q, made.q_count, problem->dtype, 1, pool);
  fv_bench_fill(made.k, made.kv_count, problem->dtype, 2, pool);
  fv_bench_fill(made.v, made.kv_count, problem->dtype, 3, pool);
  memset(made.out, 0xff, bytes_of(&made, made.q_count)); /* all bits set: NaN in each format */
  return true;
}

void fv_bench_tensors_free(fv_bench_tensors *tensors) {
  fv_bench_unmap(tensors->q, bytes_of(tensors, tensors->q_count));
  fv_bench_unmap(tensors->k, bytes_of(tensors, tensors->kv_count));
  fv_bench_unmap(tensors->v, bytes_of(tensors, tensors->kv_count));
  fv_bench_unmap(tensors->out, bytes_of(tensors, tensors->q_count));
  fv_bench_unmap(tensors->score_vector, score_vector_bytes(&tensors->problem));
  fv_bench_unmap(tensors->projections, projection_bytes(&tensors->problem));
  fv_bench_unmap(tensors->index.numbers, (size_t)tensors->index.count * sizeof(int32_t));
  memset(tensors, 0, sizeof *tensors);
}

double fv_bench_tensors_kv_bytes(const fv_bench_tensors *tensors) {
  return 2 * (double)bytes_of(tensors, tensors->kv_count);
}

void fv_bench_tensors_flush(const fv_bench_tensors *tensors) {
  fv_bench_flush(tensors->k, bytes_of(tensors, tensors->kv_count));
  fv_bench_flush(tensors->v, bytes_of(tensors, tensors->kv_count));
}

#if defined(__x86_64__)
/* clflush evicts a line from every cache of the coherence domain, also from those that a virtual
 * machine shares with others. So no buffer has to exceed a cache of unknown size. */
void fv_bench_flush(const void *memory, size_t bytes) {
  const char *line = memory;
  for (size_t at = 0; at < bytes; at += 64) _mm_clflush(line + at);
  _mm_mfence();
}
#else
/* Writes over a buffer larger than any cache: four times the known cache, or 256 MiB. */
void fv_bench_flush(const void *memory, size_t bytes) {
  (void)memory, (void)bytes;
  long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  size_t size = cache > 0 ? 4 * (size_t)cache : (size_t)256 << 20;
  char *other = malloc(size);
  if (!other) return;
  memset(other, 1, size);
  __asm__ volatile("" : : "r"(other) : "memory"); /* the writes must happen */
  free(other);
}
#endif

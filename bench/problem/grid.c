/* grid.c - see grid.h.
 *
 * Prefill has 4096 tokens per call and 8 query heads, so that its arithmetic grows with the length
 * alone. Beyond 4096 that would take hours, so heads are left out there. This changes no figure per
 * FLOP: every length has more tiles than a machine has threads.
 *
 * Batches as servers have them are few: packed ones of some 4096 tokens, caches of a hundred
 * megabytes or more, and a chunk beside rows that decode. There are 255 such rows of short
 * sequences, or 15 of long ones.
 *
 * Additive scores have one head, as recurrent models do, and 1024 rows per call: the naive pipeline
 * writes a tensor of rows, keys and hidden units to memory.
 *
 * Layers have 2048 tokens per call, of 512 or 1024 elements: the widths of small translators and of
 * encoders for search. */
#include "bench/problem/grid.h"

#include <stdlib.h>

enum { PREFILL_TOKENS = 4096, PREFILL_HEADS = 8, DECODE_BATCH = 4, LENGTHS_MAX = 8 };
enum { ADDITIVE_TOKENS = 1024, ADDITIVE_MAX = 5 };
enum { LAYER_TOKENS = 2048, LAYER_DIM = 64 };
enum { SERVED_PAGE_LEN = 16 };

/* The largest K and V that decoding is timed with. More tells nothing new about memory. The naive
 * pipeline needs the same again, or twice that if it has to widen them. */
static const double most_kv_bytes = 1073741824.0;

typedef struct grid_axes {
  fovea_dtype dtypes[3];        /* up to the first NONE */
  int64_t dims[4], gqa_dims[4]; /* up to the first 0: of prefill with 8 and with 2 kv heads */
  int64_t lengths[LENGTHS_MAX]; /* of prefill with 8 kv heads */
  int64_t gqa_lengths[LENGTHS_MAX];
  int64_t decode_dims[2];
  int64_t decode_lengths[LENGTHS_MAX];
  int64_t decode_heads[2][2];                               /* query and kv heads */
  fv_bench_served served[FV_BENCH_SERVED_MAX];              /* up to the first without a batch */
  int64_t additive_dims[2], additive_lengths[ADDITIVE_MAX]; /* up to the first 0 */
  int64_t layer_heads[2], layer_lengths[LENGTHS_MAX];
} grid_axes;

static const grid_axes grids[] = {
    [FV_BENCH_QUICK] = {.dtypes = {FOVEA_F32, FOVEA_BF16},
                        .dims = {64},
                        .lengths = {128, 512, 1024},
                        .decode_dims = {128},
                        .decode_lengths = {1024, 4096},
                        .decode_heads = {{32, 8}},
                        .served = {{FV_BENCH_PACKED, 8, 8, 2, 512, 512, 64},
                                   {FV_BENCH_PAGED, 4, 32, 8, 1, 2048, 128},
                                   {FV_BENCH_MIXED, 16, 16, 4, 64, 1024, 128}},
                        .additive_dims = {64},
                        .additive_lengths = {64},
                        .layer_heads = {8},
                        .layer_lengths = {128}},
    [FV_BENCH_DEFAULT] = {.dtypes = {FOVEA_F32, FOVEA_BF16},
                          .dims = {64, 128},
                          .gqa_dims = {64, 128},
                          .lengths = {128, 256, 512, 1024, 2048},
                          .gqa_lengths = {128, 512, 2048},
                          .decode_dims = {128},
                          .decode_lengths = {1024, 4096, 16384},
                          .decode_heads = {{32, 8}},
                          .served = {{FV_BENCH_PACKED, 16, 8, 2, 512, 512, 128},
                                     {FV_BENCH_PACKED, 4, 8, 2, 2048, 2048, 128},
                                     {FV_BENCH_PAGED, 16, 32, 8, 1, 1024, 128},
                                     {FV_BENCH_PAGED, 8, 32, 8, 1, 4096, 128},
                                     {FV_BENCH_MIXED, 256, 8, 2, 512, 1024, 128}},
                          .additive_dims = {128},
                          .additive_lengths = {32, 128, 512},
                          .layer_heads = {8},
                          .layer_lengths = {128, 512, 2048}},
    [FV_BENCH_FULL] = {.dtypes = {FOVEA_F32, FOVEA_F16, FOVEA_BF16},
                       .dims = {32, 64, 128, 256},
                       .gqa_dims = {32, 64, 128, 256},
                       .lengths = {128, 256, 512, 1024, 2048, 4096, 8192, 16384},
                       .gqa_lengths = {128, 512, 2048},
                       .decode_dims = {64, 128},
                       .decode_lengths = {1024, 4096, 16384, 65536},
                       .decode_heads = {{8, 8}, {32, 8}},
                       .served = {{FV_BENCH_PACKED, 16, 8, 2, 512, 512, 64},
                                  {FV_BENCH_PACKED, 4, 8, 2, 2048, 2048, 64},
                                  {FV_BENCH_PACKED, 16, 8, 2, 512, 512, 128},
                                  {FV_BENCH_PACKED, 4, 8, 2, 2048, 2048, 128},
                                  {FV_BENCH_PAGED, 16, 32, 8, 1, 1024, 128},
                                  {FV_BENCH_PAGED, 8, 32, 8, 1, 4096, 128},
                                  {FV_BENCH_PAGED, 4, 32, 8, 1, 16384, 128},
                                  {FV_BENCH_MIXED, 256, 8, 2, 512, 1024, 128},
                                  {FV_BENCH_MIXED, 16, 32, 8, 512, 4096, 128}},
                       .additive_dims = {128, 512},
                       .additive_lengths = {32, 64, 128, 256, 512},
                       .layer_heads = {8, 16},
                       .layer_lengths = {32, 64, 128, 256, 512, 1024, 2048, 4096}},
};

const char *fv_bench_grid_name(fv_bench_grid grid) {
  static const char *const names[] = {"quick", "default", "full"};
  return names[grid];
}

static bool append(fv_bench_problems *list, const fv_bench_problem *problem) {
  fv_bench_problem *grown = realloc(list->at, (list->count + 1) * sizeof *grown);
  if (!grown) return false;
  list->at = grown;
  list->at[list->count++] = *problem;
  return true;
}

static int64_t at_least_one(int64_t number) {
  return number < 1 ? 1 : number;
}

/* 16384 tokens of 256 dims alone would take as long as all lengths up to 2048 of 128 dims together,
 * and show what 8192 show. The same holds for the smallest dim, and for f16, whose arithmetic is
 * that of f32. */
static bool is_too_long(fovea_dtype dtype, int64_t dim, int64_t len) {
  return len > 8192 && (dtype == FOVEA_F16 || (dim != 64 && dim != 128));
}

static bool add_prefill(fv_bench_problems *list, fovea_dtype dtype, const int64_t *dims,
                        const int64_t *lengths, int64_t group) {
  bool done = true;
  for (const int64_t *dim = dims; dim < dims + 4 && *dim; ++dim) {
    for (int causal = 0; causal < 2; ++causal) {
      for (const int64_t *len = lengths; len < lengths + LENGTHS_MAX && *len; ++len) {
        int64_t heads = *len < PREFILL_TOKENS ? PREFILL_HEADS : at_least_one(16384 / *len);
        fv_bench_problem problem = {.batch = at_least_one(PREFILL_TOKENS / *len),
                                    .heads_q = heads,
                                    .heads_kv = heads / group,
                                    .len_q = *len,
                                    .len_kv = *len,
                                    .dim = *dim,
                                    .dtype = dtype,
                                    .causal = causal};
        if (!is_too_long(dtype, *dim, *len)) done = done && append(list, &problem);
      }
    }
  }
  return done;
}

static bool add_decode_shape(fv_bench_problems *list, fv_bench_problem problem,
                             double cache_bytes) {
  while (fv_bench_kv_bytes(&problem) > most_kv_bytes && problem.batch > 1) problem.batch /= 2;
  problem.cold = true;
  if (!append(list, &problem)) return false;
  problem.cold = false;
  return fv_bench_kv_bytes(&problem) > cache_bytes / 2 || append(list, &problem);
}

static bool add_decode(fv_bench_problems *list, fovea_dtype dtype, const grid_axes *axes,
                       double cache_bytes) {
  bool done = true;
  for (int h = 0; h < 2 && axes->decode_heads[h][0]; ++h) {
    for (int d = 0; d < 2 && axes->decode_dims[d]; ++d) {
      for (int n = 0; n < LENGTHS_MAX && axes->decode_lengths[n]; ++n) {
        fv_bench_problem problem = {.batch = DECODE_BATCH,
                                    .heads_q = axes->decode_heads[h][0],
                                    .heads_kv = axes->decode_heads[h][1],
                                    .len_q = 1,
                                    .len_kv = axes->decode_lengths[n],
                                    .dim = axes->decode_dims[d],
                                    .dtype = dtype,
                                    .kind = FV_BENCH_DECODE};
        done = done && add_decode_shape(list, problem, cache_bytes);
      }
    }
  }
  return done;
}

fv_bench_problem fv_bench_grid_served(const fv_bench_served *shape, fovea_dtype dtype) {
  fv_bench_problem problem = {.batch = shape->batch,
                              .heads_q = shape->heads_q,
                              .heads_kv = shape->heads_kv,
                              .len_q = shape->len_q,
                              .len_kv = shape->len_kv,
                              .dim = shape->dim,
                              .dtype = dtype,
                              .kind = shape->kind,
                              .causal = shape->kind != FV_BENCH_PAGED};
  if (shape->kind == FV_BENCH_PACKED) return problem;
  problem.page_len = SERVED_PAGE_LEN;
  problem.cold = true;
  return problem;
}

/* Kind by kind, in the order of the tables. */
static bool add_served(fv_bench_problems *list, const grid_axes *axes, fv_bench_kind kind) {
  bool done = true;
  for (int t = 0; t < 3 && axes->dtypes[t]; ++t) {
    const fv_bench_served *shape = axes->served;
    for (; shape < axes->served + FV_BENCH_SERVED_MAX && shape->batch; ++shape) {
      if (shape->kind != kind) continue;
      fv_bench_problem problem = fv_bench_grid_served(shape, axes->dtypes[t]);
      done = done && append(list, &problem);
    }
  }
  return done;
}

static bool add_additive(fv_bench_problems *list, const grid_axes *axes, fovea_dtype dtype) {
  bool done = true;
  for (int d = 0; d < 2 && axes->additive_dims[d]; ++d) {
    for (int n = 0; n < ADDITIVE_MAX && axes->additive_lengths[n]; ++n) {
      int64_t len = axes->additive_lengths[n];
      fv_bench_problem problem = {.batch = ADDITIVE_TOKENS / len,
                                  .heads_q = 1,
                                  .heads_kv = 1,
                                  .len_q = len,
                                  .len_kv = len,
                                  .dim = axes->additive_dims[d],
                                  .dtype = dtype,
                                  .kind = FV_BENCH_ADDITIVE};
      done = done && append(list, &problem);
    }
  }
  return done;
}

static bool add_layers(fv_bench_problems *list, const grid_axes *axes, fovea_dtype dtype) {
  bool done = true;
  for (int h = 0; h < 2 && axes->layer_heads[h]; ++h) {
    for (int n = 0; n < LENGTHS_MAX && axes->layer_lengths[n]; ++n) {
      int64_t len = axes->layer_lengths[n];
      fv_bench_problem problem = {.batch = at_least_one(LAYER_TOKENS / len),
                                  .heads_q = axes->layer_heads[h],
                                  .heads_kv = axes->layer_heads[h],
                                  .len_q = len,
                                  .len_kv = len,
                                  .dim = LAYER_DIM,
                                  .dtype = dtype,
                                  .kind = FV_BENCH_LAYER};
      done = done && append(list, &problem);
    }
  }
  return done;
}

fv_bench_problems fv_bench_grid_problems(fv_bench_grid grid, double cache_bytes) {
  const grid_axes *axes = &grids[grid];
  fv_bench_problems list = {0};
  bool done = true;
  for (int t = 0; t < 3 && axes->dtypes[t]; ++t) {
    done = done && add_prefill(&list, axes->dtypes[t], axes->dims, axes->lengths, 1);
    done = done && add_prefill(&list, axes->dtypes[t], axes->gqa_dims, axes->gqa_lengths, 4);
  }
  for (int t = 0; t < 3 && axes->dtypes[t]; ++t) {
    done = done && add_decode(&list, axes->dtypes[t], axes, cache_bytes);
  }
  done = done && add_served(&list, axes, FV_BENCH_PACKED) &&
         add_served(&list, axes, FV_BENCH_PAGED) && add_served(&list, axes, FV_BENCH_MIXED);
  for (int t = 0; t < 3 && axes->dtypes[t]; ++t) {
    done = done && add_additive(&list, axes, axes->dtypes[t]);
  }
  for (int t = 0; t < 3 && axes->dtypes[t]; ++t) {
    done = done && add_layers(&list, axes, axes->dtypes[t]);
  }
  if (!done) {
    free(list.at);
    list = (fv_bench_problems){0};
  }
  return list;
}

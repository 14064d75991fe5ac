/* grid_cuda.c - the grids of a GPU: 16-bit tensors, a hidden width of 2048 and 16384 tokens per
 * call, as in published measurements of attention's speed.
 *
 * The quick grid is small enough for the software GPU to compute within seconds. Per dtype it has
 * two problems of prefill, and one each of decoding, packed, paged and mixed. */
#include <stdlib.h>

#include "bench/problem/grid.h"

typedef struct cuda_axes {
  fovea_dtype dtypes[2]; /* up to the first NONE */
  int64_t dims[2];       /* up to the first 0, as all lists here */
  int64_t tokens, width; /* of a call; of all heads of a token */
  int64_t lengths[8];
  int64_t decode_batch, decode_heads_q, decode_heads_kv, decode_dim;
  int64_t decode_lengths[6];
  fv_bench_served served[FV_BENCH_SERVED_MAX]; /* up to the first without a batch */
} cuda_axes;

/* Decoding of 16 sequences reads 256 MiB of keys and values from 4096 keys on: more than any cache.
 */
static const cuda_axes grids[] = {
    [FV_BENCH_QUICK] = {.dtypes = {FOVEA_F16, FOVEA_BF16},
                        .dims = {64},
                        .tokens = 64,
                        .width = 64,
                        .lengths = {64},
                        .decode_batch = 1,
                        .decode_heads_q = 4,
                        .decode_heads_kv = 1,
                        .decode_dim = 64,
                        .decode_lengths = {256},
                        .served = {{FV_BENCH_PACKED, 3, 4, 1, 40, 40, 64},
                                   {FV_BENCH_PAGED, 3, 4, 1, 1, 100, 64},
                                   {FV_BENCH_MIXED, 4, 4, 1, 20, 100, 64}}},
    [FV_BENCH_DEFAULT] = {.dtypes = {FOVEA_BF16},
                          .dims = {64, 128},
                          .tokens = 16384,
                          .width = 2048,
                          .lengths = {512, 1024, 2048, 4096, 8192, 16384},
                          .decode_batch = 16,
                          .decode_heads_q = 32,
                          .decode_heads_kv = 8,
                          .decode_dim = 128,
                          .decode_lengths = {4096, 16384, 65536},
                          .served = {{FV_BENCH_PACKED, 16, 32, 8, 2048, 2048, 128},
                                     {FV_BENCH_PACKED, 4, 32, 8, 8192, 8192, 128},
                                     {FV_BENCH_PAGED, 64, 32, 8, 1, 4096, 128},
                                     {FV_BENCH_PAGED, 64, 32, 8, 1, 16384, 128},
                                     {FV_BENCH_MIXED, 256, 32, 8, 512, 4096, 128}}},
    [FV_BENCH_FULL] = {.dtypes = {FOVEA_F16, FOVEA_BF16},
                       .dims = {64, 128},
                       .tokens = 16384,
                       .width = 2048,
                       .lengths = {128, 256, 512, 1024, 2048, 4096, 8192, 16384},
                       .decode_batch = 16,
                       .decode_heads_q = 32,
                       .decode_heads_kv = 8,
                       .decode_dim = 128,
                       .decode_lengths = {1024, 4096, 8192, 16384, 32768, 65536},
                       .served = {{FV_BENCH_PACKED, 64, 32, 8, 512, 512, 128},
                                  {FV_BENCH_PACKED, 16, 32, 8, 2048, 2048, 128},
                                  {FV_BENCH_PACKED, 4, 32, 8, 8192, 8192, 128},
                                  {FV_BENCH_PAGED, 256, 32, 8, 1, 1024, 128},
                                  {FV_BENCH_PAGED, 64, 32, 8, 1, 4096, 128},
                                  {FV_BENCH_PAGED, 64, 32, 8, 1, 16384, 128},
                                  {FV_BENCH_MIXED, 256, 32, 8, 512, 4096, 128},
                                  {FV_BENCH_MIXED, 64, 32, 8, 2048, 16384, 128}}},
};

enum { PROBLEMS_MAX = 2 * (2 * 2 * 8 + 6 + FV_BENCH_SERVED_MAX) };

static void add_prefill(fv_bench_problems *list, const cuda_axes *axes, fovea_dtype dtype,
                        int64_t dim) {
  for (int causal = 0; causal < 2; ++causal) {
    for (int n = 0; n < 8 && axes->lengths[n]; ++n) {
      int64_t len = axes->lengths[n], heads = axes->width / dim;
      list->at[list->count++] = (fv_bench_problem){.batch = axes->tokens / len,
                                                   .heads_q = heads,
                                                   .heads_kv = heads,
                                                   .len_q = len,
                                                   .len_kv = len,
                                                   .dim = dim,
                                                   .dtype = dtype,
                                                   .causal = causal};
    }
  }
}

static void add_decode(fv_bench_problems *list, const cuda_axes *axes, fovea_dtype dtype) {
  for (int n = 0; n < 6 && axes->decode_lengths[n]; ++n) {
    list->at[list->count++] = (fv_bench_problem){.batch = axes->decode_batch,
                                                 .heads_q = axes->decode_heads_q,
                                                 .heads_kv = axes->decode_heads_kv,
                                                 .len_q = 1,
                                                 .len_kv = axes->decode_lengths[n],
                                                 .dim = axes->decode_dim,
                                                 .dtype = dtype,
                                                 .kind = FV_BENCH_DECODE,
                                                 .cold = true};
  }
}

static void add_served(fv_bench_problems *list, const cuda_axes *axes, fovea_dtype dtype) {
  for (int i = 0; i < FV_BENCH_SERVED_MAX && axes->served[i].batch; ++i) {
    list->at[list->count++] = fv_bench_grid_served(&axes->served[i], dtype);
  }
}

fv_bench_problems fv_bench_grid_cuda_problems(fv_bench_grid grid) {
  const cuda_axes *axes = &grids[grid];
  fv_bench_problems list = {calloc(PROBLEMS_MAX, sizeof *list.at), 0};
  if (!list.at) return list;
  for (int t = 0; t < 2 && axes->dtypes[t]; ++t) {
    for (int d = 0; d < 2 && axes->dims[d]; ++d) {
      add_prefill(&list, axes, axes->dtypes[t], axes->dims[d]);
    }
    add_decode(&list, axes, axes->dtypes[t]);
    add_served(&list, axes, axes->dtypes[t]);
  }
  return list;
}

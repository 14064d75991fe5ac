/* bench_problem.h - what is timed: a problem, the work in it, and its name in a report.
 *
 * A row of a report is (device, pipeline, problem); its name is all of that in one string,
 *
 *   cpu/fovea/prefill/batch:4/heads:8:2/len:1024:1024/dim:64/f32/causal/warm
 *
 * so that Google Benchmark's compare.py can match rows of two reports by their names, and that
 * tables and plots need nothing else. heads are query and key heads, len query rows and keys. */
#ifndef FV_BENCH_PROBLEM_H
#define FV_BENCH_PROBLEM_H

#include <stdbool.h>
#include <stdint.h>

#include "../include/fovea.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_bench_problem {
  int64_t batch, heads_q, heads_kv, len_q, len_kv, dim;
  fovea_dtype dtype; /* of q, k, v and out: F32, F16 or BF16 */
  bool decode;       /* one query row per sequence against a long cache; else prefill */
  bool causal;       /* bottom-right: the last row stands at the last key */
  bool cold;         /* keys and values are in memory, in no cache, when the clock starts */
} fv_bench_problem;

enum { FV_BENCH_WORD = 24, FV_BENCH_NAME = 160 };

typedef struct fv_bench_row_key {
  char device[FV_BENCH_WORD];   /* cpu, cuda */
  char pipeline[FV_BENCH_WORD]; /* fovea, naive, peak, read, torch, ... */
  fv_bench_problem problem;
} fv_bench_row_key;

/* (row, key) pairs that the mask leaves, of one head of one sequence. */
int64_t fv_bench_pairs(const fv_bench_problem *problem);

/* 2 products of dim multiplications and additions per visible pair: 4 * batch * heads_q * dim *
 * pairs. Exact for causal, and the same for every pipeline, whatever it computes in vain. */
double fv_bench_flops(const fv_bench_problem *problem);

/* Bytes of the keys and values: what decoding must read at least once. */
double fv_bench_kv_bytes(const fv_bench_problem *problem);

int64_t fv_bench_dtype_bytes(fovea_dtype dtype);
const char *fv_bench_dtype_name(fovea_dtype dtype);

void fv_bench_row_name(const fv_bench_row_key *key, char name[FV_BENCH_NAME]);

/* The inverse; false if it is no such name. */
bool fv_bench_row_parse(const char *name, fv_bench_row_key *key);

bool fv_bench_problem_same(const fv_bench_problem *a, const fv_bench_problem *b);

#ifdef __cplusplus
}
#endif
#endif /* FV_BENCH_PROBLEM_H */

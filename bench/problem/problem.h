/* problem.h - what is timed: a problem, the work in it, and its name in a report.
 *
 * A row of a report is (device, pipeline, problem); its name is all of that in one string,
 *
 *   cpu/fovea/prefill/batch:4/heads:8:2/len:1024:1024/dim:64/f32/causal/warm
 *   cpu/fovea/mixed/batch:256/heads:8:2/len:512:1024/page:16/dim:128/bf16/causal/cold
 *
 * so that Google Benchmark's compare.py can match rows of two reports by their names. Tables and
 * plots need nothing else. heads are query and kv heads. len counts query rows and keys, those of
 * the longest sequence where sequences differ. */
#ifndef FOVEA_BENCH_PROBLEM_PROBLEM_H
#define FOVEA_BENCH_PROBLEM_PROBLEM_H

#include <stdbool.h>
#include <stdint.h>

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a batch is made of. The lengths of unequal sequences follow from the longest length and the
 * sequence's number alone. They spread evenly from a sixteenth of the longest to all of it, in no
 * order; the first sequence is the longest. */
typedef enum fv_bench_kind {
  FV_BENCH_PREFILL,  /* sequences of len_q rows and len_kv keys each */
  FV_BENCH_DECODE,   /* likewise, one row against a long cache each */
  FV_BENCH_PACKED,   /* unequal prompts one after the other without padding, as many keys as rows */
  FV_BENCH_PAGED,    /* one row each against unequal caches, whose pages lie in no order */
  FV_BENCH_MIXED,    /* caches as in PAGED; the first sequence brings a chunk of len_q rows, packed
                     * with the one row that each of the others brings */
  FV_BENCH_ADDITIVE, /* as PREFILL, with additive scores; dim counts their hidden units too */
  FV_BENCH_LAYER     /* PREFILL of self-attention with its projections, from heads * dim and back */
} fv_bench_kind;

enum { FV_BENCH_KINDS = FV_BENCH_LAYER + 1 };

typedef struct fv_bench_problem {
  int64_t batch, heads_q, heads_kv, len_q, len_kv;
  int64_t page_len; /* 0: keys lie without pages */
  int64_t dim;
  fovea_dtype dtype; /* of q, k, v and out: F32, F16 or BF16 */
  fv_bench_kind kind;
  bool causal; /* bottom-right: the last row stands at the last key */
  bool cold;   /* keys and values are in memory, in no cache, when the clock starts */
} fv_bench_problem;

enum { FV_BENCH_WORD = 24, FV_BENCH_NAME = 160 };

typedef struct fv_bench_row_key {
  char device[FV_BENCH_WORD];   /* cpu, cuda */
  char pipeline[FV_BENCH_WORD]; /* fovea, naive, peak, read, torch, ... */
  fv_bench_problem problem;
} fv_bench_row_key;

/* "prefill", "decode", "packed", "paged", "mixed", "additive", "layer". */
const char *fv_bench_kind_name(fv_bench_kind kind);

/* Sequences of one length each, in dense tensors. */
bool fv_bench_is_dense(const fv_bench_problem *problem);

/* Layers, and what is attention alone. */
bool fv_bench_is_layer(const fv_bench_problem *problem);
bool fv_bench_is_attention(const fv_bench_problem *problem);

/* Of a layer: the width of its tokens, and the elements of its four projections with their biases.
 */
int64_t fv_bench_model(const fv_bench_problem *problem);
int64_t fv_bench_projection_count(const fv_bench_problem *problem);

/* Rows that stand alone before a long cache: most of the time goes into reading it once. */
bool fv_bench_is_decoding(const fv_bench_problem *problem);

/* Query rows, keys, and pages of one sequence; then rows, keys and pages of all. */
int64_t fv_bench_rows_of(const fv_bench_problem *problem, int64_t sequence);
int64_t fv_bench_keys_of(const fv_bench_problem *problem, int64_t sequence);
int64_t fv_bench_pages_of(const fv_bench_problem *problem, int64_t sequence);
int64_t fv_bench_rows(const fv_bench_problem *problem);
int64_t fv_bench_keys(const fv_bench_problem *problem);
int64_t fv_bench_pages(const fv_bench_problem *problem);

/* (row, key) pairs that the mask leaves visible, of one head of one sequence. */
int64_t fv_bench_pairs(const fv_bench_problem *problem, int64_t sequence);

/* 2 products of dim multiplications and additions per visible pair: 4 * heads_q * dim * pairs of
 * all sequences. Exact for causal, and the same for every pipeline, even one that computes hidden
 * pairs. Additive scores add q and k besides; their tanh is not counted. */
double fv_bench_flops(const fv_bench_problem *problem);

/* Bytes of the sequences' keys and values: decoding must read them at least once. */
double fv_bench_kv_bytes(const fv_bench_problem *problem);

int64_t fv_bench_dtype_bytes(fovea_dtype dtype);
const char *fv_bench_dtype_name(fovea_dtype dtype);

void fv_bench_row_name(const fv_bench_row_key *key, char name[FV_BENCH_NAME]);

/* The inverse of the name. False if the text is no such name, or names an impossible problem. */
bool fv_bench_row_parse(const char *name, fv_bench_row_key *key);

bool fv_bench_problem_same(const fv_bench_problem *a, const fv_bench_problem *b);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_PROBLEM_PROBLEM_H */

/* problem.h - a checked call: what check/ hands to the backend.
 *
 * check/attention.c copies the caller's struct (zero-extended to this library's size), proves the
 * header's rules and resolves every default. So no later code asks "was this given?" twice:
 *
 *   - a dimension that broadcasts (extent 1 in a scale, mask or bias) or whose stride is unused has
 *     stride 0 in the copy;
 *   - alibi_slopes, sinks, masks and tables are as given (NULL or dtype NONE: absent), except that
 *     pages.v_ids is pages.ids where v has no table of its own;
 *   - windows, scale and strides of positions are plain numbers; causal is a window_right of 0. */
#ifndef FOVEA_CSRC_PROBLEM_H
#define FOVEA_CSRC_PROBLEM_H

#include <stdbool.h>

#include <fovea.h>

/* The header's limits. */
enum {
  FV_DIM_STEP = 8, /* fast kernels take dims in such steps: 16 bytes of a 16-bit type, one load */
  FV_DIM_MAX = 576,
  FV_DIM_V_MAX = 512,
  FV_THREADS_MAX = 4096 /* twice the processors of the largest machines with one memory */
};

/* Attention. Extents are those that the host knows; the backends read lengths on the device. */
typedef struct fv_problem {
  fovea_attention_args args; /* the normalised copy */
  int64_t sequences;
  int64_t rows; /* q.shape[1]: rows of a sequence; if packed, of all sequences */
  int32_t heads_q;
  int32_t heads_kv;
  int32_t group; /* heads_q / heads_kv; 1 if there are no heads */
  int32_t dim;
  int32_t dim_v;
  bool q_packed;
  bool kv_packed;
  bool paged;
  bool heads_differ;    /* kv heads have pages or lengths of their own */
  int64_t kv_capacity;  /* upper bound on a sequence's keys, from what the host knows */
  float scale;          /* never 0 */
  int64_t window_left;  /* -1: unlimited */
  int64_t window_right; /* -1: unlimited */
  int64_t span_left;    /* how far from its row a span reaches; -1: as far as it is long */
  int64_t span_right;
  int32_t kv_position_stride; /* >= 1 */
  bool empty;                 /* an extent of out (or weights) is 0: nothing to compute */
} fv_problem;

/* The vector of a query head's additive score; NULL: the score is the dot product. */
static inline const float *fv_additive_vector(const fv_problem *problem, int64_t head) {
  const fovea_additive *additive = &problem->args.logits.additive;
  return additive->vector ? additive->vector + head * additive->head_stride : NULL;
}

/* Weights: the attention problem without v, out and lse, the selection, and the outputs; absent
 * ones have dtype NONE. */
typedef struct fv_weights_problem {
  fv_problem attention;
  fovea_tensor weights, mass, statistics;
  int32_t *largest_keys;
  const int32_t *sequences; /* [entries]; NULL: 0, 1, 2, ... */
  const int32_t *rows;      /* [row_count]; NULL: 0, 1, 2, ... */
  const int32_t *heads;     /* [head_count]; NULL: 0, 1, 2, ... */
  int64_t entries;          /* chosen sequences */
  int64_t row_count;        /* chosen rows of each; -1: all that it has */
  int64_t head_count;
  uint32_t kind;  /* fovea_weights_kind */
  bool last_rows; /* numbers count from len_q - row_count */
  bool mass_by_kv_head;
  bool mass_accumulate;
} fv_weights_problem;

typedef struct fv_merge_problem {
  fovea_merge_args args;
} fv_merge_problem;

typedef struct fv_append_problem {
  fovea_kv_append_args args; /* normalised copy: broadcast strides are 0 */
  int64_t sequences;
  int64_t rows; /* extent 1 of the new tensors: rows of a sequence; if packed, of all sequences */
  int32_t heads_kv; /* 0 without k and v */
  int32_t heads_q;  /* 0 without q */
  bool packed;
  bool paged;
  bool empty;
} fv_append_problem;

#endif /* FOVEA_CSRC_PROBLEM_H */

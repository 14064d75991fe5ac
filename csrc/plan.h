/* plan.h - the plan of a call: its kernel, tiles and workspace.
 *
 * Each backend plans its own calls (cpu/plan.h, cuda/plan.h). A plan is a pure function of the
 * checked problem and of facts about the device. Planning makes no driver call, allocates nothing
 * and keeps no state. It is cheap enough for every call, and can be tested as text. */
#ifndef FOVEA_CSRC_PLAN_H
#define FOVEA_CSRC_PLAN_H

#include "csrc/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A kernel row: a row of a table of kernels. */
typedef struct fv_kernel {
  const char *name;
  int32_t tile_q;  /* the largest */
  int32_t tile_kv; /* the largest */
} fv_kernel;

/* The CPU's part of a plan: workspace_bytes = workers * scratch_bytes + max_split_streams * chunks
 * * partial_bytes. */
typedef struct fv_cpu_plan {
  size_t scratch_bytes; /* workspace of each worker */
  int32_t stream_rows;  /* with at most this many rows of a kv head, stream its keys; 0: never */
  int64_t max_split_streams; /* split only up to this many: more already fill every thread */
  size_t partial_bytes;      /* workspace of each chunk's partial */
} fv_cpu_plan;

/* Where the arrays of a CUDA workspace begin, and its size; in bytes. */
typedef struct fv_cuda_layout {
  size_t totals, sequences, arrived;
  size_t tiles[2], partials[2]; /* FV_WIDE, FV_NARROW */
  size_t parked;
  size_t bytes;
} fv_cuda_layout;

/* The wide or the narrow tiles of a call. */
typedef struct fv_cuda_line {
  int64_t tiles;          /* upper bound on the tiles of query rows of one kv head */
  int64_t partials;       /* places for the partials of split tiles */
  int64_t partial_floats; /* floats of one such place */
} fv_cuda_line;

/* CUDA's part of a plan. Where only the device knows the lengths, it makes the schedule itself
 * (cuda/schedule.h). */
typedef struct fv_cuda_plan {
  bool scheduled;
  uint32_t cut;            /* FV_FLAG_CHUNKS, FV_FLAG_WHOLE or neither: where keys are split */
  fv_cuda_line lines[2];   /* FV_WIDE, FV_NARROW */
  int64_t bytes_in_flight; /* minimum per multiprocessor, for narrow tiles */
  int64_t parked_floats;   /* of partials that CTAs park of long rows, scheduled or not */
  fv_cuda_layout layout;
} fv_cuda_plan;

typedef struct fv_plan {
  const fv_kernel *kernel;
  int32_t tile_q;         /* rows of a tile, at most; no result depends on it */
  int32_t tile_kv;        /* keys of a tile */
  int64_t tiles_bound;    /* upper bound on the tiles of query rows; lengths decide the number */
  int32_t workers;        /* tasks that share the tiles; no more than there can be work tiles */
  size_t workspace_bytes; /* of this call */
  char reason[160];
  fv_cpu_plan cpu;   /* zero for other devices */
  fv_cuda_plan cuda; /* likewise */
} fv_plan;

/* The kernel of a call that needs no workspace, and why it was chosen. */
typedef struct fv_choice {
  const char *kernel;
  char reason[160];
} fv_choice;

/* Upper bound on the tiles of query rows. A tile never crosses sequences or kv heads. */
int64_t fv_plan_tiles_bound(const fv_problem *problem, int32_t tile_q);

/* Writes the plan as text, NUL-terminated. Returns the length of the whole text, even
 * if capacity cuts it. */
int fv_plan_print(const fv_plan *plan, const fv_problem *problem, char *text, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_PLAN_H */

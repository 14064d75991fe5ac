/* plan.h - the plan of a call: its kernel, tiles and workspace.
 *
 * Each backend plans its own calls (cpu/plan.h, cuda/plan.h): a pure function of the checked
 * problem and of facts about the device. No driver call, no allocation, no state; cheap enough to
 * run in every call, and testable as text. */
#ifndef FV_PLAN_H
#define FV_PLAN_H

#include "csrc/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A row of a table of kernels. */
typedef struct fv_kernel {
  const char *name;
  int32_t tile_q;  /* the largest */
  int32_t tile_kv; /* the largest */
} fv_kernel;

/* Work that a CUDA device schedules, because lengths are known there alone (cuda/schedule.h). */
typedef struct fv_plan_schedule {
  bool on;
  uint32_t cut; /* FV_FLAG_CHUNKS, FV_FLAG_WHOLE or neither: where tiles are cut */
  struct fv_plan_line {
    int64_t tiles;         /* of query rows, of one kv head, at most */
    int64_t slots;         /* places for the parts of tiles that are cut */
    int64_t slot_floats;   /* the size of one */
  } lines[2];              /* FV_WIDE, FV_NARROW */
  int64_t bytes_in_flight; /* of narrow tiles, per multiprocessor, at least */
  int64_t parked_floats; /* room for what the CTAs park of long rows, with a schedule or without */
} fv_plan_schedule;

typedef struct fv_plan {
  const fv_kernel *kernel;
  int32_t tile_q;         /* rows of a tile at most; no result depends on it */
  int32_t tile_kv;        /* keys of a tile */
  int64_t tiles_bound;    /* tiles of query rows, at most; the lengths decide how many there are */
  int32_t workers;        /* tasks that share them: no more than there can be pieces of work */
  size_t workspace_bytes; /* of this call */
  char reason[160];

  /* The CPU's: workspace_bytes = workers * scratch_bytes + max_split_streams * chunks *
   * slot_bytes */
  size_t scratch_bytes;      /* workspace of each worker */
  int32_t stream_rows;       /* sequences with so many rows of a kv head stream its keys; 0: none */
  int64_t max_split_streams; /* split only up to this many: more already fill every thread */
  size_t slot_bytes;         /* workspace of each chunk's result */

  /* CUDA's. */
  fv_plan_schedule schedule;
} fv_plan;

/* Which kernel runs a call that needs no plan, and why. */
typedef struct fv_choice {
  const char *kernel;
  char reason[160];
} fv_choice;

/* Tiles of query rows, at most. Tiles never cross a sequence or a kv head. */
int64_t fv_plan_tiles_bound(const fv_problem *problem, int32_t tile_q);

/* Writes the plan as text, NUL-terminated, and returns the length it would have in full. */
int fv_plan_print(const fv_plan *plan, const fv_problem *problem, char *text, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif /* FV_PLAN_H */

/* plan.h - chooses the kernel of a call, its tiles and its workspace.
 *
 * A pure function of the checked problem and of facts about the device: no driver call, no
 * allocation, no state. Cheap enough to run in every call, and testable as text. */
#ifndef FV_PLAN_H
#define FV_PLAN_H

#include "problem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fv_isa { FV_ISA_PORTABLE = 0, FV_ISA_AVX2 = 1, FV_ISA_AVX512 = 2 } fv_isa;

/* What planning knows of a device. */
typedef struct fv_facts {
  fovea_device device;
  fv_isa isa;
  int32_t threads;
} fv_facts;

/* A row of attention.def. */
typedef struct fv_kernel {
  const char *name;
  fovea_device device;
  fv_isa isa;
  int32_t tile_q;  /* the largest */
  int32_t tile_kv; /* the largest */
} fv_kernel;

/* Work that a CUDA device schedules, because lengths are known there alone (schedule_cuda.h). */
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
  int32_t tile_q;        /* rows of a tile at most; no result depends on it */
  int32_t tile_kv;       /* keys of a tile */
  int64_t tiles_bound;   /* tiles of query rows, at most; the lengths decide how many there are */
  int32_t workers;       /* tasks that share them: no more than there can be pieces of work */
  size_t scratch_bytes;  /* workspace of each worker */
  int64_t streams_split; /* so few streams of keys are cut into chunks, to occupy all threads */
  size_t slot_bytes;     /* workspace of each chunk's result */
  size_t
      workspace_bytes; /* workers * scratch_bytes + streams_split * FV_STREAM_CHUNKS * slot_bytes */
  fv_plan_schedule schedule;
  char reason[160];
} fv_plan;

/* Kernel `index` of this build, or NULL. */
const fv_kernel *fv_kernel_at(int32_t index);

const char *fv_isa_name(fv_isa isa);

/* FOVEA_OK, or FOVEA_UNSUPPORTED with the reason as the error detail. */
fovea_status fv_plan_attention(const fv_facts *facts, const fv_problem *problem, fv_plan *plan);

/* The workspace bound of fovea_attention_workspace, which fv_plan_attention stays within. The limits
 * are checked: check.c has filled in the dims. */
size_t fv_plan_workspace(const fv_facts *facts, const fovea_limits *limits);

/* Writes the plan as text, NUL-terminated, and returns the length it would have in full. */
int fv_plan_print(const fv_plan *plan, const fv_problem *problem, char *text, size_t capacity);

#ifdef __cplusplus
}
#endif

#endif /* FV_PLAN_H */

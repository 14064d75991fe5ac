/* params_merge.h - what the host hands to the kernels that merge partial results. See
 * shared/params.h.
 *
 * The partials stand at the end: a kernel for few takes the beginning of the host's struct. */
#ifndef FOVEA_KERNELS_SHARED_PARAMS_MERGE_H
#define FOVEA_KERNELS_SHARED_PARAMS_MERGE_H

#include "kernels/shared/params.h"
#include "kernels/shared/params_type.h"

/* PARTS: the most of any kernel row. RESIDENT: CTAs per multiprocessor; 8 of 128 threads leave each
 * thread 64 registers, of which 50 are used. */
enum { FV_MERGE_PARTS = 448, FV_MERGE_THREADS = 128, FV_MERGE_RESIDENT = 8 };

/* One result: a partial, or the merged one. */
typedef struct fv_merge_part {
  fv_device_view out;
  fv_device_view lse; /* f32; absent: not wanted */
  uint32_t type;      /* of out: FV_TYPE_... */
  uint32_t aligned;   /* every row of out begins at a multiple of 16 bytes */
} fv_merge_part;

typedef struct fv_merge_head {
  fv_merge_part merged;
  int64_t rows; /* batch * len_q * heads */
  int64_t len_q, heads;
  int32_t dim;
  int32_t count; /* of partials */
  int32_t lanes; /* that share a row: a power of 2, at most 32 */
  uint32_t reserved;
} fv_merge_head;

typedef struct fv_merge_params {
  fv_merge_head head;
  fv_merge_part parts[FV_MERGE_PARTS];
} fv_merge_params;

FV_PARAMS_ASSERT(sizeof(fv_merge_part) == 72, "fv_merge_part has another size on this side");
FV_PARAMS_ASSERT(sizeof(fv_merge_params) == 112 + 72 * FV_MERGE_PARTS,
                 "fv_merge_params has another size here");
FV_PARAMS_ASSERT(sizeof(fv_merge_params) <= 32764, "kernels take no more parameters");

#endif /* FOVEA_KERNELS_SHARED_PARAMS_MERGE_H */

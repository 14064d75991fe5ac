/* params_append.h - what the host hands to the kernel that appends to a cache. See
 * shared/params.h. */
#ifndef FOVEA_KERNELS_SHARED_PARAMS_APPEND_H
#define FOVEA_KERNELS_SHARED_PARAMS_APPEND_H

#include "kernels/shared/params.h"
#include "kernels/shared/params_type.h"

/* CTAs per multiprocessor: 3 of 256 threads leave each thread 80 registers, all of them used. Each
 * CTA looks up all tokens, so more CTAs would look up more. */
enum { FV_APPEND_RESIDENT = 3 };

/* Bits of fv_append_params.flags. */
enum { FV_APPEND_PACKED = 1, FV_APPEND_INTERLEAVED = 2, FV_APPEND_TABLE_ALIGNED = 4 };

/* Bits of fv_append_side.aligned: every row begins at a multiple of 16 bytes, or of 8 in a cache of
 * 8-bit elements. Eight of those are 8 bytes. */
enum { FV_APPEND_FROM_ALIGNED = 1, FV_APPEND_TO_ALIGNED = 2 };

/* What the elements of a cache are divided by. The strides of extents that broadcast are 0. */
typedef struct fv_append_scale {
  const void *data; /* NULL: they are not divided */
  int64_t batch, seq, head;
  int64_t block;     /* elements from one block's scale to the next */
  int32_t block_len; /* elements of a head that share a scale */
  uint32_t type;     /* FV_TYPE_F32 or FV_TYPE_F16 */
} fv_append_scale;

/* One of the pairs (k_new, k_cache) and (v_new, v_cache). */
typedef struct fv_append_side {
  fv_device_view from, to;
  fv_append_scale scale;
  const int32_t *ids;          /* the page table; NULL: not paged */
  uint32_t from_type, to_type; /* FV_TYPE_...; from_type has 16 or 32 bits */
  int32_t dim;
  int32_t half; /* pairs that are rotated: elements [0, 2 * half); 0: none */
  uint32_t aligned;
  uint32_t reserved;
} fv_append_side;

typedef struct fv_append_params {
  fv_append_side sides[2];
  const int32_t *new_offsets;  /* [sequences + 1], if FV_APPEND_PACKED */
  const int32_t *kv_lengths;   /* [sequences]; NULL with slots */
  const int32_t *page_offsets; /* [sequences + 1]; NULL: the table is dense */
  const int32_t *positions;    /* [tokens]; NULL: the index in the sequence */
  const int64_t *slots;        /* [tokens]; NULL: by length, or by page */
  const float *cos, *sin;      /* [rope_positions, rope_stride]; NULL: no RoPE */
  uint32_t *errors;            /* [sequences]; NULL: not wanted */
  int64_t sequences;
  int64_t rows;        /* of a sequence; of all if packed */
  int64_t cache_rows;  /* extent 0 of the caches: sequences or pages */
  int64_t cache_slots; /* extent 1: tokens of a row or page */
  int64_t page_stride; /* ids from one sequence's row to the next, of a dense table */
  int64_t page_count;  /* ids of a row; of the whole table if it is CSR */
  int64_t rope_positions, rope_stride;
  int32_t side_count, heads;
  uint32_t flags;
  uint32_t reserved;
} fv_append_params;

FV_PARAMS_ASSERT(sizeof(fv_append_scale) == 48, "fv_append_scale has another size on this side");
FV_PARAMS_ASSERT(sizeof(fv_append_side) == 144, "fv_append_side has another size on this side");
FV_PARAMS_ASSERT(sizeof(fv_append_params) == 432, "fv_append_params has another size here");

#endif /* FOVEA_KERNELS_SHARED_PARAMS_APPEND_H */

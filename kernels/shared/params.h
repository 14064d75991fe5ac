/* params.h - what the host hands to a kernel: one struct by value, the same on both sides.
 *
 * Plain C for the host, the tests and the kernels alike. Every field has the same size everywhere;
 * the assertions at the end fail the build of whichever side disagrees. */
#ifndef FOVEA_KERNELS_SHARED_PARAMS_H
#define FOVEA_KERNELS_SHARED_PARAMS_H

#include <stdint.h>

#include "kernels/shared/params_type.h"
#include "kernels/shared/row_rules.h"
#include "kernels/shared/schedule.h"

#if defined(__cplusplus)
#define FV_PARAMS_ASSERT(condition, text) static_assert(condition, text)
#else
#define FV_PARAMS_ASSERT(condition, text) _Static_assert(condition, text)
#endif

/* A view [batch, seq, head, dim] in device memory; strides in elements, the last one is 1. */
typedef struct fv_device_view {
  void *data; /* NULL: absent */
  int64_t batch;
  int64_t seq;
  int64_t head;
} fv_device_view;

/* The scales of 8-bit keys or values: that of element d of a row is at
 * [outer, inner, head, d / block_len]. Strides in elements; 0 where it is the same for all. */
typedef struct fv_device_scale {
  const void *data; /* NULL: there are none */
  int64_t batch;
  int64_t seq;
  int64_t head;
  int64_t block;
  int32_t blocks;
  int32_t block_len;
  uint32_t type; /* FV_TYPE_F32 or FV_TYPE_F16 */
  uint32_t reserved;
} fv_device_scale;

/* Bits of fv_attention_params.aligned: every row of the tensor begins at a multiple of 16 bytes,
 * so that 16 are one access; one of 16-bit elements also has a multiple of 8 of them. Others are
 * read and written element by element. */
enum { FV_ALIGNED_Q = 1, FV_ALIGNED_K = 2, FV_ALIGNED_V = 4, FV_ALIGNED_OUT = 8 };

/* Bits of fv_attention_params.flags. */
enum {
  FV_FLAG_TOP_LEFT = 1,
  FV_FLAG_CHUNKS = 2,      /* few rows: keys are split at chunks, not where shares of work end */
  FV_FLAG_WHOLE = 4,       /* no tile's keys are split, and few rows are computed as many are */
  FV_FLAG_VALUE_SCALES = 8 /* scales of 8-bit values differ from key to key */
};

/* Where a paged cache keeps its pages: fovea_pages, and what the shape of k adds. Key j of kv head
 * g of sequence s is in slot j % page_len of page ids[begin + j / page_len]. begin is s *
 * row_stride + g * head_stride, or offsets[s]. */
typedef struct fv_device_pages {
  const int32_t *k_ids; /* NULL: the cache is not paged */
  const int32_t *v_ids; /* k's, unless v has its own */
  const int32_t *offsets;
  int64_t row_stride, head_stride;
  int64_t count;
  int32_t pages; /* in the cache: ids are below it */
  int32_t page_len;
} fv_device_pages;

/* A line of work, and the places for the partials of its tiles. */
typedef struct fv_device_line {
  fv_placed_tile *tiles;
  uint32_t *arrived; /* [places]: how many partials of a tile have arrived, at its first */
  float *partials;   /* [places][partial_floats] */
  int64_t partial_floats;
} fv_device_line;

/* The part of the workspace that a call with a schedule uses. attention_prepare, which runs before,
 * writes all of it except the partials. */
typedef struct fv_device_schedule {
  fv_placed_line *totals;        /* [FV_LINES]; NULL: no schedule */
  fv_placed_sequence *sequences; /* [sequences] */
  uint32_t *arrived;             /* [places] of all lines, one line behind the other */
  int64_t places;
  int64_t workers; /* CTAs of the launch that follows */
  fv_device_line lines[FV_LINES];
} fv_device_schedule;

/* Threads of attention_prepare's only CTA. */
enum { FV_PREPARE_THREADS = 256 };

/* Shared memory for the CTA's current work tile; parts/tile.cuh puts fv_work_item there. */
enum { FV_WORK_ITEM_BYTES = 384 };

/* A sequence with at most this many rows (positions times group) is narrow: so many warps of a CTA
 * compute products of the same 16 rows, and divide the keys. Each takes FV_NARROW_KEYS at a time,
 * in every kernel row: so a narrow tile's bits do not depend on which one computes it. */
enum { FV_NARROW_ROWS = 16, FV_NARROW_WARPS = 4, FV_NARROW_THREADS = 32 };
#define FV_NARROW_KEYS(dim) (16 + 16 * ((dim) <= 128))

/* Shared memory of a kernel row: q and the stages of k and v, 2 bytes an element, for a wide tile
 * or for a narrow one; the work tile; 8 bytes for the keys of each row. Caches of 8 bits have their
 * bytes there too, and a scale and a place for each key and value; narrow tiles have one place for
 * 16-bit keys and values. Host, kernel and build each need it; the kernel asserts that they
 * agree. */
#define FV_LARGER(a, b) (((a) > (b)) * (a) + ((a) <= (b)) * (b))
#define FV_TILE_BYTES(dim, dim_v, tile_q, keys) \
  (2 * ((dim) * (tile_q) + (keys) * ((dim) + (dim_v))))
#define FV_NARROW_BYTES(dim, dim_v) \
  FV_TILE_BYTES(dim, dim_v, FV_NARROW_ROWS, FV_NARROW_WARPS *FV_NARROW_KEYS(dim))
#define FV_SCALED_KEYS(dim, tile_kv) FV_LARGER(tile_kv, FV_NARROW_WARPS *FV_NARROW_KEYS(dim))
#define FV_8BIT_TILE_BYTES(dim, dim_v, tile_q, keys) \
  (2 * (dim) * (tile_q) + 3 * (keys) * ((dim) + (dim_v)))
#define FV_8BIT_NARROW_BYTES(dim, dim_v) \
  (2 * (dim)*FV_NARROW_ROWS + FV_NARROW_WARPS * FV_NARROW_KEYS(dim) * (2 * (dim) + (dim) + (dim_v)))
#define FV_ATTENTION_TILE_BYTES(dim, dim_v, tile_q, tile_kv, stages) \
  FV_LARGER(FV_TILE_BYTES(dim, dim_v, tile_q, (stages) * (tile_kv)), FV_NARROW_BYTES(dim, dim_v))
#define FV_8BIT_ATTENTION_TILE_BYTES(dim, dim_v, tile_q, tile_kv)                                 \
  (FV_LARGER(FV_8BIT_TILE_BYTES(dim, dim_v, tile_q, tile_kv), FV_8BIT_NARROW_BYTES(dim, dim_v)) + \
   24 * FV_SCALED_KEYS(dim, tile_kv))
#define FV_ATTENTION_SHARED_BYTES(dim, dim_v, tile_q, tile_kv, stages, kv_bytes)      \
  (((kv_bytes) == 2) * FV_ATTENTION_TILE_BYTES(dim, dim_v, tile_q, tile_kv, stages) + \
   ((kv_bytes) == 1) * FV_8BIT_ATTENTION_TILE_BYTES(dim, dim_v, tile_q, tile_kv) +    \
   FV_WORK_ITEM_BYTES + 8 * (tile_q))

/* Floats of the partial of a tile: of each row dim_v of O, and four numbers in each of the four
 * lanes that share the row. A warp makes a narrow partial, a CTA a wide one. */
#define FV_PARTIAL_FLOATS(dim_v, tile_q) ((tile_q) * ((dim_v) + 16))

/* A row's sums are parked at each multiple of this many keys, so that none has more than a few
 * hundred terms: 128 tiles of 64 keys, and 122 groups at a million keys. */
enum { FV_PARK_KEYS = 8192 };

typedef struct fv_attention_params {
  fv_device_view q, k, v, out;
  fv_device_view lse;  /* f32 */
  fv_device_view mask; /* u8 [sequence, key]; seq is the step from key to key, 0 or 1 */
  fv_device_scale k_scale, v_scale; /* of a kernel row of 8-bit caches */
  fv_device_pages pages;
  fv_device_schedule schedule;
  const int32_t *q_offsets;  /* [sequences + 1]; NULL: q is not packed */
  const int32_t *q_lengths;  /* [sequences]; NULL: all rows that a sequence has. Needs a schedule */
  const int32_t *kv_offsets; /* [sequences + 1]; NULL: k is not packed */
  const int32_t *kv_lengths; /* [sequences]; NULL: all there is room for */
  const int32_t *q_position; /* [sequences]; NULL: by alignment */
  const int32_t *kv_first;   /* [sequences]; NULL: 0 */
  const int32_t *kv_position; /* [sequences]; NULL: 0 */
  const float *sinks;         /* [heads_q]; NULL: none */
  uint32_t *errors;           /* [sequences]; NULL: not wanted */
  float *parked;              /* room for a wide partial of every CTA; NULL: no row is long */
  int64_t sequences;
  int64_t tiles;           /* without a schedule: row_tiles * heads_kv * sequences */
  int64_t row_tiles;       /* tiles of query rows per sequence and kv head */
  int64_t window_left;     /* positions; -1: unlimited */
  int64_t window_right;    /* positions; -1: unlimited. Causal is 0. */
  int32_t heads_kv, group; /* group: query heads per kv head */
  int32_t len_q, len_kv;   /* the most of a sequence; packed: of all together */
  int32_t dim, dim_v;      /* at most the kernel row's */
  int32_t tile_q, tile_kv; /* the kernel row's */
  int32_t mask_keys;       /* keys that the mask reaches */
  int32_t key_stride;      /* positions from key to key, >= 1 */
  uint32_t park_mask;      /* FV_PARK_KEYS - 1; all ones where nothing is parked */
  uint32_t flags, aligned; /* FV_FLAG_..., FV_ALIGNED_... */
  uint32_t k_type, v_type; /* FV_TYPE_...: of 8-bit caches; else the kernel row's */
  float scale_log2e;       /* base-2 logits per unit of q.k, or of its tanh with a softcap */
  float softcap_scale;     /* 0: no softcap; else 2 log2(e) * scale / softcap */
  fv_device_rules rules;   /* of the general class, whose scores become natural logits */
} fv_attention_params;

FV_PARAMS_ASSERT(sizeof(fv_device_view) == 32, "fv_device_view has another size on this side");
FV_PARAMS_ASSERT(sizeof(fv_placed_sequence) == 56, "fv_placed_sequence has another size here");
FV_PARAMS_ASSERT(sizeof(fv_placed_tile) == 40, "fv_placed_tile has another size on this side");
FV_PARAMS_ASSERT(sizeof(fv_placed_line) == 24, "fv_placed_line has another size on this side");
FV_PARAMS_ASSERT(sizeof(fv_device_scale) == 56, "fv_device_scale has another size on this side");
FV_PARAMS_ASSERT(sizeof(fv_attention_params) == 888, "fv_attention_params has another size here");

#endif /* FOVEA_KERNELS_SHARED_PARAMS_H */

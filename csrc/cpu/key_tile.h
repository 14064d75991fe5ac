/* key_tile.h - where the keys of a tile lie.
 *
 * From here on contiguous, strided, packed and paged caches look alike: each key has an address. A
 * key that no row may see, or that lies on a bad page, gets the address of zeros. So no kernel
 * reads memory whose content must not matter. */
#ifndef FOVEA_CSRC_CPU_KEY_TILE_H
#define FOVEA_CSRC_CPU_KEY_TILE_H

#include "csrc/cpu/tile_kernels.h"
#include "csrc/dtype.h"
#include "csrc/host/row_mask.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_key_tile {
  int64_t begin;                 /* the key of the sequence at index 0 */
  int32_t from, to;              /* the indices in use: [from, to) */
  bool whole;                    /* no key lies on a bad page */
  uint8_t live[FV_TILE_KV_MAX];  /* 1: at least one row may see the key; else 0 */
  const void *k[FV_TILE_KV_MAX]; /* rows of k */
  const void *v[FV_TILE_KV_MAX]; /* rows of v */
} fv_key_tile;

/* The keys of the sequence that the tile holds. */
static inline fv_range fv_tile_keys(const fv_key_tile *tile) {
  return (fv_range){tile->begin + tile->from, tile->begin + tile->to};
}

/* Where a worker reads its keys. */
typedef struct fv_key_source {
  const fv_problem *problem;
  const fv_sequence *sequence;
  int64_t kv_head;
} fv_key_source;

/* A row of zeros for any dtype, as long as the longest row. */
extern const float fv_zero_row[];

/* The keys that some rows see by position, in three ranges: between those lie two holes at most.
 * Ranges may be empty. */
typedef struct fv_seen_keys {
  fv_range prefix; /* by every row */
  fv_range window; /* by causality and window */
  fv_range span;   /* holds the spans of all rows, and the keys between them */
  fv_range rows;
} fv_seen_keys;

/* The same for rows [row_begin, row_end) of a sequence. */
fv_seen_keys fv_keys_seen(const fv_problem *problem, const fv_sequence *sequence, int64_t row_begin,
                          int64_t row_end);

/* Whether a key of `keys` may be seen: certainly not if it lies in a hole. */
static inline bool fv_sees_any(const fv_position_mask *mask, const fv_seen_keys *seen,
                               fv_range keys) {
  return fv_rows_see(mask, seen->rows.begin, seen->rows.end, keys) || fv_overlaps(seen->span, keys);
}

/* The range from the first to the last. */
static inline fv_range fv_hull_of_seen(const fv_seen_keys *seen) {
  return fv_hull(fv_hull(seen->prefix, seen->window), seen->span);
}

/* Finds the keys of a tile whose begin, from and to are filled in, those alone that a row sees by
 * position. A bad page adds its bit to *errors. */
void fv_key_tile_find(const fv_key_source *source, const fv_seen_keys *seen, fv_key_tile *tile,
                      uint32_t *errors);

/* f32, f16 and bf16: kernels read and write such rows in place. 8-bit rows may have scales, and are
 * widened first. */
static inline bool fv_is_wide_dtype(uint32_t dtype) {
  return dtype <= FOVEA_BF16;
}

/* Whether kernels can read rows of x in place: in whole steps, or they would read past their
 * ends. */
static inline bool fv_is_in_place(const fv_tile_kernels *kernels, const fovea_tensor *x) {
  if (fv_dtype_is_blocks(x->dtype)) return kernels->reads_blocks;
  return fv_is_wide_dtype(x->dtype) && x->shape[3] % FV_DIM_STEP == 0;
}

/* Writes the rows `keys` of k or v, times their scales, as f32 to `to` [keys][dim in whole steps].
 * The tile's addresses then point there; rows of zeros stay. */
void fv_key_tile_widen_k(const fv_key_source *source, const fv_tile_kernels *kernels,
                         fv_key_tile *tile, fv_tile_range keys, float *to);
void fv_key_tile_widen_v(const fv_key_source *source, const fv_tile_kernels *kernels,
                         fv_key_tile *tile, fv_tile_range keys, float *to);

/* Packs the keys for products: k [panels of keys][dim in whole steps][panel_columns]. `widened` has
 * room for the rows of a panel; the tile's addresses may point there afterwards. */
void fv_key_tile_pack_k(const fv_key_source *source, const fv_tile_kernels *kernels,
                        fv_key_tile *tile, float *k, float *widened);

/* row[d] = element d of x's row at [place, head], times its scale; zeros up to a whole step. */
void fv_widen_row(const fv_tile_kernels *kernels, const fovea_tensor *x, const fovea_tensor *scale,
                  fv_place place, int64_t head, int32_t dim, float *row);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CPU_KEY_TILE_H */

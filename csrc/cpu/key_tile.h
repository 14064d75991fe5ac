/* key_tile.h - where the keys of a tile lie.
 *
 * Contiguous, strided, packed and paged caches look alike from here on: an address for each key. A
 * key that no row may see, or that lies on a bad page, gets the address of zeros. So no kernel ever
 * reads memory whose content must not matter. */
#ifndef FV_KEY_TILE_H
#define FV_KEY_TILE_H

#include "csrc/cpu/tile_kernels.h"
#include "csrc/host/row_mask.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_key_tile {
  int64_t begin;                 /* the sequence's key that index 0 stands for */
  int32_t from, to;              /* the indices that are filled in */
  bool whole;                    /* no key lies on a bad page */
  uint8_t live[FV_TILE_KV_MAX];  /* 1: some row may see the key; else 0 */
  const void *k[FV_TILE_KV_MAX]; /* rows of k */
  const void *v[FV_TILE_KV_MAX]; /* rows of v */
} fv_key_tile;

/* What a worker reads its keys from. */
typedef struct fv_key_source {
  const fv_problem *problem;
  const fv_sequence *sequence;
  int64_t kv_head;
} fv_key_source;

/* A row of zeros of any type, as long as the longest. */
extern const float fv_zero_row[];

/* Finds keys begin + [from, to), of which those in `window` and `prefix` may be seen. Bad pages add
 * their bit to *errors. */
void fv_key_tile_find(const fv_key_source *source, int64_t begin, int32_t from, int32_t to,
                      fv_range window, fv_range prefix, fv_key_tile *tile, uint32_t *errors);

/* f32, f16 and bf16: kernels read and write such rows where they lie. 8-bit rows, which may have
 * scales, are widened first. */
static inline bool fv_is_wide_dtype(uint32_t dtype) {
  return dtype <= FOVEA_BF16;
}

/* Writes rows [from, to) of k or v, times their scales, as f32 to `to_rows` [..][dim] and puts
 * their addresses into the tile. */
void fv_key_tile_widen_k(const fv_key_source *source, const fv_tile_kernels *kernels,
                         fv_key_tile *tile, int32_t from, int32_t to, float *to_rows);
void fv_key_tile_widen_v(const fv_key_source *source, const fv_tile_kernels *kernels,
                         fv_key_tile *tile, int32_t from, int32_t to, float *to_rows);

/* row[d] = element d of a row at `from`, times its scale at [outer, inner, head]. */
void fv_widen_row(const fv_tile_kernels *kernels, const fovea_tensor *x, const fovea_tensor *scale,
                  fv_place place, int64_t head, int32_t dim, float *row);

#ifdef __cplusplus
}
#endif

#endif /* FV_KEY_TILE_H */

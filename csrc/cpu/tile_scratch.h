/* tile_scratch.h - the memory a worker of the tiled backend works in, carved out of the workspace.
 * The planner needs its size, the backend its layout: one header, so that they agree. */
#ifndef FV_TILE_SCRATCH_H
#define FV_TILE_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

enum { FV_LARGEST_DIM = 576, FV_LARGEST_DIM_V = 512, FV_CACHE_LINE = 64 };

/* Columns of out and v are padded to whole vectors of 16 floats. */
static inline int32_t fv_padded_dim(int32_t dim) {
  return (dim + 15) / 16 * 16;
}

/* Where the arrays of a tile begin, in floats. */
typedef struct fv_tile_layout {
  size_t q;      /* [tile_q][dim] */
  size_t k;      /* [dim][tile_kv], keys transposed */
  size_t v;      /* [tile_kv][padded dim_v] */
  size_t scores; /* [tile_q][tile_kv] */
  size_t out;    /* [tile_q][padded dim_v] */
  size_t row;    /* [max(dim, padded dim_v)], one widened row */
  size_t floats; /* in all, a whole number of cache lines */
} fv_tile_layout;

static inline size_t fv_round_floats(size_t floats) {
  return (floats + 15) / 16 * 16;
}

static inline fv_tile_layout fv_tile_layout_for(int32_t tile_q, int32_t tile_kv, int32_t dim,
                                                int32_t dim_v) {
  size_t columns = (size_t)fv_padded_dim(dim_v);
  fv_tile_layout l;
  l.q = 0;
  l.k = l.q + fv_round_floats((size_t)tile_q * (size_t)dim);
  l.v = l.k + (size_t)dim * (size_t)tile_kv;
  l.scores = l.v + (size_t)tile_kv * columns;
  l.out = l.scores + (size_t)tile_q * (size_t)tile_kv;
  l.row = l.out + (size_t)tile_q * columns;
  l.floats = l.row + fv_round_floats((size_t)dim > columns ? (size_t)dim : columns);
  return l;
}

static inline size_t fv_tile_scratch_bytes(int32_t tile_q, int32_t tile_kv, int32_t dim,
                                           int32_t dim_v) {
  return fv_tile_layout_for(tile_q, tile_kv, dim, dim_v).floats * sizeof(float);
}

#endif /* FV_TILE_SCRATCH_H */

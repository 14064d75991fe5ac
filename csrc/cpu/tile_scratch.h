/* tile_scratch.h - scratch: the share of the workspace that one worker of the CPU backend works in.
 * Planning needs its size, the backend its layout. One header has both, so that they agree.
 *
 * Sizes: a key tile's k and v stay in the second-level cache (512 keys x 64 dims x 2 are 256 KiB).
 * The scores of one panel of rows stay in the first. Wider rows take shorter tiles. */
#ifndef FOVEA_CSRC_CPU_TILE_SCRATCH_H
#define FOVEA_CSRC_CPU_TILE_SCRATCH_H

#include <stddef.h>
#include <stdint.h>

#include "csrc/cpu/tile_kernels.h"
#include "csrc/host/row_mask.h"

enum { FV_CACHE_LINE = 64 };

enum {
  FV_STREAM_ROWS = 12,     /* with more rows per sequence and kv head, packing its keys pays */
  FV_BLOCK_WORK_TILES = 2, /* work tiles left per thread when streams of several heads share one */
  FV_BLOCK_ROWS = 48, /* of all heads that share a work tile: 12 kv heads with 4 query heads each */
  FV_STREAM_CHUNKS = 16,      /* maximum chunks of a stream */
  FV_STREAM_CHUNK_KEYS = 512, /* minimum keys of a chunk: a merge costs about as much as 2 keys */
  FV_SPLIT_STREAMS = 4        /* streams per thread from which on none is split */
};

/* Classes of dims. Keys come in tiles of fv_class_tile if dim and dim_v are at most fv_class_dim.
 * The length of a tile decides the order of a row's sums, so it depends on the dims alone. */
enum { FV_DIM_CLASSES = 3 };

static inline int32_t fv_class_dim(int index) {
  return index == 0 ? 64 : index == 1 ? 256 : FV_DIM_MAX;
}

static inline int32_t fv_class_tile(int index) {
  return FV_TILE_KV_MAX >> index;
}

static inline int fv_dim_class(int32_t dim, int32_t dim_v) {
  int index = 0;
  while (index + 1 < FV_DIM_CLASSES && (dim > fv_class_dim(index) || dim_v > fv_class_dim(index))) {
    ++index;
  }
  return index;
}

/* Kernels take rows in whole steps. */
static inline int32_t fv_stepped_dim(int32_t dim) {
  return (dim + FV_DIM_STEP - 1) / FV_DIM_STEP * FV_DIM_STEP;
}

/* Columns of out and v are padded to whole panels of the widest instruction set. */
static inline int32_t fv_padded_dim(int32_t dim) {
  return (dim + FV_PANEL_COLUMNS_MAX - 1) / FV_PANEL_COLUMNS_MAX * FV_PANEL_COLUMNS_MAX;
}

/* Where the arrays of a worker's scratch begin, in floats. */
typedef struct fv_tile_layout {
  size_t q;      /* [rows][dim]; rows is the larger of tile_q and FV_BLOCK_ROWS */
  size_t k;      /* [panels of keys][dim][panel_columns] */
  size_t v;      /* [panels of columns][tile_kv][panel_columns] */
  size_t scores; /* [panel_rows][FV_SCORE_STRIDE], one panel of rows at a time */
  size_t out;    /* double [rows][padded dim_v] */
  size_t stream; /* double [FV_BLOCK_ROWS][padded dim_v], sums of a stream's chunks so far, or a
                  * panel's out */
  size_t rows;   /* [FV_PANEL_COLUMNS_MAX][max(dim, padded dim_v)], widened rows */
  size_t masks;  /* fv_row_mask [rows], for problems with row_masks */
  size_t floats; /* the total, a whole number of cache lines */
} fv_tile_layout;

static inline size_t fv_round_floats(size_t floats) {
  return (floats + 15) / 16 * 16;
}

/* tile_q is a multiple of FV_PANEL_ROWS_MAX. */
static inline fv_tile_layout fv_tile_layout_for(int32_t tile_q, int32_t tile_kv, int32_t dim,
                                                int32_t dim_v) {
  dim = fv_stepped_dim(dim);
  size_t columns = (size_t)fv_padded_dim(dim_v);
  size_t widest = (size_t)dim > columns ? (size_t)dim : columns;
  size_t rows = (size_t)(tile_q > FV_BLOCK_ROWS ? tile_q : FV_BLOCK_ROWS);
  fv_tile_layout l;
  l.q = 0;
  l.k = l.q + fv_round_floats(rows * (size_t)dim);
  l.v = l.k + (size_t)dim * (size_t)tile_kv;
  l.scores = l.v + (size_t)tile_kv * columns;
  l.out = l.scores + (size_t)FV_PANEL_ROWS_MAX * FV_SCORE_STRIDE;
  l.stream = l.out + 2 * rows * columns;
  l.rows = l.stream + 2 * FV_BLOCK_ROWS * columns;
  l.masks = l.rows + fv_round_floats(FV_PANEL_COLUMNS_MAX * widest);
  l.floats = l.masks + fv_round_floats(rows * sizeof(fv_row_mask) / sizeof(float));
  return l;
}

static inline size_t fv_tile_scratch_bytes(int32_t tile_q, int32_t tile_kv, int32_t dim,
                                           int32_t dim_v) {
  return fv_tile_layout_for(tile_q, tile_kv, dim, dim_v).floats * sizeof(float);
}

/* Bytes that suffice for all dims up to these: a shorter row may have a longer tile. */
static inline size_t fv_tile_scratch_bound(int32_t tile_q, int32_t dim, int32_t dim_v) {
  size_t most = 0;
  for (int index = 0; index <= fv_dim_class(dim, dim_v); ++index) {
    int32_t widest = index + 1 < FV_DIM_CLASSES ? fv_class_dim(index) : INT32_MAX;
    size_t bytes = fv_tile_scratch_bytes(tile_q, fv_class_tile(index), dim < widest ? dim : widest,
                                         dim_v < widest ? dim_v : widest);
    if (bytes > most) most = bytes;
  }
  return most;
}

/* The size of a chunk's partial for one kv head, in whole cache lines: double out [rows][padded
 * dim_v], then the rows' states. */
static inline size_t fv_partial_bytes(int32_t rows, int32_t dim_v) {
  size_t row = (size_t)fv_padded_dim(dim_v) * sizeof(double) + sizeof(fv_row_state);
  return ((size_t)rows * row + FV_CACHE_LINE - 1) / FV_CACHE_LINE * FV_CACHE_LINE;
}

#endif /* FOVEA_CSRC_CPU_TILE_SCRATCH_H */

/* shape.h - integer mathematics of attention: which keys a row may see by position, and divisions
 * that round the way the formulas need. Plain C, for the host, the tests and the kernels alike.
 *
 * Key j of a sequence stands at position origin + j * stride, stride >= 1, so "positions in
 * [low, high]" is always one range of key indices, and every mask by position is a range. */
#ifndef FOVEA_KERNELS_SHARED_SHAPE_H
#define FOVEA_KERNELS_SHARED_SHAPE_H

#include <stdint.h>

#if defined(__CUDACC__)
#define FV_SHAPE static __host__ __device__ __forceinline__
#else
#define FV_SHAPE static inline
#endif

/* Keys begin <= j < end. Empty ranges have begin >= end. */
typedef struct fv_range {
  int64_t begin;
  int64_t end;
} fv_range;

FV_SHAPE int64_t fv_min(int64_t a, int64_t b) {
  return a < b ? a : b;
}
FV_SHAPE int64_t fv_max(int64_t a, int64_t b) {
  return a > b ? a : b;
}
FV_SHAPE int64_t fv_clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

FV_SHAPE int fv_is_empty(fv_range keys) {
  return keys.begin >= keys.end;
}
FV_SHAPE int fv_overlaps(fv_range a, fv_range b) {
  return fv_max(a.begin, b.begin) < fv_min(a.end, b.end);
}

/* The smallest range that holds both. */
FV_SHAPE fv_range fv_hull(fv_range a, fv_range b) {
  fv_range hull = {fv_min(a.begin, b.begin), fv_max(a.end, b.end)};
  return fv_is_empty(a) ? b : fv_is_empty(b) ? a : hull;
}

/* a / b rounded up, for any a and b > 0. */
FV_SHAPE int64_t fv_ceil_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q + (a % b > 0);
}

/* a / b rounded down, for any a and b > 0. */
FV_SHAPE int64_t fv_floor_div(int64_t a, int64_t b) {
  int64_t q = a / b;
  return q - (a % b < 0);
}

/* The keys of [0, len) whose position is below `limit`: a prefix [0, result). */
FV_SHAPE int64_t fv_keys_below(int64_t limit, int64_t origin, int64_t stride, int64_t len) {
  /* the stride is nearly always 1, and a GPU takes some hundred instructions to divide 64 bits */
  int64_t count = stride == 1 ? limit - origin : fv_ceil_div(limit - origin, stride);
  return fv_clamp(count, 0, len);
}

/* What masks by position need to know of a sequence. */
typedef struct fv_position_mask {
  int64_t first;        /* keys before it are gone */
  int64_t len;          /* keys from it on do not exist */
  int64_t row_origin;   /* position of row 0 */
  int64_t key_origin;   /* position of key 0 */
  int64_t key_stride;   /* >= 1 */
  int64_t prefix_end;   /* keys [first, prefix_end) are seen by every row */
  int64_t window_left;  /* positions; -1: unlimited */
  int64_t window_right; /* positions; -1: unlimited. Causal is a limit of 0. */
} fv_position_mask;

/* The keys that row i sees by causality and window, without the prefix. */
FV_SHAPE fv_range fv_window_keys(const fv_position_mask *mask, int64_t row) {
  int64_t position = mask->row_origin + row;
  fv_range keys = {mask->first, mask->len};
  if (mask->window_left >= 0) {
    int64_t low =
        fv_keys_below(position - mask->window_left, mask->key_origin, mask->key_stride, mask->len);
    keys.begin = fv_max(keys.begin, low);
  }
  if (mask->window_right >= 0) {
    keys.end = fv_keys_below(position + mask->window_right + 1, mask->key_origin, mask->key_stride,
                             mask->len);
  }
  return keys;
}

/* The keys at positions [begin, end) that lie at most `left` before `position` and `right` after
 * it; -1: unlimited. */
FV_SHAPE fv_range fv_span_keys(const fv_position_mask *mask, fv_range positions, int64_t position,
                               int64_t left, int64_t right) {
  if (left >= 0) positions.begin = fv_max(positions.begin, position - left);
  if (right >= 0) positions.end = fv_min(positions.end, position + right + 1);
  fv_range keys = {fv_keys_below(positions.begin, mask->key_origin, mask->key_stride, mask->len),
                   fv_keys_below(positions.end, mask->key_origin, mask->key_stride, mask->len)};
  keys.begin = fv_max(keys.begin, mask->first);
  return keys;
}

/* The smallest range that holds every key that a row of [row_begin, row_end) sees by position.
 * The rows stand at consecutive positions, so their windows leave no position out between the first
 * row's left end and the last row's right end: those two decide, for any stride of keys. */
FV_SHAPE fv_range fv_rows_keys(const fv_position_mask *mask, int64_t row_begin, int64_t row_end) {
  fv_range front = fv_window_keys(mask, row_begin);
  fv_range back = fv_window_keys(mask, row_end - 1);
  fv_range keys = {fv_min(front.begin, back.begin), fv_max(front.end, back.end)};
  if (mask->prefix_end > mask->first) {
    keys.begin = mask->first;
    keys.end = fv_max(keys.end, mask->prefix_end);
  }
  return keys;
}

/* Whether some row of [row_begin, row_end) sees, by position, a key of `keys`. This is exact: the
 * only hole in what they see is the one between prefix and windows. */
FV_SHAPE int fv_rows_see(const fv_position_mask *mask, int64_t row_begin, int64_t row_end,
                         fv_range keys) {
  fv_range front = fv_window_keys(mask, row_begin);
  fv_range back = fv_window_keys(mask, row_end - 1);
  if (fv_max(keys.begin, mask->first) < fv_min(keys.end, mask->prefix_end)) return 1;
  return fv_max(keys.begin, front.begin) < fv_min(keys.end, back.end);
}

/* The largest range of keys that every row of [row_begin, row_end) sees by position, without the
 * prefix. In a tile of scores that lies in it, nothing is hidden. */
FV_SHAPE fv_range fv_common_keys(const fv_position_mask *mask, int64_t row_begin, int64_t row_end) {
  fv_range front = fv_window_keys(mask, row_begin);
  fv_range back = fv_window_keys(mask, row_end - 1);
  fv_range keys = {fv_max(front.begin, back.begin), fv_min(front.end, back.end)};
  return keys;
}

/* ---- Tiles in shared memory ---- */

/* Chunks of 16 bytes trade places within groups of so many. A row has `chunks` chunks, a multiple
 * of 4. */
FV_SHAPE int32_t fv_swizzle_group(int32_t chunks) {
  return chunks % 8 == 4 ? 4 : 8;
}

FV_SHAPE int32_t fv_swizzle_turn(int32_t row, int32_t chunks) {
  return chunks % 8 == 4 ? row >> 1 & 3 : row & 7;
}

/* Where the chunk `chunk` of row `row` lies in a tile: its number among all chunks. Eight
 * consecutive rows at one logical chunk fall into eight different groups of banks, so ldmatrix
 * reads them without a conflict. */
FV_SHAPE int32_t fv_swizzled_chunk(int32_t row, int32_t chunk, int32_t chunks) {
  return row * chunks + (chunk ^ fv_swizzle_turn(row, chunks));
}

/* The address of chunk (row + rows, chunk + further), given that of (row, chunk). A tile begins at
 * a multiple of 128 bytes. No bit is set both in row % 8 and rows % 8, nor both in chunk and
 * further. Where rows and further are constants, this is one XOR, and a constant that the
 * instruction adds. */
FV_SHAPE uint32_t fv_swizzled_step(uint32_t start, int32_t rows, int32_t further, int32_t chunks) {
  int32_t group = fv_swizzle_group(chunks);
  uint32_t turn = (uint32_t)(further % group ^ fv_swizzle_turn(rows & 7, chunks));
  return (start ^ 16 * turn) + 16 * (uint32_t)(rows * chunks + further / group * group);
}

#endif /* FOVEA_KERNELS_SHARED_SHAPE_H */

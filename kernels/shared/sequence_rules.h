/* sequence_rules.h - the rules by which a sequence is read from arrays that nobody has checked: its
 * rows, its keys, their positions, and where new tokens go. Plain C, for the host, the tests and
 * the kernels alike.
 *
 * Lengths, offsets, page ids and slots are data of the running program. A rule takes any content:
 * it clamps what is out of range, adds a bit to *errors, and leads to nothing outside its table or
 * tensor. The host has checked extents: all are below 2^31, and so are lengths. */
#ifndef FOVEA_KERNELS_SHARED_SEQUENCE_RULES_H
#define FOVEA_KERNELS_SHARED_SEQUENCE_RULES_H

#include "kernels/shared/shape.h"

/* Bits of errors[sequence]: those of fovea.h, which kernels do not read. host/sequence.c asserts
 * that they agree. */
enum {
  FV_ERROR_LENGTH = 1,
  FV_ERROR_PAGE = 2,
  FV_ERROR_OFFSET = 4,
  FV_ERROR_POSITION = 8,
  FV_ERROR_SLOT = 16,
  FV_ERROR_MASK = 32
};

/* ---- Offsets ---- */

/* How far offsets reach with one more: their running max, each clamped to [0, total]. So no two
 * sequences own the same element. A max may be taken in any order, and in parallel. */
FV_SHAPE int64_t fv_extend_reach(int64_t reached, int64_t offset, int64_t total) {
  return fv_max(reached, fv_clamp(offset, 0, total));
}

/* The error bit of a sequence that owns `range` where the array says [first, last). */
FV_SHAPE uint32_t fv_offset_errors(fv_range range, int64_t first, int64_t last) {
  return range.begin != first || range.end != last ? FV_ERROR_OFFSET : 0;
}

/* Which batch row of a tensor is the sequence's: a packed one has a single row. */
FV_SHAPE int64_t fv_batch_row(int packed, int64_t sequence) {
  return packed ? 0 : sequence;
}

/* ---- Lengths and positions ---- */

/* array[sequence] clamped to [0, high], which may set a bit of *errors; no array: `absent`. */
FV_SHAPE int32_t fv_clamped_length(const int32_t *array, int64_t sequence, int32_t high,
                                   int32_t absent, uint32_t *errors) {
  if (!array) return absent;
  int32_t given = array[sequence];
  int32_t length = (int32_t)fv_clamp(given, 0, high);
  if (given != length) *errors |= FV_ERROR_LENGTH;
  return length;
}

/* What a call says of lengths and positions. An array has one entry per sequence. */
typedef struct fv_position_arrays {
  const int32_t *kv_lengths;     /* NULL: all there is room for */
  const int32_t *kv_first;       /* NULL: 0 */
  const int32_t *q_position;     /* NULL: by alignment */
  const int32_t *kv_position;    /* NULL: 0 */
  const int32_t *prefix_lengths; /* NULL: no prefix */
  int64_t key_stride;            /* positions from key to key, >= 1 */
  int64_t window_left;           /* positions; -1: unlimited */
  int64_t window_right;          /* positions; -1: unlimited. Causal is 0. */
  int32_t top_left;              /* row 0 is aligned with position 0, not the last row with the
                                    last key */
} fv_position_arrays;

/* What masks by position need, for a sequence of len_q rows and `len` keys. */
FV_SHAPE fv_position_mask fv_place_length(const fv_position_arrays *call, int64_t sequence,
                                          int32_t len_q, int32_t len, uint32_t *errors) {
  fv_position_mask mask;
  mask.len = len;
  mask.first = fv_clamped_length(call->kv_first, sequence, len, 0, errors);
  mask.key_origin = call->kv_position ? call->kv_position[sequence] : 0;
  mask.key_stride = call->key_stride;
  if (call->q_position) {
    mask.row_origin = call->q_position[sequence];
  } else if (call->top_left) {
    mask.row_origin = 0;
  } else {
    mask.row_origin = mask.key_origin + (mask.len - 1) * mask.key_stride + 1 - len_q;
  }
  mask.prefix_end = 0;
  if (call->prefix_lengths) {
    mask.prefix_end =
        fv_keys_below(call->prefix_lengths[sequence], mask.key_origin, mask.key_stride, mask.len);
  }
  mask.window_left = call->window_left;
  mask.window_right = call->window_right;
  return mask;
}

/* The same with room for `room` keys, of which the call says how many are in use. */
FV_SHAPE fv_position_mask fv_place_positions(const fv_position_arrays *call, int64_t sequence,
                                             int32_t len_q, int32_t room, uint32_t *errors) {
  int32_t len = fv_clamped_length(call->kv_lengths, sequence, room, room, errors);
  return fv_place_length(call, sequence, len_q, len, errors);
}

/* ---- Pages ---- */

/* A sequence's entries of a page table: ids[begin] up to ids[begin + count - 1]. */
typedef struct fv_page_ids {
  int64_t begin, count;
} fv_page_ids;

/* The entries in a table that has a row of `count` ids for each sequence. */
FV_SHAPE fv_page_ids fv_dense_page_ids(int64_t sequence, int64_t row_stride, int64_t count) {
  fv_page_ids ids = {sequence * row_stride, count};
  return ids;
}

/* The entries in a table with offsets, which give the sequence this range. */
FV_SHAPE fv_page_ids fv_packed_page_ids(fv_range range) {
  fv_page_ids ids = {range.begin, range.end - range.begin};
  return ids;
}

/* How many keys fit into `pages` pages. Lengths are 32-bit and count no more. */
FV_SHAPE int32_t fv_capacity_of_pages(int64_t pages, int64_t page_len) {
  return (int32_t)fv_min(pages * page_len, INT32_MAX);
}

/* Indices of a tensor's first two dimensions. */
typedef struct fv_place {
  int64_t outer; /* batch row or page */
  int64_t inner; /* position in it */
} fv_place;

/* An index among a sequence's pages. */
typedef struct fv_paged_index {
  uint32_t page;
  int32_t slot; /* of the page */
} fv_paged_index;

/* The page and slot of a sequence's key or token n. Divided in 32 bits: a 64-bit division takes a
 * GPU some hundred instructions. */
FV_SHAPE fv_paged_index fv_split_index(uint32_t n, uint32_t page_len) {
  fv_paged_index index = {n / page_len, (int32_t)(n % page_len)};
  return index;
}

/* Where that index lies in a cache, for a sequence whose ids begin at ids[begin]. The place exists
 * only if fv_has_page says so. */
FV_SHAPE fv_place fv_paged_place(const int32_t *ids, int64_t begin, fv_paged_index index) {
  fv_place place = {ids[begin + index.page], index.slot};
  return place;
}

/* Whether the place is on one of the cache's pages. As unsigned, a negative id is past them all. */
FV_SHAPE int fv_has_page(fv_place place, int64_t pages) {
  return (uint64_t)place.outer < (uint64_t)pages;
}

/* ---- Where new tokens go ---- */

/* Extents 0 and 1 of a cache. */
typedef struct fv_cache_extents {
  int64_t rows;  /* sequences or pages */
  int64_t slots; /* tokens of a row or page */
} fv_cache_extents;

/* fv_place.outer of a token that is not written. */
enum { FV_NOWHERE = -1 };

/* Whether tokens are appended to a sequence whose given length is `length`. Where none are, any
 * length is accepted. */
FV_SHAPE int fv_takes_tokens(int64_t tokens, int32_t length, uint32_t *errors) {
  if (tokens == 0) return 0;
  if (length >= 0) return 1;
  *errors |= FV_ERROR_LENGTH;
  return 0;
}

/* The index in its sequence of the t-th new token: below 2^32, since both terms are below 2^31. */
FV_SHAPE uint32_t fv_token_index(int32_t length, int64_t t) {
  return (uint32_t)length + (uint32_t)t;
}

/* The place of index n of a sequence: in its row, or, with `table`, on one of the pages `own`. */
FV_SHAPE fv_place fv_place_of_index(fv_cache_extents cache, const int32_t *table, fv_page_ids own,
                                    int64_t sequence, uint32_t n, uint32_t *errors) {
  uint32_t slots = (uint32_t)cache.slots;
  fv_place place = {sequence, n};
  if (!table && n < slots) return place;
  if (table && n / slots < own.count) {
    place = fv_paged_place(table, own.begin, fv_split_index(n, slots));
    if (fv_has_page(place, cache.rows)) return place;
    *errors |= FV_ERROR_PAGE;
  } else {
    *errors |= FV_ERROR_SLOT;
  }
  place.outer = FV_NOWHERE;
  return place;
}

/* The place of the caller's own flat slot. A negative one skips the token and is no error. */
FV_SHAPE fv_place fv_place_of_slot(fv_cache_extents cache, int64_t slot, uint32_t *errors) {
  fv_place place = {FV_NOWHERE, 0};
  if (slot < 0) return place;
  if (slot >= cache.rows * cache.slots) {
    *errors |= FV_ERROR_SLOT;
    return place;
  }
  place.outer = slot / cache.slots;
  place.inner = slot % cache.slots;
  return place;
}

/* Whether a table of `positions` rows has one for the token's position. */
FV_SHAPE int fv_has_position(int64_t position, int64_t positions, uint32_t *errors) {
  if (position >= 0 && position < positions) return 1;
  *errors |= FV_ERROR_POSITION;
  return 0;
}

#endif /* FOVEA_KERNELS_SHARED_SEQUENCE_RULES_H */

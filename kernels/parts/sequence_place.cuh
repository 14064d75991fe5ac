// sequence_place.cuh - the geometry of one sequence, read from the arrays in device memory.
//
// Lengths and positions are data, not arguments: nobody has checked them. Here they are clamped as
// the header says, and what was wrong becomes bits in errors[sequence].
#ifndef FV_SEQUENCE_PLACE_CUH
#define FV_SEQUENCE_PLACE_CUH

#include "kernels/shared/params.h"
#include "kernels/shared/shape.h"

struct fv_sequence_view {
  int64_t index;
  int64_t q_batch, q_begin;    // row 0 is q[q_batch, q_begin]
  int64_t kv_batch, kv_begin;  // key 0 is k[kv_batch, kv_begin]; paged: page 0 is ids[kv_begin]
  int32_t len_q;
  fv_position_mask mask;  // holds len_kv and kv_first
};

__device__ __forceinline__ void fv_add_error(const fv_attention_params &p, int64_t sequence,
                                             uint32_t bits) {
  if (p.errors) atomicOr(p.errors + sequence, bits);
}

// array[sequence] within [0, high], or `absent` without an array; *errors if it was not there.
__device__ __forceinline__ int32_t fv_clamped_length(const int32_t *array, int64_t sequence,
                                                     int32_t high, int32_t absent,
                                                     uint32_t *errors) {
  if (!array) return absent;
  int32_t given = array[sequence];
  int32_t length = (int32_t)fv_clamp(given, 0, high);
  if (given != length) *errors |= FV_ERROR_LENGTH;
  return length;
}

// What masks by position need, for a sequence of len_q rows with room for `room` keys.
__device__ __forceinline__ fv_position_mask fv_find_positions(const fv_attention_params &p,
                                                              int64_t sequence, int32_t len_q,
                                                              int32_t room, uint32_t *errors) {
  fv_position_mask mask;
  int32_t len = fv_clamped_length(p.kv_lengths, sequence, room, room, errors);
  mask.len = len;
  mask.first = fv_clamped_length(p.kv_first, sequence, len, 0, errors);
  mask.key_origin = p.kv_position ? p.kv_position[sequence] : 0;
  mask.key_stride = p.key_stride;
  if (p.q_position) {
    mask.row_origin = p.q_position[sequence];
  } else if (p.flags & FV_FLAG_TOP_LEFT) {
    mask.row_origin = 0;
  } else {
    mask.row_origin = mask.key_origin + (mask.len - 1) * mask.key_stride + 1 - len_q;
  }
  mask.prefix_end = 0;
  mask.window_left = p.window_left;
  mask.window_right = p.window_right;
  return mask;
}

// How many keys pages leave room for.
__device__ __forceinline__ int32_t fv_room_of_pages(const fv_attention_params &p, int64_t pages) {
  return (int32_t)fv_min(pages * p.pages.page_len, INT32_MAX);
}

// The sequence of a batch whose rows and keys are not packed. The thread that `reports` says what
// was wrong with its lengths.
__device__ __forceinline__ fv_sequence_view fv_find_sequence(const fv_attention_params &p,
                                                             int64_t index, bool reports) {
  fv_sequence_view s = {};
  uint32_t errors = 0;
  int32_t room = p.pages.k_ids ? fv_room_of_pages(p, p.pages.count) : p.len_kv;
  s.index = s.q_batch = s.kv_batch = index;
  s.kv_begin = p.pages.k_ids ? index * p.pages.row_stride : 0;
  s.len_q = p.len_q;
  s.mask = fv_find_positions(p, index, p.len_q, room, &errors);
  if (errors && reports) fv_add_error(p, index, errors);
  return s;
}

// A sequence that attention_prepare has placed.
__device__ __forceinline__ fv_sequence_view fv_take_sequence(const fv_attention_params &p,
                                                             int64_t index) {
  const fv_placed_sequence &placed = p.schedule.sequences[index];
  fv_sequence_view s = {};
  s.index = index;
  s.q_batch = p.q_offsets ? 0 : index;
  s.q_begin = placed.q_begin;
  s.kv_batch = p.kv_offsets ? 0 : index;
  s.kv_begin = placed.kv_begin;
  s.len_q = placed.len_q;
  s.mask.first = placed.first;
  s.mask.len = placed.len_kv;
  s.mask.row_origin = placed.row_origin;
  s.mask.key_origin = placed.key_origin;
  s.mask.key_stride = p.key_stride;
  s.mask.prefix_end = 0;
  s.mask.window_left = p.window_left;
  s.mask.window_right = p.window_right;
  return s;
}

#endif  // FV_SEQUENCE_PLACE_CUH

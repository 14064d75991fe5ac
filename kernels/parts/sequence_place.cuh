// sequence_place.cuh - the geometry of one sequence, read from the arrays in device memory.
//
// Lengths and positions are data, not arguments: nobody has checked them. They are read by the
// rules of shared/sequence_rules.h, and what was wrong becomes bits in errors[sequence].
#ifndef FOVEA_KERNELS_PARTS_SEQUENCE_PLACE_CUH
#define FOVEA_KERNELS_PARTS_SEQUENCE_PLACE_CUH

#include "kernels/shared/params.h"
#include "kernels/shared/sequence_rules.h"

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

// What masks by position need, for a sequence of len_q rows with room for `room` keys. Prefixes are
// a matter of the general class.
template <bool GENERAL>
__device__ __forceinline__ fv_position_mask fv_find_positions(const fv_attention_params &p,
                                                              int64_t sequence, int32_t len_q,
                                                              int32_t room, uint32_t *errors) {
  fv_position_arrays arrays = {};
  if (GENERAL) {
    arrays.prefix_lengths = p.rules.prefix_lengths;
    fv_place_tree(&p.rules, sequence, len_q, errors);  // reports a bad length, also without rows
  }
  arrays.kv_lengths = p.kv_lengths;
  arrays.kv_first = p.kv_first;
  arrays.q_position = p.q_position;
  arrays.kv_position = p.kv_position;
  arrays.key_stride = p.key_stride;
  arrays.window_left = p.window_left;
  arrays.window_right = p.window_right;
  arrays.top_left = p.flags & FV_FLAG_TOP_LEFT;
  return fv_place_positions(&arrays, sequence, len_q, room, errors);
}

// The sequence of a batch whose rows and keys are not packed. The thread with `reports` set reports
// what was wrong with its lengths.
template <bool GENERAL>
__device__ __forceinline__ fv_sequence_view fv_find_sequence(const fv_attention_params &p,
                                                             int64_t index, bool reports) {
  fv_sequence_view s = {};
  uint32_t errors = 0;
  fv_page_ids ids = fv_dense_page_ids(index, p.pages.row_stride, p.pages.count);
  int32_t room = p.pages.k_ids ? fv_capacity_of_pages(ids.count, p.pages.page_len) : p.len_kv;
  s.index = s.q_batch = s.kv_batch = index;
  s.kv_begin = p.pages.k_ids ? ids.begin : 0;
  s.len_q = p.len_q;
  s.mask = fv_find_positions<GENERAL>(p, index, p.len_q, room, &errors);
  if (errors && reports) fv_add_error(p, index, errors);
  return s;
}

// A sequence that attention_prepare has placed.
template <bool GENERAL>
__device__ __forceinline__ fv_sequence_view fv_take_sequence(const fv_attention_params &p,
                                                             int64_t index) {
  const fv_placed_sequence &placed = p.schedule.sequences[index];
  fv_sequence_view s = {};
  s.index = index;
  s.q_batch = fv_batch_row(p.q_offsets != nullptr, index);
  s.q_begin = placed.q_begin;
  s.kv_batch = fv_batch_row(p.kv_offsets != nullptr, index);
  s.kv_begin = placed.kv_begin;
  s.len_q = placed.len_q;
  s.mask.first = placed.first;
  s.mask.len = placed.len_kv;
  s.mask.row_origin = placed.row_origin;
  s.mask.key_origin = placed.key_origin;
  s.mask.key_stride = p.key_stride;
  s.mask.prefix_end = 0;
  if (GENERAL && p.rules.prefix_lengths) {
    s.mask.prefix_end = fv_keys_below(p.rules.prefix_lengths[index], s.mask.key_origin,
                                      s.mask.key_stride, s.mask.len);
  }
  s.mask.window_left = p.window_left;
  s.mask.window_right = p.window_right;
  return s;
}

#endif  // FOVEA_KERNELS_PARTS_SEQUENCE_PLACE_CUH

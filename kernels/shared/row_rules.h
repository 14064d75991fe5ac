/* row_rules.h - what one query row of one head sees besides masks by position, and what is added
 * to its logits: the device's form of the rules that csrc/host/row_mask.h has for the CPU. Plain C,
 * for the host and the kernels alike.
 *
 * Masks and biases are data of the running program and may be too small for it. A rule never reads
 * past them: the key is hidden, and *errors gets FV_ERROR_MASK. */
#ifndef FOVEA_KERNELS_SHARED_ROW_RULES_H
#define FOVEA_KERNELS_SHARED_ROW_RULES_H

#include "kernels/shared/sequence_rules.h"

/* A mask or bias [sequence, row, head, key]: strides in elements, 0 where an extent is 1. */
typedef struct fv_device_plane {
  const void *data; /* NULL: none */
  int64_t sequence, row, head, key;
  int32_t rows, keys; /* that it has; 2^31 - 1: any */
} fv_device_plane;

/* All that the general class of kernels has besides the others. Zeros are none of it. */
typedef struct fv_device_rules {
  fv_device_plane mask;          /* u8 */
  fv_device_plane bias;          /* of bias_bytes bytes each, in bf16 if bias_bf16 */
  const float *bias_scale;       /* [heads]; NULL: 1 */
  const float *slopes;           /* ALiBi: [sequence * slope_stride + head]; NULL: none */
  const float *distances;        /* [head * distance_stride + entry]; NULL: none */
  const int32_t *prefix_lengths; /* [sequences]; NULL: none */
  const int32_t *spans;          /* [rows, 2]; NULL: none */
  const uint32_t *tree;          /* [tree_words]; NULL: none */
  const int32_t *tree_lengths;   /* [sequences]; NULL: len_q */
  const int32_t *tree_starts;    /* [sequences]; NULL: 0 */
  int64_t slope_stride, distance_stride, distance_first, distance_count;
  int64_t tree_words;
  int64_t span_left, span_right; /* -1: unlimited */
  int32_t bias_bytes, bias_bf16;
  float scale; /* natural logits per unit of q.k, or of its tanh with a softcap */
} fv_device_rules;

FV_SHAPE int64_t fv_plane_offset(const fv_device_plane *plane, int64_t sequence, int64_t row,
                                 int64_t head) {
  return sequence * plane->sequence + row * plane->row + head * plane->head;
}

/* The tree of a sequence: how many keys are under it, the last ones, and where its rows' words
 * begin. */
typedef struct fv_tree_place {
  int64_t len, start;
} fv_tree_place;

FV_SHAPE fv_tree_place fv_place_tree(const fv_device_rules *rules, int64_t sequence, int64_t len_q,
                                     uint32_t *errors) {
  fv_tree_place place = {0, 0};
  if (!rules->tree) return place;
  place.len = rules->tree_lengths ? rules->tree_lengths[sequence] : len_q;
  place.start = rules->tree_starts ? rules->tree_starts[sequence] : 0;
  if (place.len >= 0) return place;
  *errors |= FV_ERROR_MASK;
  place.len = 0;
  return place;
}

/* Whether the tree shows key `key` of `len_kv` to the row. */
FV_SHAPE int fv_tree_shows(const fv_device_rules *rules, fv_tree_place tree, int64_t row,
                           int64_t key, int64_t len_kv, uint32_t *errors) {
  int64_t bit = key - (len_kv - tree.len);
  if (!rules->tree || bit < 0) return 1;
  int64_t word = tree.start + row * fv_ceil_div(tree.len, 32);
  if (word < 0 || word > rules->tree_words || word + bit / 32 >= rules->tree_words) {
    *errors |= FV_ERROR_MASK;
    return 0;
  }
  return rules->tree[word + bit / 32] >> (bit % 32) & 1;
}

/* The entry of a key in a head's table of distances. */
FV_SHAPE int64_t fv_distance_entry(const fv_device_rules *rules, const fv_position_mask *mask,
                                   int64_t row, int64_t key) {
  int64_t ahead = mask->key_origin + key * mask->key_stride - (mask->row_origin + row);
  return fv_clamp(ahead - rules->distance_first, 0, rules->distance_count - 1);
}

#endif /* FOVEA_KERNELS_SHARED_ROW_RULES_H */

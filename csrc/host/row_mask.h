/* row_mask.h - what one query row of one head sees, and what is added to its logits, key by key:
 * mask, tree, bias, ALiBi, bias by distance. Position masks are ranges; shared/shape.h has them.
 *
 * The strides are looked up once per row; then each key costs a few loads. */
#ifndef FOVEA_CSRC_HOST_ROW_MASK_H
#define FOVEA_CSRC_HOST_ROW_MASK_H

#include "csrc/host/sequence.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_row_mask {
  fv_range window; /* keys seen by causality and window */
  fv_range span;   /* keys seen besides those and the prefix */
  int64_t first, prefix_end, len;
  const uint8_t *mask; /* NULL: none */
  int64_t mask_step, mask_keys;
  const void *bias; /* NULL: none */
  uint32_t bias_dtype;
  int64_t bias_step, bias_keys;
  float bias_scale;
  const float *distances; /* NULL: none. Entry 0 is that of distance distance_first */
  int64_t distance_first, distance_count;
  const uint32_t *tree; /* NULL: none. Bit c decides whether key tree_key + c is seen */
  int64_t tree_key, tree_bits_readable;
  bool plain;   /* no mask, bias, tree or distance: position alone decides */
  bool outside; /* the row lies outside the mask or the bias: it sees nothing */
  float slope;  /* ALiBi; 0: none */
  int64_t row_position, key_origin, key_stride;
} fv_row_mask;

fv_row_mask fv_row_mask_for(const fv_problem *problem, const fv_sequence *sequence, int64_t row,
                            int64_t head);

static inline bool fv_sees_position(const fv_row_mask *m, int64_t key) {
  if (key < m->first || key >= m->len) return false;
  return key < m->prefix_end || (key >= m->window.begin && key < m->window.end) ||
         (key >= m->span.begin && key < m->span.end);
}

/* What biases add to a logit, and the sum of their magnitudes. */
typedef struct fv_added {
  double value, size;
} fv_added;

/* Whether mask, tree and biases leave the key visible. *added receives what the biases add to its
 * logit. A key outside their extents is hidden and sets FOVEA_BAD_MASK in *errors. */
bool fv_sees_key(const fv_row_mask *mask, int64_t key, fv_added *added, uint32_t *errors);

/* For from <= j < to: visible[j] = 1 if the row sees key begin + j, else 0. live[j] is 0 for keys
 * on a bad page. Gives the answers of fv_sees_position and fv_sees_key in loops that vectorise. */
void fv_find_visible(const fv_row_mask *mask, const uint8_t *live, int64_t begin, int32_t from,
                     int32_t to, uint8_t *visible, uint32_t *errors);

/* For from <= j < to: adds ALiBi, the distance's entry and, if visible[j], the bias of key
 * begin + j to logits[j]. A hidden key may have no bias; the others may change its logit, which
 * nothing uses. */
void fv_add_to_logits(const fv_row_mask *mask, const uint8_t *visible, int64_t begin, int32_t from,
                      int32_t to, float *logits);

/* |P(i) - K(j)|. */
static inline int64_t fv_distance(const fv_row_mask *m, int64_t key) {
  int64_t distance = m->row_position - (m->key_origin + key * m->key_stride);
  return distance < 0 ? -distance : distance;
}

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_HOST_ROW_MASK_H */

/* draw_sketch.h - what is known of a random case while it is drawn, and memory for it. Internal to
 * the files draw_*.c. */
#ifndef FOVEA_CLI_VALIDATE_DRAW_SKETCH_H
#define FOVEA_CLI_VALIDATE_DRAW_SKETCH_H

#include "cli/validate/draw_case.h"
#include "csrc/host/row_mask.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  FV_SKETCH_CANARY = 0xc5,
  FV_SKETCH_NOTHING = 0xff,
  FV_SKETCH_SEQUENCES = 5,
  FV_SKETCH_HEADS = 3
};

typedef struct fv_sketch {
  fv_case *c;
  fv_random *random;
  int64_t sequences, heads_q, heads_kv, dim, dim_v;
  int64_t len_q[FV_SKETCH_SEQUENCES], len_kv[FV_SKETCH_SEQUENCES], room[FV_SKETCH_SEQUENCES];
  int64_t head_keys[FV_SKETCH_SEQUENCES][FV_SKETCH_HEADS]; /* of kv heads, if paged */
  int64_t longest_q, longest_room;
  int64_t page_len;
  bool bad;
  int logits;             /* how q and k are distributed: a feature; -1: as usual */
  int values;             /* how v is: likewise */
  uint64_t pattern;       /* seeds what repeats in the data */
  bool limited;           /* only the features below may be drawn, and one dtype but for caches */
  fv_feature_set allowed; /* features that may be drawn */
  int dtype;              /* of q, k, v and out if limited; -1: not drawn yet */
  bool cached_in_8bit;    /* if limited: k and v have 8-bit types instead */
} fv_sketch;

static inline void fv_sketch_add(fv_sketch *s, fv_feature feature) {
  s->c->features |= fv_feature_bit(feature);
}

static inline bool fv_sketch_may(const fv_sketch *s, fv_feature feature) {
  return fv_feature_in(s->allowed, feature);
}

/* Adds the feature in `percent` of a hundred cases, if it is allowed. */
static inline bool fv_sketch_wish(fv_sketch *s, fv_feature feature, int percent) {
  if (!fv_random_percent(s->random, percent) || !fv_sketch_may(s, feature)) return false;
  fv_sketch_add(s, feature);
  return true;
}

/* ---- Memory: validate/draw_memory.c ---- */

/* Allocates memory of the case, every byte `fill`. NULL: out of memory, which the case then
 * records. */
void *fv_sketch_allocate(fv_case *c, size_t bytes, int fill);
int32_t *fv_sketch_i32(fv_sketch *s, int64_t count);
float *fv_sketch_floats(fv_sketch *s, int64_t count, float low, float high);

/* A view whose first three dimensions lie in memory in random order and with random gaps. `block`
 * is the number of elements that a row takes, at least shape[3]. */
void fv_sketch_strides(fv_sketch *s, fovea_tensor *t, int64_t block);
/* Such a view in memory of its own, every byte `fill`. */
void fv_sketch_tensor(fv_sketch *s, fovea_tensor *t, uint32_t dtype, const int64_t shape[4],
                      int fill);

/* Elements from the first to the last. */
int64_t fv_sketch_span(const fovea_tensor *t);

/* ---- The parts of a case, in the order of drawing ---- */

/* Positions, masks and what is added to logits: validate/draw_mask.c. */
void fv_sketch_draw_rules(fv_sketch *s);

/* Everything but the data, which costs most: validate/draw_case.c. */
void fv_sketch_draw_form(fv_sketch *s, uint64_t seed, uint64_t index);

/* The data. It comes last: it depends on which keys each row sees. */
void fv_sketch_fill(fv_sketch *s);

/* ---- Numbers: validate/draw_value.c ---- */

/* A row of a query head, or of k or v of a kv head. */
typedef struct fv_sketch_row {
  fv_sketch *sketch;
  const fv_problem *problem;
  const fv_sequence *sequence;
  int64_t index; /* of the row or the key in its sequence */
  int64_t head;
} fv_sketch_row;

/* How q, k and v are distributed. */
void fv_sketch_draw_distributions(fv_sketch *s);

/* Element d of a row. */
float fv_sketch_query(const fv_sketch_row *row, int64_t d);
float fv_sketch_key(const fv_sketch_row *row, int64_t d);
float fv_sketch_value(const fv_sketch_row *row, int64_t d);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_VALIDATE_DRAW_SKETCH_H */

/* draw_value.c - see validate/draw_sketch.h: the numbers in q, k and v.
 *
 * Uniform random numbers hide errors in sums of one sign, in equal terms, in faint terms beside a
 * dominant one, and at the ends of number formats. So each case may have one distribution of
 * logits, and one of values. */
#include <math.h>

#include "cli/validate/draw_sketch.h"

/* How many of a hundred cases have each of them. Pairs with the rarest other features, 7 in a
 * hundred, are then still met often enough in 20000 cases. */
enum { LOGITS_PERCENT = 8, VALUES_PERCENT = 9 };

static int draw_one(fv_sketch *s, fv_feature first, fv_feature last, int percent) {
  int which = (int)fv_random_between(s->random, 0, 99) / percent + (int)first;
  if (which > (int)last || !fv_sketch_may(s, (fv_feature)which)) return -1;
  if (which == FV_FEATURE_LOGITS_SINK && !fv_sketch_may(s, FV_FEATURE_SINKS)) return -1;
  fv_sketch_add(s, (fv_feature)which);
  return which;
}

void fv_sketch_draw_distributions(fv_sketch *s) {
  s->pattern = fv_random_bits(s->random);
  s->logits = draw_one(s, FV_FEATURE_LOGITS_EQUAL, FV_FEATURE_LOGITS_HUGE, LOGITS_PERCENT);
  s->values = draw_one(s, FV_FEATURE_VALUES_ONE_SIGN, FV_FEATURE_VALUES_HUGE, VALUES_PERCENT);
}

/* ---- Sizes ---- */

/* The usual size of the numbers: scaled int8 in its own range, others about normal. */
static float usual(const fovea_tensor *t, const fovea_tensor *scale) {
  if (t->dtype != FOVEA_I8) return 2;
  return scale->dtype ? 100 : 3;
}

/* A few times the smallest normal number: most of what is drawn is below it. */
static float tiny(const fovea_tensor *t) {
  switch (t->dtype) {
    case FOVEA_F16:
    case FOVEA_E5M2:
      return 0x1p-13f;
    case FOVEA_Q8_0: /* whose scale is an f16 */
    case FOVEA_Q4_0:
      return 0x1p-8f;
    case FOVEA_E4M3:
      return 0x1p-5f;
    case FOVEA_I8:
      return 1;
    default:
      return 0x1p-125f;
  }
}

static float largest(const fovea_tensor *t) {
  switch (t->dtype) {
    case FOVEA_F16:
    case FOVEA_Q8_0: /* the scale times 127 or 8 would be larger */
    case FOVEA_Q4_0:
      return 65504;
    case FOVEA_E5M2:
      return 57344;
    case FOVEA_E4M3:
      return 448;
    case FOVEA_I8:
      return 127;
    default:
      return 0x1.fep127f;
  }
}

/* ---- What a case repeats ---- */

static bool choice(const fv_sketch *s, int which) {
  return s->pattern >> which & 1;
}

/* A number in (-1, 1) that follows from its place. */
static float repeated(const fv_sketch *s, int64_t row, int64_t d) {
  fv_random random = fv_random_for(s->pattern + (uint64_t)row, (uint64_t)d);
  return fv_random_uniform(&random, -1, 1);
}

/* One number in [low, high) for the whole case. */
static float once(const fv_sketch *s, float low, float high) {
  return low + (high - low) * (0.5f + 0.5f * repeated(s, -1, 0));
}

static float noise(const fv_sketch_row *r, float size) {
  return fv_random_uniform(r->sketch->random, -size, size);
}

/* ---- Queries and keys ---- */

/* The header's limit for f32 and bf16: products summed over dim stay below 2^127. */
static float huge_factor(const fv_sketch_row *r, const fovea_tensor *t) {
  float most = sqrtf(0x1p126f / (float)r->problem->dim);
  return fminf(largest(t), choice(r->sketch, 0) ? most : powf(most, once(r->sketch, 0.2f, 1)));
}

/* Whether this is the key that all rows look at, or its place if it does not exist. */
static bool dominates(const fv_sketch_row *r) {
  int64_t len = r->sequence->mask.len;
  int64_t which = choice(r->sketch, 1) ? 0 : (int64_t)(r->sketch->pattern >> 8) % (len ? len : 1);
  return r->index == (which < 0 ? -which : which);
}

/* What makes row i look at key i, counted from the end. */
static float diagonal(const fv_sketch_row *r, int64_t index, int64_t head, int64_t d) {
  return repeated(r->sketch, index * r->problem->heads_kv + head, d) * once(r->sketch, 2, 8);
}

float fv_sketch_query(const fv_sketch_row *r, int64_t d) {
  const fv_sketch *s = r->sketch;
  const fovea_attention_args *a = &r->problem->args;
  float size = usual(&a->q, &a->q_scale), scale = r->problem->scale;
  if (choice(s, 3))
    size /= 16; /* logits below 1 as well: only then are bounds near the errors of sums */
  switch (s->logits) {
    case FV_FEATURE_LOGITS_EQUAL:
      return choice(s, 0) ? 0 : noise(r, size);
    case FV_FEATURE_LOGITS_KEY:
      if (d == 0) return once(s, 6, 20) / scale;
      return choice(s, 0) ? 0 : noise(r, 0.1f);
    case FV_FEATURE_LOGITS_SINK:
      return choice(s, 0) ? 0 : noise(r, 0.1f);
    case FV_FEATURE_LOGITS_CREEPING:
      return d == 0 ? 1e-5f / scale : 0;
    case FV_FEATURE_LOGITS_DIAGONAL: {
      int64_t key = r->index + r->sequence->mask.len - r->sequence->len_q;
      return diagonal(r, key, r->head / r->problem->group, d) + noise(r, 0.1f);
    }
    case FV_FEATURE_LOGITS_ONE_SIGN:
      return fabsf(noise(r, size));
    case FV_FEATURE_LOGITS_TINY:
      return noise(r, tiny(&a->q));
    case FV_FEATURE_LOGITS_HUGE:
      return noise(r, huge_factor(r, &a->q));
    default:
      return noise(r, size);
  }
}

float fv_sketch_key(const fv_sketch_row *r, int64_t d) {
  const fv_sketch *s = r->sketch;
  const fovea_attention_args *a = &r->problem->args;
  float size = usual(&a->k, &a->k_scale), one = size / 2;
  switch (s->logits) {
    case FV_FEATURE_LOGITS_EQUAL:
      return choice(s, 0) ? noise(r, size) : repeated(s, r->head, d) * size;
    case FV_FEATURE_LOGITS_KEY:
      if (d == 0) return dominates(r) ? one : 0;
      return noise(r, one);
    case FV_FEATURE_LOGITS_CREEPING:
      return d == 0 ? (float)(r->index / 64) : noise(r, size);
    case FV_FEATURE_LOGITS_DIAGONAL:
      return diagonal(r, r->index, r->head, d);
    case FV_FEATURE_LOGITS_ONE_SIGN:
      return fabsf(noise(r, size));
    case FV_FEATURE_LOGITS_TINY:
      return noise(r, tiny(&a->k));
    case FV_FEATURE_LOGITS_HUGE:
      return noise(r, huge_factor(r, &a->k));
    default:
      return noise(r, size);
  }
}

/* ---- Values ---- */

/* The header's limit for f32 and bf16: |v| times the number of keys stays below 2^127. An output of
 * 16 bits must be able to hold the result. */
static float huge_value(const fv_sketch_row *r) {
  const fovea_attention_args *a = &r->problem->args;
  float most = fminf(largest(&a->v), 0x1p126f / (float)(r->sequence->mask.len + 1));
  if (a->out.dtype == FOVEA_F16 || a->out.dtype == FOVEA_E4M3) most = fminf(most, largest(&a->out));
  float value = noise(r, most);
  return choice(r->sketch, 2) ? value : most - fabsf(value) / 16;
}

float fv_sketch_value(const fv_sketch_row *r, int64_t d) {
  const fv_sketch *s = r->sketch;
  const fovea_attention_args *a = &r->problem->args;
  float size = usual(&a->v, &a->v_scale);
  switch (s->values) {
    case FV_FEATURE_VALUES_ONE_SIGN:
      return choice(s, 2) ? fabsf(noise(r, size)) : -fabsf(noise(r, size));
    case FV_FEATURE_VALUES_SHIFTED:
      return size * (1 + noise(r, once(s, 0.001f, 0.1f)));
    case FV_FEATURE_VALUES_EQUAL:
      return size * repeated(s, r->head, d);
    case FV_FEATURE_VALUES_TINY:
      return noise(r, tiny(&a->v));
    case FV_FEATURE_VALUES_HUGE:
      return huge_value(r);
    default:
      return noise(r, size);
  }
}

/* draw_supported.c - see validate/draw_case.h: cases for devices that lack features. */
#include "cli/validate/draw_sketch.h"

static bool is_supported(fovea_handle *handle, const fv_case *c) {
  fovea_support support = {.struct_size = sizeof support};
  if (c->out_of_memory) return true; /* it will be reported */
  return fovea_attention_support(handle, &c->args, &support) == FOVEA_OK && support.supported;
}

/* Whether one of several draws has all features of `wanted`, and is supported. */
static bool meets(fovea_handle *handle, fv_feature_set allowed, fv_feature_set wanted) {
  enum { DRAWS = 100 };
  for (uint64_t index = 0; index < DRAWS; ++index) {
    fv_case c;
    fv_random random = fv_random_for((uint64_t)(wanted ^ wanted >> 64), index);
    fv_sketch s = {.c = &c, .random = &random, .limited = true, .allowed = allowed, .dtype = -1};
    fv_sketch_draw_form(&s, 0, index);
    bool met = (c.features & wanted) == wanted && is_supported(handle, &c);
    fv_case_free(&c);
    if (met) return true;
  }
  return false;
}

/* Features that must be allowed beside a feature that is never drawn alone. */
static fv_feature_set company_of(int feature) {
  bool needs_pages = feature == FV_FEATURE_V_TABLE || feature == FV_FEATURE_HEAD_PAGES ||
                     feature == FV_FEATURE_HEAD_LENGTHS;
  if (needs_pages) return fv_feature_bit(FV_FEATURE_PAGED_DENSE);
  if (feature == FV_FEATURE_K_SCALE || feature == FV_FEATURE_V_SCALE) {
    return fv_feature_bit(FV_FEATURE_K_E4M3) | fv_feature_bit(FV_FEATURE_V_E4M3);
  }
  if (feature == FV_FEATURE_MASK_ROWS) return fv_feature_bit(FV_FEATURE_MASK);
  if (feature == FV_FEATURE_BIAS_SCALE) return fv_feature_bit(FV_FEATURE_BIAS_F32);
  return feature == FV_FEATURE_LOGITS_SINK ? fv_feature_bit(FV_FEATURE_SINKS) : 0;
}

/* 8-bit types of both caches under queries of the types found. */
static fv_feature_set find_8bit(fovea_handle *handle, fv_feature_set dtypes) {
  fv_feature_set found = 0;
  for (int t = FV_FEATURE_K_E4M3; t <= FV_FEATURE_K_I8; ++t) {
    fv_feature_set pair =
        fv_feature_bit(t) | fv_feature_bit(t - FV_FEATURE_K_F32 + FV_FEATURE_V_F32);
    if (meets(handle, dtypes | pair, pair)) found |= pair;
  }
  return found;
}

fv_feature_set fv_case_find_features(fovea_handle *handle) {
  fv_feature_set dtypes = 0, found;
  for (int t = 0; t < 4; ++t) { /* the types that q and out may have */
    fv_feature_set type =
        fv_feature_bit(FV_FEATURE_Q_F32 + t) | fv_feature_bit(FV_FEATURE_K_F32 + t) |
        fv_feature_bit(FV_FEATURE_V_F32 + t) | fv_feature_bit(FV_FEATURE_OUT_F32 + t);
    if (meets(handle, type, type)) dtypes |= type;
  }
  if (!dtypes) return 0;
  dtypes |= find_8bit(handle, dtypes);
  found = dtypes;
  for (int f = FV_FEATURE_Q_SCALE; f < FV_FEATURE_COUNT; ++f) {
    if (meets(handle, dtypes | fv_feature_bit(f) | company_of(f), fv_feature_bit(f)))
      found |= fv_feature_bit(f);
  }
  return found;
}

fv_feature_set fv_case_find_company(fovea_handle *handle, fv_feature_set features,
                                    fv_feature feature) {
  const fv_feature_set dtypes = features & FV_DTYPES;
  const fv_feature_set tried =
      dtypes | fv_feature_bit(FV_FEATURE_K_SCALE) | fv_feature_bit(FV_FEATURE_V_SCALE);
  if (!(fv_feature_bit(feature) & FV_DTYPES)) return features;
  for (int f = 0; f < FV_FEATURE_COUNT; ++f) {
    fv_feature_set pair = fv_feature_bit(f) | fv_feature_bit(feature);
    fv_feature_set others =
        dtypes & ~fv_features_of_kind((fv_feature)f) & ~fv_features_of_kind(feature);
    if (f == (int)feature || !(tried & features & fv_feature_bit(f))) continue;
    if (!meets(handle, others | pair, pair)) features &= ~fv_feature_bit(f);
  }
  return features;
}

int64_t fv_case_draw_supported(uint64_t seed, uint64_t index, fovea_handle *handle,
                               fv_feature_set features, fv_case *c) {
  for (uint64_t left_out = 0;; ++left_out) {
    /* Another sequence of random numbers per attempt. */
    fv_random random = fv_random_for(seed + left_out * UINT64_C(0x9e3779b97f4a7c15), index);
    fv_sketch s = {.c = c, .random = &random, .limited = true, .allowed = features, .dtype = -1};
    fv_sketch_draw_form(&s, seed, index);
    if (!is_supported(handle, c)) {
      fv_case_free(c);
      continue;
    }
    if (!c->out_of_memory) fv_sketch_fill(&s);
    return (int64_t)left_out;
  }
}

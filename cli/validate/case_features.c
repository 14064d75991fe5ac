/* case_features.c - see case_features.h. */
#include "cli/validate/case_features.h"

#include <stddef.h>

const char *fv_feature_name(fv_feature feature) {
  static const char *const names[] = {
#define FV_FEATURE_NAME(identifier, name) name,
      FV_FEATURE_MAP(FV_FEATURE_NAME)
#undef FV_FEATURE_NAME
  };
  return names[feature];
}

/* Features [first, last] of one kind. A problem has exactly one feature of each kind, or at most
 * one. */
typedef struct kind {
  fv_feature first, last;
  const char *rule;
} kind;

static const kind kinds[] = {
    {FV_FEATURE_Q_F32, FV_FEATURE_Q_E4M3, "q has one dtype"},
    {FV_FEATURE_K_F32, FV_FEATURE_K_Q4_0, "k has one dtype"},
    {FV_FEATURE_V_F32, FV_FEATURE_V_Q4_0, "v has one dtype"},
    {FV_FEATURE_OUT_F32, FV_FEATURE_OUT_E4M3, "out has one dtype"},
    {FV_FEATURE_BIAS_F32, FV_FEATURE_BIAS_BF16, "bias has one dtype"},
    {FV_FEATURE_LOGITS_EQUAL, FV_FEATURE_LOGITS_HUGE, "q and k are distributed in one way"},
    {FV_FEATURE_VALUES_ONE_SIGN, FV_FEATURE_VALUES_HUGE, "v is distributed in one way"},
    {FV_FEATURE_KV_PACKED, FV_FEATURE_PAGED_CSR, "pages exclude kv_offsets, and CSR a dense table"},
};

static const struct {
  fv_feature a, b;
  const char *rule;
} exclusions[] = {
    {FV_FEATURE_Q_SCALE, FV_FEATURE_Q_F32, "scales belong to 8-bit tensors"},
    {FV_FEATURE_Q_SCALE, FV_FEATURE_Q_F16, "scales belong to 8-bit tensors"},
    {FV_FEATURE_Q_SCALE, FV_FEATURE_Q_BF16, "scales belong to 8-bit tensors"},
    {FV_FEATURE_K_SCALE, FV_FEATURE_K_F32, "scales belong to 8-bit tensors"},
    {FV_FEATURE_K_SCALE, FV_FEATURE_K_F16, "scales belong to 8-bit tensors"},
    {FV_FEATURE_K_SCALE, FV_FEATURE_K_BF16, "scales belong to 8-bit tensors"},
    {FV_FEATURE_K_SCALE, FV_FEATURE_K_Q8_0, "blocks have scales of their own"},
    {FV_FEATURE_K_SCALE, FV_FEATURE_K_Q4_0, "blocks have scales of their own"},
    {FV_FEATURE_V_SCALE, FV_FEATURE_V_F32, "scales belong to 8-bit tensors"},
    {FV_FEATURE_V_SCALE, FV_FEATURE_V_F16, "scales belong to 8-bit tensors"},
    {FV_FEATURE_V_SCALE, FV_FEATURE_V_BF16, "scales belong to 8-bit tensors"},
    {FV_FEATURE_V_SCALE, FV_FEATURE_V_Q8_0, "blocks have scales of their own"},
    {FV_FEATURE_V_SCALE, FV_FEATURE_V_Q4_0, "blocks have scales of their own"},
    {FV_FEATURE_OUT_SCALE, FV_FEATURE_OUT_F32, "scales belong to 8-bit tensors"},
    {FV_FEATURE_OUT_SCALE, FV_FEATURE_OUT_F16, "scales belong to 8-bit tensors"},
    {FV_FEATURE_OUT_SCALE, FV_FEATURE_OUT_BF16, "scales belong to 8-bit tensors"},
    {FV_FEATURE_DIM_ANY, FV_FEATURE_K_Q8_0, "dim is whole blocks"},
    {FV_FEATURE_DIM_ANY, FV_FEATURE_K_Q4_0, "dim is whole blocks"},
    {FV_FEATURE_V_TABLE, FV_FEATURE_KV_PACKED, "v's own table needs a paged cache"},
    {FV_FEATURE_HEAD_PAGES, FV_FEATURE_KV_PACKED, "page tables of kv heads are dense"},
    {FV_FEATURE_HEAD_PAGES, FV_FEATURE_PAGED_CSR, "page tables of kv heads are dense"},
    {FV_FEATURE_HEAD_LENGTHS, FV_FEATURE_KV_PACKED, "pages.head_lengths needs a paged cache"},
    {FV_FEATURE_HEAD_LENGTHS, FV_FEATURE_KV_LENGTHS, "pages.head_lengths replaces kv_lengths"},
    {FV_FEATURE_SELECTED, FV_FEATURE_TOP_LEFT, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_Q_POSITION, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_WINDOW_LEFT, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_WINDOW_RIGHT, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_PREFIX, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_KV_FIRST, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_SPANS, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_KV_POSITION, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_TREE, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_ALIBI, "selected keys have no positions"},
    {FV_FEATURE_SELECTED, FV_FEATURE_DISTANCES, "selected keys have no positions"},
};

enum {
  KINDS = sizeof kinds / sizeof kinds[0],
  EXCLUSIONS = sizeof exclusions / sizeof exclusions[0]
};

static bool of_kind(fv_feature feature, const kind *k) {
  return feature >= k->first && feature <= k->last;
}

const char *fv_features_exclude(fv_feature a, fv_feature b) {
  for (int i = 0; i < KINDS; ++i) {
    if (a != b && of_kind(a, &kinds[i]) && of_kind(b, &kinds[i])) return kinds[i].rule;
  }
  for (int i = 0; i < EXCLUSIONS; ++i) {
    if (exclusions[i].a == a && exclusions[i].b == b) return exclusions[i].rule;
    if (exclusions[i].a == b && exclusions[i].b == a) return exclusions[i].rule;
  }
  return NULL;
}

fv_feature_set fv_features_of_kind(fv_feature feature) {
  fv_feature_set all = fv_feature_bit(feature);
  for (int i = 0; i < KINDS; ++i) {
    if (!of_kind(feature, &kinds[i])) continue;
    for (int f = kinds[i].first; f <= (int)kinds[i].last; ++f) all |= fv_feature_bit(f);
  }
  return all;
}

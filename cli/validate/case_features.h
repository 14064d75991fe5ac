/* case_features.h - what random problems are made of. `validate` counts every feature and every
 * pair of features, and holds itself to having met each. */
#ifndef FOVEA_CLI_VALIDATE_CASE_FEATURES_H
#define FOVEA_CLI_VALIDATE_CASE_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(identifier, name). Names are what --filter looks for. */
/* clang-format off */
#define FV_FEATURE_MAP(X) \
  X(Q_F32, "q=f32") X(Q_F16, "q=f16") X(Q_BF16, "q=bf16") X(Q_E4M3, "q=e4m3")                 \
  X(K_F32, "k=f32") X(K_F16, "k=f16") X(K_BF16, "k=bf16") X(K_E4M3, "k=e4m3")                 \
  X(K_E5M2, "k=e5m2") X(K_I8, "k=i8") X(K_Q8_0, "k=q8_0") X(K_Q4_0, "k=q4_0")                 \
  X(V_F32, "v=f32") X(V_F16, "v=f16") X(V_BF16, "v=bf16") X(V_E4M3, "v=e4m3")                 \
  X(V_E5M2, "v=e5m2") X(V_I8, "v=i8") X(V_Q8_0, "v=q8_0") X(V_Q4_0, "v=q4_0")                 \
  X(OUT_F32, "out=f32")                                                                       \
  X(OUT_F16, "out=f16") X(OUT_BF16, "out=bf16") X(OUT_E4M3, "out=e4m3") X(Q_SCALE, "q_scale") \
  X(K_SCALE, "k_scale") X(V_SCALE, "v_scale") X(OUT_SCALE, "out_scale") X(GQA, "gqa")         \
  X(DIM_V, "dim_v!=dim") X(DIM_LARGE, "dim>=512") X(Q_PACKED, "q_packed")                     \
  X(KV_PACKED, "kv_packed") X(PAGED_DENSE, "paged_dense") X(PAGED_CSR, "paged_csr")           \
  X(V_TABLE, "v_table") X(INTERLEAVED, "kv_interleaved") X(KV_LENGTHS, "kv_lengths")          \
  X(EMPTY, "empty_sequence") X(BAD_DATA, "bad_data") X(CAUSAL, "causal")                      \
  X(TOP_LEFT, "top_left") X(Q_POSITION, "q_position") X(WINDOW_LEFT, "window_left")           \
  X(WINDOW_RIGHT, "window_right") X(PREFIX, "prefix") X(KV_FIRST, "kv_first")                 \
  X(SPANS, "spans") X(DIM_ANY, "dim%8!=0") X(Q_LENGTHS, "q_lengths")                          \
  X(DISTANCES, "distances") X(BIAS_SCALE, "bias_scale") X(ADDITIVE, "additive")               \
  X(HEAD_PAGES, "head_pages") X(HEAD_LENGTHS, "head_lengths") X(SELECTED, "selected")         \
  X(KV_POSITION, "kv_position") X(MASK, "mask") X(MASK_ROWS, "mask_rows") X(TREE, "tree")     \
  X(BIAS_F32, "bias=f32") X(BIAS_F16, "bias=f16") X(BIAS_BF16, "bias=bf16") X(ALIBI, "alibi") \
  X(SINKS, "sinks") X(SOFTCAP, "softcap") X(SCALE, "scale") X(NO_LSE, "no_lse")               \
  X(BEYOND_TWO_TILES, "beyond_two_tiles")                                                     \
  X(LOGITS_EQUAL, "logits=equal") X(LOGITS_KEY, "logits=dominant_key")                        \
  X(LOGITS_SINK, "logits=dominant_sink") X(LOGITS_CREEPING, "logits=creeping")                \
  X(LOGITS_DIAGONAL, "logits=diagonal") X(LOGITS_ONE_SIGN, "logits=one_sign")                 \
  X(LOGITS_TINY, "logits=tiny") X(LOGITS_HUGE, "logits=huge")                                 \
  X(VALUES_ONE_SIGN, "values=one_sign") X(VALUES_SHIFTED, "values=shifted")                   \
  X(VALUES_EQUAL, "values=equal") X(VALUES_TINY, "values=tiny") X(VALUES_HUGE, "values=huge")
/* clang-format on */

typedef enum fv_feature {
#define FV_FEATURE_ENUM(identifier, name) FV_FEATURE_##identifier,
  FV_FEATURE_MAP(FV_FEATURE_ENUM)
#undef FV_FEATURE_ENUM
      FV_FEATURE_COUNT
} fv_feature;

/* Bit f: feature f. There are more than 64. */
__extension__ typedef unsigned __int128 fv_feature_set;

static inline fv_feature_set fv_feature_bit(int feature) {
  return (fv_feature_set)1 << feature;
}

static inline bool fv_feature_in(fv_feature_set set, int feature) {
  return set >> feature & 1;
}

const char *fv_feature_name(fv_feature feature);

/* Why two features cannot meet in one problem: the rule of the header that they would break. NULL:
 * they can meet. */
const char *fv_features_exclude(fv_feature a, fv_feature b);

/* The features that are a tensor's dtype. A problem has one of them for each tensor. */
#define FV_DTYPES (((fv_feature_set)2 << FV_FEATURE_OUT_E4M3) - 1)

/* The feature and the others of its kind. A problem has at most one feature of a kind. */
fv_feature_set fv_features_of_kind(fv_feature feature);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_VALIDATE_CASE_FEATURES_H */

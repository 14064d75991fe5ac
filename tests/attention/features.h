// features.h - every feature of the attention call by name, as a change to a builder.
//
// The features fit three sequences of up to kRows rows and kKeys keys. One table serves the tests
// of single features, empty rows, poison and invariance, so that none forgets a feature.
#ifndef FOVEA_TESTS_ATTENTION_FEATURES_H
#define FOVEA_TESTS_ATTENTION_FEATURES_H

#include <ostream>
#include <string>
#include <vector>

#include "tests/support/attention_builder.h"
#include "tests/support/formats.h"

namespace fovea_test {

inline constexpr int64_t kSequences = 3;
inline constexpr int64_t kRows = 6;
inline constexpr int64_t kKeys = 75;

struct Feature {
  const char *name;
  void (*apply)(Attention &);
};

inline void PrintTo(const Feature &feature, std::ostream *out) {
  *out << feature.name;
}

inline std::vector<Feature> features() {
  return {
      {"plain", [](Attention &) {}},
      {"f16", [](Attention &a) { a.type(FOVEA_F16); }},
      {"bf16", [](Attention &a) { a.type(FOVEA_BF16); }},
      {"f16_out_f32", [](Attention &a) { a.types(FOVEA_F16, FOVEA_F16, FOVEA_F16, FOVEA_F32); }},
      {"f32_out_bf16", [](Attention &a) { a.types(FOVEA_F32, FOVEA_F32, FOVEA_F32, FOVEA_BF16); }},
      {"all_types_differ",
       [](Attention &a) {
         a.types(FOVEA_BF16, FOVEA_F16, FOVEA_E5M2, FOVEA_F32).scales("v", "", 1, 0.5);
       }},
      {"e4m3_everywhere",
       [](Attention &a) {
         a.type(FOVEA_E4M3).scales("qkvo", "", 1, 0.25).scales("o", "", 1, 0.1);
       }},
      {"e4m3_without_scales", [](Attention &a) { a.type(FOVEA_E4M3); }},
      {"e5m2_cache", [](Attention &a) { a.types(FOVEA_F16, FOVEA_E5M2, FOVEA_E5M2, FOVEA_F16); }},
      {"i8_cache",
       [](Attention &a) {
         a.types(FOVEA_BF16, FOVEA_I8, FOVEA_I8, FOVEA_BF16).scales("kv", "", 1, 1.0 / 30);
       }},
      {"q8_0_cache",
       [](Attention &a) { a.types(FOVEA_F16, FOVEA_Q8_0, FOVEA_Q8_0, FOVEA_F32).dim(32); }},
      {"q4_0_cache",
       [](Attention &a) {
         a.types(FOVEA_BF16, FOVEA_Q4_0, FOVEA_Q4_0, FOVEA_F32).dim(96).dim_v(32).paged(7);
         a.lengths({75, 1, 48});
       }},
      {"q8_0_keys_q4_0_values",
       [](Attention &a) {
         a.types(FOVEA_F32, FOVEA_Q8_0, FOVEA_Q4_0, FOVEA_F32).dim(64).dim_v(96).causal();
       }},
      {"q4_0_576_v_in_k",
       [](Attention &a) {
         a.types(FOVEA_F32, FOVEA_Q4_0, FOVEA_Q4_0, FOVEA_F32).dim(576).dim_v(512).v_in_k();
       }},
      {"scale_per_head",
       [](Attention &a) { a.type(FOVEA_E4M3).scales("qkv", "h").scales("o", "h", 1, 0.02); }},
      {"scale_per_token",
       [](Attention &a) {
         a.types(FOVEA_F32, FOVEA_I8, FOVEA_I8, FOVEA_F32).scales("kv", "bsh", 1, 1.0 / 30);
       }},
      {"scale_per_block",
       [](Attention &a) {
         a.types(FOVEA_E4M3, FOVEA_E4M3, FOVEA_E5M2, FOVEA_E4M3)
             .scales("qkv", "bsh", 4, 1.0, FOVEA_F16)
             .scales("o", "bsh", 2, 0.05);
       }},
      {"scale_per_channel",
       [](Attention &a) {
         a.types(FOVEA_F16, FOVEA_E4M3, FOVEA_I8, FOVEA_F16)
             .scales("k", "h", 16)
             .scales("v", "bh", 8, 1.0 / 30);
       }},
      {"causal", [](Attention &a) { a.causal(); }},
      {"causal_top_left", [](Attention &a) { a.causal(FOVEA_ALIGN_TOP_LEFT); }},
      {"causal_q_position",
       [](Attention &a) {
         a.causal().q_position({0, 31, 70});
       }},
      {"causal_rows_before_the_keys",
       [](Attention &a) {
         a.causal().q_position({-3, -9, 40});
       }},
      {"window_both", [](Attention &a) { a.window(9, 3); }},
      {"window_left_causal", [](Attention &a) { a.causal().window(20, -1); }},
      {"window_right_top_left", [](Attention &a) { a.top_left().window(-1, 40); }},
      {"window_zero", [](Attention &a) { a.window(0, 0); }},
      {"prefix",
       [](Attention &a) {
         a.causal(FOVEA_ALIGN_TOP_LEFT).prefix({0, 33, 200});
       }},
      {"prefix_and_window",
       [](Attention &a) {
         a.causal().window(5, -1).prefix({4, 0, 17});
       }},
      {"spans", [](Attention &a) { a.causal().spans(); }},
      {"spans_within_a_window",
       [](Attention &a) { a.causal().window(30, 12).spans(FOVEA_SPAN_WITHIN); }},
      {"spans_between_two_holes",
       [](Attention &a) {
         a.causal().window(5, -1).prefix({3, 0, 9}).spans(
             FOVEA_SPAN_BESIDES, [](int64_t tag, int64_t row) {
               return Span{30 + tag, row % 5 == 0 ? 0 : 41 + row};
             });
       }},
      {"q_lengths",
       [](Attention &a) {
         a.causal().q_lengths({0, kRows, 4});
       }},
      {"q_lengths_packed",
       [](Attention &a) {
         a.rows({3, kRows, 5}).q_lengths({3, 1, 2}).causal().spans();
       }},
      {"lengths",
       [](Attention &a) {
         a.lengths({0, 1, 74});
       }},
      {"kv_first",
       [](Attention &a) {
         a.kv_first({0, 64, 75});
       }},
      {"kv_position",
       [](Attention &a) {
         a.causal().kv_position({7, -20, 0}).alibi();
       }},
      {"kv_position_stride",
       [](Attention &a) {
         a.causal().kv_position({1, 0, 3}, 4).q_position({100, 150, 2}).window(64, -1);
       }},
      {"packed_q",
       [](Attention &a) {
         a.rows({kRows, 0, 2}).causal();
       }},
      {"packed_both",
       [](Attention &a) {
         a.rows({1, kRows, 3}).keys({kKeys, 0, 33});
       }},
      {"packed_both_lengths",
       [](Attention &a) {
         a.rows({2, 1, 3}).keys({kKeys, 40, 33}).lengths({70, 0, 33}).causal();
       }},
      {"packed_kv",
       [](Attention &a) {
         a.keys({3, kKeys, 64}).causal();
       }},
      {"paged_1",
       [](Attention &a) {
         a.paged(1).lengths({40, 3, 0});
       }},
      {"paged_7",
       [](Attention &a) {
         a.paged(7).lengths({75, 7, 8}).causal();
       }},
      {"paged_16_window",
       [](Attention &a) {
         a.paged(16).lengths({75, 16, 31}).window(10, 0);
       }},
      {"paged_64_csr",
       [](Attention &a) {
         a.paged(64, true).lengths({75, 64, 0});
       }},
      {"paged_two_tables",
       [](Attention &a) {
         a.paged(8, false, true).lengths({75, 9, 24});
       }},
      {"paged_two_tables_csr_packed",
       [](Attention &a) {
         a.rows({1, 5, 0}).paged(16, true, true).lengths({75, 33, 48}).causal();
       }},
      {"paged_scale_per_token",
       [](Attention &a) {
         a.types(FOVEA_F16, FOVEA_E4M3, FOVEA_E4M3, FOVEA_F16).paged(16).lengths({75, 33, 48});
         a.scales("kv", "bsh");
       }},
      {"paged_scale_per_page",
       [](Attention &a) {
         a.types(FOVEA_F16, FOVEA_I8, FOVEA_I8, FOVEA_F16).paged(16, true).lengths({75, 1, 48});
         a.scales("kv", "bh", 2, 1.0 / 30);
       }},
      {"pages_per_head",
       [](Attention &a) {
         a.paged(7).head_pages().lengths({75, 7, 8}).causal();
       }},
      {"pages_per_head_before_sequences",
       [](Attention &a) {
         a.paged(16, false, true).head_pages('h').lengths({75, 16, 31}).window(10, 0);
       }},
      {"pages_per_head_scales",
       [](Attention &a) {
         a.types(FOVEA_F16, FOVEA_E4M3, FOVEA_I8, FOVEA_F16).paged(16).head_pages();
         a.lengths({75, 33, 48}).scales("k", "bsh").scales("v", "bh", 2, 1.0 / 30);
       }},
      {"lengths_per_head",
       [](Attention &a) {
         a.paged(16).head_lengths({75, 3, 0, 40, 64, 65}).causal().prefix({2, 0, 50});
       }},
      {"lengths_per_head_csr_packed",
       [](Attention &a) {
         a.rows({1, 0, 6}).paged(8, true).head_lengths({1, 75, 7, 8, 70, 30}).tree().alibi();
       }},
      {"pages_and_lengths_per_head",
       [](Attention &a) {
         a.rows({1, 5, 2}).paged(5, false, true).head_pages('h').causal().spans().mask(0.1);
         a.head_lengths({75, 66, 0, 31, 9, 2}).kv_first({1, 3, 3}).kv_position({4, 0, 9}, 2);
       }},
      {"selected",
       [](Attention &a) {
         a.paged(1).head_pages().head_lengths({75, 60, 1, 0, 20, 65}).selected();
       }},
      {"selected_for_each_row",
       [](Attention &a) {
         a.rows({1, 1, 1}).paged(4).head_pages('h').lengths({75, 64, 3}).selected().causal();
       }},
      {"selected_mask_bias_sinks",
       [](Attention &a) {
         a.lengths({75, 64, 3}).selected().mask().bias(FOVEA_F16, 0.1).sinks().softcap(3);
       }},
      {"mask", [](Attention &a) { a.mask(); }},
      {"mask_padding", [](Attention &a) { a.mask(0.5, "sk"); }},
      {"mask_rows_only", [](Attention &a) { a.mask(0.5, "sr"); }},
      {"mask_everything_hidden", [](Attention &a) { a.mask(1.0); }},
      {"bias", [](Attention &a) { a.bias(); }},
      {"bias_f16_minus_infinity", [](Attention &a) { a.bias(FOVEA_F16, 0.4, "rhk"); }},
      {"bias_bf16_per_key", [](Attention &a) { a.bias(FOVEA_BF16, 0.1, "k"); }},
      {"bias_one_number", [](Attention &a) { a.bias(FOVEA_F32, 0.0, ""); }},
      {"tree", [](Attention &a) { a.tree(); }},
      {"tree_of_40_columns", [](Attention &a) { a.tree(40); }},
      {"tree_paged_packed",
       [](Attention &a) {
         a.rows({3, 6, 1}).paged(16).lengths({75, 16, 31}).tree();
       }},
      {"bias_scale", [](Attention &a) { a.bias(FOVEA_F16, 0.3).bias_scale(); }},
      {"distances", [](Attention &a) { a.distances(-30, 40); }},
      {"distances_shared_causal", [](Attention &a) { a.causal().distances(-9, 10, true); }},
      {"distances_with_everything_added",
       [](Attention &a) {
         a.softcap(2).alibi().distances(-80, 75).bias().bias_scale().kv_position({1, 0, 3}, 2);
       }},
      {"alibi", [](Attention &a) { a.alibi(); }},
      {"alibi_per_sequence_causal", [](Attention &a) { a.alibi(false).causal(); }},
      {"additive", [](Attention &a) { a.additive(); }},
      {"additive_causal_dim_72", [](Attention &a) { a.additive(true).dim(72).causal().sinks(); }},
      {"additive_with_everything",
       [](Attention &a) {
         a.additive().dim(21).types(FOVEA_BF16, FOVEA_I8, FOVEA_F16, FOVEA_F32).scale(0.5);
         a.scales("k", "h", 3, 1.0 / 30).softcap(3).bias().paged(16).lengths({75, 16, 31});
       }},
      {"sinks", [](Attention &a) { a.sinks(); }},
      {"sinks_and_lengths",
       [](Attention &a) {
         a.sinks().lengths({0, 2, 75}).causal();
       }},
      {"softcap", [](Attention &a) { a.softcap(0.7); }},
      {"softcap_alibi_bias", [](Attention &a) { a.softcap(2).alibi().bias(); }},
      {"scale", [](Attention &a) { a.scale(1.75); }},
      {"one_head_each", [](Attention &a) { a.heads(1, 1); }},
      {"many_query_heads", [](Attention &a) { a.heads(14, 2); }},
      {"every_head_its_own", [](Attention &a) { a.heads(5, 5); }},
      {"dim_1", [](Attention &a) { a.dim(1); }},
      {"dim_7_dim_v_9", [](Attention &a) { a.dim(7).dim_v(9).type(FOVEA_F16); }},
      {"dim_33_dim_v_1_i8",
       [](Attention &a) {
         a.dim(33).dim_v(1).types(FOVEA_BF16, FOVEA_I8, FOVEA_E4M3, FOVEA_BF16);
         a.scales("k", "bsh", 3, 1.0 / 30);
       }},
      {"dim_573_dim_v_511", [](Attention &a) { a.dim(573).dim_v(511).type(FOVEA_BF16); }},
      {"dim_8", [](Attention &a) { a.dim(8); }},
      {"dim_24_dim_v_40", [](Attention &a) { a.dim(24).dim_v(40); }},
      {"dim_192_dim_v_128", [](Attention &a) { a.dim(192).dim_v(128).type(FOVEA_BF16); }},
      {"dim_576_v_in_k", [](Attention &a) { a.dim(576).dim_v(512).v_in_k().type(FOVEA_BF16); }},
      {"dim_8_dim_v_512", [](Attention &a) { a.dim(8).dim_v(512); }},
      {"no_lse", [](Attention &a) { a.no_lse(); }},
      {"reproducible_batch", [](Attention &a) { a.reproducible(FOVEA_REPRODUCIBLE_BATCH); }},
      {"reproducible_phase", [](Attention &a) { a.reproducible(FOVEA_REPRODUCIBLE_PHASE); }},
      {"everything",
       [](Attention &a) {
         a.types(FOVEA_BF16, FOVEA_E4M3, FOVEA_I8, FOVEA_F16).rows({4, 0, 6}).paged(16, true, true);
         a.lengths({75, 20, 40}).causal().window(50, -1).prefix({8, 8, 8}).kv_first({3, 0, 0});
         a.mask(0.1).bias(FOVEA_BF16, 0.1, "rk").tree().alibi(false).sinks().softcap(5);
         a.scales("k", "bsh", 2).scales("v", "bh", 1, 1.0 / 30);
       }},
  };
}

// The problem that a feature is applied to.
inline Attention base_of(const Feature &feature, const Device &device, uint64_t seed = 1) {
  Attention a;
  a.on(device).seed(seed).batch(kSequences).len_q(kRows).len_kv(kKeys).heads(4, 2).dim(16);
  feature.apply(a);
  return a;
}

}  // namespace fovea_test

#endif  // FOVEA_TESTS_ATTENTION_FEATURES_H

// rules_kernel_test.cc - the general class of kernels: masks and biases that differ from row to row
// and head to head, prefixes, spans, trees. Every rule alone and among others, in wide and in
// narrow tiles, against the oracle. What no row sees is poison.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <utility>
#include <vector>

#include "csrc/cuda/plan.h"
#include "tests/cuda/kernel_device.h"

namespace fovea_test {
namespace {

struct Rule {
  const char *name;
  void (*add)(Attention &a);
};

const Rule kRules[] = {
    {"mask_of_everything", [](Attention &a) { a.mask(0.3); }},
    {"mask_that_hides_most", [](Attention &a) { a.mask(0.97, "srhk"); }},
    {"mask_of_rows", [](Attention &a) { a.mask(0.5, "rk"); }},
    {"mask_of_heads", [](Attention &a) { a.mask(0.5, "hk"); }},
    {"mask_of_whole_rows", [](Attention &a) { a.mask(0.5, "srh"); }},
    {"bias_f32", [](Attention &a) { a.bias(FOVEA_F32, 0.2); }},
    {"bias_f16_of_keys", [](Attention &a) { a.bias(FOVEA_F16, 0.3, "k"); }},
    {"bias_bf16_of_rows", [](Attention &a) { a.bias(FOVEA_BF16, 0.0, "rk"); }},
    {"bias_scaled", [](Attention &a) { a.bias(FOVEA_F32, 0.1, "hk").bias_scale(); }},
    {"alibi", [](Attention &a) { a.alibi(false).causal(); }},
    {"alibi_of_every_third",
     [](Attention &a) {
       a.alibi(true).kv_position({7, 0}, 3).q_position({400, 300});
     }},
    {"distances", [](Attention &a) { a.distances(-40, 60).window(90, 30); }},
    {"distances_of_every_third",
     [](Attention &a) {
       a.distances(-200, 201).kv_position({7, 0}, 3).q_position({400, 300});
     }},
    {"distances_shared", [](Attention &a) { a.distances(-5, 1, true).causal(); }},
    {"prefix",
     [](Attention &a) {
       a.prefix({30, 70}).window(20, 0);
     }},
    {"spans_besides", [](Attention &a) { a.spans().causal(); }},
    {"spans_within", [](Attention &a) { a.spans(FOVEA_SPAN_WITHIN).window(30, 0); }},
    {"tree", [](Attention &a) { a.tree().causal(); }},
    {"all", [](Attention &a) {
       a.mask(0.2).bias(FOVEA_BF16, 0.1, "srk").alibi().prefix({20, 5}).softcap(20).sinks();
       a.distances(-30, 31, true).window(60, 3).kv_first({3, 0});
     }}};

struct Place {
  const char *name;
  uint32_t dtype;
  int64_t dim, len_q, heads_kv;
  uint32_t level;
};

// Wide tiles of rows that end in a tile, narrow ones, groups, each kernel row.
const Place kPlaces[] = {{"wide_bf16_d64", FOVEA_BF16, 64, 70, 2, FOVEA_REPRODUCIBLE_RUN},
                         {"wide_f16_d64_group", FOVEA_F16, 40, 41, 1, FOVEA_REPRODUCIBLE_BATCH},
                         {"narrow_bf16_d64", FOVEA_BF16, 64, 3, 1, FOVEA_REPRODUCIBLE_RUN},
                         {"narrow_f16_d128", FOVEA_F16, 128, 2, 1, FOVEA_REPRODUCIBLE_BATCH},
                         {"phase_bf16_d128", FOVEA_BF16, 128, 5, 2, FOVEA_REPRODUCIBLE_PHASE},
                         {"wide_f16_d256", FOVEA_F16, 256, 20, 2, FOVEA_REPRODUCIBLE_RUN}};

class RulesKernel : public OnCuda<testing::TestWithParam<std::tuple<int, int>>> {
 protected:
  const Place &place() { return kPlaces[std::get<0>(GetParam())]; }
  const Rule &rule() { return kRules[std::get<1>(GetParam())]; }
  Attention problem() {
    Attention a;
    a.on(kCuda).type(place().dtype).dim(place().dim).dim_v(place().dim);
    a.batch(2).len_q(place().len_q).len_kv(170).heads(2, place().heads_kv);
    a.lengths({170, 95}).reproducible(place().level).sm_count(3);
    rule().add(a);
    return a;
  }
};

TEST_P(RulesKernel, MatchesTheOracle) {
  const Attention a = problem();
  const Case laid(a.s);
  fovea_support support = {};
  support.struct_size = sizeof support;
  ASSERT_EQ(fovea_attention_support(handle_of(kCuda), &laid.args, &support), FOVEA_OK);
  ASSERT_NE(std::string(support.kernel).find("_general"), std::string::npos) << support.reason;
  a.expect_matches_oracle();
}

INSTANTIATE_TEST_SUITE_P(Table, RulesKernel,
                         testing::Combine(testing::Range(0, static_cast<int>(std::size(kPlaces))),
                                          testing::Range(0, static_cast<int>(std::size(kRules)))),
                         [](const auto &info) {
                           return std::string(kPlaces[std::get<0>(info.param)].name) + "_" +
                                  kRules[std::get<1>(info.param)].name;
                         });

class RulesOfPacked : public OnCuda<testing::Test> {};

// Sequences of unequal lengths, keys on pages, and spans by row of the packed batch.
TEST_F(RulesOfPacked, RowsAndPagesMatchTheOracle) {
  for (const uint32_t level : {FOVEA_REPRODUCIBLE_RUN, FOVEA_REPRODUCIBLE_BATCH}) {
    Attention a;
    a.on(kCuda).type(FOVEA_BF16).dim(64).rows({1, 0, 37, 2}).len_kv(150).heads(4, 2).sm_count(3);
    a.lengths({150, 64, 77, 130}).paged(16, true).causal().reproducible(level);
    a.bias(FOVEA_F16, 0.1, "srhk").mask(0.3, "sk").spans();
    a.expect_matches_oracle();
  }
}

// ---- Data that are wrong ----

class RulesEdge : public OnCuda<testing::Test> {
 protected:
  // Pages and packed rows: how many keys and rows there are, only the device knows.
  Attention problem(int64_t rows = 70) {
    Attention a;
    a.on(kCuda).type(FOVEA_BF16).dim(64).rows({rows, 3}).len_kv(112).heads(2, 1).sm_count(3);
    return a.paged(16).lengths({100, 90});
  }
  void expect_right(const Attention &a, const std::function<void(fovea_attention_args *)> &spoil,
                    const char *name) {
    Case one(a.s);
    spoil(&one.args);
    expect_matches(one, kCuda, name);
  }
};

// Keys and rows that the mask or the bias does not have are hidden, and reported.
TEST_F(RulesEdge, MasksAndBiasesThatAreTooSmall) {
  const std::pair<const char *, std::function<void(fovea_attention_args *)>> cases[] = {
      {"a mask without the last keys",
       [](fovea_attention_args *a) { a->visibility.mask.shape[3] = 80; }},
      {"a mask without the last key",
       [](fovea_attention_args *a) { a->visibility.mask.shape[3] = 99; }},
      {"a mask without the last rows",
       [](fovea_attention_args *a) { a->visibility.mask.shape[1] = 69; }},
      {"a bias without the last key",
       [](fovea_attention_args *a) { a->logits.bias.shape[3] = 99; }},
      {"a bias without most rows", [](fovea_attention_args *a) { a->logits.bias.shape[1] = 2; }}};
  for (const auto &[name, spoil] : cases) expect_right(problem().mask(0.2).bias(), spoil, name);
}

TEST_F(RulesEdge, TreesThatAreTooSmall) {
  static const int32_t starts[2] = {100000, -3}, some[2] = {33, 2};
  const std::pair<const char *, std::function<void(fovea_attention_args *)>> cases[] = {
      {"too few words", [](fovea_attention_args *a) { a->visibility.tree.words -= 1; }},
      {"no words", [](fovea_attention_args *a) { a->visibility.tree.words = 0; }},
      {"other lengths", [](fovea_attention_args *a) { a->visibility.tree.lengths = some; }},
      {"starts outside", [](fovea_attention_args *a) { a->visibility.tree.starts = starts; }}};
  for (const auto &[name, spoil] : cases) expect_right(problem(20).tree(), spoil, name);
}

// A bad page is an error where some row sees its keys by position, and nowhere else.
TEST_F(RulesEdge, BadPages) {
  for (const int page : {0, 3, 6}) {
    Attention a = problem(9).prefix({10, 20}).window(8, 0).bias(FOVEA_F32, 0.1, "k");
    Case one(a.s);
    const int32_t *&table = one.args.sequences.pages.ids;
    std::vector<int32_t> ids(
        table, table + one.args.sequences.pages.row_stride + one.args.sequences.pages.count);
    ids[static_cast<size_t>(page)] = -7;
    table = ids.data();
    expect_matches(one, kCuda, "page " + std::to_string(page));
  }
}

// A distance of -infinity hides what no row then sees, whatever lies there. Rows stand at positions
// 30 to 99 and 87 to 89, and see what lies 19 or 18 before them: keys 11 to 81, and 68 to 71.
TEST_F(RulesEdge, DistancesOfMinusInfinityHide) {
  static const float table[4] = {-INFINITY, 0.5f, 1.5f, -INFINITY};
  const Fill values = [](const At &at) {
    const bool seen = at.tag == 0 ? at.i >= 11 && at.i <= 81 : at.i >= 68 && at.i <= 71;
    return seen ? 0.25 * static_cast<double>(at.i % 5) : NAN;
  };
  expect_right(
      problem().distances(-20, 4, true).fill("v", values),
      [](fovea_attention_args *a) { a->logits.distances.table = table; }, "distances");
  static const float nearest[2] = {-INFINITY, -INFINITY};
  expect_right(
      problem().distances(-20, 2, true),
      [](fovea_attention_args *a) { a->logits.distances.table = nearest; }, "all hidden");
}

}  // namespace
}  // namespace fovea_test

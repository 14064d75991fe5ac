// cached_kernel_test.cc - 8-bit caches under 16-bit queries, against the oracle: every code of
// every type at every place of a word, scales of every form and size, wide and narrow tiles, rows
// that lie anywhere. What no row sees is poison, scales included.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>

#include "tests/cuda/kernel_device.h"
#include "tests/support/exact_oracle.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

const uint32_t kCaches[] = {FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8};

std::string name_of(uint32_t dtype) {
  switch (dtype) {
    case FOVEA_F16:
      return "f16";
    case FOVEA_BF16:
      return "bf16";
    case FOVEA_E4M3:
      return "e4m3";
    case FOVEA_E5M2:
      return "e5m2";
    default:
      return "i8";
  }
}

// ---- Codes ----

class CachedCodes : public OnCuda<testing::TestWithParam<std::tuple<uint32_t, uint32_t>>> {
 protected:
  uint32_t q() { return std::get<0>(GetParam()); }
  uint32_t cache() { return std::get<1>(GetParam()); }
  double code(int64_t n) { return decode(cache(), static_cast<uint32_t>(n & 255)); }
  Attention problem(int64_t len_q, int64_t dim) {
    Attention a;
    a.on(kCuda).types(q(), cache(), cache(), q()).dim(dim).dim_v(dim).len_q(len_q).scale(0.125);
    return a.reproducible(FOVEA_REPRODUCIBLE_BATCH);
  }
};

// Of one key each, so that the LSE is the logit, and out the value. Code c is at elements
// c, c + 1, ... of both; the other elements of the key are 0.
TEST_P(CachedCodes, KeepTheirValueAtEveryPlace) {
  for (int64_t len_q : {1, 20}) {
    Attention a = problem(len_q, 64).batch(256).len_kv(1);
    a.fill("q", [](const At &at) { return at.d % 2 == 0 ? 1.0 : -0.5; });
    a.fill("k", [this](const At &at) { return at.d == at.tag % 64 ? code(at.tag) : 0.0; });
    a.fill("v", [this](const At &at) { return code(at.tag + at.d); });
    a.expect_matches_oracle();
  }
}

// As above, of every dim for which a kernel is there, and elements that no chunk of 16 holds.
TEST_P(CachedCodes, KeepTheirValueInEveryKernel) {
  for (int64_t dim : {8, 24, 72, 128, 200, 256}) {
    for (int64_t len_q : {2, 17}) {
      Attention a = problem(len_q, dim).batch(32).len_kv(1);
      a.fill("q", [](const At &at) { return at.d % 2 == 0 ? 1.0 : -0.5; });
      a.fill("k", [=](const At &at) { return at.d == at.tag * 37 % dim ? code(at.tag * 9) : 0.0; });
      a.fill("v", [this](const At &at) { return code(8 * at.tag + at.d); });
      a.expect_matches_oracle();
    }
  }
}

// Rows that see a NaN or an infinity are not judged by the oracle. One key leaves no doubt: each
// element of out is the value's, and the LSE the key's.
TEST_P(CachedCodes, ThatAreNoNumbersStayNone) {
  Attention a = problem(2, 256).batch(2).len_kv(1).scale(1);
  a.fill("q", [](const At &at) { return at.d == 0 ? 1.0 : 0.0; });
  a.fill("k", [this](const At &at) { return at.d == 0 ? code(at.tag == 0 ? 0x7f : 3) : 0.0; });
  a.fill("v", [this](const At &at) { return code(at.d); });
  const Outcome outcome = a.run();
  EXPECT_EQ(std::isnan(outcome.lse_at(0, 1, 0)), std::isnan(code(0x7f)));
  for (int64_t d = 0; d < 256; ++d) {
    const double expected = round_to(cache(), code(d)), got = outcome.at(1, 1, 0, d);
    EXPECT_TRUE(std::isnan(expected) ? std::isnan(got) : got == expected) << d << ": " << got;
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CachedCodes,
                         testing::Combine(testing::Values(FOVEA_F16, FOVEA_BF16),
                                          testing::ValuesIn(kCaches)),
                         [](const auto &info) {
                           return name_of(std::get<0>(info.param)) + "_" +
                                  name_of(std::get<1>(info.param));
                         });

// ---- Scales ----

struct Form {
  const char *name;
  void (*add)(Attention &a);
};

const Form kForms[] = {
    {"none", [](Attention &) {}},
    {"of_the_tensor", [](Attention &a) { a.scales("kv", "", 1, 3.0); }},
    {"of_the_tensor_f16", [](Attention &a) { a.scales("kv", "", 1, 0.01, FOVEA_F16); }},
    {"of_keys_alone", [](Attention &a) { a.scales("k", "bh"); }},
    {"of_values_alone", [](Attention &a) { a.scales("v", "bh").wide_scales(3); }},
    {"of_heads", [](Attention &a) { a.scales("kv", "h").wide_scales(2); }},
    {"of_sequences_and_heads", [](Attention &a) { a.scales("kv", "bh"); }},
    {"of_tokens", [](Attention &a) { a.scales("kv", "bs").wide_scales(2); }},
    {"of_tokens_and_heads_f16", [](Attention &a) { a.scales("kv", "bsh", 1, 1, FOVEA_F16); }},
    {"of_tokens_large", [](Attention &a) { a.scales("v", "bsh", 1, 1e3).wide_scales(3); }},
    {"of_tokens_small", [](Attention &a) { a.scales("v", "bsh", 1, 1e-6); }},
    {"of_tokens_far_apart", [](Attention &a) { a.scales("v", "bsh", 1, 1e-3).wide_scales(12); }},
    {"of_channels", [](Attention &a) { a.scales("kv", "", a.s.dim).wide_scales(2); }},
    {"of_channels_and_heads", [](Attention &a) { a.scales("kv", "h", a.s.dim, 0.1); }},
    {"of_blocks_of_tokens", [](Attention &a) { a.scales("kv", "bsh", 4).wide_scales(3); }},
    {"of_blocks_of_keys", [](Attention &a) { a.scales("k", "bsh", a.s.dim / 8, 2, FOVEA_F16); }},
    {"of_blocks_of_values", [](Attention &a) { a.scales("v", "bsh", 2, 1e-5).wide_scales(6); }}};

struct Place {
  const char *name;
  uint32_t q, k, v;
  int64_t dim, len_q, heads_kv;
  uint32_t level;
};

const Place kPlaces[] = {
    {"wide_f16_e4m3_d64", FOVEA_F16, FOVEA_E4M3, FOVEA_E4M3, 64, 35, 2, FOVEA_REPRODUCIBLE_RUN},
    {"narrow_bf16_e4m3_d64", FOVEA_BF16, FOVEA_E4M3, FOVEA_E4M3, 64, 3, 1, FOVEA_REPRODUCIBLE_RUN},
    {"narrow_f16_i8_e5m2_d128", FOVEA_F16, FOVEA_I8, FOVEA_E5M2, 128, 2, 1,
     FOVEA_REPRODUCIBLE_BATCH},
    {"phase_bf16_e5m2_i8_d128", FOVEA_BF16, FOVEA_E5M2, FOVEA_I8, 128, 5, 2,
     FOVEA_REPRODUCIBLE_PHASE},
    {"wide_bf16_i8_d256", FOVEA_BF16, FOVEA_I8, FOVEA_I8, 256, 20, 2, FOVEA_REPRODUCIBLE_RUN},
    {"narrow_f16_e4m3_d256", FOVEA_F16, FOVEA_E4M3, FOVEA_E5M2, 256, 1, 1, FOVEA_REPRODUCIBLE_RUN}};

class CachedScales : public OnCuda<testing::TestWithParam<std::tuple<int, int>>> {
 protected:
  const Place &place() { return kPlaces[std::get<0>(GetParam())]; }
  const Form &form() { return kForms[std::get<1>(GetParam())]; }
  Attention problem() {
    Attention a;
    a.on(kCuda).types(place().q, place().k, place().v, place().q);
    a.dim(place().dim).dim_v(place().dim).len_q(place().len_q).heads(2, place().heads_kv);
    a.reproducible(place().level).sm_count(3);
    form().add(a);
    return a;
  }
};

TEST_P(CachedScales, MatchTheOracle) {
  Attention a = problem().batch(2).len_kv(150).lengths({150, 75}).causal();
  a.expect_matches_oracle();
}

TEST_P(CachedScales, MatchTheOracleOnPages) {
  Attention a = problem().batch(2).len_kv(150).lengths({150, 75}).paged(16, false, true);
  a.expect_matches_oracle();
}

INSTANTIATE_TEST_SUITE_P(Table, CachedScales,
                         testing::Combine(testing::Range(0, static_cast<int>(std::size(kPlaces))),
                                          testing::Range(0, static_cast<int>(std::size(kForms)))),
                         [](const auto &info) {
                           return std::string(kPlaces[std::get<0>(info.param)].name) + "_" +
                                  kForms[std::get<1>(info.param)].name;
                         });

// ---- Among other features ----

class Cached : public OnCuda<testing::TestWithParam<uint32_t>> {
 protected:
  Attention problem(uint32_t k, uint32_t v) {
    Attention a;
    return a.on(kCuda).types(GetParam(), k, v, GetParam()).dim(64).dim_v(64).heads(4, 2);
  }
};

TEST_P(Cached, MatchesTheOracleWhereverRowsLie) {
  for (int dimension = -1; dimension < 3; ++dimension) {
    for (const char tensor : {'k', 'v'}) {
      Attention a = problem(FOVEA_E4M3, FOVEA_I8).len_q(5).len_kv(70).batch(2);
      a.scales("kv", "bsh").askew(tensor, dimension).expect_matches_oracle();
    }
  }
  for (uint64_t seed = 0; seed < 4; ++seed) {
    Attention a = problem(FOVEA_E5M2, FOVEA_E4M3).dim(40).dim_v(24).len_q(20).len_kv(70);
    a.scales("kv", "h").layout_seed(seed).expect_matches_oracle();
  }
}

TEST_P(Cached, MatchesTheOracleAmongOtherFeatures) {
  for (const int64_t len_q : {2, 30}) {
    Attention a = problem(FOVEA_E4M3, FOVEA_E4M3).batch(2).len_q(len_q).len_kv(140).sm_count(3);
    a.scales("kv", "bsh").lengths({140, 97});
    Attention(a).softcap(5).sinks().causal().expect_matches_oracle();
    Attention(a).window(40, 3).mask(0.4, "sk").expect_matches_oracle();
    Attention(a).mask(0.5, "srhk").expect_matches_oracle();
    Attention(a).bias(FOVEA_BF16, 0.1, "hk").alibi().causal().expect_matches_oracle();
    Attention(a).spans().prefix({20, 5}).window(10, 0).expect_matches_oracle();
    Attention(a).scales("kv", "bsh", 8).mask(0.3, "rk").expect_matches_oracle();
  }
  Attention packed = problem(FOVEA_I8, FOVEA_E5M2).rows({1, 0, 30, 2}).keys({130, 4, 65, 64});
  packed.scales("kv", "bsh").causal().sm_count(3).expect_matches_oracle();
}

TEST_P(Cached, MatchesTheOracleOfManyKeys) {
  Attention a = problem(FOVEA_E4M3, FOVEA_I8).len_q(1).len_kv(9000).heads(2, 1).sm_count(3);
  a.scales("kv", "bsh").expect_matches_oracle();
  Attention wide = problem(FOVEA_I8, FOVEA_E4M3).len_q(20).len_kv(8300).heads(1, 1);
  wide.scales("kv", "h").reproducible(FOVEA_REPRODUCIBLE_PHASE).expect_matches_oracle();
}

TEST_P(Cached, FindsNeedlesAndCountsKeys) {
  for (const uint32_t cache : kCaches) {
    for (const int64_t len_q : {2, 10}) {
      Attention a = problem(cache, cache).heads(6, 1).len_q(len_q).len_kv(150).batch(3).causal();
      a.lengths({150, 63, 129}).sm_count(FEW_MULTIPROCESSORS);
      expect_exact(a);
      expect_counts(Attention(a).scales("k", "h"));
      if (HasFatalFailure()) return;
    }
  }
}

// A scale of k is worth as much as the scalar one, and one of v moves powers of two into out.
TEST_P(Cached, ScalesTradePowersOfTwo) {
  const auto with = [&](const char *form, int64_t blocks, double k, double v, double scale) {
    Attention a = problem(FOVEA_E4M3, FOVEA_E4M3).len_q(3).len_kv(90).scale(scale);
    a.scales("k", form, blocks, k).scales("v", form, blocks, v).fixed_scales();
    return a.run();
  };
  for (const char *form : {"", "h", "bsh"}) {
    for (const int64_t blocks : {1, 4}) {
      const Outcome plain = with(form, blocks, 1, 1, 0.25);
      EXPECT_EQ(difference(plain, with(form, blocks, 0.125, 1, 2)), "") << form << blocks;
      EXPECT_NE(difference(plain, with(form, blocks, 1, 0.25, 0.25)), "") << form << blocks;
      EXPECT_NE(difference(plain, with(form, blocks, 0.5, 1, 0.25)), "") << form << blocks;
    }
  }
}

// Values that are alike have themselves as their average, however weights are rounded, and whatever
// scales make them alike. Logits of 0 but for the first key's leave weights that are not round, and
// all alike: if O were divided by what they were before rounding, out would be off by that.
TEST_P(Cached, AveragesValuesThatAreAlike) {
  const auto expect_average = [](const Attention &a, double value) {
    const Outcome outcome = a.run();
    for (int64_t d = 0; d < 64; ++d) ASSERT_EQ(outcome.at(0, 1, 1, d), value) << a.text();
  };
  for (const int64_t len_q : {2, 30}) {
    for (const double first : {-0.7, 0.27, 1.1}) {  // the logit of the first key
      Attention a = problem(FOVEA_I8, FOVEA_I8).len_q(len_q).len_kv(150).scale(1);
      a.fill("q", [=](const At &at) { return at.d == 0 ? first : 0.0; });
      a.fill("k", [](const At &at) { return at.i == 0 && at.d == 0 ? 1.0 : 0.0; });
      a.fill("v", [](const At &) { return 15.0; });
      expect_average(a, 15);
      for (const char *form : {"", "bsh"}) {
        expect_average(Attention(a).scales("v", form, 4, 0.1).fixed_scales(), 1.5);
      }
      a.fill("v", [](const At &at) { return at.i % 2 == 0 ? 3.0 : 5.0; }).scales("v", "bsh");
      a.fill("v_scale", [](const At &at) { return at.i % 2 == 0 ? 5.0 : 3.0; });
      expect_average(a, 15);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, Cached, testing::Values(FOVEA_F16, FOVEA_BF16),
                         [](const auto &info) { return name_of(info.param); });

}  // namespace
}  // namespace fovea_test

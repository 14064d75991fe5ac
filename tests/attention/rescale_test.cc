// rescale_test.cc - powers of two move between operands without changing a bit.
//
// They scale every operation of the formula exactly. So a scale that is dropped, applied twice,
// stale or taken from the wrong element shows at once.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/attention/features.h"
#include "tests/support/exact_oracle.h"

namespace fovea_test {
namespace {

class Rescale : public testing::TestWithParam<Device> {
 protected:
  Attention base() { return Attention().on(GetParam()).len_q(5).len_kv(70).seed(11).causal(); }
};

TEST_P(Rescale, QueriesKeysAndScaleTradePowersOfTwo) {
  for (uint32_t type : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    expect_queries_keys_and_scale_trade_powers(base().type(type));
  }
}

TEST_P(Rescale, ValuesCarryTheirPowerOfTwoIntoOut) {
  for (uint32_t type : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    expect_values_carry_powers_into_out(base().type(type));
  }
}

TEST_P(Rescale, ScalesOfQueriesAndKeysEqualTheScalarScale) {
  for (uint32_t k : {FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8}) {
    for (const char *form : {"", "h", "bsh"}) {
      const auto with = [&](double q_scale, double k_scale, double scale) {
        Attention a = base().types(FOVEA_E4M3, k, FOVEA_F32, FOVEA_F32).scale(scale);
        a.scales("q", form, 2, q_scale).scales("k", form, 4, k_scale).fixed_scales();
        a.fill("q", quarters("q", 1)).fill("k", quarters("k", 2));
        return a.run();
      };
      const Outcome plain = with(1, 1, 0.25);
      EXPECT_EQ(difference(plain, with(4, 1, 0.0625)), "");
      EXPECT_EQ(difference(plain, with(1, 0.125, 2)), "");
      EXPECT_EQ(difference(plain, with(2, 8, 0.25 / 16)), "");
    }
  }
}

TEST_P(Rescale, ScalesOfValuesAndOutCancel) {
  for (uint32_t v : {FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8}) {
    for (const char *form : {"", "h", "bsh"}) {
      const auto with = [&](double v_scale, double out_scale) {
        Attention a = base().types(FOVEA_F16, FOVEA_F16, v, FOVEA_E4M3).seed(3);
        a.scales("v", form, 2, v_scale).scales("o", form, 2, out_scale).fixed_scales();
        return a.fill("v", quarters("v", 2)).run();
      };
      const Outcome plain = with(1, 1);
      EXPECT_EQ(difference(plain, with(8, 8)), "");
      EXPECT_EQ(difference(plain, with(0.25, 0.25)), "");
      EXPECT_NE(difference(plain, with(0.25, 1)), "");
    }
  }
}

// Calls of the same shapes follow one another: none may use the scalars of the one before.
TEST_P(Rescale, CallsOfOneShapeDoNotRememberEachOther) {
  Case quiet(base().scale(0.1).softcap(3).s);
  Case loud(base().scale(2.0).softcap(30).s);
  const Outcome first = quiet.run(GetParam());
  const Outcome second = loud.run(GetParam());
  EXPECT_NE(difference(first, second), "");
  EXPECT_EQ(difference(first, quiet.run(GetParam())), "");
  EXPECT_EQ(difference(second, loud.run(GetParam())), "");
}

// The default scale is exactly the float nearest to 1 / sqrt(dim).
TEST_P(Rescale, ScaleZeroIsTheReciprocalRootOfDim) {
  for (int64_t dim : {8, 16, 24, 64, 80, 576}) {
    const auto with = [&](double scale) { return base().dim(dim).dim_v(8).scale(scale).run(); };
    const double root = round_to(FOVEA_F32, 1.0 / std::sqrt(static_cast<double>(dim)));
    EXPECT_EQ(difference(with(0), with(root)), "") << dim;
  }
}

// c tanh(t / c) is t where t / c is small, and c where it is large.
TEST_P(Rescale, SoftcapIsExactAtBothEnds) {
  base().softcap(0x1p60).expect_matches_oracle();
  base().softcap(0x1p10).expect_matches_oracle();
  base().softcap(1e-3).scale(100).expect_matches_oracle();
  for (int exponent = 10; exponent <= 120; exponent += 10) {
    for (double cap : {1.0, 30.0, 100.0}) {
      base().scale(std::ldexp(1.0, exponent)).softcap(cap).expect_matches_oracle();
    }
  }
}

TEST_P(Rescale, SoftcapAndAlibiAndBiasApplyInThisOrder) {
  // One key; lse is its logit: 2 tanh(64 / 2) - 0.5 * |0 - 3| + 7.
  Attention a = Attention().on(GetParam()).len_q(1).len_kv(1).heads(1, 1).dim(8).scale(1);
  a.fill("q", [](const At &at) { return at.d == 0 ? 8.0 : 0.0; });
  a.fill("k", [](const At &at) { return at.d == 0 ? 8.0 : 0.0; });
  a.softcap(2).alibi().fill("slope", [](const At &) { return 0.5; }).q_position({3});
  a.bias().fill("bias", [](const At &) { return 7.0; });
  EXPECT_EQ(a.run().lse_at(0, 0, 0), 2.0f - 1.5f + 7.0f);
}

TEST_P(Rescale, LseOfOneKeyIsItsLogit) {
  for (double logit : {-1000.0, -3.0, 0.0, 0.5, 88.0, 1e5}) {
    Attention a = Attention().on(GetParam()).len_q(1).len_kv(1).heads(1, 1).dim(8).scale(1);
    a.fill("q", [](const At &at) { return at.d == 0 ? 1.0 : 0.0; });
    a.fill("k", [=](const At &at) { return at.d == 0 ? logit : 1.0; });
    EXPECT_EQ(a.run().lse_at(0, 0, 0), static_cast<float>(logit));
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Rescale, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

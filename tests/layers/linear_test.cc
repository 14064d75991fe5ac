// linear_test.cc - projections, against double precision written from the header.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tests/layers/layer_oracle.h"
#include "tests/layers/tokens_case.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

struct Linear {
  Tokens x, weight, bias, residual, out;
  uint32_t activation = FOVEA_ACTIVATION_NONE;

  fovea_linear_args args() const {
    fovea_linear_args args = {};
    args.struct_size = sizeof args;
    args.x = x.view();
    args.linear.weight = weight.view();
    args.linear.bias = bias.view();
    args.linear.activation = activation;
    args.residual = residual.view();
    args.out = out.view();
    return args;
  }

  void run() {
    fovea_linear_args call = args();
    size_t bytes = 0;
    ASSERT_EQ(fovea_linear_workspace(shared_cpu(), &call, &bytes), FOVEA_OK)
        << fovea_layers_error_detail();
    Workspace workspace(bytes);
    call.workspace = workspace.data();
    call.workspace_bytes = bytes;
    ASSERT_EQ(fovea_linear_apply(shared_cpu(), &call, nullptr), FOVEA_OK)
        << fovea_layers_error_detail();
    EXPECT_TRUE(workspace.intact());
  }

  // The result in double; `size` gets what roundings are relative to.
  double expected(int64_t token, int64_t o, double *size) const {
    double sum = weight.absent() ? x.of_token(token, o) : 0;
    *size = std::fabs(sum);
    for (int64_t i = 0; !weight.absent() && i < x.width(); ++i) {
      const double term = weight.at(0, o, 0, i) * x.of_token(token, i);
      sum += term;
      *size += std::fabs(term);
    }
    if (!bias.absent()) {
      sum += bias.at(0, 0, 0, o);
      *size += std::fabs(bias.at(0, 0, 0, o));
    }
    double result = activated(activation, sum);
    if (!residual.absent()) {
      result += residual.of_token(token, o);
      *size += std::fabs(residual.of_token(token, o));
    }
    return result;
  }

  // A sum of n products in any order is off by n u of their sizes, bias and residual add one each.
  // No activation here has a slope above 1.13. Each takes fewer than 10 operations, of which none
  // has a result above 2 max(1, |x|); the cubic of gelu_tanh passes on 3 u of its size times the
  // slope of tanh there, which is below 1.
  void expect_right() {
    ASSERT_NO_FATAL_FAILURE(run());
    ASSERT_EQ(out.wrong(), "");
    const double terms = static_cast<double>(x.width()) + 3;
    for (int64_t token = 0; token < out.tokens(); ++token) {
      for (int64_t o = 0; o < out.width(); ++o) {
        double size = 0;
        const double truth = expected(token, o, &size);
        const double computed =
            1.13 * terms * kUnit * size +
            (activation == FOVEA_ACTIVATION_NONE ? 0 : 20 * kUnit * std::max(1.0, size));
        const uint32_t type = out.view().dtype;
        const double rounded =
            unit_roundoff(type) * (std::fabs(truth) + computed) + half_step(type);
        ASSERT_NEAR(out.of_token(token, o), truth, computed + rounded)
            << "token " << token << ", output " << o;
      }
    }
  }
};

uint32_t any_type(Choices *choices) {
  const uint32_t types[] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
  return types[choices->below(3)];
}

// Rows in several blocks, weights in several, tokens of several heads, every layout and type.
Linear drawn(uint64_t seed) {
  Choices choices(seed);
  Linear made;
  const bool many = choices.one_in(8), wide = !many && choices.one_in(8);
  const int64_t batch = 1 + choices.below(3),
                len = many ? 300 + choices.below(700) : choices.below(9);
  const int64_t heads_x = 1 + choices.below(3), heads = 1 + choices.below(3);
  const int64_t dim_x = 1 + choices.below(many ? 9 : 70), dim = 1 + choices.below(wide   ? 500
                                                                                  : many ? 20
                                                                                         : 40);
  const auto layout = [&] { return static_cast<Layout>(choices.below(kTokenLayouts)); };
  const int64_t in = heads_x * dim_x, out = heads * dim;
  made.x = Tokens(any_type(&choices), {batch, len, heads_x, dim_x}, layout());
  made.weight =
      Tokens(any_type(&choices), {1, out, 1, in}, static_cast<Layout>(choices.below(kLayouts)));
  made.out = Tokens(any_type(&choices), {batch, len, heads, dim}, layout());
  if (choices.one_in(2)) made.bias = Tokens(any_type(&choices), {1, 1, 1, out});
  if (choices.one_in(2))
    made.residual = Tokens(any_type(&choices), {batch, len, heads, dim}, layout());
  made.activation = static_cast<uint32_t>(choices.below(7));
  return made;
}

TEST(Linear, IsTheSumOfProductsInEveryTypeAndLayout) {
  for (uint64_t seed = 0; seed < 240; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Linear linear = drawn(seed);
    linear.x.fill_random(seed);
    linear.weight.fill_random(seed + 1000);
    if (!linear.bias.absent()) linear.bias.fill_random(seed + 2000);
    if (!linear.residual.absent()) linear.residual.fill_random(seed + 3000);
    linear.expect_right();
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Integers whose sums are exact in f32: no order of a sum can round, so every element is exact.
TEST(Linear, OfSmallIntegersIsExact) {
  for (uint64_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Linear linear = drawn(seed);
    linear.activation = FOVEA_ACTIVATION_NONE;
    linear.x.fill_integers(seed, 2);
    linear.weight.fill_integers(seed + 1, 2);
    if (!linear.bias.absent()) linear.bias.fill_integers(seed + 2, 8);
    if (!linear.residual.absent()) linear.residual.fill_integers(seed + 3, 8);
    ASSERT_NO_FATAL_FAILURE(linear.run());
    for (int64_t token = 0; token < linear.out.tokens(); ++token) {
      for (int64_t o = 0; o < linear.out.width(); ++o) {
        double size = 0;
        ASSERT_EQ(linear.out.of_token(token, o),
                  round_to(linear.out.view().dtype, linear.expected(token, o, &size)));
      }
    }
  }
}

TEST(Linear, WithoutAWeightConvertsAndAddsTheResidual) {
  for (const uint32_t type : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    for (const uint32_t to : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
      Linear linear;
      linear.x = Tokens(type, {2, 600, 2, 5}, kHeadsFirst);
      linear.out = Tokens(to, {2, 600, 1, 10}, kGaps);
      linear.residual = Tokens(FOVEA_BF16, {2, 600, 1, 10});
      linear.x.fill_random(1);
      linear.residual.fill_random(2);
      linear.expect_right();
      linear.x = Tokens(type, {2, 600, 1, 10}, kGaps);  // f32: rows that are used where they lie
      linear.out = Tokens(to, {2, 600, 1, 10});
      linear.x.fill_random(3);
      linear.expect_right();
    }
  }
}

// Tokens are gathered some at a time, also where results go straight to their places.
TEST(Linear, OfMoreTokensThanAreGatheredAtATime) {
  Linear linear;
  linear.x = Tokens(FOVEA_F16, {1, 2500, 1, 8});
  linear.weight = Tokens(FOVEA_F32, {1, 1, 1, 8});
  linear.out = Tokens(FOVEA_F32, {1, 2500, 1, 1});
  linear.x.fill_random(1);
  linear.weight.fill_random(2);
  linear.expect_right();
}

// Also those whose bits would round to those of a zero.
TEST(Linear, KeepsEveryNan) {
  for (const uint32_t type : {FOVEA_F16, FOVEA_BF16}) {
    for (const uint32_t bits : {0x7fffffffu, 0xffffffffu, 0x7f800001u, 0xff800001u, 0x7fc00000u}) {
      Linear linear;
      linear.x = Tokens(FOVEA_F32, {1, 1, 1, 1});
      linear.out = Tokens(type, {1, 1, 1, 1});
      std::memcpy(linear.x.view().data, &bits, sizeof bits);
      linear.run();
      EXPECT_EQ(*static_cast<const uint16_t *>(linear.out.view().data), 0x7fff) << bits;
    }
  }
}

// Every number of 16 bits: as it is stored, and numbers between any two of them.
TEST(Linear, ConvertsEveryNumberOfSixteenBits) {
  for (const uint32_t type : {FOVEA_F16, FOVEA_BF16}) {
    Linear widened, narrowed;
    widened.x = Tokens(type, {1, 256, 1, 256});
    widened.out = Tokens(FOVEA_F32, {1, 256, 1, 256});
    uint16_t *codes = static_cast<uint16_t *>(widened.x.view().data);
    for (int code = 0; code < 65536; ++code) codes[code] = static_cast<uint16_t>(code);
    widened.run();
    const float *wide = static_cast<const float *>(widened.out.view().data);
    for (uint32_t code = 0; code < 65536; ++code) {
      const double value = decode(type, code);
      if (std::isnan(value)) {
        EXPECT_TRUE(std::isnan(wide[code]));
      } else {
        ASSERT_EQ(wide[code], static_cast<float>(value)) << code;
      }
    }
    for (const double at : {0.0, 0.5, 0.25, 0.75}) {
      narrowed.x = Tokens(FOVEA_F32, {1, 256, 1, 256});
      narrowed.out = Tokens(type, {1, 256, 1, 256});
      narrowed.x.fill([&](int64_t n) {
        const auto code = static_cast<uint32_t>(n);
        const double low = decode(type, code), high = decode(type, (code & 0x7fff) + 1);
        const double far = std::isinf(high) ? 2 * std::fabs(low) : high;
        return std::isfinite(low) ? low + std::copysign(at * (far - std::fabs(low)), low) : low;
      });
      narrowed.run();
      const uint16_t *got = static_cast<const uint16_t *>(narrowed.out.view().data);
      for (int64_t n = 0; n < 65536; ++n) {
        const double value = narrowed.x.of_token(n / 256, n % 256);
        if (std::isnan(value)) {
          EXPECT_TRUE(std::isnan(decode(type, got[n])));
        } else {
          ASSERT_EQ(got[n], encode(type, value)) << value;
        }
      }
    }
  }
}

// Few rows have a product of their own.
TEST(Linear, OfFewRowsIsExactOnIntegers) {
  for (const uint32_t type : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    for (int64_t rows = 1; rows <= 6; ++rows) {
      for (const int64_t in : {1, 15, 16, 17, 32, 50}) {
        Linear linear;
        linear.x = Tokens(FOVEA_F32, {1, rows, 1, in}, kGaps);
        linear.weight = Tokens(type, {1, 19, 1, in}, kGaps);
        linear.out = Tokens(FOVEA_F32, {1, rows, 1, 19}, kGaps);
        linear.x.fill_integers(1, 9);
        linear.weight.fill_integers(2, 9);
        linear.run();
        ASSERT_EQ(linear.out.wrong(), "");
        for (int64_t row = 0; row < rows; ++row) {
          for (int64_t o = 0; o < 19; ++o) {
            double size = 0;
            ASSERT_EQ(linear.out.of_token(row, o), linear.expected(row, o, &size));
          }
        }
      }
    }
  }
}

// A weight of each number of 16 bits, times 1.
TEST(Linear, OfFewRowsWidensEveryWeight) {
  for (const uint32_t type : {FOVEA_F16, FOVEA_BF16}) {
    Linear linear;
    linear.x = Tokens(FOVEA_F32, {1, 1, 1, 1});
    linear.x.fill([](int64_t) { return 1; });
    linear.weight = Tokens(type, {1, 65536, 1, 1});
    linear.out = Tokens(FOVEA_F32, {1, 1, 1, 65536});
    uint16_t *codes = static_cast<uint16_t *>(linear.weight.view().data);
    for (int code = 0; code < 65536; ++code) codes[code] = static_cast<uint16_t>(code);
    linear.run();
    for (uint32_t code = 0; code < 65536; ++code) {
      const double value = decode(type, code), got = linear.out.of_token(0, code);
      if (std::isnan(value)) {
        EXPECT_TRUE(std::isnan(got));
      } else {
        ASSERT_EQ(got, value) << code;
      }
    }
  }
}

TEST(Linear, ReadsASliceOfPackedWeights) {
  Linear whole, slice;
  whole.x = Tokens(FOVEA_F32, {1, 5, 1, 16});
  whole.weight = Tokens(FOVEA_F32, {1, 3 * 8, 1, 16});
  whole.out = Tokens(FOVEA_F32, {1, 5, 3, 8});
  whole.x.fill_random(1);
  whole.weight.fill_random(2);
  whole.run();
  for (int64_t part = 0; part < 3; ++part) {
    fovea_linear_args args = whole.args();
    Tokens out(FOVEA_F32, {1, 5, 1, 8});
    args.linear.weight.shape[1] = 8;
    args.linear.weight.data = static_cast<float *>(args.linear.weight.data) + part * 8 * 16;
    args.out = out.view();
    size_t bytes = 0;
    ASSERT_EQ(fovea_linear_workspace(shared_cpu(), &args, &bytes), FOVEA_OK);
    Workspace workspace(bytes);
    args.workspace = workspace.data(), args.workspace_bytes = bytes;
    ASSERT_EQ(fovea_linear_apply(shared_cpu(), &args, nullptr), FOVEA_OK);
    for (int64_t token = 0; token < 5; ++token) {
      for (int64_t o = 0; o < 8; ++o) {
        EXPECT_NEAR(out.of_token(token, o), whole.out.of_token(token, part * 8 + o), 1e-5);
      }
    }
  }
}

TEST(Linear, MayAddToItsOwnOutput) {
  Linear linear;
  linear.x = Tokens(FOVEA_F32, {1, 3, 1, 4});
  linear.weight = Tokens(FOVEA_F32, {1, 4, 1, 4});
  linear.out = Tokens(FOVEA_F32, {1, 3, 1, 4});
  linear.x.fill_integers(1, 3);
  linear.weight.fill_integers(2, 3);
  linear.out.fill_integers(3, 9);
  Tokens before(FOVEA_F32, {1, 3, 1, 4});
  before.fill_integers(3, 9);
  fovea_linear_args args = linear.args();
  args.residual = args.out;
  size_t bytes = 0;
  ASSERT_EQ(fovea_linear_workspace(shared_cpu(), &args, &bytes), FOVEA_OK);
  Workspace workspace(bytes);
  args.workspace = workspace.data(), args.workspace_bytes = bytes;
  ASSERT_EQ(fovea_linear_apply(shared_cpu(), &args, nullptr), FOVEA_OK);
  for (int64_t token = 0; token < 3; ++token) {
    for (int64_t o = 0; o < 4; ++o) {
      double size = 0;
      EXPECT_EQ(linear.out.of_token(token, o),
                linear.expected(token, o, &size) + before.of_token(token, o));
    }
  }
}

// ---- Refusals ----

struct Refusal {
  const char *name;
  std::function<void(fovea_linear_args *)> spoil;
  const char *detail;
};

TEST(Linear, RefusesWhatBreaksARuleByNameAndWritesNothing) {
  const Refusal refusals[] = {
      {"small struct", [](fovea_linear_args *a) { a->struct_size = 8; }, "struct_size"},
      {"type", [](fovea_linear_args *a) { a->x.dtype = FOVEA_I8; }, "x.dtype is 6"},
      {"absent out", [](fovea_linear_args *a) { a->out = fovea_tensor(); }, "out.dtype is 0"},
      {"negative", [](fovea_linear_args *a) { a->x.shape[1] = -1; }, "x.shape[1] is -1"},
      {"stride", [](fovea_linear_args *a) { a->x.stride[3] = 2; }, "x.stride[3] is 2"},
      {"far", [](fovea_linear_args *a) { a->x.stride[1] = INT64_MAX; }, "x.stride[1]"},
      {"null", [](fovea_linear_args *a) { a->x.data = nullptr; }, "x.data"},
      {"odd", [](fovea_linear_args *a) { a->x.data = static_cast<char *>(a->x.data) + 1; },
       "x.data"},
      {"reserved", [](fovea_linear_args *a) { a->x.reserved[2] = 1; }, "x.reserved[2]"},
      {"len", [](fovea_linear_args *a) { a->out.shape[1] = 2; },
       "out.shape[1] is 2, must be x.shape[1], which is 3"},
      {"in", [](fovea_linear_args *a) { a->linear.weight.shape[3] = 5; },
       "linear.weight.shape[3] is 5, must be 4"},
      {"out", [](fovea_linear_args *a) { a->linear.weight.shape[1] = 5; },
       "linear.weight.shape[1] is 5, must be 6"},
      {"bias", [](fovea_linear_args *a) { a->linear.bias.shape[3] = 5; },
       "linear.bias.shape[3] is 5, must be 6"},
      {"activation", [](fovea_linear_args *a) { a->linear.activation = 7; },
       "linear.activation is 7"},
      {"no weight", [](fovea_linear_args *a) { a->linear.weight = fovea_tensor(); },
       "need linear.weight"},
      {"no weight, no bias", [](fovea_linear_args *a) { a->linear = fovea_linear(); },
       "tokens of 4 numbers must have 6"},
      {"room", [](fovea_linear_args *a) { a->linear.reserved[6] = 1; }, "linear.reserved[6]"},
      {"residual", [](fovea_linear_args *a) { a->residual.shape[0] = 2; },
       "residual.shape[0] is 2, must be 1"},
      {"twice", [](fovea_linear_args *a) { a->out.stride[1] = 0; }, "out.stride[1] is 0"},
      {"overlap", [](fovea_linear_args *a) { a->out.data = a->x.data; }, "out overlaps x"},
      {"overlap of the weight", [](fovea_linear_args *a) { a->out.data = a->linear.weight.data; },
       "out overlaps linear.weight"},
      {"shifted residual",
       [](fovea_linear_args *a) {
         a->residual = a->out;
         a->residual.data = static_cast<float *>(a->out.data) + 1;
       },
       "out overlaps residual"},
      {"workspace", [](fovea_linear_args *a) { a->workspace_bytes -= 1; }, "workspace_bytes"},
      {"no workspace", [](fovea_linear_args *a) { a->workspace = nullptr; }, "workspace"},
      {"crooked workspace",
       [](fovea_linear_args *a) { a->workspace = static_cast<char *>(a->workspace) + 64; },
       "aligned to 256"},
  };
  Linear linear;
  linear.x = Tokens(FOVEA_F32, {1, 3, 1, 4});
  linear.weight = Tokens(FOVEA_F32, {1, 6, 1, 4});
  linear.bias = Tokens(FOVEA_F32, {1, 1, 1, 6});
  linear.residual = Tokens(FOVEA_F32, {1, 3, 1, 6});
  linear.out = Tokens(FOVEA_F32, {1, 3, 1, 6});
  fovea_linear_args good = linear.args();
  ASSERT_EQ(fovea_linear_workspace(shared_cpu(), &good, &good.workspace_bytes), FOVEA_OK);
  Workspace workspace(good.workspace_bytes);
  good.workspace = workspace.data();
  for (const Refusal &refusal : refusals) {
    fovea_linear_args bad = good;
    refusal.spoil(&bad);
    EXPECT_EQ(fovea_linear_apply(shared_cpu(), &bad, nullptr), FOVEA_BAD_ARGUMENT) << refusal.name;
    EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr(refusal.detail)) << refusal.name;
    EXPECT_THAT(linear.out.wrong(), testing::HasSubstr("not written: element 0")) << refusal.name;
  }
  EXPECT_EQ(fovea_linear_apply(nullptr, &good, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_linear_apply(shared_cpu(), nullptr, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_linear_workspace(shared_cpu(), &good, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_linear_apply(shared_cpu(), &good, nullptr), FOVEA_OK);
}

TEST(Linear, TakesLargerStructsWhoseUnknownPartIsZero) {
  Linear linear;
  linear.x = Tokens(FOVEA_F32, {1, 3, 1, 4});
  linear.out = Tokens(FOVEA_F32, {1, 3, 1, 4});
  linear.x.fill_random(1);
  struct {
    fovea_linear_args args;
    uint64_t more[2];
  } larger = {};
  larger.args = linear.args();
  larger.args.struct_size = sizeof larger;
  size_t bytes = 0;
  EXPECT_EQ(fovea_linear_workspace(shared_cpu(), &larger.args, &bytes), FOVEA_OK);
  larger.more[1] = 1;
  EXPECT_EQ(fovea_linear_workspace(shared_cpu(), &larger.args, &bytes), FOVEA_BAD_ARGUMENT);
  EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr("does not know"));
}

TEST(Layers, SayVersionAndBlas) {
  EXPECT_EQ(fovea_layers_version(), fovea_version());
  EXPECT_THAT(fovea_layers_blas(),
              testing::AnyOf(testing::HasSubstr("BLAS"), testing::StrEq("plain loops")));
}

}  // namespace
}  // namespace fovea_test

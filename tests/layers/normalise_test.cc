// normalise_test.cc - norms of tokens, against long double written from the header.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/layers/tokens_case.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

struct Normalise {
  Tokens x, residual, out;
  std::vector<float> gain, shift;  // empty: none
  uint32_t kind = FOVEA_NORMALISE_LAYER, unit_offset = 0;
  float eps = 1e-5F;

  fovea_normalise_args args() const {
    fovea_normalise_args args = {};
    args.struct_size = sizeof args;
    args.kind = kind;
    args.eps = eps;
    args.gain = gain.empty() ? nullptr : gain.data();
    args.shift = shift.empty() ? nullptr : shift.data();
    args.unit_offset = unit_offset;
    args.x = x.view();
    args.residual = residual.view();
    args.out = out.view();
    return args;
  }

  void run() {
    const fovea_normalise_args call = args();
    ASSERT_EQ(fovea_normalise(shared_cpu(), &call, nullptr), FOVEA_OK)
        << fovea_layers_error_detail();
  }

  // x + residual, rounded to f32.
  double input(int64_t token, int64_t i) const {
    const double sum = x.of_token(token, i) + (residual.absent() ? 0 : residual.of_token(token, i));
    return round_to(FOVEA_F32, sum);
  }

  double factor(int64_t i) const {
    return gain.empty() ? 1 : unit_offset + static_cast<double>(gain[static_cast<size_t>(i)]);
  }

  double shift_of(int64_t i) const { return shift.empty() ? 0 : shift[static_cast<size_t>(i)]; }

  // With u = 2^-53 and M the largest |x|: the mean is off by n u M, a deviation by (n + 1) u M, the
  // variance by 2 (n + 1) u M sd + (n + 2) u variance, so 1 / sqrt of it relatively by (n + 1) u M
  // times itself + (n + 2) u. Product and sum round four times more. Then come the roundings to f32
  // and to the type of out.
  void expect_token(int64_t token) const {
    const int64_t width = x.width();
    const auto n = static_cast<long double>(width);
    long double mean = 0, variance = 0, most = 0;
    for (int64_t i = 0; i < width; ++i) mean += input(token, i) / n;
    if (kind == FOVEA_NORMALISE_RMS) mean = 0;
    for (int64_t i = 0; i < width; ++i) {
      variance += (input(token, i) - mean) * (input(token, i) - mean) / n;
      most = std::max(most, std::fabs(static_cast<long double>(input(token, i))));
    }
    const long double scale = 1 / std::sqrt(variance + eps), u = 0x1p-53L;
    const long double scale_off = (n + 1) * u * most * scale + (n + 2) * u;
    const uint32_t type = out.view().dtype;
    for (int64_t i = 0; i < width; ++i) {
      const long double normed = (input(token, i) - mean) * scale * factor(i);
      const long double truth = normed + shift_of(i);
      const long double computed = std::fabs(factor(i)) * scale * (n + 1) * u * most +
                                   std::fabs(normed) * scale_off +
                                   4 * u * (std::fabs(normed) + std::fabs(shift_of(i)));
      const long double rounded = (std::fabs(truth) + computed) * (0x1p-24L + unit_roundoff(type)) +
                                  half_step(FOVEA_F32) + half_step(type);
      ASSERT_NEAR(out.of_token(token, i), truth, computed + rounded)
          << "token " << token << ", element " << i;
    }
  }

  void expect_right() {
    ASSERT_NO_FATAL_FAILURE(run());
    ASSERT_EQ(out.wrong(), "");
    for (int64_t token = 0; token < out.tokens(); ++token) {
      ASSERT_NO_FATAL_FAILURE(expect_token(token));
    }
  }

  void expect_same_bits(const Tokens &other) const {
    for (int64_t token = 0; token < out.tokens(); ++token) {
      for (int64_t i = 0; i < out.width(); ++i) {
        ASSERT_EQ(out.of_token(token, i), other.of_token(token, i));
      }
    }
  }
};

uint32_t any_type(Choices *choices) {
  const uint32_t types[] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
  return types[choices->below(3)];
}

std::vector<float> numbers(int64_t count, uint64_t seed) {
  std::vector<float> made(static_cast<size_t>(count));
  for (size_t i = 0; i < made.size(); ++i) made[i] = static_cast<float>(normal(mix(seed, i)));
  return made;
}

// Widths below, at and past what is on the stack at a time, in one head and in several.
Normalise drawn(uint64_t seed) {
  Choices choices(seed);
  Normalise made;
  const int64_t heads = choices.one_in(2) ? 1 : choices.below(5);
  const int64_t dims[] = {choices.below(9), 1 + choices.below(70), 255 + choices.below(3),
                          511 + choices.below(60)};
  const Shape shape = {choices.below(4), choices.below(6), heads, dims[choices.below(4)]};
  const auto tensor = [&] {
    return Tokens(any_type(&choices), shape, static_cast<Layout>(choices.below(kTokenLayouts)));
  };
  made.x = tensor();
  made.out = tensor();
  if (choices.one_in(2)) made.residual = tensor();
  if (choices.one_in(2)) made.gain = numbers(shape[2] * shape[3], seed + 1);
  if (choices.one_in(2)) made.shift = numbers(shape[2] * shape[3], seed + 2);
  made.kind = static_cast<uint32_t>(choices.below(2));
  made.unit_offset = made.gain.empty() ? 0 : static_cast<uint32_t>(choices.below(2));
  made.eps = choices.one_in(2) ? 1e-5F : 0.5F;
  made.x.fill_random(seed + 3, choices.one_in(4) ? 100 : 1);
  if (!made.residual.absent()) made.residual.fill_random(seed + 4);
  return made;
}

TEST(Normalise, IsTheFormulaInEveryTypeAndLayout) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Normalise norm = drawn(seed);
    norm.expect_right();
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Sums in f32 would lose the deviations: 2^24 and its neighbours are two apart.
TEST(Normalise, KeepsSmallDeviationsFromALargeMean) {
  for (const int64_t width : {4, 300}) {
    Normalise norm;
    norm.x = Tokens(FOVEA_F32, {1, 2, 1, width});
    norm.out = Tokens(FOVEA_F32, {1, 2, 1, width});
    norm.x.fill([](int64_t n) { return 0x1p24 + 2 * static_cast<double>(n % 2); });
    norm.eps = 0;
    ASSERT_NO_FATAL_FAILURE(norm.run());
    for (int64_t i = 0; i < width; ++i) {
      EXPECT_EQ(norm.out.of_token(0, i), i % 2 == 0 ? -1 : 1);
    }
  }
}

// Sums of equal numbers are exact in double, so deviations are exactly 0.
TEST(Normalise, OfATokenWithoutVarianceIsItsShift) {
  for (const int64_t width : {1, 7, 256, 700}) {
    Normalise norm;
    norm.x = Tokens(FOVEA_F32, {1, 1, 1, width});
    norm.out = Tokens(FOVEA_F32, {1, 1, 1, width});
    norm.x.fill([](int64_t) { return 1.0 / 3; });
    norm.gain = numbers(width, 1);
    norm.shift = numbers(width, 2);
    ASSERT_NO_FATAL_FAILURE(norm.run());
    for (int64_t i = 0; i < width; ++i) EXPECT_EQ(norm.out.of_token(0, i), norm.shift_of(i));
    norm.eps = 0;
    ASSERT_NO_FATAL_FAILURE(norm.run());
    EXPECT_TRUE(std::isnan(norm.out.of_token(0, width - 1)));
    norm.x.fill([](int64_t n) { return n % 2 == 0 ? -3 : 3; });
    norm.kind = FOVEA_NORMALISE_RMS;
    norm.gain.clear(), norm.shift.clear();
    ASSERT_NO_FATAL_FAILURE(norm.run());
    for (int64_t i = 0; i < width; ++i) EXPECT_EQ(norm.out.of_token(0, i), i % 2 == 0 ? -1 : 1);
  }
}

TEST(Normalise, MayWriteOverXOrTheResidual) {
  for (const uint32_t type : {FOVEA_F32, FOVEA_BF16}) {
    for (const bool over_x : {true, false}) {
      Normalise norm;
      const Shape shape = {2, 3, 3, 300};
      norm.x = Tokens(type, shape, kHeadsFirst);
      norm.residual = Tokens(type, shape, kHeadsFirst);
      norm.out = Tokens(type, shape, kHeadsFirst);
      norm.x.fill_random(1);
      norm.residual.fill_random(2);
      norm.gain = numbers(900, 3);
      ASSERT_NO_FATAL_FAILURE(norm.run());
      fovea_normalise_args args = norm.args();
      args.out = over_x ? args.x : args.residual;
      ASSERT_EQ(fovea_normalise(shared_cpu(), &args, nullptr), FOVEA_OK);
      ASSERT_NO_FATAL_FAILURE(norm.expect_same_bits(over_x ? norm.x : norm.residual));
    }
  }
}

// The heads of a token are one width: how they lie changes at most the order of sums.
TEST(Normalise, OfOneTokenDoesNotDependOnTheOthers) {
  Normalise all;
  all.x = Tokens(FOVEA_F32, {1, 5, 1, 40});
  all.out = Tokens(FOVEA_F32, {1, 5, 1, 40});
  all.x.fill_random(1);
  ASSERT_NO_FATAL_FAILURE(all.run());
  for (int64_t token = 0; token < 5; ++token) {
    Normalise one;
    one.x = Tokens(FOVEA_F32, {1, 1, 1, 40});
    one.out = Tokens(FOVEA_F32, {1, 1, 1, 40});
    one.x.fill([&](int64_t i) { return all.x.of_token(token, i); });
    ASSERT_NO_FATAL_FAILURE(one.run());
    for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(one.out.of_token(0, i), all.out.of_token(token, i));
  }
}

// ---- Refusals ----

struct Refusal {
  const char *name;
  std::function<void(fovea_normalise_args *)> spoil;
  const char *detail;
};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

const Refusal kRefusals[] = {
    {"small struct", [](fovea_normalise_args *a) { a->struct_size = 16; }, "struct_size"},
    {"kind", [](fovea_normalise_args *a) { a->kind = 2; }, "kind is 2"},
    {"negative eps", [](fovea_normalise_args *a) { a->eps = -1e-9F; }, "eps is -1e-09"},
    {"eps of NaN", [](fovea_normalise_args *a) { a->eps = kNan; }, "eps is nan"},
    {"infinite eps", [](fovea_normalise_args *a) { a->eps = kInfinity; }, "eps is inf"},
    {"unit_offset", [](fovea_normalise_args *a) { a->unit_offset = 2; }, "unit_offset is 2"},
    {"unit_offset alone", [](fovea_normalise_args *a) { a->unit_offset = 1, a->gain = nullptr; },
     "unit_offset is 1, but gain is NULL"},
    {"reserved", [](fovea_normalise_args *a) { a->reserved = 1; }, "reserved is 1"},
    {"type", [](fovea_normalise_args *a) { a->x.dtype = FOVEA_I8; }, "x.dtype is 6"},
    {"no out", [](fovea_normalise_args *a) { a->out = fovea_tensor(); }, "out.dtype is 0"},
    {"shape", [](fovea_normalise_args *a) { a->out.shape[3] = 5; }, "out.shape[3] is 5, must be 6"},
    {"stride", [](fovea_normalise_args *a) { a->x.stride[3] = 2; }, "x.stride[3] is 2"},
    {"twice", [](fovea_normalise_args *a) { a->out.stride[1] = 0; }, "out.stride[1] is 0"},
    {"residual's type", [](fovea_normalise_args *a) { a->residual.dtype = FOVEA_U8; },
     "residual.dtype"},
    {"residual's shape", [](fovea_normalise_args *a) { a->residual.shape[1] = 2; },
     "residual.shape[1] is 2, must be 3"},
    {"shifted x",
     [](fovea_normalise_args *a) {
       a->x = a->out;
       a->x.data = static_cast<float *>(a->out.data) + 1;
     },
     "out overlaps x"},
    {"residual of another type",
     [](fovea_normalise_args *a) { a->residual.data = a->out.data, a->residual.dtype = FOVEA_F16; },
     "out overlaps residual"},
    {"gain in out", [](fovea_normalise_args *a) { a->gain = static_cast<float *>(a->out.data); },
     "out overlaps gain"},
    {"shift in out",
     [](fovea_normalise_args *a) { a->shift = static_cast<float *>(a->out.data) + 17; },
     "out overlaps shift"},
    {"odd gain",
     [](fovea_normalise_args *a) {
       a->gain = reinterpret_cast<const float *>(reinterpret_cast<const char *>(a->gain) + 1);
     },
     "gain is 0x"},
};

TEST(Normalise, RefusesWhatBreaksARuleByNameAndWritesNothing) {
  Normalise norm;
  norm.x = Tokens(FOVEA_F32, {1, 3, 1, 6});
  norm.residual = Tokens(FOVEA_F32, {1, 3, 1, 6});
  norm.out = Tokens(FOVEA_F32, {1, 3, 1, 6});
  norm.gain = norm.shift = numbers(6, 1);
  const fovea_normalise_args good = norm.args();
  for (const Refusal &refusal : kRefusals) {
    fovea_normalise_args bad = good;
    refusal.spoil(&bad);
    EXPECT_EQ(fovea_normalise(shared_cpu(), &bad, nullptr), FOVEA_BAD_ARGUMENT) << refusal.name;
    EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr(refusal.detail)) << refusal.name;
    EXPECT_THAT(norm.out.wrong(), testing::HasSubstr("not written: element 0")) << refusal.name;
  }
  EXPECT_EQ(fovea_normalise(nullptr, &good, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_normalise(shared_cpu(), nullptr, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_normalise(shared_cpu(), &good, nullptr), FOVEA_OK);
}

}  // namespace
}  // namespace fovea_test

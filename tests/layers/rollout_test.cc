// rollout_test.cc - attention rollout, against double precision written from the header.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/layers/tokens_case.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

using Matrix = std::vector<double>;  // [len][len]

struct Rollout {
  std::vector<Tokens> weights;
  Tokens out;
  float residual = 0.5F;

  int64_t len() const { return out.view().shape[1]; }

  void run() {
    std::vector<fovea_tensor> views;
    for (const Tokens &layer : weights) views.push_back(layer.view());
    fovea_rollout_args args = {};
    args.struct_size = sizeof args;
    args.count = static_cast<int32_t>(views.size());
    args.residual = residual;
    args.weights = views.data();
    args.out = out.view();
    size_t bytes = 0;
    ASSERT_EQ(fovea_rollout_workspace(shared_cpu(), &args, &bytes), FOVEA_OK)
        << fovea_layers_error_detail();
    Workspace workspace(bytes);
    args.workspace = workspace.data(), args.workspace_bytes = bytes;
    ASSERT_EQ(fovea_rollout(shared_cpu(), &args, nullptr), FOVEA_OK) << fovea_layers_error_detail();
    EXPECT_TRUE(workspace.intact());
  }

  // A_n of one sequence.
  Matrix layer(const Tokens &w, int64_t b) const {
    const int64_t heads = w.view().shape[2];
    Matrix a(static_cast<size_t>(len() * len()));
    for (int64_t i = 0; i < len(); ++i) {
      double *row = &a[static_cast<size_t>(i * len())], all = 0, sum = 0;
      for (int64_t j = 0; j < len(); ++j) {
        for (int64_t h = 0; h < heads; ++h) {
          row[j] += w.at(b, i, h, j) / static_cast<double>(heads);
        }
        all += row[j];
        row[j] = (1 - static_cast<double>(residual)) * row[j] + (i == j ? residual : 0);
        sum += row[j];
      }
      for (int64_t j = 0; j < len(); ++j) row[j] = all == 0 ? i == j : row[j] / sum;
    }
    return a;
  }

  Matrix expected(int64_t b) const {
    Matrix below = layer(weights[0], b);
    for (size_t n = 1; n < weights.size(); ++n) {
      const Matrix a = layer(weights[n], b);
      Matrix next(below.size());
      for (int64_t i = 0; i < len(); ++i) {
        for (int64_t k = 0; k < len(); ++k) {
          for (int64_t j = 0; j < len(); ++j) {
            next[static_cast<size_t>(i * len() + j)] +=
                a[static_cast<size_t>(i * len() + k)] * below[static_cast<size_t>(k * len() + j)];
          }
        }
      }
      below = next;
    }
    return below;
  }

  // Nothing here is negative, so errors are relative, element by element: of a layer's element
  // heads + 1 for the mean, 2 for the residual's parts, and as much again with 2 more for the sum
  // that divides it; of a product len. What is below 2^-126 may be lost at each sum.
  void expect_right() {
    ASSERT_NO_FATAL_FAILURE(run());
    ASSERT_EQ(out.wrong(), "");
    double relative = 0;
    for (const Tokens &w : weights) {
      relative +=
          0x1p-24 * (2 * static_cast<double>(w.view().shape[2]) + 9 + static_cast<double>(len()));
    }
    const uint32_t type = out.view().dtype;
    for (int64_t b = 0; b < out.view().shape[0]; ++b) {
      const Matrix truth = expected(b);
      for (int64_t n = 0; n < len() * len(); ++n) {
        const double value = truth[static_cast<size_t>(n)];
        const double computed = 1.01 * relative * value + 0x1p-126 * static_cast<double>(len());
        const double rounded = unit_roundoff(type) * (value + computed) + half_step(type);
        ASSERT_NEAR(out.at(b, n / len(), 0, n % len()), value, computed + rounded)
            << "sequence " << b << ", row " << n / len() << ", token " << n % len();
      }
    }
  }
};

uint32_t any_type(Choices *choices) {
  const uint32_t types[] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
  return types[choices->below(3)];
}

// Weights as attention gives them, but of no exact sum, and a row of zeros here and there.
void fill_weights(Tokens *w, uint64_t seed) {
  const int64_t len = w->view().shape[1], heads = w->view().shape[2];
  w->fill([&](int64_t n) {
    const auto row = static_cast<uint64_t>(n / len / heads), at = static_cast<uint64_t>(n);
    if (mix(seed, row) % 5 == 0) return 0.0;
    return 2 * uniform(mix(seed, at, 1)) / static_cast<double>(len);
  });
}

TEST(Rollout, IsTheProductOfLayersInEveryTypeAndLayout) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Choices choices(seed);
    Rollout rollout;
    const bool large = choices.one_in(40);
    const int64_t batch = choices.below(4),
                  len = large ? 255 + choices.below(9) : choices.below(20);
    const int64_t layers = large ? 2 : 1 + choices.below(5);
    const auto layout = [&] { return static_cast<Layout>(choices.below(kTokenLayouts)); };
    for (int64_t n = 0; n < layers; ++n) {
      rollout.weights.emplace_back(any_type(&choices), Shape{batch, len, 1 + choices.below(4), len},
                                   layout());
      fill_weights(&rollout.weights.back(), mix(seed, static_cast<uint64_t>(n)));
    }
    rollout.out = Tokens(any_type(&choices), {batch, len, 1, len}, layout());
    const float shares[] = {0.0F, 0.5F, 0.9F};
    rollout.residual = shares[choices.below(3)];
    rollout.expect_right();
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Row i of layer n attends to one token alone.
Rollout permuted(int64_t len, const std::vector<std::function<int64_t(int64_t)>> &layers) {
  Rollout made;
  for (const auto &to : layers) {
    made.weights.emplace_back(FOVEA_F32, Shape{1, len, 2, len});
    made.weights.back().fill([&](int64_t n) { return to(n / len / 2) == n % len ? 1.0 : 0.0; });
  }
  made.out = Tokens(FOVEA_F32, {1, len, 1, len});
  return made;
}

TEST(Rollout, OfIdentitiesIsTheIdentityExactly) {
  for (const float residual : {0.0F, 0.3F, 0.5F, 0.99F}) {
    const auto same = [](int64_t i) { return i; };
    Rollout rollout = permuted(7, {same, same, same});
    rollout.residual = residual;
    ASSERT_NO_FATAL_FAILURE(rollout.run());
    for (int64_t n = 0; n < 49; ++n) {
      EXPECT_EQ(rollout.out.at(0, n / 7, 0, n % 7), n / 7 == n % 7 ? 1 : 0);
    }
  }
}

// The last layer's row looks at its token, which looked at one of its own: order matters.
TEST(Rollout, FollowsLayersFromTheLastToTheFirstExactly) {
  const int64_t len = 300;
  const auto first = [](int64_t i) { return (i + 1) % 300; };
  const auto second = [](int64_t i) { return (7 * i) % 300; };
  Rollout rollout = permuted(len, {first, second});
  rollout.residual = 0;
  ASSERT_NO_FATAL_FAILURE(rollout.run());
  for (int64_t n = 0; n < len * len; ++n) {
    ASSERT_EQ(rollout.out.at(0, n / len, 0, n % len), n % len == first(second(n / len)) ? 1 : 0);
  }
}

// Halves and quarters are exact.
TEST(Rollout, SharesHalfWithTheResidualExactly) {
  const auto next = [](int64_t i) { return (i + 1) % 5; };
  Rollout rollout = permuted(5, {next, next});
  ASSERT_NO_FATAL_FAILURE(rollout.run());
  const double shares[] = {0.25, 0.5, 0.25, 0, 0};
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 5; ++j) {
      EXPECT_EQ(rollout.out.at(0, i, 0, j), shares[(j - i + 5) % 5]);
    }
  }
}

TEST(Rollout, OfARowOfZerosIsTheTokenItself) {
  for (const float residual : {0.0F, 0.5F}) {
    Rollout rollout;
    rollout.weights.emplace_back(FOVEA_F16, Shape{2, 4, 3, 4});
    rollout.weights.back().fill([](int64_t) { return 0; });
    rollout.out = Tokens(FOVEA_F32, {2, 4, 1, 4});
    rollout.residual = residual;
    ASSERT_NO_FATAL_FAILURE(rollout.run());
    for (int64_t n = 0; n < 16; ++n) {
      EXPECT_EQ(rollout.out.at(1, n / 4, 0, n % 4), n / 4 == n % 4 ? 1 : 0);
    }
  }
}

// ---- Refusals ----

struct Refusal {
  const char *name;
  std::function<void(fovea_rollout_args *, fovea_tensor *)> spoil;
  const char *detail;
};

const Refusal kRefusals[] = {
    {"small struct", [](auto *a, auto *) { a->struct_size = 16; }, "struct_size"},
    {"count", [](auto *a, auto *) { a->count = 0; }, "count is 0, must be >= 1"},
    {"residual of 1", [](auto *a, auto *) { a->residual = 1; }, "residual is 1"},
    {"negative residual", [](auto *a, auto *) { a->residual = -0.1F; }, "residual is -0.1"},
    {"residual of NaN",
     [](auto *a, auto *) { a->residual = std::numeric_limits<float>::quiet_NaN(); },
     "residual is nan"},
    {"no weights", [](auto *a, auto *) { a->weights = nullptr; }, "weights is NULL"},
    {"no out", [](auto *a, auto *) { a->out = fovea_tensor(); }, "out.dtype is 0"},
    {"out's heads", [](auto *a, auto *) { a->out.shape[2] = 2; }, "out.shape[2] is 2"},
    {"out's width", [](auto *a, auto *) { a->out.shape[3] = 2; },
     "out.shape[3] is 2, must be out.shape[1], which is 3"},
    {"twice", [](auto *a, auto *) { a->out.stride[0] = 0; }, "out.stride[0] is 0"},
    {"type", [](auto *, auto *w) { w[1].dtype = FOVEA_U8; }, "weights[1].dtype"},
    {"batch", [](auto *, auto *w) { w[0].shape[0] = 1; }, "weights[0].shape[0] is 1, must be 2"},
    {"rows", [](auto *, auto *w) { w[1].shape[1] = 2; }, "weights[1].shape[1] is 2, must be 3"},
    {"keys", [](auto *, auto *w) { w[1].shape[3] = 2; }, "weights[1].shape[3] is 2, must be 3"},
    {"heads", [](auto *, auto *w) { w[1].shape[2] = 0; }, "weights[1].shape[2] is 0"},
    {"overlap", [](auto *a, auto *w) { w[1].data = a->out.data; }, "out overlaps weights[1]"},
    {"workspace", [](auto *a, auto *) { a->workspace_bytes -= 1; }, "workspace_bytes"},
    {"crooked workspace",
     [](auto *a, auto *) { a->workspace = static_cast<char *>(a->workspace) + 64; },
     "aligned to 256"},
};

TEST(Rollout, RefusesWhatBreaksARuleByNameAndWritesNothing) {
  const Tokens first(FOVEA_F32, {2, 3, 4, 3}), second(FOVEA_F32, {2, 3, 2, 3});
  const Tokens out(FOVEA_F32, {2, 3, 1, 3});
  fovea_tensor views[2] = {first.view(), second.view()};
  fovea_rollout_args good = {};
  good.struct_size = sizeof good;
  good.count = 2;
  good.residual = 0.5F;
  good.weights = views;
  good.out = out.view();
  ASSERT_EQ(fovea_rollout_workspace(shared_cpu(), &good, &good.workspace_bytes), FOVEA_OK);
  Workspace workspace(good.workspace_bytes);
  good.workspace = workspace.data();
  for (const Refusal &refusal : kRefusals) {
    fovea_rollout_args bad = good;
    views[0] = first.view(), views[1] = second.view();
    refusal.spoil(&bad, views);
    EXPECT_EQ(fovea_rollout(shared_cpu(), &bad, nullptr), FOVEA_BAD_ARGUMENT) << refusal.name;
    EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr(refusal.detail)) << refusal.name;
    EXPECT_THAT(out.wrong(), testing::HasSubstr("not written: element 0")) << refusal.name;
  }
  views[0] = first.view(), views[1] = second.view();
  EXPECT_EQ(fovea_rollout(nullptr, &good, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_rollout(shared_cpu(), nullptr, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_rollout_workspace(shared_cpu(), &good, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_rollout(shared_cpu(), &good, nullptr), FOVEA_OK);
}

TEST(Rollout, OfNoSequencesNeedsNothing) {
  const fovea_tensor none = fovea_contiguous(nullptr, FOVEA_F32, 0, 1 << 30, 1, 1 << 30);
  fovea_rollout_args args = {};
  size_t bytes = 1;
  args.struct_size = sizeof args;
  args.count = 1;
  args.weights = &none;
  args.out = none;
  EXPECT_EQ(fovea_rollout_workspace(shared_cpu(), &args, &bytes), FOVEA_OK)
      << fovea_layers_error_detail();
  EXPECT_EQ(bytes, 0u);
  EXPECT_EQ(fovea_rollout(shared_cpu(), &args, nullptr), FOVEA_OK) << fovea_layers_error_detail();
}

}  // namespace
}  // namespace fovea_test

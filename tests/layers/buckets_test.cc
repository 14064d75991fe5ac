// buckets_test.cc - T5's relative buckets, against the header's formula in double.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/layers/tokens_case.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

// A table whose entry is its bucket's number, plus 1000 times its head's.
struct Buckets {
  int32_t buckets = 32, heads = 1, max_distance = 128;
  bool bidirectional = true;
  std::vector<float> bias, table;
  fovea_distances distances = {};

  int64_t entries() const { return (bidirectional ? 2 : 1) * int64_t{max_distance} + 1; }

  fovea_buckets_args args() {
    bias.resize(static_cast<size_t>(buckets) * static_cast<size_t>(heads));
    for (size_t n = 0; n < bias.size(); ++n) {
      const size_t count = static_cast<size_t>(heads);
      bias[n] = static_cast<float>(n / count + 1000 * (n % count));
    }
    table.assign(static_cast<size_t>(entries() * heads), std::nanf(""));
    fovea_buckets_args args = {};
    args.struct_size = sizeof args;
    args.buckets = buckets;
    args.heads = heads;
    args.max_distance = max_distance;
    args.bidirectional = bidirectional ? 1 : 0;
    args.bias = bias.data();
    args.table = table.data();
    args.entries = entries();
    return args;
  }

  void run() {
    const fovea_buckets_args call = args();
    ASSERT_EQ(fovea_buckets(&call, &distances), FOVEA_OK) << fovea_layers_error_detail();
  }

  // What fovea_attention adds for a distance: the entry of the header's fovea_distances.
  float added(int64_t distance, int64_t head = 0) const {
    const int64_t entry =
        std::min(std::max<int64_t>(0, distance - distances.first), int64_t{distances.count} - 1);
    return distances.table[head * distances.head_stride + entry];
  }

  int64_t of_side() const { return bidirectional ? buckets / 2 : buckets; }

  // The formula of the header in double; *border gets how near it came to the next integer.
  int64_t expected(int64_t distance, double *border) const {
    *border = 1;
    if (distance > 0 && !bidirectional) return 0;
    const int64_t n = of_side(), exact = n / 2, d = std::llabs(distance);
    int64_t bucket = d;
    if (d >= exact) {
      const auto from = static_cast<double>(exact);
      const double place = std::log(static_cast<double>(d) / from) /
                           std::log(static_cast<double>(max_distance) / from) *
                           static_cast<double>(n - exact);
      *border = std::fabs(place - std::round(place));
      bucket = std::min(n - 1, exact + static_cast<int64_t>(place));
    }
    return distance > 0 ? n + bucket : bucket;
  }

  // Both logarithms, their quotient and the product round to f32: 4 2^-24 of a place of at most n.
  // The rounding of d / exact adds 2^-24 to its logarithm: n 2^-24 / ln(ratio) to the place. Only
  // that near to an integer may the bucket be the one before or after.
  void expect_right() {
    ASSERT_NO_FATAL_FAILURE(run());
    const auto n = static_cast<double>(of_side());
    const double ratio = static_cast<double>(max_distance) / static_cast<double>(of_side() / 2);
    const double near = 1.01 * 0x1p-24 * n * (4 + 1 / std::log(ratio));
    const int64_t far = 3 * int64_t{max_distance} + 5;
    for (int64_t distance = -far; distance <= far; ++distance) {
      double border = 1;
      const auto truth = static_cast<double>(expected(distance, &border));
      ASSERT_NEAR(added(distance), truth, border < near ? 1 : 0)
          << "distance " << distance << " of " << buckets << " buckets to " << max_distance;
    }
  }
};

Buckets setting(int32_t buckets, int32_t max_distance, bool bidirectional = false) {
  Buckets made;
  made.buckets = buckets;
  made.max_distance = max_distance;
  made.bidirectional = bidirectional;
  return made;
}

TEST(Buckets, FollowTheFormulaAtEveryDistance) {
  for (int32_t buckets = 2; buckets <= 66; ++buckets) {
    for (const bool both : {false, true}) {
      if (both && (buckets % 2 == 1 || buckets < 4)) continue;
      const int32_t exact = buckets / (both ? 4 : 2);
      for (const int32_t far : {exact + 1, exact + 2, 2 * exact + 1, 50, 128, 129, 800}) {
        if (far <= exact) continue;
        ASSERT_NO_FATAL_FAILURE(setting(buckets, far, both).expect_right());
      }
    }
  }
}

// T5's encoder: the first distance of each bucket of a side, from 8 * 2^(j / 2) rounded up.
TEST(Buckets, OfAnEncoderBeginWhereT5sDo) {
  const int64_t begin[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91};
  Buckets t5 = setting(32, 128, true);
  ASSERT_NO_FATAL_FAILURE(t5.run());
  for (int64_t bucket = 0; bucket < 16; ++bucket) {
    const int64_t end = bucket < 15 ? begin[bucket + 1] : 1000;
    for (int64_t d = begin[bucket]; d < end; ++d) {
      EXPECT_EQ(t5.added(-d), bucket) << d;
      EXPECT_EQ(t5.added(d), d > 0 ? 16 + bucket : 0) << d;
    }
  }
}

// T5's decoder: 16 * 8^(j / 16) rounded up.
TEST(Buckets, OfADecoderBeginWhereT5sDo) {
  const int64_t begin[] = {16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
  Buckets t5 = setting(32, 128);
  ASSERT_NO_FATAL_FAILURE(t5.run());
  for (int64_t d = 0; d < 16; ++d) EXPECT_EQ(t5.added(-d), d);
  for (int64_t n = 0; n < 16; ++n) {
    for (int64_t d = begin[n]; d < (n < 15 ? begin[n + 1] : 1000); ++d) {
      EXPECT_EQ(t5.added(-d), 16 + n) << d;
    }
  }
  for (const int64_t after : {1, 2, 500}) EXPECT_EQ(t5.added(after), 0);
}

// All distances where PyTorch 2.11 on the CPU has another bucket than real numbers have, of 2 to 64
// buckets of a side and max_distance to 299: twelve lie on a border and stay before it, three come
// within 2e-6 of one and are past it.
TEST(Buckets, RoundAtBordersAsPyTorchDoes) {
  const struct {
    int32_t buckets, max_distance, distance, bucket;
  } rows[] = {{17, 27, 12, 10}, {17, 27, 18, 13},   {19, 25, 15, 13},  {19, 196, 42, 13},
              {36, 50, 30, 26}, {46, 164, 107, 41}, {48, 81, 36, 31},  {48, 81, 54, 39},
              {51, 49, 35, 37}, {51, 81, 45, 37},   {51, 169, 65, 37}, {54, 125, 45, 35},
              {55, 75, 45, 40}, {58, 282, 119, 47}, {59, 296, 186, 53}};
  for (const auto &row : rows) {
    Buckets made = setting(row.buckets, row.max_distance);
    ASSERT_NO_FATAL_FAILURE(made.run());
    EXPECT_EQ(made.added(-row.distance), row.bucket) << row.buckets << " " << row.distance;
    made = setting(2 * row.buckets, row.max_distance, true);
    ASSERT_NO_FATAL_FAILURE(made.run());
    EXPECT_EQ(made.added(-row.distance), row.bucket);
    EXPECT_EQ(made.added(row.distance), row.buckets + row.bucket);
  }
}

TEST(Buckets, ShareTheLastFromMaxDistanceOn) {
  for (int32_t n = 2; n <= 64; ++n) {
    for (int32_t far = n / 2 + 1; far < 200; ++far) {
      Buckets made = setting(n, far);
      ASSERT_NO_FATAL_FAILURE(made.run());
      ASSERT_EQ(made.added(-far), n - 1) << far;
      ASSERT_EQ(made.added(-far - 1), n - 1) << far;
      ASSERT_EQ(made.added(-n / 2), n / 2) << far;
    }
  }
}

TEST(Buckets, OfSeveralHeadsFollowEachOther) {
  Buckets made = setting(32, 128, true);
  made.heads = 3;
  ASSERT_NO_FATAL_FAILURE(made.run());
  EXPECT_EQ(made.distances.table, made.table.data());
  EXPECT_EQ(made.distances.head_stride, 257);
  EXPECT_EQ(made.distances.first, -128);
  EXPECT_EQ(made.distances.count, 257);
  for (const int64_t distance : {-200, -20, 0, 20, 200}) {
    double border = 1;
    const auto bucket = static_cast<float>(made.expected(distance, &border));
    for (int64_t head = 0; head < 3; ++head) {
      EXPECT_EQ(made.added(distance, head), bucket + 1000 * static_cast<float>(head));
    }
  }
  made.heads = 1;
  ASSERT_NO_FATAL_FAILURE(made.run());
  EXPECT_EQ(made.distances.head_stride, 0);
}

// With q = 0 a row's lse is ln(sum exp(entry)) of the keys that it sees. In f32 a sum of 20 terms,
// each off by 4 units at most, is off by 24 units, relatively. Entries, up to 2, and the logarithm,
// of up to 5, change their base by 2 roundings each.
TEST(Buckets, AreAddedByAttention) {
  Buckets made = setting(8, 6, true);
  fovea_buckets_args call = made.args();
  for (size_t n = 0; n < made.bias.size(); ++n) made.bias[n] = static_cast<float>(n) / 4;
  ASSERT_EQ(fovea_buckets(&call, &made.distances), FOVEA_OK);
  const int64_t len = 20;
  Tokens q(FOVEA_F32, {1, len, 2, 8}), k(FOVEA_F32, {1, len, 2, 8}), v(FOVEA_F32, {1, len, 2, 8});
  Tokens out(FOVEA_F32, {1, len, 2, 8}), lse(FOVEA_F32, {1, len, 2, 1});
  q.fill([](int64_t) { return 0; });
  k.fill_random(1);
  v.fill_random(2);
  fovea_attention_args args = {};
  args.struct_size = sizeof args;
  args.q = q.view(), args.k = k.view(), args.v = v.view();
  args.out = out.view(), args.lse = lse.view();
  args.logits.scale = 1;
  args.logits.distances = made.distances;
  size_t bytes = 0;
  ASSERT_EQ(fovea_attention_workspace_for(shared_cpu(), &args, &bytes), FOVEA_OK)
      << fovea_error_detail();
  Workspace workspace(bytes);
  args.workspace = workspace.data(), args.workspace_bytes = bytes;
  ASSERT_EQ(fovea_attention(shared_cpu(), &args, nullptr), FOVEA_OK) << fovea_error_detail();
  for (int64_t i = 0; i < len; ++i) {
    double sum = 0, border = 1;
    for (int64_t j = 0; j < len; ++j) {
      sum += std::exp(static_cast<double>(made.expected(j - i, &border)) / 4);
    }
    EXPECT_NEAR(lse.at(0, i, 1, 0), std::log(sum), 0x1p-24 * (24 + 2 * 2 + 2 * 5)) << i;
  }
}

// ---- Refusals ----

struct Refusal {
  const char *name;
  std::function<void(fovea_buckets_args *)> spoil;
  const char *detail;
};

const Refusal kRefusals[] = {
    {"small struct", [](fovea_buckets_args *a) { a->struct_size = 24; }, "struct_size"},
    {"bidirectional", [](fovea_buckets_args *a) { a->bidirectional = 2; }, "bidirectional is 2"},
    {"buckets", [](fovea_buckets_args *a) { a->buckets = 2; }, "buckets is 2"},
    {"buckets of one side", [](fovea_buckets_args *a) { a->buckets = 1, a->bidirectional = 0; },
     "buckets is 1"},
    {"odd buckets", [](fovea_buckets_args *a) { a->buckets = 9; }, "buckets % 2 is 1"},
    {"heads", [](fovea_buckets_args *a) { a->heads = 0; }, "heads is 0"},
    {"near", [](fovea_buckets_args *a) { a->max_distance = 2; },
     "max_distance is 2, must be > exact_buckets, which is 2"},
    {"few entries", [](fovea_buckets_args *a) { a->entries -= 1; },
     "entries is 20, must be distances, which is 21"},
    {"entries of both sides", [](fovea_buckets_args *a) { a->bidirectional = 0; },
     "entries is 21, must be distances, which is 11"},
    {"far",
     [](fovea_buckets_args *a) { a->max_distance = 1 << 30, a->entries = (int64_t{1} << 31) + 1; },
     "entries is 2147483649"},
    {"no bias", [](fovea_buckets_args *a) { a->bias = nullptr; }, "bias.data"},
    {"no table", [](fovea_buckets_args *a) { a->table = nullptr; }, "table.data"},
    {"overlap", [](fovea_buckets_args *a) { a->bias = a->table + 3; }, "table overlaps bias"},
};

TEST(Buckets, RefuseWhatBreaksARuleByNameAndWriteNothing) {
  Buckets made = setting(8, 10, true);
  made.heads = 2;
  const fovea_buckets_args good = made.args();
  for (const Refusal &refusal : kRefusals) {
    fovea_buckets_args bad = good;
    refusal.spoil(&bad);
    EXPECT_EQ(fovea_buckets(&bad, &made.distances), FOVEA_BAD_ARGUMENT) << refusal.name;
    EXPECT_THAT(fovea_layers_error_detail(), testing::HasSubstr(refusal.detail)) << refusal.name;
    EXPECT_EQ(made.distances.table, nullptr) << refusal.name;
    for (const float entry : made.table) ASSERT_TRUE(std::isnan(entry)) << refusal.name;
  }
  EXPECT_EQ(fovea_buckets(nullptr, &made.distances), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_buckets(&good, nullptr), FOVEA_BAD_ARGUMENT);
  EXPECT_EQ(fovea_buckets(&good, &made.distances), FOVEA_OK);
}

}  // namespace
}  // namespace fovea_test

// mass_test.cc - mass and statistics where the answer is known exactly, or equal to another call's.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/attention/features.h"
#include "tests/attention/weights_call.h"

namespace fovea_test {
namespace {

Ints up_to(int64_t count) {
  Ints list;
  for (int64_t n = 0; n < count; ++n) list.push_back(n);
  return list;
}

double zero(const At &) {
  return 0.0;
}

// A row's query is the unit vector of `key`, and keys are unit vectors a thousand long: the row
// gives all its weight to keys with key % dim == its own.
double far_unit(const At &at) {
  return at.d == at.i % 16 ? 4096.0 : 0.0;
}

class Mass : public testing::TestWithParam<Device> {
 protected:
  Attention base() { return Attention().on(GetParam()).clean().dim(16).heads(4, 2); }
  Wish of(int64_t sequences, int64_t rows, int64_t heads, int64_t keys) {
    Wish wish;
    wish.sequences = up_to(sequences);
    wish.rows = up_to(rows);
    wish.heads = up_to(heads);
    wish.keys = keys;
    wish.dtype = FOVEA_NONE;
    wish.mass = true;
    return wish;
  }
};

// Equal logits over 64 keys: each weight is 2^-6, and every sum of them is exact.
TEST_P(Mass, OfEqualWeightsIsExactForAnyNumberOfRows) {
  for (int64_t rows : {1, 8, 9, 511, 512, 513, 1100}) {
    for (bool by_kv_head : {false, true}) {
      Case laid(base().batch(2).len_q(rows).len_kv(64).fill("q", zero).s);
      Wish wish = of(2, rows, 4, 70);
      wish.by_kv_head = by_kv_head;
      const Answer answer = weigh(GetParam(), laid.args, wish);
      ASSERT_EQ(answer.status, FOVEA_OK) << answer.detail;
      ASSERT_TRUE(answer.intact);
      const double sum = static_cast<double>(rows * (by_kv_head ? 2 : 1)) / 64;
      const size_t heads = by_kv_head ? 2 : 4;
      ASSERT_EQ(answer.mass.size(), 2 * heads * 70);
      for (size_t n = 0; n < answer.mass.size(); ++n)
        ASSERT_EQ(answer.mass[n], n % 70 < 64 ? sum : 0.0) << rows << ' ' << n;
    }
  }
}

// Row i gives all to key i % 16: mass counts rows, and the statistics are those of certainty.
TEST_P(Mass, OfRowsWithOneKeyCountsThem) {
  const int64_t rows = 600;
  Case laid(base().batch(1).len_q(rows).len_kv(16).fill("q", far_unit).fill("k", far_unit).s);
  Wish wish = of(1, rows, 4, 16);
  wish.statistics = true;
  const Answer answer = weigh(GetParam(), laid.args, wish);
  ASSERT_EQ(answer.status, FOVEA_OK) << answer.detail;
  for (size_t n = 0; n < answer.mass.size(); ++n)
    ASSERT_EQ(answer.mass[n], n % 16 < 600 % 16 ? 38.0 : 37.0) << n;
  for (size_t n = 0; n < answer.largest.size(); ++n) {
    const size_t row = n / 4;
    ASSERT_EQ(answer.largest[n], static_cast<int32_t>(row % 16));
    ASSERT_EQ(answer.statistics[4 * n], 0.0);
    ASSERT_EQ(answer.statistics[4 * n + 1], 1.0);
    ASSERT_EQ(answer.statistics[4 * n + 2], row % 16 == 0 ? 1.0 : 0.0);
    ASSERT_EQ(answer.statistics[4 * n + 3], 4096.0 * 4096.0 / 4);
  }
}

TEST_P(Mass, IsAddedToWhatIsThere) {
  Case laid(base().batch(2).len_q(1100).len_kv(64).fill("q", zero).s);
  Wish wish = of(2, 1100, 4, 70);
  wish.accumulate = true;
  wish.before = 3.5;
  const Answer answer = weigh(GetParam(), laid.args, wish);
  ASSERT_EQ(answer.status, FOVEA_OK) << answer.detail;
  for (size_t n = 0; n < answer.mass.size(); ++n)
    ASSERT_EQ(answer.mass[n], 3.5 + (n % 70 < 64 ? 1100.0 / 64 : 0.0)) << n;
}

TEST_P(Mass, CountsARowOnceForEachTimeItIsChosen) {
  Case laid(base().batch(1).len_q(4).len_kv(64).fill("q", zero).s);
  Wish wish = of(1, 4, 4, 64);
  wish.rows = {2, 2, 2, 4, -1, 0};
  wish.heads = {1, 1, 3};
  const Answer answer = weigh(GetParam(), laid.args, wish);
  for (double mass : answer.mass) ASSERT_EQ(mass, 4.0 / 64);
}

// Ties go to the lowest key that the row sees, wherever tiles end.
TEST_P(Mass, NamesTheLowestOfEqualKeys) {
  for (int64_t first : {0, 3, 600}) {
    Case laid(base().batch(1).len_q(3).len_kv(1300).kv_first({first}).fill("q", zero).s);
    Wish wish = of(1, 3, 4, 1);
    wish.statistics = true;
    const Answer answer = weigh(GetParam(), laid.args, wish);
    for (int32_t key : answer.largest) ASSERT_EQ(key, first);
    for (size_t n = 0; n < answer.largest.size(); ++n) {
      const double keys = static_cast<double>(1300 - first);
      ASSERT_NEAR(answer.statistics[4 * n], std::log(keys), 1e-6);
      ASSERT_NEAR(answer.statistics[4 * n + 2], 1 / keys, 1e-9);
    }
  }
}

// A later key, in another tile, that is larger by a hair.
TEST_P(Mass, NamesALaterKeyThatIsLarger) {
  for (int64_t largest : {0, 31, 255, 256, 511, 512, 1299}) {
    const auto k = [largest](const At &at) { return at.i == largest ? 1.0 + 0x1p-20 : 1.0; };
    const auto q = [](const At &at) { return at.d == 0 ? 1.0 : 0.0; };
    Case laid(base().batch(1).len_q(2).len_kv(1300).fill("q", q).fill("k", k).s);
    Wish wish = of(1, 2, 4, 1);
    wish.statistics = true;
    for (int32_t key : weigh(GetParam(), laid.args, wish).largest) ASSERT_EQ(key, largest);
  }
}

// A sink that outweighs all keys: what it takes is missing in the weights, and has no entropy.
TEST_P(Mass, LeavesTheSinksShareOut) {
  for (double sink : {std::log(64.0), 100.0, 800.0, -800.0}) {
    const auto fill = [sink](const At &) { return sink; };
    Case laid(base().batch(1).len_q(2).len_kv(64).sinks().fill("q", zero).fill("sink", fill).s);
    const double of_sink = static_cast<double>(static_cast<float>(sink));
    const double lse = std::fmax(of_sink, std::log(64.0)) +
                       std::log1p(std::exp(-std::fabs(of_sink - std::log(64.0))));
    const double weight = std::exp(-lse);
    Wish wish = of(1, 2, 4, 64);
    wish.statistics = true;
    const Answer answer = weigh(GetParam(), laid.args, wish);
    for (double mass : answer.mass) ASSERT_NEAR(mass, 2 * weight, 4e-7 * weight + 0x1p-126);
    for (size_t n = 0; n < answer.largest.size(); ++n) {
      ASSERT_NEAR(answer.statistics[4 * n], 64 * weight * lse, 4e-7 * 64 * weight * lse + 0x1p-120);
      ASSERT_NEAR(answer.statistics[4 * n + 1], weight, 4e-7 * weight + 0x1p-126);
      ASSERT_NEAR(answer.statistics[4 * n + 3], lse, 4e-7 * (1 + std::fabs(lse)));
      ASSERT_EQ(answer.largest[n], 0);
    }
  }
}

TEST_P(Mass, OfAKvHeadIsTheSumOverItsGroup) {
  for (const Feature &feature : features()) {
    const Attention a = base_of(feature, GetParam());
    Case laid(a.s);
    Wish each = of(kSequences, kRows, a.s.heads_q, kKeys);
    each.every_row = true;
    Wish grouped = each;
    grouped.by_kv_head = true;
    const Answer single = weigh(GetParam(), laid.args, each);
    const Answer sums = weigh(GetParam(), laid.args, grouped);
    const size_t keys = static_cast<size_t>(kKeys), heads = static_cast<size_t>(a.s.heads_q);
    const size_t heads_kv = static_cast<size_t>(laid.args.k.shape[2]), group = heads / heads_kv;
    ASSERT_EQ(sums.mass.size(), static_cast<size_t>(kSequences) * heads_kv * keys);
    for (size_t n = 0; n < sums.mass.size(); ++n) {
      const size_t s = n / keys / heads_kv, g = n / keys % heads_kv;
      double sum = 0;
      for (size_t h = 0; h < group; ++h)
        sum += single.mass[((s * heads) + g * group + h) * keys + n % keys];
      ASSERT_NEAR(sums.mass[n], sum, 20 * 0x1p-24 * sum) << feature.name << ' ' << n;
    }
  }
}

// exp(logit - lse) is the weight, with the logits and the lse that the call gives.
TEST_P(Mass, LogitsAndLseGiveTheWeights) {
  for (const Feature &feature : features()) {
    const Attention a = base_of(feature, GetParam());
    Case laid(a.s);
    Wish wish = of(kSequences, kRows, a.s.heads_q, kKeys);
    wish.mass = false;
    wish.statistics = true;
    wish.dtype = FOVEA_F32;
    const Answer weights = weigh(GetParam(), laid.args, wish);
    wish.kind = FOVEA_WEIGHTS_LOGITS;
    const Answer logits = weigh(GetParam(), laid.args, wish);
    for (size_t n = 0; n < weights.weights.size(); ++n) {
      const double lse = weights.statistics[4 * (n / static_cast<size_t>(kKeys)) + 3];
      const double t = logits.weights[n];
      const double w = t == -std::numeric_limits<double>::infinity() ? 0.0 : std::exp(t - lse);
      const double limit =
          8 * 0x1p-24 * (2 + std::fabs(t == t && w > 0 ? t : 0) + std::fabs(w > 0 ? lse : 0));
      ASSERT_NEAR(weights.weights[n], w, limit * w + 0x1p-126) << feature.name << ' ' << n;
    }
  }
}

// ---- Bits ---------------------------------------------------------------------------------------

Wish all_outputs(int64_t sequences, int64_t rows, int64_t heads, int64_t keys) {
  Wish wish;
  wish.sequences = up_to(sequences);
  wish.rows = up_to(rows);
  wish.heads = up_to(heads);
  wish.keys = keys;
  wish.mass = wish.statistics = true;
  return wish;
}

TEST_P(Mass, HasTheSameBitsWithAnyNumberOfThreads) {
  for (const bool by_kv_head : {false, true}) {
    Case laid(base().batch(3).len_q(40).len_kv(1500).causal().s);
    Case tall(base().batch(1).len_q(700).len_kv(300).causal().alibi().s);
    Answer few, many;
    for (int32_t threads : {1, 2, 3, 7}) {
      fovea_options options{};
      options.struct_size = sizeof options;
      Device device = GetParam();
      device.threads = threads;
      fovea_handle *handle = open(device, &options);
      Wish wish = all_outputs(3, 40, 4, 1500);
      wish.by_kv_head = by_kv_head;
      const Answer a = weigh(handle, laid.args, wish);
      wish = all_outputs(1, 700, 4, 300);
      wish.by_kv_head = by_kv_head;
      const Answer b = weigh(handle, tall.args, wish);
      if (threads == 1) few = a, many = b;
      EXPECT_EQ(a, few) << threads;
      EXPECT_EQ(b, many) << threads;
      fovea_destroy(handle);
    }
  }
}

// A sequence has the bits of mass, statistics and weights that it has in a batch of its own.
TEST_P(Mass, HasTheSameBitsInAnyBatch) {
  for (const Feature &feature : features()) {
    const Attention a = base_of(feature, GetParam());
    Case laid(a.s);
    Wish wish = all_outputs(kSequences, kRows, a.s.heads_q, kKeys);
    const Answer whole = weigh(GetParam(), laid.args, wish);
    const size_t part = whole.mass.size() / static_cast<size_t>(kSequences);
    const size_t rows = whole.largest.size() / static_cast<size_t>(kSequences);
    for (int64_t s = kSequences - 1; s >= 0; --s) {
      wish.sequences = {s};
      const Answer one = weigh(GetParam(), laid.args, wish);
      for (size_t n = 0; n < part; ++n)
        ASSERT_EQ(one.mass[n], whole.mass[static_cast<size_t>(s) * part + n]) << feature.name;
      for (size_t n = 0; n < rows; ++n)
        ASSERT_EQ(one.largest[n], whole.largest[static_cast<size_t>(s) * rows + n]) << feature.name;
    }
  }
}

// What the call writes is the same for each of many sequences, heads and rows, in any round.
TEST_P(Mass, HasTheSameBitsForEqualSequences) {
  const int64_t sequences = 70;
  Case laid(base()
                .batch(sequences)
                .tags(Ints(static_cast<size_t>(sequences), 5))
                .len_q(3)
                .len_kv(40)
                .causal()
                .s);
  const Answer answer = weigh(GetParam(), laid.args, all_outputs(sequences, 3, 4, 40));
  ASSERT_EQ(answer.status, FOVEA_OK) << answer.detail;
  const size_t part = answer.mass.size() / static_cast<size_t>(sequences);
  for (size_t n = part; n < answer.mass.size(); ++n)
    ASSERT_EQ(answer.mass[n], answer.mass[n - part]) << n;
  const size_t row = answer.weights.size() / static_cast<size_t>(sequences);
  for (size_t n = row; n < answer.weights.size(); ++n)
    ASSERT_EQ(answer.weights[n], answer.weights[n - row]) << n;
}

// ---- Hostile data -------------------------------------------------------------------------------

// A key with NaN spoils the rows that see it. Keys that no row sees have no mass nevertheless.
TEST_P(Mass, OfAHiddenKeyIsZeroBesideNaN) {
  const auto k = [](const At &at) { return at.i == 3 ? std::nan("") : 0.25; };
  const auto mask = [](const At &at) { return at.d % 5 == 1 ? 0.0 : 1.0; };
  Case laid(base().batch(1).len_q(9).len_kv(90).mask(0.3).fill("k", k).fill("mask", mask).s);
  Wish wish = all_outputs(1, 9, 4, 100);
  const Answer answer = weigh(GetParam(), laid.args, wish);
  for (size_t n = 0; n < answer.mass.size(); ++n) {
    const size_t key = n % 100;
    if (key % 5 != 1 && key < 90) continue;
    ASSERT_EQ(answer.mass[n], 0.0) << n;
  }
  for (size_t n = 0; n < answer.weights.size(); ++n) {
    const size_t key = n % 100;
    if (key % 5 != 1 && key < 90) continue;
    ASSERT_EQ(answer.weights[n], 0.0) << n;
  }
  for (int32_t key : answer.largest) ASSERT_TRUE(key >= -1 && key < 90) << key;
}

INSTANTIATE_TEST_SUITE_P(Devices, Mass, testing::ValuesIn(weighing_devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

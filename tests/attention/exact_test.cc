// exact_test.cc - the exact oracles (support/exact_oracle.h) on the CPU.
//
// Needles test every mask, length and page edge: each row looks for every key.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/attention/features.h"
#include "tests/support/exact_oracle.h"

namespace fovea_test {
namespace {

const int64_t kBits = 8;  // of a key's number

int64_t key_of_head(int64_t, int64_t, int64_t h) {
  return h;
}

// Head h looks for key h, so one call tests every pair of row and key.
Attention needles(const Device &device, int64_t len_q, int64_t len_kv) {
  Attention a;
  a.on(device).len_q(len_q).len_kv(len_kv).heads(std::max<int64_t>(len_kv, 1), 1).dim(kBits);
  return a;
}

void expect_needles(const Attention &a, const Ints &len_kv, const Visible &visible) {
  expect_needles(a, kBits, len_kv, key_of_head, visible);
}

// What the header says about positions, written a second time.
Visible by_position(int64_t len_q, int64_t len_kv, bool causal, bool top_left, int64_t left,
                    int64_t right) {
  return [=](int64_t, int64_t i, int64_t j) {
    const int64_t ahead = j - (top_left ? i : i + len_kv - len_q);  // how far the key is ahead
    return (!causal || ahead <= 0) && (left < 0 || -ahead <= left) && (right < 0 || ahead <= right);
  };
}

class Exact : public testing::TestWithParam<Device> {
 protected:
  const Device &device() { return GetParam(); }
};

TEST_P(Exact, NeedlesShowExactlyWherePositionsAllowForAllSmallLengths) {
  const int64_t windows[][2] = {{-1, -1}, {0, -1}, {3, 0}, {-1, 2}, {5, 1}};
  for (int64_t len_q = 0; len_q <= 20; ++len_q) {
    for (int64_t len_kv = 0; len_kv <= 20; ++len_kv) {
      for (const auto &w : windows) {
        for (int mode = 0; mode < 4; ++mode) {
          const bool causal = (mode & 1) != 0;
          const bool top_left = (mode & 2) != 0;
          Attention a = needles(device(), len_q, len_kv);
          a.seed(static_cast<uint64_t>(len_q * 21 + len_kv + 1)).window(w[0], w[1]);
          if (causal) a.causal();
          if (top_left) a.top_left();
          expect_needles(a, {len_kv}, by_position(len_q, len_kv, causal, top_left, w[0], w[1]));
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(Exact, NeedlesShowExactlyWhereWindowsEndAtTileEdges) {
  for (int64_t len_kv : {63, 65, 128, 129}) {
    for (int64_t reach : {0, 1, 15, 16, 63, 64, 65, 128, 0x7fffffff}) {
      for (int side = 0; side < 3; ++side) {
        const int64_t left = side == 1 ? -1 : reach;
        const int64_t right = side == 0 ? -1 : reach;
        Attention a = needles(device(), 19, len_kv).window(left, right);
        expect_needles(a, {len_kv}, by_position(19, len_kv, false, false, left, right));
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(Exact, NeedlesShowExactlyWhereLengthsAndPagesEnd) {
  for (int64_t page_len : {1, 2, 3, 16, 64, 100}) {
    for (bool csr : {false, true}) {
      const Ints lengths = {0, 1, page_len, page_len + 1, 129, 64};
      Attention a = needles(device(), 2, 129);
      a.batch(6).lengths(lengths).paged(page_len, csr, csr);
      expect_needles(a, lengths, [&](int64_t s, int64_t, int64_t j) {
        return j < lengths[static_cast<size_t>(s)];
      });
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Exact, NeedlesShowExactlyWherePackedSequencesEnd) {
  const Ints keys = {3, 0, 64, 1, 65, 0, 17};
  const Ints rows = {1, 2, 0, 4, 3, 1, 17};
  Attention a = needles(device(), 0, 65).rows(rows).keys(keys).causal();
  expect_needles(a, keys, [&](int64_t s, int64_t i, int64_t j) {
    const size_t n = static_cast<size_t>(s);
    return j <= i + keys[n] - rows[n];
  });
}

TEST_P(Exact, NeedlesShowExactlyFromTheFirstKeyOnAndBelowThePrefix) {
  for (int64_t first : {0, 1, 63, 64, 65, 99}) {
    for (int64_t prefix : {0, 1, 64, 66, 100, 500}) {
      Attention a = needles(device(), 9, 100).causal(FOVEA_ALIGN_TOP_LEFT);
      a.kv_first({first}).prefix({prefix});
      expect_needles(a, {100}, [&](int64_t, int64_t i, int64_t j) {
        return j >= first && (j < prefix || j <= i);
      });
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Exact, NeedlesShowExactlyInSpansAndBesidesThem) {
  const int64_t windows[][2] = {{-1, -1}, {7, -1}, {-1, 20}, {3, 9}};
  for (int64_t len_q : {1, 4, 100}) {
    for (int64_t first : {0, 30}) {
      for (const auto &w : windows) {
        for (uint32_t rule : {FOVEA_SPAN_BESIDES, FOVEA_SPAN_WITHIN}) {
          const auto span = [](int64_t row) {
            return Span{130 - 7 * (row % 20), row % 3 == 0 ? 0 : 150 - row % 60};
          };
          Attention a = needles(device(), len_q, 180).causal().window(w[0], w[1]);
          a.kv_first({first}).prefix({33});
          a.spans(rule, [&](int64_t, int64_t row) { return span(row); });
          expect_needles(a, {180}, [&](int64_t, int64_t i, int64_t j) {
            const int64_t ahead = j - (i + 180 - len_q);
            const bool window = (w[0] < 0 || -ahead <= w[0]) && (w[1] < 0 || ahead <= w[1]);
            const bool in_span = span(i).begin <= j && j < span(i).end;
            const bool seen = rule == FOVEA_SPAN_WITHIN ? (ahead <= 0 || in_span) && window
                                                        : (ahead <= 0 && window) || in_span;
            return j >= first && (j < 33 || seen);
          });
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(Exact, NeedlesShowExactlyWherePositionsWithStrideAllow) {
  for (int32_t stride : {1, 2, 5, 64}) {
    for (int64_t q0 : {-7, 0, 100, 320}) {
      for (int64_t k0 : {-5, 0, 77}) {
        Attention a = needles(device(), 70, 40).causal().window(90, -1);
        a.q_position({q0}).kv_position({k0}, stride);
        expect_needles(a, {40}, [&](int64_t, int64_t i, int64_t j) {
          const int64_t ahead = k0 + j * stride - (q0 + i);
          return ahead <= 0 && ahead >= -90;
        });
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(Exact, NeedlesShowExactlyWhereMaskTreeAndBiasAllow) {
  const auto shown = [](int64_t s, int64_t i, int64_t j, int64_t salt) {
    return mix(static_cast<uint64_t>(s), static_cast<uint64_t>(i), static_cast<uint64_t>(j),
               static_cast<uint64_t>(salt)) %
               3 !=
           0;
  };
  for (int64_t len_kv : {5, 64, 100}) {
    Attention a = needles(device(), 33, len_kv).batch(2);
    a.mask(0, "srk").fill("mask", [=](const At &at) { return shown(at.tag, at.i, at.d, 1); });
    a.bias(FOVEA_F32, 0, "srk").fill("bias", [=](const At &at) {
      return shown(at.tag, at.i, at.d, 2) ? 0.0 : -std::numeric_limits<double>::infinity();
    });
    a.tree(3).fill("tree", [=](const At &at) { return shown(at.tag, at.i, at.d, 3); });
    expect_needles(a, {len_kv, len_kv}, [&](int64_t s, int64_t i, int64_t j) {
      const int64_t column = j - (len_kv - 3);
      return shown(s, i, j, 1) && shown(s, i, j, 2) && (column < 0 || shown(s, i, column, 3));
    });
    if (HasFatalFailure()) return;
  }
}

TEST_P(Exact, NeedlesShowForEveryColumnOfWideTrees) {
  for (int64_t columns : {1, 31, 32, 33, 64, 65, 100}) {
    Attention a = needles(device(), 5, 100).tree(columns);
    a.fill("tree", [](const At &at) { return (at.d * 7 + at.i) % 3 == 0; });
    expect_needles(a, {100}, [&](int64_t, int64_t i, int64_t j) {
      const int64_t column = j - (100 - columns);
      return column < 0 || (column * 7 + i) % 3 == 0;
    });
    if (HasFatalFailure()) return;
  }
}

TEST_P(Exact, NeedlesShowInEveryTypeOfCache) {
  for (uint32_t k : {FOVEA_F32, FOVEA_F16, FOVEA_BF16, FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8}) {
    for (uint32_t q : {FOVEA_F32, FOVEA_F16, FOVEA_BF16, FOVEA_E4M3}) {
      Attention a = needles(device(), 2, 70).types(q, k, FOVEA_BF16, FOVEA_F16);
      expect_needles(a, {70}, [](int64_t, int64_t, int64_t) { return true; });
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(Exact, OneLongSequenceHidesNoKey) {
  // Heads look for keys near powers of two. Key numbers of 17 bits need a larger dim.
  const int64_t len_kv = 66000;
  const Ints targets = {0, 1, 63, 64, 4095, 4096, 32767, 32768, 65535, 65536, 65537, len_kv - 1};
  Attention a;
  a.on(device()).len_q(1).len_kv(len_kv).heads(static_cast<int64_t>(targets.size()), 1).dim(24);
  a.dim_v(8).type(FOVEA_F16);
  a = with_needles(a, 24,
                   [=](int64_t, int64_t, int64_t h) { return targets[static_cast<size_t>(h)]; });
  const Outcome outcome = a.run();
  for (size_t h = 0; h < targets.size(); ++h) {
    EXPECT_EQ(outcome.lse_at(0, 0, static_cast<int64_t>(h)), 64.0f * 24) << targets[h];
    EXPECT_EQ(outcome.at(0, 0, static_cast<int64_t>(h), 3), value_of({0, targets[h], 0, 3}));
  }
}

TEST_P(Exact, PowerOfTwoWeightsGiveTheRoundedExactSum) {
  for (uint32_t type : {FOVEA_F16, FOVEA_BF16}) {
    Attention a;
    expect_powers(a.on(device()).type(type).len_q(8).len_kv(1000).heads(2, 1).dim(64));
  }
}

// In every type, and under every mask that positions decide, rows count the keys that they see.
TEST_P(Exact, EveryRowCountsTheKeysThatItSeesInEveryFeature) {
  for (const Feature &feature : features()) {
    Attention a = base_of(feature, device());
    a.s.block_scale = 1;  // blocks then hold 0 and 1 exactly
    const Settings &s = a.s;
    if (s.distances || s.additive || s.dim_v < 7) continue;
    if (s.bias.present || s.alibi || s.out_scale.present || s.v_scale.present || s.v_in_k) continue;
    // A count over a length needs more bits than e4m3 has. Without lse the total is unknown.
    if (s.out_type == FOVEA_E4M3 || !s.lse) continue;
    expect_counts(a);
    ASSERT_FALSE(HasFatalFailure()) << feature.name;
  }
}

// With one key the LSE is its logit. tanh keeps the header's word, and ends exactly at 1.
TEST_P(Exact, AdditiveScoresOfOneKeyAreTanh) {
  const auto argument = [](int64_t row, int64_t head) {
    const double size = std::exp2(-24 + 28 * double(row * 8 + head) / (2000 * 8));  // up to 16
    return static_cast<double>(static_cast<float>(head % 2 == 0 ? size : -size));
  };
  Attention a;
  a.on(device()).len_q(2000).len_kv(1).heads(8, 1).dim(1).additive();
  a.fill("q", [=](const At &at) { return argument(at.i, at.h); });
  a.fill("k", [](const At &) { return 0; }).fill("vector", [](const At &) { return 1; });
  const Outcome outcome = a.run();
  for (int64_t i = 0; i < 2000; ++i) {
    for (int64_t h = 0; h < 8; ++h) {
      const double x = argument(i, h), expected = std::tanh(x);
      const double got = static_cast<double>(outcome.lse_at(0, i, h));
      ASSERT_LE(std::fabs(got - expected), 7 * 0x1p-24 * std::fabs(expected)) << x;
      if (std::fabs(x) >= 9.02) {
        ASSERT_EQ(got, x < 0 ? -1 : 1) << x;
      }
    }
  }
}

// Keys are numbers in binary, far out where tanh is 1 or -1. Each head's vector is the code of the
// key that it looks for: every other key is at least 128 below.
TEST_P(Exact, AdditiveScoresFindTheKeyOfEachHead) {
  const auto bit = [](int64_t key, int64_t d) { return (key >> d & 1) != 0 ? 1.0 : -1.0; };
  const auto target = [](int64_t head) { return 37 * head + 5; };
  const auto value = [](int64_t key, int64_t g, int64_t d) {
    return 0.5 * double(key) + double(40 * g - d);
  };
  for (int64_t len_q : {1, 3, 100}) {
    for (uint32_t type : {FOVEA_F32, FOVEA_F16, FOVEA_I8}) {
      Attention a;
      a.on(device()).len_q(len_q).len_kv(230).heads(6, 2).dim(9).additive();
      a.types(FOVEA_F32, type, FOVEA_F32, FOVEA_F32);
      a.fill("q", [](const At &at) { return at.i % 2 == 0 ? 0 : 0.25; });
      a.fill("k", [=](const At &at) { return 100 * bit(at.i, at.d); });
      a.fill("vector", [=](const At &at) { return 64 * bit(target(at.h), at.d); });
      a.fill("v", [=](const At &at) { return value(at.i, at.h, at.d); });
      const Outcome outcome = a.run();
      for (int64_t h = 0; h < 6; ++h) {
        for (int64_t i = 0; i < len_q; ++i) {
          ASSERT_EQ(outcome.lse_at(0, i, h), 64.0f * 9) << i << " " << h;
          for (int64_t d = 0; d < outcome.dim_v; ++d) {
            ASSERT_EQ(outcome.at(0, i, h, d), value(target(h), h / 3, d)) << i << " " << h;
          }
        }
      }
    }
  }
}

TEST_P(Exact, ZeroQueriesCountKeys) {
  for (int64_t len_kv : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512}) {
    for (uint32_t type : {FOVEA_F32, FOVEA_F16}) {
      Attention a;
      a.on(device()).type(type).len_q(17).len_kv(len_kv).dim(8);
      a.fill("q", [](const At &) { return 0.0; });
      a.fill("v", [](const At &at) { return at.i % 8 == at.d ? 1.0 : 0.0; });
      const Outcome outcome = a.run();
      for (int64_t d = 0; d < 8; ++d) {
        const double count = static_cast<double>((len_kv - d + 7) / 8);
        EXPECT_EQ(outcome.at(0, 16, 1, d), count / static_cast<double>(len_kv)) << a.text();
      }
    }
  }
}

// One key more or less shows in the count, whatever the length is modulo the tile.
TEST_P(Exact, ZeroQueriesCountKeysForEveryLength) {
  for (int64_t len_kv = 1; len_kv <= 200; ++len_kv) {
    Attention a;
    a.on(device()).len_q(1).len_kv(len_kv).dim(8).fill("q", [](const At &) { return 0.0; });
    a.fill("v", [](const At &at) { return at.d == 0 ? 1.0 : 0.0; });
    a.sinks().fill("sink", [](const At &) { return 0.0; });  // counts as one more key
    const double share = static_cast<double>(len_kv) / static_cast<double>(len_kv + 1);
    const Outcome outcome = a.run();
    EXPECT_NEAR(outcome.at(0, 0, 0, 0), share, 8 * 0x1p-24 * share);
    EXPECT_EQ(outcome.at(0, 0, 0, 1), 0.0);
  }
}

TEST_P(Exact, EqualValuesComeOutAsTheyAreInEveryFeature) {
  for (const Feature &feature : features()) {
    for (double value : {1.0, -0.109375, 1.75}) {
      const Attention a = base_of(feature, device());
      const Settings &s = a.s;
      if (s.sinks || s.v_in_k || s.out_type == FOVEA_F32 || s.v_scale.present ||
          s.out_scale.present || s.v_type == FOVEA_I8) {
        continue;  // out is no constant, or is rounded more than once
      }
      expect_constant(a, value);
      ASSERT_FALSE(HasFatalFailure()) << feature.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Exact, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

// invariance_test.cc - what must not change a bit, in every feature.
//
// The same numbers lie elsewhere, beside others, in other pages; more threads work; unread memory
// holds garbage. On the CPU key tiles begin at multiples counted from key 0, so a row's bits follow
// from its own query and the keys it sees. The relations hold at every level of `reproducible`.
// Only those that change the number of rows need PHASE.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

class Invariance : public testing::TestWithParam<std::tuple<Device, Feature>> {
 protected:
  Attention problem(uint64_t seed = 5) {
    return base_of(std::get<1>(GetParam()), std::get<0>(GetParam()), seed);
  }
  const Device &device() { return std::get<0>(GetParam()); }
};

TEST_P(Invariance, UnreadMemoryChangesNoBit) {
  EXPECT_EQ(difference(problem().run(), problem().clean().run()), "") << problem().text();
}

TEST_P(Invariance, StridesGapsAndPageOrderChangeNoBit) {
  const Outcome plain = problem().contiguous().run();
  for (uint64_t layout = 1; layout <= 8; ++layout) {
    EXPECT_EQ(difference(plain, problem().layout_seed(layout).run()), "") << layout;
  }
}

TEST_P(Invariance, OtherSequencesChangeNoBit) {
  const Outcome together = problem().run();
  for (const Ints &order : {Ints{0}, Ints{1}, Ints{2}, Ints{2, 1, 0}, Ints{1, 1, 2, 0, 1}}) {
    const Outcome other = problem().pick(order).run();
    for (size_t n = 0; n < order.size(); ++n) {
      ASSERT_EQ(difference(together, order[n], other, static_cast<int64_t>(n)), "");
    }
  }
}

// A row has the same bits alone, as in decode, and among the other rows of its sequence.
TEST_P(Invariance, OtherRowsOfTheSequenceChangeNoBitOfPhase) {
  const Attention whole = problem().reproducible(FOVEA_REPRODUCIBLE_PHASE);
  const Case laid(whole.s);
  const Geometry geometry(laid.args);
  const Outcome together = whole.run();
  for (const Sequence &s : geometry.sequences()) {
    // Rows of kv heads with other lengths stand elsewhere, and one position cannot say that.
    if (!problem().s.head_lengths.empty() && !problem().s.selected) continue;
    for (int64_t i = 0; i < s.len_q; ++i) {
      Attention alone = problem().reproducible(FOVEA_REPRODUCIBLE_PHASE);
      alone.pick({s.index}).row_shift(i);
      if (!alone.s.selected) alone.q_position({s.row0 + i});
      if (alone.s.rows.empty()) {
        alone.len_q(1);
      } else {
        alone.rows({1});
      }
      if (alone.s.tree == 0) alone.tree(s.len_q);
      ASSERT_EQ(difference(together, s.index, alone.run(), 0, i), "");
    }
  }
}

TEST_P(Invariance, ThreadsChangeNoBit) {
  const Outcome plain = problem().run();
  for (int32_t threads : {1, 3, 4}) {
    Device device = this->device();
    device.threads = threads;
    EXPECT_EQ(difference(plain, problem().on(device).run()), "") << threads;
  }
}

// Loops that a caller may bring: one runs backwards, one has a thread of its own.
void backwards(void *, int64_t count, fovea_task task, void *context) {
  for (int64_t n = count - 1; n >= 0; --n) task(context, n);
}
void two_threads(void *calls, int64_t count, fovea_task task, void *context) {
  ++*static_cast<int *>(calls);
  std::thread odd([=] {
    for (int64_t n = 1; n < count; n += 2) task(context, n);
  });
  for (int64_t n = 0; n < count; n += 2) task(context, n);
  odd.join();
}

TEST_P(Invariance, TheCallersLoopChangesNoBit) {
  Case laid(problem().s);
  const Outcome plain = laid.run(device());
  int calls = 0;
  for (fovea_parallel_for loop : {&backwards, &two_threads}) {
    fovea_options options{};
    options.parallel_for = loop;
    options.parallel_for_user = &calls;
    fovea_handle *handle = open(device(), &options);
    EXPECT_EQ(difference(plain, laid.run(handle)), "");
    fovea_destroy(handle);
  }
  const bool has_work = !plain.out.empty() && device().kind == FOVEA_DEVICE_CPU;
  EXPECT_GE(calls, has_work ? 1 : 0);
}

INSTANTIATE_TEST_SUITE_P(Every, Invariance,
                         testing::Combine(testing::ValuesIn(devices()),
                                          testing::ValuesIn(features())),
                         [](const auto &info) {
                           return std::get<0>(info.param).name + "_" + std::get<1>(info.param).name;
                         });

class Relation : public testing::TestWithParam<Device> {
 protected:
  Attention base() { return Attention().on(GetParam()).len_q(9).len_kv(150).seed(2).heads(4, 2); }
};

TEST_P(Relation, PagedPackedAndPlainCachesGiveTheSameBits) {
  for (uint32_t type : {FOVEA_F32, FOVEA_BF16}) {
    const auto with = [&]() { return base().type(type).batch(2).causal(); };
    const Outcome plain = with().lengths({150, 70}).run();
    EXPECT_EQ(difference(plain, with().keys({150, 70}).run()), "");
    EXPECT_EQ(difference(plain, with().rows({9, 9}).keys({150, 70}).run()), "");
    for (int64_t page_len : {1, 5, 16, 64, 200}) {
      EXPECT_EQ(difference(plain, with().lengths({150, 70}).paged(page_len).run()), "") << page_len;
      EXPECT_EQ(difference(plain, with().lengths({150, 70}).paged(page_len, true, true).run()), "");
    }
  }
}

// The heads of a group are rows of one kv head, so sharing it changes the number of rows.
TEST_P(Relation, SharedKeyHeadsEqualRepeatedOnesInPhase) {
  const Outcome shared = base().reproducible(FOVEA_REPRODUCIBLE_PHASE).run();
  const Case laid(base().s);
  const auto repeat = [&](const fovea_tensor &t) -> Fill {
    return [&laid, &t](const At &at) {
      (void)laid;
      return element(t, 0, at.i, at.h / 2, at.d);
    };
  };
  Attention repeated = base().heads(4, 4).reproducible(FOVEA_REPRODUCIBLE_PHASE);
  repeated.fill("k", repeat(laid.args.k)).fill("v", repeat(laid.args.v));
  EXPECT_EQ(difference(shared, repeated.run()), "");
}

TEST_P(Relation, HeadsAreIndependentOfTheirPlace) {
  const Case laid(base().heads(4, 4).s);
  const int64_t order[] = {2, 0, 3, 1};
  const auto permuted = [&](const fovea_tensor &t) -> Fill {
    return [&t, &order](const At &at) { return element(t, 0, at.i, order[at.h], at.d); };
  };
  const Outcome plain = base().heads(4, 4).run();
  const Outcome other = base()
                            .heads(4, 4)
                            .fill("q", permuted(laid.args.q))
                            .fill("k", permuted(laid.args.k))
                            .fill("v", permuted(laid.args.v))
                            .run();
  for (int64_t h = 0; h < 4; ++h) {
    for (int64_t i = 0; i < 9; ++i) {
      for (int64_t d = 0; d < 16; ++d)
        EXPECT_EQ(other.bits(0, i, h, d), plain.bits(0, i, order[h], d));
    }
  }
}

TEST_P(Relation, ColumnsOfValuesAreIndependentOfTheirPlaceAndNumber) {
  const Case laid(base().dim_v(40).s);
  const fovea_tensor &v = laid.args.v;
  const Outcome plain = base().dim_v(40).run();
  const Outcome other = base()
                            .dim_v(56)
                            .fill("v",
                                  [&](const At &at) {
                                    return at.d < 16 ? 0.0 : element(v, 0, at.i, at.h, 55 - at.d);
                                  })
                            .run();
  for (int64_t d = 0; d < 40; ++d) {
    EXPECT_EQ(other.bits(0, 8, 3, 55 - d), plain.bits(0, 8, 3, d));
    EXPECT_EQ(other.at(0, 8, 3, d % 16), 0.0);
  }
}

TEST_P(Relation, CausalRowsEqualFullAttentionOverTheirKeysInPhase) {
  const auto with = [&]() { return base().reproducible(FOVEA_REPRODUCIBLE_PHASE); };
  const Outcome causal = with().causal().run();
  for (int64_t i = 0; i < 9; ++i) {
    const Outcome full = with().row_shift(i).len_q(1).lengths({150 - 9 + i + 1}).run();
    EXPECT_EQ(difference(causal, 0, full, 0, i), "") << i;
  }
}

TEST_P(Relation, WindowsEqualTheMasksThatSayTheSame) {
  const Outcome window = base().window(70, 3).run();
  const Fill inside = [](const At &at) {
    const int64_t ahead = at.d - (at.i + 150 - 9);
    return ahead <= 3 && -ahead <= 70 ? 1.0 : 0.0;
  };
  EXPECT_EQ(difference(window, base().mask().fill("mask", inside).run()), "");
  const Fill bias = [inside](const At &at) {
    return inside(at) != 0.0 ? 0.0 : -std::numeric_limits<double>::infinity();
  };
  EXPECT_EQ(difference(window, base().bias().fill("bias", bias).run()), "");
}

TEST_P(Relation, WindowsThatReachEverythingChangeNothing) {
  const Outcome full = base().run();
  EXPECT_EQ(difference(full, base().window(149, 149).run()), "");
  EXPECT_EQ(difference(full, base().window(0x7fffffff, 0x7fffffff).run()), "");
  EXPECT_EQ(difference(full, base().prefix({150}).causal().run()), "");
  EXPECT_EQ(difference(full, base().mask(0.0).run()), "");
  EXPECT_EQ(difference(full, base().spans().run()), "");
  EXPECT_EQ(difference(full, base().alibi().fill("slope", [](const At &) { return 0; }).run()), "");
  EXPECT_EQ(difference(full, base().bias().fill("bias", [](const At &) { return 0; }).run()), "");
  const Fill zero = [](const At &) { return 0; }, one = [](const At &) { return 1; };
  EXPECT_EQ(difference(full, base().distances(-7, 20).fill("distance", zero).run()), "");
  EXPECT_EQ(
      difference(base().bias().run(), base().bias().bias_scale().fill("bias_scale", one).run()),
      "");
  EXPECT_EQ(difference(full, base().q_lengths({base().s.len_q}).run()), "");
}

// A table of distances says what ALiBi, a bias and a window say.
TEST_P(Relation, DistancesAreWhatAlibiBiasesAndWindowsAre) {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto slope = [](const At &at) { return std::ldexp(1.0, -2 - static_cast<int>(at.h)); };
  const auto alibi = [=](const At &at) { return -slope(at) * std::fabs(double(at.d - 200)); };
  EXPECT_EQ(difference(base().alibi().fill("slope", slope).run(),
                       base().distances(-200, 401).fill("distance", alibi).run()),
            "");
  const int64_t first_row = 150 - base().s.len_q;
  const auto toeplitz = [](const At &at) { return 0.25 * double((at.d + 3 * at.h) % 16); };
  const auto bias = [=](const At &at) {
    return toeplitz({0, 0, at.h, std::clamp<int64_t>(at.d - first_row - at.i + 40, 0, 59)});
  };
  EXPECT_EQ(difference(base().bias().fill("bias", bias).run(),
                       base().distances(-40, 60).fill("distance", toeplitz).run()),
            "");
  const auto near = [=](const At &at) { return at.d == 0 || at.d == 15 ? -infinity : 0.0; };
  EXPECT_EQ(difference(base().window(9, 4).run(),
                       base().distances(-10, 16, true).fill("distance", near).run()),
            "");
}

// Keys that stand several positions apart skip entries, also beside the ends, which hide keys.
TEST_P(Relation, DistancesOfKeysFarApartAreABiasToo) {
  for (const int32_t stride : {2, 3, 7}) {
    for (const int32_t count : {60, 61, 62, 63}) {
      const auto table = [=](const At &at) {
        const bool end = at.d == 0 || at.d == count - 1;
        return end ? -std::numeric_limits<double>::infinity() : 0.25 * double((at.d + at.h) % 16);
      };
      const int64_t first_row = 149 * stride + 1 - base().s.len_q;
      const auto bias = [=](const At &at) {
        const int64_t distance = at.d * stride - first_row - at.i;
        return table({0, 0, at.h, std::clamp<int64_t>(distance + 100, 0, count - 1)});
      };
      const auto spread = [&] { return base().kv_position({0}, stride); };
      EXPECT_EQ(difference(spread().bias().fill("bias", bias).run(),
                           spread().distances(-100, count).fill("distance", table).run()),
                "")
          << stride << ", " << count;
    }
  }
}

TEST_P(Relation, AdditiveScoresAreOddAndLinearInTheirVector) {
  const auto filled = [this](double sign, double factor, double scale) {
    Attention a = base().additive().scale(scale);
    const auto number = [=](const At &at, int salt) {
      return sign * (double((11 * at.i + 5 * at.h + 3 * at.d + salt) % 23) - 11) / 8;
    };
    a.fill("q", [=](const At &at) { return number(at, 1); });
    a.fill("k", [=](const At &at) { return number(at, 7); });
    a.fill("vector", [=](const At &at) { return factor * number(at, 4) * sign; });
    return a;
  };
  const Outcome plain = filled(1, 1, 1).run();
  EXPECT_EQ(difference(plain, filled(-1, -1, 1).run()), "");
  EXPECT_EQ(difference(plain, filled(1, 4, 0.25).run()), "");
  EXPECT_NE(difference(plain, filled(1, 2, 1).run()), "");
  const Fill zero = [](const At &) { return 0; };
  EXPECT_EQ(difference(base().additive().fill("vector", zero).run(), base().fill("q", zero).run()),
            "");
}

// Padding with zeros changes no sum; the scale is that of the true dim.
TEST_P(Relation, AnyDimIsThatDimFilledUpWithZeros) {
  for (int64_t dim : {1, 5, 12, 63}) {
    for (uint32_t type : {FOVEA_F32, FOVEA_F16, FOVEA_I8}) {
      const int64_t padded = (dim + 7) / 8 * 8;
      const auto fill = [=](const At &at) {
        return at.d < dim ? double((7 * at.i + 3 * at.h + 5 * at.d + at.i * at.d) % 17 - 8) / 4 : 0;
      };
      Attention own = base().dim(dim).types(FOVEA_F32, type, type, FOVEA_F32);
      Attention wide = base().dim(padded).types(FOVEA_F32, type, type, FOVEA_F32);
      for (Attention *a : {&own, &wide}) {
        a->scale(1 / std::sqrt(double(dim)));
        for (const char *which : {"q", "k", "v"}) a->fill(which, fill);
      }
      const Outcome a = own.run(), b = wide.run();
      for (int64_t h = 0; h < own.s.heads_q; ++h) {
        for (int64_t i = 0; i < own.s.len_q; ++i) {
          EXPECT_EQ(a.lse_at(0, i, h), b.lse_at(0, i, h)) << dim << " " << i << " " << h;
          for (int64_t d = 0; d < dim; ++d)
            EXPECT_EQ(a.bits(0, i, h, d), b.bits(0, i, h, d)) << dim << " " << i << " " << h;
        }
      }
    }
  }
}

// Rows past a length are padding: the others get what they get in a batch without them.
TEST_P(Relation, LengthsOfQueriesAreWhatFewerRowsAre) {
  for (int64_t rows : {0, 1, 3}) {
    const Outcome few = base().causal().spans().len_q(rows).run();
    const Outcome padded = base().causal().spans().q_lengths({rows}).run();
    EXPECT_EQ(difference(few, padded), "") << rows;
  }
}

// A span that begins where all keys begin shows what a prefix shows, and one around a row what a
// window shows.
TEST_P(Relation, SpansAreWhatPrefixesAndWindowsAre) {
  const auto spans = [this](uint32_t rule, int64_t begin, int64_t end) {
    return base().causal().spans(rule, [=](int64_t, int64_t) { return Span{begin, end}; });
  };
  const Outcome prefix = base().causal().prefix({70}).run();
  EXPECT_EQ(difference(prefix, spans(FOVEA_SPAN_BESIDES, INT32_MIN, 70).run()), "");
  EXPECT_EQ(difference(prefix, spans(FOVEA_SPAN_WITHIN, 0, 70).run()), "");
  const Outcome causal = base().causal().run();
  EXPECT_EQ(difference(causal, spans(FOVEA_SPAN_BESIDES, 70, 70).run()), "");
  EXPECT_EQ(difference(causal, spans(FOVEA_SPAN_BESIDES, 90, 20).run()), "");
  EXPECT_EQ(difference(causal, spans(FOVEA_SPAN_BESIDES, 0, 1).run()), "");
  EXPECT_EQ(difference(causal, spans(FOVEA_SPAN_WITHIN, 500, INT32_MAX).run()), "");
  const Outcome window = base().window(9, 5).run();
  EXPECT_EQ(difference(window, spans(FOVEA_SPAN_WITHIN, INT32_MIN, INT32_MAX).window(9, 5).run()),
            "");
  const auto around = [this](int64_t, int64_t row) {
    const int64_t position = 150 - base().s.len_q + row;
    return Span{position - 9, position + 6};
  };
  EXPECT_EQ(
      difference(window, base().causal().window(0, -1).spans(FOVEA_SPAN_BESIDES, around).run()),
      "");
}

TEST_P(Relation, EveryOptionHasAnEffect) {
  const Outcome plain = base().run();
  EXPECT_NE(difference(plain, base().causal().run()), "");
  EXPECT_NE(difference(plain, base().window(10, -1).run()), "");
  EXPECT_NE(difference(plain, base().softcap(0.5).run()), "");
  EXPECT_NE(difference(plain, base().alibi().run()), "");
  EXPECT_NE(difference(plain, base().sinks().run()), "");
  EXPECT_NE(difference(plain, base().bias().run()), "");
  EXPECT_NE(difference(plain, base().mask().run()), "");
  EXPECT_NE(difference(plain, base().distances(-7, 20).run()), "");
  EXPECT_NE(difference(base().bias().run(), base().bias().bias_scale().run()), "");
  EXPECT_NE(difference(plain, base().tree().run()), "");
  EXPECT_NE(difference(base().causal().run(), base().causal().spans().run()), "");
  EXPECT_NE(difference(plain, base().kv_first({1}).run()), "");
  EXPECT_NE(difference(plain, base().lengths({149}).run()), "");
  EXPECT_NE(difference(plain, base().scale(0.3).run()), "");
}

INSTANTIATE_TEST_SUITE_P(Devices, Relation, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

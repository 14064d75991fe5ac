// exact_oracle.cc - see exact_oracle.h.
#include "tests/support/exact_oracle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>

#include "tests/support/formats.h"

namespace fovea_test {
namespace {

// A problem laid out only for its geometry: which keys a row sees does not depend on numbers.
class Scene {
 public:
  explicit Scene(const Attention &a) : case_(a.s), geometry_(case_.args) {}
  const Geometry &geometry() const { return geometry_; }
  const std::vector<Sequence> &sequences() const { return geometry_.sequences(); }
  int64_t group() const { return std::max<int64_t>(geometry_.group(), 1); }
  bool sees(const Sequence &s, int64_t i, int64_t h, int64_t j) const {
    return geometry_.visible(s, i, h, j);
  }
  int64_t tag(const Sequence &s) const { return case_.tag(s.index); }

 private:
  const Case case_;
  const Geometry geometry_;
};

template <typename Visit>
void each_row(const Scene &scene, int64_t heads, Visit visit) {
  for (const Sequence &s : scene.sequences()) {
    for (int64_t i = 0; i < s.len_q; ++i) {
      for (int64_t h = 0; h < heads; ++h) visit(s, i, h);
    }
  }
}

std::string place_of(const Sequence &s, int64_t i, int64_t h) {
  return "sequence " + std::to_string(s.index) + ", row " + std::to_string(i) + ", head " +
         std::to_string(h) + "\n";
}

// ---- Needles

double code(int64_t number, int64_t bit) {
  return ((number >> bit) & 1) != 0 ? 8.0 : -8.0;
}

const int64_t kTileEdge = 64;  // keys of a tile; smaller tiles divide it

// The key that member `m` of a group looks for, if its row sees keys from `first` on and before
// `end`.
int64_t edge_key(int64_t m, int64_t first, int64_t end, uint64_t salt) {
  const int64_t border = std::max<int64_t>(end - 1, 0) / kTileEdge * kTileEdge;
  const int64_t edges[] = {first - 1, first, end - 1, end, border - 1, border};
  if (m < 6) return edges[m];
  return static_cast<int64_t>(salt % static_cast<uint64_t>(end + 2));
}

Target edge_targets(const Scene &scene, int64_t heads) {
  auto keys = std::make_shared<std::map<std::tuple<int64_t, int64_t, int64_t>, int64_t>>();
  each_row(scene, heads, [&](const Sequence &s, int64_t i, int64_t h) {
    int64_t first = 0, end = 0;
    for (int64_t j = 0; j < s.len_kv; ++j) {
      if (!scene.sees(s, i, h, j)) continue;
      if (end == 0) first = j;
      end = j + 1;
    }
    const uint64_t salt =
        mix(static_cast<uint64_t>(s.index), static_cast<uint64_t>(i), static_cast<uint64_t>(h));
    (*keys)[{scene.tag(s), i, h}] = edge_key(h % scene.group(), first, end, salt);
  });
  return [keys](int64_t tag, int64_t i, int64_t h) { return keys->at({tag, i, h}); };
}

void expect_needle(const Attention &a, const Outcome &outcome, int64_t bits, const Sequence &s,
                   int64_t i, int64_t h, int64_t key, bool visible) {
  const float hit = 64.0f * static_cast<float>(bits);
  const float miss = hit - 100.0f;  // 128 behind, less the logarithm of up to 2^40 keys
  const float lse = outcome.lse_at(s.index, i, h);
  if (!visible) {
    ASSERT_LT(lse, miss) << place_of(s, i, h) << "saw key " << key << "\n" << a.text();
    return;
  }
  ASSERT_EQ(lse, hit) << place_of(s, i, h) << "lost key " << key << "\n" << a.text();
  const int64_t tag = a.s.tags.empty() ? s.index : a.s.tags[static_cast<size_t>(s.index)];
  const int64_t kv_head = h / (a.s.heads_q / a.s.heads_kv);
  for (int64_t d = 0; d < outcome.dim_v; ++d) {
    // what a cache of 8 bits holds of it
    const double value = round_to(a.s.v_type, value_of({tag, key, kv_head, d}));
    ASSERT_EQ(outcome.at(s.index, i, h, d), value)
        << place_of(s, i, h) << "key " << key << ", column " << d << "\n"
        << a.text();
  }
}

}  // namespace

double value_of(const At &at) {
  return std::round(16.0 * normal(mix(static_cast<uint64_t>(at.tag), static_cast<uint64_t>(at.i),
                                      static_cast<uint64_t>(at.d), static_cast<uint64_t>(at.h))));
}

Attention with_needles(Attention a, int64_t bits, const Target &target) {
  a.scale(1.0);
  a.fill("q",
         [=](const At &at) { return at.d < bits ? code(target(at.tag, at.i, at.h), at.d) : 0.0; });
  a.fill("k", [=](const At &at) { return at.d < bits ? code(at.i, at.d) : 0.0; });
  a.fill("v", value_of);
  return a;
}

void expect_needles(const Attention &a, int64_t bits, const Ints &len_kv, const Target &target,
                    const Visible &visible) {
  const Scene scene(a);
  const Outcome outcome = with_needles(a, bits, target).run();
  each_row(scene, a.s.heads_q, [&](const Sequence &s, int64_t i, int64_t h) {
    if (testing::Test::HasFatalFailure()) return;
    const int64_t key = target(scene.tag(s), i, h);
    const bool exists = key >= 0 && key < len_kv[static_cast<size_t>(s.index)];
    expect_needle(a, outcome, bits, s, i, h, key, exists && visible(s.index, i, key));
  });
}

void expect_needles_at_edges(const Attention &a) {
  const Scene scene(a);
  const int64_t bits = std::min<int64_t>(a.s.dim, 16);
  const Target target = edge_targets(scene, a.s.heads_q);
  const Outcome outcome = with_needles(a, bits, target).run();
  each_row(scene, a.s.heads_q, [&](const Sequence &s, int64_t i, int64_t h) {
    if (testing::Test::HasFatalFailure()) return;
    const int64_t key = target(scene.tag(s), i, h);
    const bool exists = key >= 0 && key < s.len_kv;
    expect_needle(a, outcome, bits, s, i, h, key, exists && scene.sees(s, i, h, key));
  });
}

// ---- Counts

namespace {

// The first dim_v / 2 - 1 columns count keys by one modulus, the others by a second. These have no
// common divisor, so a shift of a row's keys by less than their product changes some count.
int64_t residue_of(int64_t key, int64_t column, int64_t dim_v) {
  const int64_t low = dim_v / 2 - 1, high = dim_v - low;
  return column < low ? (key % low == column) : (key % high == column - low);
}

void expect_count(const Attention &a, const Scene &scene, const Outcome &outcome, const Sequence &s,
                  int64_t i, int64_t h) {
  std::vector<int64_t> classes(static_cast<size_t>(outcome.dim_v), 0);
  int64_t keys = a.s.sinks ? 1 : 0;
  for (int64_t j = 0; j < s.len_kv; ++j) {
    if (!scene.sees(s, i, h, j)) continue;
    ++keys;
    for (int64_t d = 0; d < outcome.dim_v; ++d) {
      classes[static_cast<size_t>(d)] += residue_of(j, d, outcome.dim_v);
    }
  }
  const double lse = outcome.lse_at(s.index, i, h);
  ASSERT_FALSE(std::isnan(lse)) << place_of(s, i, h) << a.text();
  ASSERT_EQ(std::llround(std::exp(lse)), keys) << place_of(s, i, h) << a.text();
  for (int64_t d = 0; d < outcome.dim_v; ++d) {
    const double got = outcome.at(s.index, i, h, d) * static_cast<double>(keys);
    ASSERT_FALSE(std::isnan(got)) << place_of(s, i, h) << a.text();
    ASSERT_EQ(std::llround(got), classes[static_cast<size_t>(d)])
        << place_of(s, i, h) << "column " << d << " of " << keys << " keys\n"
        << a.text();
  }
}

}  // namespace

void expect_counts(const Attention &given) {
  Attention a = given;
  const int64_t dim_v = a.s.dim_v;
  a.fill("q", [](const At &) { return 0.0; });
  a.fill("v", [=](const At &at) { return static_cast<double>(residue_of(at.i, at.d, dim_v)); });
  a.fill("sink", [](const At &) { return 0.0; });  // counts as one more key
  const Scene scene(a);
  const Outcome outcome = a.run();
  each_row(scene, a.s.heads_q, [&](const Sequence &s, int64_t i, int64_t h) {
    if (!testing::Test::HasFatalFailure()) expect_count(a, scene, outcome, s, i, h);
  });
}

// ---- Powers of two

namespace {

enum { STEPS = 11, DEEPEST = 8 };  // weights are 2^-8 to 2^2

int64_t exponent_of(int64_t tag, int64_t key, int64_t kv_head, int64_t column) {
  return (key * 5 + column * 3 + tag * 2 + kv_head) % STEPS - DEEPEST;
}
double small_integer(const At &at) {
  return static_cast<double>((at.i * 7 + at.d + at.tag + 2 * at.h) % 9) - 4.0;
}

struct Sums {
  double weights = 0;
  std::vector<double> values, magnitudes;
};

Sums sum_powers(const Attention &a, const Scene &scene, const Sequence &s, int64_t i, int64_t h) {
  Sums sums;
  const size_t dim_v = static_cast<size_t>(a.s.dim_v);
  const int64_t tag = scene.tag(s), kv_head = h / scene.group();
  sums.values.assign(dim_v, 0.0);
  sums.magnitudes.assign(dim_v, 0.0);
  if (a.s.sinks) sums.weights = 1.0;
  for (int64_t j = 0; j < s.len_kv; ++j) {
    if (!scene.sees(s, i, h, j)) continue;
    const int64_t exponent = exponent_of(tag, j, kv_head, (i + h) % a.s.dim);
    const double p = std::ldexp(1.0, static_cast<int>(exponent));
    sums.weights += p;
    for (size_t d = 0; d < dim_v; ++d) {
      const double v = small_integer({tag, j, kv_head, static_cast<int64_t>(d)});
      sums.values[d] += p * v;
      sums.magnitudes[d] += p * std::fabs(v);
    }
  }
  return sums;
}

// The sums are exact except for F, the error of the arithmetic (judge.h, with N = 8). So out is the
// rounding of a number within F of the exact one.
void expect_powers_of_row(const Attention &a, const Scene &scene, const Outcome &outcome,
                          const Sequence &s, int64_t i, int64_t h) {
  const Sums sums = sum_powers(a, scene, s, i, h);
  const double lse = outcome.lse_at(s.index, i, h);
  const double size = DEEPEST * std::log(2.0);  // S
  const double expected = std::log(sums.weights);
  if (sums.weights == 0) {
    ASSERT_EQ(lse, -INFINITY) << place_of(s, i, h) << a.text();
  } else {
    ASSERT_NEAR(lse, expected, 0x1p-24 * (8 * (1 + size) + 4 * std::fabs(expected)))
        << place_of(s, i, h) << a.text();
  }
  for (size_t d = 0; d < sums.values.size(); ++d) {
    const double total = sums.weights == 0 ? 1.0 : sums.weights;
    const double exact = sums.values[d] / total;
    const double f = 8 * 0x1p-24 * (1 + size) * sums.magnitudes[d] / total;
    const double got = outcome.at(s.index, i, h, static_cast<int64_t>(d));
    ASSERT_GE(got, round_to(a.s.out_type, exact - f)) << place_of(s, i, h) << a.text();
    ASSERT_LE(got, round_to(a.s.out_type, exact + f)) << place_of(s, i, h) << a.text();
  }
}

}  // namespace

void expect_powers(const Attention &given) {
  Attention a = given;
  const int64_t dim = a.s.dim;
  a.scale(std::log(2.0));
  a.fill("q", [=](const At &at) { return at.d == (at.i + at.h) % dim ? 1.0 : 0.0; });
  a.fill("k",
         [](const At &at) { return static_cast<double>(exponent_of(at.tag, at.i, at.h, at.d)); });
  a.fill("v", small_integer);
  a.fill("sink", [](const At &) { return 0.0; });  // weighs 1
  const Scene scene(a);
  const Outcome outcome = a.run();
  each_row(scene, a.s.heads_q, [&](const Sequence &s, int64_t i, int64_t h) {
    if (!testing::Test::HasFatalFailure()) expect_powers_of_row(a, scene, outcome, s, i, h);
  });
}

void expect_exact(const Attention &a) {
  for (const auto expect : {expect_needles_at_edges, expect_counts, expect_powers}) {
    expect(a);
    if (testing::Test::HasFatalFailure()) return;
  }
}

// ---- Constant

void expect_constant(const Attention &given, double value) {
  Attention a = given;
  a.fill("v", [=](const At &) { return value; });
  const Outcome outcome = a.run();
  for (uint32_t bits : outcome.out) {
    const double got = decode(a.s.out_type, bits);
    ASSERT_TRUE(got == value || got == 0.0) << got << "\n" << a.text();
  }
  for (size_t n = 0; n < outcome.lse.size(); ++n) {
    const bool empty = std::isinf(decode(FOVEA_F32, outcome.lse[n]));
    const size_t first = n * static_cast<size_t>(outcome.dim_v);
    ASSERT_EQ(outcome.out[first] == 0, empty) << a.text();
  }
}

// ---- Rescale

Fill quarters(const char *salt, int exponent) {
  const uint64_t stream = static_cast<uint64_t>(salt[0]);
  return [=](const At &at) {
    const double x = normal(mix(stream, static_cast<uint64_t>(at.tag), static_cast<uint64_t>(at.i),
                                static_cast<uint64_t>(at.h), static_cast<uint64_t>(at.d)));
    return std::ldexp(std::round(x * 4.0) / 4.0, exponent);
  };
}

void expect_queries_keys_and_scale_trade_powers(const Attention &a) {
  const auto with = [&](int of_q, int of_k) {
    Attention scaled = a;
    scaled.scale(std::ldexp(0.25, -of_q - of_k));
    scaled.fill("q", quarters("q", of_q)).fill("k", quarters("k", of_k));
    return scaled.run();
  };
  const Outcome plain = with(0, 0);
  for (int of_q : {-3, 0, 5}) {
    for (int of_k : {-4, 2}) {
      EXPECT_EQ(difference(plain, with(of_q, of_k)), "") << of_q << " " << of_k << a.text();
    }
  }
}

void expect_values_carry_powers_into_out(const Attention &a) {
  const auto with = [&](int of_v) { return Attention(a).fill("v", quarters("v", of_v)).run(); };
  const Outcome plain = with(0);
  for (int of_v : {-2, 1, 6}) {
    const Outcome scaled = with(of_v);
    EXPECT_EQ(plain.lse, scaled.lse) << a.text();
    for (size_t n = 0; n < plain.out.size(); ++n) {
      const double before = decode(a.s.out_type, plain.out[n]);
      const double expected = std::ldexp(before, of_v);
      if (std::min(std::fabs(before), std::fabs(expected)) < 0x1p-14) continue;  // f16 is subnormal
      ASSERT_EQ(decode(a.s.out_type, scaled.out[n]), expected) << of_v << a.text();
    }
  }
}

}  // namespace fovea_test

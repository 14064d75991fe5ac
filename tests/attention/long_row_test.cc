// long_row_test.cc - rows of 10^5 keys and more, whose sums must be as exact as those of few keys.
//
// A library that has one f32 sum per row, or per stream, fails every kind except mixed signs.
// FOVEA_LONG_ROWS=N draws N rows of 10^5 to 10^6 keys for each device. Without it one row of each
// kind is drawn, with 20000 to 60000 keys.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>

#include "tests/attention/features.h"

namespace fovea_test {
namespace {

// What a row is made of: v, and the logit of each key (its q.k, since scale is 1).
struct Kind {
  const char *name;
  double (*logit)(int64_t key, double uniform, double strength);
  double (*value)(int64_t key, double uniform, double strength);
};

double flat(int64_t, double, double) {
  return 0;
}
double spread(int64_t, double uniform, double) {
  return 4 * uniform - 2;
}
double one_sign(int64_t, double uniform, double) {
  return uniform;
}
double mixed(int64_t, double uniform, double) {
  return 2 * uniform - 1;
}

const Kind kKinds[] = {
    {"one sign", spread, one_sign},
    {"mixed signs", spread, mixed},
    {"shifted", spread, [](int64_t, double u, double) { return 1000 + u; }},
    {"equal terms", flat, [](int64_t, double, double strength) { return 0.1 + strength; }},
    {"dominant key, faint tail",
     [](int64_t key, double, double strength) { return key ? 0 : 8 + 10 * strength; },
     [](int64_t key, double, double) { return key ? 1.0 : -1.0; }},
    {"dominant key at the end",
     [](int64_t key, double u, double strength) {
       return key % 50021 == 50020 ? 12 * strength : u;
     },
     one_sign},
    {"creeping maximum",
     [](int64_t key, double, double) { return 2e-8 * static_cast<double>(key); }, one_sign},
    {"climbing maximum",
     [](int64_t key, double, double strength) {
       return 1e-4 * strength * static_cast<double>(key);
     },
     one_sign},
    {"tiny values", spread, [](int64_t, double u, double) { return 1e-30 * u; }},
    {"huge values", spread, [](int64_t, double u, double) { return 1e30 * u; }},
    {"ascending values", spread,
     [](int64_t key, double, double) { return static_cast<double>(key) / 1e6; }},
};

struct Draw {
  const Kind *kind;
  int64_t keys, rows, dim_v;
  double strength;
};

Draw draw(uint64_t seed, int64_t least, int64_t most) {
  std::mt19937_64 random(seed);
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  Draw d;
  d.kind = &kKinds[seed % std::size(kKinds)];
  d.keys = static_cast<int64_t>(
      static_cast<double>(least) *
      std::pow(static_cast<double>(most) / static_cast<double>(least), uniform()));
  d.rows = random() % 4 ? 1 : 13;  // 1: a stream; 13: a tile even without PHASE
  d.dim_v = random() % 2 ? 8 : 16;
  d.strength = uniform();
  return d;
}

double uniform_of(uint64_t seed, int64_t key, int64_t column) {
  uint64_t x = seed * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(key) * 0xbf58476d1ce4e5b9u +
               static_cast<uint64_t>(column);
  x = (x ^ x >> 31) * 0x94d049bb133111ebu;
  x = (x ^ x >> 29) * 0xbf58476d1ce4e5b9u;
  return static_cast<double>((x ^ x >> 32) >> 11) * 0x1p-53;
}

// Without the reference, which takes a second for each row.
std::vector<Device> both_ways() {
  std::vector<Device> ways;
  for (const Device &device : devices()) {
    if (device.kind == FOVEA_DEVICE_CPU) ways.push_back(device);
  }
  return ways;
}

class LongRow : public testing::TestWithParam<Device> {};

TEST_P(LongRow, IsAsExactAsAShortOne) {
  const char *wish = std::getenv("FOVEA_LONG_ROWS");
  const uint64_t count = wish ? std::strtoull(wish, nullptr, 10) : std::size(kKinds);
  for (uint64_t seed = 1; seed <= count; ++seed) {
    const Draw d = draw(seed, wish ? 100000 : 20000, wish ? 1000000 : 60000);
    SCOPED_TRACE(std::string(d.kind->name) + ", seed " + std::to_string(seed) + ", keys " +
                 std::to_string(d.keys) + ", rows " + std::to_string(d.rows));
    Attention a = Attention().on(GetParam()).seed(seed).len_q(d.rows).len_kv(d.keys);
    a.heads(1, 1).dim(8).dim_v(d.dim_v).scale(1.0);
    a.fill("q", [](const At &at) { return at.d == 0 ? 1.0 : 0.0; });
    a.fill("k", [&](const At &at) {
      return at.d ? 0.0 : d.kind->logit(at.i, uniform_of(seed, at.i, -1), d.strength);
    });
    a.fill("v", [&](const At &at) {
      return d.kind->value(at.i, uniform_of(seed, at.i, at.d), d.strength);
    });
    a.expect_matches_oracle();
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, LongRow, testing::ValuesIn(both_ways()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

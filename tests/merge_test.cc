// merge_test.cc - fovea_merge against three judges: its own order of f32 operations written down
// element by element (same bits), the formula in double precision (a derived bound), and cases
// whose result is exact.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "handle_of.h"
#include "support/formats.h"

namespace fovea_test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr uint8_t kCanary = 0xa5;
constexpr double kU32 = 0x1p-24;

// ---- A case ----------------------------------------------------------------------------------

struct View {
  std::vector<uint8_t> memory;
  fovea_tensor shape = {};

  fovea_tensor tensor() {
    fovea_tensor t = shape;
    t.data = memory.data();
    return t;
  }
  uint8_t *at(int64_t b, int64_t i, int64_t h, int64_t d) {
    const int64_t index[4] = {b, i, h, d};
    int64_t offset = 0;
    for (int n = 0; n < 4; ++n) offset += shape.shape[n] == 1 ? 0 : index[n] * shape.stride[n];
    return memory.data() + offset * static_cast<int64_t>(size_of(shape.dtype));
  }
  float get(int64_t b, int64_t i, int64_t h, int64_t d) {
    return static_cast<float>(load(shape.dtype, at(b, i, h, d)));
  }
  void set(int64_t b, int64_t i, int64_t h, int64_t d, float value) {
    store_bits(shape.dtype, at(b, i, h, d), encode(shape.dtype, value));
  }
};

// Parts and results; copies have memory of their own. out_place and lse_place: which part the
// results replace, or -1.
struct Case {
  std::vector<View> outs, lses;
  View out, lse;
  int out_place = -1, lse_place = -1;
  bool wants_lse = true;

  View &result() { return out_place < 0 ? out : outs[static_cast<size_t>(out_place)]; }
  View &result_lse() { return lse_place < 0 ? lse : lses[static_cast<size_t>(lse_place)]; }
};

View view_of(uint32_t dtype, int64_t batch, int64_t rows, int64_t heads, int64_t dim,
             bool by_head) {
  View v;
  v.shape = fovea_contiguous(nullptr, static_cast<fovea_dtype>(dtype), batch, rows, heads, dim);
  if (by_head) {  // heads first, with a gap of 3 elements after each row
    v.shape.stride[1] = dim + 3;
    v.shape.stride[2] = rows * (dim + 3);
    v.shape.stride[0] = heads * rows * (dim + 3);
  }
  const int64_t elements = by_head ? batch * heads * rows * (dim + 3) : batch * heads * rows * dim;
  v.memory.assign(static_cast<size_t>(elements) * size_of(dtype), kCanary);
  return v;
}

struct Size {
  int64_t batch, rows, heads, dim;
};

Case make_case(size_t count, uint32_t dtype, Size s, bool by_head = false) {
  Case c;
  for (size_t n = 0; n < count; ++n) {
    c.outs.push_back(view_of(dtype, s.batch, s.rows, s.heads, s.dim, by_head && n % 2 == 0));
    c.lses.push_back(view_of(FOVEA_F32, s.batch, s.rows, s.heads, 1, by_head && n % 2 == 1));
  }
  c.out = view_of(dtype, s.batch, s.rows, s.heads, s.dim, by_head);
  c.lse = view_of(FOVEA_F32, s.batch, s.rows, s.heads, 1, by_head);
  return c;
}

template <class F>
void for_each_row(const fovea_tensor &t, F f) {
  for (int64_t b = 0; b < t.shape[0]; ++b) {
    for (int64_t i = 0; i < t.shape[1]; ++i) {
      for (int64_t h = 0; h < t.shape[2]; ++h) f(b, i, h);
    }
  }
}

void merge(Case *c, int threads = 1, fovea_device device = FOVEA_DEVICE_CPU) {
  std::vector<fovea_tensor> outs, lses;
  for (View &v : c->outs) outs.push_back(v.tensor());
  for (View &v : c->lses) lses.push_back(v.tensor());
  fovea_merge_args args = {};
  args.struct_size = sizeof args;
  args.count = static_cast<int32_t>(outs.size());
  args.outs = outs.data();
  args.lses = lses.data();
  args.out = c->result().tensor();
  if (c->wants_lse) args.lse = c->result_lse().tensor();
  EXPECT_EQ(fovea_merge(handle_of(device, threads), &args, nullptr), FOVEA_OK)
      << fovea_error_detail();
}

// One row of one element per part.
Case scalars(const std::vector<float> &lses, const std::vector<float> &values,
             uint32_t dtype = FOVEA_F32) {
  Case c = make_case(lses.size(), dtype, {1, 1, 1, 1});
  for (size_t n = 0; n < lses.size(); ++n) {
    c.lses[n].set(0, 0, 0, 0, lses[n]);
    c.outs[n].set(0, 0, 0, 0, values[n]);
  }
  return c;
}

// ---- Judges ----------------------------------------------------------------------------------

uint32_t canonical(uint32_t dtype, float value) {
  if (std::isnan(value)) return dtype == FOVEA_F32 ? 0x7fffffffu : 0x7fffu;
  return encode(dtype, value);
}

// The stated order, every operation rounded by itself.
struct Row {
  float m = -kInf, z = 0;
  bool empty = true;
};

Row row_by_steps(Case *c, int64_t b, int64_t i, int64_t h) {
  Row row;
  for (View &lse : c->lses) row.m = std::max(row.m, lse.get(b, i, h, 0));
  for (View &lse : c->lses) {
    if (lse.get(b, i, h, 0) == -kInf) continue;
    const volatile float shifted = lse.get(b, i, h, 0) - row.m;
    const volatile float sum = row.z + std::exp(static_cast<float>(shifted));
    row.z = sum;
    row.empty = false;
  }
  return row;
}

void merge_by_steps(Case *c) {
  std::vector<float> x(c->outs.size());
  for_each_row(c->out.shape, [&](int64_t b, int64_t i, int64_t h) {
    const Row row = row_by_steps(c, b, i, h);
    for (int64_t d = 0; d < c->out.shape.shape[3]; ++d) {
      volatile float a = 0;
      for (size_t n = 0; n < x.size(); ++n) {
        if (c->lses[n].get(b, i, h, 0) == -kInf) continue;
        const volatile float shifted = c->lses[n].get(b, i, h, 0) - row.m;
        const volatile float product =
            std::exp(static_cast<float>(shifted)) * c->outs[n].get(b, i, h, d);
        a = a + product;
      }
      const volatile float quotient = row.empty ? 0 : a / row.z;
      store_bits(c->out.shape.dtype, c->out.at(b, i, h, d),
                 canonical(c->out.shape.dtype, quotient));
    }
    if (!c->wants_lse) return;
    const volatile float lse = row.empty ? -kInf : row.m + std::log(row.z);
    store_bits(FOVEA_F32, c->lse.at(b, i, h, 0), canonical(FOVEA_F32, lse));
  });
}

// The formula in double, with what f32 may lose of it.
struct Exact {
  double m = -HUGE_VAL, z = 0, lost_z = 0;
};

// exp's argument is rounded (u32 * |argument|, which becomes a relative error of the weight), its
// result is within 1 ulp (2 u32), and each sum of `count` terms rounds count - 1 times. Second
// order terms are far below the doubling of the bound at its use.
double weight_loss(double shifted, size_t count) {
  return kU32 * (std::fabs(shifted) + 2 + static_cast<double>(count));
}

Exact exact_row(Case *c, int64_t b, int64_t i, int64_t h) {
  Exact e;
  for (View &lse : c->lses) e.m = std::max<double>(e.m, lse.get(b, i, h, 0));
  if (e.m == -HUGE_VAL) return e;
  for (View &lse : c->lses) {
    const double shifted = lse.get(b, i, h, 0) - e.m;
    if (shifted == -HUGE_VAL) continue;
    e.z += std::exp(shifted);
    e.lost_z += std::exp(shifted) * weight_loss(shifted, c->lses.size());
  }
  return e;
}

double worst_ratio(Case *c, int64_t b, int64_t i, int64_t h, int64_t d, const Exact &e) {
  const uint32_t dtype = c->out.shape.dtype;
  double a = 0, lost = 0;
  for (size_t n = 0; n < c->outs.size(); ++n) {
    const double shifted = c->lses[n].get(b, i, h, 0) - e.m;
    if (shifted == -HUGE_VAL) continue;
    const double term = std::exp(shifted) * c->outs[n].get(b, i, h, d);
    a += term;
    // 1 for the product. What underflows is at most the least subnormal times the value.
    lost += std::fabs(term) * (weight_loss(shifted, c->outs.size()) + kU32) +
            0x1p-149 * (1 + std::fabs(c->outs[n].get(b, i, h, d)));
  }
  const double out = a / e.z;
  const double f32_error = lost / e.z + std::fabs(out) * (e.lost_z / e.z + kU32);
  const double limit = 2 * f32_error + unit_roundoff(dtype) * std::fabs(out) + half_step(dtype);
  return std::fabs(c->result().get(b, i, h, d) - out) / limit;
}

double worst_lse_ratio(Case *c, int64_t b, int64_t i, int64_t h, const Exact &e) {
  const double lse = e.m + std::log(e.z);
  // log's own error is 1 ulp; then the sum is rounded.
  const double limit = 2 * (e.lost_z / e.z + 2 * kU32 * std::log(e.z)) + kU32 * std::fabs(lse);
  const double error = std::fabs(c->result_lse().get(b, i, h, 0) - lse);
  return error == 0 ? 0 : error / limit;
}

// Rows of ordinary parts, some of them empty, of widely different weight.
Case random_case(uint64_t seed) {
  std::mt19937_64 random(seed);
  auto below = [&](uint64_t n) { return static_cast<int64_t>(random() % n); };
  const uint32_t dtypes[3] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
  const Size size = {1 + below(2), 1 + below(5), 1 + below(3), 1 + below(seed % 7 ? 20 : 300)};
  Case c = make_case(static_cast<size_t>(2 + below(5)), dtypes[below(3)], size, below(2) == 0);
  if (below(3) == 0) {  // parts of another type than the result
    for (View &out : c.outs) {
      out = view_of(dtypes[below(3)], size.batch, size.rows, size.heads, size.dim, false);
    }
  }
  const double spread = std::ldexp(1.0, static_cast<int>(below(9)) - 3);
  for (size_t n = 0; n < c.outs.size(); ++n) {
    for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
      const bool empty = below(6) == 0;
      const double lse = 3 + spread * (static_cast<double>(below(2001)) - 1000) / 1000;
      c.lses[n].set(b, i, h, 0, empty ? -kInf : static_cast<float>(lse));
      for (int64_t d = 0; d < size.dim; ++d) {
        const double value = (static_cast<double>(below(200001)) - 100000) / 9973;
        c.outs[n].set(b, i, h, d, empty ? NAN : static_cast<float>(value));
      }
    });
  }
  c.wants_lse = below(8) != 0;
  return c;
}

// ---- Tests -----------------------------------------------------------------------------------

TEST(Merge, TakesItsStepsInTheStatedOrder) {
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    Case expected = random_case(seed), actual = expected;
    merge_by_steps(&expected);
    merge(&actual, 1, seed % 4 ? FOVEA_DEVICE_CPU : FOVEA_DEVICE_REFERENCE);
    ASSERT_EQ(expected.out.memory, actual.out.memory) << "seed " << seed;  // the gaps as well
    ASSERT_EQ(expected.lse.memory, actual.lse.memory) << "seed " << seed;
  }
}

TEST(Merge, StaysWithinTheErrorOfItsOperations) {
  double worst = 0, worst_lse = 0;
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    Case c = random_case(seed);
    c.wants_lse = true;
    merge(&c);
    for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
      const Exact e = exact_row(&c, b, i, h);
      if (e.z == 0) return;  // an empty row; those have tests of their own
      for (int64_t d = 0; d < c.out.shape.shape[3]; ++d) {
        const double ratio = worst_ratio(&c, b, i, h, d, e);
        ASSERT_LE(ratio, 1) << "seed " << seed << " at " << b << " " << i << " " << h << " " << d;
        worst = std::max(worst, ratio);
      }
      const double ratio = worst_lse_ratio(&c, b, i, h, e);
      ASSERT_LE(ratio, 1) << "seed " << seed << " lse at " << b << " " << i << " " << h;
      worst_lse = std::max(worst_lse, ratio);
    });
  }
  // The bound is not so wide that it says nothing.
  EXPECT_GT(worst, 0.3);
  EXPECT_GT(worst_lse, 0.1);
}

TEST(Merge, GivesTheMeanOfEqualPartsExactly) {
  for (uint32_t dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    for (int count : {2, 4, 8, 16}) {
      std::vector<float> lses(static_cast<size_t>(count), -17.25f), values;
      float sum = 0;
      for (int n = 0; n < count; ++n) {
        values.push_back(static_cast<float>(n * n % 7 - 3));
        sum += values.back();
      }
      Case c = scalars(lses, values, dtype);
      merge(&c);
      EXPECT_EQ(c.out.get(0, 0, 0, 0), sum / static_cast<float>(count));
      EXPECT_EQ(c.lse.get(0, 0, 0, 0), -17.25f + std::log(static_cast<float>(count)));
    }
  }
}

// A part as attention reports it: empty ones hold garbage.
struct Part {
  const char *name;
  float lse, value;
};
const Part kParts[] = {{"empty", -kInf, NAN},
                       {"finite", 1.5f, 10.0f},
                       {"huge", 3e38f, -20.0f},
                       {"tiny", -3e38f, 40.0f}};

TEST(Merge, OfTwoPartsKeepsTheHeavierWhateverTheOtherHolds) {
  for (const Part &a : kParts) {
    for (const Part &b : kParts) {
      Case c = scalars({a.lse, b.lse}, {a.value, b.value});
      merge(&c);
      const Part &heavier = a.lse >= b.lse ? a : b;
      const bool empty = heavier.lse == -kInf;
      // Alike: half and half, and log(2) more, which is lost beside 3e38.
      const float lse = a.lse == b.lse && !empty ? a.lse + std::log(2.0f) : heavier.lse;
      EXPECT_EQ(c.out.get(0, 0, 0, 0), empty ? 0 : heavier.value) << a.name << " " << b.name;
      EXPECT_EQ(c.lse.get(0, 0, 0, 0), lse) << a.name << " " << b.name;
    }
  }
}

TEST(Merge, OfEmptyPartsIsZeroAndMinusInfinity) {
  for (uint32_t dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    Case c = scalars({-kInf, -kInf, -kInf}, {NAN, kInf, 5}, dtype);
    merge(&c);
    EXPECT_EQ(load_bits(dtype, c.out.at(0, 0, 0, 0)), 0u);  // not -0
    EXPECT_EQ(c.lse.get(0, 0, 0, 0), -kInf);
  }
}

TEST(Merge, ReturnsTheOnlyPartThatIsNotEmptyBitByBit) {
  for (int which = 0; which < 3; ++which) {
    std::vector<float> lses(3, -kInf), values(3, NAN);
    lses[static_cast<size_t>(which)] = 0.123f;
    values[static_cast<size_t>(which)] = 0.456f;
    Case c = scalars(lses, values);
    merge(&c);
    EXPECT_EQ(c.out.get(0, 0, 0, 0), 0.456f);
    EXPECT_EQ(c.lse.get(0, 0, 0, 0), 0.123f);
  }
}

TEST(Merge, GivesTheOneNaNForALseOfNaNOrInfinity) {
  for (float bad : {NAN, -NAN, kInf}) {
    for (float other : {-kInf, 0.0f, 3e38f, kInf, NAN}) {
      for (int first = 0; first < 2; ++first) {
        Case c = scalars({first ? bad : other, first ? other : bad}, {1, 2});
        merge(&c);
        EXPECT_EQ(load_bits(FOVEA_F32, c.out.at(0, 0, 0, 0)), 0x7fffffffu) << bad << other;
        EXPECT_EQ(load_bits(FOVEA_F32, c.lse.at(0, 0, 0, 0)), 0x7fffffffu) << bad << other;
      }
    }
  }
}

TEST(Merge, RoundsToTheTypeOfOutOnceAndOverflowsToInfinity) {
  Case c = scalars({0, 0}, {65504.0f, 65537.0f});
  c.out = view_of(FOVEA_F16, 1, 1, 1, 1, false);
  merge(&c);
  EXPECT_EQ(load_bits(FOVEA_F16, c.out.at(0, 0, 0, 0)), 0x7c00u);  // 65520.5
  c.outs[1].set(0, 0, 0, 0, 65533.0f);
  merge(&c);
  EXPECT_EQ(load_bits(FOVEA_F16, c.out.at(0, 0, 0, 0)), 0x7bffu);  // 65518.5
}

TEST(Merge, InPlaceGivesTheBitsThatItGivesElsewhere) {
  const Size size = {2, 3, 2, 200};
  for (uint32_t dtype : {FOVEA_F32, FOVEA_BF16}) {
    Case c = make_case(3, dtype, size, true);
    std::mt19937_64 random(5);
    for (size_t n = 0; n < 3; ++n) {
      for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
        c.lses[n].set(b, i, h, 0, static_cast<float>(random() % 1000) / 100);
        for (int64_t d = 0; d < size.dim; ++d) {
          c.outs[n].set(b, i, h, d, static_cast<float>(random() % 1000) / 100 - 5);
        }
      });
    }
    Case apart = c;
    merge(&apart);
    for (int place = 0; place < 9; ++place) {
      Case within = c;
      within.out_place = place % 3;
      within.lse_place = place / 3;
      merge(&within);
      for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
        ASSERT_EQ(within.result_lse().get(b, i, h, 0), apart.lse.get(b, i, h, 0));
        for (int64_t d = 0; d < size.dim; ++d) {
          ASSERT_EQ(within.result().get(b, i, h, d), apart.out.get(b, i, h, d)) << place;
        }
      });
    }
  }
}

TEST(Merge, TakesAPartThatBroadcasts) {
  Case c = make_case(2, FOVEA_F32, {1, 3, 2, 8});
  for (View &out : c.outs) std::fill(out.memory.begin(), out.memory.end(), 0);
  for (View &lse : c.lses) std::fill(lse.memory.begin(), lse.memory.end(), 0);
  for (int64_t d = 0; d < 8; ++d) c.outs[1].set(0, 0, 0, d, static_cast<float>(2 * d));
  c.outs[1].shape.stride[1] = c.outs[1].shape.stride[2] = 0;
  c.lses[1].shape.stride[1] = 0;
  merge(&c);
  for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
    for (int64_t d = 0; d < 8; ++d) EXPECT_EQ(c.out.get(b, i, h, d), static_cast<float>(d));
  });
}

TEST(Merge, HasNothingToDoWhereAnExtentIsZero) {
  for (int extent = 0; extent < 3; ++extent) {
    Size size = {2, 2, 2, 8};
    (extent == 0 ? size.batch : extent == 1 ? size.rows : size.heads) = 0;
    Case c = make_case(2, FOVEA_F32, size);
    merge(&c);
  }
  Case c = make_case(2, FOVEA_F16, {2, 2, 2, 0});
  for (View &lse : c.lses) std::fill(lse.memory.begin(), lse.memory.end(), 0);
  merge(&c);
  EXPECT_EQ(c.lse.get(1, 1, 1, 0), std::log(2.0f));  // the lse has rows all the same
  const int64_t most = std::numeric_limits<int32_t>::max();
  fovea_tensor outs[2], lses[2];
  float zero[2] = {0, 0};
  for (int n = 0; n < 2; ++n) {
    outs[n] = fovea_contiguous(nullptr, FOVEA_F32, most, most, most, 0);
    lses[n] = fovea_contiguous(&zero[n], FOVEA_F32, most, most, most, 1);
    for (int i = 0; i < 3; ++i) outs[n].stride[i] = lses[n].stride[i] = 0;
  }
  fovea_merge_args args = {};
  args.struct_size = sizeof args;
  args.count = 2;
  args.outs = outs;
  args.lses = lses;
  args.out = outs[0];
  EXPECT_EQ(fovea_merge(handle_of(FOVEA_DEVICE_CPU, 1), &args, nullptr), FOVEA_OK)
      << fovea_error_detail();
}

// Rows on both sides of 2^32 elements, in address space without memory behind it.
TEST(Merge, CountsOffsetsIn64Bits) {
  const int64_t stride = (INT64_C(1) << 30) + 64;
  const size_t bytes = static_cast<size_t>(4 * stride + 64) * sizeof(float);
  void *memory = mmap(nullptr, 3 * bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  float *base[3], lse_values[5] = {0, 0, 0, 0, 0};
  fovea_tensor views[3];
  const fovea_tensor lse = fovea_contiguous(lse_values, FOVEA_F32, 1, 5, 1, 1);
  const fovea_tensor lses[2] = {lse, lse};
  for (int n = 0; n < 3; ++n) {
    base[n] =
        reinterpret_cast<float *>(static_cast<char *>(memory) + static_cast<size_t>(n) * bytes);
    views[n] = fovea_contiguous(base[n], FOVEA_F32, 1, 5, 1, 8);
    views[n].stride[1] = stride;
    for (int64_t i = 0; i < 5 && n < 2; ++i)
      base[n][i * stride + 7] = static_cast<float>(n + 2 * i);
  }
  fovea_merge_args args = {};
  args.struct_size = sizeof args;
  args.count = 2;
  args.outs = views;
  args.lses = lses;
  args.out = views[2];
  EXPECT_EQ(fovea_merge(handle_of(FOVEA_DEVICE_CPU, 1), &args, nullptr), FOVEA_OK)
      << fovea_error_detail();
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(base[2][i * stride + 7], 0.5f + 2 * static_cast<float>(i));
  }
  munmap(memory, 3 * bytes);
}

TEST(Merge, GivesTheSameBitsOnAnyNumberOfThreads) {
  Case c = make_case(4, FOVEA_F16, {3, 67, 5, 24}, true);
  std::mt19937_64 random(9);
  for (size_t n = 0; n < 4; ++n) {
    for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
      c.lses[n].set(b, i, h, 0, static_cast<float>(random() % 1000) / 50);
      for (int64_t d = 0; d < 24; ++d) {
        c.outs[n].set(b, i, h, d, static_cast<float>(random() % 1000) / 100 - 5);
      }
    });
  }
  Case one = c;
  merge_by_steps(&one);
  for (int threads = 1; threads <= 4; ++threads) {
    Case many = c;
    merge(&many, threads);
    EXPECT_EQ(many.out.memory, one.out.memory) << threads;
    EXPECT_EQ(many.lse.memory, one.lse.memory) << threads;
  }
}

}  // namespace
}  // namespace fovea_test

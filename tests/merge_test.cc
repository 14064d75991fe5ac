// merge_test.cc - fovea_merge against three judges: the same operations element by element (same
// bits), the formula in double precision (a derived bound), and cases whose result is exact.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/handle_of.h"
#include "tests/merge_case.h"

namespace fovea_test {
namespace {

using namespace merges;

TEST(Merge, TakesItsStepsInTheStatedOrder) {
  for (uint64_t seed = 0; seed < 1500; ++seed) {
    Case expected = random_case(seed), actual = expected;
    merge_by_steps(&expected);
    merge(&actual, 1, seed % 4 ? FOVEA_DEVICE_CPU : FOVEA_DEVICE_REFERENCE);
    ASSERT_EQ(expected.out.memory, actual.out.memory) << "seed " << seed;  // gaps included
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
      const Ratios ratios = worst_ratios(&c, b, i, h);
      ASSERT_LE(ratios.out, 1) << "seed " << seed << " at " << b << " " << i << " " << h;
      ASSERT_LE(ratios.lse, 1) << "seed " << seed << " lse at " << b << " " << i << " " << h;
      worst = std::max(worst, ratios.out);
      worst_lse = std::max(worst_lse, ratios.lse);
    });
  }
  // The bound must not be so wide that it says nothing.
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
      EXPECT_EQ(c.lse.get(0, 0, 0, 0), static_cast<float>(-17.25 + std::log(count)));
    }
  }
}

// A chain of f32 sums is off by 1.7e-4 here, because thousands of roundings go the same way.
TEST(Merge, OfManyPartsIsAsExactAsOfFew) {
  const size_t count = 20000;
  std::vector<float> lses(count, 3.0f), values(count, 0.1f);
  Case c = scalars(lses, values);
  merge(&c);
  EXPECT_EQ(c.out.get(0, 0, 0, 0), 0.1f);
  EXPECT_EQ(c.lse.get(0, 0, 0, 0), static_cast<float>(3 + std::log(20000.0)));
}

// Parts as attention reports them. An empty one may hold garbage.
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
      // Equal parts count half each, and lse grows by log(2), which is lost beside 3e38.
      const float lse =
          a.lse == b.lse && !empty ? static_cast<float>(a.lse + std::log(2.0)) : heavier.lse;
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
  EXPECT_EQ(c.lse.get(1, 1, 1, 0),
            static_cast<float>(std::log(2.0)));  // lse still has rows
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

// Rows lie on both sides of 2^32 elements, in address space that gets memory where it is touched.
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

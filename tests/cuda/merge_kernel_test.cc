// merge_kernel_test.cc - fovea_merge on CUDA, on any driver: compared with the formula in double
// under a derived bound, and in cases whose result is exact.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "cli/mirror/mirror.h"
#include "tests/handle_of.h"
#include "tests/merge_case.h"

namespace fovea_test::merges {
namespace {

class MergeKernel : public testing::Test {
 protected:
  void SetUp() override {
    usual_ = merge_call;
    merge_call = fv_mirror_merge;
    const std::string why = why_there_is_no(FOVEA_DEVICE_CUDA);
    if (!why.empty()) GTEST_SKIP() << why;
  }
  void TearDown() override { merge_call = usual_; }

 private:
  decltype(merge_call) usual_ = nullptr;
};

// CUDA's expf is within 2 ulp (CUDA Programming Guide, mathematical functions), ex2.approx 2^-22.
void merge_on_cuda(Case *c) {
  c->exp_ulps = 2;
  merge(c, 0, FOVEA_DEVICE_CUDA);
}

// What lies between the rows of a view: a copy of its memory in which the rows are zeros.
std::vector<uint8_t> gaps_of(View v) {
  for_each_row(v.shape, [&](int64_t b, int64_t i, int64_t h) {
    std::memset(v.at(b, i, h, 0), 0,
                static_cast<size_t>(v.shape.shape[3]) * size_of(v.shape.dtype));
  });
  return v.memory;
}

TEST_F(MergeKernel, StaysWithinTheErrorOfItsOperations) {
  double worst = 0, worst_lse = 0;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    Case c = random_case(seed);
    c.wants_lse = true;
    const Case before = c;
    merge_on_cuda(&c);
    for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
      const Ratios ratios = worst_ratios(&c, b, i, h);
      ASSERT_LE(ratios.out, 1) << "seed " << seed << " at " << b << " " << i << " " << h;
      ASSERT_LE(ratios.lse, 1) << "seed " << seed << " lse at " << b << " " << i << " " << h;
      worst = std::max(worst, ratios.out);
      worst_lse = std::max(worst_lse, ratios.lse);
    });
    ASSERT_FALSE(HasFailure());
    ASSERT_EQ(gaps_of(c.out), gaps_of(before.out)) << seed;
    ASSERT_EQ(gaps_of(c.lse), gaps_of(before.lse)) << seed;
  }
  // The bound is tight enough to mean something.
  EXPECT_GT(worst, 0.3);
  EXPECT_GT(worst_lse, 0.1);
}

// Rows are empty in all parts, or in all but one, and their outs hold NaN. The result is exact.
TEST_F(MergeKernel, LeavesOutPartsThatSawNothing) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Case c = random_case(seed);
    c.wants_lse = true;
    for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
      const size_t kept = static_cast<size_t>(b + i + h) % (c.outs.size() + 1);
      for (size_t n = 0; n < c.outs.size(); ++n) {
        if (n == kept) continue;
        c.lses[n].set(b, i, h, 0, -kInf);
        for (int64_t d = 0; d < c.out.shape.shape[3]; ++d) c.outs[n].set(b, i, h, d, NAN);
      }
    });
    Case expected = c;
    merge_by_steps(&expected);
    merge_on_cuda(&c);
    ASSERT_EQ(c.out.memory, expected.out.memory) << seed;
    ASSERT_EQ(c.lse.memory, expected.lse.memory) << seed;
  }
}

// With equal LSEs every weight is 1, so the result is exactly the mean. The numbers of parts are
// those at which the kernel rows begin and end.
TEST_F(MergeKernel, GivesTheMeanOfEqualPartsExactlyForAnyNumberOfParts) {
  for (uint32_t dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    for (size_t count : {2, 3, 8, 9, 16, 64, 65, 256, 448}) {
      Case c = make_case(count, dtype, {1, 3, 2, 24});
      for (size_t n = 0; n < count; ++n) {
        for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
          c.lses[n].set(b, i, h, 0, -17.25f);
          for (int64_t d = 0; d < 24; ++d) {
            c.outs[n].set(b, i, h, d,
                          static_cast<float>(static_cast<int64_t>(n) * (d + i) % 7 - h));
          }
        });
      }
      Case expected = c;
      merge_by_steps(&expected);
      merge_on_cuda(&c);
      ASSERT_EQ(c.out.memory, expected.out.memory) << count;
      for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
        // CUDA's logf is within 1 ulp of at most 6.1. Rounding the sum adds 2^-20 at most.
        EXPECT_NEAR(c.lse.get(b, i, h, 0), -17.25 + std::log(static_cast<double>(count)), 0x1p-19);
      });
    }
  }
}

TEST_F(MergeKernel, RefusesMorePartsThanItTakes) {
  const Case c = make_case(449, FOVEA_F32, {1, 1, 1, 8});
  std::vector<fovea_tensor> outs, lses;
  Case mine = c;
  for (View &v : mine.outs) outs.push_back(v.tensor());
  for (View &v : mine.lses) lses.push_back(v.tensor());
  fovea_merge_args args = {};
  args.struct_size = sizeof args;
  args.count = 449;
  args.outs = outs.data();
  args.lses = lses.data();
  args.out = mine.out.tensor();
  EXPECT_EQ(fovea_merge(handle_of(FOVEA_DEVICE_CUDA, 0), &args, nullptr), FOVEA_UNSUPPORTED);
  EXPECT_NE(std::string(fovea_error_detail()).find("more than 448 parts"), std::string::npos)
      << fovea_error_detail();
  EXPECT_EQ(mine.out.memory, c.out.memory);
}

TEST_F(MergeKernel, GivesTheOneNaNForALseOfNaNOrInfinity) {
  for (float bad : {NAN, -NAN, kInf}) {
    for (float other : {-kInf, 0.0f, 3e38f, kInf, NAN}) {
      for (int first = 0; first < 2; ++first) {
        Case c = scalars({first ? bad : other, first ? other : bad}, {1, 2});
        merge_on_cuda(&c);
        EXPECT_EQ(load_bits(FOVEA_F32, c.out.at(0, 0, 0, 0)), 0x7fffffffu) << bad << other;
        EXPECT_EQ(load_bits(FOVEA_F32, c.lse.at(0, 0, 0, 0)), 0x7fffffffu) << bad << other;
      }
    }
  }
}

TEST_F(MergeKernel, OfPartsFarApartKeepsTheHeavier) {
  for (float light : {-3e38f, -200.0f}) {
    Case c = scalars({light, 1.5f}, {40, 10});
    merge_on_cuda(&c);
    EXPECT_EQ(c.out.get(0, 0, 0, 0), 10.0f);
    EXPECT_EQ(c.lse.get(0, 0, 0, 0), 1.5f);
  }
}

TEST_F(MergeKernel, RoundsToTheTypeOfOutOnceAndOverflowsToInfinity) {
  Case c = scalars({0, 0}, {65504.0f, 65537.0f});
  c.out = view_of(FOVEA_F16, 1, 1, 1, 1, false);
  merge_on_cuda(&c);
  EXPECT_EQ(load_bits(FOVEA_F16, c.out.at(0, 0, 0, 0)), 0x7c00u);  // 65520.5
  c.outs[1].set(0, 0, 0, 0, 65533.0f);
  merge_on_cuda(&c);
  EXPECT_EQ(load_bits(FOVEA_F16, c.out.at(0, 0, 0, 0)), 0x7bffu);  // 65518.5
}

Case ordinary_case(Size size, uint32_t dtype) {
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
  return c;
}

// A row takes one lane, some lanes of a warp, or all of them more than once.
TEST_F(MergeKernel, InPlaceGivesTheBitsThatItGivesElsewhere) {
  for (int64_t dim : {5, 40, 600}) {
    const Size size = {2, 3, 2, dim};
    for (uint32_t dtype : {FOVEA_F32, FOVEA_BF16}) {
      Case c = ordinary_case(size, dtype), apart = c;
      merge_on_cuda(&apart);
      for (int place = 0; place < 9; ++place) {
        Case within = c;
        within.out_place = place % 3;
        within.lse_place = place / 3;
        merge_on_cuda(&within);
        for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
          ASSERT_EQ(within.result_lse().get(b, i, h, 0), apart.lse.get(b, i, h, 0));
          for (int64_t d = 0; d < size.dim; ++d) {
            ASSERT_EQ(within.result().get(b, i, h, d), apart.out.get(b, i, h, d)) << place;
          }
        });
      }
    }
  }
}

// Rows beyond what the grid takes at once, and rows whose neighbours end within a CTA.
TEST_F(MergeKernel, ChangesNoBitOfARowWithTheRowsAroundIt) {
  const Case many = ordinary_case({3, 67, 5, 24}, FOVEA_F16);
  Case whole = many;
  merge_on_cuda(&whole);
  for (int64_t row : {0, 31, 66}) {
    Case one = make_case(3, FOVEA_F16, {1, 1, 5, 24});
    Case from = many;
    for (size_t n = 0; n < 3; ++n) {
      for (int64_t h = 0; h < 5; ++h) {
        one.lses[n].set(0, 0, h, 0, from.lses[n].get(2, row, h, 0));
        for (int64_t d = 0; d < 24; ++d) {
          one.outs[n].set(0, 0, h, d, from.outs[n].get(2, row, h, d));
        }
      }
    }
    merge_on_cuda(&one);
    for (int64_t h = 0; h < 5; ++h) {
      EXPECT_EQ(one.lse.get(0, 0, h, 0), whole.lse.get(2, row, h, 0));
      for (int64_t d = 0; d < 24; ++d) {
        EXPECT_EQ(one.out.get(0, 0, h, d), whole.out.get(2, row, h, d)) << row << " " << h;
      }
    }
  }
}

TEST_F(MergeKernel, TakesPartsThatBroadcastAndNoLse) {
  Case c = make_case(2, FOVEA_F32, {1, 3, 2, 8});
  for (View &out : c.outs) std::fill(out.memory.begin(), out.memory.end(), 0);
  for (View &lse : c.lses) std::fill(lse.memory.begin(), lse.memory.end(), 0);
  for (int64_t d = 0; d < 8; ++d) c.outs[1].set(0, 0, 0, d, static_cast<float>(2 * d));
  c.outs[1].shape.stride[1] = c.outs[1].shape.stride[2] = 0;
  c.outs[0].shape.stride[0] = 123456789012;  // never used: the extent is 1
  c.lses[1].shape.stride[1] = 0;
  c.wants_lse = false;
  merge_on_cuda(&c);
  for_each_row(c.out.shape, [&](int64_t b, int64_t i, int64_t h) {
    for (int64_t d = 0; d < 8; ++d) EXPECT_EQ(c.out.get(b, i, h, d), static_cast<float>(d));
  });
}

TEST_F(MergeKernel, HasNothingToDoWhereAnExtentIsZero) {
  for (int extent = 0; extent < 4; ++extent) {
    int64_t shape[4] = {2, 2, 2, 8};
    shape[extent] = 0;
    Case c = make_case(2, FOVEA_F32, {shape[0], shape[1], shape[2], shape[3]});
    for (View &lse : c.lses) std::fill(lse.memory.begin(), lse.memory.end(), 0);
    merge_on_cuda(&c);
    if (extent == 3) {  // rows without elements still have their LSE, log 2
      EXPECT_NEAR(c.lse.get(1, 1, 1, 0), std::log(2.0), 0x1p-23);
    }
  }
}

}  // namespace
}  // namespace fovea_test::merges

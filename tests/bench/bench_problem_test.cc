// What the names of rows say and how much work is in a problem.
#include "bench_problem.h"

#include <gtest/gtest.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <set>
#include <string>

#include "bench_check.h"
#include "bench_grid.h"

namespace {

const char kName[] = "cpu/naive/prefill/batch:4/heads:8:2/len:64:96/dim:128/bf16/causal/warm";

fv_bench_problem problem(int64_t len_q, int64_t len_kv, bool causal) {
  fv_bench_problem made = {};
  made.batch = 2, made.heads_q = 8, made.heads_kv = 2, made.dim = 16;
  made.len_q = len_q, made.len_kv = len_kv;
  made.dtype = FOVEA_F32, made.causal = causal;
  return made;
}

// The header's rule, pair by pair.
int64_t count_pairs(const fv_bench_problem &p) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < p.len_q; ++i) {
    for (int64_t j = 0; j < p.len_kv; ++j) pairs += !p.causal || j <= p.len_kv - p.len_q + i;
  }
  return pairs;
}

TEST(BenchProblem, PairsAreThoseThatTheMaskLeaves) {
  for (int64_t len_q : {1, 2, 5, 8}) {
    for (int64_t len_kv : {1, 2, 5, 8, 13}) {
      for (bool causal : {false, true}) {
        fv_bench_problem p = problem(len_q, len_kv, causal);
        EXPECT_EQ(fv_bench_pairs(&p), count_pairs(p)) << len_q << " x " << len_kv << causal;
      }
    }
  }
}

TEST(BenchProblem, FlopsAreFourPerPairHeadAndDim) {
  fv_bench_problem p = problem(3, 3, true);
  EXPECT_EQ(fv_bench_flops(&p), 4.0 * 2 * 8 * 16 * 6);
}

TEST(BenchProblem, BytesAreThoseOfKeysAndValues) {
  fv_bench_problem p = problem(1, 10, false);
  EXPECT_EQ(fv_bench_kv_bytes(&p), 2.0 * 2 * 10 * 2 * 16 * 4);
  p.dtype = FOVEA_BF16;
  EXPECT_EQ(fv_bench_kv_bytes(&p), 2.0 * 2 * 10 * 2 * 16 * 2);
}

TEST(BenchProblem, NameIsReadBackAsItWasWritten) {
  fv_bench_row_key key;
  char name[FV_BENCH_NAME];
  ASSERT_TRUE(fv_bench_row_parse(kName, &key));
  EXPECT_STREQ(key.device, "cpu");
  EXPECT_STREQ(key.pipeline, "naive");
  EXPECT_EQ(key.problem.heads_kv, 2);
  EXPECT_EQ(key.problem.len_kv, 96);
  EXPECT_EQ(key.problem.dtype, FOVEA_BF16);
  EXPECT_TRUE(key.problem.causal);
  EXPECT_FALSE(key.problem.decode || key.problem.cold);
  fv_bench_row_name(&key, name);
  EXPECT_STREQ(name, kName);
}

TEST(BenchProblem, OtherNamesAreRefused) {
  fv_bench_row_key key;
  std::string good = kName;
  for (std::string bad : {std::string("BM_Sort/1024"), std::string(), good + "/9", good + " ",
                          good.substr(0, good.size() - 5), good.substr(4)}) {
    EXPECT_FALSE(fv_bench_row_parse(bad.c_str(), &key)) << bad;
  }
  for (const char *word : {"prefill", "bf16", "causal", "warm", "batch:4", "dim:128"}) {
    std::string bad = good;
    bad.replace(bad.find(word), strlen(word), "x");
    EXPECT_FALSE(fv_bench_row_parse(bad.c_str(), &key)) << bad;
  }
}

TEST(BenchGrid, HasEveryProblemOnceAndLeavesOutWarmCachesThatCannotHoldIt) {
  for (fv_bench_grid grid : {FV_BENCH_QUICK, FV_BENCH_DEFAULT, FV_BENCH_FULL}) {
    fv_bench_problems list = fv_bench_grid_problems(grid, 32 << 20);
    ASSERT_TRUE(list.at);
    std::set<std::string> names;
    for (size_t i = 0; i < list.count; ++i) {
      const fv_bench_problem &p = list.at[i];
      fv_bench_row_key key = {"cpu", "fovea", p};
      char name[FV_BENCH_NAME];
      fv_bench_row_name(&key, name);
      EXPECT_TRUE(names.insert(name).second) << name;
      EXPECT_EQ(p.heads_q % p.heads_kv, 0) << name;
      EXPECT_LE(fv_bench_kv_bytes(&p), 1 << 30) << name;
      if (p.decode && !p.cold) {
        EXPECT_LE(fv_bench_kv_bytes(&p), 16 << 20) << name;
      }
    }
    free(list.at);
  }
}

TEST(BenchGrid, FullReachesWhatItPromises) {
  fv_bench_problems list = fv_bench_grid_problems(FV_BENCH_FULL, 0);
  std::set<int64_t> dims, lengths, keys;
  std::set<int> dtypes;
  for (size_t i = 0; i < list.count; ++i) {
    dims.insert(list.at[i].dim);
    dtypes.insert(list.at[i].dtype);
    (list.at[i].decode ? keys : lengths).insert(list.at[i].len_kv);
  }
  free(list.at);
  EXPECT_EQ(dims, (std::set<int64_t>{32, 64, 128, 256}));
  EXPECT_EQ(dtypes, (std::set<int>{FOVEA_F32, FOVEA_F16, FOVEA_BF16}));
  EXPECT_EQ(*lengths.begin(), 128);
  EXPECT_EQ(*lengths.rbegin(), 16384);
  EXPECT_EQ(*keys.rbegin(), 65536);
}

TEST(BenchCheck, DistanceIsTheLargestAndNanIsInfinitelyFar) {
  float a[] = {1, 2, 3}, b[] = {1, 2.5, 2.75};
  EXPECT_EQ(fv_bench_distance(a, b, 3, FOVEA_F32), 0.5);
  b[0] = NAN;
  EXPECT_EQ(fv_bench_distance(a, b, 3, FOVEA_F32), INFINITY);
  uint16_t c[] = {0x3f80, 0x4000}, d[] = {0x3f80, 0x3f80}; /* 1, 2 and 1, 1 */
  EXPECT_EQ(fv_bench_distance(c, d, 2, FOVEA_BF16), 1);
}

// What a bench must notice: means of random numbers are 0.58 / sqrt(len) in size.
TEST(BenchCheck, AllowanceIsFarBelowWhatALostMaskOrKeyBlockDoes) {
  for (int64_t len : {128, 1024, 16384}) {
    fv_bench_problem p = problem(len, len, true);
    p.dim = 256;
    EXPECT_LT(fv_bench_allowance(&p), 0.58 / sqrt(static_cast<double>(len)));
    EXPECT_GT(fv_bench_allowance(&p), 1e-5);
  }
}

}  // namespace

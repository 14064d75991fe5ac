// The meaning of the names of rows, and the work of a problem.
#include "bench/problem/problem.h"

#include <gtest/gtest.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <set>
#include <string>
#include <vector>

#include "bench/measure/check.h"
#include "bench/problem/grid.h"
#include "bench/problem/index.h"

namespace {

const char kName[] = "cpu/naive/prefill/batch:4/heads:8:2/len:64:96/dim:128/bf16/causal/warm";
const char kServed[] =
    "cuda/fovea/mixed/batch:4/heads:8:2/len:64:96/page:16/dim:128/f16/causal/cold";

fv_bench_problem problem(int64_t len_q, int64_t len_kv, bool causal) {
  fv_bench_problem made = {};
  made.batch = 2, made.heads_q = 8, made.heads_kv = 2, made.dim = 16;
  made.len_q = len_q, made.len_kv = len_kv;
  made.dtype = FOVEA_F32, made.causal = causal;
  return made;
}

// Counts pair by pair, by the header's rule.
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
        EXPECT_EQ(fv_bench_pairs(&p, 1), count_pairs(p)) << len_q << " x " << len_kv << causal;
      }
    }
  }
}

TEST(BenchProblem, FlopsAreFourPerPairHeadAndDim) {
  fv_bench_problem p = problem(3, 3, true);
  EXPECT_EQ(fv_bench_flops(&p), 4.0 * 2 * 8 * 16 * 6);
}

fv_bench_problem served(fv_bench_kind kind, int64_t batch, int64_t len_q, int64_t len_kv) {
  fv_bench_problem made = problem(len_q, len_kv, kind != FV_BENCH_PAGED);
  made.batch = batch, made.kind = kind;
  if (kind != FV_BENCH_PACKED) made.page_len = 16;
  return made;
}

TEST(BenchProblem, UnequalSequencesBeginWithTheLongestAndAreSpreadEvenly) {
  for (int64_t longest : {1, 15, 16, 1000, 65536}) {
    fv_bench_problem p = served(FV_BENCH_PACKED, 256, longest, longest);
    EXPECT_EQ(fv_bench_keys_of(&p, 0), longest);
    int64_t longer_than_half = 0;
    for (int64_t s = 0; s < p.batch; ++s) {
      const int64_t keys = fv_bench_keys_of(&p, s);
      EXPECT_GE(keys, longest < 16 ? 1 : longest / 16);
      EXPECT_LE(keys, longest);
      EXPECT_EQ(fv_bench_rows_of(&p, s), keys);
      longer_than_half += 2 * keys > longest;
    }
    if (longest >= 1000) {
      EXPECT_NEAR(static_cast<double>(longer_than_half), 256 * 8.0 / 15, 3);
    }
  }
}

TEST(BenchProblem, AChunkBelongsToTheFirstSequenceAndEachOtherHasOneRow) {
  fv_bench_problem mixed = served(FV_BENCH_MIXED, 9, 32, 400);
  fv_bench_problem paged = served(FV_BENCH_PAGED, 9, 1, 400);
  EXPECT_EQ(fv_bench_rows(&mixed), 32 + 8);
  EXPECT_EQ(fv_bench_rows(&paged), 9);
  EXPECT_EQ(fv_bench_keys(&mixed), fv_bench_keys(&paged));
  EXPECT_EQ(fv_bench_rows_of(&mixed, 0), 32);
  EXPECT_EQ(fv_bench_rows_of(&mixed, 8), 1);
}

TEST(BenchProblem, WorkOfUnequalSequencesIsTheSumOfTheirs) {
  for (fv_bench_kind kind : {FV_BENCH_PACKED, FV_BENCH_PAGED, FV_BENCH_MIXED}) {
    const int64_t len_q = kind == FV_BENCH_PACKED ? 50 : kind == FV_BENCH_PAGED ? 1 : 20;
    fv_bench_problem p = served(kind, 5, len_q, 50);
    int64_t pairs = 0, keys = 0, pages = 0;
    for (int64_t s = 0; s < 5; ++s) {
      fv_bench_problem alone = problem(fv_bench_rows_of(&p, s), fv_bench_keys_of(&p, s), p.causal);
      pairs += count_pairs(alone);
      keys += alone.len_kv;
      pages += p.page_len ? (alone.len_kv + 15) / 16 : 0;
    }
    EXPECT_EQ(fv_bench_flops(&p), 4.0 * 8 * 16 * static_cast<double>(pairs));
    EXPECT_EQ(fv_bench_kv_bytes(&p), 2.0 * 2 * 16 * 4 * static_cast<double>(keys));
    EXPECT_EQ(fv_bench_pages(&p), pages);
  }
}

TEST(BenchIndex, EveryRowKeyAndPageBelongsToOneSequence) {
  for (fv_bench_kind kind : {FV_BENCH_PACKED, FV_BENCH_PAGED, FV_BENCH_MIXED}) {
    const int64_t len_q = kind == FV_BENCH_PACKED ? 300 : kind == FV_BENCH_PAGED ? 1 : 20;
    fv_bench_problem p = served(kind, 7, len_q, 300);
    const int64_t count = fv_bench_index_at(&p, nullptr).count;
    std::vector<int32_t> numbers(static_cast<size_t>(count) + 1, -77);
    fv_bench_index index = fv_bench_index_at(&p, numbers.data());
    fv_bench_index_fill(&index, &p);
    EXPECT_EQ(numbers.back(), -77);
    EXPECT_EQ(index.q_offsets != nullptr, kind != FV_BENCH_PAGED);
    EXPECT_EQ(index.kv_offsets != nullptr, kind == FV_BENCH_PACKED);
    EXPECT_EQ(index.page_ids != nullptr, kind != FV_BENCH_PACKED);
    std::set<int32_t> pages;
    int64_t in_order = 0;
    for (int64_t s = 0; s < p.batch; ++s) {
      if (index.q_offsets) {
        EXPECT_EQ(index.q_offsets[s + 1] - index.q_offsets[s], fv_bench_rows_of(&p, s));
      }
      if (index.kv_offsets) {
        EXPECT_EQ(index.kv_offsets[s + 1] - index.kv_offsets[s], fv_bench_keys_of(&p, s));
      }
      if (!index.page_ids) continue;
      EXPECT_EQ(index.kv_lengths[s], fv_bench_keys_of(&p, s));
      for (int64_t page = 0; page < index.row_stride; ++page) {
        const int32_t *id = &index.page_ids[s * index.row_stride + page];
        if (page >= fv_bench_pages_of(&p, s)) {
          EXPECT_EQ(*id, -1);
          continue;
        }
        EXPECT_TRUE(*id >= 0 && *id < index.pages && pages.insert(*id).second) << *id;
        in_order += page && id[0] == id[-1] + 1;
      }
    }
    EXPECT_EQ(static_cast<int64_t>(pages.size()), fv_bench_pages(&p));
    EXPECT_LE(in_order, index.pages / 8);
  }
}

TEST(BenchIndex, DenseTensorsNeedNone) {
  fv_bench_problem p = problem(1, 10, false);
  EXPECT_EQ(fv_bench_index_at(&p, nullptr).count, 0);
}

TEST(BenchProblem, AdditiveScoresAddQueriesToKeysBesides) {
  fv_bench_problem p = problem(7, 10, false);
  p.kind = FV_BENCH_ADDITIVE;
  EXPECT_EQ(fv_bench_flops(&p), 5.0 * 2 * 8 * 16 * 70);
  EXPECT_FALSE(fv_bench_is_decoding(&p));
  EXPECT_TRUE(fv_bench_is_dense(&p));
}

// A product of two additions and multiplications per weight of the four projections and token.
TEST(BenchProblem, LayersProjectBesides) {
  fv_bench_problem p = problem(10, 10, false);
  p.kind = FV_BENCH_LAYER;
  p.heads_kv = p.heads_q;
  const double model = static_cast<double>(p.heads_q * p.dim);
  const double tokens = 10 * static_cast<double>(p.batch);
  EXPECT_EQ(fv_bench_flops(&p), 4 * model * 10 * tokens + 4 * 2 * model * model * tokens);
  EXPECT_EQ(fv_bench_model(&p), p.heads_q * p.dim);
  EXPECT_TRUE(fv_bench_is_layer(&p) && !fv_bench_is_attention(&p) && fv_bench_is_dense(&p));
}

TEST(BenchProblem, LayersAreSquare) {
  fv_bench_row_key key;
  const std::string begin = "cpu/fovea/layer/batch:2/heads:8:", end = "/dim:64/f32/full/warm";
  EXPECT_TRUE(fv_bench_row_parse((begin + "8/len:9:9" + end).c_str(), &key));
  EXPECT_FALSE(fv_bench_row_parse((begin + "2/len:9:9" + end).c_str(), &key));
  EXPECT_FALSE(fv_bench_row_parse((begin + "8/len:9:10" + end).c_str(), &key));
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
  EXPECT_EQ(key.problem.kind, FV_BENCH_PREFILL);
  EXPECT_EQ(key.problem.page_len, 0);
  EXPECT_FALSE(key.problem.cold);
  fv_bench_row_name(&key, name);
  EXPECT_STREQ(name, kName);
  ASSERT_TRUE(fv_bench_row_parse(kServed, &key));
  EXPECT_EQ(key.problem.kind, FV_BENCH_MIXED);
  EXPECT_EQ(key.problem.page_len, 16);
  EXPECT_EQ(key.problem.dtype, FOVEA_F16);
  fv_bench_row_name(&key, name);
  EXPECT_STREQ(name, kServed);
}

TEST(BenchProblem, RowsThatDifferInKindOrPagesAloneAreNotTheSame) {
  fv_bench_row_key mixed, other;
  std::string name = kServed;
  ASSERT_TRUE(fv_bench_row_parse(kServed, &mixed));
  name.replace(name.find("page:16"), 7, "page:32");
  ASSERT_TRUE(fv_bench_row_parse(name.c_str(), &other));
  EXPECT_FALSE(fv_bench_problem_same(&mixed.problem, &other.problem));
  other = mixed;
  EXPECT_TRUE(fv_bench_problem_same(&mixed.problem, &other.problem));
  other.problem.kind = FV_BENCH_PAGED;
  EXPECT_FALSE(fv_bench_problem_same(&mixed.problem, &other.problem));
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

TEST(BenchProblem, NamesOfProblemsThatCannotBeAreRefused) {
  fv_bench_row_key key;
  const struct {
    const char *part, *instead;
  } changes[] = {{"/page:16", ""},       {"page:16", "page:0"},  {"page:16", "page:x"},
                 {"page:16", "page:-1"}, {"mixed", "prefill"},   {"mixed", "decode"},
                 {"mixed", "packed"},    {"mixed", "paged"},     {"len:64:96", "len:97:96"},
                 {"mixed", "unequal"},   {"page:16", "page:16x"}};
  for (const auto &change : changes) {
    std::string bad = kServed;
    bad.replace(bad.find(change.part), strlen(change.part), change.instead);
    EXPECT_FALSE(fv_bench_row_parse(bad.c_str(), &key)) << bad;
  }
  EXPECT_FALSE(fv_bench_row_parse(
      "cpu/fovea/packed/batch:4/heads:8:2/len:64:96/dim:128/f32/causal/warm", &key));
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
      EXPECT_TRUE(fv_bench_row_parse(name, &key)) << name;
      EXPECT_EQ(p.heads_q % p.heads_kv, 0) << name;
      EXPECT_LE(fv_bench_kv_bytes(&p), 1 << 30) << name;
      if (p.kind == FV_BENCH_DECODE && !p.cold) {
        EXPECT_LE(fv_bench_kv_bytes(&p), 16 << 20) << name;
      }
    }
    free(list.at);
  }
}

TEST(BenchGrid, FullReachesWhatItPromises) {
  fv_bench_problems list = fv_bench_grid_problems(FV_BENCH_FULL, 0);
  std::set<int64_t> dims, lengths, keys, units, layers;
  std::set<int> dtypes;
  for (size_t i = 0; i < list.count; ++i) {
    if (list.at[i].kind == FV_BENCH_ADDITIVE) {
      units.insert(list.at[i].dim);
      continue;
    }
    if (fv_bench_is_layer(&list.at[i])) {
      layers.insert(list.at[i].len_q);
      continue;
    }
    dims.insert(list.at[i].dim);
    dtypes.insert(list.at[i].dtype);
    if (!fv_bench_is_dense(&list.at[i])) continue;
    (list.at[i].kind == FV_BENCH_DECODE ? keys : lengths).insert(list.at[i].len_kv);
  }
  free(list.at);
  EXPECT_EQ(dims, (std::set<int64_t>{32, 64, 128, 256}));
  EXPECT_EQ(units, (std::set<int64_t>{128, 512}));
  EXPECT_EQ(*layers.begin(), 32);
  EXPECT_EQ(*layers.rbegin(), 4096);
  EXPECT_EQ(dtypes, (std::set<int>{FOVEA_F32, FOVEA_F16, FOVEA_BF16}));
  EXPECT_EQ(*lengths.begin(), 128);
  EXPECT_EQ(*lengths.rbegin(), 16384);
  EXPECT_EQ(*keys.rbegin(), 65536);
}

TEST(BenchGrid, EachHasEveryKindInEachDtype) {
  for (fv_bench_grid grid : {FV_BENCH_QUICK, FV_BENCH_DEFAULT, FV_BENCH_FULL}) {
    fv_bench_problems lists[] = {fv_bench_grid_problems(grid, 0),
                                 fv_bench_grid_cuda_problems(grid)};
    for (const fv_bench_problems &list : lists) {
      std::set<int> dtypes;
      std::set<std::pair<int, int>> both;
      for (size_t i = 0; i < list.count; ++i) {
        dtypes.insert(list.at[i].dtype);
        both.insert({list.at[i].kind, list.at[i].dtype});
      }
      free(list.at);
      const size_t absent = &list == &lists[1] ? 2 : 0;  // additive scores and layers on a GPU
      const size_t kinds = FV_BENCH_KINDS - absent;
      EXPECT_EQ(both.size(), kinds * dtypes.size());
    }
  }
}

TEST(BenchGrid, OfAGpuHasEveryProblemOnce) {
  for (fv_bench_grid grid : {FV_BENCH_QUICK, FV_BENCH_DEFAULT, FV_BENCH_FULL}) {
    fv_bench_problems list = fv_bench_grid_cuda_problems(grid);
    std::set<std::string> names;
    for (size_t i = 0; i < list.count; ++i) {
      fv_bench_row_key key = {"cuda", "fovea", list.at[i]};
      char name[FV_BENCH_NAME];
      fv_bench_row_name(&key, name);
      EXPECT_TRUE(names.insert(name).second) << name;
      EXPECT_TRUE(fv_bench_row_parse(name, &key)) << name;
    }
    free(list.at);
  }
}

TEST(BenchCheck, DistanceIsTheLargestAndNanIsInfinitelyFar) {
  float a[] = {1, 2, 3}, b[] = {1, 2.5, 2.75};
  EXPECT_EQ(fv_bench_distance(a, b, 3, FOVEA_F32), 0.5);
  b[0] = NAN;
  EXPECT_EQ(fv_bench_distance(a, b, 3, FOVEA_F32), INFINITY);
  uint16_t c[] = {0x3f80, 0x4000}, d[] = {0x3f80, 0x3f80}; /* 1, 2 and 1, 1 */
  EXPECT_EQ(fv_bench_distance(c, d, 2, FOVEA_BF16), 1);
}

// Means of random numbers have a size of 0.58 / sqrt(len). The benchmark must notice as much.
TEST(BenchCheck, AllowanceIsFarBelowWhatALostMaskOrKeyBlockDoes) {
  for (int64_t len : {128, 1024, 16384}) {
    fv_bench_problem p = problem(len, len, true);
    p.dim = 256;
    EXPECT_LT(fv_bench_allowance(&p), 0.58 / sqrt(static_cast<double>(len)));
    EXPECT_GT(fv_bench_allowance(&p), 1e-5);
  }
}

TEST(BenchCheck, TypicalDistanceTellsRightFromZeroWhereNoLargestDistanceCan) {
  fv_bench_problem p = problem(4096, 4096, false);
  p.dtype = FOVEA_BF16, p.dim = 64;
  // Means of 4096 uniform numbers are about 0.009, so zeros are within the largest distance.
  std::vector<uint16_t> right(1000), zero(1000), near;
  for (size_t i = 0; i < right.size(); ++i) {
    right[i] = static_cast<uint16_t>(0x3c13 + (i % 7) * 8 + (i % 2) * 0x8000);
  }
  near = right;
  for (uint16_t &code : near) code ^= 1;
  const int64_t count = static_cast<int64_t>(right.size());
  EXPECT_LT(fv_bench_distance(right.data(), zero.data(), count, FOVEA_BF16),
            fv_bench_allowance(&p) + fv_bench_score_allowance(&p));
  EXPECT_GT(fv_bench_typical_distance(right.data(), zero.data(), count, FOVEA_BF16),
            fv_bench_typical_allowance(&p));
  EXPECT_LT(fv_bench_typical_distance(right.data(), near.data(), count, FOVEA_BF16),
            fv_bench_typical_allowance(&p));
  near[17] = 0x7fc0;  // NaN
  EXPECT_EQ(fv_bench_typical_distance(right.data(), near.data(), count, FOVEA_BF16), INFINITY);
}

}  // namespace

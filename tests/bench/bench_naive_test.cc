// The opponent is right: it agrees with fovea, on shapes of the grid and on others.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "bench/measure/check.h"
#include "bench/measure/machine.h"
#include "bench/pipelines/blas.h"
#include "bench/pipelines/pipeline.h"
#include "bench/pipelines/vector.h"

namespace {

// fovea's own pipeline and the naive one, of attention or of layers.
std::vector<const fv_bench_pipeline *> pipelines_of(const fv_bench_problem &problem) {
  std::vector<const fv_bench_pipeline *> found;
  const fv_bench_pipeline *pipeline;
  for (int i = 0; (pipeline = fv_bench_pipeline_at(i)); ++i) {
    if (pipeline->covers && !pipeline->covers(&problem)) continue;
    if (!strcmp(pipeline->name, "fovea") || !strcmp(pipeline->name, "naive"))
      found.push_back(pipeline);
  }
  return found;
}

void expect_agreement(const fv_bench_problem &problem) {
  fv_bench_machine machine;
  fv_bench_tensors tensors;
  ASSERT_TRUE(fv_bench_machine_open(&machine, 2));
  ASSERT_TRUE(fv_bench_tensors_make(&tensors, &problem, machine.pool));
  size_t bytes = static_cast<size_t>(tensors.q_count * fv_bench_dtype_bytes(problem.dtype));
  std::vector<char> results[2];
  const auto pipelines = pipelines_of(problem);
  ASSERT_EQ(pipelines.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const fv_bench_pipeline *pipeline = pipelines[i];
    memset(tensors.out, 0xff, bytes);
    void *state = pipeline->open(&machine, &tensors);
    ASSERT_TRUE(state && pipeline->run(state));
    pipeline->close(state);
    const char *out = static_cast<const char *>(tensors.out);
    results[i].assign(out, out + bytes);
  }
  EXPECT_LE(fv_bench_distance(results[0].data(), results[1].data(), tensors.q_count, problem.dtype),
            fv_bench_allowance(&problem));
  EXPECT_LE(fv_bench_typical_distance(results[0].data(), results[1].data(), tensors.q_count,
                                      problem.dtype),
            fv_bench_typical_allowance(&problem));
  fv_bench_tensors_free(&tensors);
  fv_bench_machine_close(&machine);
}

TEST(BenchNaive, AgreesWithFovea) {
  for (fovea_dtype dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    for (int causal = 0; causal < 2; ++causal) {
      for (int64_t heads_kv : {1, 2, 4}) {
        expect_agreement(
            {2, 4, heads_kv, 70, 70, 0, 32, dtype, FV_BENCH_PREFILL, causal == 1, false});
        expect_agreement(
            {1, 4, heads_kv, 20, 75, 0, 64, dtype, FV_BENCH_PREFILL, causal == 1, false});
      }
      expect_agreement({1, 1, 1, 300, 300, 0, 32, dtype, FV_BENCH_PREFILL, causal == 1, false});
    }
    expect_agreement({3, 8, 2, 1, 333, 0, 64, dtype, FV_BENCH_DECODE, false, false});
    expect_agreement({3, 4, 4, 1, 333, 0, 64, dtype, FV_BENCH_DECODE, false, true});
  }
}

// Some batches have one sequence, some prompts have one token, and some pages are filled by no
// length. Some chunks are all of a cache, others leave many of its blocks unseen.
TEST(BenchNaive, AgreesWithFoveaOnUnequalSequences) {
  for (fovea_dtype dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    for (int64_t heads_kv : {1, 2, 4}) {
      for (int64_t batch : {1, 5}) {
        expect_agreement(
            {batch, 4, heads_kv, 150, 150, 0, 32, dtype, FV_BENCH_PACKED, true, false});
        expect_agreement({batch, 4, heads_kv, 1, 333, 16, 64, dtype, FV_BENCH_PAGED, false, true});
        expect_agreement({batch, 4, heads_kv, 70, 200, 7, 32, dtype, FV_BENCH_MIXED, true, true});
      }
    }
    expect_agreement({40, 4, 2, 9, 9, 0, 32, dtype, FV_BENCH_PACKED, false, false});
    expect_agreement({7, 8, 2, 30, 30, 16, 64, dtype, FV_BENCH_MIXED, true, true});
  }
}

TEST(BenchNaive, AgreesWithFoveaOnAdditiveScores) {
  for (fovea_dtype dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    for (int causal = 0; causal < 2; ++causal) {
      for (int64_t heads_kv : {1, 2, 4}) {
        for (int64_t rows : {1, 9, 70}) {
          expect_agreement(
              {2, 4, heads_kv, rows, 75, 0, 37, dtype, FV_BENCH_ADDITIVE, causal == 1, false});
        }
      }
    }
  }
}

TEST(BenchNaive, AgreesWithFoveaOnLayers) {
  for (fovea_dtype dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    for (int causal = 0; causal < 2; ++causal) {
      for (int64_t len : {1, 9, 70}) {
        expect_agreement({3, 4, 4, len, len, 0, 32, dtype, FV_BENCH_LAYER, causal == 1, false});
        expect_agreement({1, 8, 8, len, len, 0, 40, dtype, FV_BENCH_LAYER, causal == 1, false});
      }
    }
  }
}

// Projections have biases, and the variance that keeps a token's size.
TEST(BenchTensors, ProjectionsOfALayerKeepTheSizeOfTokens) {
  fv_bench_machine machine;
  fv_bench_tensors tensors;
  fv_bench_problem problem = {1, 4, 4, 8, 8, 0, 32, FOVEA_F32, FV_BENCH_LAYER, false, false};
  ASSERT_TRUE(fv_bench_machine_open(&machine, 1));
  ASSERT_TRUE(fv_bench_tensors_make(&tensors, &problem, machine.pool));
  const int64_t count = 4 * 128 * 129;
  ASSERT_EQ(fv_bench_projection_count(&problem), count);
  const auto *elements = static_cast<const float *>(tensors.projections);
  double squares = 0, biases = 0;
  for (int64_t i = 0; i < count; ++i) {
    squares += elements[i] * elements[i] / static_cast<double>(count);
    biases += i < 4 * 128 * 128 ? 0 : std::fabs(elements[i]);
  }
  EXPECT_NEAR(squares * 128, 1, 0.02);
  EXPECT_GT(biases, 1);
  fv_bench_tensors_free(&tensors);
  EXPECT_EQ(tensors.projections, nullptr);
  fv_bench_machine_close(&machine);
}

TEST(BenchVector, TanhIsThatOfDoublePrecision) {
  for (const float scale : {1e-6f, 1e-2f, 1.0f, 30.0f}) {
    for (int64_t count : {0, 1, 15, 16, 17, 40}) {
      std::vector<float> row(41), before(41);
      for (size_t i = 0; i < 41; ++i) before[i] = scale * std::sin(static_cast<float>(i));
      row = before;
      fv_bench_tanh(row.data(), count);
      for (int64_t n = 0; n < 41; ++n) {
        const size_t i = static_cast<size_t>(n);
        if (n >= count) {
          EXPECT_EQ(row[i], before[i]);
          continue;
        }
        /* The exponential is off by 3 u, and so are both sums; the division adds one. */
        EXPECT_NEAR(row[i], std::tanh(double{before[i]}), 8 * 0x1p-24) << scale << " " << i;
      }
    }
  }
}

TEST(BenchVector, SoftmaxIsThatOfDoublePrecisionAndHiddenKeysAreZero) {
  for (int64_t visible : {0, 1, 2, 15, 16, 17, 40}) {
    std::vector<float> row(40);
    std::vector<double> expected(40, 0.0);
    double sum = 0;
    for (size_t i = 0; i < 40; ++i) row[i] = 30 * std::sin(static_cast<float>(i));
    for (int64_t i = 0; i < visible; ++i) sum += std::exp(static_cast<double>(row[i]));
    for (int64_t i = 0; i < visible; ++i) expected[i] = std::exp(double{row[i]}) / sum;
    fv_bench_softmax(row.data(), visible, 40);
    for (size_t i = 0; i < 40; ++i) {
      /* An exponent of up to 60 is rounded by 60 u. The polynomial, the sum and 1 / sum add a few
       * u. */
      EXPECT_NEAR(row[i], expected[i], 100 * 0x1p-24 * expected[i] + 1e-30) << visible << " " << i;
    }
  }
}

TEST(BenchVector, SixteenBitValuesSurviveWideningAndNarrowing) {
  for (fovea_dtype dtype : {FOVEA_F16, FOVEA_BF16}) {
    std::vector<uint16_t> codes, back(65536);
    const uint32_t infinity = dtype == FOVEA_F16 ? 0x7c00 : 0x7f80;
    for (uint32_t code = 0; code < 65536; ++code) {
      if ((code & 0x7fff) < infinity) codes.push_back(static_cast<uint16_t>(code));
    }
    std::vector<float> wide(codes.size());
    int64_t count = static_cast<int64_t>(codes.size());
    fv_bench_widen(wide.data(), codes.data(), count, dtype);
    fv_bench_narrow(back.data(), wide.data(), count, dtype);
    back.resize(codes.size());
    EXPECT_EQ(back, codes);
  }
}

TEST(BenchBlas, KernelsOlderThanAvx2AreReplacedWhereTheProcessorHasMore) {
  EXPECT_STREQ(fv_bench_blas_better("Prescott", "avx512"), "SkylakeX");
  EXPECT_STREQ(fv_bench_blas_better("Sandybridge", "avx2"), "Haswell");
  EXPECT_FALSE(fv_bench_blas_better("Prescott", "portable"));
  EXPECT_FALSE(fv_bench_blas_better("Haswell", "avx512"));
  EXPECT_FALSE(fv_bench_blas_better("Zen", "avx2"));
}

}  // namespace

// criteria_test.cc - the program's judge (cli/judge/criteria.h), and the reference's rows that it
// relies on, against the tests' own oracle.
//
// Magnitudes, bounds and ratios are written a second time.
#include "cli/judge/criteria.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "csrc/check/check.h"
#include "csrc/host/element.h"
#include "csrc/reference/reference.h"
#include "tests/attention/features.h"

namespace fovea_test {
namespace {

// Both sides compute in double precision, with sums of at most 75 keys and logits below 2^10. Their
// difference stays far below 2^-30 of the magnitudes.
constexpr double kSame = 0x1p-30;

Device judged_device() {
  return device_named("cpu_portable");
}

fv_problem checked(const Case &problem) {
  fv_problem result;
  EXPECT_EQ(fv_check_attention(&problem.args, &result), FOVEA_OK) << fovea_error_detail();
  return result;
}

uint32_t probability_type(const fovea_attention_args &args) {
  const bool narrow = args.q.dtype == FOVEA_F16 || args.q.dtype == FOVEA_BF16;
  return narrow ? args.q.dtype : static_cast<uint32_t>(FOVEA_F32);
}

class EachFeature : public testing::TestWithParam<Feature> {};

// The reference's rows in the order of Truth: sequence, head, row.
std::vector<fv_reference_row> reference_rows(const fv_problem &problem, double weight_floor) {
  std::vector<fv_reference_row> rows;
  fv_sequence_cursor cursor = {};
  fv_sequence sequence;
  uint32_t errors = 0;
  while (fv_sequence_next(&problem, &cursor, &sequence)) {
    for (int64_t head = 0; head < problem.heads_q; ++head) {
      for (int64_t i = 0; i < sequence.len_q; ++i) {
        rows.emplace_back();
        fv_reference_attend(&problem, &sequence, i, head, weight_floor, &rows.back(), &errors);
      }
    }
  }
  return rows;
}

TEST_P(EachFeature, GivesTheReferenceTheMagnitudesOfTheOracle) {
  Case problem(base_of(GetParam(), judged_device()).s);
  const Truth truth = attend(problem.args);
  const uint32_t type = probability_type(problem.args);
  const auto rows =
      reference_rows(checked(problem), half_step_of_weights(type) / unit_roundoff(type));
  ASSERT_EQ(rows.size(), truth.rows.size());
  for (size_t n = 0; n < rows.size(); ++n) {
    const Row &expected = truth.rows[n];
    const fv_reference_row &got = rows[n];
    SCOPED_TRACE(testing::Message() << "sequence " << expected.sequence << ", row " << expected.i
                                    << ", head " << expected.h);
    if (expected.empty) {
      EXPECT_EQ(got.lse, expected.lse);
      continue;
    }
    EXPECT_NEAR(got.lse, expected.lse, kSame * (1 + expected.size));
    // The oracle leaves out logits too small to matter. ALiBi, additive scores and a scale above 1
    // make some.
    EXPECT_GE(got.logit, expected.size * (1 - kSame));
    const bool all_matter = problem.args.logits.alibi_slopes == nullptr && !expected.additive &&
                            problem.args.logits.scale <= 1;
    const double most = all_matter ? expected.size : INFINITY;
    EXPECT_LE(got.logit, most * (1 + kSame));
    EXPECT_GE(got.dot, expected.dot * (1 - kSame));
    EXPECT_LE(got.dot, (all_matter ? expected.dot : INFINITY) * (1 + kSame));
    EXPECT_EQ(got.visible, expected.keys);
    EXPECT_NEAR(got.sum, expected.lhat, kSame * expected.lhat);
    for (int64_t d = 0; d < truth.dim_v; ++d) {
      const size_t at = n * static_cast<size_t>(truth.dim_v) + static_cast<size_t>(d);
      const double size = truth.condition[at];
      EXPECT_NEAR(got.out[d], truth.out[at], kSame * size) << d;
      EXPECT_NEAR(got.magnitude[d], size, kSame * size) << d;
      EXPECT_NEAR(got.noise[d], truth.noise[at], kSame * size) << d;
      EXPECT_NEAR(got.spread[d], truth.sum_abs_v[at], kSame * truth.sum_abs_v[at]) << d;
      EXPECT_EQ(got.lowest[d], truth.lowest[at]) << d;
      EXPECT_EQ(got.highest[d], truth.highest[at]) << d;
    }
  }
}

// ---- Ratios ----

struct Ratios {
  double worst[FV_CRITERIA] = {};
  bool applies[FV_CRITERIA] = {};
  void note(fv_criterion c, double error, double bound) {
    applies[c] = true;
    worst[c] = std::max(worst[c], error == 0 ? 0 : error / bound);
  }
};

// The table of judge/criteria.h, computed from the oracle's magnitudes.
class Table {
 public:
  Table(const Case &problem, const Truth &truth, uint32_t weights_type)
      : args_(problem.args), truth_(truth), weights_(weights_type) {
    u_ = std::max(unit_roundoff(args_.out.dtype), unit_roundoff(weights_));
    for (size_t n = 0; n < truth.rows.size(); ++n) add_row(n);
    if (count_ >= 4096) {
      const double factor = fv_dtype_is_blocks(problem.args.v.dtype) ? 1 : 0.8;
      ratios.note(FV_C3, std::sqrt(e2_), norm_bound(factor, o2_, r2_, f2_, out_step_, count_));
    }
    if (weights_ == FOVEA_E4M3) ratios.note(FV_C6, std::sqrt(e2_), 0.04 * std::sqrt(o2_));
  }
  Ratios ratios;

 private:
  double norm_bound(double factor, double o2, double r2, double f2, double step, int64_t n) const {
    return factor * (u_ * std::sqrt(o2 + r2) + std::sqrt(f2)) +
           step * std::sqrt(static_cast<double>(n));
  }

  void add_row(size_t n) {
    const Row &row = truth_.rows[n];
    const double before[4] = {e2_, o2_, r2_, f2_};
    double widest = 0;
    for (int64_t d = 0; d < truth_.dim_v; ++d) widest = std::max(widest, add_element(n, d));
    count_ += truth_.dim_v;
    if (truth_.dim_v >= 64) {
      ratios.note(
          FV_C2, std::sqrt(e2_ - before[0]),
          norm_bound(1.5, o2_ - before[1], r2_ - before[2], f2_ - before[3], widest, truth_.dim_v));
    }
    if (args_.lse.dtype == FOVEA_NONE || row.empty) return;
    const double got = element(args_.lse, row.batch, row.row, row.h, 0);
    ratios.note(FV_C4, std::fabs(got - row.lse),
                0x1p-24 * (of_logits(row) + of_sums(row) + 4 * std::fabs(row.lse)));
  }

  // sum(n, blocks), L and N of judge/criteria.h.
  static double of_sum(int64_t terms, int64_t blocks) {
    return 2 + static_cast<double>(std::min(terms + 1, 64 + blocks) + 4) / 4;
  }
  double of_logits(const Row &row) const {
    const double tanhs = row.additive ? 8 * row.size : 0;
    return tanhs + std::max(8 * row.size,
                            of_sum(truth_.dim, weights_ == FOVEA_F32 ? 9 : truth_.dim) * row.dot);
  }
  static double of_sums(const Row &row) { return std::max(8.0, of_sum(row.keys, 8)); }

  void add_hull(const Row &row, size_t at, double got, double scale, double lost) {
    double low = truth_.lowest[at], high = truth_.highest[at];
    const double size = std::max(std::fabs(low), std::fabs(high));
    const double additions = 2 * static_cast<double>(std::min<int64_t>(row.keys, 72)) + 3;
    const double mean =
        (0x1p-24 * additions + (weights_ == FOVEA_F32 ? 0 : unit_roundoff(weights_))) * size;
    if (args_.out.dtype == FOVEA_E4M3) {
      low = std::clamp(low, -448 * std::fabs(scale), 448 * std::fabs(scale));
      high = std::clamp(high, -448 * std::fabs(scale), 448 * std::fabs(scale));
    }
    ratios.note(FV_C10, std::max({0.0, low - got, got - high}),
                mean + unit_roundoff(args_.out.dtype) * (size + mean) + lost);
  }

  // Returns the error that underflow may cause.
  double add_element(size_t n, int64_t d) {
    const Row &row = truth_.rows[n];
    const size_t at = n * static_cast<size_t>(truth_.dim_v) + static_cast<size_t>(d);
    const double scale = truth_.out_scale[at];
    const double got = element(args_.out, row.batch, row.row, row.h, d) * scale;
    double o = truth_.out[at];
    if (args_.out.dtype == FOVEA_E4M3) {
      o = std::clamp(o, -448 * std::fabs(scale), 448 * std::fabs(scale));
    }
    const double a = truth_.condition[at], r = truth_.noise[at], size = std::fabs(o);
    const double f = 0x1p-24 * (of_logits(row) + of_sums(row)) * a;
    const double step = half_step(args_.out.dtype) * std::fabs(scale);
    const double lost = step + (row.empty ? 0
                                          : (half_step_of_weights(weights_) * truth_.sum_abs_v[at] +
                                             0x1p-150 * static_cast<double>(row.keys)) /
                                                row.lhat);
    const double e = std::fabs(got - o);
    const double divided = weights_ == FOVEA_F32 ? 0 : 2 * size;
    const double c1 = u_ * (a + std::max(a, divided)) + f + lost;
    const double c1s = u_ * size + 4 * u_ * r + f + lost;
    add_hull(row, at, got, scale, lost);
    ratios.note(FV_C1, e, c1);
    ratios.note(FV_C1S, e, c1s);
    if (weights_ == FOVEA_F32) {
      const bool wide = args_.out.dtype == FOVEA_F32;
      const double rounding = wide ? 0 : unit_roundoff(args_.out.dtype) * (size + f) + step;
      ratios.note(FV_C5, std::max(0.0, e - rounding), f + lost);
    }
    if (weights_ == FOVEA_E4M3) ratios.note(FV_C6, e, a / 16 + lost);
    if (std::max(args_.k.dtype, args_.v.dtype) > FOVEA_BF16)
      ratios.note(FV_C7, e, std::min(c1, c1s));
    if (std::fabs(a - size) <= 0x1p-40 * a && args_.out.dtype != FOVEA_F32) {
      const double ulp = size > 0 ? 2 * u_ * std::exp2(std::floor(std::log2(size))) : 0;
      ratios.note(FV_C8, e, 2 * ulp + f + lost);
    }
    e2_ += e * e;
    o2_ += size * size;
    r2_ += r * r;
    f2_ += f * f;
    out_step_ = half_step(args_.out.dtype);
    return lost;
  }

  const fovea_attention_args &args_;
  const Truth &truth_;
  uint32_t weights_;
  double u_ = 0, e2_ = 0, o2_ = 0, r2_ = 0, f2_ = 0, out_step_ = 0;
  int64_t count_ = 0;
};

double floor_of(uint32_t weights_type) {
  return weights_type == FOVEA_F32
             ? 0
             : half_step_of_weights(weights_type) / unit_roundoff(weights_type);
}

// Takes R, S and M from the reference. The oracle's R knows only the type of q, but here the type
// is the judge's option. The oracle's S and M leave out keys that cannot matter. The test above
// compares both where they mean the same.
Truth truth_for_the_judge(const Case &problem, uint32_t weights_type) {
  Truth truth = attend(problem.args);
  const auto rows = reference_rows(checked(problem), floor_of(weights_type));
  const size_t width = static_cast<size_t>(truth.dim_v);
  for (size_t n = 0; n < rows.size(); ++n) {
    std::copy_n(rows[n].noise, width, truth.noise.begin() + static_cast<ptrdiff_t>(n * width));
    truth.rows[n].size = rows[n].logit;
    truth.rows[n].dot = rows[n].dot;
  }
  return truth;
}

void expect_ratios_of_the_table(const Case &problem, uint32_t weights_type) {
  const fv_problem checked_problem = checked(problem);
  fv_judge_options options = {};
  options.weights_dtype = weights_type;
  fv_verdict verdict = {};
  fv_judge_attention(&checked_problem, &options, &verdict, nullptr);
  const Truth truth = truth_for_the_judge(problem, weights_type);
  const Table table(problem, truth, weights_type);
  for (int c = 0; c < FV_CRITERIA; ++c) {
    const char *name = fv_criterion_name(static_cast<fv_criterion>(c));
    const double expected = table.ratios.worst[c];
    if (c != FV_C4) {  // noted for empty rows too
      EXPECT_EQ(verdict.applies[c], table.ratios.applies[c]) << name;
    }
    // An error is a difference of nearby numbers. Its bound is at least 2^-24 of their magnitude.
    // Relative to that bound, the rounding of doubles is below 2^-20.
    EXPECT_NEAR(verdict.worst[c], expected, 0x1p-20 * (1 + expected)) << name;
  }
  EXPECT_EQ(verdict.exempt, 0);
}

// Moves one stored number by `steps` units in its last place.
void disturb(const Case &problem, const Row &row, int64_t d, int32_t steps) {
  const fovea_tensor &out = problem.args.out;
  const int64_t at = fv_row_offset(&out, row.batch, row.row, row.h) + d;
  if (out.dtype == FOVEA_F32) static_cast<int32_t *>(out.data)[at] += steps;
  if (out.dtype == FOVEA_F16 || out.dtype == FOVEA_BF16)
    static_cast<int16_t *>(out.data)[at] += static_cast<int16_t>(steps);
  if (out.dtype == FOVEA_E4M3) static_cast<int8_t *>(out.data)[at] ^= 1;
}

TEST_P(EachFeature, IsJudgedByTheRatiosOfTheTable) {
  Case problem(base_of(GetParam(), judged_device()).s);
  ASSERT_EQ(problem.run(judged_device()).status, FOVEA_OK);
  for (const uint32_t type : {FOVEA_F32, FOVEA_F16, FOVEA_BF16, FOVEA_E4M3}) {
    SCOPED_TRACE(testing::Message() << "probabilities of type " << type);
    expect_ratios_of_the_table(problem, type);
  }
}

TEST_P(EachFeature, IsJudgedByTheRatiosOfTheTableWhenNumbersAreOff) {
  Case problem(base_of(GetParam(), judged_device()).s);
  ASSERT_EQ(problem.run(judged_device()).status, FOVEA_OK);
  const Truth truth = attend(problem.args);
  Choices choices(11);
  for (const Row &row : truth.rows) {
    if (row.empty) continue;
    const int64_t d = choices.below(truth.dim_v);
    disturb(problem, row, d, static_cast<int32_t>(1 + choices.below(9)));
  }
  expect_ratios_of_the_table(problem, FOVEA_F32);
  expect_ratios_of_the_table(problem, probability_type(problem.args));
}

INSTANTIATE_TEST_SUITE_P(Criteria, EachFeature, testing::ValuesIn(features()),
                         [](const auto &info) { return info.param.name; });

// ---- Problems written out ----

// One row of one head over `keys` contiguous keys. q, k and v are constants unless set.
struct OneRow {
  uint32_t dtype;
  int64_t keys, dim, dim_v;
  std::vector<float> q, k, v, out;
  float sink = -std::numeric_limits<float>::infinity();
  float out_scale = 0;  // none
  float lse = 0;        // none

  OneRow(uint32_t type, int64_t len, int64_t width, int64_t width_v)
      : dtype(type),
        keys(len),
        dim(width),
        dim_v(width_v),
        q(static_cast<size_t>(width)),
        k(static_cast<size_t>(len * width)),
        v(static_cast<size_t>(len * width_v)),
        out(static_cast<size_t>(width_v)) {}

  // The numbers that f32 has, as `dtype` stores them.
  std::vector<uint16_t> stored(const std::vector<float> &from) const {
    std::vector<uint16_t> to(2 * from.size());
    for (size_t i = 0; i < from.size(); ++i) {
      fv_store_f32(dtype, to.data(), static_cast<int64_t>(i), from[i]);
    }
    return to;
  }

  fv_verdict judged(fv_reference_row *row = nullptr) {
    std::vector<uint16_t> qs = stored(q), ks = stored(k), vs = stored(v), outs = stored(out);
    const auto type = static_cast<fovea_dtype>(dtype);
    fovea_attention_args args = {};
    args.struct_size = sizeof args;
    args.q = fovea_contiguous(qs.data(), type, 1, 1, 1, dim);
    args.k = fovea_contiguous(ks.data(), type, 1, keys, 1, dim);
    args.v = fovea_contiguous(vs.data(), type, 1, keys, 1, dim_v);
    args.out = fovea_contiguous(outs.data(), type, 1, 1, 1, dim_v);
    args.logits.sinks = &sink;
    if (lse != 0) args.lse = fovea_contiguous(&lse, FOVEA_F32, 1, 1, 1, 1);
    if (out_scale != 0) args.out_scale = fovea_contiguous(&out_scale, FOVEA_F32, 1, 1, 1, 1);
    fv_problem problem;
    EXPECT_EQ(fv_check_attention(&args, &problem), FOVEA_OK) << fovea_error_detail();
    fv_judge_options options = {};
    options.weights_dtype = dtype;
    fv_verdict verdict = {};
    fv_judge_attention(&problem, &options, &verdict, nullptr);
    fv_sequence_cursor cursor = {};
    fv_sequence sequence;
    uint32_t errors = 0;
    if (row != nullptr && fv_sequence_next(&problem, &cursor, &sequence)) {
      fv_reference_attend(&problem, &sequence, 0, 0, 0, row, &errors);
    }
    return verdict;
  }
};

TEST(Hull, ConvictsZerosWhereHugeLogitsLetEveryOtherBoundPass) {
  OneRow row(FOVEA_F16, 8, 128, 8);
  std::fill(row.q.begin(), row.q.end(), 8704.0f);
  std::fill(row.k.begin(), row.k.end(), 8704.0f);
  std::fill(row.v.begin(), row.v.end(), 1.5f);
  const fv_verdict zeros = row.judged();
  EXPECT_LE(zeros.worst[FV_C1], 1);
  EXPECT_GT(zeros.worst[FV_C10], 100);
  EXPECT_FALSE(fv_verdict_passes(&zeros));
  EXPECT_EQ(zeros.first_bad.criterion, FV_C10);
  EXPECT_EQ(zeros.first_bad.expected, 1.5);
  std::fill(row.out.begin(), row.out.end(), 1.5f);
  const fv_verdict right = row.judged();
  EXPECT_TRUE(fv_verdict_passes(&right));
}

TEST(Hull, EndsWhereAnOutputSaturates) {
  OneRow row(FOVEA_E4M3, 2, 16, 8);
  row.out_scale = 0.5f;  // nothing above 224 can be stored
  for (const float sign : {1.0f, -1.0f}) {
    std::fill(row.v.begin(), row.v.end(), sign * 448);
    std::fill(row.out.begin(), row.out.end(), sign * 448);
    const fv_verdict verdict = row.judged();
    EXPECT_TRUE(fv_verdict_passes(&verdict));
    EXPECT_EQ(verdict.worst[FV_C10], 0);
  }
}

TEST(Hull, HasNoKeyWhoseWeightIsZeroWhateverTheErrorsOfLogits) {
  fv_reference_row found;
  OneRow row(FOVEA_F32, 3, 16, 8);
  row.q[0] = 4;  // the scale is 1/4: logits are k
  for (size_t d = 0; d < 8; ++d) {
    row.v[d] = 1;
    row.v[8 + d] = 2;
    row.v[16 + d] = 50;
  }
  row.k[16] = -1;
  for (const float depth : {103.0f, 106.0f}) {
    row.k[32] = -depth;
    row.judged(&found);
    EXPECT_EQ(found.lowest[0], 1);
    EXPECT_EQ(found.highest[0], depth < 104 ? 50 : 2) << depth;
  }
  row.sink = -103;
  row.judged(&found);
  EXPECT_EQ(found.lowest[0], 0);
  row.sink = -106;
  row.judged(&found);
  EXPECT_EQ(found.lowest[0], 1);
}

// q is what the scaled key is rounded to, with the other sign. So f32 adds them to 0, while the
// truth is the rounding, and far above the units of a tanh near 0.
TEST(AdditiveScores, OfScaledKeysThatCancelTheQueryAreOffByTheRoundingOfTheKey) {
  uint8_t key[8], value[8] = {};
  float query[8], vector[8], out[8] = {}, scale = 1.1f, lse = 0;
  double truth = 0;
  for (int d = 0; d < 8; ++d) {
    const double exact = 448.0 * double{scale};
    fv_store_f32(FOVEA_E4M3, key, d, 448);
    query[d] = -static_cast<float>(exact);
    vector[d] = 1;
    truth += std::tanh(exact + double{query[d]});
  }
  EXPECT_GT(std::fabs(truth), 100 * 0x1p-24);
  fovea_attention_args args = {};
  args.struct_size = sizeof args;
  args.q = fovea_contiguous(query, FOVEA_F32, 1, 1, 1, 8);
  args.k = fovea_contiguous(key, FOVEA_E4M3, 1, 1, 1, 8);
  args.v = fovea_contiguous(value, FOVEA_E4M3, 1, 1, 1, 8);
  args.k_scale = args.v_scale = fovea_contiguous(&scale, FOVEA_F32, 1, 1, 1, 1);
  args.out = fovea_contiguous(out, FOVEA_F32, 1, 1, 1, 8);
  args.lse = fovea_contiguous(&lse, FOVEA_F32, 1, 1, 1, 1);
  args.logits.additive.vector = vector;
  fv_problem problem;
  ASSERT_EQ(fv_check_attention(&args, &problem), FOVEA_OK) << fovea_error_detail();
  fv_judge_options options = {};
  options.weights_dtype = FOVEA_F32;
  fv_verdict zero = {}, wrong = {};
  fv_judge_attention(&problem, &options, &zero, nullptr);
  EXPECT_TRUE(fv_verdict_passes(&zero)) << zero.worst[FV_C4];
  lse = 1e-2f;  // several times the rounding of 8 keys
  fv_judge_attention(&problem, &options, &wrong, nullptr);
  EXPECT_FALSE(fv_verdict_passes(&wrong));
}

// One key, with q and k of ones, gives S = M = sqrt(dim), one term and A = 1.
TEST(Dots, OfOneSignMayBeOffByMoreTheMoreDimsThereAre) {
  for (const auto &[dim, units] : std::vector<std::pair<int64_t, double>>{
           {8, 8.0}, {16, 8.0}, {64, 19.25}, {128, 21.25}, {576, 21.25}}) {
    OneRow row(FOVEA_F32, 1, dim, 8);
    std::fill(row.q.begin(), row.q.end(), 1.0f);
    std::fill(row.k.begin(), row.k.end(), 1.0f);
    std::fill(row.v.begin(), row.v.end(), 1.0f);
    std::fill(row.out.begin(), row.out.end(), 1 + 0x1p-10f);
    const double size = std::sqrt(static_cast<double>(dim));
    const double expected = 0x1p-10 / (0x1p-24 * (units * size + 8));
    EXPECT_NEAR(row.judged().worst[FV_C5], expected, 1e-6 * expected) << dim;
  }
}

// Where probabilities are rounded, tensor cores add all dims of a dot to one sum. These dims have
// square roots that f32 holds exactly.
TEST(Dots, OfTensorCoresAreOneChain) {
  using Case = std::tuple<uint32_t, int64_t, double>;
  for (const auto &[type, dim, units] :
       {Case{FOVEA_F32, 256, 21.25}, Case{FOVEA_BF16, 16, 8.0}, Case{FOVEA_F16, 64, 19.25},
        Case{FOVEA_F16, 256, 67.25}, Case{FOVEA_BF16, 256, 67.25}}) {
    OneRow row(type, 1, dim, 8);
    std::fill(row.q.begin(), row.q.end(), 1.0f);
    std::fill(row.k.begin(), row.k.end(), 1.0f);
    const double size = std::sqrt(static_cast<double>(dim));
    row.lse = static_cast<float>(size + 0x1p-10);
    const double expected = (row.lse - size) / (0x1p-24 * (units * size + 8 + 4 * size));
    EXPECT_NEAR(row.judged().worst[FV_C4], expected, 1e-6 * expected) << dim;
  }
}

TEST(Classes, AreEitherWhereRoundingDecides) {
  OneRow row(FOVEA_F16, 1, 8, 8);
  std::fill(row.out.begin(), row.out.end(), INFINITY);
  std::fill(row.v.begin(), row.v.end(), 65504.0f);  // infinity begins at 65520
  const fv_verdict near = row.judged();
  EXPECT_TRUE(fv_verdict_passes(&near));
  std::fill(row.v.begin(), row.v.end(), 65000.0f);
  const fv_verdict far = row.judged();
  EXPECT_FALSE(fv_verdict_passes(&far));
  std::fill(row.v.begin(), row.v.end(), -65504.0f);
  const fv_verdict opposite = row.judged();
  EXPECT_FALSE(fv_verdict_passes(&opposite));
}

// The result may lose half a step of f32. So may each of the 8 products whose mean it is.
TEST(Underflow, TakesHalfAStepOfEveryProduct) {
  OneRow row(FOVEA_F32, 8, 8, 8);
  std::fill(row.v.begin(), row.v.end(), 5 * 0x1p-149f);
  for (const int steps : {-2, -1, 0, 1, 2}) {
    std::fill(row.out.begin(), row.out.end(), static_cast<float>(5 + steps) * 0x1p-149f);
    const fv_verdict verdict = row.judged();
    EXPECT_EQ(fv_verdict_passes(&verdict), std::abs(steps) < 2) << steps;
  }
}

// Sums of equal terms have the largest errors in f32. They are added in tiles of 8 blocks of 64
// terms, or in longer chains. Each of 512 columns has its own mantissa.
class EqualTerms : public testing::Test {
 protected:
  static constexpr int64_t kKeys = 1024;
  OneRow row{FOVEA_F32, kKeys, 8, 512};
  void SetUp() override {
    Choices choices(5);
    for (int64_t d = 0; d < row.dim_v; ++d) {
      const auto mantissa = static_cast<float>(choices.below(1 << 23));
      const float value = d == 0 ? 0x1.04f0d2p0f : 1 + mantissa * 0x1p-23f;
      for (int64_t j = 0; j < kKeys; ++j) row.v[static_cast<size_t>(j * row.dim_v + d)] = value;
    }
  }
  // Adds `block` terms in f32 from zero, then `blocks` of those sums in f32, then those in double.
  void add_up(int64_t block, int64_t blocks) {
    for (size_t d = 0; d < row.out.size(); ++d) {
      double sum = 0;
      for (int64_t j = 0; j < kKeys; j += block * blocks) {
        float tile = 0;
        for (int64_t b = j; b < std::min(kKeys, j + block * blocks); b += block) {
          float part = 0;
          for (int64_t n = b; n < std::min(kKeys, b + block); ++n) part += row.v[d];
          tile += part;
        }
        sum += tile;
      }
      row.out[d] = static_cast<float>(sum / kKeys);
    }
  }
};

TEST_F(EqualTerms, StayWithinC5InBlocksOf64AndNearlyReachIt) {
  add_up(64, 8);
  const fv_verdict verdict = row.judged();
  EXPECT_LE(verdict.worst[FV_C5], 1);
  EXPECT_GT(verdict.worst[FV_C5], 0.7);
}

TEST_F(EqualTerms, PassC5InAChainThatIsNotCut) {
  add_up(kKeys, 1);
  EXPECT_GT(row.judged().worst[FV_C5], 5);
  add_up(128, 1);
  EXPECT_GT(row.judged().worst[FV_C5], 1);
}

TEST(LargestDifference, LooksAtTheElementsAndAtNothingBetweenThem) {
  const float far = std::numeric_limits<float>::quiet_NaN();
  float a[] = {1, 2, far, 3, 4, far}, b[] = {1, 2.5, far, 3.25, 4, far};
  fovea_tensor left = fovea_contiguous(a, FOVEA_F32, 1, 2, 1, 2);
  left.stride[1] = 3;
  fovea_tensor right = left;
  right.data = b;
  EXPECT_EQ(fv_largest_difference(&left, &right), 0.5);
}

}  // namespace
}  // namespace fovea_test

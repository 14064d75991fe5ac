// judge_test.cc - does the judge convict? Each test hands it a result with one known fault.
//
// The innocent result is the truth rounded to out's type. It must pass, and every other must fail.
#include "tests/support/judge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <tuple>

#include "tests/support/formats.h"

namespace fovea_test {
namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();

// A plain problem: one sequence, contiguous, normal data.
struct Plain {
  int64_t len_q, len_kv, heads_q, heads_kv, dim;
  std::vector<uint16_t> q, k, v;
  std::vector<int32_t> length;
  fovea_attention_args args{};

  Plain(uint32_t dtype, int64_t rows, int64_t keys)
      : len_q(rows), len_kv(keys), heads_q(2), heads_kv(1), dim(64) {
    std::mt19937 random(7);
    std::normal_distribution<double> normal;
    auto fill = [&](std::vector<uint16_t> *data, int64_t count) {
      data->resize(static_cast<size_t>(count));
      for (uint16_t &x : *data) x = static_cast<uint16_t>(encode(dtype, normal(random)));
    };
    fill(&q, len_q * heads_q * dim);
    fill(&k, len_kv * heads_kv * dim);
    fill(&v, len_kv * heads_kv * dim);
    length = {static_cast<int32_t>(len_kv)};
    args.struct_size = sizeof args;
    const fovea_dtype type = static_cast<fovea_dtype>(dtype);
    args.q = fovea_contiguous(q.data(), type, 1, len_q, heads_q, dim);
    args.k = fovea_contiguous(k.data(), type, 1, len_kv, heads_kv, dim);
    args.v = fovea_contiguous(v.data(), type, 1, len_kv, heads_kv, dim);
    args.out = fovea_contiguous(q.data(), type, 1, len_q, heads_q, dim);  // shape only
    args.sequences.kv_lengths = length.data();
  }

  Observed innocent(const Truth &truth) const {
    Observed observed;
    observed.out_dtype = args.out.dtype;
    observed.q_dtype = args.q.dtype;
    for (double x : truth.out) observed.out.push_back(round_to(observed.out_dtype, x));
    for (const Row &row : truth.rows) observed.lse.push_back(round_to(FOVEA_F32, row.lse));
    return observed;
  }
};

bool convicts(const Truth &truth, const Observed &observed, bool exact = true) {
  return !passes(judge(truth, observed, exact), truth);
}

class Comparator : public testing::TestWithParam<uint32_t> {
 protected:
  Plain plain{GetParam(), 16, 300};
  Truth truth = attend(plain.args);
  Observed observed = plain.innocent(truth);
  size_t width = static_cast<size_t>(truth.dim_v);
};

TEST_P(Comparator, AcceptsTheRoundedTruth) {
  EXPECT_FALSE(convicts(truth, observed)) << describe(judge(truth, observed, true));
  EXPECT_FALSE(convicts(truth, observed, false));
}

TEST_P(Comparator, CountsEveryElement) {
  EXPECT_EQ(judge_c1(truth, observed).count, 16 * 2 * 64);
  EXPECT_EQ(judge_c4(truth, observed).count, 16 * 2);
}

TEST_P(Comparator, RefusesToPassWithoutHavingJudgedAnything) {
  EXPECT_FALSE(passes({}, truth));
  Finding idle;
  EXPECT_FALSE(passes({idle}, truth));
}

TEST_P(Comparator, ConvictsOneNan) {
  observed.out[5] = kNan;
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsOneInfinity) {
  observed.out[5] = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsOneNanInLse) {
  observed.lse[3] = kNan;
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsAFiniteLseOfAnEmptyRow) {
  Plain empty(GetParam(), 4, 8);
  empty.length[0] = 0;
  const Truth nothing = attend(empty.args);
  Observed claim = empty.innocent(nothing);
  EXPECT_FALSE(convicts(nothing, claim));
  claim.lse[0] = -49993.0;
  EXPECT_TRUE(convicts(nothing, claim, false));
  claim.lse[0] = std::numeric_limits<double>::infinity();
  EXPECT_TRUE(convicts(nothing, claim, false));
  claim = empty.innocent(nothing);
  claim.out[0] = 1e-3;
  EXPECT_TRUE(convicts(nothing, claim, false));
}

TEST_P(Comparator, ConvictsZeros) {
  std::fill(observed.out.begin(), observed.out.end(), 0.0);
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsRowsShiftedByOne) {
  std::rotate(observed.out.begin(), observed.out.begin() + static_cast<int64_t>(width),
              observed.out.end());
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsOneWrongColumn) {
  for (size_t n = 0; n < truth.rows.size(); ++n) {
    observed.out[n * width + 9] = observed.out[n * width + 10];
  }
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsSwappedHeads) {
  const size_t half = observed.out.size() / 2;  // rows come head by head
  std::swap_ranges(observed.out.begin(), observed.out.begin() + static_cast<int64_t>(half),
                   observed.out.begin() + static_cast<int64_t>(half));
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsALostKeyInOutAlone) {
  plain.length[0] -= 1;
  observed.out = plain.innocent(attend(plain.args)).out;
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsALostKeyInLseAlone) {
  plain.length[0] -= 1;
  observed.lse = plain.innocent(attend(plain.args)).lse;
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsLseInBaseTwo) {
  for (double &lse : observed.lse) lse *= 1.4426950408889634;
  EXPECT_TRUE(convicts(truth, observed, false));
}

TEST_P(Comparator, ConvictsTwoRoundingsTooManyUnderTheStrictRule) {
  // Three units in the last place of one element: inside C1, outside C5.
  size_t at = 0;
  while (std::fabs(truth.out[at]) < 0.02) ++at;
  observed.out[at] += 3.0 * ulp(GetParam(), observed.out[at]);
  EXPECT_TRUE(judge_c5(truth, observed).failed);
}

TEST_P(Comparator, NamesTheFirstBadCoordinate) {
  const size_t n = 21;  // head 1, row 5
  observed.out[n * width + 17] = 1e4;
  const Finding finding = judge_c1(truth, observed);
  EXPECT_TRUE(finding.failed);
  EXPECT_EQ(finding.row.h, 1);
  EXPECT_EQ(finding.row.i, 5);
  EXPECT_EQ(finding.d, 17);
  EXPECT_EQ(finding.got, 1e4);
}

TEST_P(Comparator, ExemptsNoRowOfFiniteData) {
  for (const Row &row : truth.rows) EXPECT_FALSE(row.exempt);
}

TEST_P(Comparator, ExemptsExactlyTheHeadsThatSeeANonFiniteValue) {
  plain.v[3] = static_cast<uint16_t>(poison_bits(GetParam()));
  const Truth spoiled = attend(plain.args);
  for (const Row &row : spoiled.rows) EXPECT_TRUE(row.exempt);
  plain.v[3] = plain.v[4];
  plain.v[299 * 64] = static_cast<uint16_t>(poison_bits(GetParam()));
  plain.length[0] = 299;  // nobody sees it
  for (const Row &row : attend(plain.args).rows) EXPECT_FALSE(row.exempt);
}

INSTANTIATE_TEST_SUITE_P(Types, Comparator, testing::Values(FOVEA_F16, FOVEA_BF16),
                         [](const auto &param) { return std::string(name_of(param.param)); });

// The magnitudes of all rows are chosen, so that every limit can be written by hand.
struct Known {
  Truth truth;
  Observed observed;
  explicit Known(uint32_t dtype, int64_t columns = 1, int64_t rows = 1) {
    Row row;
    row.empty = false;
    row.lse = 3.0;
    row.lhat = 4.0;
    row.size = 7.0;
    row.keys = 5;
    truth.dim = 64;
    truth.dim_v = columns;
    truth.rows.assign(static_cast<size_t>(rows), row);
    const size_t count = static_cast<size_t>(rows * columns);
    truth.out.assign(count, 1.0);
    truth.condition.assign(count, 5.0);  // A
    truth.noise.assign(count, 3.0);      // R
    truth.sum_abs_v.assign(count, 100.0);
    truth.lowest.assign(count, 0.5);
    truth.highest.assign(count, 2.0);
    truth.out_scale.assign(count, 1.0);
    observed.out = truth.out;
    observed.lse.assign(static_cast<size_t>(rows), 3.0);
    observed.out_dtype = dtype;
    observed.q_dtype = dtype;
  }
  double u() const { return unit_roundoff(observed.out_dtype); }
  double eta() const { return half_step(observed.out_dtype); }
  double eta_p() const { return half_step_of_weights(observed.q_dtype); }
  double f() const { return 8.0 * 0x1p-24 * (1.0 + 7.0) * 5.0 + 0x1p-126 * 100.0; }
};

// A result just inside the limit passes and one just outside fails, above and below.
void expect_limit(Known known, double limit,
                  Finding (*criterion)(const Truth &, const Observed &)) {
  for (double sign : {1.0, -1.0}) {
    for (double &x : known.observed.out) x = 1.0 + sign * limit * 0.9999;
    const Finding inside = criterion(known.truth, known.observed);
    EXPECT_FALSE(inside.failed) << describe(inside);
    EXPECT_NEAR(inside.worst, 0.9999, 1e-6) << describe(inside);
    for (double &x : known.observed.out) x = 1.0 + sign * limit * 1.0001;
    EXPECT_TRUE(criterion(known.truth, known.observed).failed);
  }
}

class Limit : public testing::TestWithParam<uint32_t> {};

TEST_P(Limit, OfC1IsTwoRoundingsOfTheConditionAndTheArithmetic) {
  const Known known(GetParam());
  expect_limit(known, 2 * known.u() * 5 + known.f() + known.eta_p() * 100 / 4 + known.eta(),
               judge_c1);
}

// The result is 1, and |v| is 1 in the mean: weights, their sum and the result are rounded.
TEST_P(Limit, OfC1IsThreeRoundingsOfValuesOfOneSign) {
  Known known(GetParam());
  std::fill(known.truth.condition.begin(), known.truth.condition.end(), 1.0);
  const double f = 8.0 * 0x1p-24 * (1.0 + 7.0) + 0x1p-126 * 100.0;
  expect_limit(known, 3 * known.u() + f + known.eta_p() * 100 / 4 + known.eta(), judge_c1);
}

TEST_P(Limit, OfC1sIsARoundingOfOutAndFourOfTheNoise) {
  const Known known(GetParam());
  expect_limit(known, known.u() * 1 + 4 * known.u() * 3 + known.f() + known.eta(), judge_c1s);
}

TEST_P(Limit, OfC2IsOneAndAHalfOfTheRowsNorms) {
  const Known known(GetParam(), 64);
  const double norm = known.u() * std::sqrt(1.0 + 9.0) + known.f() + known.eta();
  expect_limit(known, 1.5 * norm, judge_c2);
}

TEST_P(Limit, OfC3IsFourFifthsOfTheTensorsNorms) {
  const Known known(GetParam(), 64, 64);
  const double norm = known.u() * std::sqrt(1.0 + 9.0) + known.f() + known.eta();
  expect_limit(known, 0.8 * norm, judge_c3);
}

TEST_P(Limit, OfC5IsOneRoundingAndTheArithmetic) {
  const Known known(GetParam());
  expect_limit(known, known.u() * 1 + known.eta() + known.f(), judge_c5);
}

TEST_P(Limit, OfC8IsTwoUlpWhereAllValuesHaveOneSign) {
  Known known(GetParam());
  EXPECT_EQ(judge_c8(known.truth, known.observed).count, 0);  // A is not |O|
  known.truth.condition = {1.0};
  known.truth.rows[0].size = 0.0;
  expect_limit(known, 2 * ulp(GetParam(), 1.0), judge_c8);
  known.truth.rows[0].size = 1e6;  // the arithmetic alone may be off by more
  EXPECT_EQ(judge_c8(known.truth, known.observed).count, 0);
}

INSTANTIATE_TEST_SUITE_P(Types, Limit, testing::Values(FOVEA_F16, FOVEA_BF16),
                         [](const auto &param) { return std::string(name_of(param.param)); });

TEST(Limits, OfC6AreOneRoundingOfTheConditionAndFourPercentOfTheNorm) {
  const Known one(FOVEA_E4M3);
  expect_limit(one, one.u() * 5 + one.f() + one.eta(), judge_c6);
  const Known many(FOVEA_E4M3, 64, 64);
  expect_limit(many, 0.04 * 1 + many.eta(), judge_c6);
}

TEST(Limits, OfC4GrowWithLogitsAndLse) {
  for (double sign : {1.0, -1.0}) {
    Known known(FOVEA_F16);
    const double limit = 0x1p-24 * (8 * (1 + 7.0) + 4 * 3.0 + 3.0);
    known.observed.lse[0] = 3.0 + sign * limit * 0.9999;
    EXPECT_FALSE(judge_c4(known.truth, known.observed).failed);
    known.observed.lse[0] = 3.0 + sign * limit * 1.0001;
    EXPECT_TRUE(judge_c4(known.truth, known.observed).failed);
  }
}

// Equal terms need 2 + (min(n, 71) + 5) / 4 units if that is more than 8, which it is from 20 keys
// on.
TEST(Limits, GrowWithTheNumberOfKeysUpToATile) {
  for (const auto &[keys, units] : std::vector<std::pair<int64_t, double>>{
           {1, 8}, {19, 8}, {20, 8.25}, {64, 19.25}, {71, 21}, {1000000, 21}}) {
    Known known(FOVEA_F32);
    known.truth.rows[0].keys = keys;
    known.truth.sum_abs_v = {0.0};
    const double f = 0x1p-24 * (8 * 7.0 + units) * 5.0;
    expect_limit(known, known.u() * 1 + known.eta() + f, judge_c5);
  }
}

TEST(Limits, GrowWithDotsOfOneSignAndTheirDim) {
  for (const auto &[dim, units, whole] :
       std::vector<std::tuple<int64_t, double, bool>>{{8, 8.0, false},
                                                      {64, 19.25, false},
                                                      {128, 21.25, false},
                                                      {576, 21.25, false},
                                                      {8, 8.0, true},
                                                      {64, 19.25, true},
                                                      {128, 35.25, true},
                                                      {256, 67.25, true}}) {
    Known known(FOVEA_F32);
    known.observed.whole_dots = whole;
    known.truth.rows[0].dot = 7.0;  // as much as S: one sign
    known.truth.sum_abs_v = {0.0};
    known.truth.dim = dim;
    const double f = 0x1p-24 * (units * 7.0 + 8) * 5.0;
    expect_limit(known, known.u() * 1 + known.eta() + f, judge_c5);
    const double limit = 0x1p-24 * (units * 7.0 + 8 + 4 * 3.0 + 3.0);
    known.observed.lse[0] = 3.0 + limit * 0.9999;
    EXPECT_FALSE(judge_c4(known.truth, known.observed).failed);
    known.observed.lse[0] = 3.0 + limit * 1.0001;
    EXPECT_TRUE(judge_c4(known.truth, known.observed).failed);
  }
}

TEST(Limits, OfC10AreTheLeastAndTheLargestValueToRounding) {
  for (const uint32_t dtype : {FOVEA_F32, FOVEA_F16, FOVEA_BF16}) {
    Known known(dtype);
    known.truth.rows[0].size = 1e9;  // C10 does not depend on the logits
    known.truth.sum_abs_v = {0.0};
    known.truth.rows[0].keys = dtype == FOVEA_F32 ? 500 : 40;
    const double u_p = dtype == FOVEA_F32 ? 0.0 : known.u();
    const double mean = (0x1p-24 * (dtype == FOVEA_F32 ? 147 : 83) + u_p) * 2.0;
    const double limit = mean + known.u() * (2.0 + mean) + known.eta();
    const auto fails = [&](double got) {
      known.observed.out = {got};
      return judge_c10(known.truth, known.observed).failed;
    };
    EXPECT_FALSE(fails(1.0));
    EXPECT_FALSE(fails(0.5 - 0.9999 * limit));
    EXPECT_TRUE(fails(0.5 - 1.0001 * limit));
    EXPECT_FALSE(fails(2.0 + 0.9999 * limit));
    EXPECT_TRUE(fails(2.0 + 1.0001 * limit));
  }
}

TEST(Limits, TakeTheCoarserTypeOfOutAndProbabilities) {
  Known known(FOVEA_F32);
  known.observed.q_dtype = FOVEA_BF16;
  const double eta = half_step(FOVEA_BF16) * 100 / 4 + half_step(FOVEA_F32);
  expect_limit(known, 2 * 0x1p-8 * 5 + known.f() + eta, judge_c1);
}

TEST(Limits, ShrinkWithTheScaleOfOut) {
  Known known(FOVEA_E4M3);
  known.truth.out_scale = {4.0};
  known.truth.out = {4.0};
  known.truth.condition = {20.0};
  known.truth.sum_abs_v = {400.0};
  known.truth.highest = {8.0};
  expect_limit(known, known.u() * 5 + known.f() + known.eta(), judge_c6);
}

TEST(Limits, ApplyBelowTheSizesTheyNeedToNothing) {
  const Known narrow(FOVEA_F16, 63, 65);
  EXPECT_EQ(judge_c2(narrow.truth, narrow.observed).count, 0);
  const Known few(FOVEA_F16, 63, 65 - 1);
  EXPECT_EQ(judge_c3(few.truth, few.observed).count, 0);
  EXPECT_EQ(judge_c3(narrow.truth, narrow.observed).count, 63 * 65 >= 4096 ? 1 : 0);
}

TEST(Judging, AsksEachCriterionThatAppliesToTheTypes) {
  const auto names = [](uint32_t q, uint32_t out, bool exact) {
    Known known(out, 64, 64);
    known.observed.q_dtype = q;
    std::string text;
    for (const Finding &f : judge(known.truth, known.observed, exact)) text += f.criterion + " ";
    return text;
  };
  EXPECT_EQ(names(FOVEA_F16, FOVEA_F16, false), "class C4 C8 C10 C1 C1s C2 C3 ");
  EXPECT_EQ(names(FOVEA_BF16, FOVEA_BF16, true), "class C4 C8 C10 C1 C1s C2 C3 C5 ");
  EXPECT_EQ(names(FOVEA_F32, FOVEA_F32, false), "class C4 C8 C10 C5 ");
  EXPECT_EQ(names(FOVEA_BF16, FOVEA_F32, false), "class C4 C8 C10 C1 C1s C2 C3 ");
  EXPECT_EQ(names(FOVEA_E4M3, FOVEA_E4M3, false), "class C4 C8 C10 C6 ");
}

TEST(Judging, NamesTheFirstFailureOrElseTheWorstRatio) {
  Known known(FOVEA_F16, 4);
  const double limit = 2 * known.u() * 5 + known.f() + known.eta_p() * 100 / 4 + known.eta();
  const auto off_by = [&](std::vector<double> limits) {
    for (size_t d = 0; d < 4; ++d) known.observed.out[d] = 1.0 + limits[d] * limit;
    return judge_c1(known.truth, known.observed).d;
  };
  EXPECT_EQ(off_by({0.1, 0.9, 0.5, 0.2}), 1);
  EXPECT_EQ(off_by({0.1, 2.0, 0.5, 3.0}), 1);
  EXPECT_EQ(off_by({0.9, 0.1, 1.5, 9.0}), 2);
}

TEST(Judging, LeavesExemptRowsAlone) {
  Known known(FOVEA_F16, 4, 2);
  known.truth.rows[0].exempt = true;
  known.observed.out[1] = kNan;
  known.observed.lse[0] = kNan;
  EXPECT_TRUE(passes(judge(known.truth, known.observed, true), known.truth));
  known.observed.out[5] = kNan;
  EXPECT_FALSE(passes(judge(known.truth, known.observed, true), known.truth));
  known.truth.rows[1].exempt = true;
  EXPECT_TRUE(passes(judge(known.truth, known.observed, true), known.truth));
}

TEST(Judging, CountsOnlyRowsWithSomethingToJudge) {
  Known known(FOVEA_F16, 64, 2);
  EXPECT_EQ(judge_c2(known.truth, known.observed).count, 2);
  known.truth.rows[0].exempt = true;
  EXPECT_EQ(judge_c2(known.truth, known.observed).count, 1);
}

TEST(Judging, AsksForTwoUnitsWhileTheArithmeticTakesAtMostARounding) {
  Known known(FOVEA_F16);
  known.truth.condition = known.truth.out;  // every value has one sign
  known.truth.sum_abs_v = {0.0};
  known.truth.rows[0].size = 1023;  // 8 * 2^-24 * (1 + 1023) is 2^-11, the roundoff of f16
  EXPECT_EQ(judge_c8(known.truth, known.observed).count, 1);
  known.truth.rows[0].size = 1024;
  EXPECT_EQ(judge_c8(known.truth, known.observed).count, 0);
}

TEST(Judging, AcceptsEitherSideOfTheEdgeOfARange) {
  Known known(FOVEA_F16);
  const double infinity = std::numeric_limits<double>::infinity();
  known.truth.out = {65519.0};
  known.truth.condition = {65519.0};
  known.observed.out = {infinity};
  EXPECT_FALSE(judge_class(known.truth, known.observed).failed);
  known.observed.out = {-infinity};
  EXPECT_TRUE(judge_class(known.truth, known.observed).failed);
  known.truth.out = {60000.0};
  known.observed.out = {infinity};
  EXPECT_TRUE(judge_class(known.truth, known.observed).failed);
  known.truth.out = {1e6};
  EXPECT_FALSE(judge_class(known.truth, known.observed).failed);
  known.observed.out = {65504.0};
  EXPECT_FALSE(judge_class(known.truth, known.observed).failed);
  known.observed.out = {100.0};
  EXPECT_TRUE(judge_class(known.truth, known.observed).failed);
}

// Only C4 notices one lost key among many thousands.
TEST(ComparatorPower, LseFindsOneLostKeyAmong16384) {
  Plain plain(FOVEA_BF16, 8, 16384);
  const Truth truth = attend(plain.args);
  plain.length[0] -= 1;
  Observed observed = plain.innocent(attend(plain.args));
  EXPECT_TRUE(judge_c4(truth, observed).failed);
}

TEST(Formats, RoundsToNearestEven) {
  EXPECT_EQ(encode(FOVEA_F16, 1.0), 0x3c00u);
  EXPECT_EQ(encode(FOVEA_F16, 1.0 + 0x1p-11), 0x3c00u);
  EXPECT_EQ(encode(FOVEA_F16, 1.0 + 3 * 0x1p-11), 0x3c02u);
  EXPECT_EQ(encode(FOVEA_F16, 65519.9), 0x7bffu);
  EXPECT_EQ(encode(FOVEA_F16, 65520.0), 0x7c00u);
  EXPECT_EQ(encode(FOVEA_F16, -0x1p-24), 0x8001u);
  EXPECT_EQ(encode(FOVEA_BF16, -0.0), 0x8000u);
  EXPECT_EQ(encode(FOVEA_E4M3, 1000.0), 0x7eu);
  EXPECT_EQ(encode(FOVEA_E4M3, 0x1p-9), 0x01u);
  EXPECT_EQ(encode(FOVEA_E5M2, 57344.0), 0x7bu);
  EXPECT_EQ(encode(FOVEA_I8, -200.0), 0x80u);
  EXPECT_EQ(encode(FOVEA_I8, 2.5), 0x02u);
}

TEST(Formats, DecodeUndoesEncodeForEveryCode) {
  for (uint32_t dtype : {FOVEA_F16, FOVEA_BF16, FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8}) {
    const uint32_t codes = size_of(dtype) == 1 ? 256 : 65536;
    for (uint32_t bits = 0; bits < codes; ++bits) {
      const double value = decode(dtype, bits);
      if (!std::isfinite(value)) continue;
      ASSERT_EQ(encode(dtype, value), bits) << name_of(dtype);
    }
  }
}

}  // namespace
}  // namespace fovea_test

// judge_test.cc - does the judge convict? Each test hands it a result with one known fault.
//
// The innocent result is the truth rounded to out's type; it must pass. Every other must not.
#include "judge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "formats.h"

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
    args.kv_lengths = length.data();
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

// The rule that sees what others do not: one key in many thousands.
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

// draw_case_test.cc - the random problems of `fovea validate`.
//
// Every pair of features is drawn often enough, and the data is of the kind that the features name.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "cli/validate/draw_sketch.h"
#include "csrc/check/check.h"
#include "csrc/reference/reference.h"

namespace fovea_test {
namespace {

struct Drawn {
  fv_case c = {};
  ~Drawn() { fv_case_free(&c); }
  bool has(int feature) const { return fv_feature_in(c.features, feature); }
};

// In `validate` every tenth case is a merge, weights of a drawn problem, or an append. Merges and
// appends draw no problem, so they are left out.
TEST(DrawnCases, MeetEveryPairOfFeaturesFiftyTimesIn20000) {
  std::vector<int64_t> met(FV_FEATURE_COUNT * FV_FEATURE_COUNT);
  for (uint64_t index = 0; index < 20000; ++index) {
    if (index % 10 == 9 && index / 10 % 3 != 1) continue;
    Drawn drawn;
    fv_random random = fv_random_for(1, index);
    fv_sketch s = {};
    s.c = &drawn.c;
    s.random = &random;
    s.allowed = ~fv_feature_set{0};
    fv_sketch_draw_form(&s, 1, index);
    for (int a = 0; a < FV_FEATURE_COUNT; ++a) {
      if (!drawn.has(a)) continue;
      for (int b = a; b < FV_FEATURE_COUNT; ++b) {
        met[static_cast<size_t>(a * FV_FEATURE_COUNT + b)] += drawn.has(b) ? 1 : 0;
      }
    }
  }
  for (int a = 0; a < FV_FEATURE_COUNT; ++a) {
    for (int b = a; b < FV_FEATURE_COUNT; ++b) {
      const auto first = static_cast<fv_feature>(a), second = static_cast<fv_feature>(b);
      if (a != b && fv_features_exclude(first, second) != nullptr) continue;
      EXPECT_GE(met[static_cast<size_t>(a * FV_FEATURE_COUNT + b)], 50)
          << fv_feature_name(first) << " with " << fv_feature_name(second);
    }
  }
}

// Judges the values that the first row of a sequence sees.
void expect_kind(const Drawn &drawn, const fv_reference_row &row) {
  EXPECT_TRUE(row.finite) << drawn.c.text;
  if (row.visible == 0 || drawn.has(FV_FEATURE_SINKS)) return;  // a sink's 0 is in the hull
  const double low = row.lowest[0], high = row.highest[0];
  if (drawn.has(FV_FEATURE_VALUES_ONE_SIGN)) {
    EXPECT_GE(low * high, 0) << drawn.c.text;
  }
  if (drawn.has(FV_FEATURE_VALUES_SHIFTED)) {
    EXPECT_GT(low, 0) << drawn.c.text;
  }
  if (drawn.has(FV_FEATURE_VALUES_TINY)) {
    EXPECT_LE(high, 2) << drawn.c.text;
  }
  const bool scaled = drawn.has(FV_FEATURE_V_SCALE);
  if (drawn.has(FV_FEATURE_VALUES_EQUAL) && !scaled) {
    EXPECT_EQ(low, high) << drawn.c.text;
  }
}

TEST(DrawnCases, HoldFiniteDataOfTheKindThatTheirFeaturesName) {
  int64_t rows = 0;
  for (uint64_t index = 0; index < 600; ++index) {
    Drawn drawn;
    fv_case_draw(2, index, &drawn.c);
    fv_problem problem;
    ASSERT_EQ(fv_check_attention_shape(&drawn.c.args, &problem), FOVEA_OK) << drawn.c.text;
    fv_sequence_cursor cursor = {};
    fv_sequence sequence;
    while (fv_sequence_next(&problem, &cursor, &sequence)) {
      if (sequence.len_q < 1) continue;
      fv_reference_row row;
      uint32_t errors = 0;
      fv_reference_attend(&problem, &sequence, 0, 0, 0, &row, &errors);
      expect_kind(drawn, row);
      ++rows;
    }
  }
  EXPECT_GT(rows, 600);
}

}  // namespace
}  // namespace fovea_test

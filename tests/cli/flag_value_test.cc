// flag_value_test.cc - values as text: the rules that flags and metadata share.
#include "cli/flag_value.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <string>

namespace {

TEST(ParseNumber, TakesDecimalNumbersWhole) {
  float value;
  const std::pair<const char *, float> rows[] = {
      {"1", 1},          {"-2.5", -2.5f},
      {"+3", 3},         {"1e3", 1000},
      {".5", 0.5f},      {"5.", 5},
      {"0", 0},          {"0.1767766952966369", 0.17677669f},
      {"1e-45", 1e-45f}, {"3.4028234e38", FLT_MAX}};
  for (const auto &[text, expected] : rows) {
    EXPECT_TRUE(fv_parse_number(text, &value)) << text;
    EXPECT_EQ(value, expected) << text;
  }
}

TEST(ParseNumber, RefusesEverythingElse) {
  float value;
  for (const char *text : {"", " ", "1 ", " 1", "1x", "0x1", "nan", "inf", "1e39", "-1e39", "1e-50",
                           "-1e-50", "e5", "1e", "+", ".", "1,5", "1-2", "1.2.3"}) {
    EXPECT_FALSE(fv_parse_number(text, &value)) << "'" << text << "'";
  }
}

TEST(ParseCount, KeepsToItsRange) {
  int64_t value;
  EXPECT_TRUE(fv_parse_count("5", 5, 7, &value));
  EXPECT_EQ(value, 5);
  EXPECT_TRUE(fv_parse_count("007", 5, 7, &value));
  EXPECT_EQ(value, 7);
  for (const char *text :
       {"4", "8", "", "-5", "+5", " 5", "5 ", "6.0", "0x6", "55555555555555555555"}) {
    EXPECT_FALSE(fv_parse_count(text, 5, 7, &value)) << "'" << text << "'";
  }
}

TEST(ParseWindow, TakesTwoCountsOrMinusOne) {
  int32_t left, right;
  ASSERT_TRUE(fv_parse_window("3,-1", &left, &right));
  EXPECT_EQ(left, 3);
  EXPECT_EQ(right, -1);
  ASSERT_TRUE(fv_parse_window("0,2147483647", &left, &right));
  EXPECT_EQ(left, 0);
  EXPECT_EQ(right, INT32_MAX);
  for (const char *text :
       {"", ",", "1", "1,", ",1", "1,2,", "1,2,3", " 1,2", "1, 2", "1,2 ", "+1,2", "-2,0", "0,-2",
        "-,0", "2147483648,0", "0,2147483648", "1;2", "9223372036854775808,0", "0x1,0"}) {
    EXPECT_FALSE(fv_parse_window(text, &left, &right)) << "'" << text << "'";
  }
}

}  // namespace

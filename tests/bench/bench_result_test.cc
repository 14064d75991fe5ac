// The arithmetic of a report (medians, spreads, shares, speed-ups), and what it refuses.
#include "bench/report/result.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "bench/report/group.h"
#include "bench/report/table.h"
#include "bench/report/text.h"
#include "tests/bench/bench_report.h"

namespace fovea_test {
namespace {

TEST(BenchResult, MedianIsTheMiddleOrTheMeanOfTheMiddleTwo) {
  const double sorted[] = {1, 2, 4, 8};
  EXPECT_EQ(fv_bench_median(sorted, 3), 2);
  EXPECT_EQ(fv_bench_median(sorted, 4), 3);
  EXPECT_EQ(fv_bench_median(sorted, 1), 1);
  EXPECT_EQ(fv_bench_median(sorted, 0), 0);
}

TEST(BenchResult, SpreadIsHalfTheDistanceOfTheQuartilesOverTheMedian) {
  const double nine[] = {1, 2, 3, 4, 5, 6, 7, 8, 9}; /* quartiles 3 and 7 */
  EXPECT_DOUBLE_EQ(fv_bench_spread(nine, 9), 0.4);
  const double four[] = {1, 2, 4, 8}; /* quartiles 1.5 and 6, median 3 */
  EXPECT_DOUBLE_EQ(fv_bench_spread(four, 4), 0.75);
  EXPECT_EQ(fv_bench_spread(nine, 1), 0);
}

TEST(BenchResult, GathersTheRepetitionsOfARow) {
  Report report(small_report());
  ASSERT_TRUE(report.good()) << report.error();
  const fv_bench_row *row = report.find(prefill("fovea", 128));
  ASSERT_TRUE(row);
  EXPECT_EQ(row->repetitions, 9u);
  EXPECT_DOUBLE_EQ(row->median, 5e-3);
  EXPECT_DOUBLE_EQ(row->spread, 0.4);
  EXPECT_EQ(row->peak_bytes, 1048576);
}

TEST(BenchResult, SpeedupIsAgainstTheFoveaOfTheSameProcess) {
  Report report(small_report());
  EXPECT_DOUBLE_EQ(fv_bench_speedup(*report, report.find(prefill("naive", 128))), 2);
  EXPECT_DOUBLE_EQ(fv_bench_speedup(*report, report.find(prefill("torch", 128))), 1.5);
  EXPECT_DOUBLE_EQ(fv_bench_speedup(*report, report.find(decode("torch-folded", 1024))), 2);
  EXPECT_DOUBLE_EQ(fv_bench_speedup(*report, report.find(prefill("naive", 128, "causal"))), 0.5);
}

TEST(BenchResult, WhatWasNotTimedHasNoSpeedup) {
  Report report(small_report());
  const fv_bench_row *row = report.find(prefill("naive", 16384));
  ASSERT_TRUE(row);
  EXPECT_STREQ(row->skipped, "skipped: it needs 8.0 GiB");
  EXPECT_EQ(fv_bench_speedup(*report, row), 0);
  EXPECT_EQ(fv_bench_speedup(*report, nullptr), 0);
}

TEST(BenchResult, SharesAreOfTheSameProblemsPeakAndRead) {
  Report report(small_report());
  // 4e9 / 5 ms = 800 GFLOP/s of 3.2e9 / 2 ms = 1600; 1e9 / 20 ms = 50 GB/s of 100.
  EXPECT_DOUBLE_EQ(fv_bench_share_of_peak(*report, report.find(prefill("fovea", 128))), 0.5);
  EXPECT_DOUBLE_EQ(fv_bench_share_of_read(*report, report.find(decode("fovea", 1024))), 0.5);
  EXPECT_EQ(fv_bench_share_of_peak(*report, report.find(prefill("fovea", 16384))), 0);
  EXPECT_EQ(fv_bench_share_of_read(*report, report.find(prefill("fovea", 128))), 0);
}

TEST(BenchResult, UnderstandsEveryUnitOfTime) {
  std::string run = "{\"name\": \"" + prefill("fovea", 128) + "\", \"run_type\": \"iteration\", ";
  for (const char *time :
       {"\"real_time\": 2e6, \"time_unit\": \"ns\"}", "\"real_time\": 2e3, \"time_unit\": \"us\"}",
        "\"real_time\": 2, \"time_unit\": \"ms\"}", "\"real_time\": 2e-3, \"time_unit\": \"s\"}"}) {
    Report report(ReportText().add(run + time));
    ASSERT_TRUE(report.good()) << report.error();
    EXPECT_DOUBLE_EQ(report.find(prefill("fovea", 128))->median, 2e-3) << time;
  }
}

TEST(BenchResult, LeavesOutAggregatesAndOtherBenchmarks) {
  Report report(
      small_report()
          .row("BM_Other/8", {1})
          .add("{\"name\": \"" + prefill("fovea", 512) +
               "\", \"run_type\": \"aggregate\", \"real_time\": 1, \"time_unit\": \"ms\"}"));
  ASSERT_TRUE(report.good());
  EXPECT_FALSE(report.find(prefill("fovea", 512)));
}

TEST(BenchResult, RefusesWhatIsNoReport) {
  std::string name = "{\"name\": \"" + prefill("fovea", 128) + "\"";
  EXPECT_FALSE(Report(ReportText()).good());
  EXPECT_FALSE(Report(ReportText().row("BM_Other/8", {1})).good());
  EXPECT_FALSE(Report(ReportText().add(name + "}")).good());
  EXPECT_FALSE(Report(ReportText().add(name + ", \"real_time\": 1}")).good());
  EXPECT_FALSE(
      Report(ReportText().add(name + ", \"real_time\": -1, \"time_unit\": \"ms\"}")).good());
  EXPECT_FALSE(Report(ReportText().add("{}")).good());
  EXPECT_FALSE(Report(ReportText().add("{")).good());
}

std::string printed(void (*print)(const fv_bench_result *, FILE *), const Report &report) {
  char *text = nullptr;
  size_t size;
  FILE *stream = open_memstream(&text, &size);
  print(*report, stream);
  fclose(stream);
  std::string copy = text;
  free(text);
  return copy;
}

TEST(BenchTable, HasALinePerProblemAndSaysWhatWasSkipped) {
  Report report(small_report());
  std::string text = printed(fv_bench_table_print, report);
  EXPECT_NE(text.find("prefill f32, full, dim 64\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  1 x 1/1 x 128  5.00 ms  40.0 %    800.0     50 %  10.0 ms     2.00"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("skipped: it needs 8.0 GiB"), std::string::npos) << text;
  EXPECT_NE(text.find("decode f32, from memory, dim 64, 4 query heads per kv head"),
            std::string::npos)
      << text;
}

TEST(BenchTable, BatchesOfUnequalSequencesHaveTablesOfTheirOwn) {
  std::string text = printed(fv_bench_table_print, Report(served_report()));
  for (const char *line : {
           "packed prefill f32, causal, dim 64, 4 query heads per kv head\n",
           "batch x heads x longest    fovea",
           "         16 x 4/1 x 512  5.00 ms   0.0 %    800.0",
           "paged decode f32, from memory, pages of 16, dim 64, 4 query heads per kv head\n",
           "batch x heads x most keys    fovea",
           "          16 x 4/1 x 1024  20.0 ms   0.0 %  50.0     50 %",
           "mixed batch f32, from memory, pages of 16, dim 64, 4 query heads per kv head\n",
           "chunk + rows x heads x most keys    fovea",
           "            64 + 15 x 4/1 x 1024  40.0 ms   0.0 %  25.0     25 %",
           "from a sixteenth of that length to all of it\n",
       }) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
  text = printed(fv_bench_table_print, Report(small_report()));
  EXPECT_EQ(text.find("sixteenth"), std::string::npos) << text;
}

TEST(BenchTable, RowsOfAnotherKindAreInAnotherTable) {
  fv_bench_row_key a, b;
  const std::string rest = "/batch:16/heads:4:1/len:64:64/dim:64/f32/causal/warm";
  ASSERT_TRUE(fv_bench_row_parse(("cpu/fovea/packed" + rest).c_str(), &a));
  ASSERT_TRUE(fv_bench_row_parse(("cpu/fovea/prefill" + rest).c_str(), &b));
  EXPECT_TRUE(fv_bench_group_same(&a.problem, &a.problem));
  EXPECT_FALSE(fv_bench_group_same(&a.problem, &b.problem));
  ASSERT_TRUE(fv_bench_row_parse(mixed("fovea", 64).c_str(), &a));
  b = a;
  b.problem.page_len = 32;
  EXPECT_FALSE(fv_bench_group_same(&a.problem, &b.problem));
}

TEST(BenchTable, LeavesOutColumnsThatNobodyFilled) {
  std::string text =
      printed(fv_bench_table_print, Report(ReportText().row(prefill("fovea", 128), {1, 1, 1})));
  EXPECT_EQ(text.find("x torch"), std::string::npos) << text;
  EXPECT_EQ(text.find("naive  "), std::string::npos) << text;
}

TEST(BenchTable, AsMarkdownHasAsManyCellsInEachLineOfATable) {
  std::string text = printed(fv_bench_groups_print, Report(small_report()));
  std::istringstream lines(text);
  size_t cells = 0;
  for (std::string line; std::getline(lines, line);) {
    size_t bars = static_cast<size_t>(std::count(line.begin(), line.end(), '|'));
    if (bars && cells) {
      EXPECT_EQ(bars, cells) << line;
    }
    cells = bars;
  }
}

TEST(BenchText, HasThreeDigitsAndTheUnitThatFits) {
  char text[32];
  const struct {
    double seconds;
    const char *expected;
  } times[] = {{1.234e-6, "1.23 us"}, {9.996e-6, "10.0 us"}, {999.4e-6, "999 us"},
               {999.6e-6, "1.00 ms"}, {0.0123, "12.3 ms"},   {1.5, "1.50 s"},
               {123.4, "123 s"}};
  for (const auto &time : times) {
    fv_bench_text_time(time.seconds, text, sizeof text);
    EXPECT_STREQ(text, time.expected);
  }
  fv_bench_text_bytes(1536, text, sizeof text);
  EXPECT_STREQ(text, "1.50 KiB");
  fv_bench_text_bytes(5.0 * 1073741824, text, sizeof text);
  EXPECT_STREQ(text, "5.00 GiB");
}

}  // namespace
}  // namespace fovea_test

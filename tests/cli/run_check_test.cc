// run_check_test.cc - how much of a result is judged, by what, and what the report says about it.
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

// Between -1 and 1, without a pattern: SplitMix64's last step.
double noise(int64_t i) {
  uint64_t z = (uint64_t)(i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (double)((z ^ (z >> 31)) >> 40) * 0x1p-23 - 1;
}

// [1, heads, len, 8] of numbers that no two rows share.
MadeFile noise_file(int64_t heads, int64_t len) {
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_F32, {1, heads, len, 8}, noise);
  }
  return file;
}

// The same file, with the results that the program computes as its expected results.
MadeFile answered_noise_file(const Directory &directory, int64_t heads, int64_t len) {
  MadeFile file = noise_file(heads, len);
  std::string output = directory.file("answer.safetensors");
  Ran ran = fovea({"run", file.write(directory), "--output", output, "--check", "none"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  ReadTensor out = read_tensor(output, "out"), lse = read_tensor(output, "lse");
  file.tensor("out", out.dtype, out.shape, out.values);
  file.tensor("lse", lse.dtype, lse.shape, lse.values);
  return file;
}

Json report_of(std::vector<std::string> arguments, int code) {
  arguments.push_back("--json");
  Ran ran = fovea(arguments);
  EXPECT_EQ(ran.code, code) << ran.out << ran.err;
  return parse_json(ran.out);
}

int64_t number(const Json &report, const char *key) {
  const json_t *value = json_object_get(report.get(), key);
  EXPECT_TRUE(json_is_integer(value)) << key;
  return json_integer_value(value);
}

std::string text(const Json &report, const char *key) {
  const json_t *value = json_object_get(report.get(), key);
  return json_is_string(value) ? json_string_value(value) : "(none)";
}

bool has(const Ran &ran, const std::string &line) {
  return ran.out.find(line) != std::string::npos;
}

// ---- How many rows ----

TEST(RunCheck, JudgesASmallProblemWhole) {
  Directory directory;
  std::string path = noise_file(2, 40).write(directory);
  for (const std::vector<std::string> &more : {std::vector<std::string>{}, {"--check", "all"}}) {
    std::vector<std::string> arguments = {"run", path};
    arguments.insert(arguments.end(), more.begin(), more.end());
    Json report = report_of(arguments, 0);
    EXPECT_EQ(number(report, "rows"), 80);
    EXPECT_EQ(number(report, "rows_checked"), 80);
    EXPECT_EQ(number(report, "compared"), 80 * 9);
    EXPECT_TRUE(json_is_null(json_object_get(report.get(), "seed")));
    EXPECT_TRUE(has(fovea(arguments), "checked    all 80 rows\n"));
  }
}

// 4096 x 4096 x 16 is 2^28 products and sums, twice the limit for judging a problem whole.
TEST(RunCheck, JudgesALongProblemByASampleAndSaysSo) {
  Directory directory;
  std::string path = noise_file(1, 4096).write(directory);
  Ran ran = fovea({"run", path});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(ran, " of 4096 rows, sample of seed 1\n")) << ran.out;
  Json report = report_of({"run", path}, 0);
  EXPECT_EQ(number(report, "rows"), 4096);
  EXPECT_GE(number(report, "rows_checked"), 16);
  EXPECT_LT(number(report, "rows_checked"), 4096);
  EXPECT_EQ(number(report, "rows_bounded"), 0) << "there is nothing to compare the others with";
  EXPECT_EQ(number(report, "seed"), 1);
  EXPECT_TRUE(json_is_true(json_object_get(report.get(), "pass")));
}

TEST(RunCheck, JudgesAsManyRowsAsAreWantedOrThereAre) {
  Directory directory;
  std::string path = noise_file(2, 40).write(directory);
  for (int64_t rows : {1, 7, 79, 80, 81, 1000000}) {
    int64_t judged = std::min<int64_t>(rows, 80);
    std::string check = "rows=" + std::to_string(rows);
    Json report = report_of({"run", path, "--check", check}, 0);
    EXPECT_EQ(number(report, "rows_checked"), judged);
    EXPECT_EQ(number(report, "compared"), judged * 9);
    Ran ran = fovea({"run", path, "--check", check});
    EXPECT_EQ(has(ran, "checked    " + std::to_string(judged) + " of 80 rows, sample of seed 1\n"),
              judged < 80)
        << ran.out;
  }
}

// The ratios of two samples differ; a repeated sample gives the same ratios.
TEST(RunCheck, TakesTheSampleOfTheSeed) {
  Directory directory;
  std::string path = noise_file(2, 200).write(directory);
  auto worst = [&path](const char *seed) {
    Json report = report_of({"run", path, "--check", "rows=5", "--seed", seed, "-t", "1"}, 0);
    return json_real_value(json_object_get(json_object_get(report.get(), "worst"), "C1"));
  };
  EXPECT_EQ(worst("1"), worst("1"));
  EXPECT_NE(worst("1"), worst("2"));
}

TEST(RunCheck, OfNothingHasNoVerdictAndSucceeds) {
  Directory directory;
  std::string path = answered_noise_file(directory, 1, 10).write(directory);
  Ran ran = fovea({"run", path, "--check", "none"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_TRUE(has(ran, "checked    nothing, as --check none says\n")) << ran.out;
  EXPECT_TRUE(has(ran, "verdict    not checked\n")) << ran.out;
  Json report = report_of({"run", path, "--check", "none"}, 0);
  EXPECT_EQ(text(report, "verdict"), "not checked");
  EXPECT_TRUE(json_is_null(json_object_get(report.get(), "pass")));
  EXPECT_TRUE(json_is_null(json_object_get(report.get(), "compared_with")));
  EXPECT_EQ(number(report, "compared"), 0);
}

// ---- Results in the file ----

TEST(RunCheck, ComparesResultsInTheFileWhole) {
  Directory directory;
  Json report = report_of(
      {"run", answered_noise_file(directory, 2, 100).write(directory), "--check=rows=3"}, 0);
  EXPECT_EQ(number(report, "rows_checked"), 3);
  EXPECT_EQ(number(report, "rows_bounded"), 197);
  EXPECT_EQ(number(report, "compared"), 200 * 9);
  EXPECT_EQ(text(report, "compared_with"), "file");
}

// One wrong number of 1600, or of 200: a sample of one row hardly ever meets it.
TEST(RunCheck, FindsOneWrongResultInTheFileOutsideTheSample) {
  for (const char *name : {"out", "lse"}) {
    Directory directory;
    MadeFile file = answered_noise_file(directory, 2, 100);
    std::string path = file.write(directory);
    ReadTensor tensor = read_tensor(path, name);
    size_t at = tensor.values.size() * 3 / 4 + 5;
    tensor.values[at] += 0.01;
    path = file.tensor(name, tensor.dtype, tensor.shape, tensor.values).write(directory);
    for (const char *seed : {"1", "2", "3"}) {
      Json report = report_of({"run", path, "--check=rows=1", "--seed", seed}, 1);
      const json_t *bad = json_object_get(report.get(), "first_bad");
      EXPECT_STREQ(json_string_value(json_object_get(bad, "tensor")), name);
      EXPECT_EQ(text(report, "verdict"), "wrong");
    }
  }
}

// Rows outside the sample have wider bounds, and so smaller ratios.
TEST(RunCheck, NeverHoldsRowsOutsideTheSampleToNarrowerBounds) {
  const std::vector<std::vector<std::string>> problems = {
      {}, {"--causal", "top-left"}, {"--window", "3,0"}, {"--softcap", "0.5"}, {"--scale", "9"}};
  for (fv_file_dtype dtype : {FV_FILE_DTYPE_F32, FV_FILE_DTYPE_F16, FV_FILE_DTYPE_BF16}) {
    for (const auto &problem : problems) {
      Directory directory;
      std::string output = directory.file("o.safetensors");
      MadeFile file;
      for (const char *name : {"q", "k", "v"}) file.tensor(name, dtype, {1, 2, 70, 8}, noise);
      std::vector<std::string> command = {"run", file.write(directory)};
      command.insert(command.end(), problem.begin(), problem.end());
      std::vector<std::string> reference = command;
      reference.insert(reference.end(), {"--device", "reference", "--output", output});
      ASSERT_EQ(fovea(reference).code, 0);
      for (const char *name : {"out", "lse"}) {
        ReadTensor made = read_tensor(output, name);
        file.tensor(name, made.dtype, made.shape, made.values);
      }
      file.write(directory);
      command.insert(command.end(), {"-t", "1", "--check"});
      std::vector<std::string> whole = command, sampled = command;
      whole.push_back("all");
      sampled.push_back("rows=1");
      Json all = report_of(whole, 0), one = report_of(sampled, 0);
      const char *criterion;
      json_t *ratio;
      json_object_foreach(json_object_get(one.get(), "worst"), criterion, ratio) {
        json_t *exact = json_object_get(json_object_get(all.get(), "worst"), criterion);
        EXPECT_LE(json_number_value(ratio), json_number_value(exact)) << criterion;
      }
    }
  }
}

// A NaN in v has no magnitude, so the rows of its head have no bounds. The reference judges them.
TEST(RunCheck, LeavesRowsWithoutBoundsToTheReference) {
  Directory directory;
  MadeFile file = noise_file(2, 20);
  file.tensor("v", FV_FILE_DTYPE_F32, {1, 2, 20, 8}, [](int64_t i) { return i == 3 ? NAN : 1.0; });
  file.tensor("out", FV_FILE_DTYPE_F32, {1, 2, 20, 8}, [](int64_t) { return 1.0; });
  Json report = report_of({"run", file.write(directory), "--check=rows=2"}, 0);
  EXPECT_EQ(number(report, "rows_checked") + number(report, "rows_bounded"), 40);
  EXPECT_GE(number(report, "rows_checked"), 20);
  EXPECT_EQ(number(report, "exempt"), 20 * 8);
}

// A clock decides the size of the sample. The command to repeat it names that size.
TEST(RunCheck, NamesTheCommandThatTakesTheSameSample) {
  Directory directory;
  MadeFile file = noise_file(1, 4096);
  file.tensor("lse", FV_FILE_DTYPE_F32, {1, 1, 4096}, [](int64_t) { return 100.0; });
  Json report = report_of({"run", file.write(directory)}, 1);
  const json_t *bad = json_object_get(report.get(), "first_bad");
  std::string repeat = json_string_value(json_object_get(bad, "repeat"));
  std::string rows = " --check rows=" + std::to_string(number(report, "rows_checked"));
  EXPECT_NE(repeat.find(rows), std::string::npos) << repeat;
}

// ---- The reference ----

TEST(RunCheck, TheReferenceDoesNotJudgeItself) {
  Directory directory;
  std::string path = noise_file(1, 10).write(directory);
  Json report = report_of({"run", path, "--device", "reference"}, 0);
  EXPECT_EQ(text(report, "verdict"), "not checked");
  EXPECT_NE(text(report, "not_checked").find("the reference is the judge"), std::string::npos);
  Ran ran = fovea({"run", path, "--device", "reference"});
  EXPECT_TRUE(has(ran, "checked    nothing: the reference is the judge")) << ran.out;
}

TEST(RunCheck, TheReferenceIsComparedWithTheFile) {
  Directory directory;
  std::string path = answered_noise_file(directory, 1, 10).write(directory);
  Json report = report_of({"run", path, "--device", "reference"}, 0);
  EXPECT_EQ(text(report, "compared_with"), "file");
  EXPECT_EQ(text(report, "verdict"), "right");
  EXPECT_EQ(
      text(report_of({"run", path, "--device", "reference", "--dtype", "bf16"}, 0), "verdict"),
      "not checked");
}

// ---- Infinities and NaN ----

TEST(RunCheck, NumbersThatAreNotFiniteAreCountedAndTheFirstIsShown) {
  Directory directory;
  MadeFile file = noise_file(2, 5);
  // The v of kv head 1 has an infinity in dim 2, so the rows of its heads are infinite there.
  file.tensor("v", FV_FILE_DTYPE_F32, {1, 2, 5, 8},
              [](int64_t i) { return i == 40 + 2 ? INFINITY : 1.0; });
  std::string path = file.write(directory);
  Ran ran = fovea({"run", path});
  EXPECT_TRUE(has(ran, "not finite 5 numbers, the first at out[0, 1, 0, 2]: inf\n")) << ran.out;
  EXPECT_TRUE(has(ran, "exempt     40 numbers, whose rows see NaN or infinities\n")) << ran.out;
  EXPECT_EQ(number(report_of({"run", path}, 0), "not_finite"), 5);
  EXPECT_EQ(number(report_of({"run", path, "--check", "none"}, 0), "not_finite"), 5);
}

TEST(RunCheck, ResultsThatAreAllNaNAreNotCalledRight) {
  Directory directory;
  MadeFile file = noise_file(1, 5);
  file.tensor("v", FV_FILE_DTYPE_F32, {1, 1, 5, 8}, [](int64_t) { return NAN; });
  Json report = report_of({"run", file.write(directory)}, 0);
  EXPECT_EQ(text(report, "verdict"), "not checked");
  EXPECT_EQ(number(report, "not_finite"), 40);
}

TEST(RunCheck, FiniteResultsAndEmptyRowsAreNotRemarkedOn) {
  Directory directory;
  std::string path = noise_file(1, 5).write(directory);
  EXPECT_FALSE(has(fovea({"run", path}), "not finite"));
  MadeFile empty = noise_file(1, 5);
  for (const char *name : {"k", "v"}) empty.tensor(name, FV_FILE_DTYPE_F32, {1, 1, 0, 8}, Values{});
  EXPECT_EQ(number(report_of({"run", empty.write(directory)}, 0), "not_finite"), 0)
      << "-infinity is the lse of a row that sees nothing";
}

TEST(RunCheck, WithoutRowsItSaysSo) {
  Directory directory;
  MadeFile file = plain_file();
  file.tensor("q", FV_FILE_DTYPE_F32, {1, 2, 0, 8}, Values{});
  Ran ran = fovea({"run", file.write(directory)});
  EXPECT_EQ(ran.code, 0);
  EXPECT_TRUE(has(ran, "no rows: nothing to compute\n")) << ran.out;
}

// ---- Progress ----

// The line appears after half a second of checking. How much work that is depends on the machine.
// So the rows are doubled until the line appears; each time the work grows fourfold. 1600 rows were
// too few on a fast machine; 12,800 take tens of seconds on any.
TEST(RunCheck, ShowsProgressOnATerminalOnly) {
  Directory directory;
  std::string path, seen;
  int64_t rows = 800;
  do {
    rows *= 2;
    path = noise_file(2, rows).write(directory);
    Launch how{{"run", path, "--check", "all"}};
    how.messages = true;
    seen = on_terminal(how);
  } while (rows < 12800 && seen.find("\rchecking: ") == std::string::npos);
  EXPECT_NE(seen.find("\rchecking: "), std::string::npos) << seen;
  EXPECT_NE(seen.find(" of " + std::to_string(2 * rows) + " rows"), std::string::npos) << seen;
  EXPECT_NE(seen.find("\r\033[Kfile "), std::string::npos) << "nothing is left of it: " << seen;
  EXPECT_EQ(fovea({"run", path, "--check", "all"}).err, "");
}

}  // namespace
}  // namespace fovea_test

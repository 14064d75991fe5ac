// run_verdict_test.cc - right or wrong, against what, and how it is reported.
#include <cmath>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

// ---- The real inputs ----

class RunExample : public testing::TestWithParam<std::tuple<const char *, const char *>> {};

TEST_P(RunExample, IsRight) {
  auto [name, device] = GetParam();
  Ran ran = fovea({"run", example(name) + ".safetensors", "--device", device, "--json"});
  ASSERT_EQ(ran.code, 0) << ran.out << ran.err;
  Json report = parse_json(ran.out);
  EXPECT_TRUE(json_is_true(json_object_get(report.get(), "pass")));
  EXPECT_STREQ(json_string_value(json_object_get(report.get(), "compared_with")), "file");
  EXPECT_STREQ(json_string_value(json_object_get(report.get(), "device")), device);
}

INSTANTIATE_TEST_SUITE_P(All, RunExample,
                         testing::Combine(testing::Values("street-layer0", "street-layer3",
                                                          "street-layer5", "alice-layer2",
                                                          "padded-batch-layer4"),
                                          testing::Values("cpu", "reference")));

// ---- Made files ----

// With one key, out is v, which is 1 everywhere, and the LSE is 0. Batch 1, heads 2, rows 3, dim 8.
MadeFile answered_file() {
  auto one = [](int64_t) { return 1.0; };
  auto zero = [](int64_t) { return 0.0; };
  MadeFile file;
  file.tensor("q", FV_FILE_DTYPE_F32, {1, 2, 3, 8}, zero);
  file.tensor("k", FV_FILE_DTYPE_F32, {1, 2, 1, 8}, zero);
  file.tensor("v", FV_FILE_DTYPE_F32, {1, 2, 1, 8}, one);
  file.tensor("out", FV_FILE_DTYPE_F32, {1, 2, 3, 8}, one);
  file.tensor("lse", FV_FILE_DTYPE_F32, {1, 2, 3}, zero);
  return file;
}

MadeFile &spoil_out(MadeFile &file, fv_file_dtype dtype = FV_FILE_DTYPE_F32) {
  return file.tensor("out", dtype, {1, 2, 3, 8},
                     [](int64_t i) { return i == (1 * 3 + 2) * 8 + 5 ? 1.5 : 1.0; });
}

Json report_of(const std::vector<std::string> &arguments, int code) {
  std::vector<std::string> all = arguments;
  all.push_back("--json");
  Ran ran = fovea(all);
  EXPECT_EQ(ran.code, code) << ran.out << ran.err;
  EXPECT_EQ(ran.err, "");
  return parse_json(ran.out);
}

std::vector<int64_t> index_of(const json_t *bad) {
  std::vector<int64_t> index;
  size_t at;
  json_t *value;
  json_array_foreach(json_object_get(bad, "index"), at, value) {
    index.push_back(json_integer_value(value));
  }
  return index;
}

TEST(RunVerdict, ExpectedTensorsThatFitAreRight) {
  Directory directory;
  Ran ran = fovea({"run", answered_file().write(directory)});
  EXPECT_EQ(ran.code, 0) << ran.out;
  EXPECT_NE(ran.out.find("against    the results in the file\n"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("verdict    right\n"), std::string::npos) << ran.out;
  EXPECT_EQ(ran.err, "");
}

TEST(RunVerdict, AWrongOutIsAMismatchAtItsIndexInTheFile) {
  Directory directory;
  MadeFile file = answered_file();
  Json report = report_of({"run", spoil_out(file).write(directory)}, 1);
  EXPECT_TRUE(json_is_false(json_object_get(report.get(), "pass")));
  const json_t *bad = json_object_get(report.get(), "first_bad");
  EXPECT_STREQ(json_string_value(json_object_get(bad, "tensor")), "out");
  EXPECT_EQ(index_of(bad), (std::vector<int64_t>{0, 1, 2, 5}));
  EXPECT_EQ(json_number_value(json_object_get(bad, "got")), 1);
  EXPECT_EQ(json_number_value(json_object_get(bad, "expected")), 1.5);
}

TEST(RunVerdict, TheIndexFollowsTheLayout) {
  Directory directory;
  auto zero = [](int64_t) { return 0.0; };
  MadeFile file;
  file.tensor("q", FV_FILE_DTYPE_F32, {1, 3, 2, 8}, zero).metadata("layout", "bshd");
  file.tensor("k", FV_FILE_DTYPE_F32, {1, 1, 2, 8}, zero);
  file.tensor("v", FV_FILE_DTYPE_F32, {1, 1, 2, 8}, zero);
  file.tensor("out", FV_FILE_DTYPE_F32, {1, 3, 2, 8},
              [](int64_t i) { return i == (2 * 2 + 1) * 8 + 5 ? 1.0 : 0.0; });
  Json report = report_of({"run", file.write(directory)}, 1);
  EXPECT_EQ(index_of(json_object_get(report.get(), "first_bad")),
            (std::vector<int64_t>{0, 2, 1, 5}));
}

TEST(RunVerdict, AWrongLseIsAMismatchWithAnIndexOfThree) {
  for (const char *layout : {"bhsd", "bshd"}) {
    SCOPED_TRACE(layout);
    Directory directory;
    bool heads_first = std::string(layout) == "bhsd";
    auto zero = [](int64_t) { return 0.0; };
    MadeFile file;
    file.tensor("q", FV_FILE_DTYPE_F32, heads_first ? Shape{1, 2, 3, 8} : Shape{1, 3, 2, 8}, zero);
    Shape kv = heads_first ? Shape{1, 2, 1, 8} : Shape{1, 1, 2, 8};
    file.tensor("k", FV_FILE_DTYPE_F32, kv, zero).tensor("v", FV_FILE_DTYPE_F32, kv, zero);
    file.tensor("lse", FV_FILE_DTYPE_F32, {1, 2, 3}, {0, 0, 0, 0, 0.25, 0});
    Json report = report_of({"run", file.write(directory), "--layout", layout}, 1);
    const json_t *bad = json_object_get(report.get(), "first_bad");
    EXPECT_STREQ(json_string_value(json_object_get(bad, "tensor")), "lse");
    EXPECT_STREQ(json_string_value(json_object_get(bad, "criterion")), "C4");
    EXPECT_EQ(index_of(bad), (std::vector<int64_t>{0, 1, 1}));
    EXPECT_EQ(json_number_value(json_object_get(bad, "expected")), 0.25);
  }
}

TEST(RunVerdict, AMismatchInTextNamesThePlaceAndTheLineThatRepeatsIt) {
  Directory directory;
  MadeFile file = answered_file();
  Ran ran = fovea({"run", spoil_out(file).write(directory, "it's bad.safetensors")});
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.out.find("first bad  out[0, 1, 2, 5] is 1, must be 1.5"), std::string::npos);
  EXPECT_NE(ran.out.find("verdict    WRONG\n"), std::string::npos) << ran.out;
}

TEST(RunVerdict, TheRepeatLineIsACommandThatRepeats) {
  Directory directory;
  MadeFile file = answered_file();
  std::string path = spoil_out(file).write(directory, "it's $bad.safetensors");
  Json report = report_of({"run", path, "--threads", "1"}, 1);
  std::string repeat =
      json_string_value(json_object_get(json_object_get(report.get(), "first_bad"), "repeat"));
  ASSERT_EQ(repeat.compare(0, 6, "fovea "), 0) << repeat;
  Ran again = shell("\"$FOVEA\" " + repeat.substr(6));
  EXPECT_EQ(again.code, 1) << repeat << again.err;
  EXPECT_EQ(json_object_size(parse_json(again.out).get()), json_object_size(report.get()));
}

TEST(RunVerdict, NaNWhereANumberIsExpectedIsAMismatch) {
  Directory directory;
  MadeFile file = answered_file();
  file.tensor("out", FV_FILE_DTYPE_F32, {1, 2, 3, 8}, [](int64_t i) { return i ? 1.0 : NAN; });
  Json report = report_of({"run", file.write(directory)}, 1);
  const json_t *bad = json_object_get(report.get(), "first_bad");
  EXPECT_EQ(index_of(bad), (std::vector<int64_t>{0, 0, 0, 0}));
  EXPECT_TRUE(json_is_null(json_object_get(bad, "expected"))) << "JSON has no NaN";
}

TEST(RunVerdict, InAnotherTypeTheReferenceDecidesAndTheDistanceIsAFigure) {
  Directory directory;
  MadeFile file = answered_file();
  std::string path = spoil_out(file).write(directory);
  Json report = report_of({"run", path, "--dtype", "bf16"}, 0);
  EXPECT_STREQ(json_string_value(json_object_get(report.get(), "compared_with")), "reference");
  EXPECT_EQ(json_number_value(json_object_get(report.get(), "distance_to_file")), 0.5);
  Ran text = fovea({"run", path, "--dtype", "bf16"});
  EXPECT_NE(text.out.find("distance   0.5 at most from out in the file"), std::string::npos)
      << text.out;
}

TEST(RunVerdict, NamingTheFilesOwnTypeChangesNothing) {
  Directory directory;
  MadeFile file = answered_file();
  Json report = report_of({"run", spoil_out(file).write(directory), "--dtype", "f32"}, 1);
  EXPECT_STREQ(json_string_value(json_object_get(report.get(), "compared_with")), "file");
}

TEST(RunVerdict, ExpectedTensorsMayHaveATypeOfTheirOwn) {
  for (fv_file_dtype dtype : {FV_FILE_DTYPE_F16, FV_FILE_DTYPE_BF16}) {
    Directory directory;
    MadeFile file = answered_file(), wrong = answered_file();
    file.tensor("out", dtype, {1, 2, 3, 8}, [](int64_t) { return 1.0; });
    EXPECT_EQ(fovea({"run", file.write(directory)}).code, 0);
    EXPECT_EQ(fovea({"run", spoil_out(wrong, dtype).write(directory)}).code, 1);
  }
}

TEST(RunVerdict, WithoutExpectedTensorsTheReferenceDecides) {
  Directory directory;
  Json report = report_of({"run", plain_file().write(directory)}, 0);
  EXPECT_STREQ(json_string_value(json_object_get(report.get(), "compared_with")), "reference");
  EXPECT_TRUE(json_is_null(json_object_get(report.get(), "distance_to_file")));
  EXPECT_EQ(json_integer_value(json_object_get(report.get(), "compared")), 2 * 3 * (8 + 1));
}

TEST(RunVerdict, AFlagThatChangesTheProblemIsJudgedByTheFileAllTheSame) {
  Directory directory;
  std::string path = example("street-layer3.safetensors");
  EXPECT_EQ(fovea({"run", path, "--causal", "bottom-right"}).code, 1);
}

TEST(RunVerdict, WithNoRowsThereIsNothingToGetWrong) {
  Directory directory;
  MadeFile file = plain_file();
  file.tensor("q", FV_FILE_DTYPE_F32, {1, 2, 0, 8}, Values{});
  Json report = report_of({"run", file.write(directory)}, 0);
  EXPECT_TRUE(json_is_true(json_object_get(report.get(), "pass")));
  EXPECT_EQ(json_integer_value(json_object_get(report.get(), "compared")), 0);
}

TEST(RunVerdict, WithNoKeysEveryRowIsEmpty) {
  Directory directory;
  MadeFile file = plain_file();
  for (const char *name : {"k", "v"}) file.tensor(name, FV_FILE_DTYPE_F32, {1, 2, 0, 8}, Values{});
  std::string output = directory.file("o.safetensors");
  EXPECT_EQ(fovea({"run", file.write(directory), "--output", output}).code, 0);
  EXPECT_EQ(read_tensor(output, "out").values, Values(48, 0.0));
  EXPECT_EQ(read_tensor(output, "lse").values, Values(6, -INFINITY));
}

TEST(RunVerdict, UnknownTensorsAndMetadataAreLeftAlone) {
  Directory directory;
  MadeFile file = plain_file();
  file.tensor("weights", FV_FILE_DTYPE_F64, {2, 2}, Values{1, 2, 3, 4}).metadata("model", "x");
  EXPECT_EQ(fovea({"run", file.write(directory)}).code, 0);
}

TEST(RunVerdict, NpyFilesGiveTheSameResult) {
  Directory directory;
  std::string zeros(2 * 3 * 8 * 4, '\0');
  std::vector<std::string> arguments = {"run", "--output", directory.file("o.safetensors")};
  for (const char *name : {"q", "k", "v"}) {
    std::string path = directory.file(std::string(name) + ".npy");
    write_file(path, npy_bytes("<f4", "(1, 2, 3, 8)", zeros));
    arguments.insert(arguments.end(), {std::string("--") + name, path});
  }
  Json report = report_of(arguments, 0);
  EXPECT_STREQ(json_string_value(json_object_get(report.get(), "dtype")), "f32");
  EXPECT_EQ(read_tensor(arguments[2], "out").shape, (Shape{1, 2, 3, 8}));
}

// ---- JSON ----

// {schema, command, device, kernel, dtype, seconds, compared, pass, worst, first_bad}.
TEST(RunJson, HasTheFieldsAndTypesOfItsSchema) {
  Directory directory;
  MadeFile wrong = answered_file();
  for (bool right : {true, false}) {
    MadeFile file = right ? answered_file() : spoil_out(wrong);
    Json report = report_of({"run", file.write(directory), "--device", "cpu"}, right ? 0 : 1);
    auto at = [&report](const char *key) { return json_object_get(report.get(), key); };
    EXPECT_EQ(json_integer_value(at("schema")), 1);
    EXPECT_STREQ(json_string_value(at("command")), "run");
    EXPECT_STREQ(json_string_value(at("device")), "cpu");
    EXPECT_EQ(std::string(json_string_value(at("kernel"))).compare(0, 6, "fovea_"), 0);
    EXPECT_STREQ(json_string_value(at("dtype")), "f32");
    EXPECT_TRUE(json_is_real(at("seconds")));
    EXPECT_GT(json_real_value(at("seconds")), 0);
    EXPECT_EQ(json_integer_value(at("compared")), 2 * 3 * (8 + 1));
    EXPECT_TRUE(json_is_boolean(at("pass")));
    ASSERT_TRUE(json_is_object(at("worst")));
    EXPECT_TRUE(json_is_number(json_object_get(at("worst"), "C1")));
    EXPECT_TRUE(json_is_number(json_object_get(at("worst"), "C4")));
    EXPECT_EQ(json_is_null(at("first_bad")), right);
    if (right) continue;
    for (const char *key : {"tensor", "index", "got", "expected", "repeat"}) {
      EXPECT_NE(json_object_get(at("first_bad"), key), nullptr) << key;
    }
  }
}

TEST(RunJson, APathThatIsNotUtf8IsStillReported) {
  Directory directory;
  Json report = report_of({"run", plain_file().write(directory, "\xff\xc3\xa9.safetensors")}, 0);
  std::string file = json_string_value(json_object_get(report.get(), "file"));
  EXPECT_NE(file.find("\xef\xbf\xbd\xc3\xa9.safetensors"), std::string::npos) << file;
}

}  // namespace
}  // namespace fovea_test

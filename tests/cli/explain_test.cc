// explain_test.cc - the plan of a call, from shapes alone, as text and as JSON.
#include <unistd.h>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

// q, k and v of `len` rows, F32 [1, 8, len, 128]. Only the header takes room on the disk.
std::string sparse_file(const Directory &directory, int64_t len) {
  const long long bytes = 8ll * len * 128 * 4;
  std::string header = "{";
  for (int i = 0; i < 3; ++i) {
    header += std::string(i ? "," : "") + "\"" + "qkv"[i] +
              "\":{\"dtype\":\"F32\",\"shape\":[1,8," + std::to_string(len) +
              ",128],\"data_offsets\":[" + std::to_string(i * bytes) + "," +
              std::to_string((i + 1) * bytes) + "]}";
  }
  header += "}";
  std::string length(8, '\0');
  for (int i = 0; i < 8; ++i) length[(size_t)i] = (char)(header.size() >> 8 * i & 0xff);
  std::string path = directory.file("sparse.safetensors");
  write_file(path, length + header);
  EXPECT_EQ(truncate(path.c_str(), (off_t)(8 + header.size()) + 3 * bytes), 0);
  return path;
}

TEST(Explain, ReadsNothingButTheHeader) {
#ifdef FOVEA_TESTS_SANITIZED
  GTEST_SKIP() << "sanitizers reserve terabytes of addresses, which a limit forbids";
#endif
  Directory directory;
  std::string path = sparse_file(directory, 1 << 22);  // 48 GiB, and out has 16 more
  for (const char *more : {"", " --dtype bf16", " --json"}) {
    Ran ran = shell("ulimit -v 500000; \"$FOVEA\" explain '" + path + "'" + more);
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find("rows 4194304"), std::string::npos) << ran.out;
  }
}

TEST(Explain, SaysTheSameWhetherTensorsComeInOneFileOrInThree) {
  Directory directory;
  std::string zeros(2 * 3 * 8 * 4, '\0');
  std::vector<std::string> arguments = {"explain"};
  for (const char *name : {"q", "k", "v"}) {
    std::string path = directory.file(std::string(name) + ".npy");
    write_file(path, npy_bytes("<f4", "(1, 2, 3, 8)", zeros));
    arguments.insert(arguments.end(), {std::string("--") + name, path});
  }
  EXPECT_EQ(fovea(arguments).out, fovea({"explain", plain_file().write(directory)}).out);
}

// Missing data is still an error: explain reads no data, but it knows the size of the file.
TEST(Explain, RefusesAFileThatIsCutShort) {
  Directory directory;
  std::string path = plain_file().write(directory);
  ASSERT_EQ(truncate(path.c_str(), (off_t)read_file(path).size() - 1), 0);
  EXPECT_TRUE(fails(fovea({"explain", path}), 3, {path}));
}

TEST(Explain, SeesTheMaskAndTheExpectedResultsByTheirShapes) {
  Directory directory;
  auto one = [](int64_t) { return 1.0; };
  MadeFile file = plain_file();
  file.tensor("attention_mask", FV_FILE_DTYPE_I64, {1, 3}, one);
  Ran ran = fovea({"explain", file.write(directory)});
  EXPECT_EQ(ran.code, 0);
  EXPECT_NE(ran.out.find("mask"), std::string::npos) << ran.out;
  file.tensor("out", FV_FILE_DTYPE_F32, {1, 2, 3, 16}, one);
  EXPECT_TRUE(fails(fovea({"explain", file.write(directory)}), 3, {"tensor out"}));
}

TEST(ExplainJson, HasTheFieldsAndTypesOfItsSchema) {
  Directory directory;
  std::string path = plain_file().write(directory);
  Ran text = fovea({"explain", path, "--device", "cpu"});
  Ran ran = fovea({"explain", path, "--device", "cpu", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  Json report = parse_json(ran.out);
  auto at = [&report](const char *key) { return json_object_get(report.get(), key); };
  EXPECT_EQ(json_integer_value(at("schema")), 1);
  EXPECT_STREQ(json_string_value(at("command")), "explain");
  EXPECT_EQ(json_string_value(at("file")), path);
  EXPECT_STREQ(json_string_value(at("device")), "cpu");
  EXPECT_STREQ(json_string_value(at("dtype")), "f32");
  EXPECT_TRUE(json_is_true(at("supported")));
  EXPECT_EQ(std::string(json_string_value(at("kernel"))).compare(0, 6, "fovea_"), 0);
  EXPECT_NE(std::string(json_string_value(at("reason"))), "");
  EXPECT_EQ(json_string_value(at("plan")), text.out);
  std::string workspace =
      "\nworkspace    " + std::to_string(json_integer_value(at("workspace_bytes")));
  EXPECT_NE(text.out.find(workspace + " bytes"), std::string::npos) << text.out;
  EXPECT_TRUE(json_is_null(at("schedule")));
}

TEST(ExplainJson, HasTheScheduleIfThatIsWanted) {
  Directory directory;
  Ran ran = fovea({"explain", plain_file().write(directory), "--schedule", "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  Json report = parse_json(ran.out);
  EXPECT_TRUE(json_is_string(json_object_get(report.get(), "schedule")));
}

}  // namespace
}  // namespace fovea_test

// usage_test.cc - the command line: what is refused with status 2, and what help and version print.
#include <filesystem>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

TEST(Usage, WithoutACommandTheProgramPointsToHelp) {
  EXPECT_TRUE(fails(fovea({}), 2, {"no command", "fovea --help"}));
  EXPECT_TRUE(fails(fovea({"walk"}), 2, {"'walk'", "fovea --help"}));
  EXPECT_TRUE(fails(fovea({"--json"}), 2, {"'--json'"}));
}

TEST(Usage, HelpAndVersionAreData) {
  for (const char *word : {"--help", "-h", "help"}) {
    Ran ran = fovea({word});
    EXPECT_EQ(ran.code, 0);
    EXPECT_EQ(ran.err, "");
    for (const char *command : {"run", "validate", "map", "explain", "info"}) {
      EXPECT_NE(ran.out.find(std::string("\n  ") + command), std::string::npos) << command;
    }
  }
  for (const char *word : {"--version", "-V"}) {
    Ran ran = fovea({word});
    EXPECT_EQ(ran.code, 0);
    EXPECT_EQ(ran.out.compare(0, 6, "fovea "), 0) << ran.out;
  }
}

TEST(Usage, EveryCommandHelpsAndNamesItsExitCodes) {
  for (const char *command : {"run", "validate", "map", "explain", "info"}) {
    SCOPED_TRACE(command);
    Ran ran = fovea({command, "--help"}), same = fovea({"help", command});
    EXPECT_EQ(ran.code, 0);
    EXPECT_EQ(ran.err, "");
    EXPECT_NE(ran.out.find("Exit status"), std::string::npos);
    EXPECT_EQ(same.out, ran.out);
  }
}

TEST(Usage, UnknownOptionsAndSurplusWordsAreRefused) {
  std::string file = example("street-layer0.safetensors");
  EXPECT_TRUE(fails(fovea({"run", file, "--fast"}), 2, {"--fast"}));
  EXPECT_TRUE(fails(fovea({"run", file, file}), 2, {"one FILE at a time"}));
  EXPECT_TRUE(fails(fovea({"run", file, "--scale"}), 2, {"--scale"}));
  EXPECT_TRUE(fails(fovea({"map", file, "--json"}), 2, {"--json"}));
  EXPECT_TRUE(fails(fovea({"info", file}), 2, {"no arguments"}));
  EXPECT_TRUE(fails(fovea({"validate", file}), 2, {"no files"}));
}

TEST(Usage, TheInputIsAFileOrThreeNpyFiles) {
  std::string file = example("street-layer0.safetensors");
  for (const char *command : {"run", "explain", "map"}) {
    EXPECT_TRUE(fails(fovea({command}), 2, {"no input"}));
    EXPECT_TRUE(fails(fovea({command, file, "--q", "q.npy"}), 2, {"not both"}));
    EXPECT_TRUE(fails(fovea({command, "--q", "q.npy", "--k", "k.npy"}), 2, {"one is missing"}));
  }
}

TEST(Usage, ValuesThatAnOptionDoesNotTakeAreNamedWithThoseItTakes) {
  const struct {
    const char *option;
    std::vector<const char *> values;
    const char *takes;
  } rows[] = {
      {"--layout", {"", "sbhd", "BHSD"}, "bhsd|bshd"},
      {"--device",
       {"", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "cuda:99999"},
       "cuda[:N], N from 0 to 9999"},
      {"--dtype", {"", "f64", "fp16", "BF16", "e4m3"}, "f32|f16|bf16"},
      {"--causal", {"", "yes", "top_left", "none"}, "top-left|bottom-right"},
      {"--window",
       {"", "1", "1,2,3", "-2,0", " 1,2", "1,+2", "1,2 ", "2147483648,0"},
       "L,R, each a number from -1 (no limit) to 2147483647"},
      {"--scale",
       {"", "0", "-1", "nan", "inf", "1e99", "0x8", " 1", "1e-60"},
       "above 0, from 1.4e-45 to 3.4e38"},
      {"--softcap", {"", "0", "-1", "nan", "infinity", "1x"}, "above 0, from 1.4e-45 to 3.4e38"},
      {"--threads", {"", "0", "-1", "4097", "2x", " 2", "99999999999999999999"}, "from 1 to 4096"},
      {"--seed", {"", "-1", "x", "9223372036854775808"}, "from 0 to 9223372036854775807"},
      {"--check",
       {"", "some", "rows", "rows=", "rows=0", "rows=-1", "rows=x", "ALL", "all "},
       "all, none or rows=N, N from 1 to 9223372036854775807"},
  };
  for (const auto &row : rows) {
    for (const char *value : row.values) {
      SCOPED_TRACE(std::string(row.option) + " '" + value + "'");
      EXPECT_TRUE(fails(fovea({"run", "x.safetensors", std::string(row.option) + "=" + value}), 2,
                        {std::string(row.option) + ": '" + value + "'", row.takes}));
    }
  }
}

TEST(Usage, CountsOfTheOtherCommandsNameTheirRangeToo) {
  std::string file = example("street-layer0.safetensors");
  const struct {
    std::vector<std::string> arguments;
    const char *says;
  } rows[] = {
      {{"validate", "--cases=0"},
       "--cases: '0' is not valid; write a number from 1 to 92233720368"},
      {{"validate", "--seed=-1"},
       "--seed: '-1' is not valid; write a number from 0 to 92233720368"},
      {{"validate", "--case=x"}, "--case: 'x' is not valid; write a number from 0 to 922337203685"},
      {{"validate", "--threads=4097"},
       "--threads: '4097' is not valid; write a number from 1 to 4096"},
      {{"map", file, "--head=-1"},
       "--head: '-1' is not valid; write a number from 0 to 2147483647"},
      {{"map", file, "--head=12"}, "12 heads, counted from 0"},
      {{"map", file, "--batch=1"}, "1 batch rows, counted from 0"},
  };
  for (const auto &row : rows) {
    EXPECT_TRUE(fails(fovea(row.arguments), 2, {row.says}));
  }
}

// The instruction set comes from the environment, not from the input, so it counts as a wrong flag.
TEST(Usage, AnInstructionSetThatDoesNotExistIsRefused) {
  std::string file = example("street-layer0.safetensors");
  for (const std::vector<std::string> &command :
       {std::vector<std::string>{"run", file}, {"map", file}, {"explain", file}, {"validate"}}) {
    Launch how{command};
    how.environment = {{"FOVEA_CPU_ISA", "bogus"}};
    EXPECT_TRUE(fails(run(how), 2, {"FOVEA_CPU_ISA", "portable, avx2 or avx512"})) << command[0];
  }
}

// A flag may repeat the metadata's value but not contradict it.
TEST(Usage, AFlagThatContradictsTheMetadataIsRefused) {
  const struct {
    const char *key, *stored, *same, *other;
  } rows[] = {
      {"layout", "bhsd", "bhsd", "bshd"},
      {"scale", "0.25", "2.5e-1", "0.125"},
      {"softcap", "30", "3e1", "20"},
      {"softcap", "0", nullptr, "20"},
      {"causal", "top-left", "top-left", "bottom-right"},
      {"causal", "bottom-right", "bottom-right", "top-left"},
      {"causal", "none", nullptr, "top-left"},
      {"window", "2,0", "2,0", "2,1"},
      {"window", "-1,-1", "-1,-1", "0,-1"},
  };
  for (const auto &row : rows) {
    SCOPED_TRACE(std::string(row.key) + " " + row.stored);
    Directory directory;
    std::string path = plain_file().metadata(row.key, row.stored).write(directory);
    std::string option = std::string("--") + row.key + "=";
    if (row.same) {
      EXPECT_EQ(fovea({"run", path, option + row.same}).code, 0);
    }
    for (const char *command : {"run", "explain", "map"}) {
      EXPECT_TRUE(fails(fovea({command, path, option + row.other}), 2,
                        {std::string("--") + row.key + " contradicts", path, row.stored}));
    }
  }
}

TEST(Usage, TheOutputMayNotBeTheInput) {
  Directory directory;
  std::string path = plain_file().write(directory), before = read_file(path);
  std::filesystem::create_symlink(path, directory.file("link"));
  for (const std::string &output :
       {path, directory.file("link"), directory.path() + "/./in.safetensors"}) {
    EXPECT_TRUE(fails(fovea({"run", path, "--output", output}), 2, {output, "is the input"}));
  }
  EXPECT_EQ(read_file(path), before);
}

TEST(Usage, AMapIsOfOneHeadOrOfAll) {
  std::string file = example("street-layer0.safetensors");
  EXPECT_TRUE(fails(fovea({"map", file, "--head", "1", "--all-heads"}), 2, {"not both"}));
  EXPECT_TRUE(fails(fovea({"map", file, "--head", "12"}), 2, {"--head 12", "12 heads"}));
  EXPECT_TRUE(fails(fovea({"map", file, "--batch", "1"}), 2, {"--batch 1", "1 batch rows"}));
  for (const char *value : {"", "-1", "x", "1.5", "99999999999"}) {
    EXPECT_TRUE(fails(fovea({"map", file, std::string("--head=") + value}), 2, {"--head"}));
    EXPECT_TRUE(fails(fovea({"map", file, std::string("--batch=") + value}), 2, {"--batch"}));
  }
}

TEST(Usage, AnExtensionThatNamesNoFormatIsRefused) {
  Directory directory;
  std::string file = example("street-layer0.safetensors");
  for (const char *name : {"map.jpg", "map", "png"}) {
    EXPECT_TRUE(fails(fovea({"map", file, "--output", directory.file(name)}), 2, {".png"}));
  }
  EXPECT_EQ(directory.names(), std::vector<std::string>());
}

// No machine has this ordinal, so the device is absent whether there is a GPU or not.
TEST(Usage, ADeviceThatIsAbsentIsFour) {
  std::string file = example("street-layer0.safetensors");
  for (const char *command : {"run", "explain", "map"}) {
    EXPECT_TRUE(fails(fovea({command, file, "--device", "cuda:9999"}), 4, {"device"})) << command;
  }
  EXPECT_TRUE(fails(fovea({"validate", "--device", "cuda:9999", "--cases", "1"}), 4, {"device"}));
}

}  // namespace
}  // namespace fovea_test

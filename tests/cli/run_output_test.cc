// run_output_test.cc - what is written where, and what is left when writing fails.
#include <sys/stat.h>

#include <cmath>
#include <filesystem>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

using Names = std::vector<std::string>;

TEST(RunOutput, HoldsOutInTypeAndLayoutLseAndTheSettings) {
  Directory directory;
  MadeFile file = plain_file();
  file.tensor("v", FV_FILE_DTYPE_F32, {1, 2, 3, 16}, [](int64_t i) { return i % 16 * 0.25; });
  file.metadata("tokens", "[[\"a\", \"b\", \"c\"]]");
  std::string output = directory.file("o.safetensors");
  ASSERT_EQ(fovea({"run", file.write(directory), "--dtype", "bf16", "--causal", "top-left",
                   "--window", "2,-1", "--softcap", "30", "--output", output})
                .code,
            0);
  ReadTensor out = read_tensor(output, "out"), lse = read_tensor(output, "lse");
  EXPECT_EQ(out.dtype, FV_FILE_DTYPE_BF16);
  EXPECT_EQ(out.shape, (Shape{1, 2, 3, 16}));
  EXPECT_EQ(lse.dtype, FV_FILE_DTYPE_F32);
  EXPECT_EQ(lse.shape, (Shape{1, 2, 3}));
  EXPECT_EQ(read_metadata(output, "layout"), "bhsd");
  EXPECT_EQ(read_metadata(output, "causal"), "top-left");
  EXPECT_EQ(read_metadata(output, "window"), "2,-1");
  EXPECT_EQ(read_metadata(output, "softcap"), "30");
  EXPECT_EQ(std::stof(read_metadata(output, "scale")), 1 / std::sqrt(8.0f));
  EXPECT_EQ(read_metadata(output, "tokens"), "[[\"a\", \"b\", \"c\"]]");
}

// q, k and v with the written out, lse and metadata are an input again, and it passes.
TEST(RunOutput, IsWhatTheSameRunExpects) {
  for (const char *dtype : {"f32", "f16", "bf16"}) {
    SCOPED_TRACE(dtype);
    Directory directory;
    std::string output = directory.file("o.safetensors");
    auto wave = [](int64_t i) { return std::sin((double)i * 0.7); };
    fv_file_dtype type = *dtype == 'b'                 ? FV_FILE_DTYPE_BF16
                         : std::string(dtype) == "f16" ? FV_FILE_DTYPE_F16
                                                       : FV_FILE_DTYPE_F32;
    MadeFile file;
    for (const char *name : {"q", "k", "v"}) file.tensor(name, type, {1, 2, 5, 8}, wave);
    ASSERT_EQ(fovea({"run", file.write(directory), "--window", "2,1", "--output", output}).code, 0);
    ReadTensor out = read_tensor(output, "out"), lse = read_tensor(output, "lse");
    file.tensor("out", out.dtype, out.shape, out.values);
    file.tensor("lse", lse.dtype, lse.shape, lse.values);
    for (const char *key : {"layout", "scale", "softcap", "causal", "window"}) {
      file.metadata(key, read_metadata(output, key));
    }
    Ran again = fovea({"run", file.write(directory)});
    EXPECT_EQ(again.code, 0) << again.out << again.err;
    EXPECT_NE(again.out.find("against    the results in the file"), std::string::npos);
  }
}

// numpy.save writes the same bytes.
TEST(RunOutput, NamedNpyIsAnNpyFileOfOutAlone) {
  Directory directory;
  std::string input = plain_file().write(directory), output = directory.file("o.npy");
  for (const char *dtype : {"f32", "f16"}) {
    Ran ran = fovea({"run", input, "--output", output, "--dtype", dtype});
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find("written    out alone"), std::string::npos) << ran.out;
    const char *type = dtype[1] == '3' ? "<f4" : "<f2";
    std::string dictionary =
        std::string("{'descr': '") + type + "', 'fortran_order': False, 'shape': (1, 2, 3, 8), }";
    std::string data(2 * 3 * 8 * (dtype[1] == '3' ? 4 : 2), '\0');
    std::string expected = std::string("\x93NUMPY\x01\x00\x76\x00", 10) + dictionary;
    expected += std::string(127 - expected.size(), ' ') + "\n" + data;
    EXPECT_EQ(read_file(output), expected);
  }
  EXPECT_EQ(directory.names(), (Names{"in.safetensors", "o.npy"}));
}

TEST(RunOutput, OfATypeThatNpyLacksIsRefusedBeforeTheWork) {
  Directory directory;
  std::string input = plain_file().write(directory), output = directory.file("o.npy");
  EXPECT_TRUE(fails(fovea({"run", input, "-o", output, "--dtype", "bf16"}), 2,
                    {output, "bf16", ".safetensors", "--dtype f32"}));
  EXPECT_EQ(directory.names(), (Names{"in.safetensors"}));
}

TEST(RunOutput, ReplacesAnOldFileAndLeavesNothingElse) {
  Directory directory;
  std::string output = directory.file("o.safetensors");
  write_file(output, "old");
  ASSERT_EQ(fovea({"run", plain_file().write(directory), "--output", output}).code, 0);
  EXPECT_TRUE(read_tensor(output, "out").found);
  EXPECT_EQ(directory.names(), (Names{"in.safetensors", "o.safetensors"}));
}

TEST(RunOutput, MayHaveARelativeName) {
  Directory directory;
  plain_file().write(directory);
  Launch how{{"run", "in.safetensors", "-o", "o.safetensors"}};
  how.directory = directory.path();
  EXPECT_EQ(run(how).code, 0);
  EXPECT_EQ(directory.names(), (Names{"in.safetensors", "o.safetensors"}));
}

TEST(RunOutput, IsWrittenAlsoWhenTheVerdictIsWrong) {
  Directory directory;
  MadeFile file = plain_file();
  file.tensor("lse", FV_FILE_DTYPE_F32, {1, 2, 3}, [](int64_t) { return 7.0; });
  std::string output = directory.file("o.safetensors");
  EXPECT_EQ(fovea({"run", file.write(directory), "--output", output}).code, 1);
  EXPECT_TRUE(read_tensor(output, "lse").found) << "it is what one looks at then";
}

TEST(RunOutput, WhereItCannotBeWrittenIsFiveAndNothingIsLeft) {
  Directory directory;
  std::string input = plain_file().write(directory);
  std::filesystem::create_directory(directory.file("folder"));
  ASSERT_EQ(mkfifo(directory.file("pipe").c_str(), 0600), 0);
  // The test names devices only through its own links. Should the refusal ever break, a rename
  // would replace the link. Named directly, the machine's device would be replaced if root runs
  // this.
  std::filesystem::create_symlink("/dev/null", directory.file("null"));
  std::filesystem::create_symlink("/proc/self/fd/1", directory.file("stdout"));
  Names before = directory.names();
  for (const std::string &output :
       {directory.file("none/o.safetensors"), directory.file("in.safetensors/o"),
        directory.file("folder"), directory.file("pipe"), directory.file("null"),
        directory.file("stdout"), directory.file(std::string(300, 'x'))}) {
    SCOPED_TRACE(output);
    EXPECT_TRUE(fails(fovea({"run", input, "--output", output}), 5, {output.substr(0, 80)}));
  }
  EXPECT_EQ(directory.names(), before);
  for (const char *output : {"none/o.png", "in.safetensors/o.png"}) {
    SCOPED_TRACE(output);
    EXPECT_TRUE(fails(fovea({"map", input, "--output", directory.file(output)}), 5, {output}));
  }
  EXPECT_EQ(directory.names(), before);
}

TEST(RunOutput, OfWhichTheDiskTakesOnlyAPartIsFiveAndNothingIsLeft) {
  Directory directory;
  // 2 x 512 rows x 8 floats of out: 32 KiB, above a limit of 8 KiB (16 units of 512 bytes).
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_F32, {1, 2, 512, 8}, [](int64_t) { return 0.0; });
  }
  std::string input = file.write(directory);
  for (const std::string &rest :
       {"run '" + input + "' --output '" + directory.file("o.safetensors") + "'",
        "map '" + input + "' --all-heads --output '" + directory.file("o.pdf") + "'"}) {
    Ran ran = shell("ulimit -f 8; trap '' XFSZ; \"$FOVEA\" " + rest);
    EXPECT_TRUE(fails(ran, 5, {"o."})) << rest;
  }
  EXPECT_EQ(directory.names(), (Names{"in.safetensors"}));
}

TEST(RunOutput, ThatIsEmptyWithoutMemoryIsFive) {
#ifdef FOVEA_TESTS_SANITIZED
  GTEST_SKIP() << "sanitizers reserve terabytes of addresses, which a limit forbids";
#endif
  Directory directory;
  // The result of 500,000 rows x 512 is 1 GB, and the shell allows 0.8.
  MadeFile file;
  auto zero = [](int64_t) { return 0.0; };
  file.tensor("q", FV_FILE_DTYPE_F32, {1, 1, 500000, 8}, zero);
  file.tensor("k", FV_FILE_DTYPE_F32, {1, 1, 1, 8}, zero);
  file.tensor("v", FV_FILE_DTYPE_F32, {1, 1, 1, 512}, zero);
  std::string input = file.write(directory);
  Ran ran = shell("ulimit -v 800000; \"$FOVEA\" run '" + input + "'");
  EXPECT_TRUE(fails(ran, 5, {"out of memory"}));
}

// ---- Streams ----

Ran with_stdout(const std::vector<std::string> &arguments, const std::string &path) {
  Launch how{arguments};
  how.out_path = path;
  return run(how);
}

TEST(Stdout, ThatIsFullOrClosedIsFiveForEveryCommand) {
  std::string file = example("street-layer0.safetensors");
  const std::vector<std::vector<std::string>> commands = {{"run", file},
                                                          {"run", file, "--json"},
                                                          {"map", file},
                                                          {"explain", file},
                                                          {"info"},
                                                          {"info", "--json"},
                                                          {"--help"},
                                                          {"--version"},
                                                          {"run", "--help"},
                                                          {"map", "--usage"},
                                                          {"validate", "--cases=1"},
                                                          {"validate", "--cases=1", "--json"}};
  for (const auto &command : commands) {
    for (const char *stream : {"/dev/full", "-"}) {
      Ran ran = with_stdout(command, stream);
      EXPECT_TRUE(fails(ran, 5, {"stdout cannot be written"})) << command[0] << " to " << stream;
    }
  }
}

TEST(Stdout, WithoutAReaderIsFiveAndNoSignal) {
  std::string file = example("street-layer0.safetensors");
  // The program starts only after `true` has ended, so there is no reader when it writes.
  Ran ran = shell("{ sleep 0.2; \"$FOVEA\" run '" + file + "'; echo $? >&2; } | true");
  EXPECT_EQ(ran.err, "fovea: stdout cannot be written: Broken pipe\n5\n");
}

TEST(Stdout, IsNotNeededWhereNothingIsPrinted) {
  Directory directory;
  Ran ran = with_stdout(
      {"map", example("street-layer0.safetensors"), "--output", directory.file("o.svg")}, "-");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(directory.names(), (Names{"o.svg"}));
}

TEST(Stderr, StaysEmptyWithoutATerminal) {
  std::string file = example("street-layer0.safetensors");
  for (const std::vector<std::string> &command : {std::vector<std::string>{"run", file},
                                                  {"map", file},
                                                  {"explain", file},
                                                  {"info"},
                                                  {"validate", "--cases", "60"}}) {
    Ran ran = fovea(command);
    EXPECT_EQ(ran.code, 0) << command[0];
    EXPECT_EQ(ran.err, "") << command[0];
    EXPECT_NE(ran.out, "") << command[0];
  }
}

}  // namespace
}  // namespace fovea_test

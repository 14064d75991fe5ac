// map_test.cc - `fovea map`: what is drawn, with which labels, in which format and colours.
#include <algorithm>

#include "cli/made_file.h"

namespace fovea_test {
namespace {

const char kEscape = '\033';

// Rows and keys of the same tokens; one key gets all the weight of a row, its own.
MadeFile diagonal_file(int64_t batch = 1) {
  auto diagonal = [](int64_t i) { return i / 8 % 4 == i % 8 ? 64.0 : 0.0; };
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_F32, {batch, 2, 4, 8}, diagonal);
  }
  return file;
}

// The cells of the drawing: what stands between its bars.
std::string cells(const std::string &drawing) {
  std::string found;
  for (size_t begin = 0; begin < drawing.size();) {
    size_t end = std::min(drawing.find('\n', begin), drawing.size());
    std::string line = drawing.substr(begin, end - begin);
    size_t left = line.find('|'), right = line.rfind('|');
    bool is_scale = line.find(".:-=+*#%@") != std::string::npos;
    if (left != std::string::npos && right > left && !is_scale) {
      found += line.substr(left, right - left + 1) + "\n";
    }
    begin = end + 1;
  }
  return found;
}

std::string map_cells(const MadeFile &file, std::vector<std::string> flags = {}) {
  Directory directory;
  flags.insert(flags.begin(), {"map", file.write(directory)});
  Ran ran = fovea(flags);
  EXPECT_EQ(ran.code, 0) << ran.err;
  return cells(ran.out);
}

TEST(Map, DrawsTheWeightsInTheTerminal) {
  EXPECT_EQ(map_cells(diagonal_file()), "|@@      |\n|  @@    |\n|    @@  |\n|      @@|\n");
}

TEST(Map, ObeysTheFlagsOfTheProblem) {
  // Row i sees key i + 1 alone, and the last row nothing.
  EXPECT_EQ(map_cells(visibility_file(3, 4), {"--causal", "top-left", "--window", "0,0"}),
            "|@@      |\n|  @@    |\n|    @@  |\n");
}

TEST(Map, LeavesPaddingAtTheEndOut) {
  MadeFile file = diagonal_file(2);
  file.tensor("attention_mask", FV_FILE_DTYPE_I32, {2, 4}, {1, 1, 1, 1, 1, 1, 0, 0});
  EXPECT_EQ(map_cells(file, {"--batch", "1"}), "|@@  |\n|  @@|\n");
  EXPECT_EQ(map_cells(file, {"--batch", "0"}).size(), 4 * 11u);
}

TEST(Map, ABatchRowWithoutKeysIsRefused) {
  Directory directory;
  MadeFile file = diagonal_file();
  file.tensor("attention_mask", FV_FILE_DTYPE_I32, {1, 4}, {0, 0, 0, 0});
  std::string path = file.write(directory);
  EXPECT_TRUE(fails(fovea({"map", path}), 3, {path, "batch row 0 has nothing to draw"}));
}

TEST(Map, LabelsAreTheTokens) {
  Directory directory;
  MadeFile file = diagonal_file();
  file.metadata("tokens", "[[\"one\", \"two\", \"three\"]]");
  Ran ran = fovea({"map", file.write(directory), "--output", directory.file("o.svg")});
  ASSERT_EQ(ran.code, 0) << ran.err;
  std::string svg = read_file(directory.file("o.svg"));
  for (const char *token : {">one<", ">two<", ">three<"}) {
    EXPECT_NE(svg.find(token), std::string::npos) << token;
  }
}

TEST(Map, TokensThatAreNoLabelsAreRefused) {
  for (const char *tokens :
       {"", "x", "{}", "[]", "[\"a\"]", "[[1, 2]]", "[[\"a\", \"b\", \"c\", \"d\", \"e\"]]",
        "[[\"a\"]] x", "[[\"\\ud800\"]]"}) {
    SCOPED_TRACE(tokens);
    Directory directory;
    std::string path = diagonal_file().metadata("tokens", tokens).write(directory);
    std::string output = directory.file("o.svg");
    EXPECT_TRUE(fails(fovea({"map", path, "--output", output}), 3, {path, "metadata tokens"}));
    EXPECT_EQ(directory.names(), std::vector<std::string>{"in.safetensors"});
  }
}

TEST(Map, WritesEachFormatAndNothingElse) {
  const std::pair<const char *, std::string> formats[] = {
      {"o.png", "\x89PNG"}, {"o.svg", "<?xml"}, {"o.pdf", "%PDF"}, {"O.PNG", "\x89PNG"}};
  for (const auto &[name, signature] : formats) {
    Directory directory, apart;
    std::string output = directory.file(name);
    Ran ran = fovea({"map", diagonal_file().write(apart), "--all-heads", "--output", output});
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.out, "");
    EXPECT_EQ(read_file(output).compare(0, signature.size(), signature), 0) << name;
    EXPECT_EQ(directory.names(), std::vector<std::string>{name});
  }
}

TEST(Map, AllHeadsHaveAPanelEach) {
  Ran ran = fovea({"map", example("street-layer0.safetensors"), "--all-heads"});
  for (int head = 0; head < 12; ++head) {
    EXPECT_NE(ran.out.find("head " + std::to_string(head)), std::string::npos) << ran.out;
  }
}

// A terabyte of weights from a file of 24 MB.
TEST(Map, ASequenceTooLongForTheMachineIsRefusedBeforeItsMemoryIsTaken) {
  Directory directory;
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_BF16, {1, 1, 500000, 8}, [](int64_t) { return 0.0; });
  }
  std::string path = file.write(directory);
  EXPECT_TRUE(fails(fovea({"map", path}), 5, {path, "out of memory", "use a shorter sequence"}));
}

// ---- Colour ----

std::string drawn_on_terminal(const std::map<std::string, std::string> &environment) {
  Directory directory;
  Launch how{{"map", diagonal_file().write(directory)}};
  how.environment = environment;
  return on_terminal(how);
}

bool is_colored(const std::string &text) {
  return text.find(kEscape) != std::string::npos;
}

TEST(MapColor, IsForTerminalsAlone) {
  Directory directory;
  Launch how{{"map", diagonal_file().write(directory)}};
  how.environment = {{"TERM", "xterm-256color"}, {"LANG", "C.UTF-8"}};
  EXPECT_FALSE(is_colored(run(how).out));
  EXPECT_TRUE(is_colored(drawn_on_terminal(how.environment)));
}

TEST(MapColor, NoColorForbidsItUnlessItIsEmpty) {
  EXPECT_FALSE(is_colored(drawn_on_terminal({{"TERM", "xterm"}, {"NO_COLOR", "1"}})));
  EXPECT_FALSE(is_colored(drawn_on_terminal({{"TERM", "xterm"}, {"NO_COLOR", "0"}})));
  EXPECT_TRUE(is_colored(drawn_on_terminal({{"TERM", "xterm"}, {"NO_COLOR", ""}})));
}

TEST(MapColor, ATerminalThatSaysItHasNoneGetsNone) {
  EXPECT_FALSE(is_colored(drawn_on_terminal({{"TERM", "dumb"}})));
  EXPECT_FALSE(is_colored(drawn_on_terminal({})));
}

TEST(MapColor, IsTakenBackAtTheEnd) {
  std::string text = drawn_on_terminal({{"TERM", "xterm"}});
  size_t last = text.rfind(kEscape);
  ASSERT_NE(last, std::string::npos);
  EXPECT_EQ(text.compare(last, 4, "\033[0m"), 0);
}

}  // namespace
}  // namespace fovea_test

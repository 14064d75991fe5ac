// map_test.cc - `fovea map`: what it draws, with which labels, in which format and colours.
#include <cmath>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

const char kEscape = '\033';

// Rows and keys of the same tokens. Each row gives all its weight to its own key.
MadeFile diagonal_file(int64_t batch = 1) {
  auto diagonal = [](int64_t i) { return i / 8 % 4 == i % 8 ? 64.0 : 0.0; };
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_F32, {batch, 2, 4, 8}, diagonal);
  }
  return file;
}

std::string map_cells(const MadeFile &file, std::vector<std::string> flags = {}) {
  Directory directory;
  flags.insert(flags.begin(), {"map", file.write(directory)});
  Ran ran = fovea(flags);
  EXPECT_EQ(ran.code, 0) << ran.err;
  return drawn_cells(ran.out);
}

TEST(Map, DrawsTheWeightsInTheTerminal) {
  EXPECT_EQ(map_cells(diagonal_file()), "|@@      |\n|  @@    |\n|    @@  |\n|      @@|\n");
}

TEST(Map, ObeysTheFlagsOfTheProblem) {
  // Row i sees only key i; keys that a row does not see are hatched.
  EXPECT_EQ(map_cells(visibility_file(3, 4), {"--causal", "top-left", "--window", "0,0"}),
            "|@@//////|\n|//@@////|\n|////@@//|\n");
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

// ---- Mass ----

TEST(Map, DrawsTheMassOfKeysAsAStripPerHead) {
  // Each row of both heads gives all its weight to its own key.
  EXPECT_EQ(map_cells(diagonal_file(), {"--mass"}), "|@@@@@@@@|\n|@@@@@@@@|\n");
  EXPECT_EQ(map_cells(diagonal_file(), {"--mass", "--head", "1"}), "|@@@@@@@@|\n");
  EXPECT_EQ(map_cells(diagonal_file(), {"--mass", "--all-heads"}), "|@@@@@@@@|\n|@@@@@@@@|\n");
}

TEST(Map, MassCountsTheRowsThatSeeAKey) {
  // Equal weights under a causal mask: key j gets 1/(j+1) + ... + 1/4 of the four rows.
  auto zero = [](int64_t) { return 0.0; };
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_F32, {1, 1, 4, 8}, zero);
  }
  for (const char *device : {"cpu", "reference"}) {
    Directory directory;
    Ran ran =
        fovea({"map", file.write(directory), "--mass", "--causal", "top-left", "--device", device});
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(drawn_cells(ran.out), "|@@++--..|\n") << ran.out;  // of 2.08: 1, 0.52, 0.28, 0.12
    EXPECT_NE(ran.out.find("| 2.08"), std::string::npos) << ran.out;
    EXPECT_NE(ran.out.find("mass of keys"), std::string::npos) << ran.out;
  }
}

TEST(Map, MassLeavesPaddingAtTheEndOut) {
  MadeFile file = diagonal_file(2);
  file.tensor("attention_mask", FV_FILE_DTYPE_I32, {2, 4}, {1, 1, 1, 1, 1, 1, 0, 0});
  EXPECT_EQ(map_cells(file, {"--batch", "1", "--mass", "--head", "0"}), "|@@@@|\n");
}

TEST(Map, MassSaysInItsPictureWhatItIs) {
  Directory directory;
  MadeFile file = diagonal_file();
  file.metadata("tokens", "[[\"one\", \"two\", \"three\", \"four\"]]");
  for (const char *name : {"o.svg", "o.png", "o.pdf"}) {
    Ran ran = fovea(
        {"map", file.write(directory), "--mass", "--head", "1", "--output", directory.file(name)});
    ASSERT_EQ(ran.code, 0) << ran.err;
  }
  std::string svg = read_file(directory.file("o.svg"));
  for (const char *text :
       {">four<", ">1<", "mass: the weights of 4 queries, added up", ", head 1, mass of keys"}) {
    EXPECT_NE(svg.find(text), std::string::npos) << text;
  }
  EXPECT_EQ(svg.find("attention weight"), std::string::npos);
}

// ---- Titles and labels ----

TEST(MapTitle, NamesLayerHeadMaskCausalityWindowAndSoftcap) {
  MadeFile file = diagonal_file(2);
  file.tensor("attention_mask", FV_FILE_DTYPE_I32, {2, 4}, {1, 1, 1, 1, 1, 1, 1, 0});
  file.metadata("layer", "7").metadata("model", "a model");
  std::string svg = svg_of(file, {"--head", "1", "--batch", "1", "--causal", "top-left", "--window",
                                  "2,-1", "--softcap", "30"});
  EXPECT_TRUE(has(svg, ">in.safetensors, layer 7, head 1<")) << svg;
  EXPECT_TRUE(has(svg,
                  ">a model, batch row 1, causal top-left, window 2,-1, softcap 30, "
                  "mask hides 1 of 4 keys<"))
      << svg;
}

TEST(MapTitle, SaysThatThereIsNoMaskAndWhichHeads) {
  std::string svg = svg_of(diagonal_file(), {"--all-heads"});
  EXPECT_TRUE(has(svg, ">in.safetensors, heads 0 to 1<")) << svg;
  EXPECT_TRUE(has(svg, ">batch row 0, no mask<")) << svg;
}

TEST(MapTitle, ALongNameOfAModelLeavesRoomForTheRest) {
  std::string svg =
      svg_of(diagonal_file().metadata("model", std::string(500, 'm')), {"--softcap", "30"});
  EXPECT_TRUE(has(svg, "mmm, batch row 0, softcap 30, no mask<")) << svg;
}

TEST(MapTitle, IsAtTheTopInTheTerminalToo) {
  Directory directory;
  Ran ran = fovea({"map", diagonal_file().write(directory), "--head", "1"});
  EXPECT_EQ(ran.out.rfind("in.safetensors, head 1\nbatch row 0, no mask\n", 0), 0u) << ran.out;
}

// Two queries, four keys.
MadeFile cross_file() {
  MadeFile file = visibility_file(2, 4);
  return file.metadata("tokens", "[[\"alpha\", \"beta\", \"gamma\", \"delta\"]]");
}

size_t count_of(const std::string &text, const std::string &part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

TEST(MapLabels, TokensNameKeysAloneInCrossAttention) {
  std::string svg = svg_of(cross_file());
  EXPECT_EQ(count_of(svg, ">alpha<"), 1u);
  EXPECT_EQ(count_of(svg, ">0<"), 2u) << "the row, and the scale's 0";
}

TEST(MapLabels, QueryTokensNameTheRows) {
  std::string svg = svg_of(cross_file().metadata("query_tokens", "[[\"eins\", \"zwei\"]]"));
  for (const char *label : {">eins<", ">zwei<", ">alpha<", ">delta<"}) {
    EXPECT_EQ(count_of(svg, label), 1u) << label;
  }
}

TEST(MapLabels, QueryTokensNameTheRowsAlsoWhereThereAreAsManyKeys) {
  MadeFile file = diagonal_file();
  file.metadata("tokens", "[[\"a1\", \"a2\", \"a3\", \"a4\"]]");
  file.metadata("query_tokens", "[[\"b1\", \"b2\", \"b3\", \"b4\"]]");
  // A padding mask of the keys hides no queries where queries are other tokens.
  file.tensor("attention_mask", FV_FILE_DTYPE_I32, {1, 4}, {1, 1, 0, 0});
  std::string svg = svg_of(file);
  EXPECT_EQ(count_of(svg, ">a1<") + count_of(svg, ">a2<"), 2u);
  EXPECT_EQ(count_of(svg, ">b1<") + count_of(svg, ">b4<"), 2u);
  EXPECT_EQ(count_of(svg, ">a3<"), 0u);
}

TEST(MapLabels, QueryTokensThatAreNoLabelsAreRefusedByName) {
  Directory directory;
  std::string path = cross_file().metadata("query_tokens", "[[1]]").write(directory);
  EXPECT_TRUE(fails(fovea({"map", path}), 3, {path, "metadata query_tokens", "[[\"the\", "}));
}

TEST(MapLabels, SentencePiecesMarkIsASpace) {
  MadeFile file = diagonal_file();
  file.metadata("tokens", "[[\"\u2581the\", \"\u2581\u2581two\", \"a\u2581b\", \"\"]]");
  std::string svg = svg_of(file);
  for (const char *label : {"> the<", ">  two<", ">a b<"}) EXPECT_TRUE(has(svg, label)) << label;
  EXPECT_FALSE(has(svg, "\xE2\x96\x81"));
}

// ---- Colours ----

// Head 0 gives its weight to one key; head 1 spreads it evenly over four.
MadeFile faint_file() {
  auto bright = [](int64_t i) { return i < 32 && i / 8 % 4 == i % 8 ? 64.0 : 0.0; };
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_F32, {1, 2, 4, 8}, bright);
  }
  return file;
}

TEST(MapColors, EachHeadHasItsOwnScaleUnlessAskedOtherwise) {
  const std::string bright = "|@   ||", even = "@@@@|\n";
  EXPECT_EQ(map_cells(faint_file(), {"--all-heads"}).substr(0, 12), "|@   ||@@@@|");
  EXPECT_EQ(map_cells(faint_file(), {"--all-heads", "--colors", "head"}).substr(0, 12),
            "|@   ||@@@@|");
  EXPECT_EQ(map_cells(faint_file(), {"--all-heads", "--colors", "shared"}).substr(0, 12),
            "|@   ||::::|");
}

TEST(MapColors, TheRootOfAWeightShowsFaintOnes) {
  Directory directory;
  MadeFile file;  // logits 0 and log 16 (7.842 is log 16 * sqrt(8)): weights of 16 to 1
  auto first = [](int64_t i) { return i == 0 ? 7.842 : 0.0; };
  auto ones = [](int64_t i) { return i % 8 == 0 ? 1.0 : 0.0; };
  file.tensor("q", FV_FILE_DTYPE_F32, {1, 1, 1, 8}, ones);
  file.tensor("k", FV_FILE_DTYPE_F32, {1, 1, 2, 8}, first);
  file.tensor("v", FV_FILE_DTYPE_F32, {1, 1, 2, 8}, first);
  EXPECT_EQ(map_cells(file), "|@@..|\n");
  EXPECT_EQ(map_cells(file, {"--colors", "root"}), "|@@::|\n");
}

TEST(MapColors, OthersAreRefusedWithAList) {
  Directory directory;
  std::string path = diagonal_file().write(directory);
  EXPECT_TRUE(fails(fovea({"map", path, "--colors", "log"}), 2,
                    {"--colors", "'log'", "head, shared or root"}));
}

// ---- Devices ----

TEST(Map, TheCpuAndTheReferenceDrawTheSame) {
  for (const char *file : {"street-layer3.safetensors", "padded-batch-layer4.safetensors"}) {
    for (const char *dtype : {"f32", "bf16"}) {
      std::vector<std::string> words = {"map",          example(file), "--all-heads", "--causal",
                                        "bottom-right", "--window",    "70,-1",       "--softcap",
                                        "20",           "--dtype",     dtype,         "--device"};
      std::vector<std::string> cpu = words, reference = words;
      cpu.push_back("cpu"), reference.push_back("reference");
      Ran first = fovea(cpu), second = fovea(reference);
      EXPECT_EQ(first.code, 0) << first.err;
      EXPECT_EQ(first.out, second.out) << file << " " << dtype;
    }
  }
}

// Many keys come in blocks, each with a max of its own. One query head of a group of four.
TEST(Map, GroupedHeadsAndManyKeysAreDrawnAlikeToo) {
  Directory directory;
  MadeFile file;
  auto waves = [](int64_t i) { return 3 * std::sin(0.7 * static_cast<double>(i * i % 1009)); };
  file.tensor("q", FV_FILE_DTYPE_F16, {1, 4, 5, 16}, waves);
  file.tensor("k", FV_FILE_DTYPE_F16, {1, 2, 301, 16}, waves);
  file.tensor("v", FV_FILE_DTYPE_F16, {1, 2, 301, 16}, waves);
  std::string path = file.write(directory);
  for (const char *head : {"0", "1", "3"}) {
    Ran first = fovea({"map", path, "--head", head, "--device", "cpu"});
    Ran second = fovea({"map", path, "--head", head, "--device", "reference"});
    EXPECT_EQ(first.out, second.out) << head;
  }
}

// ---- Sizes and limits ----

TEST(MapSize, ATerminalIsToldHowFarLongWorkIs) {
  Directory directory;
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_BF16, {1, 1, 8192, 8}, [](int64_t) { return 0.0; });
  }
  Launch how{{"map", file.write(directory)}};
  how.messages = true;
  std::string text = on_terminal(how);
  EXPECT_TRUE(has(text, "\rfovea map: 50 %\r")) << text;
  EXPECT_TRUE(has(text, "\r\033[Kin.safetensors")) << text;
  how.arguments[1] = diagonal_file().write(directory);
  EXPECT_FALSE(has(on_terminal(how), "fovea map:")) << "a moment's work";
}

#ifndef FOVEA_TESTS_SANITIZED  // sanitizers need more address space and more stack

// 2 heads of 8192 x 8192 weights are 540 MB; the file has 0.8 MB.
TEST(MapSize, MemoryDoesNotGrowWithTheNumberOfWeights) {
  Directory directory;
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) {
    file.tensor(name, FV_FILE_DTYPE_BF16, {1, 2, 8192, 8}, [](int64_t) { return 0.0; });
  }
  std::string path = file.write(directory), output = directory.file("o.svg");
  Ran ran =
      shell("ulimit -v 400000; \"$FOVEA\" map " + path + " --all-heads --threads 2 -o " + output);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(read_file(output), "each cell shows the largest of 16 \xC3\x97 16 weights"));
}

// A band of 1024 rows of 16384 keys takes 64 MiB: more than the limit leaves to the program.
TEST(MapSize, WithoutMemoryForABandTheMapIsRefused) {
  Directory directory;
  MadeFile file;
  auto zero = [](int64_t) { return 0.0; };
  file.tensor("q", FV_FILE_DTYPE_BF16, {1, 1, 1024, 8}, zero);
  file.tensor("k", FV_FILE_DTYPE_BF16, {1, 1, 16384, 8}, zero);
  file.tensor("v", FV_FILE_DTYPE_BF16, {1, 1, 16384, 8}, zero);
  std::string path = file.write(directory);
  Ran ran = shell("ulimit -v 70000; \"$FOVEA\" map " + path + " --threads 1");
  EXPECT_TRUE(fails(ran, 5, {path, "out of memory", "1024 x 16384 weights at a time"}));
}

TEST(MapLimit, AFileThatMayNotGrowIsAnErrorAndLeavesNothing) {
  for (const char *name : {"o.png", "o.svg", "o.pdf"}) {
    for (const char *blocks : {"0", "1"}) {
      Directory directory, apart;
      std::string output = directory.file(name);
      Ran ran = shell(std::string("( ulimit -f ") + blocks + "; \"$FOVEA\" map " +
                      diagonal_file().write(apart) + " --all-heads --output " + output +
                      " ) 2>&1 | cat >&2");
      EXPECT_TRUE(has(ran.err, output + ": writing failed")) << ran.err;
      EXPECT_TRUE(has(ran.err, "File too large")) << ran.err;
      EXPECT_EQ(directory.names(), std::vector<std::string>());
    }
  }
}

TEST(MapLimit, StandardOutputThatMayNotGrowIsAnErrorToo) {
  Directory directory;
  Ran ran = shell("( ulimit -f 0; \"$FOVEA\" map " + diagonal_file().write(directory) + " > " +
                  directory.file("out") + "; echo status $? ) 2>&1 | cat >&2");
  EXPECT_TRUE(has(ran.err, "fovea: ")) << ran.err;
  EXPECT_TRUE(has(ran.err, "status 5")) << ran.err;
}

TEST(MapLimit, AStackOfSixteenKilobytesIsEnough) {
  Directory directory, apart;
  std::string path = diagonal_file().write(apart);
  for (const char *name : {"o.png", "o.svg", "o.pdf"}) {
    Ran ran = shell("ulimit -s 16; exec \"$FOVEA\" map " + path + " --all-heads --threads 3 -o " +
                    directory.file(name));
    EXPECT_EQ(ran.code, 0) << name << " " << ran.signal << " " << ran.err;
  }
  EXPECT_EQ(directory.names(), (std::vector<std::string>{"o.pdf", "o.png", "o.svg"}));
  Ran ran = shell("ulimit -s 16; exec \"$FOVEA\" map " + path);
  EXPECT_EQ(ran.out, fovea({"map", path}).out);
  for (const char *others : {"map --help", "run ", "explain ", "info"}) {
    std::string words = others;
    if (words.back() == ' ') words += path;
    ran = shell("ulimit -s 16; exec \"$FOVEA\" " + words);
    EXPECT_EQ(ran.code, 0) << words << " " << ran.signal << " " << ran.err;
  }
}

#endif

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

// map_weights_test.cc - `fovea map` of weights that a file holds.
#include <cmath>
#include <cstring>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

// Every row of length `keys` gives all its weight to one key, and no two rows of a file of up to
// `keys` rows to the same: what is drawn says which row it is.
std::function<double(int64_t)> one_key_each(int64_t keys) {
  return [keys](int64_t i) { return i / keys % keys == i % keys ? 1.0 : 0.0; };
}

MadeFile weights_file(const Shape &shape, fv_file_dtype dtype = FV_FILE_DTYPE_F32) {
  MadeFile file;
  file.tensor("weights", dtype, shape, one_key_each(shape.back()));
  return file;
}

std::string cells_of(const std::string &path, std::vector<std::string> flags = {}) {
  flags.insert(flags.begin(), {"map", path});
  Ran ran = fovea(flags);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
  return drawn_cells(ran.out);
}

std::string cells_of(const MadeFile &file, std::vector<std::string> flags = {}) {
  Directory directory;
  return cells_of(file.write(directory), std::move(flags));
}

// One line per row in which the key of its weight is marked, two characters per key.
std::string rows_with(const std::vector<int> &marked, int keys) {
  std::string text;
  for (int key : marked) {
    text += "|";
    for (int j = 0; j < keys; ++j) text += j == key ? "@@" : "  ";
    text += "|\n";
  }
  return text;
}

TEST(MapWeights, AreDrawnAsTheyAre) {
  EXPECT_EQ(cells_of(weights_file({2, 4})), rows_with({0, 1}, 4));
}

TEST(MapWeights, MayHaveHeadsAndBatchRowsBeforeTheQueries) {
  EXPECT_EQ(cells_of(weights_file({2, 3, 6})), rows_with({0, 1, 2}, 6));
  EXPECT_EQ(cells_of(weights_file({2, 3, 6}), {"--head", "1"}), rows_with({3, 4, 5}, 6));
  MadeFile whole = weights_file({3, 2, 2, 12});
  EXPECT_EQ(cells_of(whole), rows_with({0, 1}, 12));
  EXPECT_EQ(cells_of(whole, {"--batch", "1"}), rows_with({4, 5}, 12));
  EXPECT_EQ(cells_of(whole, {"--batch", "2", "--head", "1"}), rows_with({10, 11}, 12));
}

TEST(MapWeights, AllHeadsHaveAPanelEach) {
  Directory directory;
  Ran ran = fovea({"map", weights_file({3, 2, 6}).write(directory), "--all-heads"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  for (const char *title : {"head 0", "head 1", "head 2"}) {
    EXPECT_TRUE(has(ran.out, title)) << ran.out;
  }
  EXPECT_EQ(drawn_cells(ran.out),
            "|@     ||  @   ||    @ |\n"
            "| @    ||   @  ||     @|\n");
}

TEST(MapWeights, OfSixteenBitsAreDrawnAlike) {
  for (fv_file_dtype dtype : {FV_FILE_DTYPE_F16, FV_FILE_DTYPE_BF16}) {
    EXPECT_EQ(cells_of(weights_file({2, 3, 6}, dtype), {"--head", "1"}), rows_with({3, 4, 5}, 6));
  }
}

TEST(MapWeights, OfAnNpyFileNeedNoName) {
  Directory directory;
  const float weights[] = {0, 1, 0, 1, 0, 0};
  std::string data(sizeof weights, '\0');
  std::memcpy(data.data(), weights, sizeof weights);
  write_file(directory.file("w.npy"), npy_bytes("<f4", "(2, 3)", data));
  EXPECT_EQ(cells_of(directory.file("w.npy")), rows_with({1, 0}, 3));
}

TEST(MapWeights, BesideQueriesAreNotWhatIsDrawn) {
  MadeFile file = visibility_file(1, 4);
  file.tensor("weights", FV_FILE_DTYPE_F32, {1, 2}, Values{0, 1});
  EXPECT_EQ(cells_of(file), "|@@@@@@@@|\n");
}

TEST(MapWeights, HiddenKeysAndWhatIsNoWeightHaveMarks) {
  MadeFile file;
  file.tensor("weights", FV_FILE_DTYPE_F32, {1, 5}, Values{1, -INFINITY, NAN, -1, 0});
  EXPECT_EQ(cells_of(file), "|@@//!!<<  |\n");
}

// Head 0 gives key 0 half of the weight of key 1, head 1 nothing; hidden keys have none.
TEST(MapWeights, MassIsTheSumOfAColumn) {
  MadeFile file;
  file.tensor("weights", FV_FILE_DTYPE_F32, {2, 2, 3},
              Values{1, 2, -INFINITY, 1, 2, 0, 0, 4, 0, 0, 0, 0});
  Directory directory;
  Ran ran = fovea({"map", file.write(directory), "--mass"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(drawn_cells(ran.out), "|++@@  |\n|  @@  |\n") << ran.out;
  EXPECT_TRUE(has(ran.out, "| 4\n")) << ran.out;
  EXPECT_TRUE(has(ran.out, "mass of keys")) << ran.out;
  EXPECT_EQ(cells_of(file, {"--mass", "--head", "1"}), "|  @@  |\n");
}

// 3 heads of 2000 x 1500: more than a page shows.
TEST(MapWeights, TooManyForAPageAreReducedByMaximum) {
  Directory directory;
  MadeFile file = weights_file({3, 2000, 1500});
  std::string output = directory.file("o.svg");
  Ran ran = fovea({"map", file.write(directory), "--all-heads", "-o", output});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_TRUE(has(read_file(output), "each cell shows the largest of 4 \xC3\x97 3 weights"));
}

// ---- Names ----

MadeFile named_file() {
  MadeFile file = weights_file({2, 2, 3});
  file.metadata("title", "from letters to sounds");
  file.metadata("head_names", "[\"near\", \"far\"]");
  file.metadata("tokens", "[[\"a\", \"b\", \"c\"]]").metadata("query_tokens", "[[\"AH\", \"B\"]]");
  file.metadata("query_axis", "sound").metadata("key_axis", "letter").metadata("model", "a model");
  file.metadata("quantity", "how sure it is");
  return file;
}

TEST(MapWeights, HaveTheNamesOfTheMetadata) {
  std::string svg = svg_of(named_file(), {"--all-heads", "--colors", "shared"});
  for (const char *text : {">from letters to sounds<", ">near<", ">far<", ">a<", ">c<", ">AH<",
                           ">B<", "sound", "letter", ">a model<", ">how sure it is<"}) {
    EXPECT_TRUE(has(svg, text)) << text;
  }
}

TEST(MapWeights, NameTheirHeadsWhereTheyAreRows) {
  std::string svg = svg_of(named_file(), {"--mass"});
  for (const char *text : {">from letters to sounds, heads 0 to 1, mass of keys<", ">near<",
                           ">far<", "mass: the weights of 2 queries, added up"}) {
    EXPECT_TRUE(has(svg, text)) << text;
  }
  EXPECT_TRUE(has(svg_of(named_file(), {"--mass", "--head", "1"}), ">far<"));
}

TEST(MapWeights, OneOfSeveralHeadsIsNamedInTheTitle) {
  EXPECT_TRUE(has(svg_of(named_file(), {"--head", "1"}), ">from letters to sounds, far<"));
  MadeFile file = weights_file({2, 1, 3}).metadata("title", "a title");
  EXPECT_TRUE(has(svg_of(file, {"--head", "1"}), ">a title, head 1<"));
  EXPECT_TRUE(has(svg_of(weights_file({1, 3}).metadata("title", "a title")), ">a title<"));
  file = weights_file({2, 1, 3}).metadata("head_names", "[\"near\", \"far\"]");
  EXPECT_TRUE(has(svg_of(file, {"--head", "1"}), ">in.safetensors, far<"));
}

TEST(MapWeights, OfEachBatchRowHaveItsTokens) {
  MadeFile file = weights_file({2, 1, 1, 2});
  file.metadata("tokens", "[[\"a0\", \"b0\"], [\"a1\", \"b1\"]]");
  file.metadata("query_tokens", "[[\"q0\"], [\"q1\"]]").metadata("title", "a title");
  std::string svg = svg_of(file, {"--batch", "1"});
  for (const char *text : {">a1<", ">b1<", ">q1<", ">batch row 1<"}) EXPECT_TRUE(has(svg, text));
  EXPECT_FALSE(has(svg, ">a0<") || has(svg, ">q0<"));
  EXPECT_TRUE(has(svg_of(file), ">batch row 0<"));
}

TEST(MapWeights, MayHaveMoreRowsThanKeys) {
  MadeFile file;
  file.tensor("weights", FV_FILE_DTYPE_F32, {5, 2}, one_key_each(2));
  file.metadata("query_tokens", "[[\"r0\", \"r1\", \"r2\", \"r3\", \"r4\"]]");
  std::string svg = svg_of(file);
  for (const char *text : {">r0<", ">r4<"}) EXPECT_TRUE(has(svg, text)) << text;
  Directory directory;
  std::string path = file.metadata("tokens", "[[\"a\", \"b\", \"c\"]]").write(directory);
  EXPECT_TRUE(fails(fovea({"map", path}), 3, {path, "metadata tokens", "at most 2 strings"}));
}

TEST(MapWeights, ALongTitleLeavesRoomForTheRestAndEndsWithACharacter) {
  std::string title;
  for (int i = 0; i < 100; ++i) title += "\xE2\x82\xAC";
  MadeFile file = weights_file({2, 1, 3}).metadata("title", title);
  std::string svg = svg_of(file, {"--mass"});
  EXPECT_TRUE(has(svg, "\xE2\x82\xAC, heads 0 to 1, mass of keys<")) << svg;
  EXPECT_FALSE(has(svg, "\xEF\xBF\xBD"));
}

TEST(MapWeights, EmptyNamesOfAxesAreNone) {
  MadeFile file = weights_file({2, 3}).metadata("query_axis", "").metadata("key_axis", "");
  std::string svg = svg_of(file);
  for (const char *text : {"query", "key"}) EXPECT_TRUE(has(svg, text)) << text;
}

TEST(MapWeights, HeadsWithoutANameHaveTheirNumber) {
  MadeFile file = weights_file({3, 1, 3}).metadata("head_names", "[\"\", \"far\"]");
  std::string svg = svg_of(file, {"--all-heads"});
  for (const char *text : {">head 0 (1)<", ">far (1)<", ">head 2 (1)<"}) {
    EXPECT_TRUE(has(svg, text)) << text;
  }
}

TEST(MapWeights, WithoutNamesSayFileHeadAndBatchRow) {
  std::string svg = svg_of(weights_file({2, 2, 1, 4}).metadata("layer", "7"), {"--batch", "1"});
  EXPECT_TRUE(has(svg, ">in.safetensors, layer 7, head 0<")) << svg;
  EXPECT_TRUE(has(svg, ">batch row 1<")) << svg;
  EXPECT_FALSE(has(svg_of(weights_file({2, 4})), "batch row"));
}

TEST(MapWeights, TokensNameTheRowsOfASquareToo) {
  std::string svg = svg_of(weights_file({2, 2}).metadata("tokens", "[[\"one\", \"two\"]]"));
  size_t first = svg.find(">one<");
  EXPECT_TRUE(first != std::string::npos && svg.find(">one<", first + 1) != std::string::npos);
}

// ---- What is refused ----

TEST(MapWeights, OfOtherRanksAndTypesAreRefused) {
  Directory directory;
  for (const Shape &shape : {Shape{4}, Shape{1, 1, 1, 1, 4}}) {
    std::string path = weights_file(shape).write(directory);
    EXPECT_TRUE(fails(fovea({"map", path}), 3, {path, "tensor weights must be [queries, keys]"}));
  }
  for (fv_file_dtype dtype : {FV_FILE_DTYPE_F64, FV_FILE_DTYPE_I32}) {
    std::string path = weights_file({2, 2}, dtype).write(directory);
    EXPECT_TRUE(fails(fovea({"map", path}), 3, {path, "tensor weights must be F32, F16 or BF16"}));
  }
}

TEST(MapWeights, OfWhichThereAreNoneAreRefused) {
  Directory directory;
  // The last would need labels for 2^31 rows of nothing.
  for (const Shape &shape :
       {Shape{0, 4}, Shape{4, 0}, Shape{0, 2, 2}, Shape{INT32_MAX, 0}, Shape{INT32_MAX, 0, 0}}) {
    MadeFile file;
    file.tensor("weights", FV_FILE_DTYPE_F32, shape, Values{});
    file.metadata("query_tokens", "[[]]").metadata("tokens", "[[]]").metadata("head_names", "[]");
    std::string path = file.write(directory);
    for (const char *flag : {"--all-heads", "--mass"}) {
      EXPECT_TRUE(fails(fovea({"map", path, flag}), 3, {path, "has nothing to draw"}));
    }
  }
  MadeFile large;
  large.tensor("weights", FV_FILE_DTYPE_F32, {INT64_C(1) << 31, 0}, Values{});
  std::string path = large.write(directory);
  EXPECT_TRUE(fails(fovea({"map", path}), 3, {path, "has an extent of 2^31 or more"}));
  path = weights_file({2, 1, 2}).write(directory);
  EXPECT_TRUE(fails(fovea({"map", path, "--head", "2"}), 2, {"--head 2", "has 2 heads"}));
  EXPECT_TRUE(fails(fovea({"map", path, "--batch", "1"}), 2, {"--batch 1", "has 1 batch rows"}));
}

TEST(MapWeights, FlagsThatSayHowToComputeThemAreRefused) {
  Directory directory;
  std::string path = weights_file({2, 2}).write(directory);
  const std::vector<std::vector<std::string>> flags = {
      {"--causal", "top-left"}, {"--window", "1,1"}, {"--scale", "1"},     {"--device", "cpu"},
      {"--threads", "1"},       {"--softcap", "1"},  {"--layout", "bhsd"}, {"--dtype", "f32"}};
  for (const auto &flag : flags) {
    EXPECT_TRUE(fails(fovea({"map", path, flag[0], flag[1]}), 2,
                      {flag[0] + ": ", path, "holds weights, which are drawn as they are"}));
  }
}

TEST(MapWeights, WithoutTensorsOrInDamagedFilesAreRefusedByName) {
  Directory directory;
  MadeFile other;
  std::string path = other.tensor("other", FV_FILE_DTYPE_F32, {1}, Values{0}).write(directory);
  EXPECT_TRUE(fails(fovea({"map", path}), 3, {path, "q is missing, and so is weights"}));
  path = directory.file("cut.npy");
  write_file(path, npy_bytes("<f4", "(2, 3)", "1234"));
  EXPECT_TRUE(fails(fovea({"map", path}), 3, {path, "'weights'"}));
}

TEST(MapWeights, NamesThatAreNoListsAreRefused) {
  Directory directory;
  for (const char *names : {"[\"a\", \"b\", \"c\"]", "[[\"a\"]]", "[1]", "a", "{}"}) {
    std::string path = weights_file({2, 1, 2}).metadata("head_names", names).write(directory);
    EXPECT_TRUE(fails(fovea({"map", path}), 3,
                      {path, "metadata head_names", "at most 2 strings", "[\"left\""}));
  }
  for (const char *key : {"tokens", "query_tokens"}) {
    std::string path = weights_file({2, 3}).metadata(key, "[\"a\"]").write(directory);
    EXPECT_TRUE(
        fails(fovea({"map", path}), 3, {path, std::string("metadata ") + key, "[[\"the\""}));
  }
}

TEST(MapWeights, TheirFileIsNotReplaced) {
  Directory directory;
  std::string path = weights_file({2, 2}).write(directory, "w.svg");
  EXPECT_TRUE(fails(fovea({"map", path, "--output", path}), 2, {path, "is the input"}));
}

}  // namespace
}  // namespace fovea_test

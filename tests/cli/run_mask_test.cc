// run_mask_test.cc - which keys a row sees: windows, causal, attention_mask, layouts. The files'
// results can be written down by hand.
#include <cmath>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

// Runs a file and returns the keys that its rows see.
std::string seen(const MadeFile &file, int64_t len_kv, std::vector<std::string> flags,
                 int64_t batch_row = 0) {
  Directory directory;
  std::string output = directory.file("out.safetensors");
  flags.insert(flags.begin(), {"run", file.write(directory), "--output", output});
  Ran ran = fovea(flags);
  if (ran.code != 0) return "exit code " + std::to_string(ran.code) + ": " + ran.err;
  return visible_keys(output, len_kv, batch_row);
}

TEST(RunMask, WithoutFlagsEveryRowSeesEveryKey) {
  EXPECT_EQ(seen(visibility_file(2, 4), 4, {}), "####/####");
}

TEST(RunMask, CausalTopLeftCountsFromTheFirstKey) {
  EXPECT_EQ(seen(visibility_file(3, 5), 5, {"--causal", "top-left"}), "#..../##.../###..");
  EXPECT_EQ(seen(visibility_file(4, 2), 2, {"--causal", "top-left"}), "#./##/##/##");
}

TEST(RunMask, CausalBottomRightCountsFromTheLastKey) {
  EXPECT_EQ(seen(visibility_file(3, 5), 5, {"--causal", "bottom-right"}), "###../####./#####");
  EXPECT_EQ(seen(visibility_file(4, 2), 2, {"--causal", "bottom-right"}), "../../#./##");
}

// i + o - L <= j <= i + o + R with o = len_kv - len_q.
TEST(RunMask, AWindowIncludesBothEndsAndEndsAtTheLastKey) {
  EXPECT_EQ(seen(visibility_file(5, 5), 5, {"--window", "1,2"}), "###../####./.####/..###/...##");
  EXPECT_EQ(seen(visibility_file(3, 5), 5, {"--window", "1,0"}), ".##../..##./...##");
  EXPECT_EQ(seen(visibility_file(3, 5), 5, {"--window", "0,0"}), "..#../...#./....#");
}

TEST(RunMask, MinusOneIsNoLimitOnThatSide) {
  EXPECT_EQ(seen(visibility_file(3, 5), 5, {"--window", "-1,0"}), "###../####./#####");
  EXPECT_EQ(seen(visibility_file(3, 5), 5, {"--window=1,-1"}), ".####/..###/...##");
  EXPECT_EQ(seen(visibility_file(3, 5), 5, {"--window", "-1,-1"}), "#####/#####/#####");
}

TEST(RunMask, AWindowOfTheLargestNumberIsNoLimitEither) {
  EXPECT_EQ(seen(visibility_file(2, 3), 3, {"--window", "2147483647,2147483647"}), "###/###");
}

TEST(RunMask, WithTopLeftTheWindowCountsFromTheFirstKey) {
  EXPECT_EQ(seen(visibility_file(3, 5), 5, {"--causal", "top-left", "--window", "1,3"}),
            "#..../##.../.##..");
}

TEST(RunMask, WithBottomRightTheWindowIsCutAtTheDiagonal) {
  EXPECT_EQ(seen(visibility_file(3, 5), 5, {"--causal", "bottom-right", "--window", "1,3"}),
            ".##../..##./...##");
}

TEST(RunMask, MetadataMeansWhatTheFlagsMean) {
  MadeFile file = visibility_file(3, 5);
  file.metadata("causal", "top-left").metadata("window", "1,3").metadata("layout", "bhsd");
  EXPECT_EQ(seen(file, 5, {}), "#..../##.../.##..");
  EXPECT_EQ(seen(file, 5, {"--causal", "top-left", "--window", "1,3", "--layout", "bhsd"}),
            "#..../##.../.##..");
}

TEST(RunMask, MetadataCausalNoneIsNoMask) {
  EXPECT_EQ(seen(visibility_file(2, 3).metadata("causal", "none"), 3, {}), "###/###");
}

TEST(RunMask, AnAttentionMaskOfEveryIntegerTypeHidesWhereItIsZero) {
  for (fv_file_dtype dtype : {FV_FILE_DTYPE_I64, FV_FILE_DTYPE_I32, FV_FILE_DTYPE_I16,
                              FV_FILE_DTYPE_I8, FV_FILE_DTYPE_U64, FV_FILE_DTYPE_U32,
                              FV_FILE_DTYPE_U16, FV_FILE_DTYPE_U8, FV_FILE_DTYPE_BOOL}) {
    SCOPED_TRACE(fv_file_dtype_name(dtype));
    MadeFile file = visibility_file(2, 4, 2);
    file.tensor("attention_mask", dtype, {2, 4}, {1, 0, 1, 1, 0, 1, 1, 0});
    EXPECT_EQ(seen(file, 4, {}, 0), "#.##/#.##");
    EXPECT_EQ(seen(file, 4, {}, 1), ".##./.##.");
  }
}

TEST(RunMask, AnyNumberButZeroIsVisibleWhicheverOfItsBytesIsSet) {
  MadeFile file = visibility_file(1, 4);
  file.tensor("attention_mask", FV_FILE_DTYPE_I64, {1, 4}, {256, 0, -1, 0x1p40});
  EXPECT_EQ(seen(file, 4, {}), "#.##");
}

TEST(RunMask, PaddedQueriesAreComputedToo) {
  MadeFile file = visibility_file(3, 3);
  file.tensor("attention_mask", FV_FILE_DTYPE_I32, {1, 3}, {1, 1, 0});
  EXPECT_EQ(seen(file, 3, {}), "##./##./##.");
}

TEST(RunMask, ARowThatSeesNothingIsZeroWithLseMinusInfinity) {
  MadeFile file = visibility_file(2, 2);
  file.tensor("attention_mask", FV_FILE_DTYPE_BOOL, {1, 2}, {0, 0});
  EXPECT_EQ(seen(file, 2, {}), "../..");
}

TEST(RunMask, MaskAndCausalBothHide) {
  MadeFile file = visibility_file(3, 3);
  file.tensor("attention_mask", FV_FILE_DTYPE_BOOL, {1, 3}, {0, 1, 1});
  EXPECT_EQ(seen(file, 3, {"--causal", "bottom-right"}), ".../.#./.##");
}

// ---- Layouts ----

// Only v matters: with one key per head, the out of query head h is the v of its kv head.
MadeFile layout_file(const Shape &q, const Shape &kv) {
  MadeFile file;
  file.tensor("q", FV_FILE_DTYPE_F32, q, [](int64_t) { return 0.0; });
  file.tensor("k", FV_FILE_DTYPE_F32, kv, [](int64_t) { return 0.0; });
  file.tensor("v", FV_FILE_DTYPE_F32, kv, [](int64_t i) { return (double)i; });
  return file;
}

ReadTensor output_of(const MadeFile &file, std::vector<std::string> flags, const char *tensor) {
  Directory directory;
  std::string output = directory.file("o.safetensors");
  flags.insert(flags.begin(), {"run", file.write(directory), "--output", output});
  Ran ran = fovea(flags);
  EXPECT_EQ(ran.code, 0) << ran.err;
  return ran.code == 0 ? read_tensor(output, tensor) : ReadTensor();
}

TEST(RunLayout, HeadsComeFirstByDefaultAndOutHasTheSameOrder) {
  // 4 heads over 2, 3 queries, 1 key: head h reads kv head h / 2, whose v begins at 8 (h / 2).
  ReadTensor out = output_of(layout_file({1, 4, 3, 8}, {1, 2, 1, 8}), {}, "out");
  ASSERT_EQ(out.shape, (Shape{1, 4, 3, 8}));
  for (int64_t i = 0; i < 96; ++i) ASSERT_EQ(out.values[i], i / 24 / 2 * 8 + i % 8) << i;
}

TEST(RunLayout, BshdHasTheSequenceFirst) {
  MadeFile file = layout_file({1, 3, 4, 8}, {1, 1, 2, 8});
  ReadTensor out = output_of(file, {"--layout", "bshd"}, "out");
  ASSERT_EQ(out.shape, (Shape{1, 3, 4, 8}));
  for (int64_t i = 0; i < 96; ++i) ASSERT_EQ(out.values[i], i / 8 % 4 / 2 * 8 + i % 8) << i;
  file.metadata("layout", "bshd");
  EXPECT_EQ(output_of(file, {}, "out").values, out.values);
}

TEST(RunLayout, LseIsBatchHeadsRowsInBothLayouts) {
  // Row i of head h has the logit i + 4 h with its one key, and so that LSE.
  for (bool heads_first : {true, false}) {
    MadeFile file;
    file.tensor("q", FV_FILE_DTYPE_F32, heads_first ? Shape{1, 2, 3, 8} : Shape{1, 3, 2, 8},
                [heads_first](int64_t i) {
                  int64_t head = heads_first ? i / 24 : i / 8 % 2;
                  int64_t row = heads_first ? i / 8 % 3 : i / 16;
                  return i % 8 ? 0.0 : (double)(row + 4 * head);
                });
    for (const char *name : {"k", "v"}) {
      file.tensor(name, FV_FILE_DTYPE_F32, heads_first ? Shape{1, 2, 1, 8} : Shape{1, 1, 2, 8},
                  [](int64_t) { return 1.0; });
    }
    ReadTensor lse =
        output_of(file, {"--scale", "1", "--layout", heads_first ? "bhsd" : "bshd"}, "lse");
    EXPECT_EQ(lse.dtype, FV_FILE_DTYPE_F32);
    EXPECT_EQ(lse.shape, (Shape{1, 2, 3}));
    EXPECT_EQ(lse.values, (Values{0, 1, 2, 4, 5, 6}));
  }
}

// ---- Scale and softcap: with one key the LSE is the logit ----

double logit(std::vector<std::string> flags, const char *key = "", const char *value = "") {
  MadeFile file;
  file.tensor("q", FV_FILE_DTYPE_F32, {1, 1, 1, 16}, [](int64_t i) { return i == 0 ? 8.0 : 0.0; });
  file.tensor("k", FV_FILE_DTYPE_F32, {1, 1, 1, 16}, [](int64_t) { return 1.0; });
  file.tensor("v", FV_FILE_DTYPE_F32, {1, 1, 1, 16}, [](int64_t) { return 1.0; });
  if (*key) file.metadata(key, value);
  ReadTensor lse = output_of(file, std::move(flags), "lse");
  return lse.values.size() == 1 ? lse.values[0] : NAN;
}

TEST(RunLogit, TheDefaultScaleIsOneOverTheRootOfDim) {
  EXPECT_EQ(logit({}), 2);
}

TEST(RunLogit, TheScaleComesFromTheFlagOrTheMetadata) {
  EXPECT_EQ(logit({"--scale", "0.5"}), 4);
  EXPECT_EQ(logit({}, "scale", "0.5"), 4);
  EXPECT_EQ(logit({"--scale", "5e-1"}, "scale", "0.5"), 4) << "the same number, otherwise written";
}

TEST(RunLogit, SoftcapBendsTheScaledLogit) {
  const double bent = 3 * std::tanh(4.0 / 3);
  // Criterion C4: u32 (8 (1 + S) + 4 |lse|); S is 4, the magnitude before the cap.
  const double bound = 0x1p-24 * (8 * 5 + 4 * bent);
  EXPECT_NEAR(logit({"--scale", "0.5", "--softcap", "3"}), bent, bound);
  EXPECT_NEAR(logit({"--scale", "0.5"}, "softcap", "3"), bent, bound);
  EXPECT_EQ(logit({"--scale", "0.5"}, "softcap", "0"), 4) << "0 is none";
}

}  // namespace
}  // namespace fovea_test

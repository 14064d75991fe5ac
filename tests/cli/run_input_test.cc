// run_input_test.cc - inputs that are missing, unreadable, or wrong in any way: exit code 3, one
// line that names the file and the tensor, nothing on stdout, no output file.
#include <sys/stat.h>

#include <filesystem>

#include "tests/cli/made_file.h"

namespace fovea_test {
namespace {

// Every command that reads a file refuses it, and none leaves anything behind.
void expect_refused(const Directory &directory, const std::string &path,
                    std::vector<std::string> words) {
  words.push_back(path);
  std::vector<std::string> before = directory.names();
  EXPECT_TRUE(fails(fovea({"run", path, "--output", directory.file("o.safetensors")}), 3, words));
  EXPECT_TRUE(fails(fovea({"run", path, "--json"}), 3, words));
  EXPECT_TRUE(fails(fovea({"explain", path}), 3, words));
  EXPECT_TRUE(fails(fovea({"map", path, "--output", directory.file("o.png")}), 3, words));
  EXPECT_EQ(directory.names(), before);
}

void expect_refused(const MadeFile &file, const std::vector<std::string> &words) {
  Directory directory;
  expect_refused(directory, file.write(directory), words);
}

double zero(int64_t) {
  return 0;
}

// ---- Files ----

TEST(RunInput, AMissingFileIsRefused) {
  Directory directory;
  expect_refused(directory, directory.file("none.safetensors"), {"no such file"});
}

TEST(RunInput, WhatIsNoRegularFileIsRefusedWithoutWaiting) {
  Directory directory;
  expect_refused(directory, directory.path(), {"not a regular file"});
  ASSERT_EQ(mkfifo(directory.file("pipe").c_str(), 0600), 0);
  expect_refused(directory, directory.file("pipe"), {"not a regular file"});
  expect_refused(directory, "/dev/null", {"not a regular file"});
}

TEST(RunInput, AnEmptyACutAndALengthenedFileAreRefused) {
  Directory directory;
  std::string whole = read_file(plain_file().write(directory));
  for (const std::string &bytes : {std::string(), whole.substr(0, whole.size() - 1), whole + "x"}) {
    write_file(directory.file("in.safetensors"), bytes);
    expect_refused(directory, directory.file("in.safetensors"), {});
  }
}

// ---- Tensors ----

TEST(RunInput, EachOfQKAndVMustBeThere) {
  for (const char *name : {"q", "k", "v"}) {
    expect_refused(plain_file().without(name), {std::string("tensor ") + name + " is missing"});
  }
}

TEST(RunInput, EachOfQKAndVMustBeOfRankFour) {
  for (const char *name : {"q", "k", "v"}) {
    std::string says = std::string("tensor ") + name + " has rank ";
    expect_refused(plain_file().tensor(name, FV_FILE_DTYPE_F32, {2, 3, 8}, zero), {says + "3"});
    expect_refused(plain_file().tensor(name, FV_FILE_DTYPE_F32, {1, 1, 2, 3, 8}, zero),
                   {says + "5"});
    expect_refused(plain_file().tensor(name, FV_FILE_DTYPE_F32, {}, zero), {says + "0"});
  }
}

TEST(RunInput, EachOfQKAndVMustHaveATypeThatIsComputedIn) {
  for (const char *name : {"q", "k", "v"}) {
    for (fv_file_dtype dtype :
         {FV_FILE_DTYPE_F64, FV_FILE_DTYPE_I32, FV_FILE_DTYPE_F8_E4M3, FV_FILE_DTYPE_BOOL}) {
      expect_refused(plain_file().tensor(name, dtype, {1, 2, 3, 8}, zero),
                     {std::string("tensor ") + name + " must be F32, F16 or BF16"});
    }
  }
}

// Shapes that do not fit: the tensor, its shape, and the words of the line.
TEST(RunInput, ShapesThatDoNotFitNameTensorAndExtent) {
  const struct {
    const char *name;
    Shape shape;
    std::string says;
  } rows[] = {
      {"k", {2, 2, 3, 8}, "tensor k has batch 2, must have tensor q's, 1"},
      {"v", {2, 2, 3, 8}, "tensor v has batch 2, must have tensor k's, 1"},
      {"v", {1, 2, 4, 8}, "tensor v has len_kv 4, must have tensor k's, 3"},
      {"v", {1, 1, 3, 8}, "tensor v has heads 1, must have tensor k's, 2"},
      {"k", {1, 2, 3, 16}, "tensor k has dim 16, must have tensor q's, 8"},
      {"q", {1, 3, 3, 8}, "tensor q has 3 heads, must be a multiple of tensor k's 2"},
      {"v", {1, 2, 3, 0}, "tensor v has dim 0, must be from 1 to 512"},
      {"v", {1, 2, 3, 513}, "tensor v has dim 513, must be from 1 to 512"},
  };
  for (const auto &row : rows) {
    SCOPED_TRACE(row.says);
    expect_refused(plain_file().tensor(row.name, FV_FILE_DTYPE_F32, row.shape, zero), {row.says});
  }
}

TEST(RunInput, TheLayoutDecidesWhichExtentMustFit) {
  Directory directory;
  MadeFile file = plain_file();
  file.tensor("q", FV_FILE_DTYPE_F32, {1, 2, 5, 8}, zero);
  std::string path = file.write(directory);
  EXPECT_EQ(fovea({"run", path, "--layout", "bhsd"}).code, 0);
  EXPECT_TRUE(fails(fovea({"run", path, "--layout", "bshd"}), 3,
                    {"tensor q has 5 heads", "try --layout bhsd"}));
}

// [batch, seq, heads, dim] with 5 queries, 3 keys and 2 heads, read as if heads came first.
TEST(RunInput, TheOtherLayoutIsProposedOnlyIfItWouldFit) {
  auto shaped = [](int64_t heads_v) {
    MadeFile file;
    file.tensor("q", FV_FILE_DTYPE_F32, {1, 5, 2, 8}, zero);
    file.tensor("k", FV_FILE_DTYPE_F32, {1, 3, 2, 8}, zero);
    file.tensor("v", FV_FILE_DTYPE_F32, {1, 3, heads_v, 8}, zero);
    return file;
  };
  expect_refused(shaped(2), {"tensor q has 5 heads", "try --layout bshd"});
  MadeFile stored = shaped(2);
  expect_refused(stored.metadata("layout", "bhsd"), {"tensor q has 5 heads", "metadata"});
  Directory directory;
  Ran ran = fovea({"run", shaped(4).write(directory)});
  EXPECT_TRUE(fails(ran, 3, {"tensor v has len_kv 4", "read as [batch, heads, seq, dim]"}));
  EXPECT_EQ(ran.err.find("--layout"), std::string::npos) << ran.err;
}

TEST(RunInput, ADimThatNoKernelEverHasIsRefused) {
  for (int64_t dim : {0, 577}) {
    MadeFile file = plain_file();
    for (const char *name : {"q", "k"}) {
      file.tensor(name, FV_FILE_DTYPE_F32, {1, 2, 3, dim}, zero);
    }
    expect_refused(file, {"tensor q has dim " + std::to_string(dim) + ", must be from 1 to 576"});
  }
}

TEST(RunInput, AnyDimRuns) {
  for (int64_t dim : {1, 4, 13}) {
    MadeFile file = plain_file();
    for (const char *name : {"q", "k"}) file.tensor(name, FV_FILE_DTYPE_F32, {1, 2, 3, dim}, zero);
    Directory directory;
    EXPECT_EQ(fovea({"run", file.write(directory)}).code, 0) << dim;
  }
}

// Only an extent of 0 keeps these files small. The program must not allocate by the other extents.
TEST(RunInput, EnormousShapesWithoutDataAreRefused) {
  const int64_t huge = INT32_MAX;
  MadeFile wide;
  wide.tensor("q", FV_FILE_DTYPE_F32, {huge, 2, 1 << 28, 0}, zero);
  wide.tensor("k", FV_FILE_DTYPE_F32, {huge, 2, 0, 0}, zero);
  wide.tensor("v", FV_FILE_DTYPE_F32, {huge, 2, 0, 8}, zero);
  expect_refused(wide, {"tensor q has dim 0"});
  MadeFile wide_v = plain_file();
  for (const char *name : {"q", "k"}) {
    wide_v.tensor(name, FV_FILE_DTYPE_F32, {1, 2, name[0] == 'q' ? 3 : 0, 8}, zero);
  }
  wide_v.tensor("v", FV_FILE_DTYPE_F32, {1, 2, 0, huge}, zero);
  expect_refused(wide_v, {"tensor v has dim 2147483647"});
  MadeFile beyond = plain_file();
  beyond.tensor("q", FV_FILE_DTYPE_F32, {1, 2, huge + 1, 0}, zero);
  expect_refused(beyond, {"tensor q has an extent of 2147483648, must be below 2^31"});
}

TEST(RunInput, AnAttentionMaskMustFitTheKeys) {
  for (const Shape &shape : {Shape{1, 2}, Shape{2, 3}, Shape{3}, Shape{1, 1, 3}, Shape{3, 1}}) {
    expect_refused(plain_file().tensor("attention_mask", FV_FILE_DTYPE_I32, shape, zero),
                   {"tensor attention_mask must be [batch, len_kv]"});
  }
  for (fv_file_dtype dtype : {FV_FILE_DTYPE_F32, FV_FILE_DTYPE_BF16, FV_FILE_DTYPE_F64}) {
    expect_refused(plain_file().tensor("attention_mask", dtype, {1, 3}, zero),
                   {"tensor attention_mask must hold integers or booleans"});
  }
}

TEST(RunInput, ExpectedTensorsMustFitTheResult) {
  for (const Shape &shape : {Shape{1, 2, 3, 16}, Shape{1, 3, 2, 8}, Shape{2, 2, 3, 8}}) {
    expect_refused(plain_file().tensor("out", FV_FILE_DTYPE_F32, shape, zero), {"tensor out"});
  }
  expect_refused(plain_file().tensor("out", FV_FILE_DTYPE_F32, {2, 3, 8}, zero), {"tensor out"});
  expect_refused(plain_file().tensor("out", FV_FILE_DTYPE_F64, {1, 2, 3, 8}, zero),
                 {"tensor out must be F32, F16 or BF16"});
  for (const Shape &shape : {Shape{1, 3, 2}, Shape{1, 2, 3, 1}, Shape{1, 2}}) {
    expect_refused(plain_file().tensor("lse", FV_FILE_DTYPE_F32, shape, zero), {"tensor lse"});
  }
  expect_refused(plain_file().tensor("lse", FV_FILE_DTYPE_F16, {1, 2, 3}, zero), {"tensor lse"});
}

// ---- Metadata ----

TEST(RunInput, MetadataThatSaysNothingValidIsRefused) {
  const std::pair<const char *, std::vector<const char *>> rows[] = {
      {"layout", {"", "BHSD", "bhds", "bhsd "}},
      {"scale",
       {"", "0", "-1", "nan", "inf", "0x10", "1,5", " 1", "1 ", "1e400", "1e-60", "one", ".", "1e",
        "--1", "-0"}},
      {"softcap", {"", "-1", "nan", "inf", "0x1p3", "30 ", "1e-60", "5f"}},
      {"causal", {"", "true", "1", "bottom_right", "Top-Left", "top-left "}},
      {"window",
       {"", "1", "1,", ",1", "1,2,3", "-2,0", "0,-2", "1 ,2", "1, 2", "+1,2", "1.5,2",
        "2147483648,0", "99999999999999999999,0", "a,b", "--1,0"}},
  };
  for (const auto &[key, values] : rows) {
    for (const char *value : values) {
      SCOPED_TRACE(std::string(key) + " '" + value + "'");
      Directory directory;
      std::string path = plain_file().metadata(key, value).write(directory);
      EXPECT_TRUE(fails(fovea({"run", path}), 3, {path, std::string("metadata ") + key, "write"}));
    }
  }
}

TEST(RunInput, BadMetadataCannotSpeakToTheTerminal) {
  Directory directory;
  std::string path = plain_file().metadata("layout", "\033[2J\r\n").write(directory);
  Ran ran = fovea({"run", path});
  EXPECT_TRUE(fails(ran, 3, {"metadata layout"}));
  EXPECT_EQ(ran.err.find('\033'), std::string::npos);
}

// ---- .npy ----

class RunNpy : public testing::Test {
 protected:
  void SetUp() override {
    for (const char *name : {"q", "k", "v"}) put(name, npy_bytes("<f4", "(1, 2, 3, 8)", zeros_));
  }
  void put(const std::string &name, const std::string &bytes) {
    write_file(directory_.file(name + ".npy"), bytes);
  }
  Ran compute() {
    return fovea({"run", "--q", directory_.file("q.npy"), "--k", directory_.file("k.npy"), "--v",
                  directory_.file("v.npy")});
  }
  Directory directory_;
  std::string zeros_ = std::string(2 * 3 * 8 * 4, '\0');
};

TEST_F(RunNpy, MessagesNameTheFileThatIsWrong) {
  EXPECT_EQ(compute().code, 0);
  for (const char *name : {"q", "k", "v"}) {
    SCOPED_TRACE(name);
    std::string path = directory_.file(std::string(name) + ".npy"), tensor = "tensor ";
    std::string right = read_file(path);
    put(name, npy_bytes("<f4", "(2, 3, 8)", zeros_));
    EXPECT_TRUE(fails(compute(), 3, {path, tensor + name + " has rank 3"}));
    put(name, npy_bytes("<i4", "(1, 2, 3, 8)", zeros_));
    EXPECT_TRUE(fails(compute(), 3, {path, tensor + name + " must be F32, F16 or BF16"}));
    put(name, npy_bytes(">f4", "(1, 2, 3, 8)", zeros_));
    EXPECT_TRUE(fails(compute(), 3, {path}));
    put(name, right.substr(0, right.size() - 1));
    EXPECT_TRUE(fails(compute(), 3, {path}));
    std::filesystem::remove(path);
    EXPECT_TRUE(fails(compute(), 3, {path, "no such file"}));
    put(name, right);
  }
  put("v", npy_bytes("<f4", "(1, 1, 6, 8)", zeros_));
  EXPECT_TRUE(fails(compute(), 3, {directory_.file("v.npy"), "tensor v has len_kv 6"}));
}

TEST_F(RunNpy, ASafetensorsFileIsNotTakenForAnNpyFile) {
  std::string path = plain_file().write(directory_, "q.npy");
  EXPECT_TRUE(fails(compute(), 3, {path}));
}

TEST_F(RunNpy, AnNpyFileAloneIsNotAnInput) {
  EXPECT_TRUE(fails(fovea({"run", directory_.file("q.npy")}), 3,
                    {directory_.file("q.npy"), "tensor k is missing", "--q, --k and --v"}));
}

}  // namespace
}  // namespace fovea_test

/* safetensors_writer_test.cc - what is written can be read, and a file is written whole or not at
 * all. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/readers/reader_support.h"

namespace {

fv_file_tensor tensor(const char *name, fv_file_dtype dtype, std::vector<int64_t> shape,
                      const std::string &data) {
  fv_file_tensor made{};
  made.name = name;
  made.dtype = dtype;
  made.rank = static_cast<uint32_t>(shape.size());
  for (size_t i = 0; i < FV_FILE_MAX_RANK; i++) {
    made.shape[i] = i < shape.size() ? shape[i] : -1;  // the writer ignores dims past the rank
  }
  made.data = data.data();
  made.bytes = data.size();
  return made;
}

struct Written {
  fv_file_status status;
  fv_file_error error;
};

Written write(const std::string &path, const std::vector<fv_file_tensor> &tensors,
              const std::vector<fv_file_metadata> &metadata = {}) {
  Written result;
  result.status = fv_safetensors_write(path.c_str(), tensors.data(), tensors.size(),
                                       metadata.data(), metadata.size(), &result.error);
  EXPECT_EQ(result.status, result.error.status);
  return result;
}

TEST(SafetensorsWriter, WhatIsWrittenReadsBackTheSame) {
  TemporaryDirectory directory;
  std::string flags = "\1\0\1"s, out = bytes_of<float>({1, -2, 3.5f, 4, 5, 6}),
              lse = bytes_of<double>({-9});
  std::vector<fv_file_tensor> tensors = {
      tensor("flags \"\\\n\xc3\xa9", FV_FILE_DTYPE_BOOL, {3}, flags),
      tensor("out", FV_FILE_DTYPE_F32, {1, 2, 3}, out), tensor("lse", FV_FILE_DTYPE_F64, {}, lse),
      tensor("none", FV_FILE_DTYPE_BF16, {4, 0}, "")};
  std::vector<fv_file_metadata> metadata = {{"tokens", "[[\"[CLS]\", \"\x01\x7f\"]]"}, {"", ""}};
  Written written = write(directory.file("x"), tensors, metadata);
  ASSERT_EQ(written.status, FV_FILE_OK) << written.error.text;
  EXPECT_STREQ(written.error.text, "");

  Outcome outcome = parse(Format::kSafetensors, read_bytes(directory.file("x")));
  ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
  ASSERT_EQ(fv_tensor_file_count(outcome.file.get()), tensors.size());
  for (const fv_file_tensor &want : tensors) {
    const fv_file_tensor *got = fv_tensor_file_find(outcome.file.get(), want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->dtype, want.dtype) << want.name;
    EXPECT_EQ(shape_of(got), shape_of(&want)) << want.name;
    EXPECT_EQ(data_of(got), data_of(&want)) << want.name;
  }
  ASSERT_EQ(fv_tensor_file_metadata_count(outcome.file.get()), 2u);
  for (size_t i = 0; i < 2; i++) {
    const fv_file_metadata *got = fv_tensor_file_metadata_at(outcome.file.get(), i);
    EXPECT_STREQ(got->key, metadata[i].key);
    EXPECT_STREQ(got->value, metadata[i].value);
  }
}

TEST(SafetensorsWriter, WritesTheseBytes) {
  TemporaryDirectory directory;
  std::string bits = "\7"s, out = bytes_of<float>({1, 2});
  ASSERT_EQ(
      write(directory.file("x"),
            {tensor("b", FV_FILE_DTYPE_U8, {1}, bits), tensor("a", FV_FILE_DTYPE_F32, {2, 1}, out)},
            {{"k", "v"}})
          .status,
      FV_FILE_OK);
  std::string header =
      "{\"__metadata__\":{\"k\":\"v\"},"
      "\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[8,9]}}";
  while (header.size() % 8 != 0) header += ' ';
  EXPECT_EQ(read_bytes(directory.file("x")), safetensors(header, out + bits));
}

TEST(SafetensorsWriter, PadsTheHeaderAndAlignsEveryTensorToItsElement) {
  TemporaryDirectory directory;
  for (size_t length = 1; length <= 9; length++) {
    std::string name(length, 'n'), one = "\1"s, two = "22", four = "4444", eight = "88888888";
    ASSERT_EQ(write(directory.file("x"), {tensor("i", FV_FILE_DTYPE_I8, {1}, one),
                                          tensor(name.c_str(), FV_FILE_DTYPE_F16, {1}, two),
                                          tensor("e", FV_FILE_DTYPE_I64, {1}, eight),
                                          tensor("f", FV_FILE_DTYPE_F32, {1}, four)})
                  .status,
              FV_FILE_OK);
    Outcome outcome = parse(Format::kSafetensors, read_bytes(directory.file("x")));
    ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
    for (size_t i = 0; i < 4; i++) {
      const fv_file_tensor *got = fv_tensor_file_at(outcome.file.get(), i);
      EXPECT_EQ(got->file_offset % fv_file_dtype_bytes(got->dtype), 0u) << got->name;
    }
    EXPECT_EQ(fv_tensor_file_at(outcome.file.get(), 0)->file_offset % 8, 0u);
  }
}

TEST(SafetensorsWriter, WritesAFileWithoutTensors) {
  TemporaryDirectory directory;
  ASSERT_EQ(write(directory.file("x"), {}).status, FV_FILE_OK);
  EXPECT_EQ(read_bytes(directory.file("x")), safetensors("{}      "));
}

TEST(SafetensorsWriter, ReplacesAnOldFileAndLeavesNothingElse) {
  TemporaryDirectory directory;
  write_bytes(directory.file("x"), "old");
  ASSERT_EQ(write(directory.file("x"), {}).status, FV_FILE_OK);
  EXPECT_EQ(directory.names(), (std::vector<std::string>{"x"}));
  EXPECT_NE(read_bytes(directory.file("x")), "old");
}

TEST(SafetensorsWriter, ReplacesALinkInsteadOfFollowingIt) {
  TemporaryDirectory directory;
  write_bytes(directory.file("precious"), "kept");
  ASSERT_EQ(symlink("precious", directory.file("x").c_str()), 0);
  ASSERT_EQ(write(directory.file("x"), {}).status, FV_FILE_OK);
  EXPECT_EQ(read_bytes(directory.file("precious")), "kept");
  struct stat facts;
  ASSERT_EQ(lstat(directory.file("x").c_str(), &facts), 0);
  EXPECT_TRUE(S_ISREG(facts.st_mode));
}

TEST(SafetensorsWriter, TheUmaskDecidesTheMode) {
  TemporaryDirectory directory;
  for (mode_t mask : {022, 077}) {
    mode_t before = umask(mask);
    Written written = write(directory.file("x"), {});
    umask(before);
    ASSERT_EQ(written.status, FV_FILE_OK);
    struct stat facts;
    ASSERT_EQ(stat(directory.file("x").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0666 & ~mask);
  }
}

TEST(SafetensorsWriter, WritesToABareNameAndToTheLongestName) {
  TemporaryDirectory directory;
  char before[4096];
  ASSERT_NE(getcwd(before, sizeof before), nullptr);
  ASSERT_EQ(chdir(directory.path().c_str()), 0);
  std::string longest(255, 'x');
  EXPECT_EQ(write("bare", {}).status, FV_FILE_OK);
  EXPECT_EQ(write(longest, {}).status, FV_FILE_OK);
  ASSERT_EQ(chdir(before), 0);
  EXPECT_EQ(directory.names(), (std::vector<std::string>{"bare", longest}));
}

TEST(SafetensorsWriter, StepsAsideForTemporaryNamesThatAreTaken) {
  TemporaryDirectory directory;
  std::string taken = directory.file(".fovea-" + std::to_string(getpid()) + "-0.tmp");
  write_bytes(taken, "somebody else's");
  ASSERT_EQ(write(directory.file("x"), {}).status, FV_FILE_OK);
  EXPECT_EQ(read_bytes(taken), "somebody else's");
  for (int i = 0; i < 100; i++) {
    write_bytes(
        directory.file(".fovea-" + std::to_string(getpid()) + "-" + std::to_string(i) + ".tmp"),
        "");
  }
  Written written = write(directory.file("y"), {});
  EXPECT_EQ(written.status, FV_FILE_NOT_WRITTEN);
  EXPECT_NE(std::string(written.error.text).find("File exists"), std::string::npos);
  EXPECT_EQ(directory.names().size(), 101u);
}

TEST(SafetensorsWriter, SaysWhyADirectoryCannotBeWrittenTo) {
  TemporaryDirectory directory;
  std::string below = directory.file("absent/x");
  Written written = write(below, {});
  EXPECT_EQ(written.status, FV_FILE_NOT_WRITTEN);
  EXPECT_EQ(written.error.text, below +
                                    ": a temporary file cannot be created beside it (No such file "
                                    "or directory); check the directory, its permissions and the "
                                    "free space");
  std::string itself = directory.path();
  written = write(itself, {});
  EXPECT_EQ(written.status, FV_FILE_NOT_WRITTEN);
  EXPECT_NE(std::string(written.error.text).find(itself + ": it cannot take its name"),
            std::string::npos);
  EXPECT_TRUE(directory.names().empty());
}

TEST(SafetensorsWriter, RefusesTensorsThatContradictThemselves) {
  TemporaryDirectory directory;
  std::string four = "4444";
  struct Row {
    fv_file_tensor tensor;
    const char *text;
  };
  fv_file_tensor no_data = tensor("q", FV_FILE_DTYPE_F32, {1}, four);
  no_data.data = nullptr;
  for (const Row &row :
       {Row{tensor("\xff", FV_FILE_DTYPE_F32, {1}, four),
            "'\\xff' cannot be stored: its name is not UTF-8"},
        Row{tensor("__metadata__", FV_FILE_DTYPE_F32, {1}, four), "keeps this name for itself"},
        Row{tensor("q", FV_FILE_DTYPE_UNKNOWN, {1}, four),
            "'q' cannot be stored: its type is not known"},
        Row{tensor("q", FV_FILE_DTYPE_F32, {1, 1, 1, 1, 1, 1, 1, 1, 1}, four),
            "its rank is above 8"},
        Row{tensor("q", FV_FILE_DTYPE_F32, {-1}, four), "negative or above 2^48"},
        Row{tensor("q", FV_FILE_DTYPE_F32, {(1LL << 48) + 1, 0}, ""), "negative or above 2^48"},
        Row{tensor("q", FV_FILE_DTYPE_F32, {2}, four), "not the product of its shape"},
        Row{tensor("q", FV_FILE_DTYPE_F32, {1LL << 40, 1LL << 40}, ""),
            "not the product of its shape"},
        Row{no_data, "it has no data"}}) {
    Written written = write(directory.file("x"), {row.tensor});
    EXPECT_EQ(written.status, FV_FILE_BAD_ARGUMENT) << row.text;
    EXPECT_NE(std::string(written.error.text).find(row.text), std::string::npos)
        << written.error.text;
  }
  fv_file_tensor q = tensor("q", FV_FILE_DTYPE_F32, {1}, four);
  EXPECT_STREQ(
      write(directory.file("x"), {q, q}).error.text,
      (directory.file("x") + ": 'q' cannot be stored: two tensors have this name").c_str());
  EXPECT_EQ(write(directory.file("x"), {}, {{"a", "1"}, {"a", "2"}}).status, FV_FILE_BAD_ARGUMENT);
  EXPECT_EQ(write(directory.file("x"), {}, {{"a", "\xff"}}).status, FV_FILE_BAD_ARGUMENT);
  EXPECT_EQ(write(directory.file("x"), {}, {{"\xff", "a"}}).status, FV_FILE_BAD_ARGUMENT);
  EXPECT_TRUE(directory.names().empty());
}

TEST(SafetensorsWriter, RefusesAHeaderThatItsOwnReaderWouldRefuse) {
  TemporaryDirectory directory;
  // {"__metadata__":{"k":"…"}} has 25 bytes around the value.
  std::string value(FV_SAFETENSORS_HEADER_LIMIT - 25, 'x');
  ASSERT_EQ(write(directory.file("x"), {}, {{"k", value.c_str()}}).status, FV_FILE_OK);
  EXPECT_EQ(parse(Format::kSafetensors, read_bytes(directory.file("x"))).status, FV_FILE_OK);
  value += 'x';
  Written written = write(directory.file("y"), {}, {{"k", value.c_str()}});
  EXPECT_EQ(written.status, FV_FILE_BAD_ARGUMENT);
  EXPECT_NE(std::string(written.error.text).find("above the limit of 16777216"), std::string::npos);
  EXPECT_EQ(directory.names(), (std::vector<std::string>{"x"}));
}

TEST(SafetensorsWriter, AFileSizeLimitIsAStatusAndLeavesNothing) {
  TemporaryDirectory directory;
  std::string data(1 << 16, 'd');
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 4096;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  Written written = write(directory.file("x"), {tensor("q", FV_FILE_DTYPE_U8, {1 << 16}, data)});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(written.status, FV_FILE_NOT_WRITTEN);
  EXPECT_NE(std::string(written.error.text).find("File too large"), std::string::npos);
  EXPECT_TRUE(directory.names().empty());
}

std::vector<std::string> *seen_by_handler;
const TemporaryDirectory *watched;
extern "C" void look_at_directory(int) {
  *seen_by_handler = watched->names();
}

// The signal is pending from the start, so that it can't race with the write.
void block_interrupt(sigset_t *before) {
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  sigprocmask(SIG_BLOCK, &interrupt, before);
  raise(SIGINT);
}

TEST(SafetensorsWriter, AnInterruptEndsTheWriteAndItsHandlerFindsNothingLeft) {
  TemporaryDirectory directory;
  std::vector<std::string> seen = {"handler did not run"};
  seen_by_handler = &seen;
  watched = &directory;
  struct sigaction action {
  }, before;
  action.sa_handler = look_at_directory;
  ASSERT_EQ(sigaction(SIGINT, &action, &before), 0);
  sigset_t mask;
  block_interrupt(&mask);
  std::string data = bytes_of<float>({1});
  Written written = write(directory.file("x"), {tensor("out", FV_FILE_DTYPE_F32, {1}, data)});
  EXPECT_EQ(seen[0], "handler did not run");  // the caller's own mask was restored
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  sigaction(SIGINT, &before, nullptr);
  EXPECT_EQ(written.status, FV_FILE_NOT_WRITTEN);
  EXPECT_EQ(seen, std::vector<std::string>());
}

// An ignored signal becomes pending all the same while it is blocked.
TEST(SafetensorsWriter, AnInterruptThatIsIgnoredEndsNothing) {
  TemporaryDirectory directory;
  struct sigaction action {
  }, before;
  action.sa_handler = SIG_IGN;
  ASSERT_EQ(sigaction(SIGINT, &action, &before), 0);
  sigset_t mask;
  block_interrupt(&mask);
  Written written = write(directory.file("x"), {});
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  sigaction(SIGINT, &before, nullptr);
  EXPECT_EQ(written.status, FV_FILE_OK) << written.error.text;
}

// ---- .npy ----

TEST(NpyWriter, WhatIsWrittenReadsBackTheSame) {
  TemporaryDirectory directory;
  std::string data = bytes_of<float>({1, -2, 3.5f, 4, 5, 6}), one = bytes_of<double>({-9});
  const int64_t most = FV_FILE_MAX_DIM;
  for (const fv_file_tensor &want :
       {tensor("q", FV_FILE_DTYPE_F32, {1, 2, 3}, data), tensor("q", FV_FILE_DTYPE_F32, {6}, data),
        tensor("q", FV_FILE_DTYPE_F64, {}, one), tensor("q", FV_FILE_DTYPE_F16, {2, 6}, data),
        tensor("q", FV_FILE_DTYPE_I8, {0, most, 0, 1, 1, 1, 1, 1}, "")}) {
    fv_file_error error;
    ASSERT_EQ(fv_npy_write(directory.file("x").c_str(), &want, &error), FV_FILE_OK) << error.text;
    std::string bytes = read_bytes(directory.file("x"));
    Outcome outcome = parse(Format::kNpy, bytes);
    ASSERT_EQ(outcome.status, FV_FILE_OK) << outcome.error.text;
    const fv_file_tensor *got = fv_tensor_file_find(outcome.file.get(), "q");
    EXPECT_EQ(got->dtype, want.dtype);
    EXPECT_EQ(shape_of(got), shape_of(&want));
    EXPECT_EQ(data_of(got), data_of(&want));
    EXPECT_EQ((bytes.size() - want.bytes) % 64, 0u) << "data are aligned, as numpy has them";
  }
}

TEST(NpyWriter, RefusesWhatTheFormatCannotHold) {
  TemporaryDirectory directory;
  std::string data(4, 'x');
  fv_file_error error;
  fv_file_tensor bf16 = tensor("q", FV_FILE_DTYPE_BF16, {2}, data);
  EXPECT_EQ(fv_npy_write(directory.file("x").c_str(), &bf16, &error), FV_FILE_BAD_ARGUMENT);
  EXPECT_NE(std::string(error.text).find(".npy has no type for BF16"), std::string::npos);
  fv_file_tensor wrong = tensor("q", FV_FILE_DTYPE_F32, {2}, data);
  EXPECT_EQ(fv_npy_write(directory.file("x").c_str(), &wrong, &error), FV_FILE_BAD_ARGUMENT);
  EXPECT_TRUE(directory.names().empty());
}

}  // namespace

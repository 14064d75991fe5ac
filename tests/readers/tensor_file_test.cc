/* tensor_file_test.cc - what both formats share: opening, choosing the reader, names, messages. */
#include "cli/files/tensor_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include "tests/readers/reader_support.h"

namespace {

std::string plain_npy() {
  return npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", bytes_of<float>({1, 2}));
}

std::string plain_safetensors() {
  return safetensors("{\"k\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]}}", "abc");
}

Outcome open_either(const std::string &path) {
  Outcome outcome;
  fv_tensor_file *file = nullptr;
  outcome.status = fv_tensor_file_open(path.c_str(), "q", &file, &outcome.error);
  outcome.file.reset(file);
  return outcome;
}

std::string escaped(const std::string &text, size_t room = 64) {
  std::vector<char> out(room);
  return fv_escape(out.data(), out.size(), text.data(), text.size());
}

TEST(TensorFile, TheFirstBytesChooseTheReaderNotTheName) {
  TemporaryDirectory directory;
  std::string misnamed = directory.file("q.safetensors"), bare = directory.file("layer");
  write_bytes(misnamed, plain_npy());
  write_bytes(bare, plain_safetensors());
  Outcome first = open_either(misnamed), second = open_either(bare);
  ASSERT_EQ(first.status, FV_FILE_OK) << first.error.text;
  ASSERT_EQ(second.status, FV_FILE_OK) << second.error.text;
  EXPECT_EQ(data_of(fv_tensor_file_find(first.file.get(), "q")), bytes_of<float>({1, 2}));
  EXPECT_EQ(data_of(fv_tensor_file_find(second.file.get(), "k")), "abc");
}

TEST(TensorFile, BothFormatsOpenByPath) {
  TemporaryDirectory directory;
  write_bytes(directory.file("a"), plain_npy());
  write_bytes(directory.file("b"), plain_safetensors());
  fv_tensor_file *file = nullptr;
  fv_file_error error;
  ASSERT_EQ(fv_npy_open(directory.file("a").c_str(), "v", &file, &error), FV_FILE_OK) << error.text;
  EXPECT_NE(fv_tensor_file_find(file, "v"), nullptr);
  fv_tensor_file_close(file);
  ASSERT_EQ(fv_safetensors_open(directory.file("b").c_str(), &file, &error), FV_FILE_OK)
      << error.text;
  EXPECT_NE(fv_tensor_file_find(file, "k"), nullptr);
  fv_tensor_file_close(file);
}

TEST(TensorFile, EachReaderRefusesTheOtherFormat) {
  EXPECT_TRUE(refused(parse(Format::kNpy, plain_safetensors()), FV_FILE_INVALID, 0,
                      "does not begin as an .npy file"));
  EXPECT_TRUE(refused(parse(Format::kSafetensors, plain_npy()), FV_FILE_INVALID, 0,
                      "cut short, or of another format"));
}

TEST(TensorFile, ShortFilesOfNeitherFormatAreRefused) {
  TemporaryDirectory directory;
  std::string path = directory.file("empty");
  for (const std::string &bytes : {""s, "\x93"s, "\x93NUMPY"s, "PK"s}) {
    write_bytes(path, bytes);
    Outcome outcome = open_either(path);
    EXPECT_EQ(outcome.status, FV_FILE_INVALID);
    EXPECT_EQ(std::string(outcome.error.text).rfind(path + ": byte ", 0), 0u) << outcome.error.text;
  }
}

TEST(TensorFile, MissingFilesSayCheckThePath) {
  TemporaryDirectory directory;
  write_bytes(directory.file("file"), "x");
  for (const char *name : {"absent.npy", "file/below"}) {
    Outcome outcome = open_either(directory.file(name));
    EXPECT_EQ(outcome.status, FV_FILE_MISSING);
    EXPECT_EQ(outcome.error.text, directory.file(name) + ": there is no such file; check the path");
    EXPECT_EQ(outcome.error.offset, FV_FILE_NO_OFFSET);
  }
}

TEST(TensorFile, DirectoriesDevicesAndPipesAreRefusedWithoutWaiting) {
  TemporaryDirectory directory;
  std::string pipe = directory.file("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const std::string &path : {directory.path(), "/dev/null"s, "/dev/zero"s, pipe}) {
    Outcome outcome = open_either(path);
    EXPECT_EQ(outcome.status, FV_FILE_NOT_REGULAR) << path;
    EXPECT_EQ(outcome.error.text,
              path + ": is not a regular file; save the data to a file and name that");
  }
}

TEST(TensorFile, AFileBehindALinkIsRead) {
  TemporaryDirectory directory;
  write_bytes(directory.file("real"), plain_npy());
  ASSERT_EQ(symlink("real", directory.file("link").c_str()), 0);
  EXPECT_EQ(open_either(directory.file("link")).status, FV_FILE_OK);
  ASSERT_EQ(symlink("loop", directory.file("loop").c_str()), 0);
  EXPECT_EQ(open_either(directory.file("loop")).status, FV_FILE_UNREADABLE);
}

TEST(TensorFile, AHoleOfTerabytesIsRefusedByItsHeader) {
  TemporaryDirectory directory;
  std::string path = directory.file("sparse");
  write_bytes(path, plain_safetensors());
  if (truncate(path.c_str(), off_t{1} << 40) != 0) GTEST_SKIP() << "no file of 1 TiB here";
  Outcome outcome = open_either(path);
  EXPECT_EQ(outcome.status, FV_FILE_INVALID);
  EXPECT_NE(std::string(outcome.error.text).find("belong to no tensor"), std::string::npos);
}

TEST(TensorFile, TheErrorMayBeNull) {
  fv_tensor_file *file = nullptr;
  EXPECT_EQ(fv_npy_parse("x", 1, "in", "q", &file, nullptr), FV_FILE_INVALID);
  EXPECT_EQ(fv_npy_open("/nonexistent", "q", &file, nullptr), FV_FILE_MISSING);
  EXPECT_EQ(fv_safetensors_parse(nullptr, 0, "in", &file, nullptr), FV_FILE_INVALID);
  EXPECT_EQ(file, nullptr);
  EXPECT_EQ(fv_safetensors_write("/nonexistent/x", nullptr, 0, nullptr, 0, nullptr),
            FV_FILE_NOT_WRITTEN);
}

TEST(TensorFile, ClosingNothingIsAllowed) {
  fv_tensor_file_close(nullptr);
}

TEST(TensorFile, StatusesAndTypesHaveNames) {
  EXPECT_STREQ(fv_file_status_name(FV_FILE_FORTRAN_ORDER), "FORTRAN_ORDER");
  EXPECT_STREQ(fv_file_status_text(FV_FILE_BIG_ENDIAN), "big-endian data");
  EXPECT_STREQ(fv_file_status_name(FV_FILE_NOT_WRITTEN), "NOT_WRITTEN");
  EXPECT_STREQ(fv_file_status_name(static_cast<fv_file_status>(FV_FILE_NOT_WRITTEN + 1)),
               "unknown");
  EXPECT_STREQ(fv_file_status_text(static_cast<fv_file_status>(-1)), "unknown status");
  EXPECT_STREQ(fv_file_dtype_name(FV_FILE_DTYPE_BF16), "BF16");
  EXPECT_STREQ(fv_file_dtype_name(FV_FILE_DTYPE_UNKNOWN), "unknown");
  EXPECT_EQ(fv_file_dtype_bytes(FV_FILE_DTYPE_F64), 8u);
  EXPECT_EQ(fv_file_dtype_bytes(FV_FILE_DTYPE_BOOL), 1u);
  EXPECT_EQ(fv_file_dtype_bytes(FV_FILE_DTYPE_UNKNOWN), 0u);
  EXPECT_EQ(fv_file_dtype_bytes(static_cast<fv_file_dtype>(FV_FILE_DTYPE_BOOL + 1)), 0u);
  EXPECT_STREQ(fv_file_dtype_name(static_cast<fv_file_dtype>(FV_FILE_DTYPE_BOOL + 1)), "unknown");
}

TEST(Escape, KeepsPrintableTextOfAnyScript) {
  EXPECT_EQ(escaped("q proj.weight ~"), "q proj.weight ~");
  EXPECT_EQ(escaped("\xc3\xa9\xe6\xb3\xa8\xf0\x9f\x98\x80"),
            "\xc3\xa9\xe6\xb3\xa8\xf0\x9f\x98\x80");
  EXPECT_EQ(escaped(""), "");
}

TEST(Escape, TurnsIntoTextWhatWouldActOnATerminalOrReorderTheLine) {
  EXPECT_EQ(escaped("a\x1b[2J"), "a\\u{1b}[2J");
  EXPECT_EQ(escaped("a\nb\rc\td"), "a\\nb\\u{d}c\\u{9}d");
  EXPECT_EQ(escaped("\0\x7f"s), "\\u{0}\\u{7f}");
  EXPECT_EQ(escaped("\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0"), "\\u{80}\\u{9b}\\u{9f}\xc2\xa0");
  EXPECT_EQ(escaped("\xd8\x9c\xe2\x80\x8b\xe2\x80\x8f\xe2\x80\x90"),
            "\\u{61c}\\u{200b}\\u{200f}\xe2\x80\x90");
  EXPECT_EQ(escaped("\xe2\x80\xa7\xe2\x80\xa8\xe2\x80\xae\xe2\x80\xaf"),
            "\xe2\x80\xa7\\u{2028}\\u{202e}\xe2\x80\xaf");
  EXPECT_EQ(escaped("\xe2\x81\x9f\xe2\x81\xa0\xe2\x81\xaf\xe2\x81\xb0"),
            "\xe2\x81\x9f\\u{2060}\\u{206f}\xe2\x81\xb0");
  EXPECT_EQ(escaped("\xef\xbb\xbf\xf3\xa0\x80\x80"), "\\u{feff}\\u{e0000}");
  EXPECT_EQ(escaped("it's \\x"), "it\\'s \\\\x");
  EXPECT_EQ(escaped("\xff\xc3"), "\\xff\\xc3");
}

TEST(Escape, CutsAtACharacterAndSaysSo) {
  EXPECT_EQ(escaped("1234567", 8), "1234567");
  EXPECT_EQ(escaped("12345678", 8), "1234...");
  EXPECT_EQ(escaped("123\xc3\xa9"
                    "4567",
                    8),
            "123...");
  EXPECT_EQ(escaped("12\n34567", 8), "12\\n...");
  EXPECT_EQ(escaped("\x1b\x1b\x1b", 8), "...");
  EXPECT_EQ(escaped("1234", 4), "...");
  EXPECT_EQ(escaped("123", 4), "123");
}

TEST(Messages, AreCutNotOverrunByLongPathsAndNames) {
  std::string path(4000, 'p'), name(4000, 'n');
  fv_tensor_file *file = nullptr;
  fv_file_error error;
  std::string bytes = plain_npy();
  EXPECT_EQ(fv_npy_parse(bytes.data(), bytes.size() - 1, path.c_str(), name.c_str(), &file, &error),
            FV_FILE_INVALID);
  std::string line = error.text;
  EXPECT_EQ(line.rfind(std::string(508, 'p') + "...: byte 128: tensor 'nnn", 0), 0u) << line;
  EXPECT_NE(line.find("nnn...': its shape needs 8 bytes of F32 but 7 follow"), std::string::npos);
  EXPECT_NE(line.find("copy it again"), std::string::npos);
  EXPECT_EQ(fv_npy_parse("", 0, "a\nb", "q", &file, &error), FV_FILE_INVALID);
  EXPECT_EQ(std::string(error.text).rfind("a\\nb: byte 0: ", 0), 0u) << error.text;
}

}  // namespace

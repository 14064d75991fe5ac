/* reader_support.h - files made of text and bytes, and the form that every refusal must have. */
#ifndef FOVEA_TESTS_READERS_READER_SUPPORT_H
#define FOVEA_TESTS_READERS_READER_SUPPORT_H

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "cli/files/tensor_file.h"

using std::string_literals::operator""s;

inline std::string little_endian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; i++) text += static_cast<char>(value >> 8 * i & 0xff);
  return text;
}

/* An .npy file of version 1 around this dictionary, padded as numpy pads it. */
inline std::string npy(std::string dict, const std::string &data, int version = 1) {
  int prefix = version == 1 ? 10 : 12;
  while ((prefix + dict.size() + 1) % 64 != 0) dict += ' ';
  dict += '\n';
  return "\x93NUMPY"s + static_cast<char>(version) + '\0' +
         little_endian(dict.size(), version == 1 ? 2 : 4) + dict + data;
}

inline std::string safetensors(const std::string &header, const std::string &data = "") {
  return little_endian(header.size(), 8) + header + data;
}

struct Closer {
  void operator()(fv_tensor_file *file) const { fv_tensor_file_close(file); }
};

struct Outcome {
  fv_file_status status;
  std::unique_ptr<fv_tensor_file, Closer> file;
  fv_file_error error;
};

enum class Format { kNpy, kSafetensors };

/* Parses a copy that ends where its heap block ends, so that sanitizers see a read past it. */
inline Outcome parse(Format format, const std::string &bytes) {
  std::unique_ptr<char[]> exact(new char[bytes.size()]);
  std::memcpy(exact.get(), bytes.data(), bytes.size());
  Outcome outcome;
  fv_tensor_file *file = reinterpret_cast<fv_tensor_file *>(1);
  outcome.status =
      format == Format::kNpy
          ? fv_npy_parse(exact.get(), bytes.size(), "in.npy", "q", &file, &outcome.error)
          : fv_safetensors_parse(exact.get(), bytes.size(), "in.st", &file, &outcome.error);
  outcome.file.reset(file);
  return outcome;
}

/* A text in which '^' marks where a refusal must point: the text without it, and its place. */
struct Marked {
  explicit Marked(std::string marked) : text(std::move(marked)), at(text.find('^')) {
    text.erase(at, 1);
  }
  std::string text;
  size_t at;
};

/* A refusal has its status, no file object, and one clean line. The line names the file, then the
 * byte, then what is wrong, and after a semicolon or colon what to do. */
inline testing::AssertionResult refused(const Outcome &outcome, fv_file_status status,
                                        uint64_t offset, const std::string &text) {
  std::string line = outcome.error.text;
  auto failure = [&line] { return testing::AssertionFailure() << "\"" << line << "\": "; };
  if (outcome.status != status || outcome.error.status != status) {
    return failure() << fv_file_status_name(outcome.status) << " returned, "
                     << fv_file_status_name(outcome.error.status) << " stored, "
                     << fv_file_status_name(status) << " expected";
  }
  if (outcome.file != nullptr) return failure() << "a file object came with the refusal";
  if (outcome.error.offset != offset) return failure() << "offset " << outcome.error.offset;
  std::string start = "in.";
  if (line.compare(0, start.size(), start) != 0) return failure() << "the file is not named";
  if (offset != FV_FILE_NO_OFFSET &&
      line.find(": byte " + std::to_string(offset) + ": ") == std::string::npos) {
    return failure() << "byte " << offset << " is not named";
  }
  if (line.find(text) == std::string::npos) return failure() << "lacks \"" << text << "\"";
  if (line.find("; ") == std::string::npos) return failure() << "names no remedy";
  for (unsigned char byte : line) {
    if (byte < 0x20 || byte == 0x7f) return failure() << "has a control byte";
  }
  return testing::AssertionSuccess();
}

template <typename T>
std::string bytes_of(const std::vector<T> &values) {
  return std::string(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T));
}

inline std::string data_of(const fv_file_tensor *tensor) {
  return std::string(static_cast<const char *>(tensor->data), tensor->bytes);
}

inline std::vector<int64_t> shape_of(const fv_file_tensor *tensor) {
  return std::vector<int64_t>(tensor->shape, tensor->shape + tensor->rank);
}

/* A directory for one test, removed afterwards. */
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/fovea-readers-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory &) = delete;
  TemporaryDirectory &operator=(const TemporaryDirectory &) = delete;

  const std::string &path() const { return path_; }
  std::string file(const std::string &name) const { return path_ + "/" + name; }

  /* The names of the files in it, sorted. */
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto &entry : std::filesystem::directory_iterator(path_)) {
      found.push_back(entry.path().filename());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::string path_;
};

inline void write_bytes(const std::string &path, const std::string &bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string read_bytes(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

#endif  // FOVEA_TESTS_READERS_READER_SUPPORT_H

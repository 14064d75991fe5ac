// made_file.cc - see made_file.h.
#include "tests/cli/made_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tests/support/formats.h"

namespace fovea_test {

namespace {

uint32_t format_of(fv_file_dtype dtype) {
  if (dtype == FV_FILE_DTYPE_F32) return FOVEA_F32;
  if (dtype == FV_FILE_DTYPE_F16) return FOVEA_F16;
  return dtype == FV_FILE_DTYPE_BF16 ? FOVEA_BF16 : FOVEA_NONE;
}

// The bytes of one element, little-endian.
std::string element(fv_file_dtype dtype, double value) {
  uint64_t bits = static_cast<uint64_t>(static_cast<int64_t>(value));
  if (dtype == FV_FILE_DTYPE_F64) std::memcpy(&bits, &value, sizeof bits);
  if (uint32_t format = format_of(dtype)) bits = encode(format, value);
  std::string text;
  for (uint32_t i = 0; i < fv_file_dtype_bytes(dtype); ++i) {
    text += static_cast<char>(bits >> 8 * i & 0xff);
  }
  return text;
}

}  // namespace

MadeFile &MadeFile::tensor(const std::string &name, fv_file_dtype dtype, const Shape &shape,
                           const Values &values) {
  return tensor(name, dtype, shape, [&values](int64_t i) { return values.at((size_t)i); });
}

MadeFile &MadeFile::tensor(const std::string &name, fv_file_dtype dtype, const Shape &shape,
                           const std::function<double(int64_t)> &value) {
  MadeTensor made = {dtype, shape, ""};
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  for (int64_t i = 0; i < count; ++i) made.bytes += element(dtype, value(i));
  tensors_[name] = made;
  return *this;
}

MadeFile &MadeFile::metadata(const std::string &key, const std::string &value) {
  metadata_[key] = value;
  return *this;
}

MadeFile &MadeFile::without(const std::string &name) {
  tensors_.erase(name);
  return *this;
}

std::string MadeFile::write(const Directory &directory, const std::string &name) const {
  std::vector<fv_file_tensor> tensors;
  std::vector<fv_file_metadata> metadata;
  for (const auto &[tensor_name, made] : tensors_) {
    fv_file_tensor tensor{};
    tensor.name = tensor_name.c_str();
    tensor.dtype = made.dtype;
    tensor.rank = static_cast<uint32_t>(made.shape.size());
    for (size_t i = 0; i < made.shape.size(); ++i) tensor.shape[i] = made.shape[i];
    tensor.data = made.bytes.data();
    tensor.bytes = made.bytes.size();
    tensors.push_back(tensor);
  }
  for (const auto &[key, value] : metadata_) metadata.push_back({key.c_str(), value.c_str()});
  std::string path = directory.file(name);
  fv_file_error error;
  fv_file_status status = fv_safetensors_write(path.c_str(), tensors.data(), tensors.size(),
                                               metadata.data(), metadata.size(), &error);
  EXPECT_EQ(status, FV_FILE_OK) << error.text;
  return path;
}

MadeFile plain_file() {
  auto zero = [](int64_t) { return 0.0; };
  MadeFile file;
  for (const char *name : {"q", "k", "v"}) file.tensor(name, FV_FILE_DTYPE_F32, {1, 2, 3, 8}, zero);
  return file;
}

MadeFile visibility_file(int64_t len_q, int64_t len_kv, int64_t batch) {
  MadeFile file;
  file.tensor("q", FV_FILE_DTYPE_F32, {batch, 1, len_q, 8}, [](int64_t i) { return i % 7 - 3.0; });
  file.tensor("k", FV_FILE_DTYPE_F32, {batch, 1, len_kv, 8}, [](int64_t) { return 0.0; });
  file.tensor("v", FV_FILE_DTYPE_F32, {batch, 1, len_kv, 8},
              [len_kv](int64_t i) { return i / 8 % len_kv == i % 8; });
  return file;
}

std::string visible_keys(const std::string &output_path, int64_t len_kv, int64_t batch_row) {
  ReadTensor out = read_tensor(output_path, "out"), lse = read_tensor(output_path, "lse");
  if (!out.found || !lse.found || out.shape.size() != 4) return "no output";
  const int64_t len_q = out.shape[2];
  std::string text;
  for (int64_t i = 0; i < len_q; ++i) {
    const double *row = &out.values[(size_t)((batch_row * len_q + i) * 8)];
    std::string seen;
    int64_t count = 0;
    for (int64_t j = 0; j < len_kv; ++j) count += row[j] != 0;
    for (int64_t j = 0; j < len_kv; ++j) {
      // Criterion C5 for an exact 1 / n: 8 u32 / n, with u32 = 2^-24.
      bool right = row[j] == 0 || std::fabs(row[j] * (double)count - 1) <= 0x1p-21;
      seen += !right ? '?' : row[j] != 0 ? '#' : '.';
    }
    double got = lse.values[(size_t)(batch_row * len_q + i)];
    // Criterion C4 with logits of 0: u32 (8 + 4 lse). An empty row has -infinity.
    double log_count = std::log((double)count), bound = 0x1p-24 * (8 + 4 * log_count);
    if (count ? !(std::fabs(got - log_count) <= bound) : got != log_count) seen += '?';
    text += (i ? "/" : "") + seen;
  }
  return text;
}

namespace {

struct Opened {
  explicit Opened(const std::string &path) {
    fv_file_error error;
    EXPECT_EQ(fv_safetensors_open(path.c_str(), &file, &error), FV_FILE_OK) << error.text;
  }
  ~Opened() { fv_tensor_file_close(file); }
  fv_tensor_file *file = nullptr;
};

}  // namespace

ReadTensor read_tensor(const std::string &path, const std::string &name) {
  ReadTensor read;
  Opened opened(path);
  const fv_file_tensor *tensor =
      opened.file ? fv_tensor_file_find(opened.file, name.c_str()) : nullptr;
  if (tensor == nullptr) return read;
  read.found = true;
  read.dtype = tensor->dtype;
  read.shape.assign(tensor->shape, tensor->shape + tensor->rank);
  const uint32_t bytes = fv_file_dtype_bytes(tensor->dtype);
  for (uint64_t at = 0; at < tensor->bytes; at += bytes) {
    read.values.push_back(
        load(format_of(tensor->dtype), static_cast<const char *>(tensor->data) + at));
  }
  return read;
}

std::string read_metadata(const std::string &path, const std::string &key) {
  Opened opened(path);
  const char *value = opened.file ? fv_tensor_file_metadata(opened.file, key.c_str()) : nullptr;
  return value ? value : "(none)";
}

std::string npy_bytes(const std::string &type, const std::string &shape, const std::string &data) {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }";
  while ((10 + header.size() + 1) % 64) header += ' ';
  header += '\n';
  std::string prefix("\x93NUMPY\x01\x00", 8);
  prefix += static_cast<char>(header.size() & 0xff);
  prefix += static_cast<char>(header.size() >> 8);
  return prefix + header + data;
}

std::string drawn_cells(const std::string &drawing) {
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

std::string svg_of(const MadeFile &file, std::vector<std::string> flags) {
  Directory directory;
  std::string output = directory.file("o.svg");
  flags.insert(flags.begin(), {"map", file.write(directory), "--output", output});
  Ran ran = fovea(flags);
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");  // no progress without a terminal
  return read_file(output);
}

bool has(const std::string &text, const std::string &part) {
  return text.find(part) != std::string::npos;
}

}  // namespace fovea_test

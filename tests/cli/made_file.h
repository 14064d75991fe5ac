// made_file.h - input files made for a test, and output files read back.
#ifndef FOVEA_TESTS_CLI_MADE_FILE_H
#define FOVEA_TESTS_CLI_MADE_FILE_H

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cli/files/tensor_file.h"
#include "tests/cli/program.h"

namespace fovea_test {

using Shape = std::vector<int64_t>;
using Values = std::vector<double>;

struct MadeTensor {
  fv_file_dtype dtype;
  Shape shape;
  std::string bytes;
};

// A .safetensors file to be written. Values of floating-point types are rounded to nearest even.
class MadeFile {
 public:
  MadeFile &tensor(const std::string &name, fv_file_dtype dtype, const Shape &shape,
                   const Values &values);
  // `value` makes every element from its index in row-major order.
  MadeFile &tensor(const std::string &name, fv_file_dtype dtype, const Shape &shape,
                   const std::function<double(int64_t)> &value);
  MadeFile &metadata(const std::string &key, const std::string &value);
  MadeFile &without(const std::string &name);
  std::string write(const Directory &directory, const std::string &name = "in.safetensors") const;

 private:
  std::map<std::string, MadeTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// A valid file of zeros: q, k and v are [1, 2, 3, 8].
MadeFile plain_file();

// All logits are 0, so every row gives equal weight to the keys it sees. The v of key j is the j-th
// unit vector. So out[i][j] is 1 / n for each of the n keys that row i sees, and the LSE is log n.
// At most 8 keys, dim 8.
MadeFile visibility_file(int64_t len_q, int64_t len_kv, int64_t batch = 1);

// One letter per row and key: '#' seen, '.' not seen, '?' where out is neither. '/' separates rows.
// A '?' after a row says that its LSE is wrong.
std::string visible_keys(const std::string &output_path, int64_t len_kv, int64_t batch_row = 0);

// An opened file's tensor, as numbers.
struct ReadTensor {
  bool found = false;
  fv_file_dtype dtype = FV_FILE_DTYPE_UNKNOWN;
  Shape shape;
  Values values;
};
ReadTensor read_tensor(const std::string &path, const std::string &name);
std::string read_metadata(const std::string &path, const std::string &key);  // "(none)"

// An .npy file of this type ("<f4") and shape ("(1, 2)"), with these bytes as its data.
std::string npy_bytes(const std::string &type, const std::string &shape, const std::string &data);

// The SVG that `fovea map` draws of the file, with these flags besides.
std::string svg_of(const MadeFile &file, std::vector<std::string> flags = {});

bool has(const std::string &text, const std::string &part);

// The cells of a map drawn in ASCII: the text between its bars.
std::string drawn_cells(const std::string &drawing);

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CLI_MADE_FILE_H

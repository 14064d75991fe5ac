// tokens_case.h - tensors for tests of the layers: any type and layout, in memory that notices.
//
// Elements lie between guard pages, and the gaps that strides leave hold NaN. After a call an
// output must have every element written and every gap as it was.
#ifndef FOVEA_TESTS_LAYERS_TOKENS_CASE_H
#define FOVEA_TESTS_LAYERS_TOKENS_CASE_H

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "layers/fovea_layers.h"
#include "tests/support/memory.h"

namespace fovea_test {

using Shape = std::array<int64_t, 4>;

// How [batch, len, heads, dim] lies in memory. Numbers past the last mean the same modulo kLayouts.
enum Layout {
  kContiguous,
  kGaps,        // every row followed by some elements of nobody
  kHeadsFirst,  // [batch, heads, len, dim]
  kLenFirst,    // [len, batch, heads, dim]
  kDimFirst,    // [batch, len, dim, heads]: for weights alone, whose stride[3] may be any
};
constexpr int64_t kTokenLayouts = 4;
constexpr int64_t kLayouts = 5;

class Tokens {
 public:
  Tokens() = default;  // absent
  Tokens(uint32_t dtype, Shape shape, Layout layout = kContiguous);

  fovea_tensor view() const { return view_; }
  bool absent() const { return view_.dtype == FOVEA_NONE; }
  int64_t tokens() const { return view_.shape[0] * view_.shape[1]; }
  int64_t width() const { return view_.shape[2] * view_.shape[3]; }

  double at(int64_t b, int64_t i, int64_t h, int64_t d) const;
  double of_token(int64_t token, int64_t element) const;  // element h * dim + d
  void set(int64_t b, int64_t i, int64_t h, int64_t d, double value);

  // Each element from its number in order: rounded to the type, as at() then says.
  void fill(const std::function<double(int64_t)> &value);
  void fill_random(uint64_t seed, double size = 1.0);  // normal
  void fill_integers(uint64_t seed, int64_t most);     // from -most to most
  void make_read_only() { block_.make_read_only(); }

  // Every element that nobody wrote since the constructor, and gaps that somebody did: "" if none.
  std::string wrong() const;

 private:
  int64_t offset(int64_t b, int64_t i, int64_t h, int64_t d) const;
  int64_t elements_ = 0;  // that the block holds
  fovea_tensor view_ = {};
  mutable Block block_;
};

// A workspace whose contents are NaN, and which ends where its bytes do.
class Workspace {
 public:
  explicit Workspace(size_t bytes);
  void *data() { return block_.size() == 0 ? nullptr : block_.data(); }
  bool intact() const { return block_.margins_intact(); }

 private:
  Block block_;
};

// A handle that the tests of a program share.
fovea_handle *shared_cpu();

}  // namespace fovea_test

#endif  // FOVEA_TESTS_LAYERS_TOKENS_CASE_H

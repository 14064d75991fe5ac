// tokens_case.cc - see tokens_case.h.
#include "tests/layers/tokens_case.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tests/support/formats.h"

namespace fovea_test {

namespace {

// Sets strides for dimensions from the outermost to the innermost, with `gap` after each row.
int64_t lay_out(fovea_tensor *view, std::array<int, 4> order, int64_t gap) {
  int64_t stride = 1;
  for (int n = 3; n >= 0; --n) {
    const int dimension = order[static_cast<size_t>(n)];
    view->stride[dimension] = stride;
    stride *= std::max<int64_t>(1, view->shape[dimension]);
    if (n == 3) stride += gap;
  }
  return stride;
}

}  // namespace

Tokens::Tokens(uint32_t dtype, Shape shape, Layout layout) {
  static const std::array<std::array<int, 4>, kLayouts> orders = {
      {{0, 1, 2, 3}, {0, 1, 2, 3}, {0, 2, 1, 3}, {1, 0, 2, 3}, {0, 3, 2, 1}}};
  view_.dtype = dtype;
  for (size_t i = 0; i < 4; ++i) view_.shape[i] = shape[i];
  elements_ = lay_out(&view_, orders[layout], layout == kGaps ? 3 : 0);
  block_ = Block(bytes_of(dtype, elements_), size_of(dtype));
  view_.data = block_.data();
  poison(dtype, block_.data(), elements_);
}

int64_t Tokens::offset(int64_t b, int64_t i, int64_t h, int64_t d) const {
  const int64_t *s = view_.stride;
  return b * s[0] + i * s[1] + h * s[2] + d * s[3];
}

double Tokens::at(int64_t b, int64_t i, int64_t h, int64_t d) const {
  const auto each = static_cast<int64_t>(size_of(view_.dtype));
  return load(view_.dtype, block_.data() + offset(b, i, h, d) * each);
}

double Tokens::of_token(int64_t token, int64_t element) const {
  return at(token / view_.shape[1], token % view_.shape[1], element / view_.shape[3],
            element % view_.shape[3]);
}

void Tokens::set(int64_t b, int64_t i, int64_t h, int64_t d, double value) {
  const auto each = static_cast<int64_t>(size_of(view_.dtype));
  store_bits(view_.dtype, block_.data() + offset(b, i, h, d) * each, encode(view_.dtype, value));
}

void Tokens::fill(const std::function<double(int64_t)> &value) {
  int64_t number = 0;
  for (int64_t b = 0; b < view_.shape[0]; ++b) {
    for (int64_t i = 0; i < view_.shape[1]; ++i) {
      for (int64_t h = 0; h < view_.shape[2]; ++h) {
        for (int64_t d = 0; d < view_.shape[3]; ++d) set(b, i, h, d, value(number++));
      }
    }
  }
}

void Tokens::fill_random(uint64_t seed, double size) {
  fill([=](int64_t n) { return size * normal(mix(seed, static_cast<uint64_t>(n))); });
}

void Tokens::fill_integers(uint64_t seed, int64_t most) {
  const auto span = static_cast<uint64_t>(2 * most + 1);
  fill([=](int64_t n) {
    return static_cast<double>(mix(seed, static_cast<uint64_t>(n)) % span) -
           static_cast<double>(most);
  });
}

std::string Tokens::wrong() const {
  const uint32_t untouched = poison_bits(view_.dtype);
  std::vector<bool> used(static_cast<size_t>(elements_), false);
  for (int64_t b = 0; b < view_.shape[0]; ++b) {
    for (int64_t i = 0; i < view_.shape[1]; ++i) {
      for (int64_t h = 0; h < view_.shape[2]; ++h) {
        for (int64_t d = 0; d < view_.shape[3]; ++d) {
          used[static_cast<size_t>(offset(b, i, h, d))] = true;
        }
      }
    }
  }
  for (size_t n = 0; n < used.size(); ++n) {
    const uint32_t bits = load_bits(view_.dtype, block_.data() + n * size_of(view_.dtype));
    if (used[n] == (bits == untouched)) {
      return (used[n] ? "not written: element " : "written outside: element ") + std::to_string(n);
    }
  }
  return block_.margins_intact() ? "" : "written outside its memory";
}

Workspace::Workspace(size_t bytes) : block_(bytes, 256, 256) {
  block_.fill(0xff);
}

fovea_handle *shared_cpu() {
  static fovea_handle *handle = [] {
    fovea_options options = {};
    options.struct_size = sizeof options;
    options.device = FOVEA_DEVICE_CPU;
    options.threads = 2;
    fovea_handle *made = nullptr;
    EXPECT_EQ(fovea_create(&options, &made), FOVEA_OK) << fovea_error_detail();
    return made;
  }();
  return handle;
}

}  // namespace fovea_test

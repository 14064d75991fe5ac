// merge_case.h - cases of fovea_merge, the call, and two judges. One does the operations of the
// call in their order, element by element, and expects the same bits. The other has the formula in
// double precision and a derived bound.
#ifndef FOVEA_TESTS_MERGE_CASE_H
#define FOVEA_TESTS_MERGE_CASE_H

#include <fovea.h>

#include <cstdint>
#include <limits>
#include <vector>

#include "tests/support/formats.h"

namespace fovea_test::merges {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr uint8_t kCanary = 0xa5;
constexpr double kU32 = 0x1p-24;

struct View {
  std::vector<uint8_t> memory;
  fovea_tensor shape = {};

  fovea_tensor tensor() {
    fovea_tensor t = shape;
    t.data = memory.data();
    return t;
  }
  uint8_t *at(int64_t b, int64_t i, int64_t h, int64_t d) {
    const int64_t index[4] = {b, i, h, d};
    int64_t offset = 0;
    for (int n = 0; n < 4; ++n) offset += shape.shape[n] == 1 ? 0 : index[n] * shape.stride[n];
    return memory.data() + offset * static_cast<int64_t>(size_of(shape.dtype));
  }
  float get(int64_t b, int64_t i, int64_t h, int64_t d) {
    return static_cast<float>(load(shape.dtype, at(b, i, h, d)));
  }
  void set(int64_t b, int64_t i, int64_t h, int64_t d, float value) {
    store_bits(shape.dtype, at(b, i, h, d), encode(shape.dtype, value));
  }
};

// Parts and results. A copy has its own memory. out_place and lse_place are the parts that the
// results replace, or -1.
struct Case {
  std::vector<View> outs, lses;
  View out, lse;
  int out_place = -1, lse_place = -1;
  bool wants_lse = true;
  double exp_ulps = 1;  // the max error of the device's expf

  View &result() { return out_place < 0 ? out : outs[static_cast<size_t>(out_place)]; }
  View &result_lse() { return lse_place < 0 ? lse : lses[static_cast<size_t>(lse_place)]; }
};

View view_of(uint32_t dtype, int64_t batch, int64_t rows, int64_t heads, int64_t dim, bool by_head);

struct Size {
  int64_t batch, rows, heads, dim;
};

Case make_case(size_t count, uint32_t dtype, Size s, bool by_head = false);

// Every part has one row of one element.
Case scalars(const std::vector<float> &lses, const std::vector<float> &values,
             uint32_t dtype = FOVEA_F32);

// Rows of ordinary parts, whose weights differ widely; some rows are empty.
Case random_case(uint64_t seed);

template <class F>
void for_each_row(const fovea_tensor &t, F f) {
  for (int64_t b = 0; b < t.shape[0]; ++b) {
    for (int64_t i = 0; i < t.shape[1]; ++i) {
      for (int64_t h = 0; h < t.shape[2]; ++h) f(b, i, h);
    }
  }
}

// How the library is called. A test may set another function.
extern fovea_status (*merge_call)(fovea_handle *handle, const fovea_merge_args *args);

// The call under test.
void merge(Case *c, int threads = 1, fovea_device device = FOVEA_DEVICE_CPU);

// Merges into out and lse in the order that the header states, every operation rounded by itself.
void merge_by_steps(Case *c);

// The largest ratio of error to bound in a row, after a merge. It is 0 for an empty row, which
// other tests judge.
struct Ratios {
  double out, lse;
};
Ratios worst_ratios(Case *c, int64_t b, int64_t i, int64_t h);

}  // namespace fovea_test::merges

#endif  // FOVEA_TESTS_MERGE_CASE_H

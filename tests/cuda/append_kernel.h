// append_kernel.h - what the tests of fovea_kv_append on CUDA have in common.
#ifndef FOVEA_TESTS_CUDA_APPEND_KERNEL_H
#define FOVEA_TESTS_CUDA_APPEND_KERNEL_H

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cli/mirror/mirror.h"
#include "tests/append_case.h"
#include "tests/handle_of.h"

namespace fovea_test {

// The library is called with copies of all memory on the device.
class AppendKernel : public testing::Test {
 protected:
  void SetUp() override {
    usual_ = append_call;
    append_call = fv_mirror_append;
    const std::string why = why_there_is_no(FOVEA_DEVICE_CUDA);
    if (!why.empty()) GTEST_SKIP() << why;
  }
  void TearDown() override { append_call = usual_; }

 private:
  decltype(append_call) usual_ = nullptr;
};

inline void expect_on_cuda(const Case &c, const std::string &what) {
  expect_as_defined(c, 0, FOVEA_DEVICE_CUDA, what);
}

// The same case with the caches `bytes` further on.
inline Case with_caches_shifted(const Case &original, size_t bytes) {
  Case c = original;
  c.cache.insert(c.cache.begin(), bytes, kCanary);
  c.k_offset += bytes;
  c.v_offset += bytes;
  return c;
}

// The same case with every tensor `bytes` further on.
inline Case shifted(const Case &original, size_t bytes) {
  Case c = with_caches_shifted(original, bytes);
  for (std::vector<uint8_t> *memory : {&c.k_new, &c.v_new}) {
    memory->insert(memory->begin(), bytes, kCanary);
  }
  c.new_offset += bytes;
  return c;
}

// Three tokens of two heads, rotated in `pairs` pairs, at the end of a cache of five.
inline Case chunk_case(Draw *draw, uint32_t from, uint32_t to, int64_t dim, int64_t pairs,
                       uint32_t style) {
  Case c;
  c.fixed.k_new = c.fixed.v_new = view(from, 1, 3, 2, dim);
  c.fixed.k_cache = c.fixed.v_cache = view(to, 1, 5, 2, dim);
  c.k_new = draw->fill(c.fixed.k_new);
  c.v_new = draw->fill(c.fixed.v_new);
  c.v_offset = static_cast<size_t>(span_of(c.fixed.k_cache)) * size_of(to);
  c.cache.assign(2 * c.v_offset, kCanary);
  c.kv_lengths = {2};
  c.errors = {0};
  if (pairs == 0) return c;
  c.fixed.rope.rows = 5;
  c.fixed.rope.rotary_dim = static_cast<int32_t>(2 * pairs);
  c.fixed.rope.stride = pairs;
  c.fixed.rope.style = style;
  for (int64_t i = 0; i < 5 * pairs; ++i) {
    c.cos.push_back(draw->number());
    c.sin.push_back(draw->number());
  }
  return c;
}

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CUDA_APPEND_KERNEL_H

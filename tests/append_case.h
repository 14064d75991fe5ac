// append_case.h - cases of fovea_kv_append, the call, and the oracle for what it must store.
#ifndef FOVEA_TESTS_APPEND_CASE_H
#define FOVEA_TESTS_APPEND_CASE_H

#include <fovea.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/formats.h"

namespace fovea_test {

constexpr uint8_t kCanary = 0xa5;

using Bits = std::vector<uint32_t>;

// How the library is called. A test may set another function.
extern fovea_status (*append_call)(fovea_handle *handle, const fovea_kv_append_args *args);

// The call under test.
void append(const fovea_kv_append_args &args, int threads = 1,
            fovea_device device = FOVEA_DEVICE_CPU);

// The oracle: does the same as the call, one element at a time.
void append_by_definition(const fovea_kv_append_args &args);

// The bits that the oracle stores for a value, with the header's NaNs.
uint32_t expected_bits(uint32_t dtype, float value);

char *address(const fovea_tensor &t, int64_t i, int64_t j, int64_t h, int64_t d);

// One past the last element that the view reaches.
int64_t span_of(const fovea_tensor &t);

// A contiguous tensor whose memory comes later.
fovea_tensor view(uint32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d);

// A copy of a case has its own memory. args() returns pointers into it, as it lies at that time.
struct Case {
  fovea_kv_append_args fixed = {};  // everything but pointers
  std::vector<uint8_t> k_new, v_new, cache, k_scale, v_scale, q, q_out, q_scale;
  size_t k_offset = 0, v_offset = 0;  // of the caches in `cache`, in bytes
  size_t new_offset = 0;              // of the new tensors in k_new and v_new
  size_t q_offset = 0;                // of q in its memory, and of q_out in its own
  bool in_place = false;              // q_out is q
  std::vector<int32_t> new_offsets, q_lengths, kv_lengths, ids, v_ids, page_offsets, positions;
  std::vector<int64_t> slots;
  std::vector<float> cos, sin, q_gain, k_gain, v_gain;
  std::vector<uint32_t> errors;

  fovea_kv_append_args args() {
    fovea_kv_append_args a = fixed;
    a.struct_size = sizeof a;
    a.k_new.data = k_new.data() + new_offset;
    a.v_new.data = v_new.data() + new_offset;
    a.k_cache.data = cache.data() + k_offset;
    a.v_cache.data = cache.data() + v_offset;
    a.k_scale.data = k_scale.data();
    a.v_scale.data = v_scale.data();
    a.q.data = q.data() + q_offset;
    a.q_out.data = (in_place ? q : q_out).data() + q_offset;
    a.q_scale.data = q_scale.data();
    a.q_norm.gain = pointer(q_gain);
    a.k_norm.gain = pointer(k_gain);
    a.v_norm.gain = pointer(v_gain);
    a.sequences.q_offsets = pointer(new_offsets);
    a.sequences.q_lengths = pointer(q_lengths);
    a.sequences.kv_lengths = pointer(kv_lengths);
    a.sequences.pages.ids = pointer(ids);
    a.sequences.pages.v_ids = pointer(v_ids);
    a.sequences.pages.offsets = pointer(page_offsets);
    a.rope.positions = pointer(positions);
    a.slots = pointer(slots);
    a.rope.cos = pointer(cos);
    a.rope.sin = pointer(sin);
    // The library refuses numbers whose array is missing.
    if (ids.empty()) a.sequences.pages = {};
    if (cos.empty()) a.rope = {};
    a.errors = errors.empty() ? nullptr : errors.data();
    return a;
  }

  template <class T>
  static const T *pointer(const std::vector<T> &v) {
    return v.empty() ? nullptr : v.data();
  }
};

class Draw {
 public:
  explicit Draw(uint64_t seed) : random_(seed) {}

  int64_t upto(int64_t high) { return static_cast<int64_t>(random_() % (uint64_t)(high + 1)); }
  int64_t between(int64_t low, int64_t high) { return low + upto(high - low); }
  bool chance(int64_t one_in) { return upto(one_in - 1) == 0; }
  template <class T>
  T of(std::initializer_list<T> list) {
    return list.begin()[upto(static_cast<int64_t>(list.size()) - 1)];
  }

  // Half are arbitrary bits, half are ordinary numbers.
  uint32_t bits(uint32_t dtype) {
    if (chance(2)) return static_cast<uint32_t>(random_());
    const double sign = chance(2) ? -1 : 1;
    return encode(dtype,
                  sign * std::ldexp(1.0 + (double)upto(1 << 20) / (1 << 20), (int)between(-8, 7)));
  }
  float number() {
    return static_cast<float>(decode(FOVEA_F32, chance(8) ? bits(FOVEA_F32) : plain()));
  }

  // Draws strides: the dimensions lie in memory in any order, with gaps. `unit` is the number of
  // elements of one innermost row.
  void layout(fovea_tensor *t, int64_t unit) {
    int order[3] = {0, 1, 2};
    for (int i = 2; i > 0; --i) std::swap(order[i], order[upto(i)]);
    for (int i : order) {
      t->stride[i] = unit;
      unit *= t->shape[i];
      if (chance(3)) unit += block_of(t->dtype) * between(1, 9);
      if (t->shape[i] == 1 && chance(2)) t->stride[i] = 123456789012;  // never used
    }
    t->stride[3] = 1;
  }

  std::vector<uint8_t> fill(const fovea_tensor &t) {
    const size_t bytes = size_of(t.dtype);
    std::vector<uint8_t> memory(static_cast<size_t>(span_of(t)) * bytes);
    for (size_t i = 0; i + bytes <= memory.size(); i += bytes) {
      store_bits(t.dtype, &memory[i], bits(t.dtype));
    }
    return memory;
  }

 private:
  uint32_t plain() { return encode(FOVEA_F32, (double)between(-1000, 1000) / 997); }

  std::mt19937_64 random_;
};

// Places k and v in separate parts of the buffer, or alternating row by row or head by head.
void place_caches(Draw *draw, Case *c);

// Draws any layout, types and tables, good or bad. The types of the caches go up to `last`; with
// FOVEA_Q4_0 half of them are blocks.
Case random_case(uint64_t seed, uint32_t last = FOVEA_I8);

// Gives a case queries and norms, and takes keys and values from some.
Case with_queries(Case c, uint64_t seed);

// One token of one head goes into a cache of exactly that size.
Case one_token(uint32_t from, uint32_t to, const Bits &bits);

// Calls append and returns the contents of k_cache, which has no gaps.
Bits stored(Case c);

// Runs the call and the oracle, and compares all memory of the case.
void expect_as_defined(const Case &original, int threads, fovea_device device,
                       const std::string &what);

}  // namespace fovea_test

#endif  // FOVEA_TESTS_APPEND_CASE_H

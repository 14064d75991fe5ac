// check_case.h - valid arguments, to break one field at a time, and what a refusal must say.
//
// The checks never follow a pointer to device memory, so the memory here is only addresses.
// Everything that needs memory of its own has a region of 64 GiB.
#ifndef FOVEA_TESTS_CHECK_CHECK_CASE_H
#define FOVEA_TESTS_CHECK_CHECK_CASE_H

#include <gmock/gmock.h>

#include <cstdint>
#include <string>
#include <vector>

extern "C" {
#include "csrc/check/check.h"
}

namespace fovea_test {

constexpr int64_t kMost = INT64_MAX;
constexpr int64_t kLeast = INT64_MIN;
constexpr int64_t kExtents = int64_t{1} << 31;  // extents lie below this

constexpr uintptr_t region(int index) {
  return static_cast<uintptr_t>(index + 1) << 36;
}

template <class T = void>
T *at(uintptr_t address) {
  return reinterpret_cast<T *>(address);
}

// A contiguous tensor at the beginning of a region.
inline fovea_tensor view(int index, uint32_t dtype, int64_t a, int64_t b, int64_t c, int64_t d) {
  return fovea_contiguous(at(region(index)), static_cast<fovea_dtype>(dtype), a, b, c, d);
}

// The library's answer to a call of one kind. The problem is filled with rubbish first, so that a
// field that stays unset shows.
template <class Args, class Problem, fovea_status (*Check)(const Args *, Problem *)>
struct Checked {
  Problem problem;
  fovea_status status;
  std::string detail;

  explicit Checked(const Args &args) {
    memset(static_cast<void *>(&problem), 0xa5, sizeof problem);
    status = Check(&args, &problem);
    if (status != FOVEA_OK) detail = fovea_error_detail();
  }
};

template <class A, class P, fovea_status (*C)(const A *, P *)>
void PrintTo(const Checked<A, P, C> &checked, std::ostream *os) {
  *os << fovea_status_name(checked.status);
}

using Attention = Checked<fovea_attention_args, fv_problem, fv_check_attention>;
using Shape = Checked<fovea_attention_args, fv_problem, fv_check_attention_shape>;
using Weights = Checked<fovea_weights_args, fv_weights_problem, fv_check_weights>;
using Merge = Checked<fovea_merge_args, fv_merge_problem, fv_check_merge>;
using Append = Checked<fovea_kv_append_args, fv_append_problem, fv_check_append>;
using Limits = Checked<fovea_limits, fovea_limits, fv_check_limits>;
using Options = Checked<fovea_options, fovea_options, fv_check_options>;

MATCHER(Passes, "") {
  *result_listener << "detail: " << arg.detail;
  return arg.status == FOVEA_OK;
}

// The detail begins with the whole name of the field, and says something about it.
MATCHER_P(Refuses, field, "") {
  const std::string name = field;
  *result_listener << "status " << arg.status << ", detail: " << arg.detail;
  return arg.status == FOVEA_BAD_ARGUMENT && arg.detail.compare(0, name.size(), name) == 0 &&
         arg.detail.size() > name.size() + 1 && arg.detail[name.size()] == ' ';
}

MATCHER_P2(Refuses, field, text, "") {
  *result_listener << "status " << arg.status << ", detail: " << arg.detail;
  return testing::Value(arg, Refuses(field)) && arg.detail.find(text) != std::string::npos;
}

template <class T, class Args>
Args with(Args args, T Args::*field, T value) {
  args.*field = value;
  return args;
}

// A small call with every tensor and every array that needs no pages: batch 2, len_q 5, heads_q 4,
// heads_kv 2, len_kv 7, dim 16, dim_v 8. All is 8-bit, so that each tensor may have a scale.
inline fovea_attention_args attention() {
  fovea_attention_args args = {};
  args.struct_size = sizeof args;
  args.q = view(0, FOVEA_E4M3, 2, 5, 4, 16);
  args.k = view(1, FOVEA_I8, 2, 7, 2, 16);
  args.v = view(2, FOVEA_E5M2, 2, 7, 2, 8);
  args.out = view(3, FOVEA_E4M3, 2, 5, 4, 8);
  args.lse = view(4, FOVEA_F32, 2, 5, 4, 1);
  args.q_scale = view(5, FOVEA_F32, 2, 5, 4, 2);
  args.k_scale = view(6, FOVEA_F16, 2, 7, 2, 4);
  args.v_scale = view(7, FOVEA_F16, 2, 7, 2, 2);
  args.out_scale = view(8, FOVEA_F32, 2, 5, 4, 8);
  args.visibility.mask = view(9, FOVEA_U8, 2, 5, 4, 7);
  args.logits.bias = view(10, FOVEA_F32, 2, 5, 4, 7);
  args.sequences.count = 2;
  args.sequences.kv_lengths = at<int32_t>(region(11));
  args.positions.q = at<int32_t>(region(12));
  args.sequences.kv_first = at<int32_t>(region(13));
  args.positions.kv = at<int32_t>(region(14));
  args.visibility.prefix_lengths = at<int32_t>(region(15));
  args.visibility.spans = at<int32_t>(region(25));
  args.visibility.tree.bits = at<uint32_t>(region(16));
  args.visibility.tree.words = 10;
  args.visibility.tree.lengths = at<int32_t>(region(17));
  args.visibility.tree.starts = at<int32_t>(region(18));
  args.logits.alibi_slopes = at<float>(region(19));
  args.logits.alibi_stride = 4;
  args.logits.sinks = at<float>(region(20));
  args.logits.bias_scale = at<float>(region(26));
  args.logits.distances = {at<float>(region(27)), 6, -3, 5, {}};
  args.sequences.q_lengths = at<int32_t>(region(28));
  args.logits.additive = {at<float>(region(29)), 17, {}};
  args.errors = at<uint32_t>(region(21));
  args.workspace = at(region(22));
  args.workspace_bytes = 512;
  return args;
}

// Whether a tensor of this name may have the dtype, but not with the dims of these calls.
inline bool may_be_blocks(const std::string &name, uint32_t dtype) {
  const bool cache = name == "k" || name == "v" || name == "k_cache" || name == "v_cache";
  return cache && (dtype == FOVEA_Q8_0 || dtype == FOVEA_Q4_0);
}

// The least that a call needs.
inline fovea_attention_args plain_attention() {
  fovea_attention_args args = {};
  args.struct_size = sizeof args;
  args.q = view(0, FOVEA_F32, 2, 5, 4, 16);
  args.k = view(1, FOVEA_F32, 2, 7, 2, 16);
  args.v = view(2, FOVEA_F32, 2, 7, 2, 8);
  args.out = view(3, FOVEA_F32, 2, 5, 4, 8);
  return args;
}

// Three sequences have 11 rows together, and keys in 9 pages of 6.
inline fovea_attention_args packed_and_paged() {
  fovea_attention_args args = plain_attention();
  args.q = view(0, FOVEA_F32, 1, 11, 4, 16);
  args.out = view(3, FOVEA_F32, 1, 11, 4, 8);
  args.k = view(1, FOVEA_F32, 9, 6, 2, 16);
  args.v = view(2, FOVEA_F32, 9, 6, 2, 8);
  args.sequences.count = 3;
  args.sequences.q_offsets = at<int32_t>(region(11));
  args.sequences.kv_lengths = at<int32_t>(region(12));
  args.sequences.pages.ids = at<int32_t>(region(13));
  args.sequences.pages.row_stride = 5;
  args.sequences.pages.count = 4;
  return args;
}

// Keys and values, 8-bit caches with scales, RoPE. Two sequences append 3 tokens to room for 7.
inline fovea_kv_append_args append() {
  fovea_kv_append_args args = {};
  args.struct_size = sizeof args;
  args.k_new = view(0, FOVEA_F32, 2, 3, 4, 16);
  args.v_new = view(1, FOVEA_BF16, 2, 3, 4, 8);
  args.k_cache = view(2, FOVEA_E4M3, 2, 7, 4, 16);
  args.v_cache = view(3, FOVEA_I8, 2, 7, 4, 8);
  args.k_scale = view(4, FOVEA_F32, 2, 7, 4, 2);
  args.v_scale = view(5, FOVEA_F16, 2, 7, 4, 1);
  args.sequences.kv_lengths = at<int32_t>(region(6));
  args.rope.cos = at<float>(region(8));
  args.rope.sin = at<float>(region(9));
  args.rope.rows = 100;
  args.rope.stride = 4;
  args.rope.positions = at<int32_t>(region(7));
  args.rope.rotary_dim = 8;
  args.rope.style = FOVEA_ROPE_HALF_SPLIT;
  args.errors = at<uint32_t>(region(10));
  return args;
}

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CHECK_CHECK_CASE_H

// cache_call.h - calls of fovea_kv_append and fovea_merge for tests on the fake driver.
#ifndef FOVEA_TESTS_CUDA_CACHE_CALL_H
#define FOVEA_TESTS_CUDA_CACHE_CALL_H

#include "tests/cuda/fake_gpu.h"

namespace fovea_test {

// 2 sequences of 3 tokens, 4 heads, dims 64 and 32, into pages of 16.
struct AppendCall {
  std::vector<uint16_t> k_new, v_new, k_cache, v_cache;
  std::vector<float> table;
  int32_t lengths[2] = {0, 5}, ids[4] = {0, 1, 2, 3};
  uint32_t errors[2] = {};
  fovea_kv_append_args args{};

  AppendCall()
      : k_new(2 * 3 * 4 * 64),
        v_new(2 * 3 * 4 * 32),
        k_cache(8 * 16 * 4 * 64),
        v_cache(8 * 16 * 4 * 32),
        table(2 * 100 * 16) {
    args.struct_size = sizeof args;
    args.k_new = fovea_contiguous(k_new.data(), FOVEA_BF16, 2, 3, 4, 64);
    args.v_new = fovea_contiguous(v_new.data(), FOVEA_BF16, 2, 3, 4, 32);
    args.k_cache = fovea_contiguous(k_cache.data(), FOVEA_F16, 8, 16, 4, 64);
    args.v_cache = fovea_contiguous(v_cache.data(), FOVEA_BF16, 8, 16, 4, 32);
    args.sequences.kv_lengths = lengths;
    args.sequences.pages = {ids, nullptr, nullptr, 2, 2, 0, nullptr, {}};
    args.rope = {table.data(), table.data() + 100 * 16, 100, 16, nullptr,
                 32,           FOVEA_ROPE_INTERLEAVED,  {}};
    args.errors = errors;
  }
  fovea_status call(fovea_handle *handle, fovea_stream stream) {
    return fovea_kv_append(handle, &args, stream);
  }
  bool untouched() const {
    for (const auto *cache : {&k_cache, &v_cache}) {
      for (uint16_t x : *cache) {
        if (x != 0) return false;
      }
    }
    return errors[0] == 0 && errors[1] == 0;
  }
};

// 3 parts of [2, 5, 3, 40].
struct MergeCall {
  std::vector<uint16_t> parts, out;
  std::vector<float> part_lses, lse;
  std::vector<fovea_tensor> outs, lses;
  fovea_merge_args args{};

  explicit MergeCall(int32_t count = 3)
      : parts(static_cast<size_t>(count) * 30 * 40),
        out(30 * 40),
        part_lses(static_cast<size_t>(count) * 30),
        lse(30) {
    for (int32_t n = 0; n < count; ++n) {
      outs.push_back(fovea_contiguous(parts.data() + n * 30 * 40, FOVEA_F16, 2, 5, 3, 40));
      lses.push_back(fovea_contiguous(part_lses.data() + n * 30, FOVEA_F32, 2, 5, 3, 1));
    }
    args.struct_size = sizeof args;
    args.count = count;
    args.outs = outs.data();
    args.lses = lses.data();
    args.out = fovea_contiguous(out.data(), FOVEA_BF16, 2, 5, 3, 40);
    args.lse = fovea_contiguous(lse.data(), FOVEA_F32, 2, 5, 3, 1);
  }
  fovea_status call(fovea_handle *handle, fovea_stream stream) {
    return fovea_merge(handle, &args, stream);
  }
  bool untouched() const {
    for (uint16_t x : out) {
      if (x != 0) return false;
    }
    for (float x : lse) {
      if (x != 0) return false;
    }
    return true;
  }
};

}  // namespace fovea_test

#endif  // FOVEA_TESTS_CUDA_CACHE_CALL_H

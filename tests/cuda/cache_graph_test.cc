// cache_graph_test.cc - calls on memory that stays on the device. One captured graph of
// fovea_kv_append and fovea_merge serves every step of a decoding loop, because the device itself
// reads what changes between steps.
#include <gtest/gtest.h>

#include "csrc/cuda/device.h"
#include "tests/append_case.h"
#include "tests/cuda/driver_call.h"
#include "tests/cuda/mirrored.h"
#include "tests/handle_of.h"

namespace fovea_test {
namespace {

class CacheGraph : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why = why_there_is_no(FOVEA_DEVICE_CUDA);
    if (!why.empty()) GTEST_SKIP() << why;
  }
};

// Three sequences with a token each per step, two heads of dim 16, pages of 4 tokens.
struct Step {
  Mirrored<uint8_t> k_new{std::vector<uint8_t>(3 * 2 * 16 * 2)};
  Mirrored<uint8_t> cache{std::vector<uint8_t>(40 * 4 * 2 * 16 * 2, kCanary)};
  Mirrored<int32_t> lengths{{0, 7, 30}};
  Mirrored<int32_t> ids{std::vector<int32_t>(3 * 12)};
  Mirrored<int32_t> positions{{0, 0, 0}};
  Mirrored<float> cos{std::vector<float>(64 * 8)}, sin{std::vector<float>(64 * 8)};
  Mirrored<uint32_t> errors{{0, 0, 0}};
  // Two parts to merge, each with those three rows, and the result.
  Mirrored<float> outs{std::vector<float>(2 * 6 * 8)}, lses{std::vector<float>(2 * 6, 0.5f)};
  Mirrored<float> out{std::vector<float>(6 * 8)}, lse{std::vector<float>(6)};

  // The call's arguments: in the device's memory if `there`, else in the host's.
  fovea_kv_append_args append_args(bool there) {
    fovea_kv_append_args a = {};
    a.struct_size = sizeof a;
    a.k_new =
        fovea_contiguous(there ? k_new.pointer() : k_new.host.data(), FOVEA_BF16, 3, 1, 2, 16);
    a.k_cache =
        fovea_contiguous(there ? cache.pointer() : cache.host.data(), FOVEA_F16, 40, 4, 2, 16);
    a.sequences.kv_lengths = there ? lengths.pointer() : lengths.host.data();
    a.sequences.pages = {
        there ? ids.pointer() : ids.host.data(), nullptr, nullptr, 12, 12, 0, nullptr, {}};
    a.rope = {there ? cos.pointer() : cos.host.data(),
              there ? sin.pointer() : sin.host.data(),
              64,
              8,
              there ? positions.pointer() : positions.host.data(),
              16,
              FOVEA_ROPE_HALF_SPLIT,
              {}};
    a.errors = there ? errors.pointer() : errors.host.data();
    return a;
  }
  fovea_status merge(fovea_handle *handle, CUstream stream) {
    fovea_tensor parts[2], part_lses[2];
    for (int n = 0; n < 2; ++n) {
      parts[n] = fovea_contiguous(outs.pointer() + n * 48, FOVEA_F32, 3, 1, 2, 8);
      part_lses[n] = fovea_contiguous(lses.pointer() + n * 6, FOVEA_F32, 3, 1, 2, 1);
    }
    fovea_merge_args a = {};
    a.struct_size = sizeof a;
    a.count = 2;
    a.outs = parts;
    a.lses = part_lses;
    a.out = fovea_contiguous(out.pointer(), FOVEA_F32, 3, 1, 2, 8);
    a.lse = fovea_contiguous(lse.pointer(), FOVEA_F32, 3, 1, 2, 1);
    return fovea_merge(handle, &a, stream);  // the views are host memory, and gone when it returns
  }
};

// Captures both calls; nothing is written meanwhile.
CUgraphExec capture(Step *step, fovea_handle *handle, CUstream stream) {
  CUgraph graph = nullptr;
  CUgraphExec ready = nullptr;
  const fovea_kv_append_args args = step->append_args(true);
  EXPECT_EQ(DRIVER_CALL(cuStreamBeginCapture_v2)(stream, CU_STREAM_CAPTURE_MODE_GLOBAL),
            CUDA_SUCCESS);
  EXPECT_EQ(fovea_kv_append(handle, &args, stream), FOVEA_OK) << fovea_error_detail();
  EXPECT_EQ(step->merge(handle, stream), FOVEA_OK) << fovea_error_detail();
  EXPECT_EQ(DRIVER_CALL(cuStreamEndCapture)(stream, &graph), CUDA_SUCCESS);
  EXPECT_EQ(step->cache.there(), step->cache.host);
  EXPECT_EQ(DRIVER_CALL(cuGraphInstantiateWithFlags)(&ready, graph, 0), CUDA_SUCCESS);
  EXPECT_EQ(DRIVER_CALL(cuGraphDestroy)(graph), CUDA_SUCCESS);
  return ready;
}

// New tokens, lengths, page tables and positions; some are bad.
void change(Draw *draw, Step *step) {
  step->k_new.host = draw->fill(step->append_args(false).k_new);
  for (int32_t &length : step->lengths.host) {
    length = static_cast<int32_t>(draw->chance(10) ? draw->of<int64_t>({-1, 48, 1 << 30})
                                                   : draw->upto(47));
  }
  for (int32_t &id : step->ids.host)
    id = static_cast<int32_t>(draw->upto(draw->chance(9) ? 60 : 39));
  for (int32_t &position : step->positions.host) position = static_cast<int32_t>(draw->upto(64));
  for (float &x : step->outs.host) x = static_cast<float>(draw->between(-40, 40));
  step->k_new.put();
  step->lengths.put();
  step->ids.put();
  step->positions.put();
  step->outs.put();
}

void expect_step(Step *step) {
  append_by_definition(step->append_args(false));
  ASSERT_EQ(step->cache.there(), step->cache.host);
  ASSERT_EQ(step->errors.there(), step->errors.host);
  const std::vector<float> merged = step->out.there();
  for (size_t i = 0; i < merged.size(); ++i) {  // equal LSEs: half and half
    ASSERT_EQ(merged[i], (step->outs.host[i] + step->outs.host[48 + i]) / 2);
  }
}

TEST_F(CacheGraph, ServesEveryStepWithoutBeingCapturedAgain) {
  fovea_handle *handle = handle_of(FOVEA_DEVICE_CUDA, 0);
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  fovea_limits limits = {};
  limits.struct_size = sizeof limits;
  limits.heads_q = limits.heads_kv = 2;
  limits.sequences = limits.total_q = limits.len_kv = 3;
  ASSERT_EQ(fovea_prepare(handle, &limits), FOVEA_OK) << fovea_error_detail();
  ASSERT_EQ(driver()->cuCtxPushCurrent(fv_cuda_device_of(handle)->primary), CUDA_SUCCESS);
  ASSERT_EQ(DRIVER_CALL(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), CUDA_SUCCESS);
  {
    Step step;
    Draw draw(3);
    for (size_t i = 0; i < step.cos.host.size(); ++i) {
      step.cos.host[i] = draw.number();
      step.sin.host[i] = draw.number();
    }
    step.cos.put();
    step.sin.put();
    CUgraphExec graph = capture(&step, handle, stream);
    for (int i = 0; i < 1000 && !HasFailure(); ++i) {
      change(&draw, &step);
      ASSERT_EQ(DRIVER_CALL(cuGraphLaunch)(graph, stream), CUDA_SUCCESS);
      ASSERT_EQ(driver()->cuStreamSynchronize(stream), CUDA_SUCCESS);
      expect_step(&step);
    }
    EXPECT_NE(step.errors.host, (std::vector<uint32_t>{0, 0, 0}));  // bad data came along
    EXPECT_EQ(DRIVER_CALL(cuGraphExecDestroy)(graph), CUDA_SUCCESS);
  }
  EXPECT_EQ(DRIVER_CALL(cuStreamDestroy_v2)(stream), CUDA_SUCCESS);
  driver()->cuCtxPopCurrent(&context);
}

// ---- Far apart -------------------------------------------------------------------------------

// Copies one token of eight halves between two places of a buffer. In dimension `far` one view
// begins more than 2^32 elements earlier, where there is no memory. Only its last index is used.
struct FarToken {
  Mirrored<uint8_t> memory{std::vector<uint8_t>(12288, kCanary)};
  fovea_kv_append_args args = {};

  void far_from(fovea_tensor *view, int far, uint8_t *place) {
    view->shape[far] = 3;
    view->stride[far] = (INT64_C(1) << 31) + 8;
    view->data = place - 2 * view->stride[far] * 2;
  }
  FarToken(bool source_is_far, int far) {
    uint8_t *low = memory.pointer(),
            *high = low + 4096;  // the far view spans everything below it, so it lies first
    const std::vector<int64_t> slots =
        source_is_far ? std::vector<int64_t>{-1, -1, 0} : std::vector<int64_t>{2};
    std::memcpy(&memory.host[8192], slots.data(), slots.size() * sizeof slots[0]);
    for (size_t i = 0; i < 16; ++i) memory.host[(source_is_far ? 0 : 4096) + i] = (uint8_t)i;
    memory.put();
    args.struct_size = sizeof args;
    args.k_new = fovea_contiguous(high, FOVEA_F16, 1, 1, 1, 8);
    args.k_cache = fovea_contiguous(high, FOVEA_F16, 1, 1, 1, 8);
    far_from(source_is_far ? &args.k_new : &args.k_cache, far, low);
    args.slots = reinterpret_cast<const int64_t *>(low + 8192);
  }
};

TEST_F(CacheGraph, CountsOffsetsIn64Bits) {
  fovea_handle *handle = handle_of(FOVEA_DEVICE_CUDA, 0);
  CUcontext context = nullptr;
  ASSERT_EQ(driver()->cuCtxPushCurrent(fv_cuda_device_of(handle)->primary), CUDA_SUCCESS);
  for (bool source_is_far : {false, true}) {
    for (int far : {0, 1}) {
      FarToken token(source_is_far, far);
      std::vector<uint8_t> expected = token.memory.host;
      for (size_t i = 0; i < 16; ++i) expected[(source_is_far ? 4096 : 0) + i] = (uint8_t)i;
      ASSERT_EQ(fovea_kv_append(handle, &token.args, nullptr), FOVEA_OK) << fovea_error_detail();
      ASSERT_EQ(driver()->cuStreamSynchronize(nullptr), CUDA_SUCCESS);
      EXPECT_EQ(token.memory.there(), expected) << source_is_far << far;
    }
  }
  driver()->cuCtxPopCurrent(&context);
}

}  // namespace
}  // namespace fovea_test

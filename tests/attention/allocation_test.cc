// allocation_test.cc - requests for memory and threads that fail, and calls that make no request.
//
// The linker sends the allocation functions here (--wrap), so that the n-th request can fail.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "tests/attention/features.h"

namespace {

thread_local bool t_armed = false;  // count and fail requests of this thread
thread_local int t_requests = 0;
thread_local int t_failing = 0;  // the request that fails, from 1; 0: none; -n: all from n on
thread_local int t_balance = 0;  // blocks that were allocated and not freed

bool refuses() {
  if (!t_armed) return false;
  ++t_requests;
  return t_requests == t_failing || (t_failing < 0 && t_requests >= -t_failing);
}

void *counted(void *block) {
  if (t_armed && block != nullptr) ++t_balance;
  return block;
}

}  // namespace

extern "C" {
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void __real_free(void *block);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);

void *__wrap_malloc(size_t bytes) {
  return refuses() ? nullptr : counted(__real_malloc(bytes));
}
void *__wrap_calloc(size_t count, size_t bytes) {
  return refuses() ? nullptr : counted(__real_calloc(count, bytes));
}
void *__wrap_realloc(void *block, size_t bytes) {
  if (refuses()) return nullptr;
  return block == nullptr ? counted(__real_realloc(block, bytes)) : __real_realloc(block, bytes);
}
void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
  return refuses() ? nullptr : counted(__real_aligned_alloc(alignment, bytes));
}
void __wrap_free(void *block) {
  if (t_armed && block != nullptr) --t_balance;
  __real_free(block);
}
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument) {
  return refuses() ? EAGAIN : __real_pthread_create(thread, attributes, start, argument);
}
}

namespace fovea_test {
namespace {

// Arms the counters while it lives.
class Armed {
 public:
  explicit Armed(int failing) {
    t_requests = 0;
    t_balance = 0;
    t_failing = failing;
    t_armed = true;
  }
  ~Armed() { disarm(); }
  void disarm() { t_armed = false; }
};

class Allocation : public testing::TestWithParam<Device> {
 protected:
  // handle_of() sets and clears the variable itself, so it must have opened its handle before.
  void SetUp() override {
    handle_of(GetParam());
    if (!GetParam().isa.empty()) setenv("FOVEA_CPU_ISA", GetParam().isa.c_str(), 1);
  }
  void TearDown() override { unsetenv("FOVEA_CPU_ISA"); }
  fovea_options options() {
    fovea_options o{};
    o.struct_size = sizeof o;
    o.device = GetParam().kind;
    o.threads = 3;
    return o;
  }
};

// Opens a handle while one request fails, or all from one on; then computes and closes.
TEST_P(Allocation, FailingOnceOrForEverIsReportedOrDoneWithout) {
  Attention problem = Attention().on(GetParam()).len_q(20).len_kv(100).heads(4, 2).seed(6);
  Case laid(problem.s);
  const Outcome expected = laid.run(GetParam());
  const fovea_options wanted = options();
  for (const bool for_ever : {false, true}) {
    int opened = 0;
    for (int n = 1;; ++n) {
      fovea_handle *handle = reinterpret_cast<fovea_handle *>(8);
      Armed armed(for_ever ? -n : n);
      const fovea_status status = fovea_create(&wanted, &handle);
      const int requests = t_requests;
      if (status != FOVEA_OK) {
        armed.disarm();
        EXPECT_EQ(status, FOVEA_OUT_OF_MEMORY) << n;
        EXPECT_EQ(handle, nullptr);
        EXPECT_EQ(t_balance, 0) << "leaked by a failed fovea_create, request " << n;
        continue;
      }
      armed.disarm();
      ++opened;
      EXPECT_EQ(difference(expected, laid.run(handle)), "") << n;
      {
        // Counts what fovea_destroy frees: nothing that fovea_create allocated may be left.
        t_armed = true;
        fovea_destroy(handle);
        armed.disarm();
      }
      EXPECT_EQ(t_balance, 0) << "leaked, request " << n;
      if (requests < n) break;  // nothing was left to fail
    }
    EXPECT_GE(opened, 1);
  }
}

TEST_P(Allocation, ThreadsThatCannotBeStartedLeaveTheWorkToTheCaller) {
  Case laid(Attention().on(GetParam()).len_q(50).len_kv(100).heads(4, 2).s);
  const Outcome expected = laid.run(GetParam());
  const fovea_options wanted = options();
  fovea_handle *handle = nullptr;
  ASSERT_EQ(fovea_create(&wanted, &handle), FOVEA_OK);
  const fovea_limits limits = laid.limits();
  size_t bytes = 0;
  ASSERT_EQ(fovea_attention_workspace(handle, &limits, &bytes), FOVEA_OK);
  std::vector<float> out(5000);
  Block workspace(bytes, 1, 256);
  fovea_attention_args args = laid.args;
  args.lse = fovea_tensor{};
  args.out = fovea_contiguous(out.data(), FOVEA_F32, 1, 50, 4, 16);
  args.workspace = workspace.data();
  args.workspace_bytes = bytes;
  {
    Armed armed(-1);
    EXPECT_EQ(fovea_attention(handle, &args, nullptr), FOVEA_OK);
  }
  for (int64_t h = 0; h < 4; ++h) {
    for (int64_t i = 0; i < 50; ++i) {
      ASSERT_EQ(static_cast<double>(out[static_cast<size_t>((i * 4 + h) * 16)]),
                expected.at(0, i, h, 0));
    }
  }
  fovea_destroy(handle);
}

TEST_P(Allocation, CallsAskForNoMemory) {
  for (const Feature &feature : features()) {
    Case laid(base_of(feature, GetParam()).s);
    fovea_handle *handle = handle_of(GetParam());
    laid.run(handle);  // threads have started by now
    const fovea_limits limits = laid.limits();
    size_t bytes = 0;
    ASSERT_EQ(fovea_attention_workspace(handle, &limits, &bytes), FOVEA_OK);
    Block workspace(bytes, 1, 256);
    fovea_attention_args args = laid.args;
    args.workspace = bytes > 0 ? workspace.data() : nullptr;
    args.workspace_bytes = bytes;
    Armed armed(0);
    const fovea_status status = fovea_attention(handle, &args, nullptr);
    const int requests = t_requests;
    armed.disarm();
    ASSERT_EQ(status, FOVEA_OK) << feature.name;
    EXPECT_EQ(requests, 0) << feature.name;
  }
}

TEST_P(Allocation, CallsOfWeightsAskForNoMemory) {
  for (const Feature &feature : features()) {
    Case laid(base_of(feature, GetParam()).s);
    fovea_handle *handle = handle_of(GetParam());
    laid.run(handle);  // threads have started by now
    const int64_t heads = laid.args.q.shape[2];
    std::vector<float> room(static_cast<size_t>(kSequences * kRows * heads * kKeys));
    std::vector<float> mass(static_cast<size_t>(kSequences * heads * kKeys));
    std::vector<float> statistics(static_cast<size_t>(kSequences * kRows * heads * 4));
    fovea_weights_args args{};
    args.struct_size = sizeof args;
    args.attention = &laid.args;
    args.weights = fovea_contiguous(room.data(), FOVEA_F32, kSequences, kRows, heads, kKeys);
    args.mass = fovea_contiguous(mass.data(), FOVEA_F32, kSequences, 1, heads, kKeys);
    args.statistics = fovea_contiguous(statistics.data(), FOVEA_F32, kSequences, kRows, heads, 4);
    Armed armed(0);
    const fovea_status status = fovea_attention_weights(handle, &args, nullptr);
    const int requests = t_requests;
    armed.disarm();
    ASSERT_EQ(status, FOVEA_OK) << feature.name;
    EXPECT_EQ(requests, 0) << feature.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Allocation, testing::ValuesIn(devices()),
                         device_name<testing::TestParamInfo<Device>>);

}  // namespace
}  // namespace fovea_test

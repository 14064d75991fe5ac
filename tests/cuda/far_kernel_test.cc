// far_kernel_test.cc - elements more than 2^31 or 2^32 elements from their tensor's beginning. The
// same numbers, laid out near and far, give the same bits.
//
// The test allocates tens of gigabytes from the driver and writes only the elements that exist. The
// software GPU keeps only those in memory. A GPU must have all of it, or the test is skipped.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "csrc/cuda/device.h"
#include "tests/cuda/mirrored.h"
#include "tests/handle_of.h"
#include "tests/support/formats.h"
#include "tests/support/memory.h"

namespace fovea_test {
namespace {

const int kNear = -1;
const int64_t kFar = int64_t{1} << 32;  // a far tensor spans at least this many elements

// Memory of the device; is_there() is false if the device has too little.
class DeviceMemory {
 public:
  explicit DeviceMemory(int64_t bytes) {
    if (driver()->cuMemAlloc(&begin_, static_cast<size_t>(bytes)) != CUDA_SUCCESS) begin_ = 0;
  }
  ~DeviceMemory() {
    if (begin_) driver()->cuMemFree(begin_);
  }
  DeviceMemory(const DeviceMemory &) = delete;
  DeviceMemory &operator=(const DeviceMemory &) = delete;
  bool is_there() const { return begin_ != 0; }
  void *pointer() const { return reinterpret_cast<void *>(begin_); }

 private:
  CUdeviceptr begin_ = 0;
};

// A tensor of the device, and where its rows lie.
struct DeviceTensor {
  fovea_tensor view = {};
  std::unique_ptr<DeviceMemory> memory;

  // Dense, except that the last index of dimension `far` lies kFar elements on, beyond all others.
  DeviceTensor(uint32_t dtype, const std::vector<int64_t> &shape, int far) {
    view.dtype = dtype;
    std::copy(shape.begin(), shape.end(), view.shape);
    int64_t span = shape[3];
    view.stride[3] = 1;
    for (int n : {2, 1, 0}) {
      if (n == far) continue;
      view.stride[n] = span;
      span *= shape[static_cast<size_t>(n)];
    }
    if (far != kNear) {
      const int64_t steps = view.shape[far] - 1;
      view.stride[far] = (kFar / steps + 7) / 8 * 8 + 8;
      span += steps * view.stride[far];
    }
    memory = std::make_unique<DeviceMemory>(span * bytes_of_element());
    view.data = memory->pointer();
  }
  int64_t bytes_of_element() const { return static_cast<int64_t>(size_of(view.dtype)); }
  size_t row_bytes() const { return static_cast<size_t>(view.shape[3] * bytes_of_element()); }
  CUdeviceptr row(int64_t a, int64_t b, int64_t c) const {
    const int64_t offset = a * view.stride[0] + b * view.stride[1] + c * view.stride[2];
    return reinterpret_cast<CUdeviceptr>(view.data) +
           static_cast<CUdeviceptr>(offset * bytes_of_element());
  }
  // Calls visit(device address) for the rows [begin, end) of dimension 1, in the order of
  // coordinates.
  template <class Visit>
  void each_row(int64_t begin, int64_t end, Visit visit) const {
    for (int64_t a = 0; a < view.shape[0]; ++a) {
      for (int64_t b = begin; b < end; ++b) {
        for (int64_t c = 0; c < view.shape[2]; ++c) visit(row(a, b, c));
      }
    }
  }
  void put(const std::vector<uint8_t> &rows, int64_t begin, int64_t end) const {
    const uint8_t *from = rows.data();
    each_row(begin, end, [&](CUdeviceptr to) {
      ASSERT_EQ(driver()->cuMemcpyHtoD(to, from, row_bytes()), CUDA_SUCCESS);
      from += row_bytes();
    });
  }
  void put(const std::vector<uint8_t> &rows) const { put(rows, 0, view.shape[1]); }
  std::vector<uint8_t> there(int64_t begin, int64_t end) const {
    std::vector<uint8_t> rows;
    each_row(begin, end, [&](CUdeviceptr from) {
      rows.resize(rows.size() + row_bytes());
      uint8_t *to = rows.data() + rows.size() - row_bytes();
      ASSERT_EQ(driver()->cuMemcpyDtoH(to, from, row_bytes()), CUDA_SUCCESS);
    });
    return rows;
  }
  std::vector<uint8_t> there() const { return there(0, view.shape[1]); }
};

// Halves between 1/8 and 2, of either sign.
std::vector<uint8_t> halves(int64_t count, uint64_t seed) {
  std::vector<uint8_t> bytes(static_cast<size_t>(count) * 2);
  for (size_t i = 0; i < bytes.size(); i += 2) {
    const uint64_t bits = mix(seed, i);
    const uint16_t half = static_cast<uint16_t>((bits & 0x8000) | (0x3000 + bits % 0x1000));
    std::memcpy(&bytes[i], &half, sizeof half);
  }
  return bytes;
}

// What a call wrote to the rows that belong to a sequence.
struct Results {
  std::vector<uint8_t> out, lse;
  bool operator==(const Results &other) const { return out == other.out && lse == other.lse; }
};

class FarKernel : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why = why_there_is_no(FOVEA_DEVICE_CUDA);
    if (!why.empty()) GTEST_SKIP() << why;
    handle_ = handle_of(FOVEA_DEVICE_CUDA, 0);
    ASSERT_EQ(driver()->cuCtxPushCurrent(fv_cuda_device_of(handle_)->primary), CUDA_SUCCESS);
    is_current_ = true;
  }
  void TearDown() override {
    CUcontext context = nullptr;
    if (is_current_) driver()->cuCtxPopCurrent(&context);
  }
  // Makes the call with the workspace that the tightest limits for it ask for.
  void attend(fovea_attention_args a, int64_t len_kv) {
    fovea_limits limits = {};
    limits.struct_size = sizeof limits;
    limits.heads_q = static_cast<int32_t>(a.q.shape[2]);
    limits.heads_kv = static_cast<int32_t>(a.k.shape[2]);
    limits.sequences = a.sequences.count ? a.sequences.count : a.q.shape[0];
    limits.total_q = a.q.shape[0] * a.q.shape[1];
    limits.len_kv = len_kv;
    limits.dim = static_cast<int32_t>(a.q.shape[3]);
    limits.dim_v = static_cast<int32_t>(a.v.shape[3]);
    limits.sm_count = a.sm_count;
    ASSERT_EQ(fovea_attention_workspace(handle_, &limits, &a.workspace_bytes), FOVEA_OK);
    const DeviceMemory workspace(static_cast<int64_t>(std::max<size_t>(a.workspace_bytes, 1)));
    a.workspace = workspace.pointer();
    a.struct_size = sizeof a;
    ASSERT_EQ(fovea_attention(handle_, &a, nullptr), FOVEA_OK) << fovea_error_detail();
    ASSERT_EQ(driver()->cuStreamSynchronize(nullptr), CUDA_SUCCESS);
  }
  fovea_handle *handle_ = nullptr;

 private:
  bool is_current_ = false;
};

// ---- Attention

struct Kind {
  const char *name;
  uint32_t level;
  int64_t len_q;
};
// Without a schedule; narrow tiles; wide tiles that shares split.
const Kind kKinds[] = {{"phase", FOVEA_REPRODUCIBLE_PHASE, 3},
                       {"narrow", FOVEA_REPRODUCIBLE_RUN, 3},
                       {"wide", FOVEA_REPRODUCIBLE_RUN, 9}};

enum Which { Q, K, V, OUT, LSE, MASK, TABLE };

std::vector<uint8_t> bytes_of(const std::vector<int32_t> &numbers) {
  std::vector<uint8_t> bytes(numbers.size() * 4);
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return bytes;
}

const std::vector<int32_t> kPages = {14, 3, 7, 0, 12, 9, 1, 13, 5, 2, 11, 6, 4, 10, 8};

// The kernel copies plain keys without looking at each.
enum class Keys { PLAIN, MASKED, PAGED };

// 3 sequences of 140 keys, 6 heads over 3, dim 32. Tensor `which` is far in dimension `far`.
Results attend_far(Which which, int far, const Kind &kind, Keys keys, bool *is_there,
                   const std::function<void(fovea_attention_args, int64_t)> &call) {
  const auto of = [&](Which one) { return one == which ? far : kNear; };
  const bool paged = keys == Keys::PAGED;
  const int64_t slots = paged ? 28 : 140, places = paged ? 15 : 3;
  const DeviceTensor q(FOVEA_F16, {3, kind.len_q, 6, 32}, of(Q));
  const DeviceTensor k(FOVEA_F16, {places, slots, 3, 32}, of(K));
  const DeviceTensor v(FOVEA_F16, {places, slots, 3, 32}, of(V));
  const DeviceTensor out(FOVEA_F16, {3, kind.len_q, 6, 32}, of(OUT));
  const DeviceTensor lse(FOVEA_F32, {3, kind.len_q, 6, 1}, of(LSE));
  const DeviceTensor mask(FOVEA_U8, {3, 1, 1, 140}, of(MASK));
  const DeviceTensor table(FOVEA_F32, {3, 1, 1, 5}, of(TABLE));  // ids have 4 bytes, too
  for (const DeviceTensor *t : {&q, &k, &v, &out, &lse, &mask, &table}) {
    *is_there &= t->memory->is_there();
  }
  if (!*is_there) return {};
  q.put(halves(3 * kind.len_q * 6 * 32, 1));
  k.put(halves(places * slots * 3 * 32, 2));
  v.put(halves(places * slots * 3 * 32, 3));
  std::vector<uint8_t> shown(3 * 140);
  for (size_t i = 0; i < shown.size(); ++i) shown[i] = i % 7 != 3;
  mask.put(shown);
  table.put(bytes_of(kPages));
  const Mirrored<int32_t> lengths({140, 140, 139});
  fovea_attention_args a = {};
  a.q = q.view, a.k = k.view, a.v = v.view, a.out = out.view, a.lse = lse.view;
  a.reproducible = kind.level;
  if (keys == Keys::MASKED) a.visibility.mask = mask.view;
  a.sequences.kv_lengths = lengths.pointer();
  const int32_t *ids = static_cast<const int32_t *>(table.view.data);
  if (paged) a.sequences.pages = {ids, nullptr, nullptr, table.view.stride[0], 5, 0, nullptr, {}};
  call(a, 140);
  return {out.there(), lse.there()};
}

struct Far {
  Which which;
  int dimension;
};

// A far tensor changes no bit, whichever of `ways` it is.
void expect_no_difference(const std::vector<Far> &ways, Keys keys, bool *is_there,
                          const std::function<void(fovea_attention_args, int64_t)> &call) {
  for (const Kind &kind : kKinds) {
    const Results near = attend_far(Q, kNear, kind, keys, is_there, call);
    for (const Far &far : ways) {
      const Results other = attend_far(far.which, far.dimension, kind, keys, is_there, call);
      if (!*is_there) return;
      EXPECT_TRUE(near == other) << kind.name << ", tensor " << far.which << ", dimension "
                                 << far.dimension;
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST_F(FarKernel, AttendsToTensorsOfAnyStride) {
  std::vector<Far> ways;
  for (Which which : {Q, K, V, OUT, LSE}) {
    for (int dimension : {0, 1, 2}) ways.push_back({which, dimension});
  }
  bool is_there = true;
  const auto call = [this](fovea_attention_args a, int64_t len_kv) { attend(a, len_kv); };
  expect_no_difference(ways, Keys::PLAIN, &is_there, call);
  const std::vector<Far> of_keys = {{MASK, 0}, {K, 0}, {K, 1}, {K, 2}, {V, 0}, {V, 1}, {V, 2}};
  expect_no_difference(of_keys, Keys::MASKED, &is_there, call);
  if (!is_there) GTEST_SKIP() << "the device has not so much memory";
}

TEST_F(FarKernel, AttendsToPagesOfAnyStride) {
  std::vector<Far> ways = {{TABLE, 0}};
  for (Which which : {K, V}) {
    for (int dimension : {0, 1, 2}) ways.push_back({which, dimension});
  }
  bool is_there = true;
  const auto call = [this](fovea_attention_args a, int64_t len_kv) { attend(a, len_kv); };
  expect_no_difference(ways, Keys::PAGED, &is_there, call);
  if (!is_there) GTEST_SKIP() << "the device has not so much memory";
}

// Packed rows without a gap. With a large `total` the last ones lie far, and only those belong to
// sequences.
Results attend_packed(int64_t total, int64_t keys_total, uint32_t level, bool *is_there,
                      const std::function<void(fovea_attention_args, int64_t)> &call) {
  const DeviceTensor q(FOVEA_BF16, {1, total, 1, 64}, kNear);
  const DeviceTensor k(FOVEA_BF16, {1, keys_total, 1, 64}, kNear);
  const DeviceTensor v(FOVEA_BF16, {1, keys_total, 1, 64}, kNear);
  const DeviceTensor out(FOVEA_BF16, {1, total, 1, 64}, kNear);
  const DeviceTensor lse(FOVEA_F32, {1, total, 1, 1}, kNear);
  for (const DeviceTensor *t : {&q, &k, &v, &out, &lse}) *is_there &= t->memory->is_there();
  if (!*is_there) return {};
  q.put(halves(100 * 64, 4), total - 100, total);
  k.put(halves(200 * 64, 5), keys_total - 200, keys_total);
  v.put(halves(200 * 64, 6), keys_total - 200, keys_total);
  const int32_t row_end = static_cast<int32_t>(total), key_end = static_cast<int32_t>(keys_total);
  const Mirrored<int32_t> rows({row_end - 100, row_end - 90, row_end - 90, row_end});
  const Mirrored<int32_t> keys({key_end - 200, key_end - 70, key_end - 66, key_end});
  fovea_attention_args a = {};
  a.q = q.view, a.k = k.view, a.v = v.view, a.out = out.view, a.lse = lse.view;
  a.reproducible = level;
  a.sequences.count = 3;
  a.sequences.q_offsets = rows.pointer();
  a.sequences.kv_offsets = keys.pointer();
  a.visibility.causal = 1;
  a.sm_count = 3;  // else more rows would mean more shares
  call(a, 200);
  return {out.there(total - 100, total), lse.there(total - 100, total)};
}

TEST_F(FarKernel, AttendsToTheLastOfManyPackedRows) {
  const auto call = [this](fovea_attention_args a, int64_t len_kv) { attend(a, len_kv); };
  const int64_t many = kFar / 64 + 300;
  // Few rows would be served by another kernel, which cuts its shares elsewhere: tiles of 128 rows,
  // two for each multiprocessor, are many.
  int multiprocessors = 0;
  driver()->cuDeviceGetAttribute(&multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0);
  const int64_t enough = 2 * 128 * multiprocessors;
  for (uint32_t level : {FOVEA_REPRODUCIBLE_RUN, FOVEA_REPRODUCIBLE_PHASE}) {
    bool is_there = true;
    const Results near = attend_packed(enough, 200, level, &is_there, call);
    const Results far = attend_packed(many, many, level, &is_there, call);
    if (!is_there) GTEST_SKIP() << "the device has not so much memory";
    EXPECT_TRUE(near == far) << level;
  }
}

// ---- Append

// 6 tokens of 3 sequences, 3 heads, into 6 pages of 4 tokens, by lengths or by given slots. Q is
// the new tokens, K the cache, V the RoPE tables, TABLE the page table.
std::vector<uint8_t> append_far(fovea_handle *handle, const Far &far, bool by_slots,
                                bool *is_there) {
  const auto of = [&](Which one) { return one == far.which ? far.dimension : kNear; };
  const DeviceTensor fresh(FOVEA_F16, {3, 2, 3, 32}, of(Q)), cache(FOVEA_F16, {6, 4, 3, 32}, of(K));
  const DeviceTensor turns(FOVEA_F32, {3, 1, 1, 16}, of(V)),
      table(FOVEA_F32, {3, 1, 1, 2}, of(TABLE));
  for (const DeviceTensor *t : {&fresh, &cache, &turns, &table}) *is_there &= t->memory->is_there();
  if (!*is_there) return {};
  fresh.put(halves(3 * 2 * 3 * 32, 7));
  cache.put(halves(6 * 4 * 3 * 32, 8));
  table.put(bytes_of({5, 0, 2, 4, 1, 3}));
  std::vector<uint8_t> numbers(3 * 16 * 4);
  for (uint32_t i = 0; i < 48; ++i) {
    store_bits(FOVEA_F32, &numbers[i * 4], encode(FOVEA_F32, i / 64.0));
  }
  turns.put(numbers);
  const Mirrored<int32_t> lengths({3, 0, 6}), positions({2, 0, 1, 2, 0, 1});
  const Mirrored<int64_t> slots({23, 0, 5, 11, 17, 20});
  fovea_kv_append_args a = {};
  a.struct_size = sizeof a;
  a.k_new = fresh.view;
  a.k_cache = cache.view;
  if (by_slots) {
    a.slots = slots.pointer();
  } else {
    a.sequences.kv_lengths = lengths.pointer();
    a.sequences.pages = {static_cast<const int32_t *>(table.view.data),
                         nullptr,
                         nullptr,
                         table.view.stride[0],
                         2,
                         0,
                         nullptr,
                         {}};
  }
  const float *turn = static_cast<const float *>(turns.view.data);
  a.rope = {turn, turn, 3, turns.view.stride[0], positions.pointer(), 32, FOVEA_ROPE_HALF_SPLIT,
            {}};
  EXPECT_EQ(fovea_kv_append(handle, &a, nullptr), FOVEA_OK) << fovea_error_detail();
  EXPECT_EQ(driver()->cuStreamSynchronize(nullptr), CUDA_SUCCESS);
  return cache.there();
}

TEST_F(FarKernel, AppendsToCachesAndFromTensorsOfAnyStride) {
  const Far ways[] = {{Q, 0}, {Q, 1}, {Q, 2}, {K, 0}, {K, 1}, {K, 2}, {V, 0}, {TABLE, 0}};
  for (bool by_slots : {false, true}) {
    bool is_there = true;
    const auto near = append_far(handle_, {Q, kNear}, by_slots, &is_there);
    EXPECT_NE(near, halves(6 * 4 * 3 * 32, 8));  // something was written
    for (const Far &far : ways) {
      const auto other = append_far(handle_, far, by_slots, &is_there);
      if (!is_there) GTEST_SKIP() << "the device has not so much memory";
      EXPECT_EQ(near, other) << far.which << " " << far.dimension << " " << by_slots;
    }
  }
}

// A cache of 2^32 slots with one number each.
TEST_F(FarKernel, AppendsToSlotsOfAnyNumber) {
  const int64_t places[] = {kFar - 1, kFar / 2, 5};
  const DeviceMemory cache(kFar * 2);
  if (!cache.is_there()) GTEST_SKIP() << "the device has not so much memory";
  const Mirrored<uint16_t> fresh({0x3c00, 0x4000, 0x4200});
  const Mirrored<int64_t> slots({places[0], places[1], places[2]});
  fovea_kv_append_args a = {};
  a.struct_size = sizeof a;
  a.k_new = fovea_contiguous(fresh.pointer(), FOVEA_F16, 1, 3, 1, 1);
  a.k_cache = fovea_contiguous(cache.pointer(), FOVEA_F16, kFar / 16, 16, 1, 1);
  a.slots = slots.pointer();
  ASSERT_EQ(fovea_kv_append(handle_, &a, nullptr), FOVEA_OK) << fovea_error_detail();
  ASSERT_EQ(driver()->cuStreamSynchronize(nullptr), CUDA_SUCCESS);
  for (size_t n = 0; n < 3; ++n) {
    uint16_t there = 0;
    const CUdeviceptr at =
        reinterpret_cast<CUdeviceptr>(cache.pointer()) + static_cast<CUdeviceptr>(places[n] * 2);
    ASSERT_EQ(driver()->cuMemcpyDtoH(&there, at, 2), CUDA_SUCCESS);
    EXPECT_EQ(there, fresh.host[n]) << places[n];
  }
}

// ---- Merge

// Merges two parts of 3 x 2 rows and 3 heads. Q is the first part, K its LSE, OUT the result and
// LSE its LSE.
Results merge_far(fovea_handle *handle, Which which, int far, bool *is_there) {
  const auto of = [&](Which one) { return one == which ? far : kNear; };
  const DeviceTensor first(FOVEA_F16, {3, 2, 3, 32}, of(Q)),
      second(FOVEA_F16, {3, 2, 3, 32}, kNear);
  const DeviceTensor lses[2] = {{FOVEA_F32, {3, 2, 3, 1}, of(K)}, {FOVEA_F32, {3, 2, 3, 1}, kNear}};
  const DeviceTensor out(FOVEA_F16, {3, 2, 3, 32}, of(OUT)), lse(FOVEA_F32, {3, 2, 3, 1}, of(LSE));
  for (const DeviceTensor *t : {&first, &second, &lses[0], &lses[1], &out, &lse}) {
    *is_there &= t->memory->is_there();
  }
  if (!*is_there) return {};
  first.put(halves(18 * 32, 9));
  second.put(halves(18 * 32, 10));
  for (const DeviceTensor &t : lses) {
    std::vector<uint8_t> numbers(18 * 4);
    for (uint32_t i = 0; i < 18; ++i)
      store_bits(FOVEA_F32, &numbers[i * 4], 0x3f800000 + i * 12345);
    t.put(numbers);
  }
  const fovea_tensor outs[2] = {first.view, second.view};
  const fovea_tensor part_lses[2] = {lses[0].view, lses[1].view};
  fovea_merge_args a = {};
  a.struct_size = sizeof a;
  a.count = 2;
  a.outs = outs;
  a.lses = part_lses;
  a.out = out.view;
  a.lse = lse.view;
  EXPECT_EQ(fovea_merge(handle, &a, nullptr), FOVEA_OK) << fovea_error_detail();
  EXPECT_EQ(driver()->cuStreamSynchronize(nullptr), CUDA_SUCCESS);
  return {out.there(), lse.there()};
}

TEST_F(FarKernel, MergesTensorsOfAnyStride) {
  bool is_there = true;
  const Results near = merge_far(handle_, Q, kNear, &is_there);
  for (Which which : {Q, K, OUT, LSE}) {
    for (int far : {0, 1, 2}) {
      const Results other = merge_far(handle_, which, far, &is_there);
      if (!is_there) GTEST_SKIP() << "the device has not so much memory";
      EXPECT_TRUE(near == other) << which << " " << far;
    }
  }
}

}  // namespace
}  // namespace fovea_test

// append_test.cc - the places to which fovea_kv_append writes tokens.
//
// Tables are good or bad, and memory has any size. All memory of a case is compared byte by byte,
// gaps and margins included. So a write to a wrong place shows even if no element lies there.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <climits>

#include "tests/append_case.h"

namespace fovea_test {
namespace {

TEST(Append, StoresWhatTheHeaderDefinesInRandomCases) {
  uint32_t bits_seen = 0;
  int written = 0;
  for (uint64_t seed = 0; seed < 6000; ++seed) {
    Case c = random_case(seed);
    const fovea_device device = seed % 4 ? FOVEA_DEVICE_CPU : FOVEA_DEVICE_REFERENCE;
    expect_as_defined(c, 1, device, "seed " + std::to_string(seed));
    ASSERT_FALSE(HasFailure());
    Case after = c;
    append(after.args());
    written += after.cache != c.cache;
    for (uint32_t bits : after.errors) bits_seen |= bits;
  }
  // Most cases must write something, and every kind of bad data must occur.
  EXPECT_GT(written, 3000);
  EXPECT_EQ(bits_seen, 0x80000000u | FOVEA_BAD_LENGTH | FOVEA_BAD_PAGE | FOVEA_BAD_OFFSET |
                           FOVEA_BAD_POSITION | FOVEA_BAD_SLOT);
}

// ---- Bad data --------------------------------------------------------------------------------

// Two sequences of two tokens, pages of one token, four pages; k and v of 8 bytes each.
Case paged_pair() {
  Case c;
  c.fixed.k_new = c.fixed.v_new = view(FOVEA_F16, 2, 2, 1, 8);
  c.fixed.k_cache = c.fixed.v_cache = view(FOVEA_F16, 4, 1, 1, 8);
  c.k_new.assign(64, 0x11);
  c.v_new.assign(64, 0x22);
  c.cache.assign(64 + 128 + 64, kCanary);
  c.k_offset = 64;
  c.v_offset = 64 + 64;
  c.kv_lengths = {0, 0};
  c.ids = {0, 1, 2, 3};
  c.fixed.sequences.pages.count = 2;
  c.fixed.sequences.pages.row_stride = 2;
  c.errors = {0, 0};
  return c;
}

// A bit for each page that has been written: 0 to 3 for k, 4 to 7 for v.
uint32_t pages_written(const Case &c) {
  uint32_t bits = 0;
  for (size_t page = 0; page < 8; ++page) {
    const uint8_t byte = c.cache[64 + 16 * page];
    if (byte != kCanary) bits |= 1u << page;
    for (size_t i = 0; i < 16; ++i) EXPECT_EQ(c.cache[64 + 16 * page + i], byte);
  }
  for (size_t i = 0; i < 64; ++i) EXPECT_EQ(c.cache[i], kCanary);
  for (size_t i = 192; i < 256; ++i) EXPECT_EQ(c.cache[i], kCanary);
  return bits;
}

TEST(AppendBadData, WritesEverythingWhenNothingIsBad) {
  Case c = paged_pair();
  append(c.args());
  EXPECT_EQ(pages_written(c), 0xffu);
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, 0}));
}

TEST(AppendBadData, SkipsATokenInBothCachesWhenEitherPageIsOutside) {
  for (int32_t id : {-1, INT_MIN, 4, 5, INT_MAX}) {
    Case c = paged_pair();
    c.ids = {0, id, 2, 3};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xddu) << id;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_PAGE, 0})) << id;
    c = paged_pair();
    c.v_ids = {0, 1, id, 3};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xbbu) << id;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, FOVEA_BAD_PAGE})) << id;
  }
}

TEST(AppendBadData, KeepsTheBitsThatAreSetAlready) {
  Case c = paged_pair();
  c.ids[1] = -1;
  c.errors = {FOVEA_BAD_MASK, FOVEA_BAD_MASK};
  append(c.args());
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_MASK | FOVEA_BAD_PAGE, FOVEA_BAD_MASK}));
}

TEST(AppendBadData, SkipsWhatLiesPastTheTable) {
  for (int32_t length : {1, 2, INT_MAX}) {
    Case c = paged_pair();
    c.kv_lengths = {0, length};
    append(c.args());
    EXPECT_EQ(pages_written(c), length == 1 ? 0xbbu : 0x33u) << length;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, FOVEA_BAD_SLOT})) << length;
  }
}

TEST(AppendBadData, SkipsSequencesOfNegativeLengthEvenWhereTheIndexIsNot) {
  for (int32_t length : {-1, INT_MIN}) {
    Case c = paged_pair();
    c.kv_lengths = {length, 0};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xccu) << length;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_LENGTH, 0})) << length;
  }
}

TEST(AppendBadData, SkipsPositionsOutsideTheRopeTableInBothCaches) {
  for (int32_t position : {-1, INT_MIN, 2, 3, INT_MAX}) {
    Case c = paged_pair();
    c.fixed.rope.rows = 2;
    c.fixed.rope.rotary_dim = 2;
    c.fixed.rope.stride = 1;
    c.cos = {1, 1};
    c.sin = {0, 0};
    c.positions = {0, 1, position, 1};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xbbu) << position;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, FOVEA_BAD_POSITION})) << position;
  }
}

TEST(AppendBadData, SkipsSlotsPastTheCacheAndSilentlyNegativeOnes) {
  for (int64_t slot : {INT64_C(4), INT64_C(5), INT64_MAX, INT64_C(-1), INT64_MIN}) {
    Case c = paged_pair();
    c.ids.clear();
    c.kv_lengths.clear();
    c.slots = {3, slot, 0, 1};
    append(c.args());
    EXPECT_EQ(pages_written(c), 0xbbu) << slot;
    EXPECT_EQ(c.errors, (std::vector<uint32_t>{slot < 0 ? 0u : uint32_t{FOVEA_BAD_SLOT}, 0}))
        << slot;
  }
}

TEST(AppendBadData, AsksNothingOfATokenThatTheCallerSkips) {
  Case c = paged_pair();
  c.ids.clear();
  c.kv_lengths.clear();
  c.slots = {0, -1, 1, 2};
  c.positions = {0, -7, 0, 0};
  c.fixed.rope.rows = 1;
  c.fixed.rope.rotary_dim = 2;
  c.fixed.rope.stride = 1;
  c.cos = {1};
  c.sin = {0};
  append(c.args());
  EXPECT_EQ(pages_written(c), 0x77u);
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{0, 0}));
}

TEST(AppendBadData, ReadsOffsetsThroughARunningMaximum) {
  Case c = paged_pair();
  c.fixed.k_new = c.fixed.v_new = view(FOVEA_F16, 1, 4, 1, 8);
  c.fixed.sequences.count = 2;
  c.kv_lengths = {0, 0};
  c.new_offsets = {-5, 1, 0};  // sequence 1 runs backwards: it is empty
  append(c.args());
  EXPECT_EQ(pages_written(c), 0x11u);
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_OFFSET, FOVEA_BAD_OFFSET}));
  c = paged_pair();
  c.page_offsets = {0, 1, INT_MAX};  // sequence 1 owns pages 1 to 3
  c.fixed.sequences.pages.count = 4;
  append(c.args());
  EXPECT_EQ(pages_written(c), 0x77u);
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_SLOT, FOVEA_BAD_OFFSET}));
}

TEST(AppendBadData, NeverWritesToACacheWithoutRoom) {
  Case c = paged_pair();
  c.fixed.k_cache.shape[0] = c.fixed.v_cache.shape[0] = 0;  // no pages
  append(c.args());
  EXPECT_EQ(pages_written(c), 0u);
  EXPECT_EQ(c.errors, (std::vector<uint32_t>{FOVEA_BAD_PAGE, FOVEA_BAD_PAGE}));
  Case slots = c;
  slots.ids.clear();
  slots.kv_lengths.clear();
  slots.fixed.sequences.pages = fovea_pages{};
  slots.slots = {0, 1, 2, 3};
  slots.errors = {0, 0};
  append(slots.args());
  EXPECT_EQ(pages_written(slots), 0u);
  EXPECT_EQ(slots.errors, (std::vector<uint32_t>{FOVEA_BAD_SLOT, FOVEA_BAD_SLOT}));
  Case rows = slots;
  rows.slots.clear();
  rows.kv_lengths = {0, 0};
  rows.fixed.k_cache.shape[0] = rows.fixed.v_cache.shape[0] = 2;
  rows.fixed.k_cache.shape[1] = rows.fixed.v_cache.shape[1] = 0;
  rows.errors = {0, 0};
  append(rows.args());
  EXPECT_EQ(pages_written(rows), 0u);
  EXPECT_EQ(rows.errors, (std::vector<uint32_t>{FOVEA_BAD_SLOT, FOVEA_BAD_SLOT}));
}

// 2^47 tokens without elements leave nothing to do, so the call must return at once.
TEST(AppendBadData, DoesNotWalkTokensWithoutElements) {
  fovea_kv_append_args a = {};
  const std::vector<int32_t> lengths(1 << 16);
  a.struct_size = sizeof a;
  a.k_new = view(FOVEA_F32, 1 << 16, INT_MAX, 1, 0);
  a.k_cache = view(FOVEA_F32, 1 << 16, 1, 1, 0);
  a.sequences.kv_lengths = lengths.data();
  std::vector<uint32_t> errors(1 << 16);
  a.errors = errors.data();
  append(a);
  EXPECT_EQ(errors, std::vector<uint32_t>(1 << 16));
}

// The tables end at memory that the process may not read.
TEST(AppendBadData, ReadsNothingPastTheTables) {
  const size_t page = 65536;
  auto *base = static_cast<uint8_t *>(
      mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(base, MAP_FAILED);
  ASSERT_EQ(mprotect(base + page, page, PROT_NONE), 0);
  auto *ids = reinterpret_cast<int32_t *>(base + page) - 4;
  for (int32_t i = 0; i < 4; ++i) ids[i] = i;
  for (int32_t length : {2, 3, 100000, INT_MAX}) {
    Case c = paged_pair();
    c.kv_lengths = {0, length};
    fovea_kv_append_args args = c.args();
    args.sequences.pages.ids = ids;
    append(args);
    EXPECT_EQ(pages_written(c), 0x33u) << length;
  }
  munmap(base, 2 * page);
}

// ---- Memory of any size ----------------------------------------------------------------------

// Address space that gets memory only where it is touched.
class Sparse {
 public:
  explicit Sparse(size_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~Sparse() {
    if (good()) munmap(data_, bytes_);
  }
  bool good() const { return data_ != MAP_FAILED; }
  uint8_t *data() const { return static_cast<uint8_t *>(data_); }

 private:
  size_t bytes_;
  void *data_;
};

// Offsets lie on both sides of 2^31 and 2^32 elements, in each dimension of source and cache.
TEST(Append, CountsOffsetsIn64Bits) {
  for (int dimension = 0; dimension < 3; ++dimension) {
    const int64_t stride = (INT64_C(1) << 30) + 64;
    Sparse from(static_cast<size_t>(4 * stride + 64) * 2), to(static_cast<size_t>(4 * stride + 64));
    ASSERT_TRUE(from.good() && to.good());
    fovea_kv_append_args a = {};
    a.struct_size = sizeof a;
    int64_t shape[3] = {1, 1, 1};
    shape[dimension] = 5;
    a.k_new = view(FOVEA_F16, shape[0], shape[1], shape[2], 8);
    a.k_cache = view(FOVEA_E4M3, shape[0], shape[1], shape[2], 8);
    a.k_new.data = from.data();
    a.k_cache.data = to.data();
    a.k_new.stride[dimension] = a.k_cache.stride[dimension] = stride;
    for (int64_t i = 0; i < 5; ++i) {
      for (int64_t d = 0; d < 8; ++d) {
        store_bits(FOVEA_F16, from.data() + (i * stride + d) * 2,
                   encode(FOVEA_F16, static_cast<double>(1 + 8 * i + d) / 8));
      }
    }
    const int32_t lengths[5] = {};
    a.sequences.kv_lengths = lengths;
    append(a);
    for (int64_t i = 0; i < 5; ++i) {
      for (int64_t d = 0; d < 8; ++d) {
        EXPECT_EQ(to.data()[i * stride + d],
                  encode(FOVEA_E4M3, static_cast<double>(1 + 8 * i + d) / 8))
            << dimension << " " << i << " " << d;
      }
    }
  }
}

// Tokens go to the last of 2^31 - 1 pages, and to a slot number past 2^32.
TEST(Append, ReachesPagesAndSlotsPast32Bits) {
  const int64_t pages = INT_MAX, page_len = 4;
  Sparse to(static_cast<size_t>(pages * page_len * 8));
  ASSERT_TRUE(to.good());
  Case c = one_token(FOVEA_BF16, FOVEA_E5M2, Bits(8, 0x3f80));
  c.fixed.k_cache = view(FOVEA_E5M2, pages, page_len, 1, 8);
  c.ids = {INT_MAX - 1};
  c.fixed.sequences.pages.count = c.fixed.sequences.pages.row_stride = 1;
  c.kv_lengths = {3};
  fovea_kv_append_args a = c.args();
  a.k_cache.data = to.data();
  append(a);
  const int64_t last = pages * page_len - 1;
  EXPECT_EQ(to.data()[last * 8 + 7], 0x3c);
  EXPECT_EQ(c.errors[0], 0u);
  c.ids.clear();
  c.kv_lengths.clear();
  c.slots = {(INT64_C(1) << 32) + 5};
  a = c.args();
  a.k_cache.data = to.data();
  append(a);
  EXPECT_EQ(to.data()[c.slots[0] * 8], 0x3c);
  EXPECT_EQ(to.data()[5 * 8], 0);
}

// ---- A cache that grows ----------------------------------------------------------------------

// A prompt and then single tokens go into pages in disorder. The cache must hold what one call on a
// contiguous cache stores.
TEST(Append, StepByStepIntoPagesStoresWhatOneCallStores) {
  Draw draw(7);
  const int64_t total = 37, prompt = 20, page_len = 5, heads = 2, dim = 16;
  Case whole;
  whole.fixed.k_new = whole.fixed.v_new = view(FOVEA_F16, 1, total, heads, dim);
  whole.fixed.k_cache = whole.fixed.v_cache = view(FOVEA_E5M2, 1, total, heads, dim);
  whole.k_new = draw.fill(whole.fixed.k_new);
  whole.v_new = draw.fill(whole.fixed.v_new);
  whole.cache.assign(2 * total * heads * dim, kCanary);
  whole.v_offset = whole.cache.size() / 2;
  whole.kv_lengths = {0};
  whole.fixed.rope.rows = total;
  whole.fixed.rope.rotary_dim = dim;
  whole.fixed.rope.stride = dim / 2;
  for (int64_t i = 0; i < total * dim / 2; ++i) {
    whole.cos.push_back(std::cos(static_cast<float>(i)));
    whole.sin.push_back(std::sin(static_cast<float>(i)));
  }
  Case steps = whole;
  append(whole.args());
  steps.ids = {3, 9, 0, 5, 1, 8, 2, 7};
  steps.fixed.sequences.pages.count = 8;
  steps.fixed.k_cache = steps.fixed.v_cache = view(FOVEA_E5M2, 10, page_len, heads, dim);
  steps.cache.assign(2 * 10 * page_len * heads * dim, kCanary);
  steps.v_offset = steps.cache.size() / 2;
  for (int64_t at = 0; at < total;) {
    const int64_t count = at == 0 ? prompt : 1;
    steps.kv_lengths = {static_cast<int32_t>(at)};
    steps.fixed.k_new.shape[1] = steps.fixed.v_new.shape[1] = count;
    fovea_kv_append_args a = steps.args();
    a.k_new.data = address(whole.args().k_new, 0, at, 0, 0);
    a.v_new.data = address(whole.args().v_new, 0, at, 0, 0);
    append(a);
    at += count;
  }
  const fovea_kv_append_args expected = whole.args(), actual = steps.args();
  for (int64_t i = 0; i < total; ++i) {
    const int64_t id = steps.ids[static_cast<size_t>(i / page_len)];
    const auto bytes = static_cast<size_t>(heads * dim);
    EXPECT_EQ(0, std::memcmp(address(expected.k_cache, 0, i, 0, 0),
                             address(actual.k_cache, id, i % page_len, 0, 0), bytes))
        << i;
    EXPECT_EQ(0, std::memcmp(address(expected.v_cache, 0, i, 0, 0),
                             address(actual.v_cache, id, i % page_len, 0, 0), bytes))
        << i;
  }
}

}  // namespace
}  // namespace fovea_test

// The rules of kernels/shared/sequence_rules.h against the header's sentences, in every small case
// and at the limits of 32 bits.
#include "kernels/shared/sequence_rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

namespace {

// ---- Offsets ----

// The range of a sequence and its error bit, computed as the host and the kernels do.
struct Owned {
  fv_range range;
  uint32_t errors;
};

std::vector<Owned> WalkOffsets(const std::vector<int32_t> &offsets, int64_t total) {
  std::vector<Owned> all;
  int64_t reached = 0;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    fv_range range;
    range.begin = fv_extend_reach(reached, offsets[i], total);
    range.end = fv_extend_reach(range.begin, offsets[i + 1], total);
    all.push_back({range, fv_offset_errors(range, offsets[i], offsets[i + 1])});
    reached = range.end;
  }
  return all;
}

// An offset counts as the max of the offsets up to it, clamped to [0, total].
int64_t ReadOffset(const std::vector<int32_t> &offsets, size_t i, int64_t total) {
  const int64_t most = *std::max_element(offsets.begin(), offsets.begin() + 1 + i);
  return std::min(std::max<int64_t>(most, 0), total);
}

TEST(SequenceRules, OffsetsAreARunningMaximumWithinTheTensor) {
  const std::array<int32_t, 9> values = {INT32_MIN, -1, 0, 1, 2, 3, 4, 5, INT32_MAX};
  for (int64_t total : {0, 1, 4})
    for (int32_t a : values)
      for (int32_t b : values)
        for (int32_t c : values) {
          const std::vector<int32_t> offsets = {a, b, c};
          const std::vector<Owned> owned = WalkOffsets(offsets, total);
          for (size_t i = 0; i < owned.size(); ++i) {
            const int64_t begin = ReadOffset(offsets, i, total);
            const int64_t end = ReadOffset(offsets, i + 1, total);
            ASSERT_EQ(owned[i].range.begin, begin) << a << " " << b << " " << c << " of " << total;
            ASSERT_EQ(owned[i].range.end, end) << a << " " << b << " " << c << " of " << total;
            const bool as_given = begin == offsets[i] && end == offsets[i + 1];
            ASSERT_EQ(owned[i].errors, as_given ? 0u : 4u) << a << " " << b << " " << c;
          }
        }
}

TEST(SequenceRules, PackedTensorsHaveOneBatchRow) {
  for (int64_t sequence : {int64_t{0}, int64_t{1}, int64_t{INT32_MAX}}) {
    EXPECT_EQ(fv_batch_row(1, sequence), 0);
    EXPECT_EQ(fv_batch_row(0, sequence), sequence);
  }
}

// ---- Lengths and positions ----

TEST(SequenceRules, LengthsAreClampedToTheRoomAndSaySo) {
  for (int32_t high : {0, 1, 5, INT32_MAX}) {
    for (int32_t given : {INT32_MIN, -1, 0, 1, 2, 5, 6, INT32_MAX}) {
      const int32_t array[2] = {-77, given};
      const bool fits = given >= 0 && given <= high;
      uint32_t errors = 64;
      EXPECT_EQ(fv_clamped_length(array, 1, high, 3, &errors), fits ? given : given < 0 ? 0 : high);
      EXPECT_EQ(errors, fits ? 64u : 65u) << given << " of " << high;
    }
    uint32_t errors = 64;
    EXPECT_EQ(fv_clamped_length(nullptr, 1, high, 3, &errors), 3);
    EXPECT_EQ(errors, 64u);
  }
}

// The arrays serve sequence 1 of 2. The entries of the other sequence are absurd.
struct Arrays {
  int32_t kv_lengths[2], kv_first[2], q_position[2], kv_position[2], prefix_lengths[2];
  fv_position_arrays call{};
  explicit Arrays(int64_t stride) {
    for (int32_t *array : {kv_lengths, kv_first, q_position, kv_position, prefix_lengths}) {
      array[0] = INT32_MIN;
    }
    call.key_stride = stride;
    call.window_left = 7;
    call.window_right = 8;
  }
  const int32_t *keep(int32_t (&array)[2], int32_t value) {
    array[1] = value;
    return array;
  }
};

TEST(SequenceRules, KeysAreFromFirstToLengthWithinTheRoom) {
  for (int32_t room : {0, 1, 3, 6})
    for (int32_t length = -2; length <= 8; ++length)
      for (int32_t first = -2; first <= 8; ++first)
        for (int given = 0; given < 4; ++given) {
          Arrays arrays(1);
          if (given & 1) arrays.call.kv_lengths = arrays.keep(arrays.kv_lengths, length);
          if (given & 2) arrays.call.kv_first = arrays.keep(arrays.kv_first, first);
          uint32_t errors = 0;
          const fv_position_mask mask = fv_place_positions(&arrays.call, 1, 2, room, &errors);
          const int32_t len = given & 1 ? std::clamp(length, 0, room) : room;
          const int32_t begin = given & 2 ? std::clamp(first, 0, len) : 0;
          ASSERT_EQ(mask.len, len);
          ASSERT_EQ(mask.first, begin);
          const bool bad = (given & 1 && length != len) || (given & 2 && first != begin);
          ASSERT_EQ(errors, bad ? 1u : 0u) << "room " << room << " len " << length << " " << first;
          ASSERT_EQ(mask.window_left, 7);
          ASSERT_EQ(mask.window_right, 8);
          ASSERT_EQ(mask.prefix_end, 0);
        }
}

// "Row i stands at P(i) = p + i and key j at K(j) = positions.kv[s] + j * kv_stride. p is
// positions.q[s] if given; else with TOP_LEFT 0; else K(len_kv - 1) + 1 - len_q."
TEST(SequenceRules, RowsAndKeysStandWhereTheHeaderSays) {
  for (int64_t stride = 1; stride <= 3; ++stride)
    for (int32_t len_q = 0; len_q <= 3; ++len_q)
      for (int32_t len_kv = 0; len_kv <= 3; ++len_kv)
        for (int32_t key = -2; key <= 2; ++key)
          for (int32_t row = -2; row <= 2; ++row)
            for (int given = 0; given < 8; ++given) {
              Arrays arrays(stride);
              arrays.call.top_left = given & 1;
              if (given & 2) arrays.call.q_position = arrays.keep(arrays.q_position, row);
              if (given & 4) arrays.call.kv_position = arrays.keep(arrays.kv_position, key);
              uint32_t errors = 0;
              const fv_position_mask mask =
                  fv_place_positions(&arrays.call, 1, len_q, len_kv, &errors);
              const int64_t origin = given & 4 ? key : 0;
              const int64_t last_key = origin + (len_kv - 1) * stride;
              const int64_t expected = given & 2 ? row : given & 1 ? 0 : last_key + 1 - len_q;
              ASSERT_EQ(mask.key_origin, origin);
              ASSERT_EQ(mask.key_stride, stride);
              ASSERT_EQ(mask.row_origin, expected) << "given " << given;
              ASSERT_EQ(errors, 0u);
            }
}

TEST(SequenceRules, ThePrefixIsOfTheKeysThatStandBelowItsLength) {
  for (int64_t stride = 1; stride <= 3; ++stride)
    for (int32_t key = -3; key <= 3; ++key)
      for (int32_t prefix = -4; prefix <= 12; ++prefix) {
        Arrays arrays(stride);
        arrays.call.kv_position = arrays.keep(arrays.kv_position, key);
        arrays.call.prefix_lengths = arrays.keep(arrays.prefix_lengths, prefix);
        uint32_t errors = 0;
        const fv_position_mask mask = fv_place_positions(&arrays.call, 1, 1, 4, &errors);
        int64_t below = 0;
        while (below < 4 && key + below * stride < prefix) ++below;
        ASSERT_EQ(mask.prefix_end, below) << "K(0) " << key << " prefix " << prefix;
      }
}

TEST(SequenceRules, PositionsAtTheLimitsOf32BitsDoNotOverflow) {
  Arrays arrays(INT32_MAX);
  arrays.call.kv_position = arrays.keep(arrays.kv_position, INT32_MAX);
  uint32_t errors = 0;
  const fv_position_mask mask = fv_place_positions(&arrays.call, 1, 0, INT32_MAX, &errors);
  const int64_t most = INT32_MAX;
  EXPECT_EQ(mask.row_origin, most + (most - 1) * most + 1);
}

// ---- Pages ----

TEST(SequenceRules, PagesLeaveRoomForTheirKeysAndLengthsCountNoMore) {
  for (int64_t pages = 0; pages <= 5; ++pages)
    for (int64_t len = 1; len <= 5; ++len) EXPECT_EQ(fv_capacity_of_pages(pages, len), pages * len);
  EXPECT_EQ(fv_capacity_of_pages(INT32_MAX, 1), INT32_MAX);
  EXPECT_EQ(fv_capacity_of_pages(INT32_MAX, INT32_MAX), INT32_MAX);
  EXPECT_EQ(fv_capacity_of_pages(1 << 16, 1 << 15), INT32_MAX);
  EXPECT_EQ(fv_capacity_of_pages((1 << 16) - 1, 1 << 15), ((1 << 16) - 1) * (1 << 15));
}

TEST(SequenceRules, ATableIsDenseOrHasOffsets) {
  for (int64_t sequence = 0; sequence < 4; ++sequence) {
    const fv_page_ids dense = fv_dense_page_ids(sequence, 5, 3);
    EXPECT_EQ(dense.begin, sequence * 5);
    EXPECT_EQ(dense.count, 3);
  }
  EXPECT_EQ(fv_dense_page_ids(INT32_MAX, INT32_MAX, 1).begin, int64_t{INT32_MAX} * INT32_MAX);
  const fv_page_ids packed = fv_packed_page_ids({4, 9});
  EXPECT_EQ(packed.begin, 4);
  EXPECT_EQ(packed.count, 5);
}

// "Key j of sequence s lies in slot j % page_len of page id(s, j / page_len)."
TEST(SequenceRules, AKeyLiesOnThePageThatTheTableNames) {
  const std::array<int32_t, 7> ids = {5, 0, -1, 4, INT32_MAX, INT32_MIN, 3};
  for (uint32_t page_len = 1; page_len <= 4; ++page_len)
    for (int64_t begin = 0; begin < 3; ++begin)
      for (uint32_t n = 0; n < 4 * page_len; ++n) {
        const fv_place place = fv_paged_place(ids.data(), begin, fv_split_index(n, page_len));
        int32_t page = 0, slot = static_cast<int32_t>(n);
        for (; slot >= static_cast<int32_t>(page_len); ++page) slot -= page_len;
        const int32_t id = ids[begin + page];
        ASSERT_EQ(place.outer, id);
        ASSERT_EQ(place.inner, slot);
        for (int64_t pages : {0, 1, 4, 5, INT32_MAX}) {
          ASSERT_EQ(fv_has_page(place, pages) != 0, id >= 0 && id < pages) << id << " of " << pages;
        }
      }
}

// ---- Where new tokens go ----

TEST(SequenceRules, OnlyASequenceThatGetsTokensMustSayHowManyItHas) {
  for (int64_t tokens : {0, 1, INT32_MAX})
    for (int32_t length : {INT32_MIN, -1, 0, 1, INT32_MAX}) {
      uint32_t errors = 64;
      EXPECT_EQ(fv_takes_tokens(tokens, length, &errors) != 0, tokens > 0 && length >= 0);
      EXPECT_EQ(errors, tokens > 0 && length < 0 ? 65u : 64u);
    }
}

TEST(SequenceRules, TokensFollowWhatTheSequenceHolds) {
  for (int32_t length : {0, 1, 9})
    for (int64_t t = 0; t < 4; ++t) EXPECT_EQ(fv_token_index(length, t), length + t);
  EXPECT_EQ(fv_token_index(INT32_MAX, INT32_MAX), 4294967294u);
}

constexpr int64_t kNone = FV_NOWHERE;

void ExpectPlace(fv_place place, int64_t outer, int64_t inner) {
  ASSERT_EQ(place.outer, outer);
  if (outer == FV_NOWHERE) return;
  ASSERT_EQ(place.inner, inner);
}

TEST(SequenceRules, AnIndexIsASlotOfTheSequencesRow) {
  for (int64_t slots = 0; slots <= 4; ++slots)
    for (int64_t sequence = 0; sequence < 3; ++sequence)
      for (uint32_t n : {0u, 1u, 2u, 3u, 4u, 5u, 0x80000000u, 4294967294u}) {
        uint32_t errors = 64;
        const fv_place place = fv_place_of_index({3, slots}, nullptr, {0, 0}, sequence, n, &errors);
        const bool fits = n < slots;
        ExpectPlace(place, fits ? sequence : kNone, n);
        ASSERT_EQ(errors, fits ? 64u : 80u) << n << " of " << slots;
      }
}

TEST(SequenceRules, OrASlotOfOneOfItsPages) {
  const std::array<int32_t, 6> ids = {1, 3, 2, -1, INT32_MIN, 0};
  for (int64_t slots = 1; slots <= 3; ++slots)
    for (int64_t pages = 0; pages <= 4; ++pages)
      for (int64_t begin = 0; begin < 6; ++begin)
        for (int64_t count = 0; begin + count <= 6; ++count)
          for (uint32_t n = 0; n < 20; ++n) {
            uint32_t errors = 64;
            const fv_place place =
                fv_place_of_index({pages, slots}, ids.data(), {begin, count}, 9, n, &errors);
            const bool in_table = n < count * slots;
            const int32_t id = in_table ? ids[begin + n / slots] : -1;
            const bool found = id >= 0 && id < pages;
            ExpectPlace(place, found ? id : kNone, n % slots);
            ASSERT_EQ(errors, found ? 64u : in_table ? 66u : 80u) << n << " of " << count;
          }
  const int32_t one = 0;
  uint32_t errors = 0;
  ExpectPlace(fv_place_of_index({1, INT32_MAX}, &one, {0, 1}, 0, INT32_MAX - 1, &errors), 0,
              INT32_MAX - 1);
  ExpectPlace(fv_place_of_index({1, INT32_MAX}, &one, {0, 1}, 0, INT32_MAX, &errors), kNone, 0);
}

TEST(SequenceRules, AFlatSlotCountsThroughTheRowsAndANegativeOneSkips) {
  for (int64_t rows = 0; rows <= 3; ++rows)
    for (int64_t slots = 1; slots <= 3; ++slots)
      for (int64_t slot = -2; slot <= 12; ++slot) {
        uint32_t errors = 64;
        const fv_place place = fv_place_of_slot({rows, slots}, slot, &errors);
        const bool found = slot >= 0 && slot < rows * slots;
        ExpectPlace(place, found ? slot / slots : kNone, slot % slots);
        ASSERT_EQ(errors, found || slot < 0 ? 64u : 80u) << slot << " of " << rows * slots;
      }
  const int64_t most = INT32_MAX;
  uint32_t errors = 0;
  ExpectPlace(fv_place_of_slot({most, most}, most * most - 1, &errors), most - 1, most - 1);
  EXPECT_EQ(errors, 0u);
  for (int64_t slot : {most * most, INT64_MAX, INT64_MIN}) {
    ExpectPlace(fv_place_of_slot({most, most}, slot, &errors), kNone, 0);
    EXPECT_EQ(errors, slot < 0 ? 0u : 16u);
    errors = 0;
  }
}

TEST(SequenceRules, APositionIsARowOfTheTable) {
  for (int64_t positions : {0, 1, 3})
    for (int64_t position = -2; position <= 4; ++position) {
      uint32_t errors = 64;
      const bool found = position >= 0 && position < positions;
      EXPECT_EQ(fv_has_position(position, positions, &errors) != 0, found);
      EXPECT_EQ(errors, found ? 64u : 72u);
    }
}

}  // namespace

// The integer mathematics of kernels/shared/shape.h against the header's sentences, key by key, in
// every small case.
#include "kernels/shared/shape.h"

#include <gtest/gtest.h>

#include <set>

namespace {

// What "Visible" of the header says about positions.
bool RowSees(const fv_position_mask &m, int64_t row, int64_t key) {
  if (key < m.first || key >= m.len) return false;
  int64_t p = m.row_origin + row;
  int64_t k = m.key_origin + key * m.key_stride;
  if (key < m.prefix_end) return true;
  if (m.window_left >= 0 && k < p - m.window_left) return false;
  if (m.window_right >= 0 && k > p + m.window_right) return false;
  return true;
}

bool AnyRowSees(const fv_position_mask &m, int64_t begin, int64_t end, int64_t key) {
  for (int64_t row = begin; row < end; ++row) {
    if (RowSees(m, row, key)) return true;
  }
  return false;
}

template <class Check>
void ForEveryMask(Check check) {
  for (int64_t len = 0; len <= 7; ++len)
    for (int64_t first = 0; first <= len; first += 2)
      for (int64_t row_origin = -3; row_origin <= 8; ++row_origin)
        for (int64_t key_origin = -2; key_origin <= 2; key_origin += 2)
          for (int64_t stride = 1; stride <= 3; ++stride)
            for (int64_t prefix = 0; prefix <= len; prefix += 3)
              for (int64_t left = -1; left <= 3; ++left)
                for (int64_t right = -1; right <= 2; ++right)
                  check(fv_position_mask{first, len, row_origin, key_origin, stride, prefix, left,
                                         right});
}

TEST(Shape, DivisionsRoundUpAndDownForNegativeNumbersToo) {
  for (int64_t a = -20; a <= 20; ++a) {
    for (int64_t b = 1; b <= 7; ++b) {
      int64_t down = fv_floor_div(a, b), up = fv_ceil_div(a, b);
      EXPECT_LE(down * b, a);
      EXPECT_GT((down + 1) * b, a);
      EXPECT_GE(up * b, a);
      EXPECT_LT((up - 1) * b, a);
    }
  }
}

TEST(Shape, KeysBelowCountsThePositionsBelowALimit) {
  for (int64_t limit = -10; limit <= 30; ++limit)
    for (int64_t origin = -5; origin <= 5; ++origin)
      for (int64_t stride = 1; stride <= 4; ++stride)
        for (int64_t len = 0; len <= 6; ++len) {
          int64_t count = 0;
          while (count < len && origin + count * stride < limit) ++count;
          EXPECT_EQ(fv_keys_below(limit, origin, stride, len), count);
        }
}

TEST(Shape, WindowAndPrefixTogetherAreWhatARowSees) {
  ForEveryMask([](const fv_position_mask &m) {
    fv_range window = fv_window_keys(&m, 0);
    for (int64_t key = -1; key <= m.len; ++key) {
      bool in_prefix = key >= m.first && key < m.prefix_end;
      bool in_window = key >= window.begin && key < window.end;
      ASSERT_EQ(in_prefix || in_window, RowSees(m, 0, key)) << "key " << key;
    }
  });
}

TEST(Shape, KeysOfATileOfRowsAreExactBothAsARangeAndKeyByKey) {
  ForEveryMask([](const fv_position_mask &m) {
    for (int64_t end = 1; end <= 4; ++end) {
      fv_range keys = fv_rows_keys(&m, 0, end);
      for (int64_t key = -1; key <= m.len; ++key) {
        bool sees = AnyRowSees(m, 0, end, key);
        ASSERT_TRUE(!sees || (key >= keys.begin && key < keys.end)) << "key " << key;
        ASSERT_EQ(fv_rows_see(&m, 0, end, fv_range{key, key + 1}) != 0, sees)
            << "key " << key << " rows " << end << " len " << m.len << " first " << m.first
            << " row_origin " << m.row_origin << " key_origin " << m.key_origin << " stride "
            << m.key_stride << " prefix " << m.prefix_end << " left " << m.window_left << " right "
            << m.window_right;
      }
    }
  });
}

TEST(Shape, ATileOfKeysIsSeenIfOneOfItsKeysIs) {
  ForEveryMask([](const fv_position_mask &m) {
    for (int64_t begin = 0; begin < 8; begin += 2) {
      bool sees = false;
      for (int64_t key = begin; key < begin + 2; ++key) sees |= AnyRowSees(m, 1, 3, key);
      ASSERT_EQ(fv_rows_see(&m, 1, 3, fv_range{begin, begin + 2}) != 0, sees);
    }
  });
}

TEST(Shape, PositionsNearTheLimitsOf32BitsDoNotOverflow) {
  fv_position_mask m = {0, INT32_MAX, INT32_MAX, INT32_MIN, INT32_MAX, 0, INT32_MAX, INT32_MAX};
  fv_range keys = fv_window_keys(&m, INT32_MAX);
  EXPECT_TRUE(RowSees(m, INT32_MAX, keys.begin));
  EXPECT_TRUE(keys.begin == 0 || !RowSees(m, INT32_MAX, keys.begin - 1));
  EXPECT_TRUE(RowSees(m, INT32_MAX, keys.end - 1));
  EXPECT_FALSE(RowSees(m, INT32_MAX, keys.end));
}

// ldmatrix requires that each chunk of a tile has a place of its own. Eight rows that are read at
// one chunk lie in eight groups of four banks.
TEST(Shape, SwizzledTilesHoldEveryChunkOnceAndEightRowsMeetNoBankTwice) {
  for (int32_t chunks : {4, 8, 12, 16, 24, 32}) {
    std::set<int32_t> places;
    for (int32_t row = 0; row < 64; ++row) {
      for (int32_t chunk = 0; chunk < chunks; ++chunk) {
        const int32_t place = fv_swizzled_chunk(row, chunk, chunks);
        ASSERT_EQ(place / chunks, row);
        places.insert(place);
      }
    }
    EXPECT_EQ(places.size(), 64u * chunks);
    for (int32_t row = 0; row < 64; row += 8) {
      for (int32_t chunk = 0; chunk < chunks; ++chunk) {
        std::set<int32_t> banks;
        for (int32_t r = 0; r < 8; ++r) {
          banks.insert(fv_swizzled_chunk(row + r, chunk, chunks) % 8);
        }
        ASSERT_EQ(banks.size(), 8u) << chunks << " chunks, row " << row << ", chunk " << chunk;
      }
    }
  }
}

// Kernels find a lane's first chunk once, and go on from there.
TEST(Shape, StepsThroughASwizzledTileLeadWhereTheChunksLie) {
  const uint32_t tile = 3 * 128;
  for (int32_t chunks : {4, 8, 12, 16, 24, 32}) {
    for (int32_t row = 0; row < 16; ++row) {
      for (int32_t rows = 0; rows < 64; ++rows) {
        if (row % 8 & rows % 8 || row + rows >= 64) continue;
        for (int32_t chunk = 0; chunk < chunks; ++chunk) {
          for (int32_t further = 0; chunk + further < chunks; ++further) {
            if (chunk & further) continue;
            const uint32_t start = tile + 16 * fv_swizzled_chunk(row, chunk, chunks);
            ASSERT_EQ(fv_swizzled_step(start, rows, further, chunks),
                      tile + 16 * fv_swizzled_chunk(row + rows, chunk + further, chunks))
                << chunks << " chunks, row " << row << " + " << rows << ", chunk " << chunk << " + "
                << further;
          }
        }
      }
    }
  }
}

TEST(Shape, CommonKeysAreThoseThatEveryRowSees) {
  ForEveryMask([](fv_position_mask m) {
    m.prefix_end = 0;
    for (int64_t rows : {1, 2, 3}) {
      const fv_range keys = fv_common_keys(&m, 0, rows);
      for (int64_t key = 0; key < m.len; ++key) {
        bool all = true;
        for (int64_t row = 0; row < rows; ++row) all = all && RowSees(m, row, key);
        ASSERT_EQ(key >= keys.begin && key < keys.end, all);
      }
    }
  });
}

}  // namespace

// append_block_test.cc - what fovea_kv_append stores in caches of blocks, q8_0 and q4_0.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/append_case.h"

namespace fovea_test {
namespace {

TEST(AppendBlocks, AreWhatTheHeaderDefinesInRandomCases) {
  int written = 0;
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    Case c = random_case(seed, FOVEA_Q4_0);
    if (seed % 2) c = with_queries(c, seed);
    const fovea_device device = seed % 4 ? FOVEA_DEVICE_CPU : FOVEA_DEVICE_REFERENCE;
    expect_as_defined(c, 1, device, "seed " + std::to_string(seed));
    ASSERT_FALSE(HasFailure());
    Case after = c;
    append(after.args());
    const bool blocks = block_of(c.fixed.k_cache.dtype) > 1 || block_of(c.fixed.v_cache.dtype) > 1;
    written += blocks && after.cache != c.cache;
  }
  EXPECT_GT(written, 1000);
}

// Numbers of every size, so that scales are subnormal in f16 or in f32, 0, or infinite.
TEST(AppendBlocks, AreWhatTheHeaderDefinesAtEverySize) {
  Draw draw(9);
  for (uint32_t to : {FOVEA_Q8_0, FOVEA_Q4_0}) {
    for (int exponent = -150; exponent < 128; ++exponent) {
      Bits bits;
      for (int i = 0; i < 256; ++i) {
        const double size = std::ldexp((double)draw.between(-1000, 1000) / 1000, exponent);
        bits.push_back(draw.chance(30) ? draw.bits(FOVEA_F32) : encode(FOVEA_F32, size));
      }
      expect_as_defined(one_token(FOVEA_F32, to, bits), 1, FOVEA_DEVICE_CPU,
                        "2^" + std::to_string(exponent));
      ASSERT_FALSE(HasFailure());
    }
  }
}

std::vector<uint8_t> block(uint32_t to, const std::vector<float> &first, float rest) {
  Bits bits;
  for (float x : first) bits.push_back(encode(FOVEA_F32, x));
  while (bits.size() < 32) bits.push_back(encode(FOVEA_F32, rest));
  Case c = one_token(FOVEA_F32, to, bits);
  append(c.args());
  return c.cache;
}

std::vector<uint8_t> expected_block(uint32_t scale, const std::vector<int> &first, int rest,
                                    size_t size) {
  std::vector<uint8_t> bytes = {static_cast<uint8_t>(scale), static_cast<uint8_t>(scale >> 8)};
  for (int code : first) bytes.push_back(static_cast<uint8_t>(code));
  bytes.resize(size, static_cast<uint8_t>(rest));
  return bytes;
}

const float kInfinity = INFINITY, kNan = NAN;

TEST(AppendBlocks, OfQ8RoundHalvesAwayFromZero) {
  EXPECT_EQ(block(FOVEA_Q8_0, {127, 0.5f, -0.5f, 2.5f, -2.5f, 0.49999997f, -127, 126.5f, 3}, 0),
            expected_block(0x3c00, {127, 1, -1, 3, -3, 0, -127, 127, 3}, 0, 34));
  EXPECT_EQ(block(FOVEA_Q8_0, {-254, 1, -1, 3}, 1),
            expected_block(0x4000, {-127, 1, -1, 2}, 1, 34));
}

// The largest takes the code -8, so that a scale is negative if it is positive; 8 is cut to 7.
TEST(AppendBlocks, OfQ4GiveTheLargestItsLowestCode) {
  EXPECT_EQ(block(FOVEA_Q4_0, {-8, 8, 7, -7, 0.5f, 0.49f, -0.5f, -0.51f}, 0),
            expected_block(0x3c00, {0x80, 0x8f, 0x8f, 0x81, 0x89, 0x88, 0x88, 0x87}, 0x88, 18));
  EXPECT_EQ(block(FOVEA_Q4_0, {8, -8, 7, -7}, 0),
            expected_block(0xbc00, {0x80, 0x8f, 0x81, 0x8f}, 0x88, 18));
  std::vector<float> halves(32, 0.0f);
  halves[0] = -8;
  halves[16] = 3;
  halves[31] = -3;
  EXPECT_EQ(block(FOVEA_Q4_0, halves, 0),
            expected_block(0x3c00,
                           {0xb0, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88,
                            0x88, 0x88, 0x88, 0x58},
                           0x88, 18));
}

TEST(AppendBlocks, OfZerosAreZeros) {
  EXPECT_EQ(block(FOVEA_Q8_0, {}, 0), expected_block(0, {}, 0, 34));
  EXPECT_EQ(block(FOVEA_Q8_0, {}, -0.0f), expected_block(0, {}, 0, 34));
  EXPECT_EQ(block(FOVEA_Q4_0, {}, 0), expected_block(0x8000, {}, 0x88, 18));
  EXPECT_EQ(block(FOVEA_Q4_0, {}, -0.0f), expected_block(0x8000, {}, 0x88, 18));
}

TEST(AppendBlocks, OfTinyNumbersSaturate) {
  const float tiny = 0x1p-149f;  // its 127th is 0 in f32, and 1 / its eighth would be infinite
  EXPECT_EQ(block(FOVEA_Q8_0, {tiny}, 0), expected_block(0, {0}, 0, 34));
  const float small = 0x1p-130f;  // 1 / (its 127th) is infinite
  EXPECT_EQ(block(FOVEA_Q8_0, {small, -small}, 0), expected_block(0, {127, -127}, 0, 34));
  EXPECT_EQ(block(FOVEA_Q4_0, {-small, small}, 0), expected_block(0, {0x80, 0x8f}, 0x88, 18));
}

TEST(AppendBlocks, WithNanKeepTheirOtherNumbers) {
  EXPECT_EQ(block(FOVEA_Q8_0, {kNan, 127, -kNan}, 1), expected_block(0x3c00, {0, 127, 0}, 1, 34));
  EXPECT_EQ(block(FOVEA_Q4_0, {kNan, -8, -kNan}, -8),
            expected_block(0x3c00, {0x08, 0x00, 0x08}, 0, 18));
  EXPECT_EQ(block(FOVEA_Q8_0, {}, kNan), expected_block(0, {}, 0, 34));
  EXPECT_EQ(block(FOVEA_Q4_0, {}, kNan), expected_block(0x8000, {}, 0x88, 18));
}

// All of such a block reads as NaN: 0 times infinity.
TEST(AppendBlocks, WithAnInfinityHaveAnInfiniteScale) {
  for (float infinity : {kInfinity, -kInfinity}) {
    EXPECT_EQ(block(FOVEA_Q8_0, {1, infinity, kNan}, 5), expected_block(0x7c00, {0, 0, 0}, 0, 34));
    EXPECT_EQ(block(FOVEA_Q4_0, {1, infinity, kNan}, 5),
              expected_block(infinity > 0 ? 0xfc00 : 0x7c00, {}, 0x88, 18));
  }
  EXPECT_EQ(block(FOVEA_Q8_0, {1e30f}, 0), expected_block(0x7c00, {127}, 0, 34)) << "too large";
}

// The two elements of a pair may lie in two blocks, and those that are not rotated beside others.
TEST(AppendBlocks, AreRotatedLikeOtherKeys) {
  Case c = one_token(FOVEA_F32, FOVEA_Q8_0, Bits(64, encode(FOVEA_F32, 1)));
  c.fixed.rope.rows = 1;
  c.fixed.rope.stride = 20;
  c.fixed.rope.rotary_dim = 40;
  for (int i = 0; i < 20; ++i) {
    c.cos.push_back(0);
    c.sin.push_back(127);
  }
  append(c.args());
  for (size_t d = 0; d < 64; ++d) {
    const int code = d < 20 ? -127 : d < 32 ? 127 : d < 40 ? 127 : 1;
    EXPECT_EQ(static_cast<int8_t>(c.cache[d < 32 ? 2 + d : 4 + d]), code) << d;
  }
}

}  // namespace
}  // namespace fovea_test

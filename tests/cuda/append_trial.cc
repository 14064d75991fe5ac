// append_trial.cc - the calls that try the bugs planted in the append kernel. They are few and
// small because planted_bugs.py runs all of them twice for each bug. Together they reach every
// branch of the kernel.
#include <gtest/gtest.h>

#include <climits>

#include "cli/mirror/mirror.h"
#include "tests/append_case.h"

namespace fovea_test {
namespace {

class Trial : public testing::Test {
 protected:
  static void SetUpTestSuite() { append_call = fv_mirror_append; }
};

TEST_F(Trial, AnyLayoutsTypesAndTables) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    expect_as_defined(random_case(seed, FOVEA_BF16), 0, FOVEA_DEVICE_CUDA,
                      "seed " + std::to_string(seed));
  }
}

TEST_F(Trial, EightBitTypesAndScalesOfAnyForm) {
  for (uint64_t seed = 1000; seed < 1120; ++seed) {
    expect_as_defined(random_case(seed, FOVEA_I8), 0, FOVEA_DEVICE_CUDA,
                      "seed " + std::to_string(seed));
  }
}

// f32 about the numbers of 8-bit types, halfway between them, and past them.
TEST_F(Trial, EightBitValues) {
  Bits bits = {0xff801234, 0x7fc00000, 0x7f800000, 0xff800000, 0x80000000, 0x7f7fffff, 0x00000001};
  for (float value = 0x1p-18f; value < 1e5f; value *= 1.0625f)
    bits.push_back(encode(FOVEA_F32, value));
  for (int i = 0; i <= 264; ++i) bits.push_back(encode(FOVEA_F32, -i / 2.0));
  for (int i = 0; i <= 64; ++i) bits.push_back(encode(FOVEA_F32, i * 0x1p-11));
  while (bits.size() % 8 != 0) bits.push_back(0x43e80000);  // 464
  for (uint32_t to : {FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8}) {
    Case c = one_token(FOVEA_F32, to, bits);
    expect_as_defined(c, 0, FOVEA_DEVICE_CUDA, name_of(to));
    c.fixed.k_scale = view(FOVEA_F16, 1, 1, 1, 1);
    c.k_scale = {0x66, 0x2e};  // about 0.1
    expect_as_defined(c, 0, FOVEA_DEVICE_CUDA, std::string(name_of(to)) + ", scaled");
  }
}

// Five tokens of two heads at the end of a cache of seven, rotated in `pairs` pairs. An f32 cache
// stores every bit that is computed.
Case rotated_case(uint32_t to, int64_t dim, int64_t pairs, uint32_t style) {
  Draw draw(7);
  Case c;
  c.fixed.k_new = view(FOVEA_F32, 1, 5, 2, dim);
  c.fixed.k_cache = view(to, 1, 7, 2, dim);
  c.k_new = draw.fill(c.fixed.k_new);
  c.cache.assign(static_cast<size_t>(7 * 2 * dim) * size_of(to), kCanary);
  c.kv_lengths = {2};
  c.errors = {0};
  c.fixed.rope.rows = 7;
  c.fixed.rope.rotary_dim = static_cast<int32_t>(2 * pairs);
  c.fixed.rope.stride = pairs;
  c.fixed.rope.style = style;
  for (int64_t i = 0; i < 7 * pairs; ++i) {
    c.cos.push_back(draw.number());
    c.sin.push_back(draw.number());
  }
  return c;
}

TEST_F(Trial, RowsThatAWarpTakesInOneRoundAndInTwo) {
  for (uint32_t style : {FOVEA_ROPE_HALF_SPLIT, FOVEA_ROPE_INTERLEAVED}) {
    for (int64_t pairs : {4, 20, 126, 160}) {
      const int64_t dim = pairs < 100 ? 64 : 320;
      for (uint32_t to : {FOVEA_F32, FOVEA_BF16}) {
        expect_as_defined(rotated_case(to, dim, pairs, style), 0, FOVEA_DEVICE_CUDA,
                          std::to_string(pairs) + " pairs");
      }
    }
  }
}

// Halves times 41, over 41: 41 * (1 / 41) is below 1 in f32, so only a quotient finds the halves.
TEST_F(Trial, EightBitQuotientsThatAreHalves) {
  Bits bits;
  for (int i = 0; i < 256; ++i) bits.push_back(encode(FOVEA_F32, 41 * i / 2.0));
  Case c = one_token(FOVEA_F32, FOVEA_I8, bits);
  c.fixed.k_scale = view(FOVEA_F16, 1, 1, 1, 1);
  c.k_scale = {0x20, 0x51};
  expect_as_defined(c, 0, FOVEA_DEVICE_CUDA, "halves");
}

// The rotated elements end inside a run, and the head with them. So do the scales, of channels.
TEST_F(Trial, EightBitRowsThatEndInsideARun) {
  for (int64_t dim : {10, 20}) {
    for (int64_t pairs : {dim / 2, dim / 2 - 2}) {
      Case c = rotated_case(FOVEA_E5M2, dim, pairs, FOVEA_ROPE_HALF_SPLIT);
      Draw draw(8);
      c.fixed.k_scale = view(FOVEA_F32, 1, 7, 2, dim);
      c.k_scale = draw.fill(c.fixed.k_scale);
      expect_as_defined(c, 0, FOVEA_DEVICE_CUDA, std::to_string(dim));
    }
  }
}

// More sequences and more tokens than a CTA looks up at a time, with page offsets and some bad
// data.
Case long_case() {
  Draw draw(3);
  Case c;
  const int64_t sequences = 300, total = 320, pages = 40;
  c.fixed.sequences.count = sequences;
  c.fixed.k_new = c.fixed.v_new = view(FOVEA_F16, 1, total, 1, 8);
  c.fixed.k_cache = c.fixed.v_cache = view(FOVEA_F16, pages, 3, 1, 8);
  place_caches(&draw, &c);
  c.k_new = draw.fill(c.fixed.k_new);
  c.v_new = draw.fill(c.fixed.v_new);
  c.fixed.sequences.pages.count = 500;
  int32_t row = 0, page = 0;
  for (int64_t s = 0; s <= sequences; ++s) {
    c.new_offsets.push_back(draw.chance(30) ? draw.of<int32_t>({INT_MIN, 0, row / 2}) : row);
    c.page_offsets.push_back(draw.chance(30) ? draw.of<int32_t>({-1, page / 2}) : page);
    row += static_cast<int32_t>(draw.upto(2));
    page += static_cast<int32_t>(draw.upto(3));
    if (s < sequences) c.kv_lengths.push_back(static_cast<int32_t>(draw.between(-1, 4)));
  }
  for (int64_t i = 0; i < c.fixed.sequences.pages.count; ++i) {
    c.ids.push_back(static_cast<int32_t>(draw.between(-1, pages)));
  }
  c.errors.assign(sequences, 0);
  return c;
}

TEST_F(Trial, MoreThanACtaLooksUpAtATime) {
  expect_as_defined(long_case(), 0, FOVEA_DEVICE_CUDA, "long");
}

// Each sequence has two rows. A CTA needs two rounds for the sequences, and two for the tokens of
// the first 256.
TEST_F(Trial, ManySequencesThatAreNotPacked) {
  Draw draw(5);
  Case c;
  c.fixed.k_new = view(FOVEA_F16, 300, 2, 1, 8);
  c.fixed.k_cache = view(FOVEA_F16, 300, 4, 1, 8);
  c.k_new = draw.fill(c.fixed.k_new);
  c.cache.assign(300 * 4 * 8 * 2, kCanary);
  for (int s = 0; s < 300; ++s) c.kv_lengths.push_back(static_cast<int32_t>(draw.upto(3)));
  c.errors.assign(300, 0);
  expect_as_defined(c, 0, FOVEA_DEVICE_CUDA, "not packed");
}

// Slots of a cache of six tokens; many are given more than once. The later token wins.
TEST_F(Trial, TokensThatMeet) {
  Draw draw(4);
  Case c;
  c.fixed.k_new = view(FOVEA_BF16, 1, 70, 2, 64);
  c.fixed.k_cache = view(FOVEA_BF16, 3, 2, 2, 64);
  c.k_new = draw.fill(c.fixed.k_new);
  c.cache.assign(3 * 2 * 2 * 64 * 2, kCanary);
  for (int i = 0; i < 70; ++i) c.slots.push_back(draw.between(-1, 6));
  c.errors = {0};
  expect_as_defined(c, 0, FOVEA_DEVICE_CUDA, "slots");
}

}  // namespace
}  // namespace fovea_test

// append_kernel_test.cc - fovea_kv_append on CUDA, on any driver. Results are compared bit by bit
// with the definition, and with the CPU's where two tokens share a slot.
#include <gtest/gtest.h>

#include <climits>

#include "tests/cuda/append_kernel.h"

namespace fovea_test {
namespace {

constexpr uint32_t kTypes[] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};

TEST_F(AppendKernel, StoresWhatTheHeaderDefinesInRandomCases) {
  uint32_t bits_seen = 0;
  int written = 0;
  const uint64_t cases = 1000;
  for (uint64_t seed = 0; seed < cases; ++seed) {
    // Half of the types of every other case have 8 bits, so enough of the others have none.
    const Case drawn = random_case(seed, seed % 2 ? FOVEA_BF16 : FOVEA_I8);
    const Case c = shifted(drawn, seed % 3 * 4);
    expect_on_cuda(c, "seed " + std::to_string(seed));
    ASSERT_FALSE(HasFailure());
    Case after = c;
    append_by_definition(after.args());
    written += after.cache != c.cache;
    for (uint32_t bits : after.errors) bits_seen |= bits;
  }
  // Guards against empty cases: most of them write, and every kind of bad data occurs.
  EXPECT_GT(written, static_cast<int>(cases) / 2);
  EXPECT_EQ(bits_seen, 0x80000000u | FOVEA_BAD_LENGTH | FOVEA_BAD_PAGE | FOVEA_BAD_OFFSET |
                           FOVEA_BAD_POSITION | FOVEA_BAD_SLOT);
}

// ---- Types and chunks ------------------------------------------------------------------------

// Dims below, at and above what a warp moves at a time. The second half of the rotated elements
// begins at a chunk in some cases and inside one in others.
TEST_F(AppendKernel, MovesRowsOfAllTypesWithAndWithoutAlignment) {
  // In the last two, a chunk holds both kinds of elements, and a lane reaches it in its second
  // round.
  const int64_t sizes[][2] = {{8, 0},    {8, 4},     {64, 32},   {72, 8},   {128, 64},
                              {128, 20}, {320, 160}, {264, 126}, {512, 250}};
  Draw draw(11);
  for (uint32_t from : kTypes) {
    for (uint32_t to : kTypes) {
      for (int i = 0; i < 18; ++i) {
        const auto &size = sizes[i / 2];
        const auto style = static_cast<uint32_t>(i % 2);
        const Case c = chunk_case(&draw, from, to, size[0], size[1], style);
        const bool wide = from == FOVEA_F32 || to == FOVEA_F32;
        const std::string what = std::string(name_of(from)) + " to " + name_of(to) + ", dim " +
                                 std::to_string(size[0]) + ", style " + std::to_string(style);
        expect_on_cuda(c, what);
        expect_on_cuda(shifted(c, wide ? 4 : 2), what + ", shifted");
        ASSERT_FALSE(HasFailure());
      }
    }
  }
}

// Rows whose dim is not a multiple of a chunk; then a v without elements.
TEST_F(AppendKernel, TakesAnyDim) {
  Draw draw(12);
  for (int64_t dim : {1, 2, 7, 9, 15, 259}) {
    Case c = chunk_case(&draw, FOVEA_F32, FOVEA_F16, dim, dim / 2, FOVEA_ROPE_HALF_SPLIT);
    expect_on_cuda(c, std::to_string(dim));
    c.fixed.v_new.shape[3] = c.fixed.v_cache.shape[3] = 0;
    expect_on_cuda(c, std::to_string(dim) + ", no values");
  }
}

// A CTA has eight warps, and the grid rounds down: some warps write two heads of the one token.
TEST_F(AppendKernel, WritesAllHeadsOfATokenWhereTheyAreMoreThanTheWarps) {
  Draw draw(16);
  Case c;
  c.fixed.k_new = view(FOVEA_F16, 1, 1, 47, 24);
  c.fixed.k_cache = view(FOVEA_BF16, 1, 2, 47, 24);
  c.k_new = draw.fill(c.fixed.k_new);
  c.cache.assign(2 * 47 * 24 * 2, kCanary);
  c.kv_lengths = {1};
  expect_on_cuda(c, "47 heads");
}

// Every value of a 16-bit format.
TEST_F(AppendKernel, ConvertsEveryValueExactly) {
  for (uint32_t from : {FOVEA_F16, FOVEA_BF16}) {
    for (uint32_t to : kTypes) {
      Case c;
      c.fixed.k_new = view(from, 1, 64, 8, 128);
      c.fixed.k_cache = view(to, 1, 64, 8, 128);
      c.kv_lengths = {0};
      c.k_new.resize(65536 * 2);
      for (uint32_t code = 0; code < 65536; ++code) store_bits(from, &c.k_new[code * 2], code);
      c.cache.assign(65536 * size_of(to), kCanary);
      expect_on_cuda(c, std::string(name_of(from)) + " to " + name_of(to));
    }
  }
}

// f32 about every value of the format: the value, halfway to the next, and the neighbours of both.
TEST_F(AppendKernel, RoundsToTheNearestEvenValue) {
  for (uint32_t to : {FOVEA_F16, FOVEA_BF16}) {
    Bits bits;
    Draw draw(13);
    for (int i = 0; i < 4096; ++i) {
      const auto code = static_cast<uint32_t>(draw.upto(65535));
      const double low = decode(to, code), high = decode(to, (code + 1) & 0xffff);
      for (double value : {low, (low + high) / 2}) {
        const uint32_t exact = encode(FOVEA_F32, value);
        for (uint32_t step : {0u, 1u, ~0u}) bits.push_back(exact + step);
      }
    }
    const Bits extremes = {0xff801234, 0x7f800000, 0xff800000, 0x80000000, 0x7f7fffff, 0x477ff000,
                           0x477fefff, 0x00000001, 0x80000001, 0x33000000, 0x33000001, 0x7fc00000};
    bits.insert(bits.end(), extremes.begin(), extremes.end());
    const Case c = one_token(FOVEA_F32, to, bits);
    expect_on_cuda(c, name_of(to));
  }
}

// (1 + 2^-12)^2 is 1 + 2^-11 + 2^-24. Rounding the product by itself loses the last bit. A fused
// operation keeps it: after it subtracts the rounded product, that bit is all that is left.
TEST_F(AppendKernel, RoundsEveryProductByItself) {
  const float x = 1.0f + 0x1p-12f;
  Draw draw(14);
  for (uint32_t style : {FOVEA_ROPE_HALF_SPLIT, FOVEA_ROPE_INTERLEAVED}) {
    Case c = chunk_case(&draw, FOVEA_F32, FOVEA_F32, 16, 8, style);
    for (size_t i = 0; i < c.k_new.size(); i += 4) std::memcpy(&c.k_new[i], &x, 4);
    c.cos.assign(c.cos.size(), x);
    c.sin.assign(c.sin.size(), x);
    expect_on_cuda(c, "style " + std::to_string(style));
    append(c.args(), 0, FOVEA_DEVICE_CUDA);
    const size_t first = 2 * 2 * 16 * 4;  // index 2 of the cache
    EXPECT_EQ(load_bits(FOVEA_F32, &c.cache[first]), 0u);
  }
}

// ---- More than one CTA looks up at a time ----------------------------------------------------

// Offsets that grow by up to `step`; a few are bad.
std::vector<int32_t> long_offsets(Draw *draw, int64_t sequences, int64_t step, int64_t total) {
  std::vector<int32_t> offsets = {static_cast<int32_t>(draw->chance(2) ? -7 : 0)};
  int64_t reached = 0;
  for (int64_t s = 0; s < sequences; ++s) {
    reached += draw->upto(step);
    const bool bad = draw->chance(40);
    offsets.push_back(static_cast<int32_t>(
        bad ? draw->of<int64_t>({INT_MIN, 0, reached / 2, reached + 30}) : reached));
  }
  if (draw->chance(2)) offsets.back() = static_cast<int32_t>(total + 5);
  return offsets;
}

Case long_case(uint64_t seed) {
  Draw draw(seed);
  Case c;
  const int64_t sequences = 700, total = draw.between(300, 1100), pages = 64;
  c.fixed.sequences.count = sequences;
  c.fixed.k_new = view(FOVEA_F16, 1, total, 2, 8);
  c.fixed.v_new = view(FOVEA_BF16, 1, total, 2, 8);
  c.fixed.k_cache = view(FOVEA_BF16, pages, 3, 2, 8);
  c.fixed.v_cache = view(FOVEA_F32, pages, 3, 2, 8);
  place_caches(&draw, &c);
  c.k_new = draw.fill(c.fixed.k_new);
  c.v_new = draw.fill(c.fixed.v_new);
  c.new_offsets = long_offsets(&draw, sequences, draw.between(1, 4), total);
  c.fixed.sequences.pages.count = draw.between(100, 1500);
  c.page_offsets = long_offsets(&draw, sequences, 4, c.fixed.sequences.pages.count);
  for (int64_t i = 0; i < c.fixed.sequences.pages.count; ++i) {
    c.ids.push_back(static_cast<int32_t>(draw.between(-1, pages)));
    c.v_ids.push_back(static_cast<int32_t>(draw.upto(pages - 1)));
  }
  for (int64_t s = 0; s < sequences; ++s) {
    c.kv_lengths.push_back(static_cast<int32_t>(draw.chance(30) ? -1 : draw.upto(9)));
  }
  c.errors.assign(sequences, 0);
  return c;
}

TEST_F(AppendKernel, LooksUpMoreSequencesAndTokensThanACtaDoesAtOnce) {
  for (uint64_t seed = 0; seed < 4; ++seed) {
    const Case c = long_case(seed);
    expect_on_cuda(c, "seed " + std::to_string(seed));
    Case after = c;
    append_by_definition(after.args());
    EXPECT_NE(after.cache, c.cache) << seed;
  }
}

// Many sequences with the same number of rows, without offsets.
TEST_F(AppendKernel, CountsRowsOfSequencesThatAreNotPacked) {
  Draw draw(15);
  Case c;
  c.fixed.k_new = view(FOVEA_F16, 300, 3, 1, 8);
  c.fixed.k_cache = view(FOVEA_F16, 300, 6, 1, 8);
  c.k_new = draw.fill(c.fixed.k_new);
  c.cache.assign(300 * 6 * 8 * 2, kCanary);
  for (int s = 0; s < 300; ++s) c.kv_lengths.push_back(static_cast<int32_t>(draw.upto(5)));
  c.errors.assign(300, 0);
  expect_on_cuda(c, "300 sequences");
}

// ---- Two tokens in one place -----------------------------------------------------------------

// A third of the slots are given more than once. The later token wins whole, as on the CPU.
TEST_F(AppendKernel, LetsTheLaterTokenWinWhole) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    Draw draw(seed);
    Case c;
    const int64_t tokens = 600;
    c.fixed.k_new = view(FOVEA_BF16, 2, tokens / 2, 2, 64);
    c.fixed.v_new = view(FOVEA_F32, 2, tokens / 2, 2, 32);
    c.fixed.k_cache = view(FOVEA_F16, 30, 30, 2, 64);
    c.fixed.v_cache = view(FOVEA_BF16, 30, 30, 2, 32);
    place_caches(&draw, &c);
    c.k_new = draw.fill(c.fixed.k_new);
    c.v_new = draw.fill(c.fixed.v_new);
    for (int64_t i = 0; i < tokens; ++i) c.slots.push_back(draw.between(-10, 905));
    c.errors = {0, 0};
    Case on_cpu = c;
    append_call = [](fovea_handle *handle, const fovea_kv_append_args *args) {
      return fovea_kv_append(handle, args, nullptr);
    };
    append(on_cpu.args(), 2, FOVEA_DEVICE_CPU);
    append_call = fv_mirror_append;
    append(c.args(), 0, FOVEA_DEVICE_CUDA);
    EXPECT_EQ(c.cache, on_cpu.cache) << seed;
    EXPECT_EQ(c.errors, on_cpu.errors) << seed;
  }
}

}  // namespace
}  // namespace fovea_test

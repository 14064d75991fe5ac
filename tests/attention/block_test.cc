// block_test.cc - caches of q8_0 and q4_0 against caches of i8 with a scale per block.
//
// Both hold the same numbers, each exact in f32, so that every device must compute the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/support/attention_builder.h"
#include "tests/support/devices.h"
#include "tests/support/formats.h"

namespace fovea_test {
namespace {

struct Shape {
  const char *name;
  int64_t batch, len_q, len_kv, heads_q, heads_kv, dim, dim_v;
};

// A cache [batch, len, heads, dim] of blocks, and the same numbers in i8 with f16 scales.
struct TwoCaches {
  std::vector<uint8_t> blocks, codes, scales;
  fovea_tensor as_blocks{}, as_i8{}, scale{};

  TwoCaches(uint32_t dtype, int64_t batch, int64_t len, int64_t heads, int64_t dim, uint64_t seed) {
    const int64_t elements = batch * len * heads * dim, count = elements / 32;
    std::mt19937_64 random(seed);
    blocks.resize(bytes_of(dtype, elements));
    for (uint8_t &byte : blocks) byte = static_cast<uint8_t>(random());
    scales.resize(static_cast<size_t>(count) * 2);
    codes.resize(static_cast<size_t>(elements));
    for (int64_t n = 0; n < count; ++n) {
      uint8_t *block = blocks.data() + bytes_of(dtype, n * 32);
      // Of either sign, and of any size: subnormal ones among them.
      const double size = std::exp2(-static_cast<double>(random() % 24)) * (random() % 2 ? 1 : -1);
      const uint32_t scale = encode(FOVEA_F16, size * (1 + (double)(random() % 1024) / 1024));
      store_bits(FOVEA_F16, block, scale);
      store_bits(FOVEA_F16, &scales[static_cast<size_t>(2 * n)], scale);
      for (int64_t d = 0; d < 32; ++d) {
        codes[static_cast<size_t>(n * 32 + d)] =
            static_cast<uint8_t>(code_in_block(dtype, block, d));
      }
    }
    as_blocks =
        fovea_contiguous(blocks.data(), static_cast<fovea_dtype>(dtype), batch, len, heads, dim);
    as_i8 = fovea_contiguous(codes.data(), FOVEA_I8, batch, len, heads, dim);
    scale = fovea_contiguous(scales.data(), FOVEA_F16, batch, len, heads, dim / 32);
  }
};

class Block : public testing::TestWithParam<Device> {};

std::vector<uint8_t> attend(const Device &device, fovea_attention_args args, int64_t dim_v) {
  const int64_t batch = args.q.shape[0], rows = args.q.shape[1], heads = args.q.shape[2];
  std::vector<float> out(static_cast<size_t>(batch * rows * heads * (dim_v + 1)), NAN);
  args.struct_size = sizeof args;
  args.reproducible = device.reproducible;
  args.out = fovea_contiguous(out.data(), FOVEA_F32, batch, rows, heads, dim_v);
  args.lse =
      fovea_contiguous(out.data() + batch * rows * heads * dim_v, FOVEA_F32, batch, rows, heads, 1);
  size_t bytes = 0;
  EXPECT_EQ(fovea_attention_workspace_for(handle_of(device), &args, &bytes), FOVEA_OK)
      << fovea_error_detail();
  std::vector<uint8_t> memory(bytes + 256);
  void *workspace = memory.data();
  size_t space = memory.size();
  args.workspace = std::align(256, bytes, workspace, space);
  args.workspace_bytes = bytes;
  EXPECT_EQ(fovea_attention(handle_of(device), &args, nullptr), FOVEA_OK) << fovea_error_detail();
  std::vector<uint8_t> bits(out.size() * 4);
  std::memcpy(bits.data(), out.data(), bits.size());
  return bits;
}

TEST_P(Block, HasTheBitsOfI8WithAScalePerBlock) {
  const Shape shapes[] = {{"decode", 2, 1, 300, 8, 2, 128, 128},
                          {"prefill", 1, 70, 130, 2, 1, 64, 96},
                          {"one_key", 1, 1, 1, 1, 1, 32, 32},
                          {"few_rows", 1, 5, 97, 6, 2, 96, 32},
                          {"largest", 1, 2, 40, 2, 1, 576, 512}};
  std::mt19937_64 random(7);
  for (const Shape &s : shapes) {
    for (uint32_t k : {FOVEA_Q8_0, FOVEA_Q4_0}) {
      for (uint32_t v : {FOVEA_Q8_0, FOVEA_Q4_0}) {
        TwoCaches keys(k, s.batch, s.len_kv, s.heads_kv, s.dim, random());
        TwoCaches values(v, s.batch, s.len_kv, s.heads_kv, s.dim_v, random());
        std::vector<float> q(static_cast<size_t>(s.batch * s.len_q * s.heads_q * s.dim));
        for (float &x : q) x = static_cast<float>(static_cast<double>(random() % 2001) / 1e4 - 0.1);
        fovea_attention_args args = {};
        args.q = fovea_contiguous(q.data(), FOVEA_F32, s.batch, s.len_q, s.heads_q, s.dim);
        args.visibility.causal = s.len_q > 5;
        args.k = keys.as_blocks;
        args.v = values.as_blocks;
        const auto blocks = attend(GetParam(), args, s.dim_v);
        args.k = keys.as_i8;
        args.k_scale = keys.scale;
        args.v = values.as_i8;
        args.v_scale = values.scale;
        EXPECT_EQ(blocks, attend(GetParam(), args, s.dim_v)) << s.name << " " << k << " " << v;
        // One of the two may be of another kind.
        args.k = keys.as_blocks;
        args.k_scale.dtype = FOVEA_NONE;
        EXPECT_EQ(blocks, attend(GetParam(), args, s.dim_v)) << s.name << " " << k << " " << v;
      }
    }
  }
}

// Every byte at every place of a block, as a value that one key has alone: out is that value.
TEST_P(Block, ShowsEveryCodeAtEveryPlace) {
  for (uint32_t dtype : {FOVEA_Q8_0, FOVEA_Q4_0}) {
    for (int byte = 0; byte < 256; ++byte) {
      std::vector<uint8_t> keys(size_of(dtype), 0), values(size_of(dtype), 0);
      std::memset(values.data() + 2, byte, values.size() - 2);
      store_bits(FOVEA_F16, values.data(), 0x3555);  // about 1/3
      const std::vector<float> q(32, 1.0f);
      fovea_attention_args args = {};
      args.q = fovea_contiguous(const_cast<float *>(q.data()), FOVEA_F32, 1, 1, 1, 32);
      args.k = fovea_contiguous(keys.data(), static_cast<fovea_dtype>(dtype), 1, 1, 1, 32);
      args.v = fovea_contiguous(values.data(), static_cast<fovea_dtype>(dtype), 1, 1, 1, 32);
      const auto bits = attend(GetParam(), args, 32);
      for (size_t d = 0; d < 32; ++d) {
        float value;
        std::memcpy(&value, &bits[4 * d], 4);
        const double third = decode(FOVEA_F16, 0x3555);
        const int high = byte / 16 - 8, low = byte % 16 - 8;
        const int code = dtype == FOVEA_Q8_0 ? static_cast<int8_t>(byte) : d < 16 ? low : high;
        EXPECT_EQ(value, static_cast<float>(third * code)) << byte << " at " << d;
      }
    }
  }
}

// A block whose scale is no number spoils the rows that see it, and no others.
TEST_P(Block, OfAScaleThatIsNoNumberSpoilsNothingUnseen) {
  const int64_t len = 200, dim = 64;
  for (uint32_t dtype : {FOVEA_Q8_0, FOVEA_Q4_0}) {
    for (uint32_t bad : {0x7c00u, 0xfc00u, 0x7e00u, 0x7c01u}) {
      TwoCaches keys(dtype, 1, len, 1, dim, 1), values(dtype, 1, len, 1, dim, 2);
      const std::vector<float> q(dim, 0.01f);
      const int32_t first = 70, length = 150;
      fovea_attention_args args = {};
      args.q = fovea_contiguous(const_cast<float *>(q.data()), FOVEA_F32, 1, 1, 1, dim);
      args.k = keys.as_blocks;
      args.v = values.as_blocks;
      args.sequences.kv_lengths = &length;
      args.sequences.kv_first = &first;
      const auto before = attend(GetParam(), args, dim);
      for (int64_t key : {int64_t{0}, int64_t{69}, int64_t{150}, len - 1}) {
        for (TwoCaches *cache : {&keys, &values})
          store_bits(FOVEA_F16, cache->blocks.data() + bytes_of(dtype, key * dim + 32), bad);
      }
      EXPECT_EQ(before, attend(GetParam(), args, dim)) << bad;
      store_bits(FOVEA_F16, values.blocks.data() + bytes_of(dtype, 100 * dim + 32), bad);
      const auto after = attend(GetParam(), args, dim);
      float spoiled;
      std::memcpy(&spoiled, &after[4 * 40], 4);
      EXPECT_FALSE(std::isfinite(spoiled)) << bad;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Block, testing::ValuesIn(devices()),
                         [](const auto &info) { return info.param.name; });

}  // namespace
}  // namespace fovea_test

// append_8bit_kernel_test.cc - fovea_kv_append into caches of e4m3, e5m2 and i8 on CUDA, on any
// driver: rounding, scales and rows. Bits are compared with the definition, on the CPU too where
// values are what matters.
#include "tests/cuda/append_kernel.h"

namespace fovea_test {
namespace {

constexpr uint32_t kSources[] = {FOVEA_F32, FOVEA_F16, FOVEA_BF16};
constexpr uint32_t kCaches[] = {FOVEA_E4M3, FOVEA_E5M2, FOVEA_I8};

using Append8BitKernel = AppendKernel;

std::string pair_name(uint32_t from, uint32_t to) {
  return std::string(name_of(from)) + " to " + name_of(to);
}

void expect_on_both(const Case &c, const std::string &what) {
  expect_on_cuda(c, what);
  expect_as_defined(c, 1, FOVEA_DEVICE_CPU, what + " on the CPU");
}

void set_scales(Case *c, const std::vector<float> &scales) {
  c->k_scale.clear();
  for (float scale : scales) {
    uint8_t bytes[4];
    std::memcpy(bytes, &scale, 4);
    c->k_scale.insert(c->k_scale.end(), bytes, bytes + 4);
  }
}

// ---- Values ----------------------------------------------------------------------------------

// Every `step`th code of a 16-bit format, once for each scale. Each scale has a sequence.
Case all_codes(uint32_t from, uint32_t to, uint32_t step, const std::vector<float> &scales) {
  Case c;
  const auto sequences = static_cast<int64_t>(scales.size());
  const auto rows = static_cast<int64_t>(65536 / step / 1024);
  c.fixed.k_new = view(from, sequences, rows, 8, 128);
  c.fixed.k_new.stride[0] = 0;  // the same for all
  c.fixed.k_cache = view(to, sequences, rows, 8, 128);
  c.fixed.k_scale = view(FOVEA_F32, sequences, 1, 1, 1);
  c.kv_lengths.assign(scales.size(), 0);
  c.k_new.resize(static_cast<size_t>(rows) * 1024 * 2);
  for (uint32_t i = 0; i < c.k_new.size() / 2; ++i) {
    store_bits(from, &c.k_new[i * 2], i * step + step / 2);
  }
  c.cache.assign(static_cast<size_t>(sequences * rows) * 1024, kCanary);
  set_scales(&c, scales);
  return c;
}

TEST_F(Append8BitKernel, ConvertsEveryValueOfSixteenBits) {
  for (uint32_t from : {FOVEA_F16, FOVEA_BF16}) {
    for (uint32_t to : kCaches) {
      const Case scaled = all_codes(from, to, 1, {0.25f, -1.7f});
      expect_on_both(scaled, pair_name(from, to) + ", scaled");
      Case plain = all_codes(from, to, 1, {1});
      plain.fixed.k_scale = fovea_tensor{};
      expect_on_both(plain, pair_name(from, to));
      ASSERT_FALSE(HasFailure());
    }
  }
}

// Each sixteenth value: a sample, since the test above has all of them.
TEST_F(Append8BitKernel, DividesByAnyScale) {
  std::vector<float> scales = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 0x1.234p-130f, -0x1p-149f};
  scales.insert(scales.end(), {0x1.fffffep127f, 0x1p-126f, 3.0f, 1.0f / 448});
  Draw draw(21);
  for (int e = -9; e <= 9; e += 3) scales.push_back(std::ldexp(1.0f, e));
  for (int i = 0; i < 8; ++i) {
    scales.push_back(std::ldexp(draw.number() + 1.5f, static_cast<int>(draw.between(-12, 12))));
  }
  for (uint32_t from : {FOVEA_F16, FOVEA_BF16}) {
    for (uint32_t to : kCaches) {
      expect_on_both(all_codes(from, to, 16, scales), pair_name(from, to));
    }
  }
}

void add_with_neighbours(double value, Bits *bits) {
  const uint32_t exact = encode(FOVEA_F32, value);
  for (uint32_t step : {0u, 1u, ~0u}) {
    bits->push_back(exact + step);
    bits->push_back((exact + step) ^ 0x80000000u);
  }
}

// f32 about every finite number of the format and halfway to the next; what is past the largest:
// 464, 480, 61440 and 65536, where formats with more exponents would go on; and any bits at all.
Bits values_about(uint32_t to) {
  Bits bits = {0xff801234, 0x7fc00000, 0x7f800001, 0x7f800000, 0xff800000, 0x7f7fffff, 0xff7fffff,
               0x00000001, 0x80000001, 0x00000000, 0x80000000, 0x007fffff, 0x4f000000, 0xcf000000};
  for (uint32_t code = 0; code < 256; ++code) {
    const double low = decode(to, code), high = decode(to, (code + 1) & 0xff);
    if (!std::isfinite(low)) continue;
    add_with_neighbours(low, &bits);
    if (std::isfinite(high)) add_with_neighbours((low + high) / 2, &bits);
  }
  for (double edge : {464.0, 480.0, 61440.0, 65536.0, 127.5, 128.5, 129.0}) {
    add_with_neighbours(edge, &bits);
  }
  Draw draw(22);
  for (int i = 0; i < 2000; ++i) bits.push_back(draw.bits(FOVEA_F32));
  return bits;
}

TEST_F(Append8BitKernel, RoundsToTheNearestEvenCodeAndSaturates) {
  for (uint32_t to : kCaches) {
    const Case c = one_token(FOVEA_F32, to, values_about(to));
    expect_on_both(c, name_of(to));
    Case scaled = c;
    scaled.fixed.k_scale = view(FOVEA_F16, 1, 1, 1, 1);
    scaled.k_scale = {0x00, 0xb8};  // -1/2: halves stay halves
    expect_on_both(scaled, std::string(name_of(to)) + ", scaled");
  }
}

// Halves times s, over s. In f32 s * (1 / s) is below 1 for s = 41 and others: a product with the
// reciprocal misses the halves. 2.5 and 18 lie halfway in i8 and e4m3, 9 and 18 in e5m2.
TEST_F(Append8BitKernel, FindsTheHalvesAmongQuotients) {
  for (uint32_t to : kCaches) {
    for (int s = 1; s < 128; s += 2) {
      Bits bits;
      for (int i = -260; i <= 260; ++i) bits.push_back(encode(FOVEA_F32, s * i / 2.0));
      Case c = one_token(FOVEA_F32, to, bits);
      c.fixed.k_scale = view(FOVEA_F32, 1, 1, 1, 1);
      set_scales(&c, {static_cast<float>(s)});
      expect_on_both(c, std::string(name_of(to)) + " over " + std::to_string(s));
    }
  }
}

// The codes of the header's special values, written out.
TEST_F(Append8BitKernel, WritesTheHeadersNaNsAndLimits) {
  const Bits values = {0xff801234, 0x7f800000, 0xff800000, 0x80000000, 0x43e80000, 0xc3010000};
  const std::vector<std::vector<uint8_t>> expected = {{0x7f, 0x7e, 0xfe, 0x80, 0x7e, 0xf0},
                                                      {0x7f, 0x7b, 0xfb, 0x80, 0x5f, 0xd8},
                                                      {0x00, 0x7f, 0x80, 0x00, 0x7f, 0x80}};
  for (int i = 0; i < 3; ++i) {
    Case c = one_token(FOVEA_F32, kCaches[i], values);
    append(c.args(), 0, FOVEA_DEVICE_CUDA);
    EXPECT_EQ(c.cache, expected[static_cast<size_t>(i)]) << name_of(kCaches[i]);
  }
}

// ---- Scales ----------------------------------------------------------------------------------

struct ScaleForm {
  uint32_t dtype;
  uint32_t extents;  // bit i: extent i is the cache's, not 1
  int64_t blocks;
};

// Every scale differs from its neighbours, and NaNs fill the gaps.
void add_scale_of(Draw *draw, const ScaleForm &form, const fovea_tensor &cache, fovea_tensor *scale,
                  std::vector<uint8_t> *memory) {
  int64_t extents[3];
  for (int i = 0; i < 3; ++i) extents[i] = form.extents >> i & 1 ? cache.shape[i] : 1;
  *scale = view(form.dtype, extents[0], extents[1], extents[2], form.blocks);
  draw->layout(scale, 2 * form.blocks + draw->upto(2));
  scale->stride[3] = 2;
  memory->assign(static_cast<size_t>(span_of(*scale)) * size_of(form.dtype), 0xff);
  scale->data = memory->data();
  for (int64_t i = 0; i < extents[0]; ++i) {
    for (int64_t j = 0; j < extents[1]; ++j) {
      for (int64_t h = 0; h < extents[2]; ++h) {
        for (int64_t n = 0; n < form.blocks; ++n) {
          const double value = 0.5 + static_cast<double>(draw->upto(900)) / 256;
          store_bits(form.dtype, address(*scale, i, j, h, n),
                     encode(form.dtype, draw->chance(3) ? -value : value));
        }
      }
    }
  }
}

enum Place { kRows, kPages, kPackedPages, kSlots, kPlaces };

// Two sequences of three tokens in all, five heads, dims 24 and 20.
Case scale_case(Draw *draw, Place place, uint32_t from, uint32_t to, const ScaleForm &k,
                const ScaleForm &v) {
  Case c;
  const bool packed = place == kPackedPages;
  const int64_t batch = packed ? 1 : 2, rows = packed ? 3 : 2;
  c.fixed.k_new = view(from, batch, rows, 5, 24);
  c.fixed.v_new = view(from, batch, rows, 5, 20);
  c.fixed.k_cache = view(to, place == kRows ? 2 : 4, 3, 5, 24);
  c.fixed.v_cache = view(to, place == kRows ? 2 : 4, 3, 5, 20);
  place_caches(draw, &c);
  c.k_new = draw->fill(c.fixed.k_new);
  c.v_new = draw->fill(c.fixed.v_new);
  add_scale_of(draw, k, c.fixed.k_cache, &c.fixed.k_scale, &c.k_scale);
  add_scale_of(draw, v, c.fixed.v_cache, &c.fixed.v_scale, &c.v_scale);
  c.errors = {0, 0};
  if (place == kSlots) {
    c.slots = {10, 3, -1, 5};
    return c;
  }
  c.kv_lengths = {1, 0};
  if (place == kRows) return c;
  c.ids = {2, 1, 3, 0};
  c.v_ids = {1, 0, 2, 3};
  c.fixed.sequences.pages.count = packed ? 4 : 2;
  c.fixed.sequences.pages.row_stride = packed ? 0 : 2;
  if (!packed) return c;
  c.page_offsets = {0, 2, 4};
  c.new_offsets = {0, 1, 3};
  c.fixed.sequences.count = 2;
  return c;
}

// Blocks of 24, 12, 8, 3 and 1 elements: a run of eight lies in one, in two or in several.
TEST_F(Append8BitKernel, TakesTheScaleOfEveryPlaceHeadAndBlock) {
  Draw draw(23);
  int index = 0;
  for (int place = kRows; place < kPlaces; ++place) {
    for (uint32_t extents = 0; extents < 8; ++extents) {
      for (int64_t blocks : {1, 2, 3, 8, 24}) {
        const uint32_t dtype = index % 2 ? FOVEA_F16 : FOVEA_F32;
        const ScaleForm k = {dtype, extents, blocks};
        const ScaleForm v = {dtype ^ FOVEA_F32 ^ FOVEA_F16, 7 - extents, index % 3 ? 5 : 1};
        const Case c = scale_case(&draw, static_cast<Place>(place), kSources[index % 3],
                                  kCaches[index / 3 % 3], k, v);
        expect_on_both(c, "place " + std::to_string(place) + ", extents " +
                              std::to_string(extents) + ", blocks " + std::to_string(blocks));
        ASSERT_FALSE(HasFailure());
        ++index;
      }
    }
  }
}

// ---- Rows ------------------------------------------------------------------------------------

// The cache begins at each kind of address: at a multiple of 8 bytes a run is one store, elsewhere
// it is not. Scales per channel of k, one for all of v.
TEST_F(Append8BitKernel, RotatesAndMovesRowsWithAndWithoutAlignment) {
  const int64_t sizes[][2] = {{8, 0},    {8, 4},     {64, 32},   {72, 8},   {128, 64},
                              {128, 20}, {320, 160}, {264, 126}, {512, 250}};
  Draw draw(24);
  for (int i = 0; i < 9 * 2 * 3 * 3; ++i) {
    const auto &size = sizes[i % 9];
    const uint32_t from = kSources[i / 9 % 3], to = kCaches[i / 27 % 3];
    const auto style = static_cast<uint32_t>(i / 81);
    Case c = chunk_case(&draw, from, to, size[0], size[1], style);
    c.cache.insert(c.cache.end(), 64, kCanary);
    if (i % 2) {
      c.fixed.k_scale = view(FOVEA_F32, 1, 1, 1, size[0]);
      c.fixed.v_scale = view(FOVEA_F16, 1, 1, 1, 1);
      c.k_scale = draw.fill(c.fixed.k_scale);
      c.v_scale = draw.fill(c.fixed.v_scale);
    }
    const std::string what = pair_name(from, to) + ", dim " + std::to_string(size[0]) + ", style " +
                             std::to_string(style) + ", case " + std::to_string(i);
    expect_on_cuda(c, what);
    for (size_t bytes : {8u, 1u, 4u}) {
      expect_on_cuda(with_caches_shifted(c, bytes), what + ", shifted by " + std::to_string(bytes));
    }
    expect_on_cuda(shifted(c, 4), what + ", all shifted");
    ASSERT_FALSE(HasFailure());
  }
}

// Rows whose dim is not a multiple of a run. The last block ends where the scales end.
TEST_F(Append8BitKernel, TakesAnyDim) {
  Draw draw(25);
  for (int64_t dim : {1, 2, 7, 9, 15, 259}) {
    for (uint32_t to : kCaches) {
      Case c = chunk_case(&draw, FOVEA_F32, to, dim, dim / 2, FOVEA_ROPE_HALF_SPLIT);
      c.fixed.k_scale = view(FOVEA_F32, 1, 5, 2, dim);
      c.fixed.v_scale = view(FOVEA_F16, 1, 1, 2, 1);
      c.k_scale = draw.fill(c.fixed.k_scale);
      c.v_scale = draw.fill(c.fixed.v_scale);
      expect_on_cuda(c, std::to_string(dim));
      c.fixed.v_new.shape[3] = c.fixed.v_cache.shape[3] = 0;
      expect_on_cuda(c, std::to_string(dim) + ", no values");
    }
  }
}

// (1 + 2^-12)^2 rounds to 1 + 2^-11. A fused operation would leave 2^-24, which the scale brings
// into sight.
TEST_F(Append8BitKernel, RoundsEveryProductByItself) {
  const float x = 1.0f + 0x1p-12f;
  Draw draw(26);
  for (uint32_t style : {FOVEA_ROPE_HALF_SPLIT, FOVEA_ROPE_INTERLEAVED}) {
    Case c = chunk_case(&draw, FOVEA_F32, FOVEA_E4M3, 16, 8, style);
    for (size_t i = 0; i < c.k_new.size(); i += 4) std::memcpy(&c.k_new[i], &x, 4);
    c.cos.assign(c.cos.size(), x);
    c.sin.assign(c.sin.size(), x);
    c.fixed.k_scale = view(FOVEA_F32, 1, 1, 1, 1);
    set_scales(&c, {0x1p-24f});
    expect_on_cuda(c, "style " + std::to_string(style));
    append(c.args(), 0, FOVEA_DEVICE_CUDA);
    const size_t first = 2 * 2 * 16;  // index 2 of the cache
    EXPECT_EQ(c.cache[first], 0u) << "a fused operation leaves 1";
  }
}

// Bytes of one word may have several writers. The later token wins whole.
TEST_F(Append8BitKernel, LetsTheLaterTokenWinWhole) {
  Draw draw(27);
  Case c;
  c.fixed.k_new = view(FOVEA_BF16, 1, 300, 3, 20);
  c.fixed.k_cache = view(FOVEA_I8, 30, 5, 3, 20);
  c.fixed.k_scale = view(FOVEA_F16, 30, 5, 3, 5);
  c.k_new = draw.fill(c.fixed.k_new);
  c.k_scale = draw.fill(c.fixed.k_scale);
  c.cache.assign(30 * 5 * 3 * 20, kCanary);
  for (int i = 0; i < 300; ++i) c.slots.push_back(draw.between(-3, 151));
  c.errors = {0};
  expect_on_both(c, "slots");
}

}  // namespace
}  // namespace fovea_test

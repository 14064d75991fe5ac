// append_bits_test.cc - the bits that fovea_kv_append stores, on any number of threads.
#include <gtest/gtest.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include <algorithm>

#include "tests/append_case.h"

namespace fovea_test {
namespace {

// ---- Conversion ------------------------------------------------------------------------------

struct Conversion {
  uint32_t from, to;
};

class AppendConversion : public testing::TestWithParam<Conversion> {};

std::vector<float> scales_to_try() {
  std::vector<float> scales;
  std::mt19937_64 random(64);
  for (int e = -8; e <= 8; ++e) scales.push_back(std::ldexp(1.0f, e));
  for (int i = 0; i < 64; ++i) {
    const float significand = 1.0f + static_cast<float>(random() >> 41) * 0x1p-23f;
    scales.push_back(std::ldexp(significand, static_cast<int>(random() % 24) - 12));
  }
  return scales;
}

// Every value of a 16-bit format, over each scale, goes into a cache of an 8-bit format.
TEST_P(AppendConversion, IsExactForEveryValueAndScale) {
  const Conversion p = GetParam();
  Case c;
  c.fixed.k_new = view(p.from, 1, 64, 8, 128);
  c.fixed.k_cache = view(p.to, 1, 64, 8, 128);
  c.fixed.k_scale = view(FOVEA_F32, 1, 1, 1, 1);
  c.kv_lengths = {0};
  c.k_new.resize(65536 * 2);
  for (uint32_t code = 0; code < 65536; ++code) store_bits(p.from, &c.k_new[code * 2], code);
  c.cache.assign(65536, kCanary);
  c.k_scale.resize(4);
  for (float scale : scales_to_try()) {
    std::memcpy(c.k_scale.data(), &scale, 4);
    append(c.args());
    for (uint32_t code = 0; code < 65536; ++code) {
      const volatile float quotient = static_cast<float>(decode(p.from, code)) / scale;
      ASSERT_EQ(expected_bits(p.to, quotient), c.cache[code]) << "code " << code << " by " << scale;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    AllCodes, AppendConversion,
    testing::Values(Conversion{FOVEA_F16, FOVEA_E4M3}, Conversion{FOVEA_F16, FOVEA_E5M2},
                    Conversion{FOVEA_F16, FOVEA_I8}, Conversion{FOVEA_BF16, FOVEA_E4M3},
                    Conversion{FOVEA_BF16, FOVEA_E5M2}, Conversion{FOVEA_BF16, FOVEA_I8}),
    [](const testing::TestParamInfo<Conversion> &info) {
      return std::string(fovea_test::name_of(info.param.from)) + "_to_" +
             fovea_test::name_of(info.param.to);
    });

// In f32: NaN with sign and payload, infinities, -0, the largest, 65520, 448 + 16, -129. 65520 lies
// halfway between the largest f16 and the number that would follow. So does 448 + 16 in e4m3.
const Bits kSpecials = {0xff801234, 0x7f800000, 0xff800000, 0x80000000,
                        0x7f7fffff, 0x477ff000, 0x43e80000, 0xc3010000};

TEST(AppendBits, TurnsSpecialValuesIntoThoseOfTheCache) {
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_F16, kSpecials)),
            (Bits{0x7fff, 0x7c00, 0xfc00, 0x8000, 0x7c00, 0x7c00, 0x5f40, 0xd808}));
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_BF16, kSpecials)),
            (Bits{0x7fff, 0x7f80, 0xff80, 0x8000, 0x7f80, 0x4780, 0x43e8, 0xc301}));
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_E4M3, kSpecials)),
            (Bits{0x7f, 0x7e, 0xfe, 0x80, 0x7e, 0x7e, 0x7e, 0xf0}));
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_E5M2, kSpecials)),
            (Bits{0x7f, 0x7b, 0xfb, 0x80, 0x7b, 0x7b, 0x5f, 0xd8}));
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_I8, kSpecials)),
            (Bits{0x00, 0x7f, 0x80, 0x00, 0x7f, 0x7f, 0x7f, 0x80}));
}

TEST(AppendBits, CopiesTheCachesOwnTypeBitByBitEvenNaNs) {
  const Bits nans = {0x7f81, 0xffff, 0x7fff, 0xff80, 0x8000, 0x0001, 0x3f80, 0x7fc0};
  EXPECT_EQ(stored(one_token(FOVEA_BF16, FOVEA_BF16, nans)), nans);
  EXPECT_EQ(stored(one_token(FOVEA_F32, FOVEA_F32, kSpecials)), kSpecials);
}

TEST(AppendBits, DividesEachBlockByItsOwnScale) {
  const uint32_t four = 0x4400;  // 4 in f16
  Case c = one_token(FOVEA_F16, FOVEA_I8, Bits(8, four));
  c.fixed.k_scale = view(FOVEA_F16, 1, 1, 1, 4);
  c.fixed.k_scale.stride[3] = 2;
  c.k_scale.assign(14, 0xff);                                   // NaN between the scales
  const uint32_t scales[4] = {0x3c00, 0x4000, 0x3800, 0x8000};  // 1, 2, 1/2, -0
  for (size_t i = 0; i < 4; ++i) store_bits(FOVEA_F16, &c.k_scale[i * 4], scales[i]);
  EXPECT_EQ(stored(c), (Bits{4, 4, 2, 2, 8, 8, 0x80, 0x80}));
}

// ---- RoPE ------------------------------------------------------------------------------------

// A quarter turn takes (x, y) to (-y, x).
Case quarter_turn(uint32_t style, int32_t rotary_dim) {
  Bits bits;
  for (int i = 1; i <= 8; ++i) bits.push_back(encode(FOVEA_F32, i));
  bits[7] = 0xff801234;
  Case c = one_token(FOVEA_F32, FOVEA_F32, bits);
  c.cos.assign(static_cast<size_t>(rotary_dim / 2), 0.0f);
  c.sin.assign(static_cast<size_t>(rotary_dim / 2), 1.0f);
  c.fixed.rope.rows = 1;
  c.fixed.rope.stride = rotary_dim / 2;
  c.fixed.rope.rotary_dim = rotary_dim;
  c.fixed.rope.style = style;
  return c;
}

Bits f32_bits(std::initializer_list<float> values) {
  Bits bits;
  for (float value : values)
    bits.push_back(std::isnan(value) ? 0xff801234 : encode(FOVEA_F32, value));
  return bits;
}

TEST(AppendRope, TurnsPairsOfTheTwoHalvesAndCopiesTheRest) {
  EXPECT_EQ(stored(quarter_turn(FOVEA_ROPE_HALF_SPLIT, 6)),
            f32_bits({-4, -5, -6, 1, 2, 3, 7, NAN}));
}

TEST(AppendRope, TurnsNeighboursAndCopiesTheRest) {
  EXPECT_EQ(stored(quarter_turn(FOVEA_ROPE_INTERLEAVED, 6)),
            f32_bits({-2, 1, -4, 3, -6, 5, 7, NAN}));
}

TEST(AppendRope, WritesTheCanonicalNaNWhereItRotates) {
  EXPECT_EQ(stored(quarter_turn(FOVEA_ROPE_INTERLEAVED, 8))[7], 0x7fffffffu);
}

// 1 + 2^-12 squared is 1 + 2^-11 + 2^-24. A product that is rounded by itself loses the last bit.
// If a fused operation subtracts the rounded product, only that bit is left.
TEST(AppendRope, RoundsEveryProductByItself) {
  const float x = 1.0f + 0x1p-12f;
  for (uint32_t style : {FOVEA_ROPE_HALF_SPLIT, FOVEA_ROPE_INTERLEAVED}) {
    Case c = quarter_turn(style, 8);
    for (size_t i = 0; i < 8; ++i) std::memcpy(&c.k_new[4 * i], &x, 4);
    c.cos.assign(4, x);
    c.sin.assign(4, x);
    const Bits bits = stored(c);
    const bool half_split = style == FOVEA_ROPE_HALF_SPLIT;
    for (size_t i = 0; i < 8; ++i) {
      const bool first = half_split ? i < 4 : i % 2 == 0;
      EXPECT_EQ(bits[i], encode(FOVEA_F32, first ? 0 : 2 + 0x1p-10)) << i;
    }
  }
}

TEST(AppendRope, StandsAtTheIndexInTheSequenceUnlessPositionsAreGiven) {
  Case c = quarter_turn(FOVEA_ROPE_HALF_SPLIT, 8);
  c.fixed.k_cache.shape[1] = 3;
  c.cache.assign(3 * 32, kCanary);
  c.kv_lengths = {2};
  c.fixed.rope.rows = 3;
  c.cos.assign(12, 1.0f);
  c.sin.assign(12, 0.0f);
  for (size_t i = 8; i < 12; ++i) c.cos[i] = 3.0f;
  for (size_t i = 4; i < 8; ++i) c.cos[i] = 5.0f;
  EXPECT_EQ(stored(c)[16], encode(FOVEA_F32, 3));
  c.positions = {1};
  EXPECT_EQ(stored(c)[16], encode(FOVEA_F32, 5));
}

// ---- Threads ---------------------------------------------------------------------------------

// The tokens suffice for many tasks. A third of the slots are given to several tokens.
Case busy_case(uint64_t seed) {
  Draw draw(seed);
  Case c;
  fovea_kv_append_args &a = c.fixed;
  const int64_t tokens = 2048;
  a.k_new = view(FOVEA_BF16, 2, tokens / 2, 2, 64);
  a.v_new = view(FOVEA_F32, 2, tokens / 2, 2, 32);
  a.k_cache = view(FOVEA_E4M3, 100, 30, 2, 64);
  a.v_cache = view(FOVEA_F16, 100, 30, 2, 32);
  place_caches(&draw, &c);
  c.k_new = draw.fill(a.k_new);
  c.v_new = draw.fill(a.v_new);
  for (int64_t i = 0; i < tokens; ++i) c.slots.push_back(draw.between(-10, 3005));
  c.errors = {0, 0};
  return c;
}

TEST(AppendThreads, StoresTheSameBitsWhateverTheirNumber) {
  for (uint64_t seed = 0; seed < 3; ++seed) {
    for (int threads = 1; threads <= 4; ++threads) {
      expect_as_defined(busy_case(seed), threads, FOVEA_DEVICE_CPU,
                        std::to_string(threads) + " threads");
      ASSERT_FALSE(HasFailure());
    }
  }
}

// All tokens go to one slot, and one token must stay there as a whole.
TEST(AppendThreads, LetOneTokenWinWhole) {
  Case c = busy_case(1);
  const int64_t tokens = 2048;
  c.k_new.clear();
  c.slots.assign(static_cast<size_t>(tokens), 77);
  for (int64_t i = 0; i < tokens * 128; ++i) {
    const uint32_t code = 0x3f80u + (static_cast<uint32_t>(i / 128) % 4 << 5);
    c.k_new.push_back(static_cast<uint8_t>(code));
    c.k_new.push_back(static_cast<uint8_t>(code >> 8));
  }
  append(c.args(), 4);
  const fovea_kv_append_args a = c.args();
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t d = 0; d < 64; ++d) {
      ASSERT_EQ(*address(a.k_cache, 77 / 30, 77 % 30, h, d), *address(a.k_cache, 2, 17, 0, 0));
    }
  }
}

// Runs tasks one after the other, each on a cache full of canaries, and counts writers per byte.
struct Watch {
  Case *c;
  std::vector<int> writers;  // for each byte of the cache, the tasks that changed it
  int64_t tasks = 0;
};

void watch_tasks(void *user, int64_t count, fovea_task task, void *context) {
  Watch *watch = static_cast<Watch *>(user);
  for (int64_t i = 0; i < count; ++i) {
    std::fill(watch->c->cache.begin(), watch->c->cache.end(), kCanary);
    task(context, i);
    for (size_t n = 0; n < watch->c->cache.size(); ++n) {
      watch->writers[n] += watch->c->cache[n] != kCanary;
    }
  }
  watch->tasks = count;
}

// No two threads write to one place, so the result cannot depend on which comes first.
TEST(AppendThreads, ShareOutThePlacesNotTheTokens) {
  Case c = busy_case(3);
  Watch watch = {&c, std::vector<int>(c.cache.size())};
  fovea_options options = {};
  options.struct_size = sizeof options;
  options.device = FOVEA_DEVICE_CPU;
  options.threads = 7;
  options.parallel_for = watch_tasks;
  options.parallel_for_user = &watch;
  fovea_handle *handle = nullptr;
  ASSERT_EQ(fovea_create(&options, &handle), FOVEA_OK) << fovea_error_detail();
  const fovea_kv_append_args args = c.args();
  EXPECT_EQ(fovea_kv_append(handle, &args, nullptr), FOVEA_OK) << fovea_error_detail();
  fovea_destroy(handle);
  EXPECT_EQ(watch.tasks, 7);
  EXPECT_EQ(*std::max_element(watch.writers.begin(), watch.writers.end()), 1);
  Case whole = c;
  std::fill(whole.cache.begin(), whole.cache.end(), kCanary);
  append(whole.args());
  for (size_t n = 0; n < c.cache.size(); ++n) {
    ASSERT_EQ(watch.writers[n] == 1, whole.cache[n] != kCanary) << n;
  }
}

#if defined(__SSE__)
// Audio code sets these bits, and threads inherit them. They must not change subnormal results.
TEST(AppendThreads, IgnoreTheCallersFloatingPointMode) {
  Case c = random_case(0);
  c = one_token(FOVEA_F32, FOVEA_E4M3, kSpecials);
  c.fixed.k_scale = view(FOVEA_F32, 1, 1, 1, 1);
  c.k_scale.resize(4);
  const uint32_t tiny = 0x00000123;  // subnormal, but 2^-140 divided by it is a normal number
  std::memcpy(c.k_scale.data(), &tiny, 4);
  for (size_t i = 0; i < 8; ++i)
    store_bits(FOVEA_F32, &c.k_new[4 * i], 0x00000200u + 77u * (uint32_t)i);
  const Bits expected = stored(c);
  const unsigned mode = _mm_getcsr();
  _mm_setcsr(mode | 0x8040 | 0x6000);  // flush to zero, denormals are zero, round toward zero
  const Bits actual = stored(c);
  const unsigned left = _mm_getcsr();
  _mm_setcsr(mode);
  EXPECT_EQ(actual, expected);
  EXPECT_EQ(expected[1] & 0x7f, 0x40u | 0) << "2.05 would be wrong if it read as 0 / 0";
  EXPECT_EQ(left & 0xe040, 0xe040u);  // the mode is still the caller's
}
#endif

}  // namespace
}  // namespace fovea_test

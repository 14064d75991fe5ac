// Instructions are compared with definitions that were written from the PTX manual, independently
// of the simulator.
#include "tests/simgpu/sim_vector.h"

#include <gtest/gtest.h>

#include <cfenv>
#include <cmath>
#include <cstring>

using namespace simgpu;
using u64 = uint64_t;
using u32 = uint32_t;
using s32 = int32_t;
using s64 = int64_t;

static float f(u64 bits) {
  u32 word = static_cast<u32>(bits);
  float value;
  memcpy(&value, &word, 4);
  return value;
}
static u64 w(float value) {
  u32 bits;
  memcpy(&bits, &value, 4);
  return bits;
}
static double g(u64 bits) {
  double value;
  memcpy(&value, &bits, 8);
  return value;
}
static u64 d(double value) {
  u64 bits;
  memcpy(&bits, &value, 8);
  return bits;
}

// A short float's value by its fields. Below, the nearest short float to a double, by bisection.
static double short_value(u32 code, int exponent_bits, int mantissa_bits) {
  int bias = (1 << (exponent_bits - 1)) - 1,
      exponent = code >> mantissa_bits & ((1 << exponent_bits) - 1);
  int mantissa = code & ((1 << mantissa_bits) - 1);
  double sign = code >> (exponent_bits + mantissa_bits) & 1 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa ? NAN : sign * INFINITY;
  if (!exponent) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}
static u32 nearest_short(double value, int exponent_bits, int mantissa_bits) {
  if (value != value) return 0x7fff;
  u32 sign = std::signbit(value) ? 1u << (exponent_bits + mantissa_bits) : 0;
  u32 infinity = ((1u << exponent_bits) - 1) << mantissa_bits, low = 0, high = infinity;
  value = std::fabs(value);
  // Infinity stands where the next finite number would: a value halfway to it rounds up.
  double top = std::ldexp(1, 1 << (exponent_bits - 1));
  auto at = [&](u32 code) {
    return code == infinity ? top : short_value(code, exponent_bits, mantissa_bits);
  };
  if (value >= top) return sign | infinity;
  while (high - low > 1) {
    u32 middle = (low + high) / 2;
    (at(middle) <= value ? low : high) = middle;
  }
  double below = value - at(low), above = at(high) - value;
  return sign | (below < above || (below == above && low % 2 == 0) ? low : high);
}
static double half(u64 bits) {
  return short_value(bits & 0xffff, 5, 10);
}
static double brain(u64 bits) {
  return short_value(bits & 0xffff, 8, 7);
}
static u64 to_half(double value) {
  return nearest_short(value, 5, 10);
}
static u64 to_brain(double value) {
  return nearest_short(value, 8, 7);
}

static std::vector<u64> integers() {
  return {0,
          1,
          2,
          3,
          7,
          31,
          32,
          33,
          63,
          64,
          255,
          256,
          0x7fff,
          0x8000,
          0xffff,
          0x12345678,
          0x7fffffff,
          0x80000000,
          0xdeadbeef,
          0xffffffff,
          0x100000000,
          0x7fffffffffffffff,
          0x8000000000000000,
          0xfedcba9876543210,
          ~0ull};
}
static std::vector<u64> floats() {
  std::vector<u64> values;
  for (float x : {0.f,   -0.f,         1.f,           -1.f,         1.5f,     2.5f,
                  -2.5f, 0.1f,         3.14159f,      1e-40f,       -1e-40f,  1e-30f,
                  1e30f, 3.4e38f,      65504.f,       65520.f,      1e-5f,    6e-8f,
                  448.f, 2147483648.f, -2147483648.f, 4294967296.f, INFINITY, -INFINITY,
                  NAN,   16777217.f,   0.333f,        -7.75f,       127.5f}) {
    values.push_back(w(x));
  }
  return values;
}
static std::vector<u64> doubles() {
  std::vector<u64> values;
  for (u64 bits : floats()) values.push_back(d(f(bits)));
  for (double x : {1.0 + 0x1p-30, 1.0 + 0x1p-24, 1e300, -1e300, 9.3e18, 1.9e19})
    values.push_back(d(x));
  return values;
}
static std::vector<u64> halves() {
  return {0,      0x8000, 1,      0x8001, 0x3ff,  0x400,  0x3c00, 0xbc00, 0x3c01, 0x4248, 0x7bff,
          0xfbff, 0x5640, 0x1234, 0x9abc, 0x6bcd, 0x3555, 0x0842, 0x3f80, 0x4049, 0x7f00, 0x2e66};
}

class SimgpuVectors : public testing::Test {
 protected:
  std::vector<u64> values_;
  void check(const std::string &opcode, const char *letters,
             std::function<u64(u64, u64, u64)> define, bool is_float = false) {
    check_vector({opcode, letters, define, is_float}, values_);
  }
};
#define DEFINE(expression)               \
  [](u64 a, u64 b, u64 c) -> u64 {       \
    (void)a, (void)b, (void)c;           \
    return static_cast<u64>(expression); \
  }

TEST_F(SimgpuVectors, IntegerArithmetic) {
  values_ = integers();
  check("add.s32", "w=ww", DEFINE(a + b));
  check("add.s64", "d=dd", DEFINE(a + b));
  check("sub.u16", "h=hh", DEFINE(a - b));
  check("mul.lo.s32", "w=ww", DEFINE(a * b));
  check("mul.hi.s32", "w=ww", DEFINE((s64)(s32)a * (s32)b >> 32));
  check("mul.hi.u32", "w=ww", DEFINE(a * b >> 32));
  check("mul.hi.u64", "d=dd", DEFINE((unsigned __int128)a * b >> 64));
  check("mul.wide.s32", "d=ww", DEFINE((s64)(s32)a * (s32)b));
  check("mul.wide.u16", "w=hh", DEFINE(a * b));
  check("mad.lo.s32", "w=www", DEFINE(a * b + c));
  check("mad.wide.u32", "d=wwd", DEFINE(a * b + c));
  check("div.u32", "w=ww", DEFINE(b ? a / b : UINT32_MAX));
  check("div.s32", "w=ww", DEFINE((s32)b ? (s64)(s32)a / (s32)b : -1));
  check("rem.s32", "w=ww", DEFINE((s32)b ? (s64)(s32)a % (s32)b : a));
  check("rem.u64", "d=dd", DEFINE(b ? a % b : a));
  check("min.s32", "w=ww", DEFINE(std::min((s32)a, (s32)b)));
  check("max.u64", "d=dd", DEFINE(std::max(a, b)));
  check("abs.s32", "w=w", DEFINE(std::llabs((s32)a)));
  check("neg.s64", "d=d", DEFINE(0 - a));
  check("sad.s32", "w=www", DEFINE(c + std::llabs((s64)(s32)a - (s32)b)));
}

TEST_F(SimgpuVectors, Bits) {
  values_ = integers();
  check("and.b32", "w=ww", DEFINE(a & b));
  check("or.b64", "d=dd", DEFINE(a | b));
  check("xor.b16", "h=hh", DEFINE(a ^ b));
  check("not.b32", "w=w", DEFINE(~a));
  check("shl.b32", "w=ww", DEFINE(b > 31 ? 0 : a << b));
  check("shl.b64", "d=dw", DEFINE(b > 63 ? 0 : a << b));
  check("shr.u32", "w=ww", DEFINE(b > 31 ? 0 : a >> b));
  check("shr.s32", "w=ww", DEFINE((s64)(s32)a >> std::min<u64>(b, 63)));
  check("shr.s64", "d=dw", DEFINE((s64)a >> std::min<u64>(b, 63)));
  check("popc.b32", "w=w", DEFINE(__builtin_popcountll(a)));
  check("clz.b64", "w=d", DEFINE(a ? __builtin_clzll(a) : 64));
  check("bfind.u32", "w=w", DEFINE(a ? 63 - __builtin_clzll(a) : -1));
  check("shf.l.wrap.b32", "w=www", DEFINE((b << 32 | a) << c % 32 >> 32));
  check("shf.r.clamp.b32", "w=www", DEFINE(c >= 32 ? b : (b << 32 | a) >> c));
  check("brev.b32", "w=w", [](u64 a, u64, u64) {
    u64 result = 0;
    for (int i = 0; i < 32; i++) result |= (a >> i & 1) << (31 - i);
    return result;
  });
  check("prmt.b32", "w=www", [](u64 a, u64 b, u64 c) {
    u64 result = 0;
    for (int i = 0; i < 4; i++) {
      u32 selector = c >> 4 * i & 15;
      int8_t byte = static_cast<int8_t>((selector & 4 ? b : a) >> 8 * (selector & 3));
      result |= static_cast<u64>(static_cast<uint8_t>(selector & 8 ? byte >> 7 : byte)) << 8 * i;
    }
    return result;
  });
  check("bfe.s32", "w=www", [](u64 a, u64 b, u64 c) {
    u64 position = b & 255, length = c & 255, result = 0;
    for (u64 i = 0; i < 32; i++) {
      u64 from = std::min<u64>({position + std::min(i, length ? length - 1 : 0), 31});
      result |= length ? (a >> from & 1) << i : 0;
    }
    return result;
  });
}

TEST_F(SimgpuVectors, SinglePrecision) {
  values_ = floats();
  auto flush = [](float x) {
    return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.f, x) : x;
  };
  check("add.f32", "w=ww", DEFINE(w(f(a) + f(b))), true);
  check("sub.rn.f32", "w=ww", DEFINE(w(f(a) - f(b))), true);
  check("mul.f32", "w=ww", DEFINE(w(f(a) * f(b))), true);
  check(
      "mul.ftz.f32", "w=ww", [&](u64 a, u64 b, u64) { return w(flush(flush(f(a)) * flush(f(b)))); },
      true);
  check("fma.rn.f32", "w=www", DEFINE(w(std::fma(f(a), f(b), f(c)))), true);
  check("add.sat.f32", "w=ww", [](u64 a, u64 b, u64) {
    float sum = f(a) + f(b);
    return w(sum != sum ? 0.f : std::min(std::max(sum, 0.f), 1.f) + 0.f);
  });
  check("div.rn.f32", "w=ww", DEFINE(w(f(a) / f(b))), true);
  check("sqrt.rn.f32", "w=w", DEFINE(w(std::sqrt(f(a)))), true);
  check(
      "min.f32", "w=ww",
      [](u64 a, u64 b, u64) {
        if (f(a) == 0 && f(b) == 0) return a | b;
        return f(a) != f(a) ? b : f(b) != f(b) ? a : f(a) < f(b) ? a : b;
      },
      true);
  check(
      "max.f32", "w=ww",
      [](u64 a, u64 b, u64) {
        if (f(a) == 0 && f(b) == 0) return a & b;
        return f(a) != f(a) ? b : f(b) != f(b) ? a : f(a) > f(b) ? a : b;
      },
      true);
  check("neg.f32", "w=w", DEFINE(a ^ 0x80000000), true);
  check("abs.f32", "w=w", DEFINE(a & 0x7fffffff), true);
  check("copysign.f32", "w=ww", DEFINE((a & 0x80000000) | (b & 0x7fffffff)), true);
  for (const char *name : {"rm", "rp", "rz"}) {
    int mode = !strcmp(name, "rm") ? FE_DOWNWARD : !strcmp(name, "rp") ? FE_UPWARD : FE_TOWARDZERO;
    check((std::string("fma.") + name + ".f32").c_str(), "w=www",
          [mode](u64 a, u64 b, u64 c) {
            fesetround(mode);
            volatile float x = f(a), y = f(b), z = f(c);
            volatile float result = std::fma(x, y, z);
            fesetround(FE_TONEAREST);
            return w(result);
          },
          true);
  }
}

TEST_F(SimgpuVectors, DoublePrecision) {
  values_ = doubles();
  check("add.f64", "d=dd", DEFINE(d(g(a) + g(b))), true);
  check("mul.f64", "d=dd", DEFINE(d(g(a) * g(b))), true);
  check("fma.rn.f64",
        "d=dd"
        "d",
        DEFINE(d(std::fma(g(a), g(b), g(c)))), true);
  check("div.rn.f64", "d=dd", DEFINE(d(g(a) / g(b))), true);
}

// 2^x is within 2^-22 of its value, as the manual promises (full range), and exact for whole x.
TEST_F(SimgpuVectors, Exponential) {
  std::vector<u32> words(32);
  for (int round = 0; round < 64; round++) {
    for (int lane = 0; lane < 32; lane++)
      words[lane] = static_cast<u32>(w((round * 32 + lane) * 0.1237f - 126));
    std::vector<u32> got = run_warp_body("ex2.approx.ftz.f32 %o0, %r0;", 1, 1, words);
    for (int lane = 0; lane < 32; lane++) {
      double wanted = std::exp2(static_cast<double>(f(words[lane])));
      if (wanted > 3.4e38) {
        EXPECT_EQ(INFINITY, f(got[lane]));
      } else {
        EXPECT_NEAR(1, f(got[lane]) / wanted, 0x1p-22) << f(words[lane]);
      }
    }
  }
  std::vector<float> edges = {-INFINITY, INFINITY, 0,    -0.f, 1,    -1,
                              127,       128,      -126, -127, -200, 1e-40f};
  std::vector<float> powers = {0, INFINITY, 1, 1, 2, 0.5f, 0x1p127f, INFINITY, 0x1p-126f, 0, 0, 1};
  for (size_t i = 0; i < edges.size(); i++) words[i] = static_cast<u32>(w(edges[i]));
  std::vector<u32> got = run_warp_body("ex2.approx.ftz.f32 %o0, %r0;", 1, 1, words);
  for (size_t i = 0; i < edges.size(); i++) EXPECT_EQ(powers[i], f(got[i])) << edges[i];
}

TEST_F(SimgpuVectors, HalfPrecision) {
  values_ = halves();
  check("add.f16", "h=hh", DEFINE(to_half(half(a) + half(b))));
  check("mul.f16", "h=hh", DEFINE(to_half(half(a) * half(b))));
  check("fma.rn.f16", "h=hhh", DEFINE(to_half((long double)half(a) * half(b) + half(c))));
  check("add.bf16", "h=hh", DEFINE(to_brain(brain(a) + brain(b))));
  check("mul.bf16", "h=hh", DEFINE(to_brain(brain(a) * brain(b))));
  check("neg.f16", "h=h", DEFINE(a ^ 0x8000));
  check("abs.bf16", "h=h", DEFINE(a & 0x7fff));
  std::vector<u64> pairs;
  for (u64 low : halves()) pairs.push_back(low | (low * 31 % 0x7000) << 16);
  values_ = pairs;
  check("add.f16x2", "w=ww",
        DEFINE(to_half(half(a) + half(b)) | to_half(half(a >> 16) + half(b >> 16)) << 16));
  check("mul.bf16x2", "w=ww",
        DEFINE(to_brain(brain(a) * brain(b)) | to_brain(brain(a >> 16) * brain(b >> 16)) << 16));
}

static u64 to_whole(double value, double low, double high) {
  if (value != value) return 0;
  value = std::nearbyint(value);
  if (value <= low) return static_cast<u64>(static_cast<s64>(low));
  if (value >= high) return high > 9e18 ? ~0ull >> (low < 0) : static_cast<u64>(high);
  return value < 0 ? static_cast<u64>(static_cast<s64>(value)) : static_cast<u64>(value);
}

TEST_F(SimgpuVectors, ConversionsFromFloats) {
  values_ = floats();
  check("cvt.rni.s32.f32", "w=w", DEFINE(to_whole(f(a), -0x1p31, 0x1p31 - 1)));
  check("cvt.rzi.s32.f32", "w=w", DEFINE(to_whole(std::trunc(f(a)), -0x1p31, 0x1p31 - 1)));
  check("cvt.rmi.s32.f32", "w=w", DEFINE(to_whole(std::floor(f(a)), -0x1p31, 0x1p31 - 1)));
  check("cvt.rzi.u32.f32", "w=w", DEFINE(to_whole(std::trunc(f(a)), 0, 0x1p32 - 1)));
  check("cvt.rzi.s64.f32", "d=w", DEFINE(to_whole(std::trunc(f(a)), -0x1p63, 0x1p63)));
  check("cvt.rn.f16.f32", "h=w", DEFINE(to_half(f(a))));
  check("cvt.rn.bf16.f32", "h=w", DEFINE(to_brain(f(a))));
  check("cvt.rn.f16x2.f32", "w=ww", DEFINE(to_half(f(b)) | to_half(f(a)) << 16));
  check("cvt.rn.bf16x2.f32", "w=ww", DEFINE(to_brain(f(b)) | to_brain(f(a)) << 16));
  check("cvt.f64.f32", "d=w", DEFINE(d(f(a))), true);
  check("cvt.rpi.f32.f32", "w=w", DEFINE(w(std::ceil(f(a)))), true);
  check("cvt.sat.f32.f32", "w=w",
        DEFINE(w(f(a) != f(a) ? 0.f : std::min(std::max(f(a), 0.f), 1.f) + 0.f)));
  values_ = doubles();
  check("cvt.rn.f32.f64", "w=d", DEFINE(w(static_cast<float>(g(a)))), true);
  check("cvt.rn.f16.f64", "h=d", DEFINE(to_half(g(a))));
}

TEST_F(SimgpuVectors, ConversionsFromIntegers) {
  values_ = integers();
  check("cvt.s64.s32", "d=w", DEFINE((s64)(s32)a));
  check("cvt.u64.u32", "d=w", DEFINE(a));
  check("cvt.u32.u64", "w=d", DEFINE(a));
  check("cvt.s32.s8", "w=w", DEFINE((s32)(int8_t)a));
  check("cvt.u32.u8", "w=w", DEFINE((uint8_t)a));
  check("cvt.sat.u8.s32", "w=w", DEFINE((s32)a < 0 ? 0 : std::min<s32>((s32)a, 255)));
  check("cvt.sat.s16.s32", "h=w", DEFINE(std::min(std::max((s32)a, -32768), 32767)));
  check("cvt.rn.f32.s32", "w=w", DEFINE(w(static_cast<float>((s32)a))));
  check("cvt.rn.f32.u64", "w=d", DEFINE(w(static_cast<float>(a))));
  check("cvt.rz.f32.u32", "w=w", [](u64 a, u64, u64) {
    fesetround(FE_TOWARDZERO);
    volatile u32 whole = static_cast<u32>(a);
    volatile float result = static_cast<float>(whole);
    fesetround(FE_TONEAREST);
    return w(result);
  });
  check("cvt.rn.f64.s64", "d=d", DEFINE(d(static_cast<double>((s64)a))));
  check("cvt.rn.f16.u32", "h=w", DEFINE(to_half(a)));
}

TEST_F(SimgpuVectors, ComparisonsKnowSignsAndNaNs) {
  values_ = integers();
  check("setp.lt.s32", "p=ww", DEFINE((s32)a < (s32)b));
  check("setp.lt.u32", "p=ww", DEFINE(a < b));
  check("setp.ge.s64", "p=dd", DEFINE((s64)a >= (s64)b));
  check("setp.ne.s16", "p=hh", DEFINE(a != b));
  check("setp.gt.and.u32", "p=wwp", DEFINE(a > b && c));
  check("setp.gt.or.u32", "p=wwp", DEFINE(a > b || c));
  check("selp.b32", "w=wwp", DEFINE(c ? a : b));
  values_ = floats();
  check("setp.lt.f32", "p=ww", DEFINE(f(a) < f(b)));
  check("setp.ltu.f32", "p=ww", DEFINE(!(f(a) >= f(b))));
  check("setp.ne.f32", "p=ww", DEFINE(f(a) < f(b) || f(a) > f(b)));
  check("setp.neu.f32", "p=ww", DEFINE(f(a) != f(b)));
  check("setp.equ.f32", "p=ww", DEFINE(!(f(a) < f(b)) && !(f(a) > f(b))));
  check("setp.num.f32", "p=ww", DEFINE(f(a) == f(a) && f(b) == f(b)));
  check("setp.nan.f32", "p=ww", DEFINE(f(a) != f(a) || f(b) != f(b)));
}

// The processor rounds as it is told to.
template <typename F>
static auto rounded(int mode, F compute) {
  fesetround(mode);
  auto result = compute();
  fesetround(FE_TONEAREST);
  return result;
}

TEST_F(SimgpuVectors, RoundsInEachDirection) {
  const struct {
    const char *name;
    int mode;
  } directions[] = {{"rm", FE_DOWNWARD}, {"rp", FE_UPWARD}, {"rz", FE_TOWARDZERO}};
  for (const auto &direction : directions) {
    const int mode = direction.mode;
    auto f32 = [&](const char *name, const char *letters, float (*compute)(float, float, float)) {
      check(
          std::string(name) + "." + direction.name + ".f32", letters,
          [=](u64 a, u64 b, u64 c) {
            return w(rounded(mode, [&] { return compute(f(a), f(b), f(c)); }));
          },
          true);
    };
    auto f64 = [&](const char *name, const char *letters,
                   double (*compute)(double, double, double)) {
      check(
          std::string(name) + "." + direction.name + ".f64", letters,
          [=](u64 a, u64 b, u64 c) {
            return d(rounded(mode, [&] { return compute(g(a), g(b), g(c)); }));
          },
          true);
    };
    values_ = floats();
    f32("add", "w=ww", [](float a, float b, float) {
      volatile float x = a, y = x + b;
      return +y;
    });
    f32("sub", "w=ww", [](float a, float b, float) {
      volatile float x = a, y = x - b;
      return +y;
    });
    f32("mul", "w=ww", [](float a, float b, float) {
      volatile float x = a, y = x * b;
      return +y;
    });
    f32("div", "w=ww", [](float a, float b, float) {
      volatile float x = a, y = x / b;
      return +y;
    });
    f32("fma", "w=www", [](float a, float b, float c) { return std::fma(a, b, c); });
    f32("rcp", "w=w", [](float a, float, float) {
      volatile float x = a, y = 1 / x;
      return +y;
    });
    f32("sqrt", "w=w", [](float a, float, float) {
      volatile float x = a, y = std::sqrt(x);
      return +y;
    });
    check(
        std::string("add.") + direction.name + ".ftz.f32", "w=ww",
        [=](u64 a, u64 b, u64) {
          auto flushed = [](float x) {
            return std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x;
          };
          float x = flushed(f(a)), y = flushed(f(b));
          return w(flushed(rounded(mode, [&] {
            volatile float z = x, sum = z + y;
            return +sum;
          })));
        },
        true);
    values_ = doubles();
    f64("add", "d=dd", [](double a, double b, double) {
      volatile double x = a, y = x + b;
      return +y;
    });
    f64("mul", "d=dd", [](double a, double b, double) {
      volatile double x = a, y = x * b;
      return +y;
    });
    f64("div", "d=dd", [](double a, double b, double) {
      volatile double x = a, y = x / b;
      return +y;
    });
    f64("fma", "d=ddd", [](double a, double b, double c) { return std::fma(a, b, c); });
  }
}

TEST_F(SimgpuVectors, SetsOnesOrAllBits) {
  values_ = integers();
  check("set.lt.u32.s32", "w=ww", DEFINE((s32)a < (s32)b ? UINT32_MAX : 0));
  check("set.hs.f32.u32", "w=ww", DEFINE(w(a >= b ? 1.0f : 0.0f)));
  check("set.eq.xor.s32.u32", "w=wwp", DEFINE((a == b) != (c != 0) ? UINT32_MAX : 0));
  values_ = floats();
  check("set.le.f32.f32", "w=ww", DEFINE(w(f(a) <= f(b) ? 1.0f : 0.0f)));
  check("set.ne.u32.f32", "w=ww", DEFINE(f(a) < f(b) || f(a) > f(b) ? UINT32_MAX : 0));
  check("set.nan.u32.f32", "w=ww", DEFINE(f(a) != f(a) || f(b) != f(b) ? UINT32_MAX : 0));
  check("set.gt.ftz.u32.f32", "w=ww",
        DEFINE((std::fabs(f(a)) < 0x1p-126f ? 0 : f(a)) > (std::fabs(f(b)) < 0x1p-126f ? 0 : f(b))
                   ? UINT32_MAX
                   : 0));
}

TEST_F(SimgpuVectors, SetsEachHalfOfAPair) {
  values_ = {0x3c00bc00, 0xbc003c00, 0x00007e00, 0x7c007c00, 0x80000000, 0x00013c00, 0x42004200};
  const struct {
    const char *type;
    int exponent, mantissa;
    u64 one;
  } types[] = {{"f16x2", 5, 10, 0x3c00}, {"bf16x2", 8, 7, 0x3f80}};
  for (const auto &type : types) {
    auto both = [=](u64 a, u64 b, u64 one, bool (*holds)(double, double)) {
      u64 result = 0;
      for (int i = 0; i < 2; i++) {
        double x = short_value(a >> 16 * i & 0xffff, type.exponent, type.mantissa);
        double y = short_value(b >> 16 * i & 0xffff, type.exponent, type.mantissa);
        if (holds(x, y)) result |= one << 16 * i;
      }
      return result;
    };
    const std::string name = type.type;
    check("set.lt." + name + "." + name, "w=ww", [=](u64 a, u64 b, u64) {
      return both(a, b, type.one, [](double x, double y) { return x < y; });
    });
    check("set.geu.u32." + name, "w=ww", [=](u64 a, u64 b, u64) {
      return both(a, b, 0xffff, [](double x, double y) { return !(x < y); });
    });
    check("set.ne.and.u32." + name, "w=wwp", [=](u64 a, u64 b, u64 c) {
      return both(a, b, c ? 0xffff : 0, [](double x, double y) { return x < y || x > y; });
    });
  }
}

TEST_F(SimgpuVectors, PairsOfShortIntegersAndVideo) {
  values_ = integers();
  auto pairs = [](u64 a, u64 b, u32 (*combine)(u32, u32)) {
    return static_cast<u64>((combine(a & 0xffff, b & 0xffff) & 0xffff) |
                            combine(a >> 16 & 0xffff, b >> 16 & 0xffff) << 16);
  };
  check("min.u16x2", "w=ww", [=](u64 a, u64 b, u64) {
    return pairs(a, b, [](u32 x, u32 y) { return std::min(x, y); });
  });
  check("max.s16x2", "w=ww", [=](u64 a, u64 b, u64) {
    return pairs(a, b, [](u32 x, u32 y) {
      return static_cast<u32>(std::max(static_cast<int16_t>(x), static_cast<int16_t>(y)));
    });
  });
  check("add.u16x2", "w=ww",
        [=](u64 a, u64 b, u64) { return pairs(a, b, [](u32 x, u32 y) { return x + y; }); });
  auto differences = [](u64 a, u64 b, u64 c, bool sums) {
    u64 result = 0;
    for (int i = 0; i < 32; i += 8) {
      u64 x = a >> i & 0xff, y = b >> i & 0xff, difference = x > y ? x - y : y - x;
      result += sums ? difference : difference << i;
    }
    return sums ? result + c : result;
  };
  check("vabsdiff4.u32.u32.u32", "w=www",
        [=](u64 a, u64 b, u64 c) { return differences(a, b, c, false); });
  check("vabsdiff4.u32.u32.u32.add", "w=www",
        [=](u64 a, u64 b, u64 c) { return differences(a, b, c, true); });
}

// formats.cc - see formats.h. A float format is four numbers; everything else follows from them.
#include "tests/support/formats.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace fovea_test {
namespace {

struct Format {
  const char *name;
  size_t bytes;
  int exponent_bits;  // 0: an integer
  int mantissa_bits;
  bool has_infinity;  // e4m3 spends those codes on numbers
};

const Format kFormats[] = {
    {"none", 0, 0, 0, false},  {"f32", 4, 8, 23, true},  {"f16", 2, 5, 10, true},
    {"bf16", 2, 8, 7, true},   {"e4m3", 1, 4, 3, false}, {"e5m2", 1, 5, 2, true},
    {"i8", 1, 0, 7, false},    {"u8", 1, 0, 8, false},   {"q8_0", 34, 0, 7, false},
    {"q4_0", 18, 0, 3, false},
};

const Format &format_of(uint32_t dtype) {
  return kFormats[dtype <= FOVEA_Q4_0 ? dtype : 0];
}

int bias_of(const Format &f) {
  return (1 << (f.exponent_bits - 1)) - 1;
}
int lowest_exponent(const Format &f) {
  return 1 - bias_of(f);
}

// e4m3 uses its top binade except for the last mantissa code. The IEEE formats do not use theirs.
int highest_exponent(const Format &f) {
  return bias_of(f) + (f.has_infinity ? 0 : 1);
}

uint32_t nan_bits(const Format &f) {
  const uint32_t all = (1u << (f.exponent_bits + f.mantissa_bits)) - 1u;
  if (!f.has_infinity) return all;
  return all & ~((1u << (f.mantissa_bits - 1)) - 1u);  // quiet: only the top mantissa bit
}

uint32_t infinity_bits(const Format &f) {
  return ((1u << f.exponent_bits) - 1u) << f.mantissa_bits;
}

double largest_of(const Format &f) {
  const double steps = std::ldexp(2.0, f.mantissa_bits) - (f.has_infinity ? 1.0 : 2.0);
  return std::ldexp(steps, highest_exponent(f) - f.mantissa_bits);
}

uint32_t encode_integer(uint32_t dtype, double value) {
  const double low = dtype == FOVEA_I8 ? -128.0 : 0.0;
  const double high = dtype == FOVEA_I8 ? 127.0 : 255.0;
  if (std::isnan(value)) return 0;
  const double whole = std::nearbyint(std::fmin(std::fmax(value, low), high));
  return static_cast<uint32_t>(static_cast<int32_t>(whole)) & 0xffu;
}

}  // namespace

size_t size_of(uint32_t dtype) {
  return format_of(dtype).bytes;
}
int64_t block_of(uint32_t dtype) {
  return dtype == FOVEA_Q8_0 || dtype == FOVEA_Q4_0 ? 32 : 1;
}
size_t bytes_of(uint32_t dtype, int64_t elements) {
  return static_cast<size_t>(elements / block_of(dtype)) * size_of(dtype);
}
const char *name_of(uint32_t dtype) {
  return format_of(dtype).name;
}

double decode(uint32_t dtype, uint32_t bits) {
  const Format &f = format_of(dtype);
  if (dtype == FOVEA_U8) return static_cast<double>(bits & 0xffu);
  if (dtype == FOVEA_I8)
    return (bits & 0x80u) != 0 ? static_cast<double>(bits & 0xffu) - 256.0
                               : static_cast<double>(bits & 0xffu);
  const uint32_t mantissa = bits & ((1u << f.mantissa_bits) - 1u);
  const uint32_t exponent = (bits >> f.mantissa_bits) & ((1u << f.exponent_bits) - 1u);
  const bool negative = ((bits >> (f.mantissa_bits + f.exponent_bits)) & 1u) != 0;
  const uint32_t top = (1u << f.exponent_bits) - 1u;
  double magnitude;
  if (f.has_infinity && exponent == top) {
    magnitude = mantissa == 0 ? std::numeric_limits<double>::infinity()
                              : std::numeric_limits<double>::quiet_NaN();
  } else if (!f.has_infinity && (bits & nan_bits(f)) == nan_bits(f)) {
    magnitude = std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    magnitude = std::ldexp(static_cast<double>(mantissa), lowest_exponent(f) - f.mantissa_bits);
  } else {
    const double significand = static_cast<double>(mantissa | (1u << f.mantissa_bits));
    magnitude = std::ldexp(significand, static_cast<int>(exponent) - bias_of(f) - f.mantissa_bits);
  }
  return negative ? -magnitude : magnitude;
}

uint32_t encode(uint32_t dtype, double value) {
  const Format &f = format_of(dtype);
  if (f.exponent_bits == 0) return encode_integer(dtype, value);
  const uint32_t sign = std::signbit(value) ? 1u << (f.exponent_bits + f.mantissa_bits) : 0u;
  if (std::isnan(value)) return nan_bits(f);
  const double rounded = std::fabs(round_to(dtype, value));
  if (std::isinf(rounded)) return sign | infinity_bits(f);
  int exponent = 0;
  std::frexp(rounded, &exponent);  // rounded = m * 2^exponent with m in [1/2, 1)
  exponent -= 1;
  const int lowest = lowest_exponent(f);
  const bool subnormal = rounded == 0.0 || exponent < lowest;
  const double steps = std::ldexp(rounded, f.mantissa_bits - (subnormal ? lowest : exponent));
  const uint32_t whole = static_cast<uint32_t>(steps);
  if (subnormal) return sign | whole;
  const uint32_t field = static_cast<uint32_t>(exponent + bias_of(f)) << f.mantissa_bits;
  return sign | field | (whole & ((1u << f.mantissa_bits) - 1u));
}

uint32_t load_bits(uint32_t dtype, const void *element) {
  uint32_t bits = 0;  // every host this runs on is little-endian
  std::memcpy(&bits, element, size_of(dtype));
  return bits;
}

void store_bits(uint32_t dtype, void *element, uint32_t bits) {
  std::memcpy(element, &bits, size_of(dtype));
}

double load(uint32_t dtype, const void *element) {
  return decode(dtype, load_bits(dtype, element));
}

int code_in_block(uint32_t dtype, const void *block, int64_t d) {
  const auto *bytes = static_cast<const uint8_t *>(block) + 2;
  if (dtype == FOVEA_Q8_0) return static_cast<int8_t>(bytes[d]);
  return (d < 16 ? bytes[d] % 16 : bytes[d - 16] / 16) - 8;
}

double load_in_block(uint32_t dtype, const void *block, int64_t d) {
  return load(FOVEA_F16, block) * code_in_block(dtype, block, d);
}

void store_in_block(uint32_t dtype, void *block, int64_t d, double scale, double value) {
  auto *bytes = static_cast<uint8_t *>(block) + 2;
  store_bits(FOVEA_F16, block, encode(FOVEA_F16, scale));
  const double steps = value / load(FOVEA_F16, block);
  if (dtype == FOVEA_Q8_0) {
    bytes[d] = static_cast<uint8_t>(encode(FOVEA_I8, steps));
    return;
  }
  const int code = static_cast<int>(std::nearbyint(std::fmin(std::fmax(steps, -8.0), 7.0))) + 8;
  uint8_t &byte = bytes[d % 16];
  byte = static_cast<uint8_t>(d < 16 ? byte / 16 * 16 + code : byte % 16 + 16 * code);
}

void poison(uint32_t dtype, void *data, int64_t elements) {
  auto *at = static_cast<uint8_t *>(data);
  const size_t width = size_of(dtype), bytes = bytes_of(dtype, elements);
  for (size_t n = 0; n < bytes; n += width) {
    if (block_of(dtype) == 1) {
      store_bits(dtype, at + n, poison_bits(dtype));
    } else {
      std::memset(at + n, 0x88, width);
      store_bits(FOVEA_F16, at + n, poison_bits(FOVEA_F16));
    }
  }
}

uint32_t poison_bits(uint32_t dtype) {
  if (dtype == FOVEA_I8) return 0x80u;
  if (dtype == FOVEA_U8) return 0xffu;
  return nan_bits(format_of(dtype));
}

double unit_roundoff(uint32_t dtype) {
  return std::ldexp(1.0, -format_of(dtype).mantissa_bits - 1);
}

// A row's largest probability is stored as 2^11 or more in f16, which ends at 2^16, and as 2^-4 or
// more in bf16, where what is below 2^-126 is 0.
double half_step_of_weights(uint32_t dtype) {
  return dtype == FOVEA_F16 ? 0x1p-36 : dtype == FOVEA_BF16 ? 0x1p-122 : half_step(dtype);
}

double half_step(uint32_t dtype) {
  const Format &f = format_of(dtype);
  return std::ldexp(1.0, lowest_exponent(f) - f.mantissa_bits - 1);
}

double largest(uint32_t dtype) {
  return largest_of(format_of(dtype));
}

double round_to(uint32_t dtype, double value) {
  const Format &f = format_of(dtype);
  if (std::isnan(value) || value == 0.0) return value;
  const bool saturates = f.bytes == 1;
  const double top = largest_of(f);
  if (std::isinf(value)) return saturates ? std::copysign(top, value) : value;
  const double quantum = ulp(dtype, value);
  const double rounded = std::nearbyint(value / quantum) * quantum;
  if (std::fabs(rounded) <= top) return rounded;
  return std::copysign(saturates ? top : std::numeric_limits<double>::infinity(), value);
}

double ulp(uint32_t dtype, double value) {
  const Format &f = format_of(dtype);
  int exponent = lowest_exponent(f);
  if (value != 0.0 && std::isfinite(value)) {
    int own = 0;
    std::frexp(value, &own);
    if (own - 1 > exponent) exponent = own - 1;
  }
  return std::ldexp(1.0, exponent - f.mantissa_bits);
}

}  // namespace fovea_test

// Number formats by their fields, in slow and plain arithmetic. The simulator has code of its own,
// which works on bits.
#ifndef FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_NUMBER_H
#define FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_NUMBER_H

#include <stdint.h>

enum number {
  NUMBER_S32,
  NUMBER_U8,
  NUMBER_S8,
  NUMBER_F16,
  NUMBER_BF16,
  NUMBER_TF32,
  NUMBER_F32,
  NUMBER_E4M3,
  NUMBER_E5M2,
  NUMBER_COUNT
};

// Bits that a number of the type takes in a register; tf32 takes 32.
int number_bits(enum number type);
int number_mantissa_bits(enum number type);
double number_decode(enum number type, uint32_t code);
// Rounds to nearest even. A value too large becomes infinity. In e4m3 and e5m2, which only
// .satfinite converts to, it becomes the largest value.
uint32_t number_encode(enum number type, long double value);
uint32_t number_encode_to_zero(enum number type, long double value);
// a * b + c, rounded once.
uint32_t number_fma(enum number type, double a, double b, double c);

#endif /* FOVEA_TESTS_SIMGPU_CONFORMANCE_CONFORMANCE_NUMBER_H */

// formats.h - the number formats of the header, written a second time for the tests.
//
// Decoding and rounding use ldexp and nearbyint on doubles, field by field, so they share no trick
// with the library's conversions.
#ifndef FOVEA_TESTS_SUPPORT_FORMATS_H
#define FOVEA_TESTS_SUPPORT_FORMATS_H

#include <fovea.h>

#include <cstdint>
#include <string>

namespace fovea_test {

size_t size_of(uint32_t dtype);
const char *name_of(uint32_t dtype);

// The bits of one element (in the low bytes of a word) and back.
double decode(uint32_t dtype, uint32_t bits);
// Rounds to nearest even. Past the largest, f32, f16 and bf16 become infinity; others saturate.
uint32_t encode(uint32_t dtype, double value);

uint32_t load_bits(uint32_t dtype, const void *element);
void store_bits(uint32_t dtype, void *element, uint32_t bits);
double load(uint32_t dtype, const void *element);

// A pattern that spoils every sum it enters: NaN, the lowest number in i8, or 255 in u8.
uint32_t poison_bits(uint32_t dtype);

double unit_roundoff(uint32_t dtype);  // 2^-(digits): relative error of one rounding
double half_step(uint32_t dtype);      // absolute error of one rounding below the normal range
double half_step_of_weights(uint32_t dtype);  // of a probability, relative to the largest
double largest(uint32_t dtype);
double round_to(uint32_t dtype, double value);
double ulp(uint32_t dtype, double value);  // distance of the neighbours around value

}  // namespace fovea_test

#endif  // FOVEA_TESTS_SUPPORT_FORMATS_H

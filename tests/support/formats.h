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

size_t size_of(uint32_t dtype);                     // of an element, or of a block of q8_0 and q4_0
int64_t block_of(uint32_t dtype);                   // elements of a block; 1: there are no blocks
size_t bytes_of(uint32_t dtype, int64_t elements);  // whole blocks
const char *name_of(uint32_t dtype);

// The bits of one element (in the low bytes of a word) and back.
double decode(uint32_t dtype, uint32_t bits);
// Rounds to nearest even. Past the largest, f32, f16 and bf16 become infinity; others saturate.
uint32_t encode(uint32_t dtype, double value);

uint32_t load_bits(uint32_t dtype, const void *element);
void store_bits(uint32_t dtype, void *element, uint32_t bits);
double load(uint32_t dtype, const void *element);

// Element d of a block of q8_0 or q4_0, of 0 to 31.
double load_in_block(uint32_t dtype, const void *block, int64_t d);
// Stores the scale, rounded to f16, and the element nearest to the value. The other elements stay.
void store_in_block(uint32_t dtype, void *block, int64_t d, double scale, double value);
// The number that an element is a multiple of its scale by.
int code_in_block(uint32_t dtype, const void *block, int64_t d);
// Fills memory with poison_bits; a block of it has a scale of NaN.
void poison(uint32_t dtype, void *data, int64_t elements);

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

/* utf8.h - code points in and out of UTF-8, strictly.
 *
 * Ill-formed means what Unicode's table 3-7 says: overlong forms, surrogates, values above
 * U+10FFFF, stray or missing continuation bytes. A lenient decoder would take two spellings of one
 * name for different keys. */
#ifndef FOVEA_CLI_FILES_UTF8_H
#define FOVEA_CLI_FILES_UTF8_H

#include <stdint.h>

enum { FV_UTF8_MAX_BYTES = 4 };

/* Reads one code point from at[0 .. size), size >= 1. Returns its length in bytes, 1 to 4, or 0 if
 * it is ill-formed. */
uint32_t fv_utf8_decode(const uint8_t *at, uint64_t size, uint32_t *code);

/* Writes one code point, which must be a scalar value. Returns its length in bytes, 1 to 4. */
uint32_t fv_utf8_encode(uint32_t code, uint8_t out[FV_UTF8_MAX_BYTES]);

#endif /* FOVEA_CLI_FILES_UTF8_H */

/* flag_value.h - values that come as text, from the command line or from a file's metadata. Both
 * follow the same rules. Nothing here depends on the locale, and nothing is skipped: no blanks, no
 * "0x", no "inf". */
#ifndef FOVEA_CLI_FLAG_VALUE_H
#define FOVEA_CLI_FLAG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A finite decimal number. A number too small for a float is refused: it would become 0, and 0 has
 * a meaning of its own. */
bool fv_parse_number(const char *text, float *value);

/* A number without a sign, low <= value <= high. */
bool fv_parse_count(const char *text, int64_t low, int64_t high, int64_t *value);

/* "L,R", each from -1 (no limit) to 2^31 - 1. */
bool fv_parse_window(const char *text, int32_t *left, int32_t *right);

/* "auto", "cpu", "reference" or "cuda". */
const char *fv_device_name(uint32_t device);

/* One of those, or "cuda:N". */
bool fv_parse_device(const char *text, uint32_t *device, int32_t *ordinal);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_FLAG_VALUE_H */

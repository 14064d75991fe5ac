/* flag_value.c - see flag_value.h. */
#include "cli/flag_value.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <fovea.h>

/* The alphabet is checked first: strtod alone would take blanks, "0x10", "inf" and "nan". */
static bool consists_of(const char *text, const char *alphabet) {
  return *text && strspn(text, alphabet) == strlen(text);
}

bool fv_parse_number(const char *text, float *value) {
  char *end;
  if (!consists_of(text, "+-.0123456789eE")) return false;
  double parsed = strtod(text, &end);
  *value = (float)parsed;
  return !*end && isfinite(*value) && (*value != 0) == (parsed != 0);
}

bool fv_parse_count(const char *text, int64_t low, int64_t high, int64_t *value) {
  if (!consists_of(text, "0123456789")) return false;
  errno = 0;
  long long parsed = strtoll(text, NULL, 10);
  *value = parsed;
  return !errno && parsed >= low && parsed <= high;
}

/* One side of a window, up to `stop`; returns what follows it, or NULL. */
static const char *parse_side(const char *text, char stop, int32_t *count) {
  char *end;
  if (*text != '-' && (*text < '0' || *text > '9')) return NULL;
  errno = 0;
  long parsed = strtol(text, &end, 10);
  if (end == text || *end != stop || errno || parsed < -1 || parsed > INT32_MAX) return NULL;
  *count = (int32_t)parsed;
  return end + 1;
}

bool fv_parse_window(const char *text, int32_t *left, int32_t *right) {
  const char *second = parse_side(text, ',', left);
  return second && parse_side(second, '\0', right);
}

static const char *const device_names[] = {[FOVEA_DEVICE_AUTO] = "auto",
                                           [FOVEA_DEVICE_CPU] = "cpu",
                                           [FOVEA_DEVICE_REFERENCE] = "reference",
                                           [FOVEA_DEVICE_CUDA] = "cuda"};

const char *fv_device_name(uint32_t device) {
  return device_names[device];
}

bool fv_parse_device(const char *text, uint32_t *device, int32_t *ordinal) {
  int64_t number;
  *ordinal = 0;
  for (uint32_t i = 0; i < sizeof device_names / sizeof device_names[0]; ++i) {
    if (strcmp(text, device_names[i])) continue;
    *device = i;
    return true;
  }
  if (strncmp(text, "cuda:", 5) || !fv_parse_count(text + 5, 0, 9999, &number)) return false;
  *device = FOVEA_DEVICE_CUDA;
  *ordinal = (int32_t)number;
  return true;
}

/* text.c - see text.h. */
#include "bench/report/text.h"

#include <stdio.h>

/* Three digits: "1.23", "12.3", "123". Thousands of the last unit keep all their digits. A value
 * that rounds up to the next digit is printed as that. */
static void print_three(double value, const char *unit, char *text, size_t bytes) {
  int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  snprintf(text, bytes, "%.*f %s", decimals, value, unit);
}

void fv_bench_text_time(double seconds, char *text, size_t bytes) {
  if (seconds < 999.5e-6) {
    print_three(1e6 * seconds, "us", text, bytes);
  } else if (seconds < 999.5e-3) {
    print_three(1e3 * seconds, "ms", text, bytes);
  } else {
    print_three(seconds, "s", text, bytes);
  }
}

void fv_bench_text_bytes(double count, char *text, size_t bytes) {
  static const char *const units[] = {"KiB", "MiB", "GiB"};
  int unit = 0;
  double value = count / 1024;
  for (; unit < 2 && value >= 999.5; ++unit) value /= 1024;
  print_three(value, units[unit], text, bytes);
}

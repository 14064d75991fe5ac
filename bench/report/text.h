/* text.h - quantities for people: three digits and a unit. */
#ifndef FOVEA_BENCH_REPORT_TEXT_H
#define FOVEA_BENCH_REPORT_TEXT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

void fv_bench_text_time(double seconds, char *text, size_t bytes); /* "1.23 ms" */
void fv_bench_text_bytes(double count, char *text, size_t bytes);  /* "1.23 MiB" */

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_REPORT_TEXT_H */

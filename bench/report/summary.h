/* summary.h - a report without its repetitions. It is small enough to be committed, and serves
 * tables, pages and plots as well as the report does. */
#ifndef FOVEA_BENCH_REPORT_SUMMARY_H
#define FOVEA_BENCH_REPORT_SUMMARY_H

#include <stdio.h>

#include "bench/report/result.h"

#ifdef __cplusplus
extern "C" {
#endif

/* JSON: "context", as in the report; "columns", the names of a row's values; "rows", one per line.
 * A skipped row has its name and the reason. fv_bench_result_read reads it back. */
void fv_bench_summary_print(const fv_bench_result *result, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_REPORT_SUMMARY_H */

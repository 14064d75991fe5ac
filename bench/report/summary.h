/* summary.h - a report without its repetitions: small enough to be committed, and as good for
 * tables, pages and plots. */
#ifndef FV_BENCH_SUMMARY_H
#define FV_BENCH_SUMMARY_H

#include <stdio.h>

#include "bench/report/result.h"

#ifdef __cplusplus
extern "C" {
#endif

/* JSON: "context", as the report has it; "columns", the names of a row's values; "rows", one per
 * line. A row that was skipped has its name and the reason. fv_bench_result_read reads it back. */
void fv_bench_summary_print(const fv_bench_result *result, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif /* FV_BENCH_SUMMARY_H */

/* table.h - a report as text: a table for the terminal, a page of Markdown. */
#ifndef FOVEA_BENCH_REPORT_TABLE_H
#define FOVEA_BENCH_REPORT_TABLE_H

#include <stdio.h>

#include "bench/report/result.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One line per problem; problems of one kind, dtype, mask, heads and dim stand together. */
void fv_bench_table_print(const fv_bench_result *result, FILE *stream);

/* The parts that a page has too: the lines on the machine, and the tables as Markdown. */
void fv_bench_machine_print(const fv_bench_result *result, FILE *stream);
void fv_bench_groups_print(const fv_bench_result *result, FILE *stream);

/* docs/performance.md (report/page.c). `folder` is where the report and its plots lie, as seen from
 * the page. */
void fv_bench_page_print(const fv_bench_result *result, const char *folder, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_REPORT_TABLE_H */

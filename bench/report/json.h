/* json.h - writes timings as Google Benchmark's JSON, with Google Benchmark's own reporter. */
#ifndef FOVEA_BENCH_REPORT_JSON_H
#define FOVEA_BENCH_REPORT_JSON_H

#include "bench/measure/rounds.h"
#include "bench/problem/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_bench_json fv_bench_json;

fv_bench_json *fv_bench_json_open(void);
void fv_bench_json_close(fv_bench_json *json);

/* A line of the context: what was run, on what. */
void fv_bench_json_context(fv_bench_json *json, const char *key, const char *value);

/* All repetitions of a contestant. */
void fv_bench_json_row(fv_bench_json *json, const fv_bench_row_key *key,
                       const fv_bench_contestant *contestant, int repetitions);

/* A row that was not timed, and why. */
void fv_bench_json_skipped(fv_bench_json *json, const fv_bench_row_key *key, const char *why);

/* Writes the report beside `path` and renames it, so that there is a whole file or none. False:
 * errno. */
bool fv_bench_json_write(fv_bench_json *json, const char *path);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_REPORT_JSON_H */

/* result.h - a report read back: rows, medians, spreads, speed-ups, shares of the peak.
 *
 * Everything that tables, pages and plots show is computed here, from the JSON alone. The JSON is a
 * report with every repetition, or its summary (report/summary.h), which gives the same results. */
#ifndef FOVEA_BENCH_REPORT_RESULT_H
#define FOVEA_BENCH_REPORT_RESULT_H

#include <stddef.h>

#include "bench/problem/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_bench_row {
  fv_bench_row_key key;
  size_t order;       /* of its first mention in the file */
  double *seconds;    /* of each repetition, sorted; NULL: read from a summary */
  size_t repetitions; /* 0: it was skipped */
  double median;
  double spread;                   /* half the distance of the quartiles, as a part of the median */
  double flops, bytes, peak_bytes; /* of one run; 0: not said */
  char skipped[160];               /* why; "" if it was not */
} fv_bench_row;

typedef struct fv_bench_entry { /* of the context */
  char *key, *value;
} fv_bench_entry;

typedef struct fv_bench_result {
  fv_bench_row *rows;
  size_t row_count;
  fv_bench_entry *context;
  size_t context_count;
} fv_bench_result;

/* False: the file cannot be read or is not such a report; `error` says what is wrong. */
bool fv_bench_result_read(fv_bench_result *result, const char *path, char *error,
                          size_t error_bytes);
void fv_bench_result_free(fv_bench_result *result);

/* The value of a line of the context; "unknown" if there is no such line. */
const char *fv_bench_result_context(const fv_bench_result *result, const char *key);

/* NULL: there is no such row. */
const fv_bench_row *fv_bench_result_find(const fv_bench_result *result, const char *device,
                                         const char *pipeline, const fv_bench_problem *problem);

/* The middle value of sorted numbers, or the mean of the middle two. */
double fv_bench_median(const double *sorted, size_t count);
/* Half the distance of the quartiles, as a part of the median. The quartiles are those of Tukey's
 * box: the medians of the lower and the upper half, which both contain the middle value. */
double fv_bench_spread(const double *sorted, size_t count);

/* How many times as fast fovea is. A row is compared with the fovea row of its own process: a
 * peer's row with "fovea@torch", other rows with "fovea". 0 if either was not timed. */
double fv_bench_speedup(const fv_bench_result *result, const fv_bench_row *other);

/* A row's products and sums per second, as a part of the machine's in the same rounds. For
 * decoding: bytes of keys and values per second, likewise. 0: not measured. */
double fv_bench_share_of_peak(const fv_bench_result *result, const fv_bench_row *row);
double fv_bench_share_of_read(const fv_bench_result *result, const fv_bench_row *row);

/* The machine's products and sums per second, over all problems. Those shares are parts of it. */
typedef struct fv_bench_peaks {
  size_t count; /* of problems; 0: it was not measured */
  double low, median, high;
} fv_bench_peaks;

/* False: out of memory. */
bool fv_bench_result_peaks(const fv_bench_result *result, fv_bench_peaks *peaks);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_REPORT_RESULT_H */

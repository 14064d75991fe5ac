/* plot.h - a report as pictures: time and speed-up over length. */
#ifndef FOVEA_BENCH_REPORT_PLOT_H
#define FOVEA_BENCH_REPORT_PLOT_H

#include "bench/report/result.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One picture: the problems of a kind, a dtype and a ratio of heads, with a panel per dim and mask
 * (or state of the cache). Mixed batches have none: their time is that of a chunk and of many
 * lengths. */
typedef struct fv_bench_picture {
  fv_bench_kind kind;
  fovea_dtype dtype;
  int64_t group; /* query heads per kv head */
  bool speedup;  /* else time */
} fv_bench_picture;

enum { FV_BENCH_PICTURES_MAX = 48, FV_BENCH_PICTURES_SHOWN = 6, FV_BENCH_PICTURE_NAME = 64 };

/* Fills in the pictures that the report has data for; returns how many. */
int fv_bench_plot_pictures(const fv_bench_result *result,
                           fv_bench_picture pictures[FV_BENCH_PICTURES_MAX]);

/* Fills in those that a page shows; returns how many. Per kind these have the last dtype and the
 * most query heads per kv head: bf16 in groups, as models have it. */
int fv_bench_plot_shown(const fv_bench_result *result,
                        fv_bench_picture shown[FV_BENCH_PICTURES_SHOWN]);

/* "prefill-f32-time", "paged-bf16-group4-speedup": the name of its files, without an extension. */
void fv_bench_plot_name(const fv_bench_picture *picture, char name[FV_BENCH_PICTURE_NAME]);

/* Writes what the picture shows, for people. */
void fv_bench_plot_title(const fv_bench_picture *picture, char *title, size_t bytes);

/* Draws all pictures into a folder, as PNG and SVG. False: `error` names the file that was not
 * writable. */
bool fv_bench_plot_all(const fv_bench_result *result, const char *folder, char *error,
                       size_t error_bytes);

/* The first of 1, 2, 5, 10, 20, ... at or above value: the top of an axis that begins at 0. */
double fv_bench_plot_ceiling(double value);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_REPORT_PLOT_H */

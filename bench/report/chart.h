/* chart.h - a grid of line charts with one legend and the same axes, painted by Cairo. */
#ifndef FOVEA_BENCH_REPORT_CHART_H
#define FOVEA_BENCH_REPORT_CHART_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  FV_BENCH_POINTS_MAX = 16,
  FV_BENCH_SERIES_MAX = 5,
  FV_BENCH_ACROSS_MAX = 6,
  FV_BENCH_PANELS_MAX = 2 * FV_BENCH_ACROSS_MAX
};

typedef struct fv_bench_series {
  const char *label;
  uint32_t rgb;
  int count;
  double x[FV_BENCH_POINTS_MAX], y[FV_BENCH_POINTS_MAX]; /* x rises */
} fv_bench_series;

typedef struct fv_bench_panel {
  char title[64];
  int count; /* 0: the panel is left empty */
  fv_bench_series series[FV_BENCH_SERIES_MAX];
} fv_bench_panel;

typedef struct fv_bench_chart {
  char title[160], subtitle[256];
  const char *x_label;
  bool log_y; /* seconds, logarithmic; else a ratio, linear from 0 with a line at 1 */
  double x_low, x_high, y_low, y_high; /* x is logarithmic */
  int across, down;
  fv_bench_panel panels[FV_BENCH_PANELS_MAX]; /* line by line */
} fv_bench_chart;

/* Writes PNG, with two pixels per unit, or SVG, beside `path` and renames it. Returns NULL, or what
 * is wrong. */
const char *fv_bench_chart_write(const fv_bench_chart *chart, const char *path, bool svg);

/* Frees what Cairo and fontconfig keep for the next chart, so that a leak checker reports our leaks
 * alone. No surface may be open. */
void fv_bench_chart_release(void);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_REPORT_CHART_H */

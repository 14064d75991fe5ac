/* plot.c - see plot.h: which pictures there are, and what each contains.
 *
 * Lengths double from one to the next, so the axis of lengths is logarithmic. The axis of time is
 * logarithmic too: a constant distance means a constant ratio of speed. Speed-ups are linear from
 * 0, with a line at 1: in no picture does a loss look like a gain. */
#include "bench/report/plot.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/report/chart.h"

static bool is_of(const fv_bench_picture *picture, const fv_bench_problem *p) {
  return p->kind == picture->kind && p->dtype == picture->dtype &&
         p->heads_q / p->heads_kv == picture->group;
}

static bool is_drawn(const fv_bench_row *row) {
  if (row->key.problem.kind == FV_BENCH_MIXED) return false;
  return row->repetitions && strcmp(row->key.pipeline, "peak") && strcmp(row->key.pipeline, "read");
}

int fv_bench_plot_pictures(const fv_bench_result *result,
                           fv_bench_picture pictures[FV_BENCH_PICTURES_MAX]) {
  int count = 0;
  for (size_t i = 0; i < result->row_count; ++i) {
    const fv_bench_problem *p = &result->rows[i].key.problem;
    bool seen = !is_drawn(&result->rows[i]);
    for (int j = 0; j < count && !seen; ++j) seen = is_of(&pictures[j], p);
    if (seen || count + 2 > FV_BENCH_PICTURES_MAX) continue;
    fv_bench_picture picture = {p->kind, p->dtype, p->heads_q / p->heads_kv, false};
    pictures[count++] = picture;
    picture.speedup = true;
    pictures[count++] = picture;
  }
  return count;
}

/* Is `other` a picture of the same kind that is preferred to `picture`? */
static bool gives_way(const fv_bench_picture *picture, const fv_bench_picture *other) {
  if (picture->kind != other->kind || picture->speedup != other->speedup) return false;
  if (picture->dtype != other->dtype) return other->dtype > picture->dtype;
  return other->group > picture->group;
}

int fv_bench_plot_shown(const fv_bench_result *result,
                        fv_bench_picture shown[FV_BENCH_PICTURES_SHOWN]) {
  fv_bench_picture all[FV_BENCH_PICTURES_MAX];
  int count = 0, total = fv_bench_plot_pictures(result, all);
  for (int i = 0; i < total && count < FV_BENCH_PICTURES_SHOWN; ++i) {
    bool is_plain = all[i].kind == FV_BENCH_PREFILL || all[i].kind == FV_BENCH_DECODE;
    bool chosen = is_plain || all[i].speedup; /* of unequal batches, time alone says little */
    for (int j = 0; j < total && chosen; ++j) chosen = !gives_way(&all[i], &all[j]);
    if (chosen) shown[count++] = all[i];
  }
  return count;
}

void fv_bench_plot_name(const fv_bench_picture *picture, char name[FV_BENCH_PICTURE_NAME]) {
  char group[32] = "";
  if (picture->group > 1) snprintf(group, sizeof group, "-group%" PRId64, picture->group);
  snprintf(name, FV_BENCH_PICTURE_NAME, "%s-%s%s-%s", fv_bench_kind_name(picture->kind),
           fv_bench_dtype_name(picture->dtype), group, picture->speedup ? "speedup" : "time");
}

void fv_bench_plot_title(const fv_bench_picture *picture, char *title, size_t bytes) {
  static const char *const kinds[FV_BENCH_KINDS] = {
      "Prefill",     "Decode",          "Packed prefill",  "Paged decode",
      "Mixed batch", "Additive scores", "Multi-head layer"};
  char heads[64] = "as many key as query heads";
  if (picture->group > 1) {
    snprintf(heads, sizeof heads, "%" PRId64 " query heads per kv head", picture->group);
  }
  snprintf(title, bytes, "%s, %s, %s: %s", kinds[picture->kind],
           fv_bench_dtype_name(picture->dtype), heads,
           picture->speedup ? "speed-up of fovea" : "time per row and head");
}

/* ---- A panel ---- */

/* Peers' times are of another process. The fovea that ran beside them is drawn too, so that they
 * are not compared with a time that the machine gave on another occasion. */
static const struct {
  const char *pipeline;
  uint32_t rgb;
} inks[] = {{"fovea", 0x6A3D9A},
            {"naive", 0x6B7280},
            {"torch", 0xD95F02},
            {"torch-folded", 0x1B8A6B},
            {"fovea@torch", 0xB9A0D8}};
enum { INKS = sizeof inks / sizeof *inks };

/* Time is per query row and head, because batches and heads become fewer where lengths grow. */
static bool value_of(const fv_bench_result *result, const fv_bench_row *row, bool speedup,
                     double *value) {
  const fv_bench_problem *p = &row->key.problem;
  *value = speedup ? fv_bench_speedup(result, row)
                   : row->median / (double)(p->heads_q * fv_bench_rows(p));
  return *value > 0;
}

static void add_point(fv_bench_series *series, double x, double y) {
  if (series->count == FV_BENCH_POINTS_MAX) return;
  int at = series->count++;
  for (; at > 0 && series->x[at - 1] > x; --at) {
    series->x[at] = series->x[at - 1];
    series->y[at] = series->y[at - 1];
  }
  series->x[at] = x;
  series->y[at] = y;
}

static bool is_of_decoding(const fv_bench_picture *picture) {
  return picture->kind == FV_BENCH_DECODE || picture->kind == FV_BENCH_PAGED;
}

/* The cells of the grid that a picture's panels make; variant 1 is causal, or from memory. */
static bool is_in_panel(const fv_bench_picture *picture, const fv_bench_problem *p, int64_t dim,
                        int variant) {
  bool value = is_of_decoding(picture) ? p->cold : p->causal;
  return is_of(picture, p) && p->dim == dim && value == (variant == 1);
}

static void fill_panel(const fv_bench_result *result, const fv_bench_picture *picture, int64_t dim,
                       int variant, fv_bench_panel *panel) {
  const char *names[2][2] = {{"full", "causal"}, {"from cache", "from memory"}};
  snprintf(panel->title, sizeof panel->title, "%s, dim %" PRId64,
           names[is_of_decoding(picture)][variant], dim);
  for (int ink = 0; ink < INKS; ++ink) {
    if (picture->speedup && !strncmp(inks[ink].pipeline, "fovea", 5)) continue;
    fv_bench_series series = {.label = inks[ink].pipeline, .rgb = inks[ink].rgb};
    for (size_t i = 0; i < result->row_count; ++i) {
      const fv_bench_row *row = &result->rows[i];
      double y;
      if (!is_drawn(row) || strcmp(row->key.pipeline, inks[ink].pipeline)) continue;
      if (!is_in_panel(picture, &row->key.problem, dim, variant)) continue;
      if (value_of(result, row, picture->speedup, &y)) {
        add_point(&series, (double)row->key.problem.len_kv, y);
      }
    }
    if (series.count) panel->series[panel->count++] = series;
  }
}

/* ---- A picture ---- */

static int find_dims(const fv_bench_result *result, const fv_bench_picture *picture,
                     int64_t dims[FV_BENCH_ACROSS_MAX]) {
  int count = 0;
  for (size_t i = 0; i < result->row_count; ++i) {
    const fv_bench_problem *p = &result->rows[i].key.problem;
    bool seen = !is_of(picture, p) || count == FV_BENCH_ACROSS_MAX;
    for (int j = 0; j < count && !seen; ++j) seen = dims[j] == p->dim;
    if (!seen) dims[count++] = p->dim;
  }
  return count;
}

static void limit_axes(fv_bench_chart *chart) {
  chart->x_low = chart->y_low = INFINITY;
  for (int i = 0; i < chart->across * chart->down; ++i) {
    const fv_bench_panel *panel = &chart->panels[i];
    for (int s = 0; s < panel->count; ++s) {
      for (int n = 0; n < panel->series[s].count; ++n) {
        chart->x_low = fmin(chart->x_low, panel->series[s].x[n]);
        chart->x_high = fmax(chart->x_high, panel->series[s].x[n]);
        chart->y_low = fmin(chart->y_low, panel->series[s].y[n]);
        chart->y_high = fmax(chart->y_high, panel->series[s].y[n]);
      }
    }
  }
}

/* The smallest powers of ten around the times; 0 and a round number around the speed-ups. */
static void round_axes(fv_bench_chart *chart, bool speedup) {
  if (chart->x_high < 2 * chart->x_low) {
    chart->x_low /= 2;
    chart->x_high *= 2;
  }
  if (speedup) {
    chart->y_low = 0;
    chart->y_high = fv_bench_plot_ceiling(fmax(chart->y_high, 1) * 1.05);
    return;
  }
  chart->y_low = pow(10, floor(log10(chart->y_low)));
  chart->y_high = pow(10, ceil(log10(chart->y_high)));
  if (chart->y_high <= chart->y_low) chart->y_high = 10 * chart->y_low;
}

double fv_bench_plot_ceiling(double value) {
  static const double steps[] = {1, 1.5, 2, 3, 4, 5, 6, 8, 10};
  double power = pow(10, floor(log10(value)));
  for (size_t i = 0; i < sizeof steps / sizeof *steps; ++i) {
    if (value <= steps[i] * power * (1 + 1e-12)) return steps[i] * power;
  }
  return 10 * power;
}

/* The first line is full, or from memory, or the only variant that a kind has. */
static bool begins_with_full(fv_bench_kind kind) {
  return kind == FV_BENCH_PREFILL || kind == FV_BENCH_ADDITIVE || kind == FV_BENCH_LAYER;
}

static void fill_chart(const fv_bench_result *result, const fv_bench_picture *picture,
                       fv_bench_chart *chart) {
  static const char *const x_labels[FV_BENCH_KINDS] = {
      "length", "keys per sequence", "length of the longest", "keys of the longest", "", "length",
      "length"};
  int64_t dims[FV_BENCH_ACROSS_MAX];
  memset(chart, 0, sizeof *chart);
  chart->across = find_dims(result, picture, dims);
  chart->log_y = !picture->speedup;
  chart->x_label = x_labels[picture->kind];
  fv_bench_plot_title(picture, chart->title, sizeof chart->title);
  snprintf(chart->subtitle, sizeof chart->subtitle, "%s, %s threads, %s",
           fv_bench_result_context(result, "machine"), fv_bench_result_context(result, "threads"),
           fv_bench_result_context(result, "isa"));
  for (int line = 0; line < 2; ++line) {
    int variant = begins_with_full(picture->kind) ? line : 1 - line;
    for (int i = 0; i < chart->across; ++i) {
      fill_panel(result, picture, dims[i], variant, &chart->panels[line * chart->across + i]);
    }
    for (int i = 0; i < chart->across; ++i) {
      if (chart->panels[line * chart->across + i].count) chart->down = line + 1;
    }
  }
  limit_axes(chart);
  if (chart->y_high > 0) round_axes(chart, picture->speedup);
}

static bool draw(const fv_bench_result *result, const fv_bench_picture *picture, const char *folder,
                 char *error, size_t error_bytes) {
  static fv_bench_chart chart; /* 200 KB: too large for a stack */
  char name[FV_BENCH_PICTURE_NAME];
  fill_chart(result, picture, &chart);
  fv_bench_plot_name(picture, name);
  static const char *const extensions[] = {"png", "svg"};
  for (int i = 0; i < 2; ++i) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, extensions[i]);
    const char *wrong = fv_bench_chart_write(&chart, path, i == 1);
    if (!wrong) continue;
    snprintf(error, error_bytes, "%s: %s", path, wrong);
    return false;
  }
  return true;
}

bool fv_bench_plot_all(const fv_bench_result *result, const char *folder, char *error,
                       size_t error_bytes) {
  fv_bench_picture pictures[FV_BENCH_PICTURES_MAX];
  int count = fv_bench_plot_pictures(result, pictures);
  bool drawn = true;
  for (int i = 0; i < count && drawn; ++i) {
    drawn = draw(result, &pictures[i], folder, error, error_bytes);
  }
  fv_bench_chart_release();
  return drawn;
}

/* chart.c - see chart.h. Lengths are in units: one pixel of SVG, two pixels of PNG. */
#include "bench/report/chart.h"

#include <cairo-svg.h>
#include <cairo.h>
#include <errno.h>
#include <fontconfig/fontconfig.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench/report/text.h"

static const double margin = 24, head = 106, panel_height = 150;
/* Panels share a page that is wide enough for the titles; many panels make it wider. */
static const double least_panels_width = 620, least_panel_width = 230;
static const double gap_x = 40, gap_y = 56, axis_width = 52, foot = 46;
static const double title_size = 15, text_size = 11;
enum { INK = 0x1C1726, INK_FAINT = 0x6B6475, GRID = 0xE6E3EA, PAPER = 0xFFFFFF };

typedef struct brush {
  cairo_t *cairo;
  const fv_bench_chart *chart;
} brush;

static double panel_width(const fv_bench_chart *chart) {
  double share = (least_panels_width - gap_x * (chart->across - 1)) / chart->across;
  return floor(fmax(share, least_panel_width));
}

typedef enum anchor { START, MIDDLE, END } anchor;

static void set_color(cairo_t *cairo, uint32_t rgb) {
  cairo_set_source_rgb(cairo, (rgb >> 16 & 0xFF) / 255.0, (rgb >> 8 & 0xFF) / 255.0,
                       (rgb & 0xFF) / 255.0);
}

/* Returns its width. */
static double put_text(cairo_t *cairo, const char *text, double x, double y, double size,
                       anchor where, uint32_t rgb) {
  cairo_text_extents_t extents;
  bool bold = size > text_size;
  cairo_select_font_face(cairo, "sans-serif", CAIRO_FONT_SLANT_NORMAL,
                         bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(cairo, size);
  cairo_text_extents(cairo, text, &extents);
  set_color(cairo, rgb);
  cairo_move_to(cairo, x - extents.x_advance * (double)where / 2, y + 0.35 * size);
  cairo_show_text(cairo, text);
  return extents.x_advance;
}

static void put_line(cairo_t *cairo, double x, double y, double to_x, double to_y, double width,
                     uint32_t rgb) {
  set_color(cairo, rgb);
  cairo_set_line_width(cairo, width);
  cairo_move_to(cairo, x, y);
  cairo_line_to(cairo, to_x, to_y);
  cairo_stroke(cairo);
}

/* ---- From values to places ---- */

typedef struct place {
  double x, y; /* of the panel's upper left corner */
} place;

static double x_of(const brush *at, place corner, double x) {
  const fv_bench_chart *chart = at->chart;
  return corner.x + panel_width(chart) * log(x / chart->x_low) / log(chart->x_high / chart->x_low);
}

static double y_of(const brush *at, place corner, double y) {
  const fv_bench_chart *chart = at->chart;
  double part = chart->log_y ? log(y / chart->y_low) / log(chart->y_high / chart->y_low)
                             : (y - chart->y_low) / (chart->y_high - chart->y_low);
  return corner.y + panel_height * (1 - part);
}

static place corner_of(const fv_bench_chart *chart, int index) {
  place corner = {margin + axis_width + (panel_width(chart) + gap_x) * (index % chart->across),
                  head + (panel_height + gap_y) * (index / chart->across)};
  return corner;
}

/* ---- Axes ---- */

static void length_text(double length, char *text, size_t bytes) {
  if (length < 1024) snprintf(text, bytes, "%.0f", length);
  if (length >= 1024) snprintf(text, bytes, "%.0fk", length / 1024);
}

/* Every power of two that is a multiple of the first, or every other one where there are many. */
static void draw_x_axis(const brush *at, place corner) {
  const fv_bench_chart *chart = at->chart;
  double factor = chart->x_high / chart->x_low > 130 ? 4 : 2;
  for (double x = chart->x_low; x <= chart->x_high * 1.001; x *= factor) {
    char text[32];
    length_text(x, text, sizeof text);
    double px = x_of(at, corner, x);
    put_line(at->cairo, px, corner.y, px, corner.y + panel_height, 1, GRID);
    put_text(at->cairo, text, px, corner.y + panel_height + 12, text_size, MIDDLE, INK_FAINT);
  }
}

static void draw_y_tick(const brush *at, place corner, double y, const char *text, bool labelled) {
  double py = y_of(at, corner, y);
  put_line(at->cairo, corner.x, py, corner.x + panel_width(at->chart), py, 1, GRID);
  if (labelled) put_text(at->cairo, text, corner.x - 7, py, text_size, END, INK_FAINT);
}

static void time_text(double seconds, char *text, size_t bytes) {
  if (seconds < 0.9e-6) snprintf(text, bytes, "%.3g ns", 1e9 * seconds);
  if (seconds >= 0.9e-6) snprintf(text, bytes, "%.3g us", 1e6 * seconds);
  if (seconds >= 0.9e-3) snprintf(text, bytes, "%.3g ms", 1e3 * seconds);
  if (seconds >= 0.9) snprintf(text, bytes, "%.3g s", seconds);
}

static void draw_y_axis(const brush *at, place corner, bool labelled) {
  const fv_bench_chart *chart = at->chart;
  char text[32];
  if (chart->log_y) {
    for (double y = chart->y_low; y <= chart->y_high * 1.001; y *= 10) {
      time_text(y, text, sizeof text);
      draw_y_tick(at, corner, y, text, labelled);
    }
    return;
  }
  double step = chart->y_high / 4;
  if (chart->y_high == 3 || chart->y_high == 1.5 || chart->y_high == 6) step = chart->y_high / 3;
  if (chart->y_high == 5 || chart->y_high == 10) step = chart->y_high / 5;
  for (double y = 0; y <= chart->y_high * 1.001; y += step) {
    snprintf(text, sizeof text, "%.3g\xC3\x97", y);
    draw_y_tick(at, corner, y, text, labelled);
  }
  double one = y_of(at, corner, 1);
  put_line(at->cairo, corner.x, one, corner.x + panel_width(at->chart), one, 1.2, INK_FAINT);
}

/* ---- Panels ---- */

static void draw_series(const brush *at, place corner, const fv_bench_series *series) {
  set_color(at->cairo, series->rgb);
  cairo_set_line_width(at->cairo, 2);
  cairo_new_path(at->cairo);
  for (int i = 0; i < series->count; ++i) {
    cairo_line_to(at->cairo, x_of(at, corner, series->x[i]), y_of(at, corner, series->y[i]));
  }
  cairo_stroke(at->cairo);
  for (int i = 0; i < series->count; ++i) {
    cairo_arc(at->cairo, x_of(at, corner, series->x[i]), y_of(at, corner, series->y[i]), 3, 0,
              2 * M_PI);
    cairo_fill(at->cairo);
  }
}

static void draw_panel(const brush *at, int index) {
  const fv_bench_panel *panel = &at->chart->panels[index];
  place corner = corner_of(at->chart, index);
  if (!panel->count) return;
  draw_x_axis(at, corner);
  draw_y_axis(at, corner, index % at->chart->across == 0);
  put_text(at->cairo, panel->title, corner.x, corner.y - 12, text_size, START, INK);
  for (int i = panel->count; i-- > 0;) draw_series(at, corner, &panel->series[i]);
}

/* The series that any panel has, once each. */
static void draw_legend(const brush *at, double x, double y) {
  const char *seen[FV_BENCH_SERIES_MAX];
  int count = 0;
  for (int i = 0; i < at->chart->across * at->chart->down; ++i) {
    const fv_bench_panel *panel = &at->chart->panels[i];
    for (int s = 0; s < panel->count; ++s) {
      const fv_bench_series *series = &panel->series[s];
      bool known = count == FV_BENCH_SERIES_MAX;
      for (int n = 0; n < count && !known; ++n) known = !strcmp(seen[n], series->label);
      if (known) continue;
      seen[count++] = series->label;
      put_line(at->cairo, x, y, x + 18, y, 3, series->rgb);
      char text[48];
      snprintf(text, sizeof text, at->chart->log_y ? "%s" : "over %s", series->label);
      x += 24 + put_text(at->cairo, text, x + 24, y, text_size, START, INK) + 22;
    }
  }
}

static double chart_width(const fv_bench_chart *chart) {
  return 2 * margin + axis_width + chart->across * (panel_width(chart) + gap_x) - gap_x;
}

static double chart_height(const fv_bench_chart *chart) {
  return head + chart->down * (panel_height + gap_y) - gap_y + foot;
}

static void draw_chart(cairo_t *cairo, const fv_bench_chart *chart) {
  brush at = {cairo, chart};
  set_color(cairo, PAPER);
  cairo_paint(cairo);
  put_text(cairo, chart->title, margin, 24, title_size, START, INK);
  put_text(cairo, chart->subtitle, margin, 44, text_size, START, INK_FAINT);
  draw_legend(&at, margin, 64);
  for (int i = 0; i < chart->across * chart->down; ++i) draw_panel(&at, i);
  put_text(cairo, chart->x_label, margin + axis_width, chart_height(chart) - 14, text_size, START,
           INK_FAINT);
}

/* ---- Files ---- */

static cairo_status_t write_bytes(void *stream, const unsigned char *bytes, unsigned int count) {
  return fwrite(bytes, 1, count, stream) == count ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

/* Cairo's errors stick to its objects: drawing goes on unchecked, and the status is asked for last.
 */
static bool paint(const fv_bench_chart *chart, FILE *stream, bool svg) {
  double width = chart_width(chart), height = chart_height(chart), density = svg ? 1 : 2;
  cairo_surface_t *surface =
      svg ? cairo_svg_surface_create_for_stream(write_bytes, stream, width, height)
          : cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(width * density),
                                       (int)(height * density));
  cairo_t *cairo = cairo_create(surface);
  cairo_scale(cairo, density, density);
  draw_chart(cairo, chart);
  cairo_status_t status = cairo_status(cairo);
  if (!svg && !status) status = cairo_surface_write_to_png_stream(surface, write_bytes, stream);
  cairo_destroy(cairo);
  cairo_surface_finish(surface);
  if (!status) status = cairo_surface_status(surface);
  cairo_surface_destroy(surface);
  return status == CAIRO_STATUS_SUCCESS;
}

const char *fv_bench_chart_write(const fv_bench_chart *chart, const char *path, bool svg) {
  char partial[4200];
  snprintf(partial, sizeof partial, "%s.partial", path);
  FILE *stream = fopen(partial, "wb");
  if (!stream) return strerror(errno);
  bool painted = paint(chart, stream, svg);
  if (fclose(stream) || !painted) {
    remove(partial);
    return "could not be written";
  }
  return rename(partial, path) ? strerror(errno) : NULL;
}

void fv_bench_chart_release(void) {
  cairo_debug_reset_static_data();
  FcFini();
}

/* cairo.c: paints the page with Cairo: PNG and PDF, and measures text for all formats.
 *
 * The cells of a panel are one image surface with one pixel per cell, scaled up without smoothing.
 * A 64 x 64 map as rectangles makes a file 20 times as large and shows seams between them. Cairo's
 * errors stick to its objects, so drawing goes on unchecked and the status is asked for at the end.
 */
#include <cairo-pdf.h>
#include <cairo.h>
#include <fontconfig/fontconfig.h>
#include <math.h>
#include <string.h>

#include "cli/heatmap/paint.h"

/* Fontconfig's choice: DejaVu Sans on Debian, where libcairo2 always brings a font along. */
static const char font[] = "sans-serif";
static const double degree = 0.017453292519943295; /* pi / 180 */

static void set_color(cairo_t *cairo, uint32_t rgb) {
  cairo_set_source_rgb(cairo, (rgb >> 16 & 0xFF) / 255.0, (rgb >> 8 & 0xFF) / 255.0,
                       (rgb & 0xFF) / 255.0);
}

static void set_font(cairo_t *cairo, double size, bool bold) {
  cairo_select_font_face(cairo, font, CAIRO_FONT_SLANT_NORMAL,
                         bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(cairo, size);
}

/* Metrics must not depend on the resolution: a PNG and a PDF must have the same layout. */
static void set_plain_metrics(cairo_t *cairo) {
  cairo_font_options_t *options = cairo_font_options_create();
  cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
  cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
  cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
  cairo_set_font_options(cairo, options);
  cairo_font_options_destroy(options);
}

static double measure(void *state, const char *text, double size, bool bold) {
  cairo_text_extents_t extents;
  set_font(state, size, bold);
  cairo_text_extents(state, text, &extents);
  return extents.x_advance;
}

/* Edges of cells lie on whole pixels at any density, so a fill has no half-covered pixels there. */
static void rectangle(void *state, fv_heatmap_box box, uint32_t rgb) {
  set_color(state, rgb);
  cairo_rectangle(state, box.x, box.y, box.width, box.height);
  cairo_fill(state);
}

static void grid(void *state, fv_heatmap_box box, size_t rows, size_t cols, uint32_t rgb) {
  set_color(state, rgb);
  cairo_set_line_width(state, 1); /* over the cells' edges, half a unit to each side */
  for (size_t row = 1; row < rows; row++) {
    cairo_move_to(state, box.x, box.y + box.height / (double)rows * (double)row);
    cairo_rel_line_to(state, box.width, 0);
  }
  for (size_t col = 1; col < cols; col++) {
    cairo_move_to(state, box.x + box.width / (double)cols * (double)col, box.y);
    cairo_rel_line_to(state, 0, box.height);
  }
  cairo_stroke(state);
}

static void text(void *state, const fv_heatmap_text *mark) {
  static const double before[] = {0, 0.5, 1}; /* the part of the text left of its anchor */
  double width = measure(state, mark->text, mark->size, mark->bold);
  cairo_save(state);
  set_color(state, mark->rgb);
  cairo_translate(state, mark->x, mark->y);
  cairo_rotate(state, -mark->angle * degree);
  /* 0.35: half the height of the digits of DejaVu and most other fonts. */
  cairo_move_to(state, -width * before[mark->anchor], mark->size * 0.35);
  cairo_show_text(state, mark->text);
  cairo_restore(state);
}

/* One pixel per cell, in memory that Cairo owns: a PDF reads it only when the page ends. */
static cairo_surface_t *surface_of(const fv_heatmap_image *image) {
  cairo_surface_t *surface =
      cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)image->cols, (int)image->rows);
  if (cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS) return surface;
  unsigned char *line = cairo_image_surface_get_data(surface);
  for (size_t row = 0; row < image->rows; row++) {
    for (size_t col = 0; col < image->cols; col++) {
      uint32_t rgb = image->color_at(image->source, row, col);
      memcpy(line + col * sizeof rgb, &rgb, sizeof rgb);
    }
    line += cairo_image_surface_get_stride(surface);
  }
  cairo_surface_mark_dirty(surface);
  return surface;
}

static void image(void *state, fv_heatmap_box box, const fv_heatmap_image *cells) {
  cairo_surface_t *surface = surface_of(cells);
  cairo_save(state);
  cairo_translate(state, box.x, box.y);
  cairo_scale(state, box.width / (double)cells->cols, box.height / (double)cells->rows);
  cairo_set_source_surface(state, surface, 0, 0);
  cairo_pattern_set_filter(cairo_get_source(state), CAIRO_FILTER_NEAREST);
  cairo_rectangle(state, 0, 0, (double)cells->cols, (double)cells->rows);
  cairo_fill(state);
  cairo_restore(state);
  cairo_surface_destroy(surface);
}

static fv_heatmap_canvas canvas_of(cairo_t *cairo) {
  set_plain_metrics(cairo);
  fv_heatmap_canvas canvas = {cairo, measure, rectangle, grid, text, image};
  return canvas;
}

/* Layout needs the widths of texts before there is a page: the page's size depends on them. A
 * surface of one pixel is enough, because metrics are the page's own. */
fv_heatmap_canvas fv_heatmap_cairo_ruler(void) {
  cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_A8, 1, 1);
  fv_heatmap_canvas ruler = canvas_of(cairo_create(surface));
  cairo_surface_destroy(surface);
  if (cairo_status(ruler.state) != CAIRO_STATUS_SUCCESS) fv_heatmap_cairo_ruler_release(&ruler);
  return ruler;
}

void fv_heatmap_cairo_ruler_release(fv_heatmap_canvas *ruler) {
  cairo_destroy(ruler->state);
  ruler->state = NULL;
}

/* Flushed here: a full disk is an error of this call, not a later surprise for the caller. */
static fv_heatmap_status finish(cairo_status_t status, FILE *stream) {
  bool written = fflush(stream) == 0 && !ferror(stream);
  if (status == CAIRO_STATUS_WRITE_ERROR || !written) return FV_HEATMAP_NOT_WRITABLE;
  return status == CAIRO_STATUS_SUCCESS ? FV_HEATMAP_OK : FV_HEATMAP_NO_MEMORY;
}

static cairo_status_t write_bytes(void *stream, const unsigned char *bytes, unsigned int count) {
  return fwrite(bytes, 1, count, stream) == count ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

typedef struct sink_call {
  fv_heatmap_sink *sink;
  void *state;
} sink_call;

static cairo_status_t write_sink(void *closure, const unsigned char *bytes, unsigned int count) {
  sink_call *call = closure;
  return call->sink(call->state, bytes, count) ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

bool fv_heatmap_cairo_encode(const fv_heatmap_image *cells, int width, int height,
                             fv_heatmap_sink *sink, void *state) {
  cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
  cairo_t *cairo = cairo_create(surface);
  image(cairo, (fv_heatmap_box){0, 0, width, height}, cells);
  cairo_status_t status = cairo_status(cairo);
  sink_call call = {sink, state};
  if (status == CAIRO_STATUS_SUCCESS) {
    status = cairo_surface_write_to_png_stream(surface, write_sink, &call);
  }
  cairo_destroy(cairo);
  cairo_surface_destroy(surface);
  return status == CAIRO_STATUS_SUCCESS;
}

double fv_heatmap_cairo_density(const fv_heatmap_page *page) {
  /* 16 million pixels are 64 MB while painting. Larger pages have small cells and no fine print. */
  return page->width * page->height * 4 <= 16e6 ? 2 : 1;
}

static bool lay_out(fv_heatmap_page *page, const fv_heatmap *map) {
  fv_heatmap_canvas ruler = fv_heatmap_cairo_ruler();
  if (ruler.state == NULL) return false;
  fv_heatmap_page_layout(page, map, &ruler);
  bool measured = cairo_status(ruler.state) == CAIRO_STATUS_SUCCESS;
  fv_heatmap_cairo_ruler_release(&ruler);
  return measured;
}

fv_heatmap_status fv_heatmap_cairo_png(const fv_heatmap *map, FILE *stream) {
  fv_heatmap_page page;
  if (!lay_out(&page, map)) return FV_HEATMAP_NO_MEMORY;
  double density = fv_heatmap_cairo_density(&page);
  cairo_surface_t *surface = cairo_image_surface_create(
      CAIRO_FORMAT_RGB24, (int)(page.width * density), (int)(page.height * density));
  cairo_t *cairo = cairo_create(surface);
  cairo_scale(cairo, density, density);
  fv_heatmap_canvas canvas = canvas_of(cairo);
  fv_heatmap_page_draw(&page, map, &canvas);
  cairo_status_t status = cairo_status(cairo);
  if (status == CAIRO_STATUS_SUCCESS) {
    status = cairo_surface_write_to_png_stream(surface, write_bytes, stream);
  }
  cairo_destroy(cairo);
  cairo_surface_destroy(surface);
  return finish(status, stream);
}

/* Text stays text here too: Cairo embeds the font's subset and its mapping to Unicode. */
fv_heatmap_status fv_heatmap_cairo_pdf(const fv_heatmap *map, FILE *stream) {
  fv_heatmap_page page;
  if (!lay_out(&page, map)) return FV_HEATMAP_NO_MEMORY;
  cairo_surface_t *surface =
      cairo_pdf_surface_create_for_stream(write_bytes, stream, page.width, page.height);
  cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_TITLE, page.title);
  cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_SUBJECT, page.subtitle);
  cairo_t *cairo = cairo_create(surface);
  fv_heatmap_canvas canvas = canvas_of(cairo);
  fv_heatmap_page_draw(&page, map, &canvas);
  cairo_show_page(cairo);
  cairo_status_t status = cairo_status(cairo);
  cairo_surface_finish(surface);
  if (status == CAIRO_STATUS_SUCCESS) status = cairo_surface_status(surface);
  cairo_destroy(cairo);
  cairo_surface_destroy(surface);
  return finish(status, stream);
}

void fv_heatmap_release(void) {
  cairo_debug_reset_static_data();
  FcFini();
}

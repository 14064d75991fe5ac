/* heatmap_svg.c: writes the page as SVG by hand, because Cairo turns text into outlines there.
 *
 * Real <text> can be searched, selected and read aloud, falls back to the viewer's fonts for
 * scripts ours lacks, and is a fifth of the size. A panel's cells are one PNG in a data URI, scaled
 * without smoothing. Texts were cleaned before; here only XML's own characters are escaped.
 */
#include <math.h>

#include "heatmap_paint.h"

typedef struct svg {
  FILE *stream;
  fv_heatmap_canvas ruler;
  bool failed; /* an image could not be encoded */
} svg;

/* Base64 takes three bytes at a time; what is left waits here for the next call. */
typedef struct base64 {
  FILE *stream;
  unsigned char waiting[3];
  size_t count;
} base64;

static void put_quad(base64 *encoder) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  unsigned char *bytes = encoder->waiting;
  for (size_t i = encoder->count; i < 3; i++) bytes[i] = 0;
  unsigned bits = (unsigned)bytes[0] << 16 | (unsigned)bytes[1] << 8 | bytes[2];
  for (size_t i = 0; i < 4; i++) {
    putc(i <= encoder->count ? digits[bits >> (18 - 6 * i) & 63] : '=', encoder->stream);
  }
  encoder->count = 0;
}

static bool put_base64(void *state, const unsigned char *bytes, size_t count) {
  base64 *encoder = state;
  for (size_t i = 0; i < count; i++) {
    encoder->waiting[encoder->count++] = bytes[i];
    if (encoder->count == 3) put_quad(encoder);
  }
  return !ferror(encoder->stream);
}

static void put_escaped(FILE *stream, const char *text) {
  for (; *text != 0; text++) {
    switch (*text) {
      case '&':
        fputs("&amp;", stream);
        break;
      case '<':
        fputs("&lt;", stream);
        break;
      case '>':
        fputs("&gt;", stream);
        break;
      case '"':
        fputs("&quot;", stream);
        break;
      default:
        putc(*text, stream);
    }
  }
}

static double measure(void *state, const char *text, double size, bool bold) {
  svg *out = state;
  return out->ruler.measure(out->ruler.state, text, size, bold);
}

static void rectangle(void *state, fv_heatmap_box box, uint32_t rgb) {
  svg *out = state;
  fprintf(out->stream, "<rect x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" fill=\"#%06x\"/>\n",
          box.x, box.y, box.width, box.height, (unsigned)rgb);
}

static void grid(void *state, fv_heatmap_box box, size_t rows, size_t cols, uint32_t rgb) {
  svg *out = state;
  fputs("<path d=\"", out->stream);
  for (size_t row = 1; row < rows; row++) {
    fprintf(out->stream, "M%g %gh%g", box.x, box.y + box.height / (double)rows * (double)row,
            box.width);
  }
  for (size_t col = 1; col < cols; col++) {
    fprintf(out->stream, "M%g %gv%g", box.x + box.width / (double)cols * (double)col, box.y,
            box.height);
  }
  fprintf(out->stream, "\" stroke=\"#%06x\" shape-rendering=\"crispEdges\"/>\n", (unsigned)rgb);
}

static void text(void *state, const fv_heatmap_text *mark) {
  static const char *const anchors[] = {"", " text-anchor=\"middle\"", " text-anchor=\"end\""};
  svg *out = state;
  fprintf(out->stream, "<text transform=\"translate(%.6g %.6g)", mark->x, mark->y);
  if (mark->angle != 0) fprintf(out->stream, " rotate(%g)", -mark->angle);
  fprintf(out->stream, "\" y=\"%.4g\" font-size=\"%g\"%s%s fill=\"#%06x\">", mark->size * 0.35,
          mark->size, anchors[mark->anchor], mark->bold ? " font-weight=\"bold\"" : "",
          (unsigned)mark->rgb);
  put_escaped(out->stream, mark->text);
  fputs("</text>\n", out->stream);
}

static void image(void *state, fv_heatmap_box box, const fv_heatmap_image *cells) {
  svg *out = state;
  base64 encoder = {out->stream, {0}, 0};
  fprintf(out->stream,
          "<image x=\"%g\" y=\"%g\" width=\"%g\" height=\"%g\" preserveAspectRatio=\"none\" "
          "style=\"image-rendering:optimizeSpeed;image-rendering:pixelated\" "
          "xlink:href=\"data:image/png;base64,",
          box.x, box.y, box.width, box.height);
  int width = (int)fmax(box.width, (double)cells->cols), height = (int)box.height;
  if (!fv_heatmap_cairo_encode(cells, width, height, put_base64, &encoder)) out->failed = true;
  if (encoder.count > 0) put_quad(&encoder);
  fputs("\"/>\n", out->stream);
}

static void put_head(FILE *stream, const fv_heatmap_page *page) {
  fprintf(stream,
          "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
          "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" "
          "width=\"%g\" height=\"%g\" viewBox=\"0 0 %g %g\" role=\"img\" "
          "font-family=\"'DejaVu Sans',Verdana,sans-serif\" xml:space=\"preserve\">\n<title>",
          page->width, page->height, page->width, page->height);
  put_escaped(stream, page->title);
  fputs("</title>\n<desc>", stream);
  put_escaped(stream, page->subtitle);
  fputs("</desc>\n", stream);
}

fv_heatmap_status fv_heatmap_svg(const fv_heatmap *map, FILE *stream) {
  svg out = {stream, fv_heatmap_cairo_ruler(), false};
  if (out.ruler.state == NULL) return FV_HEATMAP_NO_MEMORY;
  fv_heatmap_canvas canvas = {&out, measure, rectangle, grid, text, image};
  fv_heatmap_page page;
  fv_heatmap_page_layout(&page, map, &canvas);
  put_head(stream, &page);
  fv_heatmap_page_draw(&page, map, &canvas);
  fputs("</svg>\n", stream);
  fv_heatmap_cairo_ruler_release(&out.ruler);
  if (fflush(stream) != 0 || ferror(stream)) return FV_HEATMAP_NOT_WRITABLE;
  return !out.failed ? FV_HEATMAP_OK : FV_HEATMAP_NO_MEMORY;
}

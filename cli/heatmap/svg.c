/* svg.c: writes the page as SVG by hand, because Cairo turns text into outlines there.
 *
 * Real <text> can be searched, selected and read aloud. It falls back to the viewer's fonts for
 * scripts that ours lacks, and is a fifth of the size. A panel's cells are one PNG in a data URI,
 * scaled without smoothing. Texts were cleaned before; only XML's own characters are escaped here.
 */
#include <math.h>
#include <stdlib.h>

#include "cli/heatmap/paint.h"

typedef struct svg {
  FILE *stream;
  fv_heatmap_canvas ruler;
  bool failed; /* an image could not be encoded */
} svg;

/* Base64 takes three bytes at a time; the rest waits here for the next call. */
typedef struct base64 {
  FILE *stream;
  unsigned char waiting[3];
  size_t count;
} base64;

/* Writes the waiting bytes as four digits, with '=' for each missing byte. */
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

/* Enough for character data and for attributes in double quotes, the only ones written here. */
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

/* Text is measured with Cairo's font, although the viewer may use another. The fonts that put_head
 * names are as wide or narrower, so labels thinned for ours do not touch there. */
static double measure(void *state, const char *text, double size, bool bold) {
  svg *out = state;
  return out->ruler.measure(out->ruler.state, text, size, bold);
}

/* Hundredths of a unit, and a point in every locale: printf's "%g" writes a comma in some. */
static void put_number(FILE *stream, const char *before, double value) {
  long long hundredths = llround(value * 100), size = llabs(hundredths);
  fprintf(stream, "%s%s%lld", before, hundredths < 0 ? "-" : "", size / 100);
  if (size % 100 != 0) fprintf(stream, ".%02lld", size % 100);
}

static void put_box(FILE *stream, fv_heatmap_box box) {
  put_number(stream, " x=\"", box.x);
  put_number(stream, "\" y=\"", box.y);
  put_number(stream, "\" width=\"", box.width);
  put_number(stream, "\" height=\"", box.height);
  putc('"', stream);
}

static void rectangle(void *state, fv_heatmap_box box, uint32_t rgb) {
  svg *out = state;
  fputs("<rect", out->stream);
  put_box(out->stream, box);
  fprintf(out->stream, " fill=\"#%06x\"/>\n", (unsigned)rgb);
}

static void grid(void *state, fv_heatmap_box box, size_t rows, size_t cols, uint32_t rgb) {
  svg *out = state;
  fputs("<path d=\"", out->stream);
  for (size_t row = 1; row < rows; row++) {
    put_number(out->stream, "M", box.x);
    put_number(out->stream, " ", box.y + box.height / (double)rows * (double)row);
    put_number(out->stream, "h", box.width);
  }
  for (size_t col = 1; col < cols; col++) {
    put_number(out->stream, "M", box.x + box.width / (double)cols * (double)col);
    put_number(out->stream, " ", box.y);
    put_number(out->stream, "v", box.height);
  }
  fprintf(out->stream, "\" stroke=\"#%06x\" shape-rendering=\"crispEdges\"/>\n", (unsigned)rgb);
}

static void text(void *state, const fv_heatmap_text *mark) {
  static const char *const anchors[] = {"", " text-anchor=\"middle\"", " text-anchor=\"end\""};
  svg *out = state;
  put_number(out->stream, "<text transform=\"translate(", mark->x);
  put_number(out->stream, " ", mark->y);
  if (mark->angle != 0) put_number(out->stream, ") rotate(", -mark->angle);
  put_number(out->stream, ")\" y=\"", mark->size * 0.35); /* as in heatmap/cairo.c */
  put_number(out->stream, "\" font-size=\"", mark->size);
  fprintf(out->stream, "\"%s%s fill=\"#%06x\">", anchors[mark->anchor],
          mark->bold ? " font-weight=\"bold\"" : "", (unsigned)mark->rgb);
  put_escaped(out->stream, mark->text);
  fputs("</text>\n", out->stream);
}

static void image(void *state, fv_heatmap_box box, const fv_heatmap_image *cells) {
  svg *out = state;
  base64 encoder = {out->stream, {0}, 0};
  fputs("<image", out->stream);
  put_box(out->stream, box);
  /* Two spellings: SVG 1.1's, which old viewers know, and the CSS one, which wins where both are
   * known. */
  fputs(
      " preserveAspectRatio=\"none\" "
      "style=\"image-rendering:optimizeSpeed;image-rendering:pixelated\" "
      "xlink:href=\"data:image/png;base64,",
      out->stream);
  int width = (int)fmax(box.width, (double)cells->cols), height = (int)box.height;
  if (!fv_heatmap_cairo_encode(cells, width, height, put_base64, &encoder)) out->failed = true;
  if (encoder.count > 0) put_quad(&encoder);
  fputs("\"/>\n", out->stream);
}

static void put_head(FILE *stream, const fv_heatmap_page *page) {
  /* Sizes of a page are whole numbers. */
  int width = (int)page->width, height = (int)page->height;
  fprintf(stream,
          "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
          "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" "
          "width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" "
          "font-family=\"'DejaVu Sans',Verdana,sans-serif\" xml:space=\"preserve\">\n<title>",
          width, height, width, height);
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

/* terminal.c: draws a map with characters: 24-bit colour, or an ASCII ramp without.
 *
 *            t           column labels run downwards, thinned so that two never touch
 *        a b h
 *   the |@ . : |         one line per row, one or two characters per cell; in colour, with Unicode
 *   cat |. @ - |         and too little room for two, half blocks put two rows into one line
 *   0 " .:-=+*#%@" 0.93
 *
 * A terminal's character is about twice as high as wide, so two characters, or one half block, make
 * a square cell. A map that is still too large is reduced by maximum. The colours run from dark to
 * light, the reverse of paper: most terminals are dark, and no weight should look like nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/heatmap/cells.h"
#include "cli/heatmap/heatmap.h"
#include "cli/heatmap/label.h"
#include "cli/heatmap/ramp.h"

enum { WIDTH_MIN = 32, DEFAULT_WIDTH = 80, DEFAULT_HEIGHT = 64, LABEL_COLUMNS = 16, PANEL_GAP = 2 };
/* When columns are reduced anyway, more rows than this do not deserve a line each. */
enum { COMFORTABLE_ROWS = 40 };

typedef struct drawing {
  const fv_heatmap *map;
  FILE *stream;
  fv_heatmap_terminal_options options;
  fv_heatmap_range range;
  double *tops;         /* [panels]: of their scales */
  fv_heatmap_ramp ramp; /* dark to light */
  fv_heatmap_blocks blocks;
  size_t rows_per_block, cols_per_block; /* in weights */
  size_t width;                          /* of the terminal, in columns */
  size_t label_columns;                  /* left of the cells */
  size_t characters;                     /* per cell across: 1 or 2 */
  size_t rows_per_line;                  /* 2 with half blocks */
  size_t col_step;                       /* blocks from one column label to the next */
  size_t panels_per_band;                /* side by side */
} drawing;

/* Colours are sent only when they change: that is a third of the bytes. */
typedef struct color_pen {
  FILE *stream;
  uint32_t front, back;
  bool colored;
} color_pen;

static void put_color(color_pen *pen, uint32_t front, uint32_t back) {
  if (!pen->colored || pen->back != back) {
    fprintf(pen->stream, "\033[48;2;%u;%u;%um", back >> 16, back >> 8 & 0xFF, back & 0xFF);
  }
  if (!pen->colored || pen->front != front) {
    fprintf(pen->stream, "\033[38;2;%u;%u;%um", front >> 16, front >> 8 & 0xFF, front & 0xFF);
  }
  *pen = (color_pen){pen->stream, front, back, true};
}

static void put_plain(color_pen *pen) {
  if (pen->colored) fputs("\033[0m", pen->stream);
  pen->colored = false;
}

static void put_spaces(FILE *stream, size_t count) {
  for (size_t i = 0; i < count; i++) putc(' ', stream);
}

static bool has_half_blocks(const drawing *draw) {
  return draw->options.color && draw->options.unicode;
}

/* ---- layout ---- */

/* Stops at the limit: 100000 tokens are not all measured when the first few are long. */
static size_t longest_label(const drawing *draw, const char *const *labels, size_t count,
                            size_t step, size_t max_columns) {
  size_t longest = 0;
  for (size_t i = 0; i < count; i++) {
    fv_heatmap_label label;
    fv_heatmap_label_clean(&label, labels == NULL ? NULL : labels[i * step], i * step, max_columns,
                           !draw->options.unicode);
    if (label.columns > longest) longest = label.columns;
    if (longest >= max_columns) break;
  }
  return longest;
}

static void lay_out_rows(drawing *draw, size_t max_cols) {
  size_t lines = draw->options.height == 0 ? DEFAULT_HEIGHT : draw->options.height;
  size_t max_rows = lines * draw->rows_per_line;
  size_t rows = draw->map->rows;
  draw->blocks = fv_heatmap_cells_blocks(draw->map, max_rows, max_cols);
  /* Keep the cells square where columns were reduced, unless there were few rows to begin with. */
  size_t per_block = draw->blocks.cols_per_block;
  if (per_block <= draw->blocks.rows_per_block || rows <= COMFORTABLE_ROWS) return;
  size_t square = (rows + per_block - 1) / per_block;
  draw->blocks = fv_heatmap_cells_blocks(draw->map, square, max_cols);
}

static void lay_out(drawing *draw) {
  const fv_heatmap *map = draw->map;
  size_t width = draw->options.width == 0 ? DEFAULT_WIDTH : draw->options.width;
  if (width < WIDTH_MIN) width = WIDTH_MIN;
  draw->width = width;
  size_t most = width / 4 < LABEL_COLUMNS ? width / 4 : LABEL_COLUMNS;
  size_t rows, cols; /* of weights in a given cell */
  fv_heatmap_cells_reduction(map, NULL, &rows, &cols);
  draw->label_columns = longest_label(draw, map->row_labels, map->rows, rows, most);
  if (draw->label_columns == 0) draw->label_columns = 1; /* all labels are empty */
  size_t room = width - draw->label_columns - 3;         /* a space and two bars */
  bool two_fit = map->cols <= room / 2 && map->panel_count == 1;
  draw->characters = two_fit ? 2 : 1;
  draw->rows_per_line = !two_fit && has_half_blocks(draw) ? 2 : 1;
  lay_out_rows(draw, room / draw->characters);
  fv_heatmap_cells_reduction(map, &draw->blocks, &draw->rows_per_block, &draw->cols_per_block);
  size_t panel = draw->blocks.cols * draw->characters + PANEL_GAP;
  draw->panels_per_band = (room + PANEL_GAP) / panel;
  if (draw->panels_per_band == 0) draw->panels_per_band = 1;
  /* Two characters leave a gap beside a narrow label; a single character needs one column of air.
   */
  draw->col_step = draw->characters == 2 ? 1 : fv_heatmap_label_step(1, 3);
}

/* ---- labels ---- */

static void clean_block_label(const drawing *draw, fv_heatmap_label *label, bool row, size_t block,
                              size_t max_columns) {
  const char *const *labels = row ? draw->map->row_labels : draw->map->col_labels;
  size_t index = block * (row ? draw->rows_per_block : draw->cols_per_block);
  fv_heatmap_label_clean(label, labels == NULL ? NULL : labels[index], index, max_columns,
                         !draw->options.unicode);
}

/* Lines above the cells: the longest column label that is drawn. */
static size_t col_label_height(const drawing *draw) {
  size_t highest = 0;
  for (size_t col = 0; col < draw->blocks.cols; col += draw->col_step) {
    fv_heatmap_label label;
    char glyph[16];
    clean_block_label(draw, &label, false, col, LABEL_COLUMNS);
    while (fv_heatmap_label_glyph(&label, highest, glyph) > 0) highest++;
  }
  return highest;
}

static size_t glyph_count(const fv_heatmap_label *label) {
  char glyph[16];
  size_t count = 0;
  while (fv_heatmap_label_glyph(label, count, glyph) > 0) count++;
  return count;
}

/* One line of the column labels of one panel: the characters that end `below` lines above the
 * cells. */
static void put_col_label_line(const drawing *draw, size_t below) {
  size_t used = 0;
  for (size_t col = 0; col < draw->blocks.cols; col += draw->col_step) {
    fv_heatmap_label label;
    char glyph[16] = "";
    size_t columns = 0;
    clean_block_label(draw, &label, false, col, LABEL_COLUMNS);
    size_t count = glyph_count(&label);
    if (count > below) columns = fv_heatmap_label_glyph(&label, count - 1 - below, glyph);
    put_spaces(draw->stream, col * draw->characters - used);
    fputs(glyph, draw->stream);
    used = col * draw->characters + columns;
  }
  size_t width = draw->blocks.cols * draw->characters;
  if (used < width) put_spaces(draw->stream, width - used);
}

/* Without colour, blank cells would hide the extent of the map. */
static char edge(const drawing *draw) {
  return draw->options.color ? ' ' : '|';
}

/* With half blocks the label is the upper row's; the lower row has no line of its own. */
static void put_row_label(const drawing *draw, size_t row) {
  fv_heatmap_label label;
  clean_block_label(draw, &label, true, row, draw->label_columns);
  put_spaces(draw->stream, draw->label_columns - label.columns);
  fprintf(draw->stream, "%s %c", label.text, edge(draw));
}

/* ---- cells ---- */

static fv_heatmap_cell cell_at(const drawing *draw, size_t panel, size_t row, size_t col) {
  return fv_heatmap_cells_at(draw->map, draw->tops[panel], &draw->blocks, panel, row, col);
}

static void put_cells(const drawing *draw, color_pen *pen, size_t panel, size_t row) {
  for (size_t col = 0; col < draw->blocks.cols; col++) {
    fv_heatmap_cell cell = cell_at(draw, panel, row, col);
    char mark = fv_heatmap_cells_character(cell);
    if (draw->options.color) {
      uint32_t color = fv_heatmap_cells_color(&draw->ramp, cell);
      put_color(pen, 0, color);
      if (cell.kind <= FV_HEATMAP_KIND_WEIGHT) mark = ' ';
    }
    putc(mark, draw->stream);
    if (draw->characters == 2) putc(draw->options.color ? ' ' : mark, draw->stream);
  }
  put_plain(pen);
}

/* The lower half is the background and the upper half a character's front colour. */
static void put_half_blocks(const drawing *draw, color_pen *pen, size_t panel, size_t row) {
  for (size_t col = 0; col < draw->blocks.cols; col++) {
    uint32_t upper = fv_heatmap_cells_color(&draw->ramp, cell_at(draw, panel, row, col));
    if (row + 1 < draw->blocks.rows) {
      uint32_t lower = fv_heatmap_cells_color(&draw->ramp, cell_at(draw, panel, row + 1, col));
      put_color(pen, upper, lower);
    } else {
      fprintf(draw->stream, "\033[49m\033[38;2;%u;%u;%um", upper >> 16, upper >> 8 & 0xFF,
              upper & 0xFF);
      pen->colored = true;
    }
    fputs("\xE2\x96\x80", draw->stream);
  }
  put_plain(pen);
}

static void put_line(const drawing *draw, size_t first, size_t last, size_t row) {
  color_pen pen = {draw->stream, 0, 0, false};
  put_row_label(draw, row);
  for (size_t panel = first; panel < last; panel++) {
    if (panel > first) fprintf(draw->stream, "%c%c", edge(draw), edge(draw));
    if (draw->rows_per_line == 2) {
      put_half_blocks(draw, &pen, panel, row);
    } else {
      put_cells(draw, &pen, panel, row);
    }
  }
  fputs(draw->options.color ? "\n" : "|\n", draw->stream);
}

/* ---- bands of panels ---- */

static void put_panel_titles(const drawing *draw, size_t first, size_t last) {
  size_t width = draw->blocks.cols * draw->characters;
  put_spaces(draw->stream, draw->label_columns + 2);
  for (size_t panel = first; panel < last; panel++) {
    fv_heatmap_label label;
    fv_heatmap_cells_title(draw->map, &draw->range, panel, width, !draw->options.unicode, &label);
    fputs(label.text, draw->stream);
    if (panel + 1 < last) put_spaces(draw->stream, width + PANEL_GAP - label.columns);
  }
  putc('\n', draw->stream);
}

/* As many panels as fit side by side. Column labels are repeated for each band, because a reader
 * scrolls. */
static void put_band(const drawing *draw, size_t first, size_t last) {
  if (draw->map->panel_count > 1 && first > 0) putc('\n', draw->stream);
  if (draw->map->panel_count > 1) put_panel_titles(draw, first, last);
  for (size_t below = col_label_height(draw); below-- > 0;) {
    put_spaces(draw->stream, draw->label_columns + 2);
    for (size_t panel = first; panel < last; panel++) {
      if (panel > first) put_spaces(draw->stream, PANEL_GAP);
      put_col_label_line(draw, below);
    }
    putc('\n', draw->stream);
  }
  for (size_t row = 0; row < draw->blocks.rows; row += draw->rows_per_line) {
    put_line(draw, first, last, row);
  }
}

/* ---- head and legend ---- */

/* A line of text, indented by at most `indent` columns and cut to the width of the terminal. */
static void put_text_line(const drawing *draw, size_t indent, const char *text) {
  fv_heatmap_label label;
  if (text == NULL || text[0] == 0) return;
  fv_heatmap_label_clean(&label, text, 0, draw->width, !draw->options.unicode);
  size_t spare = draw->width - label.columns;
  put_spaces(draw->stream, indent < spare ? indent : spare);
  fprintf(draw->stream, "%s\n", label.text);
}

/* A text of any number of lines, broken at spaces: its end must not be lost. */
static void put_text(const drawing *draw, const char *text) {
  enum { MOST = 160 }; /* bytes, and so columns, of a line; the rest is cut */
  while (text != NULL && *text != 0) {
    char line[MOST + 1];
    size_t most = draw->width < MOST ? draw->width : MOST, length = strlen(text);
    if (length > most) {
      length = most;
      while (length > 0 && text[length] != ' ') length--;
      if (length == 0) length = strcspn(text, " "); /* a single word that is too long */
    }
    snprintf(line, sizeof line, "%.*s", (int)length, text);
    put_text_line(draw, 0, line);
    text += length;
    text += strspn(text, " ");
  }
}

/* A line under the scale for keys that are not seen, and for values that are no weights. */
static void put_note(const drawing *draw, fv_heatmap_kind kind, size_t indent) {
  color_pen pen = {draw->stream, 0, 0, false};
  char note[64];
  fv_heatmap_cells_note(draw->map, &draw->range, kind, note, sizeof note);
  fv_heatmap_cell cell = {kind, 0};
  if (note[0] == 0) return;
  size_t columns = strlen(note) + 2; /* the swatch, a space and the note */
  size_t spare = columns < draw->width ? draw->width - columns : 0;
  put_spaces(draw->stream, indent < spare ? indent : spare);
  if (draw->options.color) put_color(&pen, 0, fv_heatmap_cells_color(&draw->ramp, cell));
  bool plain = draw->options.color && kind == FV_HEATMAP_KIND_HIDDEN;
  putc(plain ? ' ' : fv_heatmap_cells_character(cell), draw->stream);
  put_plain(&pen);
  fprintf(draw->stream, " %s\n", note);
}

/* Ten steps, because the ASCII ramp has ten characters. Each kind of mark that occurs gets a line.
 */
static void put_legend(const drawing *draw) {
  color_pen pen = {draw->stream, 0, 0, false};
  enum { STEPS = 10 };
  size_t indent = draw->label_columns - 1; /* labels have at least one column */
  put_spaces(draw->stream, indent);
  fprintf(draw->stream, "0 %c", edge(draw));
  for (int i = 0; i < STEPS; i++) {
    fv_heatmap_cell cell = {FV_HEATMAP_KIND_WEIGHT, i / (STEPS - 1.0)};
    if (draw->options.color) put_color(&pen, 0, fv_heatmap_cells_color(&draw->ramp, cell));
    putc(draw->options.color ? ' ' : fv_heatmap_cells_character(cell), draw->stream);
  }
  put_plain(&pen);
  bool apart = fv_heatmap_cells_apart(draw->map);
  if (apart) fprintf(draw->stream, "%c\n", edge(draw));
  if (!apart) fprintf(draw->stream, "%c %.3g\n", edge(draw), draw->range.top);
  if (apart) put_text_line(draw, indent + 3, "each head to its largest weight");
  if (draw->map->scale == FV_HEATMAP_SCALE_ROOT) {
    put_text_line(draw, indent + 3, "root scale: shades by square root");
  }
  for (int kind = FV_HEATMAP_KINDS - 1; kind >= 0; kind--) {
    put_note(draw, (fv_heatmap_kind)kind, indent + 3);
  }
}

static void put_reduction(const drawing *draw) {
  size_t down = draw->rows_per_block, across = draw->cols_per_block;
  char text[80];
  if (down * across == 1) return;
  snprintf(text, sizeof text, "each cell: the largest of %zu x %zu", down, across);
  put_text_line(draw, draw->label_columns + 2, text);
}

/* Lighter than the ink of a weight of 0, and without its hue. */
static const uint32_t hidden_on_screen = 0x5A5C64;

/* On a dark screen light colours stand for large weights. */
static void fill_ramp(fv_heatmap_ramp *ramp) {
  fv_heatmap_ramp paper;
  fv_heatmap_ramp_fill(&paper);
  for (int i = 0; i < FV_HEATMAP_RAMP_LEVELS; i++) {
    ramp->rgb[i] = paper.rgb[FV_HEATMAP_RAMP_LEVELS - 1 - i];
  }
  ramp->hidden = hidden_on_screen;
}

fv_heatmap_status fv_heatmap_terminal(const fv_heatmap *map, FILE *stream,
                                      const fv_heatmap_terminal_options *options) {
  if (fv_heatmap_cells_complaint(map) != NULL) return FV_HEATMAP_BAD_MAP;
  drawing draw = {.map = map, .stream = stream};
  if (options != NULL) draw.options = *options;
  draw.tops = calloc(map->panel_count, sizeof *draw.tops);
  if (draw.tops == NULL) return FV_HEATMAP_NO_MEMORY;
  draw.range = fv_heatmap_cells_range(map);
  for (size_t panel = 0; panel < map->panel_count; panel++) {
    draw.tops[panel] = fv_heatmap_cells_top(map, &draw.range, panel);
  }
  fill_ramp(&draw.ramp);
  lay_out(&draw);
  put_text(&draw, map->title);
  put_text(&draw, map->subtitle);
  for (size_t first = 0; first < map->panel_count; first += draw.panels_per_band) {
    size_t last = first + draw.panels_per_band;
    put_band(&draw, first, last < map->panel_count ? last : map->panel_count);
  }
  put_reduction(&draw);
  put_legend(&draw);
  free(draw.tops);
  return fflush(stream) != 0 || ferror(stream) ? FV_HEATMAP_NOT_WRITABLE : FV_HEATMAP_OK;
}

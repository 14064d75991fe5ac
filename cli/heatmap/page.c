/* page.c: the page of a heat map: title, labels, panels, colour scale.
 *
 *   title
 *   subtitle
 *   key ->  labels, at 45 or 90 degrees
 *   query v +-------+  +-------+
 *    labels | cells |  | cells |     one panel, or a grid of panels
 *           +-------+  +-------+
 *           [ scale ]
 *
 * Layout first decides the size of a cell from the number of cells; everything else follows from
 * it. Up to 64 tokens, each has its label. Beyond, labels are thinned to every 2nd, 5th, 10th, ...
 * so that two never touch. Cells are at least one unit wide; maps that do not fit are reduced by
 * maximum. */
#include "cli/heatmap/page.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Lengths in page units and colours. They are matters of taste, tried on maps of 1 to 4096 tokens.
 */
static const double margin = 36, title_size = 20, subtitle_size = 12.5, small_size = 11;
static const double label_gap = 7, panel_gap = 26, tick_length = 3;
/* A linear scale has at most seven ticks. Each has 40 units: wider than "2e-05". */
static const double bar_width = 300, bar_height = 11;
static const double line_height = 1.2; /* of the font size; DejaVu's ascent + descent is 1.16 */
enum { INK = 0x1C1726, INK_LABEL = 0x3B3547, INK_FAINT = 0x7A7385, PAPER = 0xFFFFFF };
enum { LABEL_COLUMNS = 20, TITLE_COLUMNS = 110 };
/* Smaller cells are drawn without lines between them: one would see nothing but the lines. */
static const double least_cell_with_grid = 7;

/* ---- texts ---- */

static void draw_text(const fv_heatmap_canvas *canvas, const char *text, double x, double y,
                      double size, fv_heatmap_anchor anchor, uint32_t rgb) {
  fv_heatmap_text mark = {text, x, y, 0, size, anchor, false, rgb};
  if (text[0] != 0) canvas->text(canvas->state, &mark);
}

static void draw_small(const fv_heatmap_canvas *canvas, const char *text, double x, double y,
                       uint32_t rgb) {
  draw_text(canvas, text, x, y, small_size, FV_HEATMAP_ANCHOR_START, rgb);
}

/* ---- layout ---- */

/* The whole page stays below 10000 units, and a page with a single panel fits a screen. A viewer
 * shrinks larger pages by averages, and so loses the cells that matter. */
size_t fv_heatmap_most_cells(size_t panels) {
  if (panels == 1) return 1024;
  return panels <= 16 ? 512 : panels <= 64 ? 256 : 128;
}

/* The size of one of `count` cells, at least one whole unit. Few cells are large. Up to 64 cells
 * (alone) or 28 (in a grid of panels), each has space for a label. */
static double cell_size(size_t count, bool alone) {
  double number = (double)count;
  if (!alone)
    return count <= 16 ? fmin(28, floor(224 / number)) : fmax(1, fmin(14, floor(400 / number)));
  if (count <= 64) return fmax(14, fmin(48, floor(640 / number)));
  return fmax(1, floor(900 / number));
}

/* Cells are square, unless one side is so much longer that the other would become a thread. */
static void size_cells(fv_heatmap_page *page, bool alone) {
  const double least_for_label = 14;
  double tall = cell_size(page->blocks.rows, alone), broad = cell_size(page->blocks.cols, alone);
  double square = fmin(tall, broad);
  page->cell_height = fmax(square, fmin(tall, least_for_label));
  page->cell_width = fmax(square, fmin(broad, least_for_label));
}

static double panel_width(const fv_heatmap_page *page) {
  return page->cell_width * (double)page->blocks.cols;
}
static double panel_height(const fv_heatmap_page *page) {
  return page->cell_height * (double)page->blocks.rows;
}

/* Chooses the number of panels per line that comes nearest to a 4:3 page with few empty places. 12
 * square heads become 4 x 3; 12 strips (few queries, many keys) become one or two columns. */
static size_t panels_across(const fv_heatmap_page *page, size_t panels) {
  double width = panel_width(page) + panel_gap, height = panel_height(page) + 2 * panel_gap;
  double least_cost = INFINITY;
  size_t best = 1;
  for (size_t across = 1; across <= panels; across++) {
    size_t down = (panels + across - 1) / across;
    double aspect = width * (double)across / (height * (double)down);
    double empty = (double)(across * down - panels) / (double)panels;
    double cost = fabs(log(aspect / (4.0 / 3.0))) + 2 * empty;
    if (cost < least_cost) {
      least_cost = cost;
      best = across;
    }
  }
  return best;
}

/* A block's label is that of its first row or column. If others are left out, its index helps to
 * count. The index stands on the side of the cells: behind the word for rows, before it for
 * columns. */
static void block_label(fv_heatmap_label *label, const char *const *labels, size_t index,
                        bool thinned, bool row) {
  const char *text = labels == NULL ? NULL : labels[index];
  fv_heatmap_label_clean(label, text, index, LABEL_COLUMNS, false);
  if (!thinned || text == NULL) return;
  fv_heatmap_label word = *label;
  const int room = (int)sizeof label->text - 24; /* a word of LABEL_COLUMNS is far shorter */
  if (row) snprintf(label->text, sizeof label->text, "%.*s  %zu", room, word.text, index);
  if (!row) snprintf(label->text, sizeof label->text, "%zu  %.*s", index, room, word.text);
}

/* Only labels that will be drawn are measured: a font's glyphs are looked up one by one. */
static double longest_label(const fv_heatmap_page *page, const fv_heatmap *map, bool row,
                            const fv_heatmap_canvas *canvas) {
  const char *const *labels = row ? map->row_labels : map->col_labels;
  size_t blocks = row ? page->blocks.rows : page->blocks.cols;
  size_t per_block = row ? page->rows_per_block : page->cols_per_block;
  size_t step = row ? page->row_step : page->col_step;
  double longest = 0;
  for (size_t block = 0; block < blocks; block += step) {
    fv_heatmap_label label;
    block_label(&label, labels, block * per_block, step * per_block > 1, row);
    longest = fmax(longest, canvas->measure(canvas->state, label.text, page->label_size, false));
  }
  return ceil(longest);
}

static void size_labels(fv_heatmap_page *page) {
  double cell = fmin(page->cell_width, page->cell_height);
  page->label_size = fmax(9, fmin(13, 0.5 * cell));
  double line = line_height * page->label_size;
  page->row_step = fv_heatmap_label_step(page->cell_height, line);
  page->col_step = fv_heatmap_label_step(page->cell_width, line);
  /* At 45 degrees neighbours are closer by sqrt(1/2), measured across their lines. */
  page->col_angle = page->cell_width >= line * sqrt(2) ? 45 : 90;
}

static const char *axis_name(const char *name, const char *fallback) {
  return name == NULL ? fallback : name;
}

/* "key ->" and "query v" stand in the corner left of the column labels. */
static void axis_text(fv_heatmap_label *label, const fv_heatmap *map, bool rows) {
  const char *name = rows ? axis_name(map->row_axis, "query") : axis_name(map->col_axis, "key");
  fv_heatmap_label_clean(label, name, 0, LABEL_COLUMNS, false);
  strcat(label->text, rows ? " \xE2\x86\x93" : " \xE2\x86\x92"); /* the text is far shorter */
}

/* The title falls back to the title of the only panel. */
static void set_texts(fv_heatmap_page *page, const fv_heatmap *map) {
  fv_heatmap_label label;
  const char *title = map->title;
  if (title == NULL && map->panel_count == 1) title = map->panels[0].title;
  fv_heatmap_label_clean(&label, title == NULL ? "" : title, 0, TITLE_COLUMNS, false);
  snprintf(page->title, sizeof page->title, "%s", label.text);
  fv_heatmap_label_clean(&label, map->subtitle == NULL ? "" : map->subtitle, 0, TITLE_COLUMNS,
                         false);
  snprintf(page->subtitle, sizeof page->subtitle, "%s", label.text);
}

/* From the top down. Returns how far labels at 45 degrees lean out to the right. */
static double place_panels(fv_heatmap_page *page, const fv_heatmap *map,
                           const fv_heatmap_canvas *canvas) {
  double rows = longest_label(page, map, true, canvas);
  double cols = longest_label(page, map, false, canvas);
  for (int axis = 0; axis < 2; axis++) {
    fv_heatmap_label label;
    axis_text(&label, map, axis == 0);
    double caption = canvas->measure(canvas->state, label.text, small_size, false);
    rows = fmax(rows, ceil(caption + label_gap));
  }
  bool sloping = page->col_angle < 90;
  double lean = sloping ? cols * sqrt(0.5) : 0;
  double tall = sloping ? lean + line_height * page->label_size * sqrt(0.5) : cols;
  double head = margin;
  if (page->title[0] != 0) head += title_size * 1.4;
  if (page->subtitle[0] != 0) head += subtitle_size * 1.6;
  if (head > margin) head += 12;
  page->map_x = ceil(margin + rows + label_gap + tick_length);
  page->map_y = ceil(head + fmax(tall, 2 * line_height * small_size) + label_gap + tick_length);
  page->pitch_x = panel_width(page) + panel_gap;
  page->pitch_y = panel_height(page) + (map->panel_count > 1 ? 1.5 : 1) * panel_gap;
  return lean;
}

enum { CAPTION_BYTES = 160 };

static const char *scale_caption(const fv_heatmap *map, char *text) {
  const char *quantity = map->quantity ? map->quantity : "attention weight";
  if (fv_heatmap_cells_apart(map)) quantity = "share of the head's largest weight (in brackets)";
  snprintf(text, CAPTION_BYTES, "%s%s", quantity,
           map->scale == FV_HEATMAP_SCALE_ROOT ? ", root scale" : "");
  return text;
}

/* One line under the scale: a swatch for each kind that is no weight, and the reduction, so that
 * nobody who counts cells is misled. Without a ramp it is only measured. Returns where it ends. */
static double put_notes(const fv_heatmap_page *page, const fv_heatmap *map,
                        const fv_heatmap_canvas *canvas, const fv_heatmap_ramp *ramp) {
  const double between = 3 * label_gap;
  double x = page->bar.x, y = page->bar.y + bar_height + 30;
  char text[96];
  for (int kind = FV_HEATMAP_KINDS - 1; kind >= 0; kind--) {
    fv_heatmap_cells_note(map, &page->range, (fv_heatmap_kind)kind, text, sizeof text);
    if (text[0] == 0) continue;
    fv_heatmap_cell cell = {(fv_heatmap_kind)kind, 0};
    if (ramp) {
      canvas->rectangle(canvas->state, (fv_heatmap_box){x, y, bar_height, bar_height},
                        fv_heatmap_cells_color(ramp, cell));
    }
    x += bar_height + label_gap;
    if (ramp) draw_small(canvas, text, x, y + bar_height / 2, INK_LABEL);
    x += canvas->measure(canvas->state, text, small_size, false) + between;
  }
  if (page->rows_per_block * page->cols_per_block > 1) {
    snprintf(text, sizeof text, "each cell shows the largest of %zu \xC3\x97 %zu weights",
             page->rows_per_block, page->cols_per_block);
    if (ramp) draw_small(canvas, text, x, y + bar_height / 2, INK_LABEL);
    x += canvas->measure(canvas->state, text, small_size, false) + between;
  }
  return x > page->bar.x ? x - between : x;
}

void fv_heatmap_page_layout(fv_heatmap_page *page, const fv_heatmap *map,
                            const fv_heatmap_canvas *canvas) {
  memset(page, 0, sizeof *page);
  size_t limit = fv_heatmap_most_cells(map->panel_count);
  page->range = fv_heatmap_cells_range(map);
  page->blocks = fv_heatmap_cells_blocks(map, limit, limit);
  fv_heatmap_cells_reduction(map, &page->blocks, &page->rows_per_block, &page->cols_per_block);
  size_cells(page, map->panel_count == 1);
  page->panels_across = panels_across(page, map->panel_count);
  page->panels_down = (map->panel_count + page->panels_across - 1) / page->panels_across;
  size_labels(page);
  set_texts(page, map);
  double lean = place_panels(page, map, canvas);

  double maps_width = page->pitch_x * (double)page->panels_across - panel_gap;
  double maps_end = page->map_y + page->pitch_y * (double)page->panels_down;
  page->bar = (fv_heatmap_box){page->map_x, maps_end + 2, bar_width, bar_height};
  char text[CAPTION_BYTES];
  double caption = canvas->measure(canvas->state, scale_caption(map, text), small_size, false);
  double right = page->map_x + fmax(maps_width + lean, page->bar.width + 4 * label_gap + caption);
  right = fmax(right, margin + canvas->measure(canvas->state, page->title, title_size, true));
  right =
      fmax(right, margin + canvas->measure(canvas->state, page->subtitle, subtitle_size, false));
  double notes = put_notes(page, map, canvas, NULL);
  page->width = ceil(fmax(right, notes) + margin);
  page->height =
      ceil(page->bar.y + bar_height + 22 + (notes > page->bar.x ? 24 : 0) + margin * 0.75);
}

fv_heatmap_box fv_heatmap_page_panel(const fv_heatmap_page *page, size_t panel) {
  fv_heatmap_box box = {page->map_x + page->pitch_x * (double)(panel % page->panels_across),
                        page->map_y + page->pitch_y * (double)(panel / page->panels_across),
                        panel_width(page), panel_height(page)};
  return box;
}

/* ---- drawing ---- */

static void draw_head(const fv_heatmap_page *page, const fv_heatmap *map,
                      const fv_heatmap_canvas *canvas) {
  double y = margin - title_size * 0.15;
  if (page->title[0] != 0) {
    fv_heatmap_text title = {page->title, margin,     y + title_size * 0.5,
                             0,           title_size, FV_HEATMAP_ANCHOR_START,
                             true,        INK};
    canvas->text(canvas->state, &title);
    y += title_size * 1.4;
  }
  draw_text(canvas, page->subtitle, margin, y + subtitle_size * 0.6, subtitle_size,
            FV_HEATMAP_ANCHOR_START, INK_FAINT);
  /* Away from the first labels: half of each stands over the corner when cells are tiny. */
  double x = page->map_x - 2 * label_gap - tick_length;
  for (int axis = 0; axis < 2; axis++) {
    fv_heatmap_label label;
    axis_text(&label, map, axis == 0);
    double up = (axis == 0 ? 0.5 : 0.5 + line_height) * small_size;
    draw_text(canvas, label.text, x, page->map_y - label_gap - tick_length - up, small_size,
              FV_HEATMAP_ANCHOR_END, INK_FAINT);
  }
}

/* Row labels stand left of the first panel of each line, column labels over the first line. All
 * panels have the same tokens. */
static void draw_row_labels(const fv_heatmap_page *page, const fv_heatmap *map,
                            const fv_heatmap_canvas *canvas, double top) {
  bool thinned = page->row_step * page->rows_per_block > 1;
  for (size_t block = 0; block < page->blocks.rows; block += page->row_step) {
    fv_heatmap_label label;
    block_label(&label, map->row_labels, block * page->rows_per_block, thinned, true);
    double y = top + page->cell_height * ((double)block + 0.5);
    draw_text(canvas, label.text, page->map_x - label_gap - (thinned ? tick_length : 0), y,
              page->label_size, FV_HEATMAP_ANCHOR_END, INK_LABEL);
    fv_heatmap_box tick = {page->map_x - 2 - tick_length, y - 0.5, tick_length, 1};
    if (thinned) canvas->rectangle(canvas->state, tick, INK_FAINT);
  }
}

static void draw_col_labels(const fv_heatmap_page *page, const fv_heatmap *map,
                            const fv_heatmap_canvas *canvas, double left) {
  bool thinned = page->col_step * page->cols_per_block > 1;
  for (size_t block = 0; block < page->blocks.cols; block += page->col_step) {
    fv_heatmap_label label;
    block_label(&label, map->col_labels, block * page->cols_per_block, thinned, false);
    double x = left + page->cell_width * ((double)block + 0.5);
    fv_heatmap_text mark = {label.text,
                            x,
                            page->map_y - label_gap - (thinned ? tick_length : 0),
                            page->col_angle,
                            page->label_size,
                            FV_HEATMAP_ANCHOR_START,
                            false,
                            INK_LABEL};
    if (label.text[0] != 0) canvas->text(canvas->state, &mark);
    fv_heatmap_box tick = {x - 0.5, page->map_y - 2 - tick_length, 1, tick_length};
    if (thinned) canvas->rectangle(canvas->state, tick, INK_FAINT);
  }
}

/* What color_at needs to know about a panel. */
typedef struct cell_source {
  const fv_heatmap_page *page;
  const fv_heatmap *map;
  const fv_heatmap_ramp *ramp;
  size_t panel;
  double top; /* of the panel's scale */
} cell_source;

static uint32_t cell_color(const void *source, size_t row, size_t col) {
  const cell_source *from = source;
  const fv_heatmap_page *page = from->page;
  return fv_heatmap_cells_color(
      from->ramp, fv_heatmap_cells_at(from->map, from->top, &page->blocks, from->panel, row, col));
}

static uint32_t ramp_color(const void *source, size_t row, size_t col) {
  const fv_heatmap_ramp *ramp = source;
  (void)row;
  return ramp->rgb[col];
}

static void draw_cells(const fv_heatmap_page *page, const fv_heatmap *map,
                       const fv_heatmap_canvas *canvas, const fv_heatmap_ramp *ramp, size_t panel) {
  cell_source source = {page, map, ramp, panel, fv_heatmap_cells_top(map, &page->range, panel)};
  fv_heatmap_image image = {page->blocks.rows, page->blocks.cols, cell_color, &source};
  fv_heatmap_box box = fv_heatmap_page_panel(page, panel);
  canvas->image(canvas->state, box, &image);
  if (fmin(page->cell_width, page->cell_height) >= least_cell_with_grid) {
    canvas->grid(canvas->state, box, page->blocks.rows, page->blocks.cols, PAPER);
  }
}

static void draw_panel(const fv_heatmap_page *page, const fv_heatmap *map,
                       const fv_heatmap_canvas *canvas, const fv_heatmap_ramp *ramp, size_t panel) {
  draw_cells(page, map, canvas, ramp, panel);
  fv_heatmap_box box = fv_heatmap_page_panel(page, panel);
  if (panel % page->panels_across == 0) draw_row_labels(page, map, canvas, box.y);
  if (panel < page->panels_across) draw_col_labels(page, map, canvas, box.x);
  if (map->panel_count > 1) {
    fv_heatmap_label label;
    fv_heatmap_cells_title(map, &page->range, panel, LABEL_COLUMNS, false, &label);
    draw_text(canvas, label.text, box.x + box.width / 2, box.y + box.height + small_size + 2,
              small_size, FV_HEATMAP_ANCHOR_MIDDLE, INK_LABEL);
  }
}

/* The largest of 1, 2, 5 times a power of ten that divides the scale into at least three parts. */
static double tick_interval(double top) {
  double power = pow(10, floor(log10(top / 3)));
  double parts = top / 3 / power;
  return power * (parts >= 5 ? 5 : parts >= 2 ? 2 : 1);
}

/* Where a tick's number lies along the scale, to tell whether two would touch. */
typedef struct tick {
  char text[32];
  double x, width;
} tick;

static tick tick_at(const fv_heatmap_page *page, const fv_heatmap *map,
                    const fv_heatmap_canvas *canvas, double value) {
  tick at;
  snprintf(at.text, sizeof at.text, "%.3g", value);
  double level = fv_heatmap_cells_level(map->scale, value, page->range.top);
  at.x = page->bar.x + page->bar.width * level;
  at.width = canvas->measure(canvas->state, at.text, small_size, false);
  return at;
}

static void draw_tick(const fv_heatmap_page *page, const fv_heatmap_canvas *canvas,
                      const tick *at) {
  double y = page->bar.y + page->bar.height;
  canvas->rectangle(canvas->state, (fv_heatmap_box){at->x - 0.5, y, 1, tick_length}, INK_FAINT);
  draw_text(canvas, at->text, at->x, y + tick_length + small_size * 0.9, small_size,
            FV_HEATMAP_ANCHOR_MIDDLE, INK_LABEL);
}

/* The values of the scale's ticks below its top, at most TICKS_MAX. A root scale spreads small
 * weights, so its ticks are 1, 2, 5 of each power of ten, from the first hundredth of the bar on.
 */
enum { TICKS_MAX = 16 };
static size_t tick_values(const fv_heatmap *map, double top, double values[TICKS_MAX]) {
  static const double digits[] = {1, 2, 5};
  size_t count = 0;
  values[count++] = 0;
  if (map->scale != FV_HEATMAP_SCALE_ROOT) {
    double interval = tick_interval(top); /* the top is at most 7.5 intervals */
    for (int i = 1; i < 8; i++) values[count++] = interval * i;
    return count;
  }
  double power = pow(10, floor(log10(top)) - 3);
  for (int i = 0; i < 12; i++) {
    double value = power * digits[i % 3];
    if (value < top) values[count++] = value;
    if (i % 3 == 2) power *= 10;
  }
  return count;
}

/* A number too near to the one before it, or to the top's, is left out. */
static void draw_scale(const fv_heatmap_page *page, const fv_heatmap *map,
                       const fv_heatmap_canvas *canvas, const fv_heatmap_ramp *ramp) {
  fv_heatmap_image image = {1, FV_HEATMAP_RAMP_LEVELS, ramp_color, ramp};
  canvas->image(canvas->state, page->bar, &image);
  tick last = tick_at(page, map, canvas, page->range.top);
  draw_tick(page, canvas, &last);
  double values[TICKS_MAX], reached = -INFINITY;
  size_t count = tick_values(map, page->range.top, values);
  for (size_t i = 0; i < count; i++) {
    tick at = tick_at(page, map, canvas, values[i]);
    if (at.x + at.width / 2 + label_gap > last.x - last.width / 2) break;
    if (at.x - at.width / 2 < reached) continue;
    draw_tick(page, canvas, &at);
    reached = at.x + at.width / 2 + label_gap;
  }
  char text[CAPTION_BYTES];
  draw_small(canvas, scale_caption(map, text), page->bar.x + page->bar.width + 4 * label_gap,
             page->bar.y + bar_height / 2, INK_FAINT);
}

void fv_heatmap_page_draw(const fv_heatmap_page *page, const fv_heatmap *map,
                          const fv_heatmap_canvas *canvas) {
  fv_heatmap_ramp ramp;
  fv_heatmap_ramp_fill(&ramp);
  canvas->rectangle(canvas->state, (fv_heatmap_box){0, 0, page->width, page->height}, PAPER);
  draw_head(page, map, canvas);
  for (size_t panel = 0; panel < map->panel_count; panel++) {
    draw_panel(page, map, canvas, &ramp, panel);
  }
  draw_scale(page, map, canvas, &ramp);
  put_notes(page, map, canvas, &ramp);
}

/* cells.c: the scale of a map and its cells, shared by pictures and terminal.
 *
 * The computation of the weights may be under suspicion, so nothing is assumed of them. Each value
 * is first sorted into a kind, and only weights within the scale decide its top. A reduced cell
 * shows the maximum of its block, because attention is sparse: a mean would wash out the few keys
 * that matter. Called once per cell; a page has at most 2048 x 2048 cells. */
#include "cli/heatmap/cells.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* A softmax row in f32 may exceed 1 by its last bits; 2^-16 is far below one level of colour. */
static const double slack = 1.0 + 0x1p-16;

static const uint32_t kind_rgb[FV_HEATMAP_KINDS] = {
    /* Cyan, blue and lime: hues that the ramp lacks, distinct also for the colour-blind. */
    [FV_HEATMAP_KIND_ABOVE] = 0x9AE600,
    [FV_HEATMAP_KIND_BELOW] = 0x2F6BFF,
    [FV_HEATMAP_KIND_NAN] = 0x00D5E8,
};

const char *fv_heatmap_cells_complaint(const fv_heatmap *map) {
  if (map == NULL || map->panels == NULL || map->panel_count == 0) return "the map has no panels";
  if (map->panel_count > FV_HEATMAP_MAX_PANELS) return "the map has more than 1024 panels";
  if (map->rows == 0 || map->cols == 0) return "the map has no cells";
  /* Bounds every product and offset below, and every index that is printed as a label. */
  if (map->rows > INT32_MAX || map->cols > INT32_MAX)
    return "the map has more than 2^31 rows or columns";
  for (size_t i = 0; i < map->panel_count; i++) {
    if (map->panels[i].weights == NULL) return "a panel has no weights";
  }
  return NULL;
}

static const float *row_of(const fv_heatmap *map, size_t panel, size_t row) {
  ptrdiff_t stride = map->panels[panel].row_stride;
  if (stride == 0) stride = (ptrdiff_t)map->cols;
  return map->panels[panel].weights + (ptrdiff_t)row * stride;
}

static fv_heatmap_kind kind_of(float weight, double top) {
  if (isnan(weight)) return FV_HEATMAP_KIND_NAN;
  if (weight == FV_HEATMAP_HIDDEN) return FV_HEATMAP_KIND_HIDDEN;
  if (weight < 0) return FV_HEATMAP_KIND_BELOW;
  return weight > top * slack ? FV_HEATMAP_KIND_ABOVE : FV_HEATMAP_KIND_WEIGHT;
}

static double largest_finite(const fv_heatmap *map, size_t panel) {
  double largest = 0;
  for (size_t row = 0; row < map->rows; row++) {
    const float *weights = row_of(map, panel, row);
    for (size_t col = 0; col < map->cols; col++) {
      if (weights[col] > largest && !isinf(weights[col])) largest = weights[col];
    }
  }
  return largest;
}

bool fv_heatmap_cells_apart(const fv_heatmap *map) {
  bool own = map->scale == FV_HEATMAP_SCALE_PANEL || map->scale == FV_HEATMAP_SCALE_ROOT;
  return own && map->panel_count > 1;
}

static double shared_top(const fv_heatmap *map) {
  double largest = 0;
  if (map->scale == FV_HEATMAP_SCALE_ONE || fv_heatmap_cells_apart(map)) return 1;
  for (size_t panel = 0; panel < map->panel_count; panel++) {
    largest = fmax(largest, largest_finite(map, panel));
  }
  return largest > 0 ? largest : 1; /* a map of zeros is drawn on the scale 0..1 */
}

double fv_heatmap_cells_top(const fv_heatmap *map, const fv_heatmap_range *range, size_t panel) {
  if (!fv_heatmap_cells_apart(map)) return range->top;
  double largest = largest_finite(map, panel);
  return largest > 0 ? largest : 1;
}

fv_heatmap_range fv_heatmap_cells_range(const fv_heatmap *map) {
  fv_heatmap_range range = {.top = shared_top(map)};
  for (size_t panel = 0; panel < map->panel_count; panel++) {
    double top = fv_heatmap_cells_top(map, &range, panel);
    for (size_t row = 0; row < map->rows; row++) {
      const float *weights = row_of(map, panel, row);
      for (size_t col = 0; col < map->cols; col++) range.counts[kind_of(weights[col], top)]++;
    }
  }
  return range;
}

double fv_heatmap_cells_level(fv_heatmap_scale scale, double weight, double top) {
  double level = fmin(weight / top, 1.0);
  return scale == FV_HEATMAP_SCALE_ROOT ? sqrt(level) : level;
}

void fv_heatmap_cells_title(const fv_heatmap *map, const fv_heatmap_range *range, size_t panel,
                            size_t max_columns, bool ascii, fv_heatmap_label *label) {
  char top[32];
  fv_heatmap_label_clean(label, map->panels[panel].title, panel, max_columns, ascii);
  if (!fv_heatmap_cells_apart(map)) return;
  int columns = snprintf(top, sizeof top, " (%.2g)", fv_heatmap_cells_top(map, range, panel));
  if (label->columns + (size_t)columns > max_columns) return;
  strncat(label->text, top, sizeof label->text - strlen(label->text) - 1);
  label->columns += (size_t)columns;
}

void fv_heatmap_cells_reduction(const fv_heatmap *map, const fv_heatmap_blocks *blocks,
                                size_t *rows, size_t *cols) {
  *rows = map->rows_per_cell > 1 ? map->rows_per_cell : 1;
  *cols = map->cols_per_cell > 1 ? map->cols_per_cell : 1;
  if (blocks == NULL) return;
  *rows *= blocks->rows_per_block;
  *cols *= blocks->cols_per_block;
}

static size_t ceil_div(size_t number, size_t by) {
  return (number + by - 1) / by;
}

fv_heatmap_blocks fv_heatmap_cells_blocks(const fv_heatmap *map, size_t max_rows, size_t max_cols) {
  fv_heatmap_blocks blocks;
  blocks.rows_per_block = ceil_div(map->rows, max_rows);
  blocks.cols_per_block = ceil_div(map->cols, max_cols);
  blocks.rows = ceil_div(map->rows, blocks.rows_per_block);
  blocks.cols = ceil_div(map->cols, blocks.cols_per_block);
  return blocks;
}

fv_heatmap_cell fv_heatmap_cells_at(const fv_heatmap *map, double top,
                                    const fv_heatmap_blocks *blocks, size_t panel, size_t row,
                                    size_t col) {
  size_t row_begin = row * blocks->rows_per_block, row_end = row_begin + blocks->rows_per_block;
  size_t col_begin = col * blocks->cols_per_block, col_end = col_begin + blocks->cols_per_block;
  if (row_end > map->rows) row_end = map->rows;
  if (col_end > map->cols) col_end = map->cols;
  fv_heatmap_kind kind = FV_HEATMAP_KIND_HIDDEN;
  double largest = 0;
  for (size_t i = row_begin; i < row_end; i++) {
    const float *weights = row_of(map, panel, i);
    for (size_t j = col_begin; j < col_end; j++) {
      fv_heatmap_kind here = kind_of(weights[j], top);
      if (here > kind) kind = here;
      if (weights[j] > largest) largest = weights[j];
    }
  }
  fv_heatmap_cell cell = {kind, fv_heatmap_cells_level(map->scale, largest, top)};
  if (kind == FV_HEATMAP_KIND_NAN || kind == FV_HEATMAP_KIND_BELOW) cell.level = 0;
  return cell;
}

uint32_t fv_heatmap_cells_color(const fv_heatmap_ramp *ramp, fv_heatmap_cell cell) {
  if (cell.kind == FV_HEATMAP_KIND_HIDDEN) return ramp->hidden;
  if (cell.kind != FV_HEATMAP_KIND_WEIGHT) return kind_rgb[cell.kind];
  return ramp->rgb[(size_t)(cell.level * (FV_HEATMAP_RAMP_LEVELS - 1) + 0.5)];
}

char fv_heatmap_cells_character(fv_heatmap_cell cell) {
  static const char ramp[] = " .:-=+*#%@";
  static const char marks[FV_HEATMAP_KINDS] = {'/', 0, '>', '<', '!'};
  if (cell.kind != FV_HEATMAP_KIND_WEIGHT) return marks[cell.kind];
  return ramp[(size_t)(cell.level * (sizeof ramp - 2) + 0.5)];
}

void fv_heatmap_cells_note(const fv_heatmap *map, const fv_heatmap_range *range,
                           fv_heatmap_kind kind, char *text, size_t size) {
  text[0] = 0;
  if (kind == FV_HEATMAP_KIND_WEIGHT || range->counts[kind] == 0) return;
  size_t rows, cols, count = range->counts[kind];
  fv_heatmap_cells_reduction(map, NULL, &rows, &cols);
  const char *cells = rows * cols > 1 ? " cells" : ""; /* the weights were not counted */
  if (kind == FV_HEATMAP_KIND_HIDDEN) snprintf(text, size, "hidden from the query");
  if (kind == FV_HEATMAP_KIND_NAN) snprintf(text, size, "%zu%s not a number", count, cells);
  if (kind == FV_HEATMAP_KIND_BELOW) snprintf(text, size, "%zu%s below 0", count, cells);
  if (kind != FV_HEATMAP_KIND_ABOVE) return;
  if (fv_heatmap_cells_apart(map)) snprintf(text, size, "%zu%s infinite", count, cells);
  if (!fv_heatmap_cells_apart(map)) {
    snprintf(text, size, "%zu%s above %.3g", count, cells, range->top);
  }
}

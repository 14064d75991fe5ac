/* grid.c: see grid.h.
 *
 * 8 heads of 16384 x 16384 weights are 8.6 GB, and a page shows 512 x 512 cells of each. So rows
 * are folded into their cells as they are computed, and only the cells are kept: 64 MiB at most,
 * for 1024 panels of 128 x 128. */
#include "cli/heatmap/grid.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "cli/heatmap/cells.h"

bool fv_heatmap_grid_make(fv_heatmap_grid *grid, size_t panels, size_t rows, size_t cols) {
  fv_heatmap whole = {.rows = rows, .cols = cols};
  size_t most = fv_heatmap_most_cells(panels);
  fv_heatmap_blocks blocks = fv_heatmap_cells_blocks(&whole, most, most);
  *grid = (fv_heatmap_grid){.panels = panels,
                            .rows = rows,
                            .cols = cols,
                            .rows_per_cell = blocks.rows_per_block,
                            .cols_per_cell = blocks.cols_per_block,
                            .cell_rows = blocks.rows,
                            .cell_cols = blocks.cols};
  if (panels > SIZE_MAX / sizeof *grid->cells / (blocks.rows * blocks.cols)) return false;
  size_t count = panels * blocks.rows * blocks.cols;
  grid->cells = malloc(count * sizeof *grid->cells);
  if (grid->cells == NULL) return false;
  for (size_t i = 0; i < count; i++) grid->cells[i] = FV_HEATMAP_HIDDEN;
  return true;
}

/* What must be seen wins, as in a drawing: a NaN, then the most negative weight, then the largest.
 */
static float stronger(float a, float b) {
  if (isnan(a) || isnan(b)) return NAN;
  bool a_below = a < 0 && !isinf(a), b_below = b < 0 && !isinf(b);
  if (a_below && b_below) return fminf(a, b);
  if (a_below || b_below) return a_below ? a : b;
  return fmaxf(a, b);
}

/* Nearly all cells hold plain weights and hidden keys, for which the maximum is enough. */
static float fold(float cell, const float *weights, size_t count) {
  float largest = cell;
  int odd = 0;
  for (size_t i = 0; i < count; i++) {
    largest = weights[i] > largest ? weights[i] : largest;
    odd |= !(weights[i] >= 0) & (weights[i] != FV_HEATMAP_HIDDEN);
  }
  if (!odd && (cell >= 0 || cell == FV_HEATMAP_HIDDEN)) return largest;
  for (size_t i = 0; i < count; i++) cell = stronger(cell, weights[i]);
  return cell;
}

void fv_heatmap_grid_add(fv_heatmap_grid *grid, size_t panel, size_t row, const float *weights) {
  size_t line = panel * grid->cell_rows + row / grid->rows_per_cell;
  float *cells = grid->cells + line * grid->cell_cols;
  for (size_t cell = 0; cell < grid->cell_cols; cell++) {
    size_t begin = cell * grid->cols_per_cell, end = begin + grid->cols_per_cell;
    if (end > grid->cols) end = grid->cols;
    cells[cell] = fold(cells[cell], weights + begin, end - begin);
  }
}

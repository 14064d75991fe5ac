/* grid.h: weights that come row by row, reduced by maximum to what a page can show. */
#ifndef FOVEA_CLI_HEATMAP_GRID_H
#define FOVEA_CLI_HEATMAP_GRID_H

#include "cli/heatmap/heatmap.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fv_heatmap_grid {
  size_t panels, rows, cols;           /* in weights */
  size_t rows_per_cell, cols_per_cell; /* a cell is the maximum of that many */
  size_t cell_rows, cell_cols;         /* of one panel */
  float *cells;                        /* [panels][cell_rows][cell_cols] */
} fv_heatmap_grid;

/* All cells are hidden at first. False: out of memory. Free cells with free(). */
bool fv_heatmap_grid_make(fv_heatmap_grid *grid, size_t panels, size_t rows, size_t cols);

/* Takes one row of a panel; weights [cols], FV_HEATMAP_HIDDEN where a key is not seen. */
void fv_heatmap_grid_add(fv_heatmap_grid *grid, size_t panel, size_t row, const float *weights);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_CLI_HEATMAP_GRID_H */

/* cells.h: what every drawing reads from a map: its scale, and cells reduced by maximum. */
#ifndef FOVEA_CLI_HEATMAP_CELLS_H
#define FOVEA_CLI_HEATMAP_CELLS_H

#include <stdint.h>

#include "cli/heatmap/heatmap.h"
#include "cli/heatmap/label.h"
#include "cli/heatmap/ramp.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fv_heatmap_kind {
  FV_HEATMAP_KIND_HIDDEN, /* no weight: the query does not see the key */
  FV_HEATMAP_KIND_WEIGHT, /* within 0..top */
  FV_HEATMAP_KIND_ABOVE,  /* more than top, or infinite */
  FV_HEATMAP_KIND_BELOW,  /* negative */
  FV_HEATMAP_KIND_NAN,
  FV_HEATMAP_KINDS
} fv_heatmap_kind;

typedef struct fv_heatmap_range {
  double top;                      /* of the shared scale; 1 where each panel has its own */
  size_t counts[FV_HEATMAP_KINDS]; /* cells of all panels, by kind */
} fv_heatmap_range;

/* A cell, or the summary of a block of them. */
typedef struct fv_heatmap_cell {
  fv_heatmap_kind kind;
  double level; /* 0..1 along the scale; NaN has 0 */
} fv_heatmap_cell;

/* How a map is cut into blocks that become one drawn cell each. */
typedef struct fv_heatmap_blocks {
  size_t rows_per_block, cols_per_block;
  size_t rows, cols; /* blocks down and across */
} fv_heatmap_blocks;

/* NULL if the map can be drawn, else what is wrong with it. */
const char *fv_heatmap_cells_complaint(const fv_heatmap *map);

fv_heatmap_range fv_heatmap_cells_range(const fv_heatmap *map);

/* Whether each panel has a scale of its own. */
bool fv_heatmap_cells_apart(const fv_heatmap *map);

/* The weight at the upper end of a panel's scale: always finite and > 0. */
double fv_heatmap_cells_top(const fv_heatmap *map, const fv_heatmap_range *range, size_t panel);

/* Where a weight of 0..top lies along the scale, 0..1. */
double fv_heatmap_cells_level(fv_heatmap_scale scale, double weight, double top);

/* A panel's title. Its largest weight follows in brackets if the panel has its own scale and both
 * fit. */
void fv_heatmap_cells_title(const fv_heatmap *map, const fv_heatmap_range *range, size_t panel,
                            size_t max_columns, bool ascii, fv_heatmap_label *label);

/* How many weights a block covers along each side. Without blocks: how many a given cell covers. */
void fv_heatmap_cells_reduction(const fv_heatmap *map, const fv_heatmap_blocks *blocks,
                                size_t *rows, size_t *cols);

/* The fewest rows and columns per block that leave at most max_rows by max_cols blocks. */
fv_heatmap_blocks fv_heatmap_cells_blocks(const fv_heatmap *map, size_t max_rows, size_t max_cols);

/* The block's largest weight on the scale to `top`. A kind that must be seen wins: NaN, then below,
 * then above. A block is hidden only if all its cells are. */
fv_heatmap_cell fv_heatmap_cells_at(const fv_heatmap *map, double top,
                                    const fv_heatmap_blocks *blocks, size_t panel, size_t row,
                                    size_t col);

/* 0x00RRGGBB of a cell. */
uint32_t fv_heatmap_cells_color(const fv_heatmap_ramp *ramp, fv_heatmap_cell cell);

/* The character of " .:-=+*#%@" for a cell, or '!' NaN, '<' below, '>' above, '/' hidden. */
char fv_heatmap_cells_character(fv_heatmap_cell cell);

/* "3 not a number", "hidden from the query", or "" where the map has none of that kind. */
void fv_heatmap_cells_note(const fv_heatmap *map, const fv_heatmap_range *range,
                           fv_heatmap_kind kind, char *text, size_t size);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_CLI_HEATMAP_CELLS_H */

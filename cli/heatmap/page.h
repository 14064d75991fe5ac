/* page.h: the places of everything on a page, and the few verbs that draw a page. */
#ifndef FOVEA_CLI_HEATMAP_PAGE_H
#define FOVEA_CLI_HEATMAP_PAGE_H

#include "cli/heatmap/cells.h"
#include "cli/heatmap/heatmap.h"
#include "cli/heatmap/label.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fv_heatmap_anchor {
  FV_HEATMAP_ANCHOR_START,
  FV_HEATMAP_ANCHOR_MIDDLE,
  FV_HEATMAP_ANCHOR_END
} fv_heatmap_anchor;

typedef struct fv_heatmap_text {
  const char *text; /* cleaned */
  double x, y;      /* the anchor, at half the height of a lower-case letter's line */
  double angle;     /* degrees, counter-clockwise about the anchor */
  double size;      /* of the font, in page units */
  fv_heatmap_anchor anchor;
  bool bold;
  uint32_t rgb;
} fv_heatmap_text;

/* Flat cells. The painter asks for their colours and so decides where pixels live: nothing here
 * allocates memory. */
typedef struct fv_heatmap_image {
  size_t rows, cols;
  uint32_t (*color_at)(const void *source, size_t row, size_t col); /* 0x00RRGGBB */
  const void *source;
} fv_heatmap_image;

typedef struct fv_heatmap_box {
  double x, y, width, height;
} fv_heatmap_box;

/* The verbs that PNG and PDF (through Cairo) and SVG (written by hand) all have. Errors stick to
 * `state`; the painter asks for them once, at the end. */
typedef struct fv_heatmap_canvas {
  void *state;
  double (*measure)(void *state, const char *text, double size, bool bold);
  void (*rectangle)(void *state, fv_heatmap_box box, uint32_t rgb);
  void (*grid)(void *state, fv_heatmap_box box, size_t rows, size_t cols, uint32_t rgb);
  void (*text)(void *state, const fv_heatmap_text *text);
  void (*image)(void *state, fv_heatmap_box box, const fv_heatmap_image *image);
} fv_heatmap_canvas;

/* Page units are CSS pixels in SVG, points in PDF, and one or two pixels in PNG. Cell edges lie on
 * whole units, so that no cell is smeared over two pixels. */
typedef struct fv_heatmap_page {
  double width, height;
  fv_heatmap_range range;
  fv_heatmap_blocks blocks;
  size_t rows_per_block, cols_per_block; /* in weights, not in cells that were already reduced */
  double cell_width, cell_height;
  size_t panels_across, panels_down;
  double map_x, map_y;       /* the first panel's first cell */
  double pitch_x, pitch_y;   /* from one panel to the next */
  double label_size;         /* font of the token labels */
  size_t row_step, col_step; /* blocks from one label to the next */
  double col_angle;          /* 45 or 90 degrees */
  fv_heatmap_box bar;        /* the colour scale */
  char title[FV_HEATMAP_LABEL_BYTES];
  char subtitle[FV_HEATMAP_LABEL_BYTES];
} fv_heatmap_page;

/* Only canvas->measure is called. The map must have passed fv_heatmap_cells_complaint. */
void fv_heatmap_page_layout(fv_heatmap_page *page, const fv_heatmap *map,
                            const fv_heatmap_canvas *canvas);

/* The box of a panel's cells. */
fv_heatmap_box fv_heatmap_page_panel(const fv_heatmap_page *page, size_t panel);

/* Draws everything. */
void fv_heatmap_page_draw(const fv_heatmap_page *page, const fv_heatmap *map,
                          const fv_heatmap_canvas *canvas);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_CLI_HEATMAP_PAGE_H */

/* heatmap.h: attention weights as a picture: PNG, SVG and PDF files, or characters in a terminal.
 *
 * The caller fills one plain struct and keeps everything it points to alive during the call. Zero
 * is a sensible default for every optional field. Nothing here reads the environment, a locale or a
 * terminal: tests and users see the same.
 *
 * All texts may come from an untrusted file. They are decoded as UTF-8 and cut to a bounded length.
 * Control characters, escape sequences and invisible format characters in them become visible
 * marks. */
#ifndef FOVEA_CLI_HEATMAP_HEATMAP_H
#define FOVEA_CLI_HEATMAP_HEATMAP_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* More panels than any model has heads. This bound keeps a page within what Cairo can address. */
#define FV_HEATMAP_MAX_PANELS 1024

/* Stands in place of a weight where the query does not see the key. */
#define FV_HEATMAP_HIDDEN (-INFINITY)

typedef enum fv_heatmap_status {
  FV_HEATMAP_OK = 0,
  FV_HEATMAP_UNKNOWN_FORMAT, /* the path ends in none of .png .svg .pdf */
  FV_HEATMAP_BAD_MAP,        /* a required field is missing, zero or too large */
  FV_HEATMAP_NOT_WRITABLE,   /* the file or the stream did not take the bytes */
  FV_HEATMAP_NO_MEMORY
} fv_heatmap_status;

typedef enum fv_heatmap_scale {
  FV_HEATMAP_SCALE_MAX = 0, /* 0 to the largest finite weight of all panels */
  FV_HEATMAP_SCALE_ONE,     /* 0 to 1, so that two pictures can be compared */
  FV_HEATMAP_SCALE_PANEL,   /* each panel from 0 to its own largest, which stands by its title */
  FV_HEATMAP_SCALE_ROOT     /* as PANEL, but colours follow the square root of the weight */
} fv_heatmap_scale;

typedef struct fv_heatmap_panel {
  const float *weights; /* [rows][cols]; FV_HEATMAP_HIDDEN: not seen */
  ptrdiff_t row_stride; /* elements from one row to the next; 0 means cols */
  const char *title;    /* "head 3"; may be NULL */
} fv_heatmap_panel;

typedef struct fv_heatmap {
  const fv_heatmap_panel *panels; /* [panel_count], all of the same size */
  size_t panel_count;
  size_t rows;                   /* queries */
  size_t cols;                   /* keys */
  size_t rows_per_cell;          /* above 1: a given row is the maximum of that many rows; 0: 1 */
  size_t cols_per_cell;          /* likewise */
  const char *const *row_labels; /* [rows * rows_per_cell] UTF-8; NULL: indices */
  const char *const *col_labels; /* [cols * cols_per_cell] UTF-8; NULL: indices */
  const char *title;             /* may be NULL */
  const char *subtitle;          /* may be NULL */
  const char *row_axis;          /* NULL: "query" */
  const char *col_axis;          /* NULL: "key" */
  const char *quantity;          /* NULL: "attention weight" */
  fv_heatmap_scale scale;
} fv_heatmap;

typedef struct fv_heatmap_terminal_options {
  size_t width;  /* columns of the terminal; 0 means 80 */
  size_t height; /* most lines of one panel; 0 means 64 */
  bool color;    /* 24-bit colour; false: a ramp of ASCII characters */
  bool unicode;  /* half blocks, and labels as they are; false: ASCII only */
} fv_heatmap_terminal_options;

/* The most cells that a page shows along each side of one of `panels` panels. The caller, or this
 * module, reduces what has more rows or columns to at most that many. */
size_t fv_heatmap_most_cells(size_t panels);

/* Writes the map to `path` in the format its extension names (.png, .svg or .pdf, in any case).
 *
 * The picture is finished in memory and written by files/atomic_file.h. A reader sees the old file
 * or the whole new one, and a failure or a signal leaves nothing behind. A path that exists and is
 * not a regular file is refused.
 *
 * Weights outside 0..top, NaN and keys that are not seen have colours of their own. A line under
 * the scale says what each means, and how many there are, hidden ones aside. Maps too large for a
 * page are reduced by maximum: a NaN wins, and a cell is hidden only if all of it is. That line
 * says so.
 *
 * error [error_size]: receives one line that says what, where and what to do; may be NULL. */
fv_heatmap_status fv_heatmap_write(const fv_heatmap *map, const char *path, char *error,
                                   size_t error_size);

/* Draws the map on a stream: 24-bit colour cells if options->color, else characters of " .:-=+*#%@"
 * from low to high and '/' for keys that are not seen. Lines are at most options->width columns
 * wide; a width below 32 counts as 32. Panels stand side by side where they fit. `options` may be
 * NULL: 80 columns of ASCII. */
fv_heatmap_status fv_heatmap_terminal(const fv_heatmap *map, FILE *stream,
                                      const fv_heatmap_terminal_options *options);

/* Frees what Cairo and fontconfig keep for the next picture, above all fonts. Useful before exit: a
 * leak checker then reports our leaks alone. Later calls of fv_heatmap_write still work. */
void fv_heatmap_release(void);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_CLI_HEATMAP_HEATMAP_H */

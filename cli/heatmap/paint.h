/* paint.h: turns a map into the bytes of a file, one function per way of painting. */
#ifndef FOVEA_CLI_HEATMAP_PAINT_H
#define FOVEA_CLI_HEATMAP_PAINT_H

#include "cli/heatmap/page.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A canvas that can only measure; `state` must be released. NULL state: out of memory. */
fv_heatmap_canvas fv_heatmap_cairo_ruler(void);
void fv_heatmap_cairo_ruler_release(fv_heatmap_canvas *ruler);

/* PNG of an image alone, without a page, for embedding. It is scaled up to width x height pixels.
 */
typedef bool fv_heatmap_sink(void *state, const unsigned char *bytes, size_t count);
bool fv_heatmap_cairo_encode(const fv_heatmap_image *image, int width, int height,
                             fv_heatmap_sink *sink, void *state);

/* Each appends a whole file to `stream`. */
fv_heatmap_status fv_heatmap_cairo_png(const fv_heatmap *map, FILE *stream);
fv_heatmap_status fv_heatmap_cairo_pdf(const fv_heatmap *map, FILE *stream);
fv_heatmap_status fv_heatmap_svg(const fv_heatmap *map, FILE *stream);

/* Pixels per page unit of this page's PNG: 2, or 1 where the image would be very large. */
double fv_heatmap_cairo_density(const fv_heatmap_page *page);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_CLI_HEATMAP_PAINT_H */

/* label.h: texts from files, made safe to show and measured in terminal columns. */
#ifndef FOVEA_CLI_HEATMAP_LABEL_H
#define FOVEA_CLI_HEATMAP_LABEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Holds 120 columns of the longest sequences with their marks; longer texts are cut. */
#define FV_HEATMAP_LABEL_BYTES 512

typedef struct fv_heatmap_label {
  char text[FV_HEATMAP_LABEL_BYTES]; /* valid UTF-8 (or ASCII), without control characters */
  size_t columns;                    /* columns that it takes in a terminal */
} fv_heatmap_label;

/* Decodes the code point at *text and moves past it. Returns U+FFFD for each byte that is not
 * UTF-8, and 0 at the end. */
uint32_t fv_heatmap_label_decode(const char **text);

/* Columns of a terminal that a code point takes: 0 for a combining mark, 2 for East Asian wide. */
size_t fv_heatmap_label_columns(uint32_t code_point);

/* Makes `text` (NULL: the number `index`) safe and at most max_columns wide. A cut text ends in an
 * ellipsis. */
void fv_heatmap_label_clean(fv_heatmap_label *label, const char *text, size_t index,
                            size_t max_columns, bool ascii);

/* Copies the nth character of a cleaned label, with its combining marks, to `glyph` (empty past the
 * end). Returns its columns. Used for labels that run downwards. */
size_t fv_heatmap_label_glyph(const fv_heatmap_label *label, size_t nth, char glyph[16]);

/* The smallest step of 1, 2, 5, 10, 20, 50, ... that keeps labels `need` apart: labels are `step`
 * entries apart, and each entry is `pitch` wide. */
size_t fv_heatmap_label_step(double pitch, double need);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_CLI_HEATMAP_LABEL_H */

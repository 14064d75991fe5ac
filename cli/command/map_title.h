/* map_title.h - what a heat map says about itself. */
#ifndef FOVEA_CLI_COMMAND_MAP_TITLE_H
#define FOVEA_CLI_COMMAND_MAP_TITLE_H

#include "cli/input/attention_input.h"

typedef struct fv_map_title {
  char title[512];    /* file, layer, heads */
  char subtitle[512]; /* batch row, and all that decides what is visible; the model */
} fv_map_title;

void fv_map_title_write(fv_map_title *title, const fv_input *input, int64_t batch,
                        int64_t first_head, int64_t heads, bool mass);

#endif /* FOVEA_CLI_COMMAND_MAP_TITLE_H */

/* map_title.h - what a heat map says about itself. */
#ifndef FOVEA_CLI_COMMAND_MAP_TITLE_H
#define FOVEA_CLI_COMMAND_MAP_TITLE_H

#include "cli/input/attention_input.h"

typedef struct fv_map_title {
  char title[512];    /* file, layer, heads */
  char subtitle[512]; /* batch row, and all that decides what is visible; the model */
} fv_map_title;

typedef struct fv_map_subject {
  int64_t batch, batches; /* the batch row, of how many */
  int64_t first_head, heads;
  bool mass;
  bool one_of_several;   /* one head is drawn, and the file has more */
  const char *head_name; /* of the first head; NULL or "": it has a number */
} fv_map_subject;

/* Of attention that is computed, and of weights that `file` holds, whose metadata `title` replaces
 * the file's name. */
void fv_map_title_write(fv_map_title *title, const fv_input *input, const fv_map_subject *subject);
void fv_map_title_of_weights(fv_map_title *title, const fv_tensor_file *file, const char *path,
                             const fv_map_subject *subject);

#endif /* FOVEA_CLI_COMMAND_MAP_TITLE_H */

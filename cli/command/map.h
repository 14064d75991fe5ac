/* map.h - what `fovea map` draws, and the two places where its weights come from: attention that it
 * computes from q, k and v, and weights that a file holds. */
#ifndef FOVEA_CLI_COMMAND_MAP_H
#define FOVEA_CLI_COMMAND_MAP_H

#include "cli/command/map_title.h"
#include "cli/heatmap/grid.h"
#include "cli/heatmap/heatmap.h"
#include "cli/input/attention_input.h"

typedef struct fv_map_options {
  fv_input_options input; /* first: input flags and words store into it */
  const char *output;
  int64_t batch, head;
  bool one_head, all_heads; /* as given on the command line */
  bool mass;                /* of keys, instead of weights */
  fv_heatmap_scale scale;
} fv_map_options;

/* The part of a batch row that is drawn, its weights reduced to what a page can show. Zeros are a
 * valid empty one. */
typedef struct fv_map_data {
  int64_t rows, keys, heads, first_head;
  fv_heatmap_grid grid;            /* a panel per head; of masses one, whose rows are heads */
  char **row_labels, **key_labels; /* as fv_tokens_read makes them; may be the same */
  char **head_names;               /* of the heads from 0 on; NULL: they have numbers */
  char *row_axis, *key_axis;       /* NULL: "query", "key" */
  char *quantity;                  /* NULL: "attention weight" */
  fv_map_title title;
} fv_map_data;

/* Both return an exit code; on failure the reason was printed. The data is to be freed in any case.
 * The second takes a file for which fv_map_lacks_queries is true. */
int fv_map_attention(const fv_map_options *options, fv_map_data *map);
int fv_map_weights(const fv_map_options *options, fv_map_data *map);

/* Whether the file is one for fv_map_weights: without q, or .npy, which has one tensor. Of a file
 * that cannot be read its name decides. */
bool fv_map_lacks_queries(const char *path);

/* For both: which heads are drawn of how many in the file, and whether there is anything at all. */
int fv_map_choose_heads(const fv_map_options *options, const char *label, int64_t batches,
                        int64_t heads, fv_map_data *map);
int fv_map_refuse_empty(const fv_map_options *options, const char *label, const fv_map_data *map);

/* On a terminal, how many of all rows are done; nothing for a moment's work. */
void fv_map_show_progress(const fv_map_data *map, int64_t done);

#endif /* FOVEA_CLI_COMMAND_MAP_H */

/* map_weights.c - weights that a file holds: those of a layer, of a model in another language, of
 * anything that is a row of numbers per query. */
#include <stdlib.h>
#include <string.h>

#include "cli/command/map.h"
#include "cli/command/output_path.h"
#include "cli/error.h"
#include "cli/input/tokens.h"
#include "csrc/host/element.h"

/* The tensor as [batch, heads, rows, keys]: dims that it lacks are 1. */
typedef struct weights_file {
  const char *path;
  fv_tensor_file *file;
  const void *data;
  uint32_t dtype;
  int64_t shape[4];
} weights_file;

enum { BATCH, HEADS, ROWS, KEYS };

static bool is_npy(const char *path) {
  const char *end = strrchr(path, '.');
  return end && !strcmp(end, ".npy");
}

bool fv_map_lacks_queries(const char *path) {
  fv_tensor_file *file;
  if (!path) return false;
  if (fv_tensor_file_open_header(path, "weights", &file, NULL) != FV_FILE_OK) return is_npy(path);
  bool lacks = !fv_tensor_file_find(file, "q");
  fv_tensor_file_close(file);
  return lacks;
}

/* ---- The file ---- */

static int refuse(const weights_file *from, const char *why) {
  return fv_cli_fail(FV_EXIT_INPUT, "%s: tensor weights %s", from->path, why);
}

static int refuse_absent(const weights_file *from) {
  return fv_cli_fail(FV_EXIT_INPUT,
                     "%s: tensor q is missing, and so is weights; give q, k and v, or weights",
                     from->path);
}

static int open_weights(const char *path, weights_file *from) {
  fv_file_error error;
  *from = (weights_file){.path = path, .shape = {1, 1, 1, 1}};
  if (fv_tensor_file_open(path, "weights", &from->file, &error) != FV_FILE_OK) {
    return fv_cli_fail_file(&error);
  }
  const fv_file_tensor *tensor = fv_tensor_file_find(from->file, "weights");
  if (!tensor) return refuse_absent(from);
  from->data = tensor->data;
  from->dtype = fv_input_dtype(tensor->dtype);
  if (!from->dtype) return refuse(from, "must be F32, F16 or BF16; convert it");
  if (tensor->rank < 2 || tensor->rank > 4) {
    return refuse(from,
                  "must be [queries, keys], with [heads] and [batch] before them if you like");
  }
  for (uint32_t d = 0; d < tensor->rank; ++d) {
    if (tensor->shape[d] > INT32_MAX) return refuse(from, "has an extent of 2^31 or more");
    from->shape[4 - tensor->rank + d] = tensor->shape[d];
  }
  return FV_EXIT_OK;
}

/* Flags that say how to compute what is already there. */
static int refuse_flags(const fv_input_options *given, const char *path) {
  const char *flag = NULL;
  if (given->layout) flag = "layout";
  if (given->dtype) flag = "dtype";
  if (given->has_causal) flag = "causal";
  if (given->has_window) flag = "window";
  if (given->has_scale) flag = "scale";
  if (given->has_softcap) flag = "softcap";
  if (given->device) flag = "device";
  if (given->threads) flag = "threads";
  if (!flag) return FV_EXIT_OK;
  return fv_cli_fail(FV_EXIT_USAGE, "--%s: %s holds weights, which are drawn as they are", flag,
                     path);
}

/* ---- Weights ---- */

/* Row r of head h, as f32 into row [keys]. */
static void read_row(const weights_file *from, int64_t batch, int64_t h, int64_t r, float *row) {
  int64_t keys = from->shape[KEYS];
  int64_t first = ((batch * from->shape[HEADS] + h) * from->shape[ROWS] + r) * keys;
  for (int64_t j = 0; j < keys; ++j) row[j] = fv_load(from->dtype, from->data, first + j);
}

static void add_weights(const weights_file *from, int64_t batch, fv_map_data *map, float *row) {
  for (int64_t h = 0; h < map->heads; ++h) {
    for (int64_t r = 0; r < map->rows; ++r) {
      read_row(from, batch, map->first_head + h, r, row);
      fv_heatmap_grid_add(&map->grid, (size_t)h, (size_t)r, row);
      fv_map_show_progress(map, h * map->rows + r + 1);
    }
  }
}

/* Keys that a row does not see, -infinity, weigh nothing. */
static void add_mass(const weights_file *from, int64_t batch, fv_map_data *map, float *row) {
  float *mass = row + map->keys;
  for (int64_t h = 0; h < map->heads; ++h) {
    for (int64_t j = 0; j < map->keys; ++j) mass[j] = 0;
    for (int64_t r = 0; r < map->rows; ++r) {
      read_row(from, batch, map->first_head + h, r, row);
      for (int64_t j = 0; j < map->keys; ++j) mass[j] += row[j] == FV_HEATMAP_HIDDEN ? 0 : row[j];
    }
    fv_heatmap_grid_add(&map->grid, 0, (size_t)h, mass);
    fv_map_show_progress(map, (h + 1) * map->rows);
  }
}

static int reduce(const fv_map_options *options, const weights_file *from, fv_map_data *map) {
  size_t heads = (size_t)map->heads, rows = (size_t)map->rows, keys = (size_t)map->keys;
  size_t panels = options->mass ? 1 : heads, lines = options->mass ? heads : rows;
  float *row = malloc(2 * keys * sizeof *row);
  bool made = row && fv_heatmap_grid_make(&map->grid, panels, lines, keys);
  if (made && options->mass) add_mass(from, options->batch, map, row);
  if (made && !options->mass) add_weights(from, options->batch, map, row);
  free(row);
  return made ? FV_EXIT_OK : fv_cli_out_of_memory();
}

/* ---- Labels ---- */

static int copy_text(const weights_file *from, const char *key, char **text) {
  const char *stored = fv_tensor_file_metadata(from->file, key);
  if (!stored || !*stored) return FV_EXIT_OK;
  *text = strdup(stored);
  return *text ? FV_EXIT_OK : fv_cli_out_of_memory();
}

static int read_labels(const fv_map_options *options, const weights_file *from, fv_map_data *map) {
  const char *names = fv_tensor_file_metadata(from->file, "head_names");
  int code = fv_tokens_of_map(from->file, from->path, options->batch, map->rows, map->keys,
                              &map->row_labels, &map->key_labels);
  if (!code) {
    code = fv_names_read(names, "head_names", from->path, from->shape[HEADS], &map->head_names);
  }
  if (!code) code = copy_text(from, "query_axis", &map->row_axis);
  if (!code) code = copy_text(from, "key_axis", &map->key_axis);
  if (!code) code = copy_text(from, "quantity", &map->quantity);
  return code;
}

/* ---- The map ---- */

static int draw(const fv_map_options *options, const weights_file *from, fv_map_data *map) {
  int code = refuse_flags(&options->input, from->path);
  if (!code) {
    code = fv_map_choose_heads(options, from->path, from->shape[BATCH], from->shape[HEADS], map);
  }
  map->rows = from->shape[ROWS];
  map->keys = from->shape[KEYS];
  if (!code && options->output) code = fv_output_path_check(options->output, &from->path, 1);
  if (!code) code = fv_map_refuse_empty(options, from->path, map);
  if (!code) code = read_labels(options, from, map);
  if (code) return code;
  fv_map_subject subject = {.batch = options->batch,
                            .batches = from->shape[BATCH],
                            .first_head = map->first_head,
                            .heads = map->heads,
                            .mass = options->mass,
                            .one_of_several = map->heads < from->shape[HEADS],
                            .head_name = map->head_names ? map->head_names[map->first_head] : NULL};
  fv_map_title_of_weights(&map->title, from->file, from->path, &subject);
  return reduce(options, from, map);
}

int fv_map_weights(const fv_map_options *options, fv_map_data *map) {
  weights_file from;
  int code = open_weights(options->input.file, &from);
  if (!code) code = draw(options, &from, map);
  fv_tensor_file_close(from.file);
  return code;
}

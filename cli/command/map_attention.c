/* map_attention.c - the weights that `fovea map` computes from q, k and v. */
#include <stdlib.h>
#include <string.h>

#include "cli/command/map.h"
#include "cli/command/output_path.h"
#include "cli/error.h"
#include "cli/heatmap/weight_bands.h"
#include "cli/input/tokens.h"

/* ---- Weights ---- */

static int compute_head(fv_weight_bands *bands, fv_map_data *map, int64_t h) {
  int64_t count;
  for (int64_t begin = 0; begin < map->rows; begin += count) {
    count = map->rows - begin < bands->band_rows ? map->rows - begin : bands->band_rows;
    int code = fv_weight_bands_compute(bands, map->first_head + h, begin, count);
    if (code) return code;
    for (int64_t r = 0; r < count; ++r) {
      fv_heatmap_grid_add(&map->grid, (size_t)h, (size_t)(begin + r),
                          bands->weights + r * bands->keys);
    }
    fv_map_show_progress(map, h * map->rows + begin + count);
  }
  return FV_EXIT_OK;
}

static int compute_weights(fovea_handle *handle, const fv_input *input, int64_t batch,
                           fv_map_data *map) {
  if (!fv_heatmap_grid_make(&map->grid, (size_t)map->heads, (size_t)map->rows, (size_t)map->keys)) {
    return fv_cli_out_of_memory();
  }
  fv_weight_bands bands;
  int code = fv_weight_bands_open(&bands, handle, input, batch, map->rows, map->keys);
  for (int64_t h = 0; !code && h < map->heads; ++h) code = compute_head(&bands, map, h);
  fv_weight_bands_close(&bands);
  return code;
}

/* ---- Mass ---- */

/* One row per head of the drawing. */
static int add_up(fovea_handle *handle, const fv_input *input, int64_t batch, fv_map_data *map,
                  int32_t *heads, float *mass) {
  int32_t sequence = (int32_t)batch;
  fovea_weights_args args = {.struct_size = sizeof args, .attention = &input->args};
  for (int64_t h = 0; h < map->heads; ++h) heads[h] = (int32_t)(map->first_head + h);
  args.sequences = &sequence;
  args.heads = heads;
  args.row_count = map->rows;
  args.mass = fovea_contiguous(mass, FOVEA_F32, 1, 1, map->heads, map->keys);
  fovea_status status = fovea_attention_weights(handle, &args, NULL);
  if (status != FOVEA_OK) return fv_cli_fail_call(input->label, status);
  for (int64_t h = 0; h < map->heads; ++h)
    fv_heatmap_grid_add(&map->grid, 0, (size_t)h, mass + h * map->keys);
  return FV_EXIT_OK;
}

static int compute_mass(fovea_handle *handle, const fv_input *input, int64_t batch,
                        fv_map_data *map) {
  size_t heads = (size_t)map->heads, keys = (size_t)map->keys;
  if (!fv_heatmap_grid_make(&map->grid, 1, heads, keys)) return fv_cli_out_of_memory();
  int32_t *numbers = malloc(heads * sizeof *numbers);
  float *mass = malloc(heads * keys * sizeof *mass);
  int code =
      numbers && mass ? add_up(handle, input, batch, map, numbers, mass) : fv_cli_out_of_memory();
  free(numbers);
  free(mass);
  return code;
}

/* ---- What to draw ---- */

/* Keys up to the last one that the attention mask leaves visible; the rest is padding. */
static int64_t real_keys(const fv_input *input, int64_t batch) {
  int64_t keys = input->args.k.shape[1];
  if (!input->mask) return keys;
  const unsigned char *mask = input->mask + batch * keys;
  while (keys > 0 && !mask[keys - 1]) --keys;
  return keys;
}

static int choose_part(const fv_map_options *options, const fv_input *input, fv_map_data *map) {
  const fovea_tensor *q = &input->args.q;
  int code = fv_map_choose_heads(options, input->label, q->shape[0], q->shape[2], map);
  if (code) return code;
  map->keys = real_keys(input, options->batch);
  /* Self-attention pads queries like keys. Queries with tokens of their own are no self-attention.
   */
  bool others = fv_tensor_file_metadata(input->files[0], "query_tokens");
  bool self = !others && q->shape[1] == input->args.k.shape[1];
  map->rows = self ? map->keys : q->shape[1];
  return FV_EXIT_OK;
}

/* Labels come first: they are refused before the work, not after it. */
static int draw(const fv_map_options *options, fovea_handle *handle, const fv_input *input,
                fv_map_data *map) {
  const fovea_attention_args *args = &input->args;
  int code = fv_map_refuse_empty(options, input->label, map);
  if (!code) {
    code = fv_tokens_of_map(input->files[0], input->label, options->batch, args->q.shape[1],
                            args->k.shape[1], &map->row_labels, &map->key_labels);
  }
  if (code) return code;
  fv_map_subject subject = {.batch = options->batch,
                            .batches = args->q.shape[0],
                            .first_head = map->first_head,
                            .heads = map->heads,
                            .mass = options->mass};
  fv_map_title_write(&map->title, input, &subject);
  return options->mass ? compute_mass(handle, input, options->batch, map)
                       : compute_weights(handle, input, options->batch, map);
}

int fv_map_attention(const fv_map_options *options, fv_map_data *map) {
  fv_input input;
  fovea_handle *handle;
  int code = fv_input_open(&options->input, &input);
  if (code) return code;
  code = choose_part(options, &input, map);
  if (!code && options->output) {
    code = fv_output_path_check(options->output, input.paths, input.file_count);
  }
  if (!code) code = fv_input_device(&options->input, &handle);
  if (!code) {
    code = draw(options, handle, &input, map);
    fovea_destroy(handle);
  }
  fv_input_close(&input);
  return code;
}

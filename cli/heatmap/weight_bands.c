/* weight_bands.c - see weight_bands.h. Bands bound the memory for any length: 1024 rows, 64 MiB. */
#include "cli/heatmap/weight_bands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/error.h"
#include "csrc/host/row_mask.h"

enum { BAND_ROWS = 1024, BAND_BYTES = 64 * 1024 * 1024 };

/* ---- Opening ---- */

static bool find_sequence(fv_weight_bands *b) {
  fv_sequence_cursor cursor = {0};
  while (fv_sequence_next(&b->problem, &cursor, &b->sequence)) {
    if (b->sequence.index == b->batch) return true;
  }
  return false;
}

static bool allocate(fv_weight_bands *b) {
  size_t rows = (size_t)b->band_rows, keys = (size_t)b->keys;
  b->weights = malloc(rows * keys * sizeof *b->weights);
  b->live = malloc(keys);
  b->visible = malloc(keys);
  b->numbers = malloc(rows * sizeof *b->numbers);
  return b->weights && b->live && b->visible && b->numbers;
}

int fv_weight_bands_open(fv_weight_bands *b, fovea_handle *handle, const fv_input *input,
                         int64_t batch, int64_t rows, int64_t keys) {
  *b = (fv_weight_bands){
      .handle = handle, .input = input, .batch = batch, .rows = rows, .keys = keys};
  b->band_rows = BAND_BYTES / (keys * (int64_t)sizeof *b->weights);
  if (b->band_rows > BAND_ROWS) b->band_rows = BAND_ROWS;
  if (b->band_rows > rows) b->band_rows = rows;
  if (b->band_rows < 1) b->band_rows = 1;
  fovea_status status = fv_check_attention_shape(&input->args, &b->problem);
  if (status != FOVEA_OK || !find_sequence(b)) return fv_cli_fail_call(input->label, status);
  if (!allocate(b)) {
    return fv_cli_fail(FV_EXIT_OUTPUT,
                       "%s: out of memory: %lld x %lld weights at a time; free some", input->label,
                       (long long)b->band_rows, (long long)keys);
  }
  memset(b->live, 1, (size_t)keys);
  return FV_EXIT_OK;
}

void fv_weight_bands_close(fv_weight_bands *b) {
  free(b->weights);
  free(b->live);
  free(b->visible);
  free(b->numbers);
}

/* ---- The band ---- */

static fovea_status weigh(fv_weight_bands *b, int64_t head, int64_t begin, int64_t count) {
  int32_t sequence = (int32_t)b->batch, chosen = (int32_t)head;
  for (int64_t r = 0; r < count; ++r) b->numbers[r] = (int32_t)(begin + r);
  fovea_weights_args args = {.struct_size = sizeof args, .attention = &b->input->args};
  args.weights = fovea_contiguous(b->weights, FOVEA_F32, 1, count, 1, b->keys);
  args.sequences = &sequence;
  args.rows = b->numbers;
  args.heads = &chosen;
  return fovea_attention_weights(b->handle, &args, NULL);
}

/* A computed weight of -inf is no weight, and must not pass for a hidden key. */
static void hide_unseen(fv_weight_bands *b, int64_t head, int64_t begin, int64_t count) {
  for (int64_t row = 0; row < count; ++row) {
    fv_row_mask mask = fv_row_mask_for(&b->problem, &b->sequence, begin + row, head);
    uint32_t errors = 0;
    float *weights = b->weights + row * b->keys;
    fv_find_visible(&mask, b->live, 0, 0, (int32_t)b->keys, b->visible, &errors);
    for (int64_t j = 0; j < b->keys; ++j) {
      if (weights[j] == -INFINITY) weights[j] = NAN;
      weights[j] = b->visible[j] ? weights[j] : -INFINITY;
    }
  }
}

int fv_weight_bands_compute(fv_weight_bands *b, int64_t head, int64_t begin, int64_t count) {
  fovea_status status = weigh(b, head, begin, count);
  if (status != FOVEA_OK) return fv_cli_fail_call(b->input->label, status);
  hide_unseen(b, head, begin, count);
  return FV_EXIT_OK;
}

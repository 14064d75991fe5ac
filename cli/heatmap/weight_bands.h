/* weight_bands.h - the attention weights of one head, a band of rows at a time. */
#ifndef FOVEA_CLI_HEATMAP_WEIGHT_BANDS_H
#define FOVEA_CLI_HEATMAP_WEIGHT_BANDS_H

#include "cli/input/attention_input.h"
#include "csrc/check/check.h"
#include "csrc/host/sequence.h"

typedef struct fv_weight_bands {
  fovea_handle *handle;
  const fv_input *input;
  int64_t batch, rows, keys;
  int64_t band_rows; /* rows of the largest band */
  float *weights;    /* [band_rows][keys], the current band */

  /* The other fields are private to weight_bands.c. */
  fv_problem problem;
  fv_sequence sequence;
  uint8_t *live, *visible; /* [keys]; live is all ones */
  int32_t *numbers;        /* [band_rows]: numbers of the band's rows */
} fv_weight_bands;

/* Prepares for the first `rows` rows and `keys` keys of a batch row, both at least 1. Returns an
 * exit code; on failure the reason was printed. Close it in any case. */
int fv_weight_bands_open(fv_weight_bands *bands, fovea_handle *handle, const fv_input *input,
                         int64_t batch, int64_t rows, int64_t keys);

/* Computes rows [begin, begin + count) of a head into bands->weights, count <= band_rows; -inf
 * stands where a row does not see the key. Returns an exit code. */
int fv_weight_bands_compute(fv_weight_bands *bands, int64_t head, int64_t begin, int64_t count);

void fv_weight_bands_close(fv_weight_bands *bands);

#endif /* FOVEA_CLI_HEATMAP_WEIGHT_BANDS_H */

/* weight_bands.c - see weight_bands.h.
 *
 * fovea_attention_weights is a tool for few rows: it works in double precision and computes each
 * logit three times. It serves here on the reference. On the CPU the picture shows what the CPU
 * computes: attention whose values are unit vectors gives the weights themselves. That takes a
 * fourteenth of the processor time (8 heads of 4096 x 4096). Keys are cut into blocks as long as a
 * vector, each a call of its own:
 *
 *   out[i][j] = w[j] within the block,   lse[i] of the block
 *   weight of key j = out[i][j] * exp(lse[i]) / (the sum of exp(lse[i]) over all blocks)
 *
 * The result is a view into the band, so nothing is copied. Bands bound the memory for any length:
 * 1024 rows, or 64 MiB. */
#define _GNU_SOURCE /* aligned_alloc beside POSIX */
#include "cli/heatmap/weight_bands.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/error.h"
#include "csrc/host/row_mask.h"

enum {
  BLOCK_KEYS = 64, /* at dim 64 a weight takes as many multiplications as its logit */
  BAND_ROWS = 1024,
  BAND_BYTES = 64 * 1024 * 1024
};

/* ---- Opening ---- */

static int64_t block_count(const fv_weight_bands *b) {
  return b->pitch / BLOCK_KEYS;
}

static bool find_sequence(fv_weight_bands *b) {
  fv_sequence_cursor cursor = {0};
  while (fv_sequence_next(&b->problem, &cursor, &b->sequence)) {
    if (b->sequence.index == b->batch) return true;
  }
  return false;
}

static bool allocate(fv_weight_bands *b) {
  size_t rows = (size_t)b->band_rows, blocks = (size_t)block_count(b);
  b->weights = aligned_alloc(256, rows * (size_t)b->pitch * sizeof *b->weights);
  b->live = malloc((size_t)b->keys);
  b->visible = malloc((size_t)b->keys);
  b->numbers = malloc(rows * sizeof *b->numbers);
  b->units = calloc((size_t)BLOCK_KEYS * BLOCK_KEYS, sizeof *b->units);
  b->lse = malloc(blocks * rows * sizeof *b->lse);
  b->shares = malloc(blocks * sizeof *b->shares);
  return b->weights && b->live && b->visible && b->numbers && b->units && b->lse && b->shares;
}

static int allocate_workspace(fv_weight_bands *b) {
  fovea_limits limits = {.struct_size = sizeof limits,
                         .dim = b->problem.dim,
                         .dim_v = BLOCK_KEYS,
                         .heads_q = 1,
                         .heads_kv = 1,
                         .sequences = 1,
                         .total_q = b->band_rows,
                         .len_kv = BLOCK_KEYS};
  fovea_status status = fovea_attention_workspace(b->handle, &limits, &b->workspace_bytes);
  if (status != FOVEA_OK) return fv_cli_fail_call("fovea_attention_workspace", status);
  b->workspace = aligned_alloc(256, (b->workspace_bytes + 511) / 256 * 256);
  return b->workspace ? FV_EXIT_OK : fv_cli_out_of_memory();
}

int fv_weight_bands_open(fv_weight_bands *b, fovea_handle *handle, const fv_input *input,
                         int64_t batch, int64_t rows, int64_t keys) {
  fovea_info info = {.struct_size = sizeof info};
  *b = (fv_weight_bands){
      .handle = handle, .input = input, .batch = batch, .rows = rows, .keys = keys};
  fovea_get_info(handle, &info);
  b->by_attention = info.device == FOVEA_DEVICE_CPU;
  b->pitch = (keys + BLOCK_KEYS - 1) / BLOCK_KEYS * BLOCK_KEYS;
  b->band_rows = BAND_BYTES / (b->pitch * (int64_t)sizeof *b->weights);
  if (b->band_rows > BAND_ROWS) b->band_rows = BAND_ROWS;
  if (b->band_rows > rows) b->band_rows = rows;
  if (b->band_rows < 1) b->band_rows = 1;
  fovea_status status = fv_check_attention_shape(&input->args, &b->problem);
  if (status != FOVEA_OK || !find_sequence(b)) return fv_cli_fail_call(input->label, status);
  if (!allocate(b)) {
    return fv_cli_fail(FV_EXIT_OUTPUT,
                       "%s: out of memory: %lld x %lld weights at a time; free some", input->label,
                       (long long)b->band_rows, (long long)b->pitch);
  }
  memset(b->live, 1, (size_t)keys);
  for (size_t i = 0; i < BLOCK_KEYS; ++i) b->units[i * BLOCK_KEYS + i] = 1;
  return b->by_attention ? allocate_workspace(b) : FV_EXIT_OK;
}

void fv_weight_bands_close(fv_weight_bands *b) {
  free(b->weights);
  free(b->live);
  free(b->visible);
  free(b->numbers);
  free(b->units);
  free(b->lse);
  free(b->shares);
  free(b->workspace);
}

/* ---- By the library's own function ---- */

static fovea_status weigh(fv_weight_bands *b, int64_t head, int64_t begin, int64_t count) {
  int32_t sequence = (int32_t)b->batch, chosen = (int32_t)head;
  for (int64_t r = 0; r < count; ++r) b->numbers[r] = (int32_t)(begin + r);
  fovea_weights_args args = {.struct_size = sizeof args, .attention = &b->input->args};
  args.weights = fovea_contiguous(b->weights, FOVEA_F32, 1, count, 1, b->keys);
  args.weights.stride[1] = b->pitch;
  args.sequences = &sequence;
  args.rows = b->numbers;
  args.heads = &chosen;
  return fovea_attention_weights(b->handle, &args, NULL);
}

/* ---- By attention to unit vectors ---- */

/* One batch row and head of a tensor, from element `first` of dimension 1 on. */
static fovea_tensor slice(const fovea_tensor *t, int64_t batch, int64_t first, int64_t count,
                          int64_t head) {
  fovea_tensor part = *t;
  int64_t offset = batch * t->stride[0] + first * t->stride[1] + head * t->stride[2];
  int64_t bytes = t->dtype == FOVEA_F32 ? 4 : 2;
  part.data = (char *)t->data + offset * bytes;
  part.shape[0] = part.shape[2] = 1;
  part.shape[1] = count;
  return part;
}

/* Positions are given for both sides, so that a range of keys keeps its place. */
static fovea_status attend_block(fv_weight_bands *b, int64_t head, int64_t begin, int64_t count,
                                 int64_t block) {
  const fovea_attention_args *whole = &b->input->args;
  fovea_attention_args args = *whole;
  int64_t key = block * BLOCK_KEYS, left = b->keys - key;
  int64_t keys = left < BLOCK_KEYS ? left : BLOCK_KEYS;
  int32_t q_position = (int32_t)(b->sequence.mask.row_origin + begin), kv_position = (int32_t)key;
  args.q = slice(&whole->q, b->batch, begin, count, head);
  args.k = slice(&whole->k, b->batch, key, keys, head / b->problem.group);
  args.v = fovea_contiguous(b->units, FOVEA_F32, 1, keys, 1, BLOCK_KEYS);
  args.out = fovea_contiguous(b->weights + key, FOVEA_F32, 1, count, 1, BLOCK_KEYS);
  args.out.stride[1] = b->pitch;
  args.lse = fovea_contiguous(b->lse + block * b->band_rows, FOVEA_F32, 1, count, 1, 1);
  if (b->input->mask) {
    unsigned char *mask = b->input->mask + b->batch * whole->k.shape[1] + key;
    args.visibility.mask = fovea_contiguous(mask, FOVEA_U8, 1, 1, 1, keys);
  }
  args.logits.scale = b->problem.scale;
  args.positions.q = &q_position;
  args.positions.kv = &kv_position;
  args.workspace = b->workspace;
  args.workspace_bytes = b->workspace_bytes;
  return fovea_attention(b->handle, &args, NULL);
}

/* shares[block] = exp(lse) / sum of exp(lse). A block without a key that the row sees has the lse
 * -inf and the share 0. A NaN spreads to all, as in a sum over all keys. */
static void find_shares(const fv_weight_bands *b, int64_t row, double *shares) {
  int64_t blocks = block_count(b);
  double largest = -INFINITY, sum = 0;
  for (int64_t i = 0; i < blocks; ++i) {
    double lse = b->lse[i * b->band_rows + row];
    if (!(lse <= largest)) largest = lse;
    if (isnan(largest)) break;
  }
  for (int64_t i = 0; i < blocks; ++i) {
    shares[i] = largest == -INFINITY ? 0 : exp(b->lse[i * b->band_rows + row] - largest);
    sum += shares[i];
  }
  for (int64_t i = 0; i < blocks && sum != 0; ++i) shares[i] /= sum;
}

static fovea_status attend(fv_weight_bands *b, int64_t head, int64_t begin, int64_t count) {
  int64_t blocks = block_count(b);
  for (int64_t block = 0; block < blocks; ++block) {
    fovea_status status = attend_block(b, head, begin, count, block);
    if (status != FOVEA_OK) return status;
  }
  for (int64_t row = 0; row < count; ++row) {
    find_shares(b, row, b->shares);
    for (int64_t block = 0; block < blocks; ++block) {
      float *weights = b->weights + row * b->pitch + block * BLOCK_KEYS;
      float share = (float)b->shares[block];
      for (int j = 0; j < BLOCK_KEYS; ++j) weights[j] *= share;
    }
  }
  return FOVEA_OK;
}

/* ---- The band ---- */

/* A computed weight of -inf is no weight, and must not pass for a hidden key. */
static void hide_unseen(fv_weight_bands *b, int64_t head, int64_t begin, int64_t count) {
  for (int64_t row = 0; row < count; ++row) {
    fv_row_mask mask = fv_row_mask_for(&b->problem, &b->sequence, begin + row, head);
    uint32_t errors = 0;
    float *weights = b->weights + row * b->pitch;
    fv_find_visible(&mask, b->live, 0, 0, (int32_t)b->keys, b->visible, &errors);
    for (int64_t j = 0; j < b->keys; ++j) {
      if (weights[j] == -INFINITY) weights[j] = NAN;
      weights[j] = b->visible[j] ? weights[j] : -INFINITY;
    }
  }
}

int fv_weight_bands_compute(fv_weight_bands *b, int64_t head, int64_t begin, int64_t count) {
  fovea_status status =
      b->by_attention ? attend(b, head, begin, count) : weigh(b, head, begin, count);
  if (status != FOVEA_OK) return fv_cli_fail_call(b->input->label, status);
  hide_unseen(b, head, begin, count);
  return FV_EXIT_OK;
}

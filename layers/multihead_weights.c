/* multihead_weights.c - a layer's attention weights (multihead.h).
 *
 * The engine gives those of each source within its own softmax. Among all sources a key has
 * exp(lse of its source - lse of all) times that. One head is looked at a time, so that the memory
 * is that of one. */
#include <math.h>
#include <string.h>

#include "layers/multihead.h"

bool fv_multihead_weights_are_direct(const fv_multihead *layer) {
  const fovea_multihead_args *a = &layer->args;
  return a->source_count == 1 && a->weights.shape[2] == a->heads_q;
}

static int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

static float lse_at(const fovea_tensor *lse, int64_t row, int64_t head) {
  int64_t at = row / lse->shape[1] * lse->stride[0] + row % lse->shape[1] * lse->stride[1];
  return ((const float *)lse->data)[at + head * lse->stride[2]];
}

/* What a source's share of a row's softmax is. */
static float share_of(const fv_multihead *layer, const fv_source_part *part, int64_t row,
                      int64_t head) {
  if (layer->args.source_count == 1) return 1;
  float lse = lse_at(&layer->lse, row, head), own = lse_at(&part->attention.lse, row, head);
  return own == -INFINITY ? 0 : expf(own - lse);
}

static fovea_status look(fovea_handle *handle, const fv_source_part *part, const fovea_tensor *to,
                         const int32_t *head) {
  fovea_weights_args args = {
      .struct_size = sizeof args, .attention = &part->attention, .weights = *to, .heads = head};
  fovea_status status = fovea_attention_weights(handle, &args, NULL);
  return status == FOVEA_OK ? FOVEA_OK : fv_layers_fail_as(status, "weights");
}

/* Adds one head's weights of a source to the rows of all, at its keys. */
static void add_head(const fv_multihead *layer, const fv_source_part *part, int64_t head,
                     int64_t first, int64_t keys, float factor) {
  const fovea_tensor *w = &layer->args.weights;
  fv_row_cursor cursor = {0};
  while (fv_multihead_next(layer, &cursor)) {
    for (int64_t i = 0; i < w->shape[1] && i < cursor.rows; ++i) {
      int64_t at = cursor.sequence * w->shape[1] + i;
      float share = factor * share_of(layer, part, cursor.first + i, head);
      float *to = layer->mean_weights + at * w->shape[3] + first;
      for (int64_t j = 0; j < keys; ++j) to[j] += share * layer->head_weights[at * keys + j];
    }
  }
}

static fovea_status add_sources(fovea_handle *handle, fv_multihead *layer, int32_t head,
                                float factor) {
  const fovea_tensor *w = &layer->args.weights;
  int64_t first = 0;
  for (int n = 0; n < layer->args.source_count && first < w->shape[3]; ++n) {
    fv_source_part *part = &layer->parts[n];
    int64_t keys = clamp(part->keys, 0, w->shape[3] - first);
    fovea_tensor to =
        fovea_contiguous(layer->head_weights, FOVEA_F32, w->shape[0], w->shape[1], 1, keys);
    FV_LAYERS_TRY(look(handle, part, &to, &head));
    add_head(layer, part, head, first, keys, factor);
    first += keys;
  }
  return FOVEA_OK;
}

static void store_rows(const fv_multihead *layer, int64_t head) {
  fovea_tensor w = layer->args.weights; /* of this head */
  w.shape[2] = 1;
  if (head) w.data = (char *)w.data + head * w.stride[2] * (w.dtype == FOVEA_F32 ? 4 : 2);
  for (int64_t row = 0; row < w.shape[0] * w.shape[1]; ++row) {
    fv_tokens_store(&w, row, layer->mean_weights + row * w.shape[3]);
  }
}

static void clear_rows(const fv_multihead *layer) {
  const fovea_tensor *w = &layer->args.weights;
  memset(layer->mean_weights, 0,
         (size_t)(w->shape[0] * w->shape[1] * w->shape[3]) * sizeof *layer->mean_weights);
}

fovea_status fv_multihead_write_weights(fovea_handle *handle, fv_multihead *layer) {
  const fovea_multihead_args *a = &layer->args;
  if (!a->weights.dtype) return FOVEA_OK;
  if (fv_multihead_weights_are_direct(layer)) {
    return look(handle, &layer->parts[0], &a->weights, NULL);
  }
  bool mean = a->weights.shape[2] == 1;
  clear_rows(layer);
  for (int32_t head = 0; head < a->heads_q; ++head) {
    FV_LAYERS_TRY(add_sources(handle, layer, head, mean ? 1.0f / (float)a->heads_q : 1));
    if (mean) continue;
    store_rows(layer, head);
    clear_rows(layer);
  }
  if (mean) store_rows(layer, 0);
  return FOVEA_OK;
}

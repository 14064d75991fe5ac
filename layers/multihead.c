/* multihead.c - the layer runs its plan (multihead.h). */
#include "layers/multihead.h"

#include <math.h>
#include <string.h>

/* ---- Lengths ---- */

static int64_t clamp(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

/* Offsets are read through a running maximum, as the engine does. */
bool fv_multihead_next(const fv_multihead *layer, fv_row_cursor *c) {
  const fovea_multihead_args *a = &layer->args;
  int64_t total = a->x.shape[1];
  if (c->next == layer->sequences) return false;
  c->sequence = c->next++;
  if (a->q_offsets) {
    if (c->sequence == 0) c->end = clamp(a->q_offsets[0], 0, total);
    c->first = c->end;
    c->end = clamp(a->q_offsets[c->sequence + 1], c->first, total);
    c->rows = c->end - c->first;
  } else {
    c->first = c->sequence * total;
    c->rows = total;
  }
  if (a->q_lengths) c->rows = clamp(a->q_lengths[c->sequence], 0, c->rows);
  return true;
}

/* A cache's keys after the append. A bad length stays bad: the engine reports it. */
static void count_keys(const fv_multihead *layer, const fv_source_part *part) {
  fv_row_cursor cursor = {0};
  while (fv_multihead_next(layer, &cursor)) {
    int64_t before = part->source->sequences.kv_lengths[cursor.sequence];
    int64_t keys = before < 0 ? before : clamp(before + cursor.rows, 0, INT32_MAX);
    part->lengths[cursor.sequence] = (int32_t)keys;
  }
}

/* ---- Steps ---- */

/* What attention does not write: rows that are padding, or of no sequence. Where the lse is -inf a
 * merge looks at nothing else. */
static void clear_padding(const fv_multihead *layer) {
  const fovea_multihead_args *a = &layer->args;
  const float nothing = -INFINITY;
  int64_t tokens = fv_tokens_count(&a->x);
  if (!tokens || (!a->q_offsets && !a->q_lengths)) return;
  memset(layer->o.data, 0, (size_t)(tokens * a->heads_q * a->dim_v) * sizeof(float));
  for (int n = 0; n < a->source_count; ++n) {
    fovea_tensor lse = layer->parts[n].attention.lse;
    if (!lse.dtype) continue;
    for (int64_t head = 0; head < a->heads_q; ++head) {
      fovea_tensor of_head = lse;
      of_head.shape[2] = 1;
      of_head.data = (float *)lse.data + head * lse.stride[2];
      for (int64_t token = 0; token < tokens; ++token) fv_tokens_store(&of_head, token, &nothing);
    }
  }
}

static fovea_status run_part(fovea_handle *handle, const fv_multihead *layer,
                             const fv_source_part *part) {
  FV_LAYERS_TRY(fv_stream_run(handle, &part->k));
  FV_LAYERS_TRY(fv_stream_run(handle, &part->v));
  if (part->kind == FV_SOURCE_CACHE) {
    fovea_status status = fovea_kv_append(handle, &part->append, NULL);
    if (status != FOVEA_OK) return fv_layers_fail_as(status, "append");
    count_keys(layer, part);
  }
  fovea_status status = fovea_attention(handle, &part->attention, NULL);
  return status == FOVEA_OK ? FOVEA_OK : fv_layers_fail_as(status, "attention");
}

static fovea_status merge(fovea_handle *handle, const fv_multihead *layer) {
  fovea_tensor outs[FOVEA_SOURCES_MAX], lses[FOVEA_SOURCES_MAX];
  if (layer->args.source_count == 1) return FOVEA_OK;
  for (int n = 0; n < layer->args.source_count; ++n) {
    outs[n] = layer->parts[n].attention.out;
    lses[n] = layer->parts[n].attention.lse;
  }
  fovea_merge_args args = {.struct_size = sizeof args,
                           .count = layer->args.source_count,
                           .outs = outs,
                           .lses = lses,
                           .out = layer->o,
                           .lse = layer->lse};
  fovea_status status = fovea_merge(handle, &args, NULL);
  return status == FOVEA_OK ? FOVEA_OK : fv_layers_fail_as(status, "merge");
}

static fovea_status run(fovea_handle *handle, fv_multihead *layer) {
  const fovea_multihead_args *a = &layer->args;
  if (layer->zeros) memset(layer->zeros, 0, (size_t)layer->sequences * sizeof *layer->zeros);
  clear_padding(layer);
  FV_LAYERS_TRY(fv_stream_run(handle, &layer->q));
  for (int n = 0; n < a->source_count; ++n) {
    FV_LAYERS_TRY(run_part(handle, layer, &layer->parts[n]));
  }
  FV_LAYERS_TRY(merge(handle, layer));
  FV_LAYERS_TRY(fv_multihead_write_weights(handle, layer));
  fv_linear_run(&a->out_proj, &layer->o, &a->residual, &a->out, &layer->out_scratch);
  return FOVEA_OK;
}

/* ---- The calls ---- */

static fovea_status measure(fovea_handle *handle, const fovea_multihead_args *args,
                            fv_multihead *layer, size_t *bytes) {
  fv_arena arena = {0};
  FV_LAYERS_TRY(fv_multihead_check(handle, args, layer));
  FV_LAYERS_TRY(fv_multihead_plan(handle, layer, &arena));
  *bytes = arena.used;
  return FOVEA_OK;
}

fovea_status fovea_multihead_workspace(fovea_handle *handle, const fovea_multihead_args *args,
                                       size_t *bytes) {
  fv_multihead layer;
  if (!bytes) return fv_layers_fail(FOVEA_BAD_ARGUMENT, "bytes is NULL");
  return measure(handle, args, &layer, bytes);
}

fovea_status fovea_multihead(fovea_handle *handle, const fovea_multihead_args *args,
                             fovea_stream stream) {
  fv_multihead layer;
  size_t needed = 0;
  (void)stream;
  FV_LAYERS_TRY(measure(handle, args, &layer, &needed));
  FV_LAYERS_TRY(
      fv_layers_check_workspace(layer.args.workspace, layer.args.workspace_bytes, needed));
  FV_LAYERS_TRY(fv_multihead_check_addresses(&layer));
  fv_arena arena = {.base = layer.args.workspace};
  FV_LAYERS_TRY(fv_multihead_plan(handle, &layer, &arena));
  return run(handle, &layer);
}

/* multihead_plan.c - which calls of the engine a layer makes (multihead.h).
 *
 *   queries      projected, prepared                              [batch, len_q, heads_q, dim]
 *   each source  keys and values projected, prepared or appended  [batch, len_kv, heads_kv, dim]
 *                attention of the queries to them                 an out and an lse of its own
 *   several      merged
 *
 * What lives through the call comes first in the workspace; what one step needs alone shares the
 * rest. */
#include <stdio.h>
#include <string.h>

#include "layers/multihead.h"

enum { DOING_BYTES = 48 };

/* ---- Sequences and positions ---- */

/* The sequences of x, as appends and attention take them. */
static fovea_sequences sequences_of_x(const fovea_multihead_args *a) {
  return (fovea_sequences){
      .count = a->sequence_count, .q_offsets = a->q_offsets, .q_lengths = a->q_lengths};
}

/* RoPE of the tokens of x: their positions count on from the first cache, or from 0. */
static void rotate_x(fv_multihead *layer, fv_stream *s, fv_arena *arena) {
  const fovea_multihead_args *a = &layer->args;
  s->append.rope = a->rope;
  s->append.sequences = sequences_of_x(a);
  s->append.errors = a->errors;
  if (a->rope.positions) return;
  for (int n = 0; n < a->source_count; ++n) {
    if (fv_source_kind_of(&layer->sources[n]) != FV_SOURCE_CACHE) continue;
    s->append.sequences.kv_lengths = layer->sources[n].sequences.kv_lengths;
    return;
  }
  if (!layer->zeros) layer->zeros = fv_arena_take(arena, 1, layer->sequences, sizeof(int32_t));
  s->append.sequences.kv_lengths = layer->zeros;
}

/* ---- Queries ---- */

static fovea_status plan_queries(fovea_handle *handle, fv_multihead *layer, fv_arena *arena) {
  const fovea_multihead_args *a = &layer->args;
  fv_stream *q = &layer->q;
  q->used = true;
  q->linear = &a->q_proj;
  q->from = a->x;
  q->prepared = a->q_norm.gain || a->rope.cos;
  q->steady = a->reproducible != FOVEA_REPRODUCIBLE_RUN;
  q->append.q_norm = a->q_norm;
  if (a->rope.cos) rotate_x(layer, q, arena);
  return fv_stream_plan(handle, q, "queries", "q_norm", a->heads_q, a->dim, arena);
}

/* ---- Keys and values ---- */

static fovea_status plan_tokens(fovea_handle *handle, fv_multihead *layer, fv_source_part *part,
                                int n, fv_arena *arena) {
  const fovea_multihead_args *a = &layer->args;
  const fovea_source *s = part->source;
  char doing[DOING_BYTES];
  const bool steady = a->reproducible != FOVEA_REPRODUCIBLE_RUN;
  part->k = (fv_stream){.used = true, .steady = steady, .linear = &s->k_proj, .from = s->x_k};
  part->v = (fv_stream){
      .used = true, .steady = steady, .linear = &s->v_proj, .from = *fv_source_values(s)};
  if (part->kind == FV_SOURCE_TOKENS) {
    part->k.prepared = s->k_norm.gain || s->rope;
    part->v.prepared = s->v_norm.gain != NULL;
    part->k.append.q_norm = s->k_norm;
    part->v.append.q_norm = s->v_norm;
    if (s->rope) rotate_x(layer, &part->k, arena);
    part->k.append.sequences.q_lengths = NULL; /* padding is rotated too: it is hidden by lengths */
  }
  snprintf(doing, sizeof doing, "sources[%d], keys", n);
  FV_LAYERS_TRY(fv_stream_plan(handle, &part->k, doing, "k_norm", a->heads_kv, a->dim, arena));
  snprintf(doing, sizeof doing, "sources[%d], values", n);
  return fv_stream_plan(handle, &part->v, doing, "v_norm", a->heads_kv, a->dim_v, arena);
}

static fovea_status plan_append(fovea_handle *handle, fv_multihead *layer, fv_source_part *part,
                                int n, fv_arena *arena) {
  const fovea_multihead_args *a = &layer->args;
  const fovea_source *s = part->source;
  fovea_support support = {.struct_size = sizeof support};
  fovea_kv_append_args *append = &part->append;
  *append = (fovea_kv_append_args){.struct_size = sizeof *append,
                                   .k_new = part->k.ready,
                                   .v_new = part->v.ready,
                                   .k_cache = s->k,
                                   .v_cache = s->v,
                                   .k_scale = s->k_scale,
                                   .v_scale = s->v_scale,
                                   .sequences = sequences_of_x(a),
                                   .k_norm = s->k_norm,
                                   .v_norm = s->v_norm,
                                   .errors = a->errors};
  append->sequences.kv_lengths = s->sequences.kv_lengths;
  append->sequences.pages = s->sequences.pages;
  if (s->rope) append->rope = a->rope;
  fovea_status status = fovea_kv_append_support(handle, append, &support);
  if (status != FOVEA_OK || !support.supported) {
    return fv_layers_fail(status != FOVEA_OK ? status : FOVEA_UNSUPPORTED,
                          "sources[%d], append: %s", n,
                          status != FOVEA_OK ? fovea_error_detail() : support.reason);
  }
  part->lengths = fv_arena_take(arena, 1, layer->sequences, sizeof(int32_t));
  return FOVEA_OK;
}

/* How many keys a sequence can have, as far as the host knows. */
static int64_t capacity_of(const fovea_source *s, const fovea_tensor *k) {
  int64_t keys;
  if (!s->sequences.pages.ids) return k->shape[1];
  return __builtin_mul_overflow(s->sequences.pages.count, k->shape[1], &keys) ? INT64_MAX : keys;
}

/* ---- Attention ---- */

static fovea_attention_args attention_of(const fv_multihead *layer, const fv_source_part *part,
                                         int n) {
  const fovea_multihead_args *a = &layer->args;
  const fovea_source *s = part->source;
  bool memory = part->kind != FV_SOURCE_TOKENS;
  fovea_attention_args attention = {.struct_size = sizeof attention,
                                    .reproducible = a->reproducible,
                                    .q = layer->q.ready,
                                    .k = memory ? s->k : part->k.ready,
                                    .v = memory ? s->v : part->v.ready,
                                    .k_scale = s->k_scale,
                                    .v_scale = s->v_scale,
                                    .sequences = s->sequences,
                                    .positions = s->positions,
                                    .visibility = s->visibility,
                                    .errors = a->errors};
  attention.sequences.count = a->sequence_count;
  attention.sequences.q_offsets = a->q_offsets;
  attention.sequences.q_lengths = a->q_lengths;
  if (part->lengths) attention.sequences.kv_lengths = part->lengths;
  attention.logits = (fovea_logits){.scale = a->scale,
                                    .softcap = a->softcap,
                                    .alibi_slopes = s->alibi_slopes,
                                    .alibi_stride = s->alibi_stride,
                                    .bias = s->bias,
                                    .bias_scale = s->bias_scale,
                                    .distances = s->distances,
                                    .additive = a->additive,
                                    .sinks = n == 0 ? a->sinks : NULL};
  return attention;
}

static fovea_status plan_attention(fovea_handle *handle, fv_multihead *layer, fv_source_part *part,
                                   int n, fv_arena *arena) {
  const fovea_multihead_args *a = &layer->args;
  int64_t tokens = fv_tokens_count(&a->x);
  bool alone = a->source_count == 1;
  fovea_attention_args *attention = &part->attention;
  *attention = attention_of(layer, part, n);
  attention->out = layer->o;
  attention->lse = layer->lse;
  if (!alone) {
    void *out = fv_arena_take(arena, tokens, (int64_t)a->heads_q * a->dim_v, sizeof(float));
    void *lse = fv_arena_take(arena, tokens, a->heads_q, sizeof(float));
    attention->out = fv_tokens_f32(out, &a->x, a->heads_q, a->dim_v);
    attention->lse = fv_tokens_f32(lse, &a->x, a->heads_q, 1);
  }
  fovea_status status =
      fovea_attention_workspace_for(handle, attention, &attention->workspace_bytes);
  if (status == FOVEA_OK) return FOVEA_OK;
  return fv_layers_fail(status, "sources[%d], attention: %s", n, fovea_error_detail());
}

static fovea_status plan_part(fovea_handle *handle, fv_multihead *layer, int n, fv_arena *arena) {
  fv_source_part *part = &layer->parts[n];
  part->source = &layer->sources[n];
  part->kind = fv_source_kind_of(part->source);
  part->keys = capacity_of(part->source, &part->source->k);
  if (part->kind != FV_SOURCE_MEMORY) {
    FV_LAYERS_TRY(plan_tokens(handle, layer, part, n, arena));
  }
  if (part->kind == FV_SOURCE_TOKENS) part->keys = part->source->x_k.shape[1];
  if (part->kind == FV_SOURCE_CACHE) {
    FV_LAYERS_TRY(plan_append(handle, layer, part, n, arena));
  }
  return plan_attention(handle, layer, part, n, arena);
}

/* ---- Outputs ---- */

static void plan_outputs(fv_multihead *layer, fv_arena *arena) {
  const fovea_multihead_args *a = &layer->args;
  int64_t tokens = fv_tokens_count(&a->x);
  void *o = fv_arena_take(arena, tokens, (int64_t)a->heads_q * a->dim_v, sizeof(float));
  layer->o = fv_tokens_f32(o, &a->x, a->heads_q, a->dim_v);
  layer->lse = a->lse;
  if (a->lse.dtype || a->source_count == 1) return;
  layer->lse =
      fv_tokens_f32(fv_arena_take(arena, tokens, a->heads_q, sizeof(float)), &a->x, a->heads_q, 1);
}

static void plan_weights(fv_multihead *layer, fv_arena *arena) {
  const fovea_tensor *w = &layer->args.weights;
  int64_t rows = w->shape[0] * w->shape[1], most = 0;
  layer->head_weights = layer->mean_weights = NULL;
  if (!w->dtype || fv_multihead_weights_are_direct(layer)) return;
  for (int n = 0; n < layer->args.source_count; ++n) {
    if (layer->parts[n].keys > most) most = layer->parts[n].keys;
  }
  if (most > w->shape[3]) most = w->shape[3];
  layer->head_weights = fv_arena_take(arena, rows, most, sizeof(float));
  layer->mean_weights = fv_arena_take(arena, rows, w->shape[3], sizeof(float));
}

/* Each step's own memory begins at the same place. */
static void share(fv_arena *arena, const fv_arena *step) {
  if (step->used > arena->used) arena->used = step->used;
}

static void plan_steps(fv_multihead *layer, fv_arena *arena) {
  const fv_arena before = *arena;
  fv_arena step = before;
  fv_stream_take_scratch(&layer->q, &step);
  share(arena, &step);
  for (int n = 0; n < layer->args.source_count; ++n) {
    fv_source_part *part = &layer->parts[n];
    fv_stream *streams[2] = {&part->k, &part->v};
    for (int i = 0; i < 2; ++i) {
      step = before;
      fv_stream_take_scratch(streams[i], &step);
      share(arena, &step);
    }
    step = before;
    part->attention.workspace =
        fv_arena_take(&step, (int64_t)part->attention.workspace_bytes, 1, 1);
    share(arena, &step);
  }
  step = before;
  layer->out_scratch = fv_linear_take(&step, &layer->args.out_proj, &layer->o, &layer->args.out,
                                      layer->args.reproducible != FOVEA_REPRODUCIBLE_RUN);
  share(arena, &step);
  step = before;
  plan_weights(layer, &step);
  share(arena, &step);
}

fovea_status fv_multihead_plan(fovea_handle *handle, fv_multihead *layer, fv_arena *arena) {
  layer->zeros = NULL;
  plan_outputs(layer, arena);
  FV_LAYERS_TRY(plan_queries(handle, layer, arena));
  for (int n = 0; n < layer->args.source_count; ++n) {
    FV_LAYERS_TRY(plan_part(handle, layer, n, arena));
  }
  plan_steps(layer, arena);
  return FOVEA_OK;
}

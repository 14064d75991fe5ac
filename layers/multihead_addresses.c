/* multihead_addresses.c - every address of a call of fovea_multihead (multihead.h). The engine
 * knows only those of its own calls, and only when they run: too late to have written nothing. */
#include "layers/multihead.h"
#include "layers/span_list.h"

enum { OUT = 1 }; /* out may be x or the residual itself */

static void add_linear(fv_span_list *list, const char *weight, const char *bias,
                       const fovea_linear *linear) {
  fv_span_list_reads(list, weight, &linear->weight, 0);
  fv_span_list_reads(list, bias, &linear->bias, 0);
}

static void add_norm(fv_span_list *list, const char *name, const fovea_norm *norm, int64_t heads,
                     int64_t dim) {
  fv_span_list_array(list, name, norm->gain, (heads - 1) * norm->stride + dim);
}

/* Of arrays of which only the data tell how long they are, the first number. */
static void add_visibility(fv_span_list *list, const fovea_visibility *v, int64_t sequences) {
  fv_span_list_array(list, "visibility.prefix_lengths", v->prefix_lengths, sequences);
  fv_span_list_reads(list, "visibility.mask", &v->mask, 0);
  fv_span_list_array(list, "visibility.tree.bits", v->tree.bits, v->tree.words);
  fv_span_list_array(list, "visibility.tree.lengths", v->tree.lengths, sequences);
  fv_span_list_array(list, "visibility.tree.starts", v->tree.starts, sequences);
  fv_span_list_array(list, "visibility.spans", v->spans, 1);
}

static void add_sequences(fv_span_list *list, const fovea_sequences *s, int64_t sequences) {
  fv_span_list_array(list, "sequences.kv_offsets", s->kv_offsets, sequences + 1);
  fv_span_list_array(list, "sequences.kv_lengths", s->kv_lengths, sequences);
  fv_span_list_array(list, "sequences.kv_first", s->kv_first, sequences);
  fv_span_list_array(list, "sequences.pages.ids", s->pages.ids, 1);
  fv_span_list_array(list, "sequences.pages.v_ids", s->pages.v_ids, 1);
  fv_span_list_array(list, "sequences.pages.offsets", s->pages.offsets, sequences + 1);
  fv_span_list_array(list, "sequences.pages.head_lengths", s->pages.head_lengths, sequences);
}

static void add_logits(fv_span_list *list, const fovea_multihead_args *a, const fovea_source *s) {
  fv_span_list_reads(list, "bias", &s->bias, 0);
  fv_span_list_array(list, "bias_scale", s->bias_scale, a->heads_q);
  fv_span_list_array(list, "alibi_slopes", s->alibi_slopes, a->heads_q);
  fv_span_list_array(list, "distances.table", s->distances.table, s->distances.count);
}

static void add_source(fv_span_list *list, const fovea_multihead_args *a, const fovea_source *s,
                       int64_t sequences) {
  bool cache = fv_source_kind_of(s) == FV_SOURCE_CACHE;
  void (*add_cache)(fv_span_list *, const char *, const fovea_tensor *, int) =
      cache ? fv_span_list_writes : fv_span_list_reads;
  fv_span_list_reads(list, "x_k", &s->x_k, OUT);
  fv_span_list_reads(list, "x_v", &s->x_v, OUT);
  add_linear(list, "k_proj.weight", "k_proj.bias", &s->k_proj);
  add_linear(list, "v_proj.weight", "v_proj.bias", &s->v_proj);
  add_cache(list, "k", &s->k, 0);
  add_cache(list, "v", &s->v, 0);
  fv_span_list_reads(list, "k_scale", &s->k_scale, 0);
  fv_span_list_reads(list, "v_scale", &s->v_scale, 0);
  add_norm(list, "k_norm.gain", &s->k_norm, a->heads_kv, a->dim);
  add_norm(list, "v_norm.gain", &s->v_norm, a->heads_kv, a->dim_v);
  add_sequences(list, &s->sequences, sequences);
  fv_span_list_array(list, "positions.q", s->positions.q, sequences);
  fv_span_list_array(list, "positions.kv", s->positions.kv, sequences);
  add_visibility(list, &s->visibility, sequences);
  add_logits(list, a, s);
}

static void add_layer(fv_span_list *list, const fovea_multihead_args *a, int64_t sequences) {
  fv_span_list_writes(list, "out", &a->out, OUT);
  fv_span_list_writes(list, "lse", &a->lse, 0);
  fv_span_list_writes(list, "weights", &a->weights, 0);
  fv_span_list_workspace(list, a->workspace, a->workspace_bytes);
  fv_span_list_reads(list, "x", &a->x, OUT);
  fv_span_list_reads(list, "residual", &a->residual, OUT);
  add_linear(list, "q_proj.weight", "q_proj.bias", &a->q_proj);
  add_linear(list, "out_proj.weight", "out_proj.bias", &a->out_proj);
  add_norm(list, "q_norm.gain", &a->q_norm, a->heads_q, a->dim);
  fv_span_list_array(list, "rope.cos", a->rope.cos, a->rope.rows > 0);
  fv_span_list_array(list, "rope.sin", a->rope.sin, a->rope.rows > 0);
  fv_span_list_array(list, "rope.positions", a->rope.positions, fv_tokens_count(&a->x));
  fv_span_list_array(list, "q_offsets", a->q_offsets, sequences + 1);
  fv_span_list_array(list, "q_lengths", a->q_lengths, sequences);
  fv_span_list_array(list, "sinks", a->sinks, a->heads_q);
  fv_span_list_array(list, "additive.vector", a->additive.vector, a->dim);
  fv_span_list_array(list, "errors", a->errors, sequences);
}

fovea_status fv_multihead_check_addresses(const fv_multihead *layer) {
  fv_span_list list;
  fv_span_list_begin(&list);
  add_layer(&list, &layer->args, layer->sequences);
  for (list.source = 0; list.source < layer->args.source_count; ++list.source) {
    add_source(&list, &layer->args, &layer->sources[list.source], layer->sequences);
  }
  return fv_span_list_check(&list);
}

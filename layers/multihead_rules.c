/* multihead_rules.c - the rules of fovea_multihead that are not the engine's. */
#include <stdio.h>
#include <string.h>

#include "layers/multihead.h"

enum { OWNER_BYTES = 48 };

fv_source_kind fv_source_kind_of(const fovea_source *source) {
  if (!source->x_k.dtype) return FV_SOURCE_MEMORY;
  return source->k.dtype ? FV_SOURCE_CACHE : FV_SOURCE_TOKENS;
}

const fovea_tensor *fv_source_values(const fovea_source *source) {
  return source->x_v.dtype ? &source->x_v : &source->x_k;
}

static fovea_status refuse(const char *owner, const char *text) {
  return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s", owner, text);
}

/* A room whose first field is absent is 0 altogether: a forgotten gain is not to be passed over. */
static fovea_status check_norm(const char *owner, const char *name, const fovea_norm *norm) {
  static const fovea_norm none;
  if (norm->gain || !memcmp(norm, &none, sizeof none)) return FOVEA_OK;
  return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s.gain is NULL, so all of %s must be 0", owner,
                        name, name);
}

static fovea_status check_rope(const fovea_rope *rope) {
  static const fovea_rope none;
  if (rope->cos || !memcmp(rope, &none, sizeof none)) return FOVEA_OK;
  return refuse("", "rope.cos is NULL, so all of rope must be 0");
}

/* ---- A source ---- */

static bool has_projection(const fovea_linear *linear) {
  return linear->weight.dtype || linear->bias.dtype || linear->activation;
}

static fovea_status check_memory(const char *owner, const fovea_source *s) {
  if (!s->k.dtype) return refuse(owner, "x_k and k are both absent: where are the keys?");
  if (!s->v.dtype) return refuse(owner, "v is absent, needed with k");
  if (s->x_v.dtype) return refuse(owner, "x_v must be absent without x_k");
  if (has_projection(&s->k_proj) || has_projection(&s->v_proj)) {
    return refuse(owner, "k_proj and v_proj must be absent without x_k");
  }
  if (s->k_norm.gain || s->v_norm.gain || s->rope) {
    return refuse(owner, "k_norm, v_norm and rope must be absent without x_k");
  }
  return FOVEA_OK;
}

static fovea_status check_own_tokens(const char *owner, const fovea_source *s,
                                     const fovea_tensor *x, const char *why) {
  for (int i = 0; i < 2; ++i) {
    if (s->x_k.shape[i] == x->shape[i]) continue;
    return fv_layers_fail(FOVEA_BAD_ARGUMENT,
                          "%sx_k.shape[%d] is %lld, must be x.shape[%d], which "
                          "is %lld, %s",
                          owner, i, (long long)s->x_k.shape[i], i, (long long)x->shape[i], why);
  }
  return FOVEA_OK;
}

static fovea_status check_projected(const char *owner, const fovea_source *s,
                                    const fovea_multihead_args *a) {
  char name[OWNER_BYTES + 16];
  const fovea_tensor *values = fv_source_values(s);
  FV_LAYERS_TRY(fv_tokens_check(owner, "x_k", &s->x_k, false));
  if (s->x_v.dtype) FV_LAYERS_TRY(fv_tokens_check(owner, "x_v", &s->x_v, false));
  for (int i = 0; i < 2; ++i) {
    if (values->shape[i] != s->x_k.shape[i])
      return refuse(owner, "x_v must have the tokens of x_k");
  }
  snprintf(name, sizeof name, "%sk_proj.", owner);
  FV_LAYERS_TRY(
      fv_linear_check(name, &s->k_proj, fv_tokens_width(&s->x_k), (int64_t)a->heads_kv * a->dim));
  snprintf(name, sizeof name, "%sv_proj.", owner);
  FV_LAYERS_TRY(
      fv_linear_check(name, &s->v_proj, fv_tokens_width(values), (int64_t)a->heads_kv * a->dim_v));
  if (s->rope) {
    if (!a->rope.cos) return refuse(owner, "rope is 1, needs rope.cos");
    FV_LAYERS_TRY(check_own_tokens(owner, s, &a->x, "with rope"));
  }
  if (fv_source_kind_of(s) == FV_SOURCE_TOKENS) {
    if (s->v.dtype) return refuse(owner, "v must be absent without k");
    if (s->sequences.pages.ids)
      return refuse(owner, "sequences.pages.ids must be absent without k");
    return FOVEA_OK;
  }
  if (!s->v.dtype) return refuse(owner, "v is absent, needed with k");
  if (s->sequences.kv_offsets) {
    return refuse(owner, "sequences.kv_offsets must be absent with a cache");
  }
  if (!s->sequences.kv_lengths)
    return refuse(owner, "sequences.kv_lengths is absent, needed by a cache");
  return check_own_tokens(owner, s, &a->x, "with a cache");
}

static fovea_status check_source(const char *owner, const fovea_source *s,
                                 const fovea_multihead_args *a) {
  for (int i = 0; i < 8; ++i) {
    if (s->reserved[i]) return refuse(owner, "reserved must be 0");
  }
  if (s->reserved32) return refuse(owner, "reserved32 must be 0");
  FV_LAYERS_REQUIRE(owner, s->rope, <=, 1);
  FV_LAYERS_TRY(check_norm(owner, "k_norm", &s->k_norm));
  FV_LAYERS_TRY(check_norm(owner, "v_norm", &s->v_norm));
  if (s->sequences.q_offsets || s->sequences.q_lengths || s->sequences.count) {
    return refuse(owner,
                  "sequences.count, q_offsets and q_lengths are the layer's, must be absent");
  }
  if (fv_source_kind_of(s) == FV_SOURCE_MEMORY) return check_memory(owner, s);
  return check_projected(owner, s, a);
}

/* ---- The layer ---- */

static fovea_status check_numbers(const fovea_multihead_args *args) {
  FV_LAYERS_REQUIRE("", args->heads_q, >=, 1);
  FV_LAYERS_REQUIRE("", args->heads_kv, >=, 1);
  if (args->heads_q % args->heads_kv) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT,
                          "heads_q is %d, must be a multiple of heads_kv, which "
                          "is %d",
                          (int)args->heads_q, (int)args->heads_kv);
  }
  FV_LAYERS_REQUIRE("", args->dim, >=, 1);
  FV_LAYERS_REQUIRE("", args->dim_v, >=, 1);
  FV_LAYERS_REQUIRE("", args->source_count, >=, 1);
  FV_LAYERS_REQUIRE("", args->source_count, <=, FOVEA_SOURCES_MAX);
  if (!args->sources) return refuse("", "sources is NULL");
  if (!args->q_offsets) return FOVEA_OK;
  FV_LAYERS_REQUIRE("", args->x.shape[0], ==, 1);
  FV_LAYERS_REQUIRE("", args->sequence_count, >=, 0);
  return FOVEA_OK;
}

static fovea_status check_outputs(const fv_multihead *layer) {
  const fovea_multihead_args *a = &layer->args;
  const fovea_tensor *x = &a->x;
  const int64_t out_shape[4] = {x->shape[0], x->shape[1], a->out.shape[2], a->out.shape[3]};
  const int64_t lse_shape[4] = {x->shape[0], x->shape[1], a->heads_q, 1};
  FV_LAYERS_TRY(fv_tokens_check("", "out", &a->out, false));
  FV_LAYERS_TRY(fv_tokens_check_shape("", "out", &a->out, out_shape));
  FV_LAYERS_TRY(fv_tokens_check_output("", "out", &a->out));
  FV_LAYERS_TRY(fv_linear_check("out_proj.", &a->out_proj, (int64_t)a->heads_q * a->dim_v,
                                fv_tokens_width(&a->out)));
  if (a->residual.dtype) {
    FV_LAYERS_TRY(fv_tokens_check("", "residual", &a->residual, false));
    FV_LAYERS_TRY(fv_tokens_check_shape("", "residual", &a->residual, a->out.shape));
  }
  if (a->lse.dtype) {
    FV_LAYERS_REQUIRE("", a->lse.dtype, ==, FOVEA_F32);
    FV_LAYERS_TRY(fv_tokens_check("", "lse", &a->lse, false));
    FV_LAYERS_TRY(fv_tokens_check_shape("", "lse", &a->lse, lse_shape));
    FV_LAYERS_TRY(fv_tokens_check_output("", "lse", &a->lse));
  }
  if (!a->weights.dtype) return FOVEA_OK;
  FV_LAYERS_TRY(fv_tokens_check("", "weights", &a->weights, false));
  FV_LAYERS_TRY(fv_tokens_check_output("", "weights", &a->weights));
  FV_LAYERS_REQUIRE("", a->weights.shape[0], ==, layer->sequences);
  if (a->weights.shape[2] == 1) return FOVEA_OK;
  FV_LAYERS_REQUIRE("", a->weights.shape[2], ==, a->heads_q);
  return FOVEA_OK;
}

fovea_status fv_multihead_check(const fovea_handle *handle, const fovea_multihead_args *given,
                                fv_multihead *layer) {
  memset(layer, 0, sizeof *layer);
  fovea_multihead_args *args = &layer->args;
  FV_LAYERS_TRY(FV_LAYERS_COPY(args, given, fovea_multihead_args, workspace_bytes));
  FV_LAYERS_TRY(fv_layers_check_handle(handle));
  FV_LAYERS_TRY(fv_tokens_check("", "x", &args->x, false));
  FV_LAYERS_TRY(check_numbers(args));
  FV_LAYERS_TRY(check_norm("", "q_norm", &args->q_norm));
  FV_LAYERS_TRY(check_rope(&args->rope));
  layer->sequences = args->q_offsets ? args->sequence_count : args->x.shape[0];
  memcpy(layer->sources, args->sources, (size_t)args->source_count * sizeof *args->sources);
  FV_LAYERS_TRY(fv_linear_check("q_proj.", &args->q_proj, fv_tokens_width(&args->x),
                                (int64_t)args->heads_q * args->dim));
  for (int n = 0; n < args->source_count; ++n) {
    char owner[OWNER_BYTES];
    snprintf(owner, sizeof owner, "sources[%d].", n);
    FV_LAYERS_TRY(check_source(owner, &layer->sources[n], args));
  }
  return check_outputs(layer);
}

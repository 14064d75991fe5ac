/* stream.c - tokens on their way to queries, keys or values (multihead.h): a projection, and then
 * norm and RoPE, which fovea_kv_append does to what it takes for queries: in place. */
#include <string.h>

#include "layers/multihead.h"

static fovea_status check_append(fovea_handle *handle, const fovea_kv_append_args *append,
                                 const char *doing, const char *norm) {
  fovea_support support = {.struct_size = sizeof support};
  fovea_status status = fovea_kv_append_support(handle, append, &support);
  if (status != FOVEA_OK) return fv_layers_fail_renamed(status, doing, "q_norm", norm);
  if (support.supported) return FOVEA_OK;
  return fv_layers_fail(FOVEA_UNSUPPORTED, "%s: %s", doing, support.reason);
}

/* Where the projection goes: memory of the workspace, or the tokens stay where they are. */
static bool plan_projection(fv_stream *s, int64_t heads, int64_t dim, fv_arena *arena) {
  if (!s->linear->weight.dtype && fv_tokens_split(&s->from, heads, dim, &s->projected))
    return false;
  void *data = fv_arena_take(arena, fv_tokens_count(&s->from), heads * dim, sizeof(float));
  s->projected = fv_tokens_f32(data, &s->from, heads, dim);
  return true;
}

fovea_status fv_stream_plan(fovea_handle *handle, fv_stream *s, const char *doing, const char *norm,
                            int64_t heads, int64_t dim, fv_arena *arena) {
  s->moved = plan_projection(s, heads, dim, arena);
  s->copied = false;
  s->ready = s->projected;
  if (!s->prepared) return FOVEA_OK;
  if (!s->moved) { /* the caller's tokens are not to be changed */
    s->copied = true;
    void *data = fv_arena_take(arena, fv_tokens_count(&s->from), heads * dim, sizeof(float));
    s->ready = fv_tokens_f32(data, &s->from, heads, dim);
  }
  s->append.struct_size = sizeof s->append;
  s->append.q = s->projected;
  s->append.q_out = s->ready;
  return check_append(handle, &s->append, doing, norm);
}

void fv_stream_take_scratch(fv_stream *s, fv_arena *shared) {
  if (s->used && s->moved) {
    s->scratch = fv_linear_take(shared, s->linear, &s->from, &s->projected, s->steady);
  }
}

fovea_status fv_stream_run(fovea_handle *handle, const fv_stream *s) {
  if (!s->used) return FOVEA_OK;
  if (s->moved) {
    fv_linear_run(s->linear, &s->from, NULL, &s->projected, &s->scratch);
  }
  if (!s->prepared) return FOVEA_OK;
  if (s->copied) { /* rows that no sequence owns are not written */
    memset(s->ready.data, 0,
           (size_t)(fv_tokens_count(&s->ready) * fv_tokens_width(&s->ready)) * sizeof(float));
  }
  fovea_status status = fovea_kv_append(handle, &s->append, NULL);
  return status == FOVEA_OK ? FOVEA_OK : fv_layers_fail_as(status, "norm and RoPE");
}

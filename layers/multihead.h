/* multihead.h - a call of fovea_multihead between its parts: rules, plan, run.
 *
 *   rules   what the header demands; afterwards every field is in range
 *   plan    which calls of the engine the layer makes, on which tensors, where in the workspace
 *   run     makes them
 *
 * The plan is made twice: once without a workspace, to count it and to let the engine check its own
 * rules before anything is written; then in the workspace. */
#ifndef FOVEA_LAYERS_MULTIHEAD_H
#define FOVEA_LAYERS_MULTIHEAD_H

#include "layers/arena.h"
#include "layers/fovea_layers.h"
#include "layers/linear.h"
#include "layers/tokens.h"

#ifdef __cplusplus
extern "C" {
#endif

/* x_k alone; k alone; both. */
typedef enum fv_source_kind { FV_SOURCE_TOKENS, FV_SOURCE_MEMORY, FV_SOURCE_CACHE } fv_source_kind;

fv_source_kind fv_source_kind_of(const fovea_source *source);

/* x_v, or x_k in its place. */
const fovea_tensor *fv_source_values(const fovea_source *source);

/* Tokens on their way to queries, keys or values: a projection, then norm and RoPE. */
typedef struct fv_stream {
  bool used, steady;
  bool moved;  /* the projection lies in the workspace, not where the tokens are */
  bool copied; /* norm and RoPE write to a place of their own */
  const fovea_linear *linear;
  fovea_tensor from, projected; /* projected: `from` itself without a weight */
  fv_linear_scratch scratch;
  bool prepared;               /* norm or RoPE follow */
  fovea_kv_append_args append; /* which does that; its q_out is `ready` */
  fovea_tensor ready;          /* [.., heads, dim] */
} fv_stream;

typedef struct fv_source_part {
  const fovea_source *source;
  fv_source_kind kind;
  fv_stream k, v;
  fovea_kv_append_args append; /* of a cache */
  int32_t *lengths;            /* [sequences]: of a cache, after the append */
  fovea_attention_args attention;
  int64_t keys; /* that weights have room for */
} fv_source_part;

typedef struct fv_multihead {
  fovea_multihead_args args;
  fovea_source sources[FOVEA_SOURCES_MAX];
  int64_t sequences;
  fv_stream q;
  int32_t *zeros; /* [sequences]; NULL: not needed */
  fv_source_part parts[FOVEA_SOURCES_MAX];
  fovea_tensor o, lse; /* of all sources; lse may be absent with one */
  fv_linear_scratch out_scratch;
  float *head_weights; /* [sequences, rows, keys of a source]; NULL: not needed */
  float *mean_weights; /* [sequences, rows, all keys]; NULL: not needed */
} fv_multihead;

/* Copies the arguments, and checks all rules that are the layer's own. */
fovea_status fv_multihead_check(const fovea_handle *handle, const fovea_multihead_args *given,
                                fv_multihead *layer);

/* Lays the call out in the arena, and lets the engine check what is its own. */
fovea_status fv_multihead_plan(fovea_handle *handle, fv_multihead *layer, fv_arena *arena);

/* Writes args.weights. Afterwards all parts have attended. */
fovea_status fv_multihead_write_weights(fovea_handle *handle, fv_multihead *layer);

/* Whether the engine may write the weights where they are wanted. */
bool fv_multihead_weights_are_direct(const fv_multihead *layer);

/* Sequences in turn: how many rows of x each has, and the number of the first. Begin with zeros.
 * False after the last. */
typedef struct fv_row_cursor {
  int64_t next, sequence, first, rows, end;
} fv_row_cursor;
bool fv_multihead_next(const fv_multihead *layer, fv_row_cursor *cursor);

/* The addresses of a call, before anything is written. */
fovea_status fv_multihead_check_addresses(const fv_multihead *layer);

/* Streams are shared with fovea_memory. */
/* norm: the layer's name of the norm, for messages. */
fovea_status fv_stream_plan(fovea_handle *handle, fv_stream *stream, const char *doing,
                            const char *norm, int64_t heads, int64_t dim, fv_arena *arena);
void fv_stream_take_scratch(fv_stream *stream, fv_arena *shared);
fovea_status fv_stream_run(fovea_handle *handle, const fv_stream *stream);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_MULTIHEAD_H */

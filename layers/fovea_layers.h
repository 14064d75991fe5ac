/* fovea_layers.h - attention as people meet it: layers over fovea.h.
 *
 * This header is the manual. It compiles alone as C99 and as C++17.
 *
 *   Conventions     what all calls have in common
 *   Linear          projections: weights of either layout, bias, activation, residual
 *   Normalise       layer norm and RMS norm of tokens
 *   Multihead       project, attend in several heads, join, project back: self, cross and mixed
 *   Memory          the keys and values of a memory, projected once
 *   Recurrent       GRU and LSTM over sequences, or one step at a time
 *   Rollout         what a stack of layers attends to
 *   Buckets         T5's relative buckets as a table of distances
 *
 * Conventions
 *
 *   Tensors       views as in fovea.h: [batch, len, heads, dim], strides in elements. The width of
 *                 a token is heads * dim, with element h * dim + d; a tensor [batch, len, 1, width]
 *                 is the same tokens in one piece. f32, f16 and bf16, each tensor its own.
 *   Zero          In every struct zero means "the default" or "absent". Structs of arguments begin
 *                 with their size, and grow at their end; rooms grow into reserved words, which
 *                 must be 0. Calls take structs of every size since 0.3, as fovea.h says.
 *   Addresses     The _workspace calls look at none but those of arrays of structs: the tensors
 *                 need not be there yet.
 *   Arithmetic    in f32; every intermediate tensor is f32; results are rounded once, to nearest
 *                 even, to their own type. Sums of n products come in the order of the BLAS:
 *                 n 2^-24 of the sum of their sizes bounds the error, some sqrt(n) 2^-24 are met.
 *   Overlap       What an output spans, from its first byte to its last, meets no other output and
 *                 no input, unless a call says so.
 *   Workspace     the caller's, aligned to 256 bytes, with any contents, one per running call;
 *                 fovea_..._workspace() says how much. Calls allocate nothing. (A BLAS may keep
 *                 buffers of its own.)
 *   Devices       CPU and reference handles. A CUDA handle is FOVEA_UNSUPPORTED for now; `stream`
 *                 is for it.
 *   Threads       Handles may be shared as in fovea.h. Products run on the threads of the BLAS,
 *                 attention on those of the handle.
 *   Returns       FOVEA_OK, also when there is nothing to do. On failure no output is written, and
 *                 fovea_layers_error_detail() says which argument broke which rule.
 *     FOVEA_BAD_ARGUMENT    a rule of this header or of fovea.h is broken
 *     FOVEA_UNSUPPORTED     the device, or a tensor that fovea's kernels do not cover */
#ifndef FOVEA_LAYERS_FOVEA_LAYERS_H
#define FOVEA_LAYERS_FOVEA_LAYERS_H

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Returns the version of this library that is running, as fovea_version. */
FOVEA_API int32_t fovea_layers_version(void);

/* Returns what was wrong in this thread's last failed call of this library. Never NULL. Valid until
 * the thread's next failing call. */
FOVEA_API const char *fovea_layers_error_detail(void);

/* Returns what multiplies matrices: "OpenBLAS ...", "CBLAS" of another kind, or "plain loops" in a
 * build without one. */
FOVEA_API const char *fovea_layers_blas(void);

/* ---- Linear -------------------------------------------------------------------------------- */

typedef enum fovea_activation {
  FOVEA_ACTIVATION_NONE = 0,
  FOVEA_ACTIVATION_TANH = 1,
  FOVEA_ACTIVATION_RELU = 2,
  FOVEA_ACTIVATION_GELU = 3,      /* x * Phi(x), Phi by erf */
  FOVEA_ACTIVATION_GELU_TANH = 4, /* x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) */
  FOVEA_ACTIVATION_SILU = 5,      /* x / (1 + exp(-x)) */
  FOVEA_ACTIVATION_SIGMOID = 6    /* 1 / (1 + exp(-x)) */
} fovea_activation;

/* A linear map of tokens: a room. With a weight
 *
 *   y[o] = activation( sum_i weight[o,i] * x[i]  +  bias[o] )
 *
 *   weight   f32 f16 bf16   [1, out, 1, in]   any strides: stride[3] = 1 is torch's [out, in];
 *                                             stride[1] = 1 is the [in, out] of Keras, GPT-2, ONNX
 *                                             and Marian; a slice of packed weights begins inside
 *                                             them. Absent: y = x, and all of the room is 0
 *   bias     f32 f16 bf16   [1, 1, 1, out]    may be absent */
typedef struct fovea_linear {
  fovea_tensor weight;
  fovea_tensor bias;
  uint32_t activation; /* fovea_activation */
  uint32_t reserved[7];
} fovea_linear;

typedef struct fovea_linear_args {
  size_t struct_size;
  fovea_linear linear;
  fovea_tensor x, residual, out;
  void *workspace;
  size_t workspace_bytes;
} fovea_linear_args;

/* Projects tokens: out = linear(x) + residual.
 *
 *   args       type           shape                          notes
 *   x          f32 f16 bf16   [batch, len, heads_x, dim_x]   heads_x * dim_x = in
 *   residual   f32 f16 bf16   [as out]                       may be absent; may be out itself
 *   out        f32 f16 bf16   [batch, len, heads, dim]       heads * dim = out */
FOVEA_API fovea_status fovea_linear_apply(fovea_handle *handle, const fovea_linear_args *args,
                                          fovea_stream stream);

/* The workspace of this very call. Looks at no address. */
FOVEA_API fovea_status fovea_linear_workspace(fovea_handle *handle, const fovea_linear_args *args,
                                              size_t *bytes);

/* ---- Normalise ----------------------------------------------------------------------------- */

typedef enum fovea_normalise_kind {
  FOVEA_NORMALISE_LAYER = 0, /* (x - mean) / sqrt(variance + eps) * gain + shift */
  FOVEA_NORMALISE_RMS = 1    /* x / sqrt(mean of x^2 + eps) * gain + shift */
} fovea_normalise_kind;

typedef struct fovea_normalise_args {
  size_t struct_size;
  uint32_t kind;        /* fovea_normalise_kind */
  float eps;            /* finite, >= 0 */
  const float *gain;    /* [width]; NULL: 1 */
  const float *shift;   /* [width]; NULL: 0 */
  uint32_t unit_offset; /* 1: the factor is 1 + gain, as Gemma stores it; needs gain */
  uint32_t reserved;
  fovea_tensor x, residual, out;
} fovea_normalise_args;

/* Norms each token over its width: out = norm(x + residual). The variance is that of the width, as
 * in all frameworks: divided by its count. The sum x + residual is rounded to f32; all that follows
 * is in double. A token without variance (RMS: of zeros) is its shift, or NaN if eps is 0.
 *
 *   args       type           shape                      notes
 *   x          f32 f16 bf16   [batch, len, heads, dim]
 *   residual   f32 f16 bf16   [as x]                     may be absent
 *   out        f32 f16 bf16   [as x]                     may be x or residual itself */
FOVEA_API fovea_status fovea_normalise(fovea_handle *handle, const fovea_normalise_args *args,
                                       fovea_stream stream);

/* ---- Multihead ----------------------------------------------------------------------------- */

/* Where keys and values come from. Three kinds, by what is given:
 *
 *   tokens   x_k alone      keys and values of these tokens, projected for this call
 *   memory   k alone        projected before: by fovea_memory, or in an earlier call's cache
 *   cache    x_k and k      the call's own tokens are projected and appended to the cache k and v;
 *                           then all keys in the cache are attended to
 *
 *   field      type           shape                                notes
 *   x_k        f32 f16 bf16   [batch, len_kv, heads, width]        any widths
 *   x_v        f32 f16 bf16   [batch, len_kv, heads, width]        absent: x_k
 *   k, v       as in fovea_attention, of memory; as in fovea_kv_append, of a cache
 *   k_scale, v_scale, positions, visibility, alibi_slopes, distances   as in fovea_attention
 *   bias, bias_scale                                                   likewise
 *
 * Lengths     sequences.kv_lengths counts keys in use: of tokens and of memory as in
 *             fovea_attention; of a cache before the call, as in fovea_kv_append. Offsets, kv_first
 *             and pages are those of the keys. q_offsets and q_lengths are the layer's.
 * Projection  k_proj gives heads_kv * dim numbers per token, v_proj heads_kv * dim_v. Without a
 *             weight x_k has that width already.
 * Norms       k_norm and v_norm act on projected keys and values, as in fovea_kv_append.
 * RoPE        With rope = 1 keys are rotated by the layer's table; x_k holds the tokens of x.
 *             Those that no sequence of x owns have no position: nothing may attend to them. */
typedef struct fovea_source {
  fovea_tensor x_k, x_v;
  fovea_linear k_proj, v_proj;
  fovea_norm k_norm, v_norm;
  uint32_t rope;
  uint32_t reserved32;
  fovea_tensor k, v, k_scale, v_scale;
  fovea_sequences sequences;
  fovea_positions positions;
  fovea_visibility visibility;
  fovea_tensor bias;
  const float *bias_scale;
  const float *alibi_slopes;
  int64_t alibi_stride;
  fovea_distances distances;
  uint64_t reserved[8];
} fovea_source;

enum { FOVEA_SOURCES_MAX = 4 };

typedef struct fovea_multihead_args {
  size_t struct_size;
  uint32_t reproducible; /* as in fovea_attention_args */
  int32_t heads_q, heads_kv, dim, dim_v;
  int32_t source_count; /* 1 to FOVEA_SOURCES_MAX */
  const fovea_source *sources;

  fovea_tensor x;
  fovea_linear q_proj;
  fovea_norm q_norm;
  fovea_rope rope;          /* of queries, and of the keys of sources that say so */
  int64_t sequence_count;   /* as sequences.count of fovea_attention */
  const int32_t *q_offsets; /* x, residual, out and lse are packed */
  const int32_t *q_lengths;

  float scale;   /* 0: 1 / sqrt(dim), or 1 of additive scores */
  float softcap; /* 0: none */
  const float *sinks;
  fovea_additive additive;

  fovea_linear out_proj;
  fovea_tensor residual, out, lse, weights;
  uint32_t *errors; /* [sequences] */
  void *workspace;
  size_t workspace_bytes;
} fovea_multihead_args;

/* Multi-head attention: projects x to queries and each source to keys and values, attends, joins
 * the heads, and projects back.
 *
 *   q   = norm and RoPE of q_proj(x)                         heads_q heads of dim
 *   o   = attention of q to the keys of all sources, in one softmax
 *   out = out_proj(o) + residual
 *
 *   args       type           shape                                notes
 *   x          f32 f16 bf16   [batch, len_q, heads, width]         any width with q_proj
 *   residual   f32 f16 bf16   [as out]                             may be absent; often x
 *   out        f32 f16 bf16   [batch, len_q, heads, width]         out_proj's, or heads_q * dim_v
 *   lse        f32            [batch, len_q, heads_q, 1]           may be absent
 *   weights    f32 f16 bf16   [sequences, rows, heads_q, keys]     may be absent; extent 2 of 1:
 *                                                                  the mean over heads
 *
 * Sources     One source whose x_k is x makes self-attention; one with other tokens or a memory,
 *             cross-attention; several, mixed attention: their keys share one softmax. Results of
 *             several are joined by fovea_merge. A sink counts once.
 * Additive    With additive.vector the score is Bahdanau's: q_proj is W_q with its bias, k_proj is
 *             W_k, dim counts the hidden units, and without v_proj the values are the tokens.
 * Pooling     x may be learned queries [1, n, heads_q, dim] that every batch row repeats (stride[0]
 *             = 0, shape[0] = batch), without q_proj. With an additive score x is a bias, or 0.
 * RoPE        Positions are rope.positions [tokens of x]. NULL: token t of sequence s stands at
 *             kv_lengths[s] + t of the first source that is a cache, at t without one; keys on
 *             their way into a cache stand where that cache's lengths put them.
 * Weights     Keys of the sources follow each other: those of source n begin at the sum of the
 *             extents before: of memory and tokens len_kv as the tensors hold it, of a cache or
 *             pages all that it can hold. keys is at least the sum, or one source's alone may be
 *             cut short. Row i counts within its sequence, also where x is packed. Elements past
 *             the sum are 0.
 * Empty row   o = 0: out is out_proj's bias, through its activation, and the residual. Weights are
 *             0. (torch's layer gives NaN there if it returns weights, Keras' the mean of V.)
 * Padding     Rows of x past q_lengths, and those that no sequence owns: o = 0, and lse = -inf.
 * Overlap     out may be residual or x itself.
 * Masks       1 is visible, as in Keras and ONNX. torch's boolean masks of its layers mean the
 *             opposite. torch's add_zero_attn is a sink of 0.
 * Numerics    As fovea_attention on q, k and v in f32, or in the type of the cache. With another
 *             `reproducible` than RUN no BLAS takes part: a projection's bits then do not depend on
 *             other rows. dim and dim_v are those of fovea_attention: to 576 and 512. */
FOVEA_API fovea_status fovea_multihead(fovea_handle *handle, const fovea_multihead_args *args,
                                       fovea_stream stream);

/* The workspace of this very call. Looks at no address but those of `sources`. */
FOVEA_API fovea_status fovea_multihead_workspace(fovea_handle *handle,
                                                 const fovea_multihead_args *args, size_t *bytes);

/* ---- Memory -------------------------------------------------------------------------------- */

typedef struct fovea_memory_args {
  size_t struct_size;
  int32_t heads_kv, dim, dim_v;
  uint32_t reserved;
  fovea_tensor x_k, x_v;
  fovea_linear k_proj, v_proj;
  fovea_norm k_norm, v_norm;
  fovea_tensor k, v;
  void *workspace;
  size_t workspace_bytes;
} fovea_memory_args;

/* Projects a memory's keys and values once, for many calls of fovea_multihead: what an encoder
 * gives its decoder (Bahdanau, T5, Whisper, Marian).
 *
 *   args       type           shape                             notes
 *   x_k, x_v   f32 f16 bf16   [batch, len_kv, heads, width]     x_v absent: x_k
 *   k          f32 f16 bf16   [batch, len_kv, heads_kv, dim]
 *   v          f32 f16 bf16   [batch, len_kv, heads_kv, dim_v]  absent: not wanted, nor v_proj */
FOVEA_API fovea_status fovea_memory(fovea_handle *handle, const fovea_memory_args *args,
                                    fovea_stream stream);
FOVEA_API fovea_status fovea_memory_workspace(fovea_handle *handle, const fovea_memory_args *args,
                                              size_t *bytes);

/* ---- Recurrent ----------------------------------------------------------------------------- */

typedef enum fovea_cell {
  FOVEA_CELL_GRU = 1, /* gates r, z, n */
  FOVEA_CELL_LSTM = 2 /* gates i, f, g, o */
} fovea_cell;

typedef struct fovea_recurrent_args {
  size_t struct_size;
  uint32_t cell;    /* fovea_cell */
  uint32_t reverse; /* 1: from a sequence's last token, lengths[b] - 1, to its first */
  fovea_tensor x;
  fovea_tensor weight_x, weight_h; /* as fovea_linear's weight */
  fovea_tensor bias_x, bias_h;     /* as fovea_linear's bias; may be absent */
  fovea_tensor h_first, c_first;   /* absent: zeros */
  const int32_t *lengths;          /* [batch]; NULL: all tokens. Clamped to [0, len] */
  fovea_tensor states;
  fovea_tensor h_last, c_last;
  void *workspace;
  size_t workspace_bytes;
} fovea_recurrent_args;

/* Runs a recurrent cell over the tokens of each sequence; one step is a call with len = 1.
 *
 *   GRU    r = sigmoid(W_r x + b + U_r h + c)    z likewise    n = tanh(W_n x + b + r (U_n h + c))
 *          h' = (1 - z) n + z h
 *   LSTM   i, f, o = sigmoid(W x + b + U h + c)   g = tanh(likewise)
 *          c' = f c + i g                        h' = o tanh(c')
 *
 *   args             type           shape                                   notes
 *   x                f32 f16 bf16   [batch, len, heads, width]              heads * width = in
 *   weight_x         f32 f16 bf16   [1, gates * hidden, 1, in]              gates one after another
 *   weight_h         f32 f16 bf16   [1, gates * hidden, 1, hidden]
 *   bias_x, bias_h   f32 f16 bf16   [1, 1, 1, gates * hidden]
 *   h_first, h_last  f32 f16 bf16   [batch, 1, 1, hidden]                   may be absent
 *   c_first, c_last  f32 f16 bf16   [batch, 1, 1, hidden]                   LSTM only
 *   states           f32 f16 bf16   [batch, len, 1, hidden]                 may be absent
 *
 * Both layouts and gates are those of torch.nn.GRU and LSTM. states[t] is h after token t, whatever
 * the direction; past the length it is 0. h_last is h after the last step taken, h_first if none
 * was; it may be h_first itself, and c_last c_first itself. A bidirectional encoder is two calls
 * whose states are the halves of one tensor. The state stays in f32 from step to step. Tokens past
 * a length change no bit. A call step by step sums products in another order than one over the
 * sequence, since a BLAS chooses it by the number of rows; in plain loops bits are the same. */
FOVEA_API fovea_status fovea_recurrent(fovea_handle *handle, const fovea_recurrent_args *args,
                                       fovea_stream stream);

/* The workspace of this very call. Looks at no address. */
FOVEA_API fovea_status fovea_recurrent_workspace(fovea_handle *handle,
                                                 const fovea_recurrent_args *args, size_t *bytes);

/* ---- Rollout ------------------------------------------------------------------------------- */

typedef struct fovea_rollout_args {
  size_t struct_size;
  int32_t count;               /* of layers, >= 1 */
  float residual;              /* the residual's share, in [0, 1); 0.5 is the paper's */
  const fovea_tensor *weights; /* [count], the first layer first */
  fovea_tensor out;
  void *workspace;
  size_t workspace_bytes;
} fovea_rollout_args;

/* Attention rollout (Abnar and Zuidema 2020): what each row of the last layer attends to among the
 * tokens below the first.
 *
 *   A_n = (1 - residual) * mean over heads of weights_n  +  residual * I, rows divided by their sum
 *   out = A_count ... A_2 A_1                            (a row of zeros in weights_n: I alone)
 *
 *   args      type           shape                        notes
 *   weights   f32 f16 bf16   [batch, len, heads, len]     each its own number of heads, >= 1
 *   out       f32 f16 bf16   [batch, len, 1, len] */
FOVEA_API fovea_status fovea_rollout(fovea_handle *handle, const fovea_rollout_args *args,
                                     fovea_stream stream);

/* The workspace of this very call. Looks at no address but that of `weights`. */
FOVEA_API fovea_status fovea_rollout_workspace(fovea_handle *handle, const fovea_rollout_args *args,
                                               size_t *bytes);

/* ---- Buckets ------------------------------------------------------------------------------- */

typedef struct fovea_buckets_args {
  size_t struct_size;
  int32_t buckets;      /* >= 2; even if bidirectional, and then >= 4 */
  int32_t heads;        /* >= 1 */
  int32_t max_distance; /* above the number of exact buckets of a side; T5: 128 */
  uint32_t bidirectional;
  const float *bias; /* [buckets, heads], as T5 stores it */
  float *table;      /* [heads, entries] */
  int64_t entries;   /* of table per head: 2 * max_distance + 1, or max_distance + 1 of one side */
} fovea_buckets_args;

/* Expands T5's relative buckets into the table of fovea_distances: *distances points to it. T5 has
 * scale = 1, and one table for all layers. A side has n buckets, of which the first
 * exact = n / 2, rounded down, hold one distance each:
 *
 *   bucket(d) = d                                                          if d < exact, else
 *               exact + floor(ln(d / exact) / ln(max_distance / exact) * (n - exact)), below n
 *
 * Sides       A key d positions before the row has bucket(d). A key d positions after it has
 *             n + bucket(d) if bidirectional, else bucket 0. From max_distance on a side's keys
 *             share its last bucket.
 * Borders     Every step is rounded to f32, as in PyTorch on the CPU. So a distance on a border, or
 *             within some 1e-6 of it, may have the bucket on its other side, as it has there. With
 *             T5's own settings, 32 buckets to 128, none has.
 * Heads       distances->head_stride is `entries`; with one head 0: all heads share the table. */
FOVEA_API fovea_status fovea_buckets(const fovea_buckets_args *args, fovea_distances *distances);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_FOVEA_LAYERS_H */

/* fovea.h - exact attention as a C library.
 *
 * This header is the manual. It compiles alone as C99 and as C++17 and includes no CUDA header.
 *
 *   Introduction      what is computed, and the words used for it
 *   Version, status   numbers, texts, error detail
 *   Tensors           views with named dimensions
 *   Handle            a device and its threads
 *   Rooms             sequences, positions, visibility, logits: what the calls have in common
 *   Attention         the main call, what it supports, its workspace, its plan
 *   Weights           the probabilities or logits themselves, for chosen rows; their sums per key
 *   Merge             partial results over disjoint keys become one
 *   Append            new tokens into a key/value cache, with norms, RoPE and quantisation
 *
 * Introduction
 *
 *   For every sequence s, query row i and query head h, with g = h / (heads_q / heads_kv):
 *
 *     t[j]   = scale * sum_d q[s,i,h,d] * k[s,j,g,d]                      scaled; or additive:
 *     t[j]   = scale * sum_d vector[h,d] * tanh(q[s,i,h,d] + k[s,j,g,d])  if a vector is given
 *     t[j]   = softcap * tanh(t[j] / softcap)                             if softcap > 0
 *     t[j]   = t[j] - alibi_slope[s,h] * |P(i) - K(j)|                    if ALiBi slopes are given
 *     t[j]   = t[j] + distance_table[h, K(j) - P(i)]                      if a table is given
 *     t[j]   = t[j] + bias_scale[h] * bias[s,i,h,j]                       if a bias is given
 *     lse    = log( sum_{j visible} exp(t[j])  +  exp(sink[h]) )          the sink if one is given
 *     w[j]   = exp(t[j] - lse) for visible j, else 0
 *     out[s,i,h,:] = sum_j w[j] * v[s,j,g,:]
 *
 *   P(i) and K(j) are the positions of a row and a key ("Positions" below). s, i and j always count
 *   from the start of the sequence, however the batch is stored.
 *
 *   Lengths, offsets, positions, page tables and scales are read where the work is done: in device
 *   memory for a CUDA handle, in host memory for the CPU handles. One captured CUDA graph therefore
 *   serves every step of a decoding loop.
 *
 *   In every struct of arguments the first field is its size, and zero everywhere else means "the
 *   default" or "absent". Start with `fovea_attention_args args = {.struct_size = sizeof args};`.
 *
 * Growth
 *
 *   No offset ever moves. Structs with a struct_size grow at their end; the others grow into their
 *   reserved words, which must be 0. Every call takes a struct of any release since 0.2:
 *   - a smaller one: what it lacks counts as zero, and only what it has is written back;
 *   - a larger one: accepted if all that this library does not know of it is zero.
 *
 * Bindings
 *
 *   fovea-abi.json, installed beside this header, lists every size, offset, type and number in it.
 *   With FOVEA_NO_INLINE defined this header declares and defines no function body, and with
 *   `-DFOVEA_API=` it holds nothing but standard C. Readers that know size_t and int32_t by
 *   themselves (cffi) take what this prints:
 *
 *     grep -v '^#include' fovea.h | cc -E -P -DFOVEA_NO_INLINE -DFOVEA_API= -x c - */
#ifndef FOVEA_H
#define FOVEA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef FOVEA_API /* -DFOVEA_API= for readers of declarations that know no attributes */
#if defined(__GNUC__)
#define FOVEA_API __attribute__((visibility("default")))
#else
#define FOVEA_API
#endif
#endif

/* ---- Version ------------------------------------------------------------------------------- */

#define FOVEA_VERSION_MAJOR 0
#define FOVEA_VERSION_MINOR 3
#define FOVEA_VERSION_PATCH 0

/* Returns the version of the library that is running: major * 10000 + minor * 100 + patch. */
FOVEA_API int32_t fovea_version(void);

/* ---- Status -------------------------------------------------------------------------------- */

/* X(name, value, text). A function that returns any of these except PARTIAL has, on failure, queued
 * nothing and written to none of its outputs. Where an address must be given, of a handle, of a
 * struct or of a place for a result, NULL is a BAD_ARGUMENT. */
#define FOVEA_STATUS_MAP(X)                                                                  \
  X(OK, 0, "success")                                                                        \
  X(BAD_ARGUMENT, 1, "an argument breaks a rule of the header")                              \
  X(UNSUPPORTED, 2, "no kernel of this device covers the request")                           \
  X(NO_DEVICE, 3, "the device is absent, or its driver is missing or too old")               \
  X(OUT_OF_MEMORY, 4, "memory or another system resource could not be had")                  \
  X(NOT_PREPARED, 5, "a kernel must be loaded, which a stream capture forbids; see prepare") \
  X(DRIVER_ERROR, 6, "the device driver refused; nothing was queued")                        \
  X(PARTIAL, 7, "the driver refused a later launch of the call; its outputs are undefined")

typedef enum fovea_status {
#define FOVEA_STATUS_ENUM(name, value, text) FOVEA_##name = value,
  FOVEA_STATUS_MAP(FOVEA_STATUS_ENUM)
#undef FOVEA_STATUS_ENUM
} fovea_status;

/* Return the status's name, "FOVEA_BAD_ARGUMENT", and its text. Any other value: "FOVEA_?" and a
 * text that says so; never NULL. */
FOVEA_API const char *fovea_status_name(fovea_status status);
FOVEA_API const char *fovea_status_text(fovea_status status);

/* Returns what was wrong in this thread's last failed call: which argument, its value and the rule,
 * such as "q.shape[3] (dim) is 60, must be a multiple of 8". Never NULL; "" before the first
 * failure. Valid until the thread's next failing call. Callers whose threads move (Go) pass
 * `detail` instead. */
FOVEA_API const char *fovea_error_detail(void);

/* ---- Tensors ------------------------------------------------------------------------------- */

typedef enum fovea_dtype {
  FOVEA_NONE = 0, /* the tensor is absent */
  FOVEA_F32 = 1,
  FOVEA_F16 = 2,
  FOVEA_BF16 = 3,
  FOVEA_E4M3 = 4, /* 8-bit float, OCP E4M3: no infinity, NaN 0x7f, largest 448 */
  FOVEA_E5M2 = 5, /* 8-bit float, OCP E5M2: largest finite 57344 */
  FOVEA_I8 = 6,
  FOVEA_U8 = 7,   /* masks only: 0 = hidden, anything else = visible */
  FOVEA_Q8_0 = 8, /* caches only, as Q4_0: blocks of 32 elements, as ggml has them, in 34 bytes: an
                   * f16 d, then 32 i8; the value is d * i8 */
  FOVEA_Q4_0 = 9  /* in 18 bytes: an f16 d, then 16 bytes, of which the low halves are elements 0 to
                   * 15, the high halves 16 to 31; the value is d * (half - 8) */
} fovea_dtype;

/* A strided view. Dimensions always come in the order [batch, seq, head, dim]; how memory is laid
 * out is a matter of strides, so heads-first memory [batch, head, seq, dim] is the same view with
 * stride[1] < stride[2].
 *
 *   field      unit       rule
 *   data       address    aligned to the element; NULL only if an extent is 0
 *   shape      elements   each from 0 to 2^31 - 1
 *   stride     elements   each >= 0; stride[3] is 1 unless said otherwise; 0 in an input repeats
 *                         (broadcasts) the dimension
 *   dtype      -          FOVEA_NONE: the tensor is absent, and no other field is looked at
 *   reserved   -          0
 *
 * Of q8_0 and q4_0 shape[3] and the other strides are multiples of 32: rows are whole blocks. data
 * is aligned to 2 bytes, and stride[3] counts elements all the same: it is 1.
 *
 * The stride of an extent of 1 is never looked at, nor any stride of a tensor without elements.
 * This struct is frozen: it never grows. */
typedef struct fovea_tensor {
  void *data; /* inputs are only read */
  int64_t shape[4];
  int64_t stride[4];
  uint32_t dtype; /* fovea_dtype */
  uint32_t reserved[5];
} fovea_tensor;

#ifndef FOVEA_NO_INLINE
/* A view of contiguous memory [batch, seq, head, dim]. */
static inline fovea_tensor fovea_contiguous(void *data, fovea_dtype dtype, int64_t batch,
                                            int64_t seq, int64_t heads, int64_t dim) {
  fovea_tensor view;
  int i;
  view.data = data;
  view.shape[0] = batch;
  view.shape[1] = seq;
  view.shape[2] = heads;
  view.shape[3] = dim;
  view.stride[0] = seq * heads * dim;
  view.stride[1] = heads * dim;
  view.stride[2] = dim;
  view.stride[3] = 1;
  view.dtype = (uint32_t)dtype;
  for (i = 0; i < 5; ++i) view.reserved[i] = 0;
  return view;
}
#endif

/* ---- Handle -------------------------------------------------------------------------------- */

typedef struct fovea_handle fovea_handle;

/* A CUstream or cudaStream_t: NULL is the legacy default stream. CPU handles ignore it. */
typedef struct CUstream_st *fovea_stream;

typedef enum fovea_device {
  FOVEA_DEVICE_AUTO = 0,      /* a CUDA device if one covers all of this header, else the CPU */
  FOVEA_DEVICE_CPU = 1,       /* tiled, threaded, vectorised */
  FOVEA_DEVICE_REFERENCE = 2, /* double precision, the formula as loops; slow on purpose: a judge */
  FOVEA_DEVICE_CUDA = 3
} fovea_device;

/* Runs task(context, i) once for every i in [0, count), in any order, on any threads, at the same
 * time or not, and returns when all are done. */
typedef void (*fovea_task)(void *context, int64_t index);
typedef void (*fovea_parallel_for)(void *user, int64_t count, fovea_task task, void *context);

/* level: 0 error, 1 warning, 2 information. The text is valid during the call. */
typedef void (*fovea_log)(void *user, int32_t level, const char *text);

typedef struct fovea_options {
  size_t struct_size;
  uint32_t device;   /* fovea_device */
  int32_t ordinal;   /* which CUDA device; 0 otherwise */
  int32_t threads;   /* CPU threads, the caller's included, 4096 at most; 0: as many as the process
                      * may use */
  uint32_t reserved; /* 0 */
  fovea_parallel_for parallel_for; /* NULL: the handle's own threads */
  void *parallel_for_user;
  fovea_log log; /* NULL: no log */
  void *log_user;
} fovea_options;

/* Opens a device.
 *
 *   args      type                   notes
 *   options   const fovea_options*   NULL: all defaults
 *   handle    fovea_handle**         receives the handle; set to NULL on failure
 *
 * Environment  FOVEA_CPU_ISA=portable|avx2|avx512 forces the CPU backend's instruction set. Ignored
 *              in programs that run with raised privileges.
 *              FOVEA_CUDA_DRIVER=file takes the place of libcuda.so.1. Ignored likewise.
 * Threads      One handle may be used by many threads at once, each call with its own workspace and
 *              outputs. While one call runs on the handle's threads another runs on its caller's.
 * Fork         CPU handles go on working in a child of fork(); their threads start again there at
 *              the first use. CUDA does not survive fork().
 * Returns      FOVEA_OK
 *   FOVEA_BAD_ARGUMENT    a field is out of range, or FOVEA_CPU_ISA names no instruction set
 *   FOVEA_NO_DEVICE       the device asked for is absent; the detail says why
 *   FOVEA_OUT_OF_MEMORY */
FOVEA_API fovea_status fovea_create(const fovea_options *options, fovea_handle **handle);

/* Ends the handle's threads and frees it. NULL is allowed. No call may be running on it. Returns
 * nothing: it cannot fail. */
FOVEA_API void fovea_destroy(fovea_handle *handle);

typedef struct fovea_info {
  size_t struct_size;
  uint32_t device; /* the fovea_device in use: never AUTO */
  int32_t ordinal;
  int32_t threads; /* how many tasks a call is cut into at most */
  uint32_t reserved;
  char isa[32];       /* "avx512", "avx2", "portable", "sm_90", ... */
  char name[96];      /* the processor's or the GPU's name */
  char features[160]; /* what was found: "avx2 fma f16c" */
  char cuda[256];     /* why CUDA is or is not available, one sentence */
} fovea_info;

/* Describes a handle. Set info->struct_size first.
 *
 * Returns     FOVEA_OK
 *   FOVEA_BAD_ARGUMENT   info->struct_size is that of no release */
FOVEA_API fovea_status fovea_get_info(const fovea_handle *handle, fovea_info *info);

/* Returns the names of all kernels in this build, by index from 0; NULL past the last. */
FOVEA_API const char *fovea_kernel_name(int32_t index);

/* ---- Rooms --------------------------------------------------------------------------------- */

/* A room is a struct that stands inside structs of arguments: one chapter of what a call is about.
 * All of a room may be zero. "Attention" gives the rules that tie its fields to the tensors. */

/* Where a paged cache keeps its pages. With ids, k is [pages, page_len, heads_kv, dim] and key j of
 * sequence s lies in slot j % page_len of page id(s, j / page_len).
 *
 *   dense   offsets NULL:  id(s, p) = ids[s * row_stride + p],   p < count <= row_stride
 *   CSR     offsets i32 [sequences + 1]:  id(s, p) = ids[offsets[s] + p],  p < offsets[s+1] -
 *           offsets[s]; count is the number of ids
 *   heads   dense, with head_stride > 0: each kv head g has pages of its own, at
 *           id(s, g, p) = ids[s * row_stride + g * head_stride + p],  count <= head_stride too
 *
 * count is at least 1 unless there are no sequences or no pages. Without ids all is 0. v_ids is v's
 * own table of the same form; NULL: k's. Any page_len >= 1 will do. Not for append: head_stride and
 * head_lengths, since a token's place is the same for all heads. */
typedef struct fovea_pages {
  const int32_t *ids; /* NULL: the cache is not paged */
  const int32_t *v_ids;
  const int32_t *offsets;
  int64_t row_stride;
  int64_t count;
  int64_t head_stride;         /* ids from one kv head's table to the next; 0: all share one */
  const int32_t *head_lengths; /* [sequences, heads_kv]: keys in use, in place of kv_lengths */
  uint64_t reserved[1];
} fovea_pages;

/* Which rows and which keys belong to which sequence. Attention and append share it: there q is
 * k_new and v_new, and keys are those in the cache before the call. */
typedef struct fovea_sequences {
  int64_t count;             /* how many; may be 0 unless q is packed: then q.shape[0] */
  const int32_t *q_offsets;  /* [count + 1]: q, out and lse are packed */
  const int32_t *kv_offsets; /* [count + 1]: k and v are packed; not for append */
  const int32_t *kv_lengths; /* [count]: keys in use */
  const int32_t *kv_first;   /* [count]: keys before this one are gone; not for append */
  fovea_pages pages;
  const int32_t *q_lengths; /* [count]: rows in use; NULL: all that the sequence owns */
  uint64_t reserved[7];
} fovea_sequences;

typedef enum fovea_alignment {
  FOVEA_ALIGN_BOTTOM_RIGHT = 0, /* the last row stands at the last key */
  FOVEA_ALIGN_TOP_LEFT = 1      /* row 0 stands at position 0 */
} fovea_alignment;

/* Where rows and keys stand: P(i) and K(j). */
typedef struct fovea_positions {
  uint32_t alignment; /* fovea_alignment */
  int32_t kv_stride;  /* positions from key to key, >= 1; 0: 1 */
  const int32_t *q;   /* [sequences]: position of row 0; overrides alignment */
  const int32_t *kv;  /* [sequences]: position of key 0; NULL: 0 */
  uint32_t selected;  /* 0 or 1: the keys are a selection, without positions */
  uint32_t reserved32;
  uint64_t reserved[3];
} fovea_positions;

/* A side of the window. kind 0: unlimited, and count is 0. kind 1: at most `count` positions away,
 * count >= 0. This struct is frozen: it never grows. */
enum { FOVEA_WINDOW_UNLIMITED = 0, FOVEA_WINDOW_LIMITED = 1 };
typedef struct fovea_window {
  uint32_t kind;
  int32_t count;
} fovea_window;

/* A bit per (row, key) for trees of drafted tokens. Row i of sequence s owns ceil(len / 32) words
 * from bits[start + i * ceil(len / 32)], where len = lengths[s] (NULL: the sequence's len_q) and
 * start = starts[s] (NULL: 0). Bit c % 32 of its word c / 32 decides on key len_kv - len + c; keys
 * before those are visible as far as the tree is concerned. A key whose bit lies past `words` is
 * invisible, and so are all those of a row that begins before `bits`: FOVEA_BAD_MASK. */
typedef struct fovea_tree {
  const uint32_t *bits; /* NULL: no tree */
  int64_t words;        /* how many words lie behind bits; 0 without bits */
  const int32_t *lengths;
  const int32_t *starts;
  uint64_t reserved[2];
} fovea_tree;

/* How a row's span joins what causality and window let it see. */
typedef enum fovea_span_rule {
  FOVEA_SPAN_BESIDES = 0, /* (causal and window) or span */
  FOVEA_SPAN_WITHIN = 1   /* (causal or span) and window */
} fovea_span_rule;

/* Which keys a row sees. */
typedef struct fovea_visibility {
  uint32_t causal;    /* 0 or 1 */
  uint32_t span_rule; /* fovea_span_rule; 0 without spans */
  fovea_window window_left;
  fovea_window window_right;
  const int32_t *prefix_lengths; /* [sequences]: keys at positions below this: seen by every row */
  fovea_tensor mask;
  fovea_tree tree;
  /* [rows, 2]: begin and end of each row's span of positions, as tokens of one image see each
   * other; empty unless begin < end. rows: those of q if it is packed, else row i of sequence s is
   * s * q.shape[1] + i. NULL: no spans. */
  const int32_t *spans;
  uint64_t reserved[7];
} fovea_visibility;

/* What is added to the logit of a key by its distance K(j) - P(i) from the row: for head h
 * table[h * head_stride + e], e = K(j) - P(i) - first clamped to [0, count - 1]. So both ends of
 * the table reach on for ever. An entry of -inf hides the key. */
typedef struct fovea_distances {
  const float *table;  /* [heads_q or 1, count]; NULL: none */
  int64_t head_stride; /* elements from one head's entries to the next; 0: shared by all heads */
  int32_t first;       /* the distance of entry 0: -5 is a key 5 positions before the row */
  int32_t count;       /* of entries per head, >= 1; 0 without a table */
  uint64_t reserved[1];
} fovea_distances;

/* The additive score (Bahdanau, Cho and Bengio 2015) in place of the dot product. q and k are the
 * states after their projections, W q + b and U k; the projection of keys is made once. tanh is off
 * by at most 7 units of 2^-24, relative. */
typedef struct fovea_additive {
  const float *vector; /* [heads_q or 1, dim]; NULL: the score is the dot product */
  int64_t head_stride; /* elements from one head's vector to the next; 0: shared by all heads */
  uint64_t reserved[1];
} fovea_additive;

/* What becomes of a score. */
typedef struct fovea_logits {
  float scale;               /* 0: 1 / sqrt(dim), rounded to f32; of additive scores: 1 */
  float softcap;             /* 0: none */
  const float *alibi_slopes; /* [heads_q], or one such row per sequence */
  int64_t alibi_stride;      /* elements from one sequence's slopes to the next; 0: shared, or
                              * without slopes */
  fovea_tensor bias;
  const float *sinks;      /* [heads_q] */
  const float *bias_scale; /* [heads_q]: multiplies the bias; NULL: 1 */
  fovea_distances distances;
  fovea_additive additive;
  uint64_t reserved[4];
} fovea_logits;

/* Bits that a call adds (by OR) to errors[s] when it meets bad data in device memory. */
enum {
  FOVEA_BAD_LENGTH = 1u,   /* a length or kv_first was clamped */
  FOVEA_BAD_PAGE = 2u,     /* a page id outside the cache: its keys are invisible */
  FOVEA_BAD_OFFSET = 4u,   /* an offset decreases or exceeds the tensor: it was clamped */
  FOVEA_BAD_POSITION = 8u, /* append: no row of the RoPE table for this position; token skipped */
  FOVEA_BAD_SLOT = 16u,    /* append: no such place in the cache; token skipped */
  FOVEA_BAD_MASK = 32u     /* a row or key outside bias, mask or tree: the key is invisible */
};

enum { FOVEA_ALLOW_DEPENDENT_LAUNCH = 1u }; /* flags: CUDA programmatic dependent launch */

/* ---- Attention ----------------------------------------------------------------------------- */

/* How far the bits of a result are promised, on one device model and one build of the library. */
typedef enum fovea_reproducible {
  FOVEA_REPRODUCIBLE_RUN = 0,   /* the same call gives the same bits */
  FOVEA_REPRODUCIBLE_BATCH = 1, /* a row's bits do not depend on the other sequences */
  FOVEA_REPRODUCIBLE_PHASE = 2  /* nor on how many query rows its sequence brings along; decoding is
                                 * then slower, as fovea_attention_explain says */
} fovea_reproducible;

typedef struct fovea_attention_args {
  size_t struct_size;
  uint32_t flags;        /* FOVEA_ALLOW_... */
  uint32_t reproducible; /* fovea_reproducible */

  fovea_tensor q, k, v, out, lse;
  fovea_tensor q_scale, k_scale, v_scale, out_scale;

  fovea_sequences sequences;
  fovea_positions positions;
  fovea_visibility visibility;
  fovea_logits logits;

  uint32_t *errors; /* [sequences], caller-owned, NULL: not wanted */
  void *workspace;
  size_t workspace_bytes;
  int32_t sm_count; /* CUDA: use at most so many multiprocessors; 0: all */
  uint32_t reserved;
  char *detail; /* receives the error detail, NUL-terminated; NULL: not wanted */
  size_t detail_bytes;
} fovea_attention_args;

/* Attends each query row to the keys it may see: the formula of the introduction.
 *
 *   args        type                       shape                                  notes
 *   q           f32 f16 bf16 e4m3          [batch, len_q, heads_q, dim]
 *   k           f32 f16 bf16 e4m3 e5m2 i8  [batch, len_kv, heads_kv, dim]         or q8_0, q4_0
 *   v           as k                       [batch, len_kv, heads_kv, dim_v]       may lie inside k
 *   out         f32 f16 bf16 e4m3          [batch, len_q, heads_q, dim_v]
 *   lse         f32                        [batch, len_q, heads_q, 1]             may be absent
 *   x_scale     f32 f16                    [as x, as x, as x, blocks]             may be absent
 *   mask        u8                         [sequences, rows, heads_q, keys]       may be absent
 *   bias        f32 f16 bf16               [sequences, rows, heads_q, keys]       may be absent
 *
 *   Fields of rooms are named without their room: kv_lengths is args->sequences.kv_lengths.
 *
 * Shapes      dim is from 1 to 576, dim_v from 1 to 512; multiples of 8 are fastest, and a GPU may
 *             take no others. heads_q is a multiple of heads_kv. Any other extent of q, and len_kv,
 *             may be 0. scale and softcap are not negative. If dim is padded with zeros in q and k,
 *             scale is given as 1 / sqrt(the dim before padding): the default counts the zeros.
 * Scales      Only of e4m3, e5m2 and i8. The value of an element is data * scale; out is stored as
 *             value / out_scale. Extents 0 to 2 of a scale equal its tensor's, or are 1 and then
 *             broadcast; extent 3 divides the tensor's dim: element d takes block
 *             d / (dim / blocks). Per tensor, head, token, channel and block are cases of this.
 *             Any stride[3]. Scales that are 0, infinite or NaN follow arithmetic.
 * Packed      With q_offsets, q is [1, total, heads_q, dim] and sequence s owns the rows from
 *             q_offsets[s] up to q_offsets[s+1]; out and lse likewise; rows that no sequence
 *             owns are not written. With kv_offsets, k and v are packed alike. Without them batch
 *             row s is sequence s. q and k may differ in this. Offsets are read through a running
 *             maximum, clamped to [0, total]: no two sequences ever own the same row.
 * Paged       With pages.ids ("fovea_pages"); needs kv_lengths or pages.head_lengths, not both;
 *             excludes kv_offsets. Ids at or past ceil(len / page_len), and ids all of whose keys
 *             are hidden by position, are never used.
 * Lengths     len_kv of sequence s = kv_lengths[s] clamped to [0, capacity], where capacity is
 *             what the tensor, the offsets or the page table hold for s; without kv_lengths it is
 *             that capacity. With pages.head_lengths each kv head g has its own len_kv, clamped
 *             alike: pages.head_lengths[s * heads_kv + g]. len_q of s = q_lengths[s] clamped
 *             likewise to the rows that it owns; rows past it are padding: neither read nor
 *             written, in q, out and lse.
 * Heads       Where kv heads have pages or lengths of their own, the query heads of each get what a
 *             call with that table and these lengths gives them, in positions too. A bad page id
 *             hides keys of its own head only.
 * Positions   Row i stands at P(i) = p + i and key j at K(j) = positions.kv[s] + j * kv_stride. p
 *             is positions.q[s] if given; else with TOP_LEFT 0; else K(len_kv - 1) + 1 - len_q.
 * Selected    With positions.selected the keys are a selection from a cache, in any order, that
 *             the page table lists: pages of one key select tokens, pages.head_stride selects for
 *             each kv head, and a sequence for each row selects for each row. Key j is the j-th of
 *             the selection, for mask and bias too; one that is listed twice counts twice. No key
 *             has a position. So windows, prefix_lengths, spans, the tree, ALiBi, distances,
 *             kv_first and all else in positions are absent. causal hides nothing, and needs
 *             q.shape[1] <= 1, or with q_offsets as many rows as sequences.
 * Visible     Row i sees key j if all of these hold:
 *             - kv_first[s] <= j < len_kv, and the page ids of j, k's and v's, lie in the cache;
 *             - K(j) < prefix_lengths[s], or all of: K(j) <= P(i) if causal, K(j) >= P(i) -
 *               window_left.count and K(j) <= P(i) + window_right.count if limited; or spans[i][0]
 *               <= K(j) < spans[i][1], and with FOVEA_SPAN_WITHIN the window's two;
 *             - mask[s,i,h,j] != 0, the tree's bit is set, bias[s,i,h,j] is not -inf, nor is the
 *               distance's entry. A bias of -inf hides whatever bias_scale[h] is.
 * Mask, bias  Extents 0 and 2 equal sequences and heads_q; 1 and 3 reach at least the number of
 *             rows and keys (which the device checks where only it knows them); any extent may be
 *             1 and then broadcasts. stride[3] is 0 or 1. A padding mask [batch, len_kv] is the
 *             view {batch, 1, 1, len_kv} of it. To hide a key use the mask, or a bias of -inf: the
 *             least finite f16, -65504, only makes its weight small, and a row that sees nothing
 *             else gets logits rounded to 1/256.
 * Empty row   A row that sees no key, or only logits of -inf: out = 0 and lse = -inf; with a sink
 *             out = 0 and lse = the sink.
 * Hostile     A key that no query row of its sequence sees never changes a bit, whatever lies
 * memory      there. An infinity or NaN in a key or value that some row sees may make any row of
 *             that sequence and kv head non-finite. Bad lengths, offsets and ids never lead
 *             outside the tensors; they set bits in errors.
 * Numerics    Logits and softmax in f32 (double by the reference); probabilities may be rounded to
 *             q's type if that is 16-bit; one rounding to out's type, nearest even; e4m3 saturates.
 *             Logits of +inf give NaN. lse is the natural logarithm.
 * Sums        Over keys: in f32 within short blocks, each from zero; blocks are joined so that the
 *             error does not grow with the number of keys, be they 10^6.
 * Range       Every finite logit is right, however large. Two sums must stay below 2^127, or out
 *             may be wrong, infinite or NaN: sum_d |q k|, before the scale, and
 *             sum_j exp(t[j] - max t) |v[j]|. With f16 both always do. On a GPU sum_d |q data| must
 *             as well, where k has scales.
 * Overlap     The bytes spanned by out, by lse and by the workspace meet each other's nowhere, nor
 *             any input's, nor any array's. out and lse must not meet themselves: in the order of
 *             strides, each reaches past all that the smaller ones span.
 * Workspace   fovea_attention_workspace() bytes, aligned to 256, with any contents; one per
 *             running call.
 * Stream      Work is queued on `stream`: no wait, no allocation, no copy to the host, safe in
 *             graph capture. On the CPU the call returns when the work is done.
 * Threads     See fovea_create.
 * Returns     FOVEA_OK, also when there is nothing to do because an extent is 0. Otherwise:
 *   FOVEA_BAD_ARGUMENT   a rule above is broken; the detail names the field
 *   FOVEA_UNSUPPORTED    no kernel of this device covers it; see fovea_attention_support
 *   FOVEA_NOT_PREPARED, FOVEA_DRIVER_ERROR, FOVEA_PARTIAL   CUDA only */
FOVEA_API fovea_status fovea_attention(fovea_handle *handle, const fovea_attention_args *args,
                                       fovea_stream stream);

typedef struct fovea_support {
  size_t struct_size;
  uint32_t supported; /* 1: the call would run */
  uint32_t reserved;
  char kernel[96];  /* which kernel; "" if none */
  char reason[416]; /* why this one, or why none, in words */
} fovea_support;

/* Says whether a call is supported, by which kernel, and why. Looks at no address: pointers only
 * say what is present (any value but NULL will do), and the workspace need not be there. Set
 * support->struct_size first.
 *
 * Returns     FOVEA_OK: *support is filled in, supported or not.
 *   FOVEA_BAD_ARGUMENT   the args break a rule of the call, or support->struct_size is that of no
 *                        release */
FOVEA_API fovea_status fovea_attention_support(fovea_handle *handle,
                                               const fovea_attention_args *args,
                                               fovea_support *support);

/* Writes the plan of a call as text: kernel, grid or tasks, tiles, workspace, reasons. At most
 * capacity bytes with the final NUL; a longer text is cut. Reads what fovea_attention_support
 * reads.
 *
 * Returns     FOVEA_OK
 *   FOVEA_BAD_ARGUMENT   the args break a rule of fovea_attention, or capacity is 0
 *   FOVEA_UNSUPPORTED    no kernel of this device covers the call */
FOVEA_API fovea_status fovea_attention_explain(fovea_handle *handle,
                                               const fovea_attention_args *args, char *text,
                                               size_t capacity);

/* Bounds on calls. All but the dtypes and dims must be given. */
typedef struct fovea_limits {
  size_t struct_size;
  uint32_t q_dtype, k_dtype, v_dtype, out_dtype; /* 0: any */
  int32_t dim, dim_v;                            /* at most; 0: the header's largest */
  int32_t heads_q, heads_kv;                     /* at most, >= 1 */
  int64_t sequences;                             /* at most, >= 1 */
  int64_t total_q;  /* query rows of all sequences, at most, >= 1; packed: the extent of q */
  int64_t len_kv;   /* capacity of one sequence in keys, at most, >= 1; with a CSR page table, which
                     * any sequence may own alone: all its ids times page_len */
  int32_t sm_count; /* as in the calls; 0: all */
  uint32_t reserved[3];
} fovea_limits;

/* The workspace that suffices for every fovea_attention call on this handle within the limits.
 * A closed form that never falls when a limit rises. On the CPU it has room for as many threads as
 * total_q, sequences and the heads can keep busy.
 *
 * Returns     FOVEA_OK and *bytes (0 is possible)
 *   FOVEA_BAD_ARGUMENT   a limit is out of range */
FOVEA_API fovea_status fovea_attention_workspace(fovea_handle *handle, const fovea_limits *limits,
                                                 size_t *bytes);

/* The workspace that suffices for this very call: what fovea_attention asks for, often less than
 * the bound of its limits. Reads what fovea_attention_support reads.
 *
 * Returns     FOVEA_OK and *bytes (0 is possible, and what a call without rows needs)
 *   FOVEA_BAD_ARGUMENT   the args break a rule of fovea_attention
 *   FOVEA_UNSUPPORTED    no kernel of this device covers the call */
FOVEA_API fovea_status fovea_attention_workspace_for(fovea_handle *handle,
                                                     const fovea_attention_args *args,
                                                     size_t *bytes);

/* Loads every kernel that calls within the limits can choose, so that no later call loads one. CPU
 * handles have nothing to load.
 *
 * Returns     FOVEA_OK
 *   FOVEA_BAD_ARGUMENT   a limit is out of range
 *   FOVEA_OUT_OF_MEMORY, FOVEA_DRIVER_ERROR   CUDA only */
FOVEA_API fovea_status fovea_prepare(fovea_handle *handle, const fovea_limits *limits);

/* ---- Weights ------------------------------------------------------------------------------- */

/* What `weights` receives. The logits are the t[j] of the introduction, after its lines in turn. */
typedef enum fovea_weights_kind {
  FOVEA_WEIGHTS_PROBABILITIES = 0, /* w[j]; 0 where j is not visible */
  FOVEA_WEIGHTS_SCALED = 1,        /* the scaled score, of hidden keys too */
  FOVEA_WEIGHTS_SOFTCAPPED = 2,    /* after softcap, of hidden keys too */
  FOVEA_WEIGHTS_LOGITS = 3         /* the last t[j]; -inf where j is not visible */
} fovea_weights_kind;

typedef struct fovea_weights_args {
  size_t struct_size;
  const fovea_attention_args *attention; /* v, out, lse and the workspace are not used */
  fovea_tensor weights;
  const int32_t *sequences; /* [sequences]; NULL: 0, 1, 2, ... */
  const int32_t *rows;      /* [rows]; NULL: 0, 1, 2, ... */
  const int32_t *heads;     /* [heads]; NULL: 0, 1, 2, ... */
  uint32_t kind;            /* fovea_weights_kind */
  uint32_t last_rows;       /* 1: number n is row len_q - rows + n, and `rows` is NULL */
  int64_t row_count;        /* 0: as many as weights or statistics have, else each row once */
  fovea_tensor mass;
  uint32_t mass_by_kv_head; /* 1: mass adds up the heads of each group */
  uint32_t mass_accumulate; /* 1: adds to what mass holds */
  fovea_tensor statistics;
  int32_t *largest_keys; /* [sequences, rows, heads]; NULL: not wanted, or without statistics */
} fovea_weights_args;

/* Writes the attention weights w[j] of chosen sequences, query rows and query heads, or their
 * logits; the weights' sums over rows; what there is to say of each row.
 *
 *   args        type           shape                             notes
 *   weights     f32 f16 bf16   [sequences, rows, heads, keys]    may be absent
 *   mass        f32            [sequences, 1, heads, keys]       may be absent
 *   statistics  f32            [sequences, rows, heads, 4]       may be absent
 *   sequences, rows, heads     i32 arrays, read on the device; a number out of range is an empty
 *                              row
 *
 *   One output at least is asked for. Outputs have stride[3] = 1, and overlap neither each other
 *   nor an input. v, out and lse of `attention` may be absent.
 *
 * Rows        `rows` counts the chosen rows: extent 1 of weights and of statistics. row_count says
 *             it where mass is alone; 0 there: every row of each sequence, and `rows` is NULL.
 *             With last_rows the rows are each sequence's last ones; where it has fewer, the
 *             first numbers are out of range.
 * Keys        Outputs have elements j < keys, whatever len_kv is. Keys outside [kv_first, len_kv)
 *             or on a bad page of k have weights of 0 and logits of -inf in every kind. With
 *             SCALED and SOFTCAPPED the row's masks are not looked at, so any other key and its
 *             page id may be used. With a sink a row sums to less than 1.
 * Mass        mass[s, 0, h, j] = sum over rows of w[j]. With mass_by_kv_head its heads are those
 *             of k, heads is NULL, and each sums its group's query heads, of which weights and
 *             statistics have all. A row chosen twice counts twice.
 * Statistics  [0] the entropy -sum_j w[j] log w[j] in nats, of the keys alone: a sink has no term.
 *             [1] the largest weight.  [2] the weight of key kv_first (0 without it).  [3] lse.
 *             largest_keys: which key's logit is largest, the lowest j of equal ones.
 * Empty row   Weights of 0, logits of -inf, nothing added to mass; statistics 0, 0, 0 and lse; the
 *             largest key is -1. lse is as in fovea_attention, -inf if a number is out of range.
 * Hostile     As fovea_attention. A key that no chosen row sees has a mass of 0, whatever other
 * memory      keys hold.
 * Numerics    As fovea_attention; one rounding to the type of weights. The order of mass's sums
 *             follows from the sequence and the selection: neither threads nor the rest of the
 *             batch change a bit. Beyond the errors of its weights a sum over n rows is off by
 *             (9 + n / 256) 2^-24 of itself at most, and n counts each head that it adds up.
 * Memory      No workspace: mass and statistics take no memory beside themselves.
 * Stream      As fovea_attention.
 * Returns     FOVEA_OK, also when there is nothing to do. Otherwise:
 *   FOVEA_BAD_ARGUMENT   a rule above is broken; the detail names the field
 *   FOVEA_UNSUPPORTED    no kernel of this device covers it; see fovea_attention_weights_support
 *   FOVEA_NOT_PREPARED, FOVEA_DRIVER_ERROR, FOVEA_PARTIAL   CUDA only */
FOVEA_API fovea_status fovea_attention_weights(fovea_handle *handle, const fovea_weights_args *args,
                                               fovea_stream stream);

/* As fovea_attention_support, for fovea_attention_weights. Returns the same statuses. */
FOVEA_API fovea_status fovea_attention_weights_support(fovea_handle *handle,
                                                       const fovea_weights_args *args,
                                                       fovea_support *support);

/* ---- Merge --------------------------------------------------------------------------------- */

typedef struct fovea_merge_args {
  size_t struct_size;
  int32_t count;            /* how many partial results, >= 2 */
  uint32_t reserved;        /* 0 */
  const fovea_tensor *outs; /* [count], in host memory */
  const fovea_tensor *lses; /* [count], in host memory */
  fovea_tensor out;
  fovea_tensor lse; /* may be absent */
  char *detail;
  size_t detail_bytes;
} fovea_merge_args;

/* Merges attention over disjoint sets of keys, from each part's out and lse.
 *
 *   m   = max_n lse_n            z = sum_n exp(lse_n - m)       both in the order of n
 *   out = (sum_n exp(lse_n - m) * out_n) / z                   lse = m + log(z)
 *
 *   args         type           shape                           notes
 *   outs, out    f32 f16 bf16   [batch, len_q, heads_q, dim_v]   one shape; each its own dtype
 *   lses, lse    f32            [batch, len_q, heads_q, 1]
 *
 * In place    out may be exactly one of outs and lse exactly one of lses (same data, strides and
 *             dtype); otherwise outputs overlap nothing.
 * Empty row   A part with lse = -inf adds nothing, whatever its out holds. If all are: 0, -inf.
 * Numerics    exp in f32, both sums, quotient and logarithm in double or as exact, results rounded
 *             to f32 and then to their type. The order of parts alone decides on the bits. A NaN or
 *             +inf lse gives NaN.
 * Sinks       Give the sink to one part only: lse includes it.
 * Stream      As fovea_attention; needs no workspace.
 * Returns     FOVEA_OK, also when there is nothing to do. Otherwise:
 *   FOVEA_BAD_ARGUMENT   a rule above is broken; the detail names the field
 *   FOVEA_UNSUPPORTED    no kernel of this device covers it; see fovea_merge_support
 *   FOVEA_NOT_PREPARED, FOVEA_DRIVER_ERROR, FOVEA_PARTIAL   CUDA only */
FOVEA_API fovea_status fovea_merge(fovea_handle *handle, const fovea_merge_args *args,
                                   fovea_stream stream);

/* As fovea_attention_support, for fovea_merge. outs and lses are read: they are in host memory.
 * Returns the same statuses. */
FOVEA_API fovea_status fovea_merge_support(fovea_handle *handle, const fovea_merge_args *args,
                                           fovea_support *support);

/* ---- Append -------------------------------------------------------------------------------- */

typedef enum fovea_rope_style {
  FOVEA_ROPE_HALF_SPLIT = 0, /* pairs (i, i + rotary_dim/2): Llama, GPT-NeoX */
  FOVEA_ROPE_INTERLEAVED = 1 /* pairs (2i, 2i + 1): GPT-J */
} fovea_rope_style;

/* RoPE of new keys and queries: a room. */
typedef struct fovea_rope {
  const float *cos;         /* [rows, rotary_dim / 2]; NULL: no RoPE */
  const float *sin;         /* as cos */
  int64_t rows;             /* positions that the tables hold: 0 to rows - 1 */
  int64_t stride;           /* elements from one position's row to the next, of both tables */
  const int32_t *positions; /* [tokens]; NULL: kv_lengths[s] + t */
  int32_t rotary_dim;       /* even, <= dim; the elements past it are not rotated */
  uint32_t style;           /* fovea_rope_style */
  uint64_t reserved[2];
} fovea_rope;

typedef enum fovea_norm_scope {
  FOVEA_NORM_HEAD = 0, /* each head by itself: Qwen3, Gemma */
  FOVEA_NORM_TOKEN = 1 /* all heads of a token together: OLMo2 */
} fovea_norm_scope;

/* RMS norm of new queries, keys or values: a room. */
typedef struct fovea_norm {
  const float *gain;    /* [heads, dim]; NULL: no norm, and all of the room is 0 */
  int64_t stride;       /* elements from one head's gains to the next; 0: shared by all heads */
  float eps;            /* above 0 */
  uint32_t unit_offset; /* 1: factors are 1 + gain, as Gemma stores them; 0: gain */
  uint32_t scope;       /* fovea_norm_scope */
  uint32_t reserved[5];
} fovea_norm;

typedef struct fovea_kv_append_args {
  size_t struct_size;
  uint32_t flags; /* FOVEA_ALLOW_... */
  uint32_t reserved;
  fovea_tensor k_new, v_new; /* each pair may be absent: of k, of v, of q */
  fovea_tensor k_cache, v_cache;
  fovea_tensor k_scale, v_scale; /* of the caches */

  fovea_sequences sequences;
  const int64_t *slots; /* [tokens]; instead of kv_lengths and pages */
  fovea_rope rope;

  uint32_t *errors; /* [sequences] */
  char *detail;
  size_t detail_bytes;

  fovea_tensor q, q_out; /* the queries of the new tokens, and where they go: no cache */
  fovea_tensor q_scale;  /* of q_out */
  fovea_norm q_norm, k_norm, v_norm;
} fovea_kv_append_args;

/* Writes new tokens into a key/value cache, and prepares their queries: norms, RoPE, conversion,
 * scatter.
 *
 *   args      type                       shape                                     notes
 *   k_new     f32 f16 bf16               [batch, len_new, heads_kv, dim]
 *   v_new     f32 f16 bf16               [batch, len_new, heads_kv, dim_v]
 *   k_cache   f32 f16 bf16 e4m3 e5m2 i8  [batch or pages, len or page_len, heads_kv, dim]
 *             or q8_0, q4_0
 *   v_cache   as k_cache                 [as k_cache, as k_cache, heads_kv, dim_v]
 *   q         f32 f16 bf16               [batch, len_new, heads_q, dim]            any heads_q
 *   q_out     f32 f16 bf16 e4m3          [batch, len_new, heads_q, dim]
 *   x_scale   f32 f16                    as in fovea_attention, of the cache or q_out
 *
 * Where       Token t of sequence s goes to index n = kv_lengths[s] + t of its sequence: row s of
 *             the cache, or slot n % page_len of page id(s, n / page_len). With q_lengths those
 *             of t >= q_lengths[s] are padding, and go nowhere. Or, with slots, to
 *             flat slot f = slots[token]: [f / shape[1], f % shape[1]] of the cache; negative:
 *             skip. token counts rows of k_new: s * len_new + t, or the packed row.
 * Queries     q_out is what fovea_attention takes as q. It depends on no place in the cache: every
 *             row of it that a sequence uses is written. The rows of two kinds of token are zeros:
 *             those with a negative slot, and with RoPE those whose position is outside the table
 *             or unknown, since kv_lengths[s] is negative. Without k_new and v_new there are no
 *             slots and no pages, and kv_lengths are there at least for RoPE without positions.
 * Norm        With x_norm.gain, x must be there, and element d of its head h becomes
 *             (x[h,d] * r) * g[h,d], where r = 1 / sqrt(sum / count + eps) and g is gain or
 *             1 + gain. sum is over the squares of the head, count is dim. With FOVEA_NORM_TOKEN
 *             sum is those of heads 0, 1, ... added in this order, count is heads * dim.
 *             The order in a head: part j of 32, from 0, adds the squares of elements j, j + 32,
 *             ...; then, for n = 16, 8, 4, 2, 1, part j adds part j + n for all j < n; part 0 is
 *             the sum.
 * RoPE        With rope.cos, sin and k_new or q must be there, and with slots positions too;
 *             without it rope.sin, rows, positions and rotary_dim are 0. For pair
 *             (x, y) of a key or query and the table's (c, s) at the token's position:
 *             x' = x*c - y*s       y' = y*c + x*s
 * Stored      The value, converted to f32 exactly; normed; rotated; if there is a scale, divided
 *             by it; rounded to the type of the cache or q_out, nearest even. f16 and bf16 overflow
 *             to infinity, e4m3, e5m2 and i8 saturate (i8 to [-128, 127]). NaN becomes 0x7fffffff
 *             in f32, 0x7fff in f16 and bf16, 0x7f in e4m3 and e5m2, 0 in i8. -0 stays. A value
 *             that keeps its type and is not normed, rotated or scaled is copied bit by bit.
 * Blocks      Of 32 such values x, as ggml's reference quantisers. q8_0: d = max |x| / 127 and
 *             i8 = x * (1/d), rounded to nearest, halves away from zero. q4_0: d = m / -8, where
 *             m is the first x of the largest magnitude, and the half byte is x * (1/d) + 8.5,
 *             cut to an integer, at most 15. If d is 0, so is 1/d. d is stored rounded to f16. No
 *             NaN is the largest. What exceeds -127 to 127 or 0 to 15 saturates; a NaN becomes 0
 *             or 8, so that its value is 0, or NaN in a block with an infinity.
 * Exact       Every device stores the same bits. All arithmetic is in f32, every operation rounded
 *             by itself: no fused multiply-add, no estimate of a root or quotient.
 * Bad data    Negative lengths, pages or slots outside the cache, positions outside the table:
 *             the token is skipped, in k and v, and errors[s] gets a bit. Two tokens in one
 *             place: one of them wins.
 * Overlap     A cache overlaps no input, not the other cache and not q_out, unless they interleave
 *             by strides. q_out likewise; or it is q (same data, strides and dtype).
 * Stream      As fovea_attention; needs no workspace.
 * Returns     FOVEA_OK, also when there is nothing to do. Otherwise:
 *   FOVEA_BAD_ARGUMENT   a rule above is broken; the detail names the field
 *   FOVEA_UNSUPPORTED    no kernel of this device covers it; see fovea_kv_append_support
 *   FOVEA_NOT_PREPARED, FOVEA_DRIVER_ERROR, FOVEA_PARTIAL   CUDA only */
FOVEA_API fovea_status fovea_kv_append(fovea_handle *handle, const fovea_kv_append_args *args,
                                       fovea_stream stream);

/* As fovea_attention_support, for fovea_kv_append. Returns the same statuses. */
FOVEA_API fovea_status fovea_kv_append_support(fovea_handle *handle,
                                               const fovea_kv_append_args *args,
                                               fovea_support *support);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_H */

/* attention_input.c - see attention_input.h.
 *
 * Nothing in a file is trusted. Ranks, shapes and metadata are checked here, with messages that
 * name file and tensor; the library's own checks come after. */
#define _GNU_SOURCE /* aligned_alloc beside POSIX */
#include "cli/input/attention_input.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/error.h"
#include "cli/input/settings.h"
#include "csrc/check/check.h"
#include "csrc/check/rule.h"
#include "csrc/host/element.h"

enum { Q, K, V, OUT, LSE };
static const char *const tensor_names[] = {"q", "k", "v"};

static int fail(const fv_input *input, const char *text) {
  return fv_cli_fail(FV_EXIT_INPUT, "%s: %s", input->label, text);
}

/* The file that holds, or should hold, one of q, k and v. */
static const char *path_of(const fv_input *input, int which) {
  return input->file_count > 1 ? input->paths[which] : input->label;
}

/* ---- Tensors ---- */

uint32_t fv_input_dtype(fv_file_dtype dtype) {
  switch (dtype) {
    case FV_FILE_DTYPE_F32:
      return FOVEA_F32;
    case FV_FILE_DTYPE_F16:
      return FOVEA_F16;
    case FV_FILE_DTYPE_BF16:
      return FOVEA_BF16;
    default:
      return FOVEA_NONE;
  }
}

typedef fv_file_status open_function(const char *path, const char *name, fv_tensor_file **file,
                                     fv_file_error *error);

static int open_files(fv_input *input, const fv_input_options *options) {
  const char *paths[] = {options->q, options->k, options->v};
  open_function *open_any = input->shapes_only ? fv_tensor_file_open_header : fv_tensor_file_open;
  open_function *open_npy = input->shapes_only ? fv_npy_open_header : fv_npy_open;
  fv_file_error error;
  input->label = options->file ? options->file : options->q;
  if (options->file) {
    input->paths[0] = options->file;
    input->file_count = 1;
    if (open_any(options->file, "q", &input->files[0], &error) == FV_FILE_OK) {
      return FV_EXIT_OK;
    }
    return fv_cli_fail_file(&error);
  }
  for (int i = 0; i < 3; ++i) {
    if (open_npy(paths[i], tensor_names[i], &input->files[i], &error) != FV_FILE_OK) {
      return fv_cli_fail_file(&error);
    }
    input->paths[i] = paths[i];
    input->file_count = i + 1;
  }
  return FV_EXIT_OK;
}

static const fv_file_tensor *find(const fv_input *input, const char *name) {
  for (int i = 0; i < input->file_count; ++i) {
    const fv_file_tensor *tensor = fv_tensor_file_find(input->files[i], name);
    if (tensor) return tensor;
  }
  return NULL;
}

/* A view in the order [batch, seq, head, dim] of contiguous memory in the file's layout. */
static fovea_tensor view_of(const fv_input *input, void *data, uint32_t dtype,
                            const int64_t shape[4]) {
  if (!input->heads_first) {
    return fovea_contiguous(data, (fovea_dtype)dtype, shape[0], shape[1], shape[2], shape[3]);
  }
  fovea_tensor view =
      fovea_contiguous(data, (fovea_dtype)dtype, shape[0], shape[2], shape[1], shape[3]);
  view.stride[0] = shape[1] * shape[2] * shape[3];
  view.stride[1] = shape[3];
  view.stride[2] = shape[2] * shape[3];
  return view;
}

static int find_qkv(const fv_input *input, int which, const fv_file_tensor **tensor) {
  const char *path = path_of(input, which), *name = tensor_names[which];
  *tensor = find(input, name);
  if (!*tensor) {
    return fv_cli_fail(FV_EXIT_INPUT,
                       "%s: tensor %s is missing; a .safetensors file needs q, k and v, .npy files "
                       "are given by --q, --k and --v",
                       path, name);
  }
  if (!fv_input_dtype((*tensor)->dtype)) {
    return fv_cli_fail(FV_EXIT_INPUT, "%s: tensor %s must be F32, F16 or BF16; convert it", path,
                       name);
  }
  if ((*tensor)->rank != 4) {
    return fv_cli_fail(
        FV_EXIT_INPUT, "%s: tensor %s has rank %u, must be 4: %s; reshape it", path, name,
        (unsigned)(*tensor)->rank,
        input->heads_first ? "[batch, heads, seq, dim]" : "[batch, seq, heads, dim]");
  }
  for (int d = 0; d < 4; ++d) {
    if ((*tensor)->shape[d] <= INT32_MAX) continue;
    return fv_cli_fail(FV_EXIT_INPUT, "%s: tensor %s has an extent of %lld, must be below 2^31",
                       path, name, (long long)(*tensor)->shape[d]);
  }
  return FV_EXIT_OK;
}

/* ---- Shapes ---- */

static const fovea_tensor *view_at(const fv_input *input, int which) {
  const fovea_tensor *views[] = {&input->args.q, &input->args.k, &input->args.v};
  return views[which];
}

/* Whether k, v and q would fit each other if heads and sequence were swapped. */
static bool fits_other_layout(const fv_input *input) {
  const int64_t *q = input->args.q.shape, *k = input->args.k.shape, *v = input->args.v.shape;
  bool heads_fit = k[1] ? q[1] % k[1] == 0 : q[1] == 0;
  return k[0] == q[0] && v[0] == k[0] && v[1] == k[1] && v[2] == k[2] && k[3] == q[3] && heads_fit;
}

/* What to do about extents that do not fit; a flag may not contradict the metadata. */
static const char *layout_hint(const fv_input *input) {
  bool stored = fv_tensor_file_metadata(input->files[0], "layout") != NULL;
  if (!fits_other_layout(input)) {
    return input->heads_first ? "they were read as [batch, heads, seq, dim]; check the tensors"
                              : "they were read as [batch, seq, heads, dim]; check the tensors";
  }
  if (stored) return "the layout in the file's metadata may be wrong: correct it there";
  return input->heads_first ? "if they are [batch, seq, heads, dim], try --layout bshd"
                            : "if they are [batch, heads, seq, dim], try --layout bhsd";
}

/* The library names extents by its own order of dimensions, which may differ from the file's. So
 * mistakes in files are reported here, in words. */
static int check_equal_extents(const fv_input *input) {
  static const struct {
    int tensor, other, axis;
    const char *what;
  } rules[] = {{K, Q, 0, "batch"},
               {V, K, 0, "batch"},
               {V, K, 1, "len_kv"},
               {V, K, 2, "heads"},
               {K, Q, 3, "dim"}};
  for (size_t i = 0; i < sizeof rules / sizeof rules[0]; ++i) {
    long long mine = view_at(input, rules[i].tensor)->shape[rules[i].axis];
    long long other = view_at(input, rules[i].other)->shape[rules[i].axis];
    if (mine == other) continue;
    return fv_cli_fail(FV_EXIT_INPUT, "%s: tensor %s has %s %lld, must have tensor %s's, %lld; %s",
                       path_of(input, rules[i].tensor), tensor_names[rules[i].tensor],
                       rules[i].what, mine, tensor_names[rules[i].other], other,
                       layout_hint(input));
  }
  return FV_EXIT_OK;
}

static int check_extents(const fv_input *input) {
  static const int last[] = {FV_DIM_MAX, FV_DIM_MAX, FV_DIM_V_MAX};
  int code = check_equal_extents(input);
  if (code) return code;
  for (int i = Q; i <= V; ++i) {
    long long dim = view_at(input, i)->shape[3];
    if (dim >= 1 && dim <= last[i]) continue;
    return fv_cli_fail(FV_EXIT_INPUT, "%s: tensor %s has dim %lld, must be from 1 to %d",
                       path_of(input, i), tensor_names[i], dim, last[i]);
  }
  long long heads_q = input->args.q.shape[2], heads_kv = input->args.k.shape[2];
  if (heads_kv ? heads_q % heads_kv == 0 : heads_q == 0) return FV_EXIT_OK;
  return fv_cli_fail(FV_EXIT_INPUT,
                     "%s: tensor q has %lld heads, must be a multiple of tensor k's %lld; %s",
                     path_of(input, Q), heads_q, heads_kv, layout_hint(input));
}

/* The library reports what else is wrong; the file is at fault. */
static int check_problem(const fv_input *input) {
  fv_problem problem;
  fovea_status status = fv_check_attention_shape(&input->args, &problem);
  return status == FOVEA_OK ? FV_EXIT_OK : fv_cli_fail_call(input->label, status);
}

/* ---- Conversion ---- */

/* Where only shapes are wanted: an address that is not NULL, aligned like a tensor's, never read.
 */
static void *no_data(void) {
  static _Alignas(256) unsigned char nowhere[256];
  return nowhere;
}

static void *allocate(int64_t elements, int64_t element_bytes) {
  size_t bytes = ((size_t)elements * (size_t)element_bytes + 255) / 256 * 256;
  return aligned_alloc(256, bytes ? bytes : 256);
}

/* Rounds a tensor to the dtype of the computation, unless it already has that dtype. */
static int convert(fv_input *input, int which, const fv_file_tensor *tensor, fovea_tensor *view) {
  uint32_t from = fv_input_dtype(tensor->dtype);
  void *data = (void *)(uintptr_t)tensor->data; /* never written: the view of an input */
  if (input->shapes_only) {
    data = no_data();
  } else if (from != input->dtype) {
    int64_t count = (int64_t)tensor->bytes / fv_dtype_size(from, 1);
    data = input->buffers[which] = allocate(count, fv_dtype_size(input->dtype, 1));
    if (!data) return fv_cli_out_of_memory();
    for (int64_t i = 0; i < count; ++i) {
      fv_store_f32(input->dtype, data, i, fv_load(from, tensor->data, i));
    }
  }
  *view = view_of(input, data, input->dtype, tensor->shape);
  return FV_EXIT_OK;
}

static int read_qkv(fv_input *input, const fv_input_options *options) {
  const fv_file_tensor *tensors[3];
  for (int i = 0; i < 3; ++i) {
    int code = find_qkv(input, i, &tensors[i]);
    if (code) return code;
  }
  bool same = tensors[Q]->dtype == tensors[K]->dtype && tensors[Q]->dtype == tensors[V]->dtype;
  input->file_dtype = same ? fv_input_dtype(tensors[Q]->dtype) : FOVEA_F32;
  input->dtype = options->dtype ? options->dtype : input->file_dtype;
  fovea_tensor *views[] = {&input->args.q, &input->args.k, &input->args.v};
  for (int i = 0; i < 3; ++i) {
    int code = convert(input, i, tensors[i], views[i]);
    if (code) return code;
  }
  return FV_EXIT_OK;
}

static int allocate_outputs(fv_input *input) {
  const fovea_tensor *q = &input->args.q;
  int64_t dim_v = input->args.v.shape[3];
  __int128 rows = (__int128)q->shape[0] * q->shape[1] * q->shape[2];
  if (rows * (dim_v + 1) > INT64_MAX / 8) return fv_cli_out_of_memory();
  input->buffers[OUT] = allocate((int64_t)rows * dim_v, fv_dtype_size(input->dtype, 1));
  input->buffers[LSE] = allocate((int64_t)rows, 4);
  return input->buffers[OUT] && input->buffers[LSE] ? FV_EXIT_OK : fv_cli_out_of_memory();
}

/* out in the layout of the file, and lse [batch, heads, seq]. */
static int make_outputs(fv_input *input) {
  const fovea_tensor *q = &input->args.q;
  int64_t dim_v = input->args.v.shape[3];
  int code = input->shapes_only ? FV_EXIT_OK : allocate_outputs(input);
  if (code) return code;
  void *out = input->shapes_only ? no_data() : input->buffers[OUT];
  void *lse = input->shapes_only ? no_data() : input->buffers[LSE];
  int64_t shape[4] = {q->shape[0], q->shape[1], q->shape[2], dim_v};
  if (input->heads_first) {
    shape[1] = q->shape[2];
    shape[2] = q->shape[1];
  }
  input->args.out = view_of(input, out, input->dtype, shape);
  input->args.lse = fovea_contiguous(lse, FOVEA_F32, q->shape[0], q->shape[1], q->shape[2], 1);
  input->args.lse.stride[0] = q->shape[1] * q->shape[2];
  input->args.lse.stride[1] = 1;
  input->args.lse.stride[2] = q->shape[1];
  return FV_EXIT_OK;
}

static bool is_nonzero(const fv_file_tensor *tensor, int64_t index, int64_t bytes) {
  const unsigned char *element = (const unsigned char *)tensor->data + index * bytes;
  for (int64_t b = 0; b < bytes; ++b) {
    if (element[b]) return true;
  }
  return false;
}

static bool is_integer(fv_file_dtype dtype) {
  return dtype >= FV_FILE_DTYPE_I64 && dtype <= FV_FILE_DTYPE_BOOL;
}

static int read_mask(fv_input *input) {
  const fv_file_tensor *tensor = find(input, "attention_mask");
  int64_t batch = input->args.k.shape[0], keys = input->args.k.shape[1];
  if (!tensor) return FV_EXIT_OK;
  if (tensor->rank != 2 || tensor->shape[0] != batch || tensor->shape[1] != keys) {
    return fail(input, "tensor attention_mask must be [batch, len_kv] as k is");
  }
  if (!is_integer(tensor->dtype)) {
    return fail(input, "tensor attention_mask must hold integers or booleans, 0 = hidden");
  }
  if (input->shapes_only) {
    input->args.visibility.mask = fovea_contiguous(no_data(), FOVEA_U8, batch, 1, 1, keys);
    return FV_EXIT_OK;
  }
  int64_t count = batch * keys;
  input->mask = allocate(count, 1);
  if (!input->mask) return fv_cli_out_of_memory();
  int64_t bytes = count ? (int64_t)tensor->bytes / count : 1;
  for (int64_t i = 0; i < count; ++i) input->mask[i] = is_nonzero(tensor, i, bytes);
  input->args.visibility.mask = fovea_contiguous(input->mask, FOVEA_U8, batch, 1, 1, keys);
  return FV_EXIT_OK;
}

/* Optional results to compare with. */
static int read_expected(fv_input *input) {
  const fv_file_tensor *out = find(input, "out"), *lse = find(input, "lse");
  const fovea_tensor *mine = &input->args.out;
  if (out) {
    if (!fv_input_dtype(out->dtype) || out->rank != 4) {
      return fail(input, "tensor out must be F32, F16 or BF16 of rank 4");
    }
    input->expected_out =
        view_of(input, (void *)(uintptr_t)out->data, fv_input_dtype(out->dtype), out->shape);
    if (memcmp(input->expected_out.shape, mine->shape, sizeof mine->shape)) {
      return fail(input, "tensor out does not have the shape of q with v's dim");
    }
  }
  if (lse) {
    bool fits = lse->rank == 3 && lse->shape[0] == mine->shape[0] &&
                lse->shape[1] == mine->shape[2] && lse->shape[2] == mine->shape[1];
    if (lse->dtype != FV_FILE_DTYPE_F32 || !fits) {
      return fail(input, "tensor lse must be F32 [batch, heads, len_q]");
    }
    input->expected_lse = input->args.lse;
    input->expected_lse.data = (void *)(uintptr_t)lse->data;
  }
  return FV_EXIT_OK;
}

int fv_input_open(const fv_input_options *options, fv_input *input) {
  memset(input, 0, sizeof *input);
  input->args.struct_size = sizeof input->args;
  input->shapes_only = options->shapes_only;
  int code = open_files(input, options);
  if (!code) code = fv_input_read_settings(input, options);
  if (!code) code = read_qkv(input, options);
  if (!code) code = check_extents(input);
  if (!code) code = make_outputs(input);
  if (!code) code = read_mask(input);
  if (!code) code = read_expected(input);
  if (!code) code = check_problem(input);
  if (code) {
    fv_input_close(input);
    return code;
  }
  input->tokens = fv_tensor_file_metadata(input->files[0], "tokens");
  return FV_EXIT_OK;
}

void fv_input_close(fv_input *input) {
  for (int i = 0; i < 3; ++i) fv_tensor_file_close(input->files[i]);
  for (int i = 0; i < 5; ++i) free(input->buffers[i]);
  free(input->mask);
  memset(input, 0, sizeof *input);
}

int fv_input_device(const fv_input_options *options, fovea_handle **handle) {
  fovea_options wish = {.struct_size = sizeof wish,
                        .device = options->device,
                        .ordinal = options->ordinal,
                        .threads = options->threads};
  fovea_status status = fovea_create(&wish, handle);
  return status == FOVEA_OK ? FV_EXIT_OK : fv_cli_fail_open(status);
}

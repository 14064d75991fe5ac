/* fuzz_args.c - libFuzzer target: any bytes as the arguments of any call.
 *
 * The first byte chooses the call, the second a valid case of it. The others are XOR-ed over the
 * case's struct and the bytes behind it. So zeros are the valid case, and a fuzzer that flips bits
 * stays near it. The struct lies at the end of a block that has the size that it claims, so that
 * reading past it is an error. Pointers that the check must not follow become anything.
 *
 * A refusal must say something. What passes is measured a second time, in another way: every span
 * and stride of the copy, and the numbers of the problem. The copy must pass once more unchanged.
 * The functions that compute nothing are called on the host's devices, and must agree. */
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "csrc/check/check.h"
#include "csrc/check/fields.h"

__extension__ typedef __int128 wide;

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define DEMAND(condition)                                                       \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: demanded: %s\n", __FILE__, __LINE__, #condition); \
      abort();                                                                  \
    }                                                                           \
  } while (0)

enum { PARTS = 4, STRUCT_MAX = 4096 };

static void *at(int region) {
  return (void *)((uintptr_t)(region + 1) << 36);
}

static fovea_tensor view(int region, fovea_dtype dtype, int64_t a, int64_t b, int64_t c,
                         int64_t d) {
  return fovea_contiguous(at(region), dtype, a, b, c, d);
}

/* ---- Valid cases --------------------------------------------------------------------------- */

static fovea_attention_args dense_attention(void) {
  fovea_attention_args args = {.struct_size = sizeof args};
  args.q = view(0, FOVEA_E4M3, 2, 5, 4, 16);
  args.k = view(1, FOVEA_I8, 2, 7, 2, 16);
  args.v = view(2, FOVEA_E5M2, 2, 7, 2, 8);
  args.out = view(3, FOVEA_E4M3, 2, 5, 4, 8);
  args.lse = view(4, FOVEA_F32, 2, 5, 4, 1);
  args.q_scale = view(5, FOVEA_F32, 2, 1, 4, 2);
  args.k_scale = view(6, FOVEA_F16, 1, 7, 2, 4);
  args.v_scale = view(7, FOVEA_F16, 2, 7, 2, 1);
  args.out_scale = view(8, FOVEA_F32, 1, 1, 1, 1);
  args.visibility.mask = view(9, FOVEA_U8, 2, 1, 1, 7);
  args.logits.bias = view(10, FOVEA_F32, 1, 5, 4, 7);
  args.logits.alibi_slopes = (const float *)at(11);
  args.logits.sinks = (const float *)at(12);
  args.logits.bias_scale = (const float *)at(14);
  args.logits.distances = (fovea_distances){(const float *)at(15), 9, -4, 9, {0}};
  args.sequences.q_lengths = (const int32_t *)at(16);
  args.logits.additive = (fovea_additive){(const float *)at(17), 16, {0}};
  args.workspace = at(13);
  args.workspace_bytes = 512;
  return args;
}

static fovea_attention_args paged_attention(void) {
  fovea_attention_args args = {.struct_size = sizeof args};
  args.q = view(0, FOVEA_F32, 1, 11, 4, 16);
  args.k = view(1, FOVEA_F32, 9, 6, 2, 16);
  args.v = view(2, FOVEA_F32, 9, 6, 2, 8);
  args.out = view(3, FOVEA_F32, 1, 11, 4, 8);
  args.sequences.count = 3;
  args.sequences.q_offsets = (const int32_t *)at(4);
  args.sequences.kv_lengths = (const int32_t *)at(5);
  args.sequences.pages.ids = (const int32_t *)at(6);
  args.sequences.pages.row_stride = 5;
  args.sequences.pages.count = 4;
  args.visibility.tree.bits = (const uint32_t *)at(7);
  args.visibility.tree.words = 33;
  return args;
}

/* Keys that each kv head selects for each row. */
static fovea_attention_args selected_attention(void) {
  fovea_attention_args args = paged_attention();
  args.visibility.tree = (fovea_tree){0};
  args.visibility.causal = 1;
  args.sequences.count = 11;
  args.sequences.kv_lengths = NULL;
  args.sequences.pages.head_lengths = (const int32_t *)at(5);
  args.sequences.pages.head_stride = 11 * 5;
  args.positions.selected = 1;
  return args;
}

/* A dense, a paged or a selected case, or one without rows, which has nothing to compute. */
static fovea_attention_args attention_case(uint8_t choice) {
  fovea_attention_args args = choice & 2 ? paged_attention() : dense_attention();
  if (choice & 8) args = selected_attention();
  if (choice & 4) {
    args.q.shape[1] = args.out.shape[1] = args.lse.shape[1] = 0;
    args.q_scale.shape[1] = args.logits.bias.shape[1] = 1;
  }
  return args;
}

static fovea_kv_append_args append_case(int kind) {
  fovea_kv_append_args args = {.struct_size = sizeof args};
  args.k_new = view(0, FOVEA_F32, 2, 3, 4, 16);
  args.v_new = view(1, FOVEA_BF16, 2, 3, 4, 8);
  args.k_cache = view(2, FOVEA_E4M3, 2, 7, 4, 16);
  args.v_cache = view(3, FOVEA_I8, 2, 7, 4, 8);
  args.k_scale = view(4, FOVEA_F32, 1, 1, 4, 2);
  args.sequences.kv_lengths = (const int32_t *)at(5);
  args.rope.cos = (const float *)at(6);
  args.rope.sin = (const float *)at(7);
  args.rope.rows = 100;
  args.rope.stride = 8;
  args.rope.rotary_dim = 8;
  args.rope.positions = (const int32_t *)at(8);
  if (kind == 1) {
    args.sequences.kv_lengths = NULL;
    args.slots = (const int64_t *)at(9);
  } else if (kind == 2) {
    args.sequences.pages.ids = (const int32_t *)at(9);
    args.sequences.pages.count = args.sequences.pages.row_stride = 4;
  } else if (kind >= 3) {
    args.q = view(10, FOVEA_BF16, 2, 3, 8, 16);
    args.q_out = view(11, FOVEA_E4M3, 2, 3, 8, 16);
    args.q_scale = view(12, FOVEA_F16, 2, 1, 8, 4);
    args.q_norm = (fovea_norm){(const float *)at(13), 16, 1e-6f, 0, FOVEA_NORM_TOKEN, {0}};
    args.k_norm = (fovea_norm){(const float *)at(14), 0, 1e-6f, 1, FOVEA_NORM_HEAD, {0}};
  }
  if (kind == 4) {
    const fovea_tensor none = {0};
    args.k_new = args.v_new = args.k_cache = args.v_cache = args.k_scale = none;
    memset(&args.k_norm, 0, sizeof args.k_norm);
  } else if (kind == 5) {
    const fovea_tensor none = {0};
    args.k_new = view(0, FOVEA_F32, 2, 3, 4, 64);
    args.v_new = view(1, FOVEA_BF16, 2, 3, 4, 32);
    args.k_cache = view(2, FOVEA_Q8_0, 2, 7, 4, 64);
    args.v_cache = view(3, FOVEA_Q4_0, 2, 7, 4, 32);
    args.q = args.q_out = args.q_scale = args.k_scale = none;
    memset(&args.q_norm, 0, sizeof args.q_norm);
  }
  return args;
}

/* ---- What must hold of what passes --------------------------------------------------------- */

static int is_blocks(uint32_t dtype) {
  return dtype == FOVEA_Q8_0 || dtype == FOVEA_Q4_0;
}

/* Of an element, or of a block of 32. */
static int64_t bytes_of(uint32_t dtype) {
  if (is_blocks(dtype)) return dtype == FOVEA_Q8_0 ? 34 : 18;
  return dtype == FOVEA_F32 ? 4 : dtype == FOVEA_F16 || dtype == FOVEA_BF16 ? 2 : 1;
}

static int is_empty(const fovea_tensor *t) {
  return !t->shape[0] || !t->shape[1] || !t->shape[2] || !t->shape[3];
}

static wide span_of(const fovea_tensor *t) {
  wide end = 1;
  if (t->dtype == FOVEA_NONE || is_empty(t)) return 0;
  for (int i = 0; i < 4; ++i) end += (wide)(t->shape[i] - 1) * t->stride[i];
  if (is_blocks(t->dtype)) end /= 32;
  return end * bytes_of(t->dtype);
}

static void demand_sane(const fovea_tensor *t, int addresses) {
  if (t->dtype == FOVEA_NONE) return;
  DEMAND(t->dtype <= FOVEA_Q4_0);
  const int blocks = is_blocks(t->dtype);
  DEMAND(!blocks || t->shape[3] % 32 == 0);
  for (int i = 0; i < 4; ++i) {
    DEMAND(!blocks || i == 3 || t->stride[i] % 32 == 0);
    DEMAND(t->shape[i] >= 0 && t->shape[i] <= INT32_MAX && t->stride[i] >= 0);
    DEMAND(t->shape[i] > 1 || t->stride[i] == 0);
  }
  for (int i = 0; i < 5; ++i) DEMAND(t->reserved[i] == 0);
  DEMAND(span_of(t) <= INT64_MAX);
  if (!addresses) return;
  DEMAND(t->data != NULL || is_empty(t));
  DEMAND((uintptr_t)t->data % (uintptr_t)(blocks ? 2 : bytes_of(t->dtype)) == 0);
  DEMAND((wide)(uintptr_t)t->data + span_of(t) <= (wide)UINTPTR_MAX);
}

/* No two elements have one address: no stride lies within the span of the dimensions below it. */
static void demand_apart_from_itself(const fovea_tensor *t) {
  if (t->dtype == FOVEA_NONE || is_empty(t)) return;
  for (int i = 0; i < 4; ++i) {
    wide below = 0;
    if (t->shape[i] == 1) continue;
    DEMAND(t->stride[i] > 0);
    for (int j = 0; j < 4; ++j) {
      const int smaller = t->stride[j] < t->stride[i];
      if (smaller) below += (wide)(t->shape[j] - 1) * t->stride[j];
      DEMAND(j == i || t->shape[j] == 1 || t->stride[j] != t->stride[i]);
    }
    DEMAND(below < t->stride[i]);
  }
}

static void demand_spans_apart(const void *a, wide a_bytes, const void *b, wide b_bytes) {
  const wide a_begin = (wide)(uintptr_t)a, b_begin = (wide)(uintptr_t)b;
  DEMAND(!a_bytes || !b_bytes || a_begin + a_bytes <= b_begin || b_begin + b_bytes <= a_begin);
}

static void demand_problem(const fv_problem *problem, int has_v, int addresses) {
  const fovea_attention_args *args = &problem->args;
  fovea_attention_args copy = *args;
  for (int i = 0; i < fv_attention_fields.tensor_count; ++i)
    demand_sane(fv_tensor_at(&copy, &fv_attention_fields.tensors[i]), addresses);
  demand_apart_from_itself(&args->out);
  demand_apart_from_itself(&args->lse);
  DEMAND(is_empty(&args->q) || args->q.stride[3] == 1);
  DEMAND(is_empty(&args->k) || args->k.stride[3] == 1);
  DEMAND(problem->dim >= 1 && problem->dim <= 576);
  DEMAND(!has_v || (problem->dim_v >= 1 && problem->dim_v <= 512));
  DEMAND(!args->logits.distances.table || args->logits.distances.count >= 1);
  DEMAND(problem->dim == args->q.shape[3] && problem->dim == args->k.shape[3]);
  DEMAND(!has_v || (problem->dim_v == args->v.shape[3] && problem->dim_v == args->out.shape[3]));
  DEMAND(problem->heads_q == 0 || problem->group * problem->heads_kv == problem->heads_q);
  DEMAND(problem->group >= 1);
  DEMAND(problem->sequences >= 0 && problem->sequences <= INT32_MAX);
  DEMAND(problem->sequences == args->q.shape[0] || problem->q_packed);
  DEMAND(!problem->q_packed || args->q.shape[0] == 1);
  DEMAND(problem->paged || args->k.shape[0] == (problem->kv_packed ? 1 : problem->sequences));
  DEMAND(!problem->paged || (!args->sequences.kv_offsets && args->k.shape[1] > 0));
  const bool by_head = args->sequences.pages.head_lengths != NULL;
  DEMAND(!problem->paged || by_head == (args->sequences.kv_lengths == NULL));
  DEMAND(problem->paged || !problem->heads_differ);
  DEMAND(problem->heads_differ == (by_head || args->sequences.pages.head_stride > 0));
  DEMAND(!args->positions.selected || (problem->window_left == -1 && problem->window_right == -1));
  DEMAND(problem->kv_capacity >= 0 && problem->kv_capacity <= INT32_MAX);
  DEMAND(problem->scale > 0 && problem->scale <= FLT_MAX);
  DEMAND(args->logits.softcap >= 0 && args->logits.softcap <= FLT_MAX);
  DEMAND(problem->window_left >= -1 && problem->window_right >= -1);
  DEMAND(problem->kv_position_stride >= 1);
}

/* What the call writes lies apart from [begin, begin + bytes). */
static void demand_outputs_apart(const fovea_attention_args *args, const void *begin, wide bytes) {
  demand_spans_apart(args->out.data, span_of(&args->out), begin, bytes);
  demand_spans_apart(args->lse.data, span_of(&args->lse), begin, bytes);
  demand_spans_apart(args->workspace, (wide)args->workspace_bytes, begin, bytes);
}

static void demand_memory(const fv_problem *problem) {
  const fovea_attention_args *args = &problem->args;
  const fv_fields *fields = &fv_attention_fields;
  const wide lse = span_of(&args->lse), workspace = (wide)args->workspace_bytes;
  fovea_attention_args copy = *args;
  for (int i = 0; i < fields->tensor_count; ++i) {
    const fovea_tensor *input = fv_tensor_at(&copy, &fields->tensors[i]);
    if (!fields->tensors[i].rule.written) demand_outputs_apart(args, input->data, span_of(input));
  }
  for (int i = 0; i < fields->array_count; ++i) {
    const void *array = *fv_array_at(&copy, &fields->arrays[i]);
    const wide bytes = fv_attention_elements(problem, &fields->arrays[i]) * 4;
    if (array) demand_outputs_apart(args, array, bytes);
  }
  demand_spans_apart(args->out.data, span_of(&args->out), args->lse.data, lse);
  demand_spans_apart(args->out.data, span_of(&args->out), args->workspace, workspace);
  demand_spans_apart(args->lse.data, lse, args->workspace, workspace);
  DEMAND((uintptr_t)args->workspace % 256 == 0);
}

static void demand_refusal(fovea_status status) {
  DEMAND(status == FOVEA_BAD_ARGUMENT);
  const size_t length = strlen(fovea_error_detail());
  DEMAND(length > 10 && length < 511);
}

/* ---- What is said of the arguments --------------------------------------------------------- */

static fovea_handle *open_device(uint32_t device) {
  fovea_options options = {.struct_size = sizeof options, .device = device, .threads = 1};
  fovea_handle *handle = NULL;
  DEMAND(fovea_create(&options, &handle) == FOVEA_OK);
  return handle;
}

/* The CPU's handle and the reference's, opened once. */
static fovea_handle *device_at(int index) {
  static fovea_handle *handles[2];
  static const uint32_t kinds[] = {FOVEA_DEVICE_CPU, FOVEA_DEVICE_REFERENCE};
  if (handles[index] == NULL) handles[index] = open_device(kinds[index]);
  return handles[index];
}

typedef fovea_status (*support_call)(fovea_handle *handle, const void *args,
                                     fovea_support *support);

static fovea_status attention_support(fovea_handle *handle, const void *args,
                                      fovea_support *support) {
  return fovea_attention_support(handle, args, support);
}
static fovea_status weights_support(fovea_handle *handle, const void *args,
                                    fovea_support *support) {
  return fovea_attention_weights_support(handle, args, support);
}
static fovea_status merge_support(fovea_handle *handle, const void *args, fovea_support *support) {
  return fovea_merge_support(handle, args, support);
}
static fovea_status append_support(fovea_handle *handle, const void *args, fovea_support *support) {
  return fovea_kv_append_support(handle, args, support);
}

/* Both devices support every call that breaks no rule. `status` is the verdict of the check. */
static void demand_support(support_call ask, const void *args, fovea_status status) {
  for (int device = 0; device < 2; ++device) {
    fovea_support support = {.struct_size = sizeof support};
    DEMAND(ask(device_at(device), args, &support) == status);
    DEMAND(support.supported == (status == FOVEA_OK));
    DEMAND((support.kernel[0] != '\0') == (status == FOVEA_OK));
    DEMAND((support.reason[0] != '\0') == (status == FOVEA_OK));
  }
}

static void demand_workspace(const void *args, const fv_problem *problem, fovea_status status) {
  for (int device = 0; device < 2; ++device) {
    size_t bytes = SIZE_MAX;
    DEMAND(fovea_attention_workspace_for(device_at(device), args, &bytes) == status);
    DEMAND((bytes == SIZE_MAX) == (status != FOVEA_OK));
    if (status == FOVEA_OK && (problem->empty || device == 1)) DEMAND(bytes == 0);
  }
}

/* ---- The calls ----------------------------------------------------------------------------- */

static void try_attention(const void *args) {
  fv_problem problem, shape, again;
  const fovea_status shape_status = fv_check_attention_shape(args, &shape);
  const fovea_status status = fv_check_attention(args, &problem);
  demand_support(attention_support, args, shape_status);
  demand_workspace(args, &shape, shape_status);
  if (shape_status == FOVEA_OK) demand_problem(&shape, 1, 0);
  if (status != FOVEA_OK) {
    demand_refusal(status);
    return;
  }
  DEMAND(shape_status == FOVEA_OK);
  demand_problem(&problem, 1, 1);
  demand_memory(&problem);
  DEMAND(fv_check_attention(&problem.args, &again) == FOVEA_OK);
  DEMAND(memcmp(&problem.args, &again.args, sizeof again.args) == 0);
}

/* Outputs lie apart from inputs and from each other, and have the extents of the selection. */
static void demand_weights(const fv_weights_problem *w) {
  const fovea_attention_args *args = &w->attention.args;
  const fovea_tensor *inputs[] = {&args->q, &args->k, &args->visibility.mask, &args->logits.bias};
  const fovea_tensor *outputs[] = {&w->weights, &w->mass, &w->statistics};
  const wide rows = w->row_count < 0 ? 0 : w->row_count;
  const wide keys = w->largest_keys ? (wide)w->entries * rows * w->head_count * 4 : 0;
  DEMAND(w->weights.dtype || w->mass.dtype || w->statistics.dtype);
  DEMAND(w->weights.dtype || w->kind == 0);
  DEMAND(w->row_count >= 0 || (!w->rows && !w->last_rows));
  DEMAND(!w->last_rows || !w->rows);
  for (int i = 0; i < 3; ++i) {
    const fovea_tensor *out = outputs[i];
    if (out->dtype == FOVEA_NONE) continue;
    demand_sane(out, 1);
    demand_apart_from_itself(out);
    DEMAND(out->shape[0] == w->entries);
    DEMAND(out->shape[1] == (out == &w->mass ? 1 : w->row_count));
    DEMAND(out->shape[2] ==
           (out == &w->mass && w->mass_by_kv_head ? w->attention.heads_kv : w->head_count));
    for (int j = 0; j < 4; ++j)
      demand_spans_apart(out->data, span_of(out), inputs[j]->data, span_of(inputs[j]));
    for (int j = 0; j < i; ++j)
      demand_spans_apart(out->data, span_of(out), outputs[j]->data, span_of(outputs[j]));
    demand_spans_apart(out->data, span_of(out), w->largest_keys, keys);
    demand_spans_apart(out->data, span_of(out), w->rows, w->rows ? rows * 4 : 0);
    demand_spans_apart(out->data, span_of(out), w->heads, w->heads ? (wide)w->head_count * 4 : 0);
  }
}

static void try_weights(const void *bytes, const fovea_attention_args *attention, uint8_t choice) {
  fv_weights_problem problem, shape;
  fovea_weights_args args;
  memcpy(&args, bytes, sizeof args);
  args.struct_size = sizeof args;
  args.attention = choice & 1 ? attention : NULL;
  demand_support(weights_support, &args, fv_check_weights_shape(&args, &shape));
  const fovea_status status = fv_check_weights(&args, &problem);
  if (status != FOVEA_OK) {
    demand_refusal(status);
    return;
  }
  demand_problem(&problem.attention, 0, 1);
  demand_weights(&problem);
}

typedef struct merge_bytes {
  fovea_merge_args args;
  fovea_tensor outs[PARTS], lses[PARTS];
} merge_bytes;

static void try_merge(const void *bytes) {
  fv_merge_problem problem, shape;
  merge_bytes all;
  memcpy(&all, bytes, sizeof all);
  /* The check may read both arrays, which are host memory. So they are valid or NULL. */
  all.args.struct_size = sizeof all.args;
  if (all.args.outs != NULL) all.args.outs = all.outs;
  if (all.args.lses != NULL) all.args.lses = all.lses;
  if (all.args.count > PARTS) all.args.count = PARTS;
  all.args.detail = NULL;
  demand_support(merge_support, &all.args, fv_check_merge_shape(&all.args, &shape));
  const fovea_status status = fv_check_merge(&all.args, &problem);
  if (status != FOVEA_OK) {
    demand_refusal(status);
    return;
  }
  demand_sane(&problem.args.out, 1);
  demand_sane(&problem.args.lse, 1);
  demand_apart_from_itself(&problem.args.out);
  demand_apart_from_itself(&problem.args.lse);
  for (int32_t n = 0; n < all.args.count; ++n)
    for (int i = 0; i < 4; ++i) DEMAND(all.outs[n].shape[i] == problem.args.out.shape[i]);
}

static void demand_norm(const fovea_norm *norm, const fovea_tensor *of) {
  DEMAND(norm->scope <= 1 && norm->unit_offset <= 1 && norm->stride >= 0);
  DEMAND(norm->gain ? of->dtype != FOVEA_NONE && norm->eps > 0 : norm->eps == 0);
}

static void try_append(const void *args) {
  fv_append_problem problem, shape, again;
  demand_support(append_support, args, fv_check_append_shape(args, &shape));
  const fovea_status status = fv_check_append(args, &problem);
  if (status != FOVEA_OK) {
    demand_refusal(status);
    return;
  }
  const fovea_kv_append_args *copy = &problem.args;
  const fovea_tensor *views[] = {&copy->k_new,   &copy->v_new,   &copy->k_cache,
                                 &copy->v_cache, &copy->k_scale, &copy->v_scale,
                                 &copy->q,       &copy->q_out,   &copy->q_scale};
  for (int i = 0; i < 9; ++i) demand_sane(views[i], 1);
  demand_apart_from_itself(&copy->k_cache);
  demand_apart_from_itself(&copy->v_cache);
  demand_apart_from_itself(&copy->q_out);
  demand_norm(&copy->q_norm, &copy->q);
  demand_norm(&copy->k_norm, &copy->k_new);
  demand_norm(&copy->v_norm, &copy->v_new);
  for (int i = 0; i < 4; ++i) DEMAND(copy->q.shape[i] == copy->q_out.shape[i]);
  DEMAND(fv_check_append(copy, &again) == FOVEA_OK);
  DEMAND(memcmp(copy, &again.args, sizeof again.args) == 0);
  DEMAND(!copy->rope.cos || (copy->rope.sin && copy->rope.rotary_dim % 2 == 0));
  DEMAND(!copy->rope.cos || copy->rope.positions || copy->sequences.kv_lengths);
  DEMAND(!copy->rope.cos || !copy->q.dtype || copy->rope.rotary_dim <= copy->q.shape[3]);
  const fovea_tensor *cache = copy->k_cache.dtype ? &copy->k_cache : &copy->v_cache;
  const int32_t *ids = copy->sequences.pages.ids;
  if (cache->dtype == FOVEA_NONE) {
    DEMAND(copy->q.dtype && !copy->slots && !ids);
    return;
  }
  DEMAND((copy->slots == NULL) == (copy->sequences.kv_lengths != NULL));
  DEMAND((!copy->slots && !ids) || cache->shape[1] > 0);
  DEMAND(copy->slots || ids || cache->shape[0] == problem.sequences);
  DEMAND(!copy->rope.cos || !copy->k_new.dtype || copy->rope.rotary_dim <= copy->k_new.shape[3]);
  DEMAND(problem.heads_kv == cache->shape[2]);
}

static void try_config(const void *bytes, int is_limits) {
  fovea_limits limits;
  fovea_options options;
  const fovea_status status =
      is_limits ? fv_check_limits(bytes, &limits) : fv_check_options(bytes, &options);
  if (status != FOVEA_OK) {
    demand_refusal(status);
  } else if (is_limits) {
    DEMAND(limits.dim >= 1 && limits.dim <= 576 && limits.dim_v >= 1 && limits.dim_v <= 512);
    DEMAND(limits.sequences >= 1 && limits.sequences <= INT32_MAX);
    DEMAND(limits.len_kv >= 1 && limits.len_kv <= INT32_MAX && limits.total_q >= 1);
  } else {
    DEMAND(options.device <= FOVEA_DEVICE_CUDA && options.threads >= 0 && options.ordinal >= 0);
  }
}

/* ---- The bytes ----------------------------------------------------------------------------- */

/* A block that ends where the struct claims to end, if the check may read so far. Else a block of
 * `least` bytes, of which the check may read the size. */
static uint8_t *place(const uint8_t *image, size_t least, void **block) {
  size_t claimed;
  memcpy(&claimed, image, sizeof claimed);
  const size_t bytes = claimed >= least && claimed <= STRUCT_MAX ? claimed : least;
  *block = malloc(bytes);
  DEMAND(*block != NULL);
  memcpy(*block, image, bytes);
  return (uint8_t *)*block;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static uint8_t image[STRUCT_MAX];
  if (size < 2) return 0;
  const uint8_t call = bytes[0] % 6, choice = bytes[1];
  const fovea_attention_args attention = attention_case(choice);
  fovea_weights_args weights = {.struct_size = sizeof weights};
  weights.weights = view(40, FOVEA_F32, 2, 3, 4, 7);
  if (choice & 16) {
    weights.mass = view(41, FOVEA_F32, 2, 1, 4, 7);
    weights.statistics = view(42, FOVEA_F32, 2, 3, 4, 4);
    weights.largest_keys = (int32_t *)at(43);
    weights.rows = weights.heads = (const int32_t *)at(44);
  }
  if (choice & 32) {
    weights.weights = weights.statistics = (fovea_tensor){.dtype = FOVEA_NONE};
    weights.largest_keys = NULL;
    weights.mass = view(41, FOVEA_F32, 2, 1, 2, 7);
    weights.mass_by_kv_head = weights.last_rows = 1;
    weights.rows = weights.heads = NULL;
    weights.row_count = 3;
  }
  merge_bytes merge = {.args = {.struct_size = sizeof(fovea_merge_args)}};
  merge.args.count = 3;
  merge.args.outs = merge.outs;
  merge.args.lses = merge.lses;
  merge.args.out = view(40, FOVEA_F32, 2, 3, 4, 7);
  merge.args.lse = view(41, FOVEA_F32, 2, 3, 4, 1);
  for (int n = 0; n < PARTS; ++n) {
    merge.outs[n] = view(2 * n, FOVEA_F16, 2, 3, 4, 7);
    merge.lses[n] = view(2 * n + 1, FOVEA_F32, 2, 3, 4, 1);
  }
  const fovea_kv_append_args append = append_case(choice % 6);
  const fovea_limits limits = {sizeof limits, 0, 0, 0, 0, 0, 0, 8, 1, 4, 100, 1000, 0, {0, 0, 0}};
  const fovea_options options = {sizeof options, 1, 0, 0, 0, NULL, NULL, NULL, NULL};
  const void *const cases[] = {&attention, &weights, &merge, &append, &limits, &options};
  const size_t sizes[] = {sizeof attention, sizeof weights, sizeof merge,
                          sizeof append,    sizeof limits,  sizeof options};
  void *block;
  memset(image, 0, sizeof image);
  memcpy(image, cases[call], sizes[call]);
  for (size_t i = 2; i < size && i - 2 < sizeof image; ++i) image[i - 2] ^= bytes[i];
  /* A refusal is written to detail, and arbitrary bytes are no address. */
  if (call == 0) memset(image + offsetof(fovea_attention_args, detail), 0, sizeof(char *));
  if (call == 3) memset(image + offsetof(fovea_kv_append_args, detail), 0, sizeof(char *));
  if (call == 1) {
    try_weights(image, &attention, choice);
  } else if (call == 2) {
    try_merge(image);
  } else {
    const uint8_t *args = place(image, sizes[call], &block);
    if (call == 0) try_attention(args);
    if (call == 3) try_append(args);
    if (call > 3) try_config(args, call == 4);
    free(block);
  }
  return 0;
}

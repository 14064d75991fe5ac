/* fields.c - see fields.h. The order is the header's; a message names the first broken rule. */
#include "csrc/check/fields.h"

#include <stddef.h>

#define COUNT(list) (int)(sizeof(list) / sizeof((list)[0]))

/* ---- Attention ---- */

#define FIELD(name) #name, offsetof(fovea_attention_args, name) /* a room's too: logits.bias */

static const fv_tensor_field attention_tensors[] = {
    {FIELD(q), NULL, true, {FV_DTYPES_QUERY, false, false, FV_LAST_UNIT}},
    {FIELD(k), NULL, true, {FV_DTYPES_CACHE, false, false, FV_LAST_UNIT}},
    {FIELD(v), NULL, false, {FV_DTYPES_CACHE, false, false, FV_LAST_UNIT}},
    {FIELD(out), NULL, false, {FV_DTYPES_QUERY, false, true, FV_LAST_UNIT}},
    {FIELD(lse), "lse", false, {FV_DTYPE_BIT(FOVEA_F32), true, true, FV_LAST_UNIT}},
    {FIELD(q_scale), NULL, true, {FV_DTYPES_SCALE, true, false, FV_LAST_ANY}},
    {FIELD(k_scale), NULL, true, {FV_DTYPES_SCALE, true, false, FV_LAST_ANY}},
    {FIELD(v_scale), NULL, false, {FV_DTYPES_SCALE, true, false, FV_LAST_ANY}},
    {FIELD(out_scale), NULL, false, {FV_DTYPES_SCALE, true, false, FV_LAST_ANY}},
    {FIELD(visibility.mask),
     "mask",
     true,
     {FV_DTYPE_BIT(FOVEA_U8), true, false, FV_LAST_UNIT_OR_ZERO}},
    {FIELD(logits.bias), "bias", true, {FV_DTYPES_PLAIN, true, false, FV_LAST_UNIT_OR_ZERO}},
};

static const fv_array_field attention_arrays[] = {
    {FIELD(sequences.q_offsets), "packed-q", FV_PER_OFFSET, 4, false},
    {FIELD(sequences.kv_offsets), "packed-kv", FV_PER_OFFSET, 4, false},
    {FIELD(sequences.kv_lengths), "lengths", FV_PER_SEQUENCE, 4, false},
    {FIELD(sequences.q_lengths), "q-lengths", FV_PER_SEQUENCE, 4, false},
    {FIELD(sequences.pages.ids), "paged", FV_PER_PAGE_ID, 4, false},
    {FIELD(sequences.pages.v_ids), NULL, FV_PER_PAGE_ID, 4, false},
    {FIELD(sequences.pages.offsets), "page-offsets", FV_PER_OFFSET, 4, false},
    {FIELD(sequences.pages.head_lengths), "head-lengths", FV_PER_KV_HEAD_OF_EACH, 4, false},
    {FIELD(positions.q), "q-position", FV_PER_SEQUENCE, 4, false},
    {FIELD(sequences.kv_first), "kv-first", FV_PER_SEQUENCE, 4, false},
    {FIELD(positions.kv), "kv-position", FV_PER_SEQUENCE, 4, false},
    {FIELD(visibility.prefix_lengths), "prefix", FV_PER_SEQUENCE, 4, false},
    {FIELD(visibility.spans), "spans", FV_TWO_PER_ROW, 4, false},
    {FIELD(visibility.tree.bits), "tree", FV_PER_TREE_WORD, 4, false},
    {FIELD(visibility.tree.lengths), NULL, FV_PER_SEQUENCE, 4, false},
    {FIELD(visibility.tree.starts), NULL, FV_PER_SEQUENCE, 4, false},
    {FIELD(logits.alibi_slopes), "alibi", FV_PER_HEAD_OF_EACH, 4, false},
    {FIELD(logits.distances.table), "distances", FV_PER_DISTANCE, 4, false},
    {FIELD(logits.additive.vector), "additive", FV_PER_DIM, 4, false},
    {FIELD(logits.bias_scale), "bias-scale", FV_PER_HEAD, 4, false},
    {FIELD(logits.sinks), "sinks", FV_PER_HEAD, 4, false},
    {FIELD(errors), NULL, FV_PER_SEQUENCE, 4, true},
};

#undef FIELD

const fv_fields fv_attention_fields = {attention_tensors, attention_arrays,
                                       COUNT(attention_tensors), COUNT(attention_arrays)};

fv_wide fv_attention_elements(const fv_problem *problem, const fv_array_field *array) {
  const fovea_attention_args *args = &problem->args;
  const int64_t sequences = problem->sequences, heads = args->q.shape[2];
  switch (array->extent) {
    case FV_PER_OFFSET:
      return sequences + 1;
    case FV_TWO_PER_ROW:
      return (fv_wide)2 * args->q.shape[1] * (problem->q_packed ? 1 : sequences);
    case FV_PER_HEAD:
      return heads;
    case FV_PER_DISTANCE:
      return fv_view_row_elements(heads, args->logits.distances.head_stride,
                                  args->logits.distances.count);
    case FV_PER_DIM:
      return fv_view_row_elements(heads, args->logits.additive.head_stride, args->q.shape[3]);
    case FV_PER_HEAD_OF_EACH:
      return fv_view_row_elements(sequences, args->logits.alibi_stride, heads);
    case FV_PER_PAGE_ID:
      return fv_view_page_ids(&args->sequences.pages, sequences, args->k.shape[2]);
    case FV_PER_KV_HEAD_OF_EACH:
      return (fv_wide)sequences * args->k.shape[2];
    case FV_PER_TREE_WORD:
      return args->visibility.tree.words;
    default:
      return sequences;
  }
}

/* ---- Append ---- */

#define FIELD(name) #name, offsetof(fovea_kv_append_args, name), NULL

static const fv_tensor_field append_tensors[] = {
    {FIELD(k_new), false, {FV_DTYPES_PLAIN, true, false, FV_LAST_UNIT}},
    {FIELD(v_new), false, {FV_DTYPES_PLAIN, true, false, FV_LAST_UNIT}},
    {FIELD(k_cache), false, {FV_DTYPES_CACHE, true, true, FV_LAST_UNIT}},
    {FIELD(v_cache), false, {FV_DTYPES_CACHE, true, true, FV_LAST_UNIT}},
    {FIELD(k_scale), false, {FV_DTYPES_SCALE, true, false, FV_LAST_ANY}},
    {FIELD(v_scale), false, {FV_DTYPES_SCALE, true, false, FV_LAST_ANY}},
    {FIELD(q), false, {FV_DTYPES_PLAIN, true, false, FV_LAST_UNIT}},
    {FIELD(q_out), false, {FV_DTYPES_QUERY, true, true, FV_LAST_UNIT}},
    {FIELD(q_scale), false, {FV_DTYPES_SCALE, true, false, FV_LAST_ANY}},
};

static const fv_array_field append_arrays[] = {
    {FIELD(sequences.q_offsets), FV_PER_OFFSET, 4, false},
    {FIELD(sequences.kv_lengths), FV_PER_SEQUENCE, 4, false},
    {FIELD(sequences.q_lengths), FV_PER_SEQUENCE, 4, false},
    {FIELD(sequences.pages.ids), FV_PER_PAGE_ID, 4, false},
    {FIELD(sequences.pages.v_ids), FV_PER_PAGE_ID, 4, false},
    {FIELD(sequences.pages.offsets), FV_PER_OFFSET, 4, false},
    {FIELD(slots), FV_PER_TOKEN, 8, false},
    {FIELD(rope.positions), FV_PER_TOKEN, 4, false},
    {FIELD(rope.cos), FV_PER_ROPE_ELEMENT, 4, false},
    {FIELD(rope.sin), FV_PER_ROPE_ELEMENT, 4, false},
    {FIELD(errors), FV_PER_SEQUENCE, 4, true},
    {FIELD(q_norm.gain), FV_PER_Q_GAIN, 4, false},
    {FIELD(k_norm.gain), FV_PER_K_GAIN, 4, false},
    {FIELD(v_norm.gain), FV_PER_V_GAIN, 4, false},
};

#undef FIELD

const fv_fields fv_append_fields = {append_tensors, append_arrays, COUNT(append_tensors),
                                    COUNT(append_arrays)};

/* The gains of a norm of the heads of `tensor`. */
static fv_wide count_gains(const fovea_norm *norm, const fovea_tensor *tensor) {
  return fv_view_row_elements(tensor->shape[2], norm->stride, tensor->shape[3]);
}

fv_wide fv_append_elements(const fv_append_problem *problem, const fv_array_field *array) {
  const fovea_kv_append_args *args = &problem->args;
  const fovea_rope *rope = &args->rope;
  switch (array->extent) {
    case FV_PER_OFFSET:
      return problem->sequences + 1;
    case FV_PER_TOKEN:
      return (fv_wide)problem->rows * (problem->packed ? 1 : problem->sequences);
    case FV_PER_PAGE_ID:
      return fv_view_page_ids(&args->sequences.pages, problem->sequences, 1);
    case FV_PER_Q_GAIN:
      return count_gains(&args->q_norm, &args->q);
    case FV_PER_K_GAIN:
      return count_gains(&args->k_norm, &args->k_new);
    case FV_PER_V_GAIN:
      return count_gains(&args->v_norm, &args->v_new);
    case FV_PER_ROPE_ELEMENT:
      return fv_view_row_elements(rope->rows, rope->stride, rope->rotary_dim / 2);
    default:
      return problem->sequences;
  }
}

/* ---- Checks ---- */

fovea_status fv_check_tensor_field(const fv_tensor_field *field, void *args, bool addresses) {
  return fv_view_check((fv_name){field->name, -1}, &field->rule, fv_tensor_at(args, field),
                       addresses);
}

fovea_status fv_check_array_field(const fv_array_field *field, void *args, fv_wide elements,
                                  bool addresses, fv_spans *spans) {
  const fv_array array = {field->name, *fv_array_at(args, field), elements, field->size};
  return fv_view_check_arrays(&array, 1, addresses, spans);
}

/* view.c - the rules for one tensor, one array or one pair of memory spans.
 *
 * Sizes are computed in 128 bits and compared with 2^63 before they become 64 bits. So no
 * combination of extents and strides can wrap round to a size that looks small. */
#include "csrc/check/view.h"

#include <stdio.h>
#include <string.h>

#include "csrc/dtype.h"

enum { EXTENT_MAX = INT32_MAX };

/* ---- One tensor ---------------------------------------------------------------------------- */

static fovea_status broken_dtype(fv_name name, const char *field, uint32_t dtypes, const char *zero,
                                 uint32_t dtype) {
  char text[FV_NAME_BYTES], allowed[80] = "";
  size_t length = 0;
  if (zero) length += (size_t)snprintf(allowed, sizeof allowed, " %s", zero);
  for (uint32_t i = 1; i < FV_DTYPE_COUNT; ++i) {
    if ((dtypes & FV_DTYPE_BIT(i)) == 0) continue;
    length += (size_t)snprintf(allowed + length, sizeof allowed - length, " %s", fv_dtype_name(i));
  }
  return fv_fail(FOVEA_BAD_ARGUMENT, "%s%s is %u (%s), must be one of:%s", fv_name_text(name, text),
                 field, (unsigned)dtype, fv_dtype_name(dtype), allowed);
}

fovea_status fv_view_check_dtype(fv_name name, const char *field, uint32_t dtypes, const char *zero,
                                 uint32_t dtype) {
  if (dtype == FOVEA_NONE && zero) return FOVEA_OK;
  if (dtype < FV_DTYPE_COUNT && (dtypes & FV_DTYPE_BIT(dtype)) != 0) return FOVEA_OK;
  return broken_dtype(name, field, dtypes, zero, dtype);
}

static bool has_zero_extent(const fovea_tensor *view) {
  return view->shape[0] == 0 || view->shape[1] == 0 || view->shape[2] == 0 || view->shape[3] == 0;
}

/* Elements from the first to the last one. */
static fv_wide spanned_elements(const fovea_tensor *view) {
  fv_wide last = 0;
  for (int i = 0; i < 4; ++i) last += (fv_wide)(view->shape[i] - 1) * view->stride[i];
  return last + 1;
}

/* Bytes from the first element to the end of the last one; 0 if there are no elements. */
static fv_wide spanned_bytes(const fovea_tensor *view) {
  if (has_zero_extent(view)) return 0;
  const fv_wide last = spanned_elements(view) - 1;
  return ((last >> fv_dtype_block_shift(view->dtype)) + 1) * fv_dtype_block_bytes(view->dtype);
}

static fovea_status check_extents(fv_name name, const fovea_tensor *view) {
  for (int i = 0; i < 5; ++i) FV_REQUIRE_AT(name, view, reserved, i, ==, 0, "");
  for (int i = 0; i < 4; ++i) {
    FV_REQUIRE_AT(name, view, shape, i, >=, 0, "");
    FV_REQUIRE_AT(name, view, shape, i, <=, EXTENT_MAX, "");
  }
  return FOVEA_OK;
}

static fovea_status check_strides(fv_name name, fv_view_last last, const fovea_tensor *view) {
  for (int i = 0; i < 4; ++i) FV_REQUIRE_AT(name, view, stride, i, >=, 0, "");
  if (view->shape[3] == 1 || last == FV_LAST_ANY) return FOVEA_OK;
  if (last == FV_LAST_UNIT_OR_ZERO) {
    FV_REQUIRE_AT(name, view, stride, 3, <=, 1, "");
    return FOVEA_OK;
  }
  FV_REQUIRE_AT(name, view, stride, 3, ==, 1,
                "copy the tensor so that its last dimension is "
                "contiguous");
  return FOVEA_OK;
}

/* Rows of blocks are whole, and begin with one. */
static fovea_status check_blocks(fv_name name, const fovea_tensor *view) {
  if (!fv_dtype_is_blocks(view->dtype)) return FOVEA_OK;
  for (int i = 0; i < 4; ++i) {
    const int64_t elements = i == 3 ? view->shape[3] : view->stride[i];
    if (elements % FV_BLOCK_LEN == 0) continue;
    const fv_rule rule = {i == 3 ? "shape" : "stride",
                          "%",
                          "",
                          "rows of q8_0 and q4_0 are whole blocks of 32 elements",
                          elements,
                          FV_BLOCK_LEN};
    return fv_rule_broken_at(name, i, &rule);
  }
  return FOVEA_OK;
}

/* In the order of strides, each dimension must step over all that the dimensions before it span.
 * The addresses of elements are then distinct. The rule also refuses dimensions that interleave
 * without overlap, such as shape (3, 2) with strides (2, 3). */
static fovea_status check_self(fv_name name, const fovea_tensor *view) {
  if (has_zero_extent(view)) return FOVEA_OK;
  bool used[4] = {false, false, false, false};
  int64_t reach = 1; /* elements spanned by the dimensions so far */
  for (int round = 0; round < 4; ++round) {
    int least = -1;
    for (int i = 0; i < 4; ++i)
      if (!used[i] && (least < 0 || view->stride[i] < view->stride[least])) least = i;
    used[least] = true;
    if (view->shape[least] == 1) continue;
    /* (reach) is in parentheses so that the text gives only the number. */
    FV_REQUIRE_AT(name, view, stride, least, >=, (reach),
                  "the smaller strides span that much, and an output must not meet itself");
    reach += (view->shape[least] - 1) * view->stride[least]; /* the whole span fits in int64 */
  }
  return FOVEA_OK;
}

static fovea_status check_data(fv_name name, const fovea_tensor *view, fv_wide bytes) {
  char text[FV_NAME_BYTES];
  const uintptr_t address = (uintptr_t)view->data;
  const int64_t size = fv_dtype_alignment(view->dtype);
  if (address == 0 && !has_zero_extent(view))
    return fv_fail(FOVEA_BAD_ARGUMENT, "%s.data is NULL; allowed only if an extent is 0",
                   fv_name_text(name, text));
  if (address % (uintptr_t)size != 0)
    return fv_fail(FOVEA_BAD_ARGUMENT, "%s.data is %p, must be aligned to its elements of %d bytes",
                   fv_name_text(name, text), view->data, (int)size);
  if (bytes > (fv_wide)UINTPTR_MAX - (fv_wide)address)
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "%s.data is %p, from where its strides leave the address space",
                   fv_name_text(name, text), view->data);
  return FOVEA_OK;
}

fovea_status fv_view_check(fv_name name, const fv_view_rule *rule, fovea_tensor *view,
                           bool addresses) {
  char text[FV_NAME_BYTES];
  if (view->dtype == FOVEA_NONE && rule->optional) {
    memset(view, 0, sizeof *view);
    return FOVEA_OK;
  }
  FV_TRY(fv_view_check_dtype(name, ".dtype", rule->dtypes, rule->optional ? "none" : NULL,
                             view->dtype));
  FV_TRY(check_extents(name, view));
  /* Without elements any strides pass, because they reach none. numpy makes such arrays with all
   * kinds of strides. */
  const bool none = has_zero_extent(view);
  if (!none) FV_TRY(check_strides(name, rule->last, view));
  for (int i = 0; i < 4; ++i)
    if (none || view->shape[i] == 1) view->stride[i] = 0;
  FV_TRY(check_blocks(name, view));
  const fv_wide bytes = spanned_bytes(view);
  /* A block of q4_0 has fewer bytes than elements, and strides count these. */
  if (bytes > INT64_MAX || (!none && spanned_elements(view) > INT64_MAX))
    return fv_fail(FOVEA_BAD_ARGUMENT, "%s.stride spans 2^63 bytes or elements with %s.shape",
                   fv_name_text(name, text), text);
  if (rule->written) FV_TRY(check_self(name, view));
  return addresses ? check_data(name, view, bytes) : FOVEA_OK;
}

fovea_status fv_view_check_scale(fv_name name, const fovea_tensor *scale, fv_name of,
                                 const fovea_tensor *tensor) {
  char text[FV_NAME_BYTES], of_text[FV_NAME_BYTES];
  if (scale->dtype == FOVEA_NONE) return FOVEA_OK;
  if (!fv_dtype_is_8bit(tensor->dtype))
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "%s.dtype must be none: %s.dtype is %s, and only e4m3, e5m2 and i8 have "
                   "scales",
                   fv_name_text(name, text), fv_name_text(of, of_text),
                   fv_dtype_name(tensor->dtype));
  for (int i = 0; i < 3; ++i) {
    const int64_t tensor_extent = tensor->shape[i];
    if (scale->shape[i] != 1)
      FV_REQUIRE_AT(name, scale, shape, i, ==, tensor_extent, "or 1, which broadcasts");
  }
  const int64_t blocks = scale->shape[3];
  if (blocks == 0 || tensor->shape[3] % blocks != 0)
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "%s.shape[3] (blocks) is %lld, must divide %s.shape[3], "
                   "which is %lld",
                   fv_name_text(name, text), (long long)blocks, fv_name_text(of, of_text),
                   (long long)tensor->shape[3]);
  return FOVEA_OK;
}

/* ---- Arrays -------------------------------------------------------------------------------- */

static fovea_status check_array(const fv_array *array, bool addresses, fv_span *span) {
  const uintptr_t address = addresses ? (uintptr_t)array->data : 0;
  if (address % array->size != 0)
    return fv_fail(FOVEA_BAD_ARGUMENT, "%s is %p, must be aligned to its elements of %d bytes",
                   array->name, array->data, (int)array->size);
  /* A division: a product of two 63-bit fields could overflow 128 bits if multiplied by size. */
  const fv_wide most = (INT64_MAX < UINTPTR_MAX - address ? INT64_MAX : UINTPTR_MAX - address);
  if (array->elements > most / (fv_wide)array->size)
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "%s is too long: its count and stride lead beyond the address space",
                   array->name);
  const uintptr_t bytes = (uintptr_t)array->elements * array->size;
  *span = (fv_span){{array->name, -1}, address, address + bytes};
  return FOVEA_OK;
}

fovea_status fv_view_check_arrays(const fv_array *arrays, int count, bool addresses,
                                  fv_spans *spans) {
  for (int i = 0; i < count; ++i)
    if (arrays[i].data != NULL)
      FV_TRY(check_array(&arrays[i], addresses, &spans->list[spans->count++]));
  return FOVEA_OK;
}

fovea_status fv_check_sequences(const fovea_sequences *sequences) {
  FV_REQUIRE(sequences->count, >=, 0, "");
  FV_REQUIRE(sequences->count, <=, INT32_MAX, "");
  FV_REQUIRE_ZEROS("sequences.pages", &sequences->pages, reserved);
  FV_REQUIRE_ZEROS("sequences", sequences, reserved);
  return FOVEA_OK;
}

fovea_status fv_view_check_pages(const fovea_sequences *sequences, int64_t count, int64_t heads,
                                 const fovea_tensor *cache) {
  FV_REQUIRE(sequences->pages.row_stride, >=, 0, "");
  FV_REQUIRE(sequences->pages.head_stride, >=, 0, "");
  FV_REQUIRE(sequences->pages.count, >=, 0, "");
  FV_REQUIRE(sequences->pages.count, <=, INT32_MAX, "");
  if (sequences->pages.ids == NULL) {
    FV_REQUIRE_ABSENT(sequences->pages.v_ids, "without pages.ids");
    FV_REQUIRE_ABSENT(sequences->pages.offsets, "without pages.ids");
    FV_REQUIRE_ABSENT(sequences->pages.head_lengths, "without pages.ids");
    FV_REQUIRE(sequences->pages.row_stride, ==, 0, "without pages.ids nothing is paged");
    FV_REQUIRE(sequences->pages.head_stride, ==, 0, "without pages.ids nothing is paged");
    FV_REQUIRE(sequences->pages.count, ==, 0, "without pages.ids nothing is paged");
    return FOVEA_OK;
  }
  if (count > 0 && cache->shape[0] > 0)
    FV_REQUIRE(sequences->pages.count, >=, 1,
               "it counts the ids of a sequence, or with offsets all ids");
  if (sequences->pages.offsets == NULL && count > 1)
    FV_REQUIRE(sequences->pages.row_stride, >=, sequences->pages.count,
               "each sequence has a row of ids");
  if (sequences->pages.head_stride == 0) return FOVEA_OK;
  if (sequences->pages.offsets != NULL)
    FV_REQUIRE(sequences->pages.head_stride, ==, 0, "with pages.offsets all kv heads share ids");
  if (heads > 1)
    FV_REQUIRE(sequences->pages.head_stride, >=, sequences->pages.count,
               "each kv head has a row of ids, or with 0 all share one");
  return FOVEA_OK;
}

fv_wide fv_view_page_ids(const fovea_pages *pages, int64_t sequences, int64_t heads) {
  if (pages->offsets != NULL) return pages->count;
  const fv_wide shared = fv_view_row_elements(sequences, pages->row_stride, pages->count);
  if (pages->head_stride == 0 || sequences == 0) return shared;
  return heads == 0 ? 0 : shared + (fv_wide)(heads - 1) * pages->head_stride;
}

/* ---- Overlap ------------------------------------------------------------------------------- */

fv_span fv_view_span(fv_name name, const fovea_tensor *view) {
  const uintptr_t begin = (uintptr_t)view->data;
  return (fv_span){name, begin, begin + (uintptr_t)spanned_bytes(view)};
}

void fv_view_add_span(fv_name name, const fovea_tensor *view, fv_spans *spans) {
  if (view->dtype != FOVEA_NONE) spans->list[spans->count++] = fv_view_span(name, view);
}

static bool spans_meet(const fv_span *a, const fv_span *b) {
  if (a->begin == a->end || b->begin == b->end) return false;
  return a->begin < b->end && b->begin < a->end;
}

fovea_status fv_view_check_apart(const fv_span *written, const fv_span *other) {
  char text[FV_NAME_BYTES], other_text[FV_NAME_BYTES];
  if (!spans_meet(written, other)) return FOVEA_OK;
  return fv_fail(FOVEA_BAD_ARGUMENT,
                 "%s [0x%llx, 0x%llx) overlaps %s [0x%llx, 0x%llx): what is "
                 "written needs memory of its own",
                 fv_name_text(written->name, text), (unsigned long long)written->begin,
                 (unsigned long long)written->end, fv_name_text(other->name, other_text),
                 (unsigned long long)other->begin, (unsigned long long)other->end);
}

fovea_status fv_view_check_apart_all(const fv_span *written, const fv_spans *others) {
  for (int i = 0; i < others->count; ++i)
    if (spans_meet(written, &others->list[i]))
      return fv_view_check_apart(written, &others->list[i]);
  return FOVEA_OK;
}

/* Bytes from one index of dimension i to the next. Of the last dimension of blocks: to the next
 * block, which two tensors have in common if their blocks are of one size. */
static int64_t stride_bytes(const fovea_tensor *view, int i) {
  const int64_t stride =
      i == 3 ? view->stride[i] * fv_dtype_block_len(view->dtype) : view->stride[i];
  return fv_dtype_size(view->dtype, stride);
}

/* The dimension of the largest stride in bytes if both tensors have that stride there, else -1. */
static int common_outermost(const fovea_tensor *a, const fovea_tensor *b) {
  int outermost = -1;
  int64_t largest = 0;
  for (int i = 0; i < 4; ++i) {
    /* No overflow: an extent above 1 makes the product part of a span that fits; else it is 0. */
    const int64_t a_stride = stride_bytes(a, i), b_stride = stride_bytes(b, i);
    const int64_t stride = a_stride > b_stride ? a_stride : b_stride;
    if (stride <= largest) continue;
    largest = stride;
    outermost = a_stride == b_stride ? i : -1;
  }
  return outermost;
}

bool fv_view_interleaves(const fovea_tensor *a, const fovea_tensor *b) {
  const fv_name none = {"", -1};
  fovea_tensor inner_a = *a, inner_b = *b;
  for (;;) { /* each round removes one dimension */
    const fv_span span_a = fv_view_span(none, &inner_a), span_b = fv_view_span(none, &inner_b);
    if (!spans_meet(&span_a, &span_b)) return true;
    const int i = common_outermost(&inner_a, &inner_b);
    if (i < 0) return false;
    const uintptr_t stride = (uintptr_t)stride_bytes(&inner_a, i);
    inner_a.stride[i] = inner_b.stride[i] = 0;
    /* What is left of both must fit in one step. Then different steps cannot overlap, and one step
     * stands for all. */
    const uintptr_t end_a = fv_view_span(none, &inner_a).end;
    const uintptr_t end_b = fv_view_span(none, &inner_b).end;
    const uintptr_t begin = span_a.begin < span_b.begin ? span_a.begin : span_b.begin;
    if ((end_a > end_b ? end_a : end_b) - begin > stride) return false;
  }
}

fovea_status fv_view_check_disjoint(fv_name name, const fovea_tensor *written, fv_name other_name,
                                    const fovea_tensor *other) {
  if (fv_view_interleaves(written, other)) return FOVEA_OK;
  const fv_span span = fv_view_span(name, written), other_span = fv_view_span(other_name, other);
  return fv_view_check_apart(&span, &other_span);
}

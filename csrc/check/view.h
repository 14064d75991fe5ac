/* view.h - the rules for one tensor, one array or one pair of memory spans. */
#ifndef FOVEA_CSRC_CHECK_VIEW_H
#define FOVEA_CSRC_CHECK_VIEW_H

#include <stdbool.h>

#include "csrc/check/rule.h"

/* A product of an extent (below 2^31) and a stride (below 2^63) needs 94 bits. */
__extension__ typedef __int128 fv_wide;

#define FV_DTYPE_BIT(dtype) (1u << (dtype))
enum {
  FV_DTYPES_SCALE = FV_DTYPE_BIT(FOVEA_F32) | FV_DTYPE_BIT(FOVEA_F16),
  FV_DTYPES_PLAIN = FV_DTYPES_SCALE | FV_DTYPE_BIT(FOVEA_BF16),
  FV_DTYPES_QUERY = FV_DTYPES_PLAIN | FV_DTYPE_BIT(FOVEA_E4M3),
  FV_DTYPES_CACHE = FV_DTYPES_QUERY | FV_DTYPE_BIT(FOVEA_E5M2) | FV_DTYPE_BIT(FOVEA_I8) |
                    FV_DTYPE_BIT(FOVEA_Q8_0) | FV_DTYPE_BIT(FOVEA_Q4_0)
};

/* What stride[3] may be if shape[3] is above 1. */
typedef enum fv_view_last { FV_LAST_UNIT, FV_LAST_UNIT_OR_ZERO, FV_LAST_ANY } fv_view_last;

typedef struct fv_view_rule {
  uint32_t dtypes; /* FV_DTYPE_BIT of each allowed dtype */
  bool optional;   /* may be absent */
  bool written;    /* an output: must not overlap itself */
  fv_view_last last;
} fv_view_rule;

/* A half-open range of addresses; empty if begin == end. */
typedef struct fv_span {
  fv_name name;
  uintptr_t begin;
  uintptr_t end;
} fv_span;

/* The memory that a call reads, for the overlap rule. */
enum { FV_SPANS_MAX = 64 };
typedef struct fv_spans {
  int count;
  fv_span list[FV_SPANS_MAX];
} fv_spans;

/* An array of the caller: `elements` of `size` bytes each. data NULL: absent. */
typedef struct fv_array {
  const char *name;
  const void *data;
  fv_wide elements;
  size_t size;
} fv_array;

/* Checks that dtype is one of `dtypes`. zero: what FOVEA_NONE means if it is allowed, else NULL.
 * field: the field of `name`, such as ".dtype". */
fovea_status fv_view_check_dtype(fv_name name, const char *field, uint32_t dtypes, const char *zero,
                                 uint32_t dtype);

/* Proves the rules of the header's "Tensors" for one tensor and normalises it. The stride of an
 * extent of 1 becomes 0; if an extent is 0, all strides become 0. An absent tensor becomes all
 * zeros. addresses: whether to check data. */
fovea_status fv_view_check(fv_name name, const fv_view_rule *rule, fovea_tensor *view,
                           bool addresses);

/* Checks a scale against its tensor. */
fovea_status fv_view_check_scale(fv_name name, const fovea_tensor *scale, fv_name of,
                                 const fovea_tensor *tensor);

/* Checks the size and, if `addresses`, the alignment of arrays. Adds the present ones to
 * `spans`. */
fovea_status fv_view_check_arrays(const fv_array *arrays, int count, bool addresses,
                                  fv_spans *spans);

/* Elements spanned by `rows` rows of `length` elements; `stride` is from one row to the next. */
static inline fv_wide fv_view_row_elements(int64_t rows, int64_t stride, int64_t length) {
  return rows == 0 ? 0 : (fv_wide)(rows - 1) * stride + length;
}

/* Checks the fields of the room `sequences` by themselves. */
fovea_status fv_check_sequences(const fovea_sequences *sequences);

/* Checks a page table of `count` sequences and `heads` kv heads that refers to the pages of
 * `cache`. fv_view_page_ids says how many ids the table has. */
fovea_status fv_view_check_pages(const fovea_sequences *sequences, int64_t count, int64_t heads,
                                 const fovea_tensor *cache);
fv_wide fv_view_page_ids(const fovea_pages *pages, int64_t sequences, int64_t heads);

/* The memory of a tensor that fv_view_check has passed. */
fv_span fv_view_span(fv_name name, const fovea_tensor *view);
void fv_view_add_span(fv_name name, const fovea_tensor *view, fv_spans *spans);

/* Checks that `written` has no byte in common with the other span, or with any of the others. */
fovea_status fv_view_check_apart(const fv_span *written, const fv_span *other);
fovea_status fv_view_check_apart_all(const fv_span *written, const fv_spans *others);

/* True only if no byte belongs to both tensors; their ranges may still cross. Where they cross,
 * both tensors have the same outermost stride, and one step of it holds both without overlap. May
 * be false for tensors that interleave in other ways without overlap. */
bool fv_view_interleaves(const fovea_tensor *a, const fovea_tensor *b);

/* As fv_view_check_apart, except that tensors that interleave pass as well. */
fovea_status fv_view_check_disjoint(fv_name name, const fovea_tensor *written, fv_name other_name,
                                    const fovea_tensor *other);

#endif /* FOVEA_CSRC_CHECK_VIEW_H */

/* span_list.c - see span_list.h. */
#include "layers/span_list.h"

#include <stdio.h>
#include <string.h>

#include "layers/tokens.h"

enum { NAME_BYTES = 64 };

void fv_span_list_begin(fv_span_list *list) {
  list->count = 0;
  list->source = -1;
  list->status = FOVEA_OK;
}

static const char *name_of(const fv_list_span *span, char text[NAME_BYTES]) {
  if (span->source < 0) return span->name;
  snprintf(text, NAME_BYTES, "sources[%d].%s", span->source, span->name);
  return text;
}

/* ---- Spans ---- */

/* What is not there, or not aligned to `alignment`, is noted; the first such stays. */
static void add(fv_span_list *list, const fv_list_span *span, const void *data, size_t alignment) {
  char text[NAME_BYTES];
  if (list->status == FOVEA_OK && span->last > span->first &&
      (!data || (uintptr_t)data % alignment)) {
    list->status =
        fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s is %p, must be there, aligned to %zu bytes",
                       name_of(span, text), span->tensor ? ".data" : "", data, alignment);
  }
  if (list->count < FV_LIST_SPANS_MAX) list->at[list->count++] = *span;
}

/* Bytes and elements of a unit: an element, or a block of q8_0 and q4_0. */
static int64_t unit_bytes(uint32_t dtype, int64_t *elements) {
  *elements = 1;
  switch (dtype) {
    case FOVEA_F32:
      return 4;
    case FOVEA_F16:
    case FOVEA_BF16:
      return 2;
    case FOVEA_Q8_0:
      *elements = 32;
      return 34;
    case FOVEA_Q4_0:
      *elements = 32;
      return 18;
    default:
      return 1;
  }
}

static void add_tensor(fv_span_list *list, const char *name, const fovea_tensor *t, bool written,
                       int group) {
  int64_t elements, reach = 1, bytes = unit_bytes(t->dtype, &elements);
  fv_list_span span = {
      .source = list->source, .name = name, .tensor = t, .written = written, .group = group};
  if (t->dtype == FOVEA_NONE) return;
  for (int i = 0; i < 4; ++i) {
    if (!t->shape[i]) return;
    reach += t->shape[i] == 1 ? 0 : (t->shape[i] - 1) * t->stride[i];
  }
  span.first = (uintptr_t)t->data;
  span.last = span.first + (uintptr_t)((reach + elements - 1) / elements * bytes);
  add(list, &span, t->data, bytes == 4 ? 4 : bytes == 1 ? 1 : 2);
}

void fv_span_list_reads(fv_span_list *list, const char *name, const fovea_tensor *tensor,
                        int group) {
  add_tensor(list, name, tensor, false, group);
}

void fv_span_list_writes(fv_span_list *list, const char *name, const fovea_tensor *tensor,
                         int group) {
  add_tensor(list, name, tensor, true, group);
}

/* Of numbers of 4 bytes. */
void fv_span_list_array(fv_span_list *list, const char *name, const void *array, int64_t count) {
  fv_list_span span = {.source = list->source, .name = name, .first = (uintptr_t)array};
  if (!array || count < 1) return;
  span.last = span.first + (uintptr_t)count * 4;
  add(list, &span, array, 4);
}

void fv_span_list_workspace(fv_span_list *list, void *workspace, size_t bytes) {
  fv_list_span span = {.source = -1, .name = "workspace", .written = true};
  span.first = (uintptr_t)workspace;
  span.last = span.first + bytes;
  add(list, &span, workspace, 256);
}

/* ---- The question ---- */

static bool may_meet(const fv_list_span *a, const fv_list_span *b) {
  return a->group && a->group == b->group && a->tensor && b->tensor &&
         fv_tokens_same(a->tensor, b->tensor);
}

fovea_status fv_span_list_check(const fv_span_list *list) {
  char one[NAME_BYTES], other[NAME_BYTES];
  if (list->status != FOVEA_OK) return list->status;
  for (int i = 0; i < list->count; ++i) {
    const fv_list_span *a = &list->at[i];
    if (!a->written) continue;
    for (int j = 0; j < list->count; ++j) {
      const fv_list_span *b = &list->at[j];
      bool apart = a->last <= b->first || b->last <= a->first;
      if (i == j || apart || a->first == a->last || b->first == b->last || may_meet(a, b)) continue;
      return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s overlaps %s", name_of(a, one),
                            name_of(b, other));
    }
  }
  return FOVEA_OK;
}

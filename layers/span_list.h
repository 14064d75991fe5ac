/* span_list.h - the addresses of a call: are they there and aligned, and does nothing that is
 * written meet anything else? Asked once, before anything is written; a call that only measures
 * never asks.
 *
 * Rules of shapes come first: a span follows from a tensor whose extents and strides are in range.
 */
#ifndef FOVEA_LAYERS_SPAN_LIST_H
#define FOVEA_LAYERS_SPAN_LIST_H

#include <stdbool.h>

#include "layers/fail.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FV_LIST_SPANS_MAX = 192 };

typedef struct fv_list_span {
  int source; /* "sources[source]." stands before the name; -1: nothing does */
  const char *name;
  uintptr_t first, last; /* bytes; equal: none */
  const fovea_tensor *tensor;
  bool written;
  int group; /* a written tensor may be a read one of its group, in all that a view says; 0: none */
} fv_list_span;

typedef struct fv_span_list {
  fv_list_span at[FV_LIST_SPANS_MAX];
  int count, source;
  fovea_status status; /* of the first address that is not there or not aligned */
} fv_span_list;

void fv_span_list_begin(fv_span_list *list);

/* Absent tensors and NULL arrays are passed over. */
void fv_span_list_reads(fv_span_list *list, const char *name, const fovea_tensor *tensor,
                        int group);
void fv_span_list_writes(fv_span_list *list, const char *name, const fovea_tensor *tensor,
                         int group);
void fv_span_list_array(fv_span_list *list, const char *name, const void *array, int64_t count);
void fv_span_list_workspace(fv_span_list *list, void *workspace, size_t bytes);

fovea_status fv_span_list_check(const fv_span_list *list);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_SPAN_LIST_H */

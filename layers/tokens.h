/* tokens.h - tensors as rows of tokens in f32, whatever their type and strides. Token n of a tensor
 * is [n / len, n % len]; its element h * dim + d lies in head h. */
#ifndef FOVEA_LAYERS_TOKENS_H
#define FOVEA_LAYERS_TOKENS_H

#include <stdbool.h>

#include "layers/fail.h"

#ifdef __cplusplus
extern "C" {
#endif

static inline int64_t fv_tokens_count(const fovea_tensor *t) {
  return t->shape[0] * t->shape[1];
}

static inline int64_t fv_tokens_width(const fovea_tensor *t) {
  return t->shape[2] * t->shape[3];
}

/* The rules of a tensor's shape: a type of 16 or 32 bits, extents and strides in range, stride[3]
 * of 1. `any_stride` lifts the last rule. `owner` and `name` are for the text: "sources[1].",
 * "x_k". Addresses are a matter of span_list.h. */
fovea_status fv_tokens_check(const char *owner, const char *name, const fovea_tensor *t,
                             bool any_stride);

/* Each extent must be that of the other tensor, whose name is given. */
fovea_status fv_tokens_check_shape(const char *owner, const char *name, const fovea_tensor *t,
                                   const int64_t shape[4]);

/* An output: no element twice. */
fovea_status fv_tokens_check_output(const char *owner, const char *name, const fovea_tensor *t);

void fv_tokens_load(const fovea_tensor *t, int64_t token, float *to);
void fv_tokens_store(const fovea_tensor *t, int64_t token, const float *from);

/* count elements `stride` apart, beginning with element `at` of the tensor's data. */
void fv_elements_load(const fovea_tensor *t, int64_t at, int64_t stride, int64_t count, float *to);

/* Whether tokens lie as rows of f32 that a BLAS takes, and the distance of rows. Looks at no
 * address. The other returns where row 0 begins; NULL: they do not lie so. */
bool fv_tokens_are_rows(const fovea_tensor *t, int64_t *stride);
float *fv_tokens_rows(const fovea_tensor *t, int64_t *stride);

/* The same tokens with so many heads. False: strides do not allow it. */
bool fv_tokens_split(const fovea_tensor *t, int64_t heads, int64_t dim, fovea_tensor *split);

/* A contiguous view in f32 of count tokens' worth [batch, len, heads, dim]. */
static inline fovea_tensor fv_tokens_f32(void *data, const fovea_tensor *like, int64_t heads,
                                         int64_t dim) {
  return fovea_contiguous(data, FOVEA_F32, like->shape[0], like->shape[1], heads, dim);
}

/* Same place, strides and type: an output may be this input. */
bool fv_tokens_same(const fovea_tensor *a, const fovea_tensor *b);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_LAYERS_TOKENS_H */

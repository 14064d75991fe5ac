/* tokens.c - see tokens.h. */
#include "layers/tokens.h"

#include <string.h>

#include "layers/convert.h"

/* ---- Rows ---- */

void fv_elements_load(const fovea_tensor *t, int64_t at, int64_t stride, int64_t count, float *to) {
  const float *floats = (const float *)t->data + at;
  const uint16_t *codes = (const uint16_t *)t->data + at;
  switch (t->dtype) {
    case FOVEA_F32:
      if (stride == 1) memcpy(to, floats, (size_t)count * sizeof *to);
      for (int64_t i = 0; stride != 1 && i < count; ++i) to[i] = floats[i * stride];
      return;
    case FOVEA_F16:
      if (stride == 1) fv_layers_widen(FOVEA_F16, codes, count, to);
      for (int64_t i = 0; stride != 1 && i < count; ++i)
        to[i] = fv_layers_widen_f16(codes[i * stride]);
      return;
    default:
      if (stride == 1) fv_layers_widen(FOVEA_BF16, codes, count, to);
      for (int64_t i = 0; stride != 1 && i < count; ++i)
        to[i] = fv_layers_widen_bf16(codes[i * stride]);
  }
}

static void elements_store(const fovea_tensor *t, int64_t at, int64_t count, const float *from) {
  if (t->dtype == FOVEA_F32) {
    memmove((float *)t->data + at, from, (size_t)count * sizeof *from);
  } else {
    fv_layers_narrow(t->dtype, from, count, (uint16_t *)t->data + at);
  }
}

static int64_t offset_of(const fovea_tensor *t, int64_t token) {
  return token / t->shape[1] * t->stride[0] + token % t->shape[1] * t->stride[1];
}

void fv_tokens_load(const fovea_tensor *t, int64_t token, float *to) {
  int64_t at = offset_of(t, token);
  for (int64_t head = 0; head < t->shape[2]; ++head) {
    fv_elements_load(t, at + head * t->stride[2], 1, t->shape[3], to + head * t->shape[3]);
  }
}

void fv_tokens_store(const fovea_tensor *t, int64_t token, const float *from) {
  int64_t at = offset_of(t, token);
  for (int64_t head = 0; head < t->shape[2]; ++head) {
    elements_store(t, at + head * t->stride[2], t->shape[3], from + head * t->shape[3]);
  }
}

/* ---- Views ---- */

bool fv_tokens_are_rows(const fovea_tensor *t, int64_t *stride) {
  bool joined = t->shape[2] == 1 || t->stride[2] == t->shape[3];
  bool even = t->shape[0] == 1 || t->shape[1] == 1 || t->stride[0] == t->shape[1] * t->stride[1];
  *stride = t->shape[1] == 1 ? t->stride[0] : t->stride[1];
  if (fv_tokens_count(t) == 1) *stride = fv_tokens_width(t);
  bool fits = *stride >= fv_tokens_width(t) && *stride <= INT32_MAX;
  return t->dtype == FOVEA_F32 && joined && even && fits;
}

float *fv_tokens_rows(const fovea_tensor *t, int64_t *stride) {
  return fv_tokens_are_rows(t, stride) ? t->data : NULL;
}

bool fv_tokens_split(const fovea_tensor *t, int64_t heads, int64_t dim, fovea_tensor *split) {
  *split = *t;
  if (t->shape[2] == heads && t->shape[3] == dim) return true;
  if (t->shape[2] != 1 && t->stride[2] != t->shape[3]) return false;
  if (fv_tokens_width(t) != heads * dim) return false;
  split->shape[2] = heads;
  split->shape[3] = dim;
  split->stride[2] = dim;
  split->stride[3] = 1;
  return true;
}

static bool has_elements(const fovea_tensor *t) {
  return t->shape[0] && t->shape[1] && t->shape[2] && t->shape[3];
}

bool fv_tokens_same(const fovea_tensor *a, const fovea_tensor *b) {
  if (a->data != b->data || a->dtype != b->dtype) return false;
  for (int i = 0; i < 4; ++i) {
    if (a->shape[i] != b->shape[i]) return false;
    if (a->shape[i] != 1 && a->stride[i] != b->stride[i]) return false;
  }
  return true;
}

/* ---- Rules ---- */

fovea_status fv_tokens_check(const char *owner, const char *name, const fovea_tensor *t,
                             bool any_stride) {
  if (t->dtype != FOVEA_F32 && t->dtype != FOVEA_F16 && t->dtype != FOVEA_BF16) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s.dtype is %u, must be F32, F16 or BF16", owner,
                          name, t->dtype);
  }
  int64_t reach = 1;
  for (int i = 0; i < 4; ++i) {
    int64_t along;
    if (t->shape[i] < 0 || t->shape[i] > INT32_MAX) {
      return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s.shape[%d] is %lld, must be 0 to 2^31 - 1",
                            owner, name, i, (long long)t->shape[i]);
    }
    if (t->shape[i] <= 1 || !has_elements(t)) continue; /* such a stride is never looked at */
    if (i == 3 && !any_stride && t->stride[3] != 1) {
      return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s.stride[3] is %lld, must be 1", owner, name,
                            (long long)t->stride[3]);
    }
    if (t->stride[i] < 0 || __builtin_mul_overflow(t->shape[i] - 1, t->stride[i], &along) ||
        __builtin_add_overflow(reach, along, &reach) || reach > INT64_MAX / 4) {
      return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s.stride[%d] is %lld, must be in range", owner,
                            name, i, (long long)t->stride[i]);
    }
  }
  for (int i = 0; i < 5; ++i) {
    if (t->reserved[i]) {
      return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s.reserved[%d] must be 0", owner, name, i);
    }
  }
  int64_t tokens, elements;
  if (__builtin_mul_overflow(t->shape[0], t->shape[1], &tokens) ||
      __builtin_mul_overflow(t->shape[2], t->shape[3], &elements) || elements > INT32_MAX ||
      __builtin_mul_overflow(tokens, elements, &elements)) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s has too many elements", owner, name);
  }
  return FOVEA_OK;
}

fovea_status fv_tokens_check_shape(const char *owner, const char *name, const fovea_tensor *t,
                                   const int64_t shape[4]) {
  for (int i = 0; i < 4; ++i) {
    if (t->shape[i] == shape[i]) continue;
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s%s.shape[%d] is %lld, must be %lld", owner, name,
                          i, (long long)t->shape[i], (long long)shape[i]);
  }
  return FOVEA_OK;
}

/* In the order of strides each must reach past all that the smaller ones span. */
fovea_status fv_tokens_check_output(const char *owner, const char *name, const fovea_tensor *t) {
  int64_t reach = 1;
  bool taken[4] = {false, false, false, false};
  if (t->dtype == FOVEA_NONE || !has_elements(t)) return FOVEA_OK;
  for (int n = 0; n < 4; ++n) {
    int least = -1;
    for (int i = 0; i < 4; ++i) {
      if (!taken[i] && (least < 0 || t->stride[i] < t->stride[least])) least = i;
    }
    taken[least] = true;
    if (t->shape[least] == 1) continue;
    if (t->stride[least] < reach) {
      return fv_layers_fail(FOVEA_BAD_ARGUMENT,
                            "%s%s.stride[%d] is %lld, must be at least %lld: an output has no "
                            "element twice",
                            owner, name, least, (long long)t->stride[least], (long long)reach);
    }
    reach = t->stride[least] * (t->shape[least] - 1) + reach;
  }
  return FOVEA_OK;
}

/* draw_memory.c - see validate/draw_sketch.h. */
#include <stdlib.h>
#include <string.h>

#include "cli/validate/draw_sketch.h"
#include "csrc/check/check.h"
#include "csrc/host/element.h"

/* NULL if no memory or no entry of c->blocks is left. The case then says so and is not run. */
void *fv_sketch_allocate(fv_case *c, size_t bytes, int fill) {
  void *block = c->block_count < FV_CASE_BLOCKS ? malloc(bytes + 64) : NULL;
  if (!block) {
    c->out_of_memory = true;
    return NULL;
  }
  memset(block, fill, bytes + 64);
  c->blocks[c->block_count++] = block;
  return block;
}

int32_t *fv_sketch_i32(fv_sketch *s, int64_t count) {
  return fv_sketch_allocate(s->c, (size_t)(count + 1) * sizeof(int32_t), 0);
}

/* ---- Tensors ---- */

/* A view whose first three dimensions lie in memory in random order and with random gaps. `block`
 * is the number of elements that a row takes, at least shape[3]. */
void fv_sketch_strides(fv_sketch *s, fovea_tensor *t, int64_t block) {
  int order[3] = {2, 1, 0};
  for (int i = 2; i > 0; --i) {
    int j = (int)fv_random_between(s->random, 0, i), swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  static const int64_t gaps[] = {0, 0, 1, 8};
  int64_t unit = fv_dtype_block_len(t->dtype);
  int64_t stride = block + unit * gaps[fv_random_between(s->random, 0, 3)];
  t->stride[3] = 1;
  for (int i = 0; i < 3; ++i) {
    t->stride[order[i]] = stride;
    stride = stride * (t->shape[order[i]] ? t->shape[order[i]] : 1) +
             unit * gaps[fv_random_between(s->random, 0, 3)];
  }
}

int64_t fv_sketch_span(const fovea_tensor *t) {
  int64_t last = 0;
  for (int d = 0; d < 4; ++d) {
    if (t->shape[d] == 0) return 0;
    last += (t->shape[d] - 1) * t->stride[d];
  }
  return last + 1;
}

void fv_sketch_tensor(fv_sketch *s, fovea_tensor *t, uint32_t dtype, const int64_t shape[4],
                      int fill) {
  *t = (fovea_tensor){.dtype = dtype};
  memcpy(t->shape, shape, sizeof t->shape);
  fv_sketch_strides(s, t, shape[3]);
  int64_t unit = fv_dtype_block_len(dtype), offset = unit * fv_random_between(s->random, 0, 3);
  int64_t elements = fv_sketch_span(t) + offset + 8 * unit;
  char *data = fv_sketch_allocate(s->c, (size_t)fv_dtype_size(dtype, elements), fill);
  t->data = data ? data + fv_dtype_size(dtype, offset) : NULL;
}

float *fv_sketch_floats(fv_sketch *s, int64_t count, float low, float high) {
  float *values = fv_sketch_allocate(s->c, (size_t)(count + 1) * sizeof *values, 0);
  for (int64_t i = 0; values && i < count; ++i) {
    values[i] = fv_random_uniform(s->random, low, high);
  }
  return values;
}

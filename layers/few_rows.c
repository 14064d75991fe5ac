/* few_rows.c - see few_rows.h. Compiled for several instruction sets; the program takes the widest
 * that the processor has. Sums have the same bits on each: lanes are parts of the sum. */
#include "layers/few_rows.h"

#include <string.h>

#include "layers/convert.h"

enum { LANES = 16, FEW_ROWS = 4 };

/* Multiplications, some 50 us of one thread. Above that a BLAS is better: it has more of them. */
enum { SMALL = 1 << 20 };

bool fv_few_rows_fit(const fv_product *p) {
  const fovea_tensor *w = p->weight;
  if (w->stride[3] != 1 && w->shape[3] != 1) return false;
  if (p->steady) return true;
  if (w->dtype != FOVEA_F32 && p->rows <= FEW_ROWS) return true;
  return p->rows <= SMALL && p->rows * p->outputs <= SMALL &&
         p->rows * p->outputs * w->shape[3] <= SMALL;
}

FV_ALWAYS_INLINE void widen(const void *weights, uint32_t dtype, float to[LANES]) {
  const uint16_t *codes = weights;
  if (dtype == FOVEA_F32) {
    memcpy(to, weights, LANES * sizeof *to);
    return;
  }
  for (int lane = 0; lane < LANES; ++lane) {
    to[lane] =
        dtype == FOVEA_F16 ? fv_layers_widen_f16(codes[lane]) : fv_layers_widen_bf16(codes[lane]);
  }
}

/* The sums of one output for a constant number of rows, so that they stay in registers. */
FV_ALWAYS_INLINE void multiply_output(const fv_product *p, int64_t o, int rows, uint32_t dtype) {
  const int64_t in = p->weight->shape[3], each = dtype == FOVEA_F32 ? 4 : 2;
  int64_t i = 0;
  const char *w = (const char *)p->weight->data + (p->first + o) * p->weight->stride[1] * each;
  float sums[FEW_ROWS][LANES] = {{0}}, wide[LANES];
  for (; i + LANES <= in; i += LANES) {
    widen(w + i * each, dtype, wide);
    for (int r = 0; r < rows; ++r) {
      const float *x = p->x + r * p->x_stride + i;
      for (int lane = 0; lane < LANES; ++lane) sums[r][lane] += x[lane] * wide[lane];
    }
  }
  uint32_t rest[LANES] = {0};
  memcpy(rest, w + i * each, (size_t)((in - i) * each));
  widen(rest, dtype, wide);
  for (int r = 0; r < rows; ++r) {
    const float *x = p->x + r * p->x_stride + i;
    float sum = 0;
    for (int lane = 0; lane < in - i; ++lane) sums[r][lane] += x[lane] * wide[lane];
    for (int lane = 0; lane < LANES; ++lane) sum += sums[r][lane];
    p->to[r * p->stride + o] = sum;
  }
}

FV_ALWAYS_INLINE void multiply_rows(const fv_product *p, int rows, uint32_t dtype) {
  for (int64_t o = 0; o < p->outputs; ++o) multiply_output(p, o, rows, dtype);
}

FV_ALWAYS_INLINE void multiply(const fv_product *p, uint32_t dtype) {
  switch (p->rows) {
    case 1:
      multiply_rows(p, 1, dtype);
      return;
    case 2:
      multiply_rows(p, 2, dtype);
      return;
    case 3:
      multiply_rows(p, 3, dtype);
      return;
    default:
      multiply_rows(p, 4, dtype);
  }
}

/* clang makes clones global, so that their names need the library's prefix. */
FV_FOR_EACH_ISA static void fv_few_rows_f32(const fv_product *p) {
  multiply(p, FOVEA_F32);
}

FV_FOR_EACH_ISA static void fv_few_rows_f16(const fv_product *p) {
  multiply(p, FOVEA_F16);
}

FV_FOR_EACH_ISA static void fv_few_rows_bf16(const fv_product *p) {
  multiply(p, FOVEA_BF16);
}

static void multiply_few(const fv_product *p) {
  switch (p->weight->dtype) {
    case FOVEA_F32:
      fv_few_rows_f32(p);
      return;
    case FOVEA_F16:
      fv_few_rows_f16(p);
      return;
    default:
      fv_few_rows_bf16(p);
  }
}

void fv_few_rows_multiply(const fv_product *product) {
  fv_product some = *product;
  for (int64_t left = product->rows; left > 0; left -= FEW_ROWS) {
    some.rows = left < FEW_ROWS ? left : FEW_ROWS;
    multiply_few(&some);
    some.x += FEW_ROWS * some.x_stride;
    some.to += FEW_ROWS * some.stride;
  }
}

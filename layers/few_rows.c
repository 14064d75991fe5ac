/* few_rows.c - see few_rows.h. Compiled for several instruction sets; the program takes the widest
 * that the processor has. Sums have the same bits on each: lanes are parts of the sum. */
#include "layers/few_rows.h"

#include <string.h>

#if defined(__x86_64__)
#define FOR_EACH_ISA __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FOR_EACH_ISA
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum { LANES = 16 };

bool fv_few_rows_fit(const fovea_tensor *w, int64_t rows) {
  return rows <= FV_FEW_ROWS && w->dtype != FOVEA_F32 && (w->stride[3] == 1 || w->shape[3] == 1);
}

ALWAYS_INLINE uint32_t bf16_bits(uint32_t code) {
  return code << 16;
}

/* Without branches, as vectors want it: the product moves the exponent, also of subnormals. */
ALWAYS_INLINE uint32_t f16_bits(uint32_t code) {
  uint32_t magnitude = (code & 0x7fff) << 13, sign = (code & 0x8000) << 16, bits;
  float moved;
  memcpy(&moved, &magnitude, sizeof moved);
  moved *= 0x1p112f;
  memcpy(&bits, &moved, sizeof bits);
  bits |= magnitude >= 0x7c00u << 13 ? 0x7f800000u : 0; /* infinities and NaNs keep what is below */
  return sign | bits;
}

ALWAYS_INLINE void widen(const uint16_t *codes, bool f16, float to[LANES]) {
  uint32_t bits[LANES];
  for (int lane = 0; lane < LANES; ++lane) {
    bits[lane] = f16 ? f16_bits(codes[lane]) : bf16_bits(codes[lane]);
  }
  memcpy(to, bits, sizeof bits);
}

/* The sums of one output for a constant number of rows, so that they stay in registers. */
ALWAYS_INLINE void multiply_output(const fv_product *p, int64_t o, int rows, bool f16) {
  int64_t in = p->weight->shape[3], i = 0;
  const uint16_t *w = (const uint16_t *)p->weight->data + (p->first + o) * p->weight->stride[1];
  float sums[FV_FEW_ROWS][LANES] = {{0}}, wide[LANES];
  for (; i + LANES <= in; i += LANES) {
    widen(w + i, f16, wide);
    for (int r = 0; r < rows; ++r) {
      const float *x = p->x + r * p->x_stride + i;
      for (int lane = 0; lane < LANES; ++lane) sums[r][lane] += x[lane] * wide[lane];
    }
  }
  uint16_t rest[LANES] = {0};
  memcpy(rest, w + i, (size_t)(in - i) * sizeof *rest);
  widen(rest, f16, wide);
  for (int r = 0; r < rows; ++r) {
    const float *x = p->x + r * p->x_stride + i;
    float sum = 0;
    for (int lane = 0; lane < in - i; ++lane) sums[r][lane] += x[lane] * wide[lane];
    for (int lane = 0; lane < LANES; ++lane) sum += sums[r][lane];
    p->to[r * p->stride + o] = sum;
  }
}

ALWAYS_INLINE void multiply_rows(const fv_product *p, int rows, bool f16) {
  for (int64_t o = 0; o < p->outputs; ++o) multiply_output(p, o, rows, f16);
}

ALWAYS_INLINE void multiply(const fv_product *p, bool f16) {
  switch (p->rows) {
    case 1:
      multiply_rows(p, 1, f16);
      return;
    case 2:
      multiply_rows(p, 2, f16);
      return;
    case 3:
      multiply_rows(p, 3, f16);
      return;
    default:
      multiply_rows(p, 4, f16);
  }
}

FOR_EACH_ISA static void multiply_f16(const fv_product *p) {
  multiply(p, true);
}

FOR_EACH_ISA static void multiply_bf16(const fv_product *p) {
  multiply(p, false);
}

void fv_few_rows_multiply(const fv_product *product) {
  if (product->weight->dtype == FOVEA_F16) {
    multiply_f16(product);
  } else {
    multiply_bf16(product);
  }
}

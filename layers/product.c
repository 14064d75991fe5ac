/* product.c - see product.h. With FV_LAYERS_CBLAS a BLAS multiplies; else the loops below, which
 * compilers vectorise. */
#include "layers/product.h"

#include "layers/few_rows.h"
#include "layers/fovea_layers.h"

#ifdef FV_LAYERS_CBLAS
#include <cblas.h>

/* Any CBLAS will do. Only OpenBLAS says its name. */
extern char *openblas_get_config(void) __attribute__((weak));

const char *fovea_layers_blas(void) {
  return openblas_get_config ? openblas_get_config() : "CBLAS";
}

static void multiply(const fv_product *p, const float *weight, int64_t weight_stride,
                     bool inputs_first) {
  int in = (int)p->weight->shape[3];
  if (p->rows == 1) {
    cblas_sgemv(CblasRowMajor, inputs_first ? CblasTrans : CblasNoTrans,
                inputs_first ? in : (int)p->outputs, inputs_first ? (int)p->outputs : in, 1, weight,
                (int)weight_stride, p->x, 1, 0, p->to, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, inputs_first ? CblasNoTrans : CblasTrans, (int)p->rows,
              (int)p->outputs, in, 1, p->x, (int)p->x_stride, weight, (int)weight_stride, 0, p->to,
              (int)p->stride);
}
#else
const char *fovea_layers_blas(void) {
  return "plain loops";
}

enum { LANES = 16 };

/* Partial sums by lane: the loop over lanes becomes vectors without changing any sum. */
static float dot(const float *a, const float *b, int64_t b_stride, int64_t count) {
  float sums[LANES] = {0}, sum = 0;
  int64_t i = 0;
  for (; b_stride == 1 && i + LANES <= count; i += LANES) {
    for (int lane = 0; lane < LANES; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (int lane = 0; lane < LANES; ++lane) sum += sums[lane];
  for (; i < count; ++i) sum += a[i] * b[i * b_stride];
  return sum;
}

static void multiply(const fv_product *p, const float *weight, int64_t weight_stride,
                     bool inputs_first) {
  int64_t in = p->weight->shape[3];
  for (int64_t row = 0; row < p->rows; ++row) {
    for (int64_t o = 0; o < p->outputs; ++o) {
      const float *w = weight + (inputs_first ? o : o * weight_stride);
      p->to[row * p->stride + o] =
          dot(p->x + row * p->x_stride, w, inputs_first ? weight_stride : 1, in);
    }
  }
}
#endif

/* A stride that a BLAS takes for rows of `width`. */
static bool is_row_stride(int64_t stride, int64_t width) {
  return stride >= width && stride <= INT32_MAX;
}

static bool has_outputs_first(const fovea_tensor *w) {
  bool dense = w->stride[3] == 1 || w->shape[3] == 1;
  return dense && (w->shape[1] == 1 || is_row_stride(w->stride[1], w->shape[3]));
}

static bool has_inputs_first(const fovea_tensor *w) {
  bool dense = w->stride[1] == 1 || w->shape[1] == 1;
  return dense && (w->shape[3] == 1 || is_row_stride(w->stride[3], w->shape[1]));
}

bool fv_product_is_direct(const fovea_tensor *w) {
  return w->dtype == FOVEA_F32 && (has_outputs_first(w) || has_inputs_first(w));
}

static void multiply_direct(const fv_product *p) {
  const fovea_tensor *w = p->weight;
  const float *data = w->data;
  if (has_outputs_first(w)) {
    int64_t stride = w->shape[1] == 1 ? w->shape[3] : w->stride[1];
    multiply(p, data + p->first * stride, stride, false);
    return;
  }
  int64_t stride = w->shape[3] == 1 ? w->shape[1] : w->stride[3];
  multiply(p, data + p->first, stride, true);
}

bool fv_product_needs_scratch(const fovea_tensor *w, bool steady) {
  return steady ? w->stride[3] != 1 && w->shape[3] != 1 : !fv_product_is_direct(w);
}

/* Widens and gathers the weights of some outputs, which then lie in a cache for all rows. */
static void multiply_widened(const fv_product *p) {
  const fovea_tensor *w = p->weight;
  int64_t in = w->shape[3];
  for (int64_t o = 0; o < p->outputs; ++o) {
    fv_elements_load(w, (p->first + o) * w->stride[1], w->stride[3], in, p->scratch + o * in);
  }
  if (!p->steady) {
    multiply(p, p->scratch, in, false);
    return;
  }
  const fovea_tensor widened = fovea_contiguous(p->scratch, FOVEA_F32, 1, p->outputs, 1, in);
  fv_product few = *p;
  few.weight = &widened;
  few.first = 0;
  fv_few_rows_multiply(&few);
}

/* A sum of nothing. */
static void clear(const fv_product *p) {
  for (int64_t row = 0; row < p->rows; ++row) {
    for (int64_t o = 0; o < p->outputs; ++o) p->to[row * p->stride + o] = 0;
  }
}

void fv_product_run(const fv_product *product) {
  const fovea_tensor *w = product->weight;
  if (!product->rows || !product->outputs) return;
  if (!w->shape[3]) {
    clear(product);
    return;
  }
  if (fv_few_rows_fit(product)) {
    fv_few_rows_multiply(product);
    return;
  }
  if (!product->steady && fv_product_is_direct(w)) {
    multiply_direct(product);
    return;
  }
  fv_product block = *product;
  for (int64_t done = 0; done < product->outputs; done += FV_PRODUCT_OUTPUTS) {
    int64_t left = product->outputs - done;
    block.first = product->first + done;
    block.outputs = left < FV_PRODUCT_OUTPUTS ? left : FV_PRODUCT_OUTPUTS;
    block.to = product->to + done;
    multiply_widened(&block);
  }
}

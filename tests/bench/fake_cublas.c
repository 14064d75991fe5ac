/* fake_cublas.c - two functions of cuBLAS on the software GPU's memory, to test how the benchmark
 * calls them. They follow the definition of cuBLAS, with matrices column by column.
 *
 *   c = alpha op(a) op(b), where op(a) is [m, k], op(b) is [k, n], c is [m, n] */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "csrc/numeric.h"

#define EXPORT __attribute__((visibility("default")))

enum { OP_T = 1, REAL_16F = 2, LARGEST = 1024 };

typedef int (*copy_back)(void *to, uint64_t from, size_t bytes);
typedef int (*copy_there)(uint64_t to, const void *from, size_t bytes);

static copy_back read_memory;
static copy_there write_memory;

int cublasCreate_v2(void **handle) EXPORT;
int cublasDestroy_v2(void *handle) EXPORT;

int cublasCreate_v2(void **handle) {
  void *driver = dlopen(getenv("FOVEA_CUDA_DRIVER"), RTLD_NOW | RTLD_LOCAL);
  read_memory = (copy_back)dlsym(driver, "cuMemcpyDtoH_v2");
  write_memory = (copy_there)dlsym(driver, "cuMemcpyHtoD_v2");
  *handle = handle;
  return !read_memory || !write_memory;
}

int cublasDestroy_v2(void *handle) {
  return !handle;
}

typedef struct matrix {
  uint16_t *at;
  int rows, leading;
} matrix;

/* Copies column by column: between columns lies other memory, which may be unwritten. */
static matrix fetch(uint64_t from, int rows, int columns, int leading) {
  matrix m = {malloc((size_t)rows * (size_t)columns * 2), rows, leading};
  for (int column = 0; column < columns; ++column) {
    uint64_t begin = from + 2 * (uint64_t)column * (uint64_t)leading;
    if (read_memory(m.at + (size_t)column * (size_t)rows, begin, (size_t)rows * 2)) abort();
  }
  return m;
}

static float value(const matrix *m, int row, int column, int type) {
  uint16_t code = m->at[(size_t)column * (size_t)m->rows + (size_t)row];
  return type == REAL_16F ? fv_f16_to_f32(code) : fv_bf16_to_f32(code);
}

typedef struct shape {
  int op_a, op_b, m, n, k, lda, ldb, ldc, type;
  float alpha;
} shape;

static void multiply(const shape *s, uint64_t a_at, uint64_t b_at, uint64_t c_at) {
  int turned_a = s->op_a == OP_T, turned_b = s->op_b == OP_T;
  matrix a = fetch(a_at, turned_a ? s->k : s->m, turned_a ? s->m : s->k, s->lda);
  matrix b = fetch(b_at, turned_b ? s->n : s->k, turned_b ? s->k : s->n, s->ldb);
  uint16_t *column = malloc((size_t)s->m * 2);
  for (int j = 0; j < s->n; ++j) {
    for (int i = 0; i < s->m; ++i) {
      float sum = 0;
      for (int x = 0; x < s->k; ++x) {
        sum += (turned_a ? value(&a, x, i, s->type) : value(&a, i, x, s->type)) *
               (turned_b ? value(&b, j, x, s->type) : value(&b, x, j, s->type));
      }
      sum *= s->alpha;
      column[i] = s->type == REAL_16F ? fv_f16_from_f32(sum) : fv_bf16_from_f32(sum);
    }
    write_memory(c_at + 2 * (uint64_t)j * (uint64_t)s->ldc, column, (size_t)s->m * 2);
  }
  free(a.at);
  free(b.at);
  free(column);
}

int cublasGemmStridedBatchedEx(void *handle, int op_a, int op_b, int m, int n, int k,
                               const float *alpha, uint64_t a, int type_a, int lda, int64_t step_a,
                               uint64_t b, int type_b, int ldb, int64_t step_b, const float *beta,
                               uint64_t c, int type_c, int ldc, int64_t step_c, int count,
                               int compute, int algorithm) EXPORT;
int cublasGemmBatchedEx(void *handle, int op_a, int op_b, int m, int n, int k, const float *alpha,
                        uint64_t a, int type_a, int lda, uint64_t b, int type_b, int ldb,
                        const float *beta, uint64_t c, int type_c, int ldc, int count, int compute,
                        int algorithm) EXPORT;

/* A call is refused with CUBLAS_STATUS_INVALID_VALUE unless it has operands of one type, sums in
 * f32, no addend and the default algorithm. */
static int is_odd(int type_a, int type_b, int type_c, float beta, int compute, int algorithm) {
  return type_a != type_b || type_a != type_c || beta != 0 || compute != 68 || algorithm != -1;
}

int cublasGemmStridedBatchedEx(void *handle, int op_a, int op_b, int m, int n, int k,
                               const float *alpha, uint64_t a, int type_a, int lda, int64_t step_a,
                               uint64_t b, int type_b, int ldb, int64_t step_b, const float *beta,
                               uint64_t c, int type_c, int ldc, int64_t step_c, int count,
                               int compute, int algorithm) {
  if (!handle || is_odd(type_a, type_b, type_c, *beta, compute, algorithm)) return 7;
  if (m > LARGEST) return 0; /* the product that measures a GPU: its result is not read */
  shape s = {op_a, op_b, m, n, k, lda, ldb, ldc, type_a, *alpha};
  for (int i = 0; i < count; ++i) {
    uint64_t step = 2 * (uint64_t)i;
    multiply(&s, a + step * (uint64_t)step_a, b + step * (uint64_t)step_b,
             c + step * (uint64_t)step_c);
  }
  return 0;
}

int cublasGemmBatchedEx(void *handle, int op_a, int op_b, int m, int n, int k, const float *alpha,
                        uint64_t a, int type_a, int lda, uint64_t b, int type_b, int ldb,
                        const float *beta, uint64_t c, int type_c, int ldc, int count, int compute,
                        int algorithm) {
  uint64_t at[3];
  if (!handle || is_odd(type_a, type_b, type_c, *beta, compute, algorithm)) return 7;
  shape s = {op_a, op_b, m, n, k, lda, ldb, ldc, type_a, *alpha};
  for (int i = 0; i < count; ++i) {
    uint64_t offset = sizeof *at * (uint64_t)i;
    if (read_memory(&at[0], a + offset, sizeof *at) || read_memory(&at[1], b + offset, 8) ||
        read_memory(&at[2], c + offset, sizeof *at)) {
      return 7;
    }
    multiply(&s, at[0], at[1], at[2]);
  }
  return 0;
}

/* cublas.c - the products by cuBLAS: 16-bit operands, sums in f32, on tensor cores.
 *
 * cuBLAS is opened at run time and declared here, so the build does not need it. The numbers are
 * those of cublas_api.h and library_types.h, unchanged since CUDA 11. Its matrices are stored
 * column by column, so c = a b is asked for as c' = b' a'.
 *
 * If one step leads from each matrix to the next, as in a batch of one sequence, a product is one
 * call by stride. Otherwise it is one call by arrays of pointers. Either way it is one launch. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/gpu/device.h"

enum { OP_N = 0, OP_T = 1, REAL_16F = 2, REAL_16BF = 14, COMPUTE_32F = 68, ALGORITHM_DEFAULT = -1 };
/* Two for each of 64 sequences that are products of their own. */
enum { TABLES_MAX = 128 };

typedef struct cublasContext *blas_handle;
typedef int (*create_call)(blas_handle *);
typedef int (*destroy_call)(blas_handle);
typedef int (*strided_call)(blas_handle, int, int, int, int, int, const void *, const void *, int,
                            int, long long, const void *, int, int, long long, const void *, void *,
                            int, int, long long, int, int, int);
typedef int (*pointers_call)(blas_handle, int, int, int, int, int, const void *,
                             const void *const *, int, int, const void *const *, int, int,
                             const void *, void *const *, int, int, int, int, int);

/* Pointers to the matrices of one product, in the device's memory: a, b, c of each. */
typedef struct pointer_table {
  fv_bench_product product;
  void *device;
} pointer_table;

struct fv_bench_cublas {
  void *library;
  blas_handle handle;
  destroy_call destroy;
  strided_call strided;
  pointers_call pointers;
  pointer_table tables[TABLES_MAX]; /* of the latest products, replaced in turn */
  int next_table, last_found;
};

static bool find_calls(struct fv_bench_cublas *cublas, create_call *create) {
  *create = (create_call)dlsym(cublas->library, "cublasCreate_v2");
  cublas->destroy = (destroy_call)dlsym(cublas->library, "cublasDestroy_v2");
  cublas->strided = (strided_call)dlsym(cublas->library, "cublasGemmStridedBatchedEx");
  cublas->pointers = (pointers_call)dlsym(cublas->library, "cublasGemmBatchedEx");
  return *create && cublas->destroy && cublas->strided && cublas->pointers;
}

static void *open_library(void) {
  const char *named = getenv("FOVEA_BENCH_CUBLAS");
  if (named) return *named ? dlopen(named, RTLD_NOW | RTLD_LOCAL) : NULL;
  void *library = dlopen("libcublas.so.13", RTLD_NOW | RTLD_LOCAL);
  return library ? library : dlopen("libcublas.so.12", RTLD_NOW | RTLD_LOCAL);
}

struct fv_bench_cublas *fv_bench_cublas_open(char *why, size_t why_bytes) {
  create_call create;
  struct fv_bench_cublas *cublas = calloc(1, sizeof *cublas);
  snprintf(why, why_bytes, "out of memory");
  if (!cublas) return NULL;
  cublas->library = open_library();
  if (!cublas->library) {
    snprintf(why, why_bytes, "no libcublas.so.13 or .12; see FOVEA_BENCH_CUBLAS");
  } else if (!find_calls(cublas, &create)) {
    snprintf(why, why_bytes, "this libcublas lacks a function");
  } else {
    int result = create(&cublas->handle);
    if (!result) return cublas;
    snprintf(why, why_bytes, "cublasCreate returned %d", result);
  }
  fv_bench_cublas_close(cublas);
  return NULL;
}

/* The tables are freed with the context. */
void fv_bench_cublas_close(struct fv_bench_cublas *cublas) {
  if (!cublas) return;
  if (cublas->handle) cublas->destroy(cublas->handle);
  if (cublas->library) dlclose(cublas->library);
  free(cublas);
}

/* ---- Pointers ---- */

static char *matrix_at(const fv_bench_matrices *m, int64_t batch, int64_t head) {
  return (char *)m->data + 2 * (batch * m->batch + head * m->head);
}

static bool is_same(const fv_bench_matrices *x, const fv_bench_matrices *y) {
  return x->data == y->data && x->batch == y->batch && x->head == y->head;
}

static bool is_table_of(const pointer_table *table, const fv_bench_product *p) {
  const fv_bench_product *known = &table->product;
  return table->device && is_same(&known->a, &p->a) && is_same(&known->b, &p->b) &&
         is_same(&known->c, &p->c) && known->batch == p->batch && known->heads == p->heads &&
         known->group == p->group;
}

static bool fill_table(fv_bench_cuda *cuda, const fv_bench_product *p, pointer_table *table) {
  int64_t count = p->batch * p->heads;
  size_t bytes = (size_t)(3 * count) * sizeof(void *);
  void **host = malloc(bytes);
  fv_bench_cuda_free(cuda, table->device);
  table->device = fv_bench_cuda_allocate(cuda, bytes);
  bool done = host && table->device;
  for (int64_t unit = 0; done && unit < count; ++unit) {
    int64_t batch = unit / p->heads, head = unit % p->heads;
    host[unit] = matrix_at(&p->a, batch, head);
    host[count + unit] = matrix_at(&p->b, batch, head / p->group);
    host[2 * count + unit] = matrix_at(&p->c, batch, head);
  }
  if (done) {
    CUresult result = cuda->driver->cuMemcpyHtoD((CUdeviceptr)table->device, host, bytes);
    done = fv_bench_cuda_ok(cuda, result, "cuMemcpyHtoD");
  }
  table->product = *p;
  free(host);
  return done;
}

/* Made when a product first occurs, before anything is timed. Products recur in the same order, so
 * the table after the last one used is most often the right one. */
static void **find_table(fv_bench_cuda *cuda, const fv_bench_product *p) {
  struct fv_bench_cublas *cublas = cuda->cublas;
  for (int i = 1; i <= TABLES_MAX; ++i) {
    int at = (cublas->last_found + i) % TABLES_MAX;
    if (!is_table_of(&cublas->tables[at], p)) continue;
    cublas->last_found = at;
    return cublas->tables[at].device;
  }
  cublas->last_found = cublas->next_table++ % TABLES_MAX;
  pointer_table *table = &cublas->tables[cublas->last_found];
  return fill_table(cuda, p, table) ? table->device : NULL;
}

/* ---- Products ---- */

static int multiply_by_stride(const struct fv_bench_cublas *cublas, const fv_bench_product *p,
                              int type) {
  static const float zero = 0;
  return cublas->strided(cublas->handle, p->b_transposed ? OP_T : OP_N, OP_N, (int)p->columns,
                         (int)p->rows, (int)p->depth, &p->factor, p->b.data, type, (int)p->b.row,
                         p->b.head, p->a.data, type, (int)p->a.row, p->a.head, &zero, p->c.data,
                         type, (int)p->c.row, p->c.head, (int)p->heads, COMPUTE_32F,
                         ALGORITHM_DEFAULT);
}

static int multiply_by_pointers(const struct fv_bench_cublas *cublas, const fv_bench_product *p,
                                void **table, int type) {
  static const float zero = 0;
  int64_t count = p->batch * p->heads;
  const void *const *a = (const void *const *)table;
  return cublas->pointers(cublas->handle, p->b_transposed ? OP_T : OP_N, OP_N, (int)p->columns,
                          (int)p->rows, (int)p->depth, &p->factor, a + count, type, (int)p->b.row,
                          a, type, (int)p->a.row, &zero, table + 2 * count, type, (int)p->c.row,
                          (int)count, COMPUTE_32F, ALGORITHM_DEFAULT);
}

static bool multiply(fv_bench_cuda *cuda, const fv_bench_product *product, fovea_dtype dtype) {
  int type = dtype == FOVEA_F16 ? REAL_16F : REAL_16BF, result;
  if (product->batch == 1 && product->group == 1) {
    result = multiply_by_stride(cuda->cublas, product, type);
  } else {
    void **table = find_table(cuda, product);
    if (!table) return false;
    result = multiply_by_pointers(cuda->cublas, product, table, type);
  }
  if (result) fprintf(stderr, "fovea-bench: cuBLAS returned %d\n", result);
  return !result;
}

const fv_bench_products fv_bench_products_cublas = {"cuBLAS", multiply, multiply};

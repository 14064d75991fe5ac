/* host.c - see host.h.
 *
 * The linker directs this program's calls of malloc and its kin here (--wrap), including those of
 * the library, which is linked statically. The driver's own calls, in a shared object, are not
 * counted. */
#include "bench/measure/host.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fovea.h>
#include "bench/measure/rounds.h"
#include "bench/report/result.h"

/* ---- Allocations ---- */

static _Atomic int64_t allocations;

static void count(void) {
  atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
}

int64_t fv_bench_host_allocations(void) {
  return atomic_load(&allocations);
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t number, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
int __real_posix_memalign(void **memory, size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t number, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes);

void *__wrap_malloc(size_t bytes) {
  count();
  return __real_malloc(bytes);
}

void *__wrap_calloc(size_t number, size_t bytes) {
  count();
  return __real_calloc(number, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes) {
  count();
  return __real_realloc(memory, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
  count();
  return __real_aligned_alloc(alignment, bytes);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t bytes) {
  count();
  return __real_posix_memalign(memory, alignment, bytes);
}

/* ---- Calls ---- */

enum { ROUNDS = 51, CALLS = 10000 };

/* No kernel runs, so nobody follows these addresses. They are a TiB apart, so that tensors do not
 * overlap. */
static void *address(int tensor) {
  return (void *)((uintptr_t)tensor << 40);
}

static fovea_attention_args make_args(int64_t batch, int64_t len_q, int64_t len_kv, int64_t heads_q,
                                      int64_t heads_kv) {
  fovea_attention_args args = {.struct_size = sizeof args, .visibility.causal = 1};
  args.q = fovea_contiguous(address(1), FOVEA_BF16, batch, len_q, heads_q, 128);
  args.k = fovea_contiguous(address(2), FOVEA_BF16, batch, len_kv, heads_kv, 128);
  args.v = fovea_contiguous(address(3), FOVEA_BF16, batch, len_kv, heads_kv, 128);
  args.out = fovea_contiguous(address(4), FOVEA_BF16, batch, len_q, heads_q, 128);
  args.workspace = address(5);
  args.workspace_bytes = (size_t)1 << 39;
  return args;
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The first calls load the kernel, and are not measured. */
static bool measure(fovea_handle *handle, const fovea_attention_args *args,
                    fv_bench_host_cost *cost) {
  double seconds[ROUNDS];
  fovea_status status = fovea_attention(handle, args, NULL);
  int64_t before = fv_bench_host_allocations();
  for (int round = 0; round < ROUNDS; ++round) {
    double start = fv_bench_clock();
    for (int i = 0; i < CALLS && !status; ++i) status = fovea_attention(handle, args, NULL);
    seconds[round] = (fv_bench_clock() - start) / CALLS;
  }
  *cost = (fv_bench_host_cost){.calls = ROUNDS * CALLS,
                               .allocations = fv_bench_host_allocations() - before};
  qsort(seconds, ROUNDS, sizeof *seconds, compare_doubles);
  cost->microseconds = 1e6 * fv_bench_median(seconds, ROUNDS);
  cost->spread = fv_bench_spread(seconds, ROUNDS);
  if (status) fprintf(stderr, "fovea-bench: fovea_attention: %s\n", fovea_error_detail());
  return !status;
}

/* Looks beside the program, for a build, and then in the library folder of the prefix, for an
 * installation. */
static void choose_driver(void) {
  static const char *const folders[] = {"", "../" FOVEA_BENCH_DRIVERS "/"};
  char program[4096], path[4096 + 256];
  if (getenv("FOVEA_CUDA_DRIVER")) return;
  ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
  if (length <= 0) return;
  program[length] = '\0';
  strrchr(program, '/')[1] = '\0';
  for (int i = 0; i < 2; ++i) {
    snprintf(path, sizeof path, "%s%sfovea-null-driver.so", program, folders[i]);
    if (!access(path, R_OK)) setenv("FOVEA_CUDA_DRIVER", path, 0);
  }
}

bool fv_bench_host_measure(fv_bench_host_cost *prefill, fv_bench_host_cost *decode) {
  fovea_options options = {.struct_size = sizeof options, .device = FOVEA_DEVICE_CUDA};
  fovea_handle *handle;
  choose_driver();
  if (fovea_create(&options, &handle) != FOVEA_OK) {
    fprintf(stderr, "fovea-bench: %s\n", fovea_error_detail());
    return false;
  }
  fovea_attention_args many = make_args(4, 4096, 4096, 32, 8), one = make_args(64, 1, 8192, 32, 8);
  bool done = measure(handle, &many, prefill) && measure(handle, &one, decode);
  fovea_destroy(handle);
  return done;
}

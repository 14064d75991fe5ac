/* peak.c - see peak.h.
 *
 * 12 independent sums hide the latency of a fused multiply-add (4 or 5 cycles, 2 per cycle) and fit
 * the 16 registers of AVX2. Only in this file may products and sums be contracted. */
#include "bench/measure/peak.h"

#include <string.h>

enum { SUMS = 12, STEPS = 1 << 17, PARTS_PER_THREAD = 8 };

/* Sums tend to 1 = 0.5 * 1 + 0.5: nothing overflows or becomes subnormal. */
#define DEFINE_LOOP(name, lanes, attributes)                                         \
  attributes static void name(void *context, int64_t index) {                        \
    typedef float vector __attribute__((vector_size(4 * lanes)));                    \
    vector sums[SUMS], factor = (vector){0} + 0.5f, addend = factor;                 \
    for (int i = 0; i < SUMS; ++i) sums[i] = factor * (float)(index + i + 1);        \
    for (int64_t step = 0; step < STEPS; ++step) {                                   \
      _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; ++i) {                      \
        sums[i] = sums[i] * factor + addend;                                         \
      }                                                                              \
    }                                                                                \
    for (int i = 0; i < SUMS; ++i) __asm__ volatile("" : : "m"(sums[i]) : "memory"); \
    (void)context;                                                                   \
  }

DEFINE_LOOP(loop_portable, 4, )
#if defined(__x86_64__)
DEFINE_LOOP(loop_avx2, 8, __attribute__((target("avx2,fma"))))
DEFINE_LOOP(loop_avx512, 16, __attribute__((target("avx512f"))))
#endif

const char *fv_bench_peak_widest(void) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return "avx512";
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
#endif
  return "portable";
}

void fv_bench_peak_open(fv_bench_peak *peak, fv_pool *pool, const char *isa) {
  int lanes = 4;
  *peak = (fv_bench_peak){.pool = pool, .loop = loop_portable};
#if defined(__x86_64__)
  if (!strcmp(isa, "avx2")) peak->loop = loop_avx2, lanes = 8;
  if (!strcmp(isa, "avx512")) peak->loop = loop_avx512, lanes = 16;
#else
  (void)isa;
#endif
  peak->parts = (int64_t)fv_pool_threads(pool) * PARTS_PER_THREAD;
  peak->flops = 2.0 * SUMS * STEPS * lanes * (double)peak->parts;
}

bool fv_bench_peak_run(void *opaque) {
  fv_bench_peak *peak = opaque;
  fv_pool_run(peak->pool, peak->parts, peak->loop, NULL);
  return true;
}

/* ---- Reading ---- */

enum { READ_CHUNK = 1 << 18 }; /* bytes: small enough to share evenly, large for the prefetchers */

typedef struct read_job {
  const char *data;
  int64_t bytes;
} read_job;

/* 16 lines ahead: the processor's prefetchers stop at the end of each page of 4 KiB. */
enum { READ_AHEAD = 2048 };
#if defined(__x86_64__)
#define READ_ISA __attribute__((target_clones("default", "arch=x86-64-v3")))
#else
#define READ_ISA
#endif

typedef uint64_t words __attribute__((vector_size(64)));

/* Eight sums: the loop waits for loads, not for additions. The last bytes of a tensor are not read
 * if they do not fill 512: dims are multiples of 8, lengths far larger. */
READ_ISA static void read_chunk(void *context, int64_t index) {
  const read_job *job = context;
  int64_t begin = index * READ_CHUNK, end = begin + READ_CHUNK;
  if (end > job->bytes) end = job->bytes;
  words sums[8] = {{0}};
  for (int64_t at = begin; at + 512 <= end; at += 512) {
    _Pragma("GCC unroll 8") for (int i = 0; i < 8; ++i) {
      words next;
      __builtin_prefetch(job->data + at + 64 * i + READ_AHEAD);
      memcpy(&next, job->data + at + 64 * i, sizeof next);
      sums[i] += next;
    }
  }
  for (int i = 0; i < 8; ++i) __asm__ volatile("" : : "m"(sums[i]) : "memory");
}

bool fv_bench_read_run(void *opaque) {
  const fv_bench_read *read = opaque;
  int64_t bytes = read->tensors->kv_count * fv_bench_dtype_bytes(read->tensors->problem.dtype);
  const void *both[] = {read->tensors->k, read->tensors->v};
  for (int i = 0; i < 2; ++i) {
    read_job job = {both[i], bytes};
    fv_pool_run(read->pool, (bytes + READ_CHUNK - 1) / READ_CHUNK, read_chunk, &job);
  }
  return true;
}

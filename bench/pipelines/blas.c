/* blas.c - see blas.h.
 *
 * OpenBLAS knows processors by their model numbers. On a processor younger than itself it falls
 * back to Prescott, the SSE3 kernels of 2004. Measured with Debian 12's 0.3.21 on an Emerald Rapids
 * Xeon, the naive pipeline then took 3.3 times as long as with the kernels for AVX-512. A win over
 * that would be none. */
#include "bench/pipelines/blas.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/measure/peak.h"

const char *fv_bench_blas_better(const char *core, const char *widest) {
  static const char *const before_avx2[] = {"Generic", "generic",    "Prescott",  "Core2",
                                            "Penryn",  "Dunnington", "Nehalem",   "Atom",
                                            "Opteron", "Barcelona",  "Bobcat",    "Sandybridge",
                                            "Athlon",  "Katmai",     "Northwood", "Banias"};
  if (!strcmp(widest, "portable")) return NULL;
  for (size_t i = 0; i < sizeof before_avx2 / sizeof *before_avx2; ++i) {
    if (!strcmp(core, before_avx2[i])) return strcmp(widest, "avx512") ? "Haswell" : "SkylakeX";
  }
  return NULL;
}

void fv_bench_blas_choose(char **argv) {
  static const char name[] = "OPENBLAS_CORETYPE";
  const char *better = fv_bench_blas_better(openblas_get_corename(), fv_bench_peak_widest());
  if (!better || getenv(name) || setenv(name, better, 1)) return;
  execv("/proc/self/exe", argv);
}

/* blas.h - makes sure that the opponent's BLAS uses all that the processor has. */
#ifndef FOVEA_BENCH_PIPELINES_BLAS_H
#define FOVEA_BENCH_PIPELINES_BLAS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Returns the OPENBLAS_CORETYPE to set. core: the core that OpenBLAS chose by itself. widest: the
 * widest instructions of the processor ("avx512", "avx2", "portable"). NULL: its choice is as good.
 */
const char *fv_bench_blas_better(const char *core, const char *widest);

/* Starts this program again with OPENBLAS_CORETYPE if that is needed and the user has not set it:
 * OpenBLAS reads it once, before main. Returns if nothing is to be done or nothing can be done; the
 * report's "blas_core" then shows that. */
void fv_bench_blas_choose(char **argv);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_PIPELINES_BLAS_H */

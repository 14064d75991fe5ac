/* bench_peer.h - fovea beside a peer: what a script of the peer's language calls by addresses.
 *
 * Built with fv_bench_flush into a shared library of the build folder, which is not installed. */
#ifndef FV_BENCH_PEER_H
#define FV_BENCH_PEER_H

#include "../include/fovea.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The state of calls on contiguous [batch, len, heads, dim] tensors; `row` is the name of a row, as
 * bench_problem.h says. NULL: it is no such name, or something could not be had. */
FOVEA_API void *fv_bench_peer_open(int threads, const char *row, void *q, void *k, void *v,
                                   void *out);

/* 1, or 0: it failed. */
FOVEA_API int fv_bench_peer_run(void *state);
FOVEA_API void fv_bench_peer_close(void *state);

#ifdef __cplusplus
}
#endif
#endif /* FV_BENCH_PEER_H */

/* peer.h - fovea beside a peer: what a script of the peer's language calls by addresses.
 *
 * Built with fv_bench_flush into a shared library of the build folder, which is not installed. */
#ifndef FV_BENCH_PEER_H
#define FV_BENCH_PEER_H

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The state of calls on contiguous [batch, len, heads, dim] tensors; `row` is the name of a row of
 * prefill or decode, as problem/problem.h says; on its device, where the tensors lie, on the
 * default stream. A process stays with the device of its first call. `allocate` gives memory of the
 * device for the workspace, which stays the caller's; NULL: host memory will do. NULL: it is no
 * such name, or something could not be had. */
typedef void *(*fv_bench_peer_allocate)(size_t bytes);
FOVEA_API void *fv_bench_peer_open(int threads, const char *row, void *q, void *k, void *v,
                                   void *out, fv_bench_peer_allocate allocate);

/* 1, or 0: it failed. */
FOVEA_API int fv_bench_peer_run(void *state);
FOVEA_API void fv_bench_peer_close(void *state);

#ifdef __cplusplus
}
#endif
#endif /* FV_BENCH_PEER_H */

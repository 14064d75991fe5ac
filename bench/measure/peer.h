/* peer.h - fovea beside a peer: functions that a script in the peer's language calls by address.
 *
 * Built with fv_bench_flush into a shared library of the build folder, which is not installed. */
#ifndef FOVEA_BENCH_MEASURE_PEER_H
#define FOVEA_BENCH_MEASURE_PEER_H

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The state of calls on contiguous [batch, len, heads, dim] tensors. `row` is the name of a
 * prefill, decode or layer row, as in problem/problem.h; of a layer row q is x [batch, len, model],
 * k are the projections as in problem/tensors.h, and v is NULL. The calls run on the row's device,
 * where the tensors lie, on the default stream. A process stays with the device of its first call.
 * `allocate` gives memory of the device for the workspace, which stays the caller's; NULL: host
 * memory will do. Returns NULL if `row` is no such name, or something could not be had. */
typedef void *(*fv_bench_peer_allocate)(size_t bytes);
FOVEA_API void *fv_bench_peer_open(int threads, const char *row, void *q, void *k, void *v,
                                   void *out, fv_bench_peer_allocate allocate);

/* Returns 1, or 0 if it failed. */
FOVEA_API int fv_bench_peer_run(void *state);
FOVEA_API void fv_bench_peer_close(void *state);

#ifdef __cplusplus
}
#endif
#endif /* FOVEA_BENCH_MEASURE_PEER_H */

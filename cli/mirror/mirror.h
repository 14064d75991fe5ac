/* mirror.h - the library's calls on arguments in host memory, for every device.
 *
 * The CPU takes them as they are. For CUDA, all that a call reads or writes is copied to the
 * device, with the alignment it has here. What the call writes is copied back. */
#ifndef FOVEA_CLI_MIRROR_MIRROR_H
#define FOVEA_CLI_MIRROR_MIRROR_H

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As fovea_attention, and waits for the results. *seconds is the time of the call and the waiting,
 * without the copies. A failed copy returns what fovea_attention would return for such a failure.
 */
fovea_status fv_mirror_attention(fovea_handle *handle, const fovea_attention_args *args,
                                 double *seconds);

/* As fovea_kv_append and fovea_merge, and wait for the results. */
fovea_status fv_mirror_append(fovea_handle *handle, const fovea_kv_append_args *args);
fovea_status fv_mirror_merge(fovea_handle *handle, const fovea_merge_args *args);

/* The dtype to which the handle's kernels round probabilities, for fv_judge_options. */
uint32_t fv_mirror_weights_dtype(const fovea_handle *handle, const fovea_attention_args *args);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_MIRROR_MIRROR_H */

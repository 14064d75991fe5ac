/* mirror.h - the calls on arguments that lie in host memory, whatever the device.
 *
 * The CPU takes them as they are. For CUDA everything that the call reads or writes is copied to
 * the device, with the alignment it has here, and what it writes is copied back. */
#ifndef FV_MIRROR_H
#define FV_MIRROR_H

#include <fovea.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As fovea_attention, and waits for the results. *seconds is the time of the call and the waiting,
 * without the copies. Failures of the copies come back as fovea_attention's would. */
fovea_status fv_mirror_attention(fovea_handle *handle, const fovea_attention_args *args,
                                 double *seconds);

/* As fovea_kv_append and fovea_merge, and wait for the results. */
fovea_status fv_mirror_append(fovea_handle *handle, const fovea_kv_append_args *args);
fovea_status fv_mirror_merge(fovea_handle *handle, const fovea_merge_args *args);

/* The dtype that the handle's kernels round probabilities to: for fv_judge_options. */
uint32_t fv_mirror_weights_dtype(const fovea_handle *handle, const fovea_attention_args *args);

#ifdef __cplusplus
}
#endif

#endif /* FV_MIRROR_H */

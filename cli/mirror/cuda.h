/* cuda.h - the part of mirror/mirror.h that needs a CUDA driver. */
#ifndef FOVEA_CLI_MIRROR_CUDA_H
#define FOVEA_CLI_MIRROR_CUDA_H

#include <fovea.h>

fovea_status fv_mirror_attention_cuda(fovea_handle *handle, const fovea_attention_args *args,
                                      double *seconds);
fovea_status fv_mirror_append_cuda(fovea_handle *handle, const fovea_kv_append_args *args);
fovea_status fv_mirror_merge_cuda(fovea_handle *handle, const fovea_merge_args *args);

#endif /* FOVEA_CLI_MIRROR_CUDA_H */

/* mirror_cuda.h - the part of mirror.h that needs a CUDA driver. */
#ifndef FV_MIRROR_CUDA_H
#define FV_MIRROR_CUDA_H

#include "../include/fovea.h"

fovea_status fv_mirror_attention_cuda(fovea_handle *handle, const fovea_attention_args *args,
                                      double *seconds);

#endif /* FV_MIRROR_CUDA_H */

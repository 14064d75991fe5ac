/* rows.h - numbers all CUDA kernels of this build: the rows of shared/attention_fwd.def, then those
 * of shared/attention_prepare.def, shared/kv_append.def and shared/merge.def. */
#ifndef FOVEA_CSRC_CUDA_ROWS_H
#define FOVEA_CSRC_CUDA_ROWS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where each table's rows begin. */
enum {
  FV_CUDA_ATTENTION_ROWS = 0
#define FV_ATTENTION_FWD_ROW(...) +1
#include "kernels/shared/attention_fwd.def"
#undef FV_ATTENTION_FWD_ROW
  ,
  FV_CUDA_PREPARE_FIRST = FV_CUDA_ATTENTION_ROWS,
  FV_CUDA_APPEND_FIRST = FV_CUDA_PREPARE_FIRST
#define FV_ATTENTION_PREPARE_ROW(...) +1
#include "kernels/shared/attention_prepare.def"
#undef FV_ATTENTION_PREPARE_ROW
  ,
  FV_CUDA_MERGE_FIRST = FV_CUDA_APPEND_FIRST
#define FV_KV_APPEND_ROW(...) +1
#include "kernels/shared/kv_append.def"
#undef FV_KV_APPEND_ROW
};

/* What it takes to load and launch a kernel. */
typedef struct fv_cuda_kernel {
  const char *name; /* NULL: there is no such kernel */
  const void *image;
  int32_t shared_bytes; /* dynamic: what a launch asks for beyond what the kernel declares */
} fv_cuda_kernel;

fv_cuda_kernel fv_cuda_kernel_at(int32_t index);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_CUDA_ROWS_H */

/* rows.c - see rows.h. */
#include "csrc/cuda/rows.h"

#include "csrc/cuda/plan.h"

#define FV_ATTENTION_PREPARE_ROW(name, ...) extern const char fv_image_##name[];
#define FV_KV_APPEND_ROW(name, ...) extern const char fv_image_##name[];
#define FV_MERGE_ROW(name, ...) extern const char fv_image_##name[];
#include "kernels/shared/attention_prepare.def"
#include "kernels/shared/kv_append.def"
#include "kernels/shared/merge.def"
#undef FV_ATTENTION_PREPARE_ROW
#undef FV_KV_APPEND_ROW
#undef FV_MERGE_ROW

/* The rows of the other tables. Their kernels declare all shared memory that they take. */
static const fv_cuda_kernel support_kernels[] = {
#define FV_ATTENTION_PREPARE_ROW(name, ...) {#name, fv_image_##name, 0},
#define FV_KV_APPEND_ROW(name, ...) {#name, fv_image_##name, 0},
#define FV_MERGE_ROW(name, ...) {#name, fv_image_##name, 0},
#include "kernels/shared/attention_prepare.def"
#include "kernels/shared/kv_append.def"
#include "kernels/shared/merge.def"
#undef FV_ATTENTION_PREPARE_ROW
#undef FV_KV_APPEND_ROW
#undef FV_MERGE_ROW
};

enum { SUPPORT_KERNELS = sizeof support_kernels / sizeof support_kernels[0] };

fv_cuda_kernel fv_cuda_kernel_at(int32_t index) {
  const fv_cuda_row *row = fv_cuda_row_at(index);
  if (row) return (fv_cuda_kernel){row->kernel.name, row->image, row->shared_bytes};
  const int32_t other = index - FV_CUDA_ATTENTION_ROWS;
  return other >= 0 && other < SUPPORT_KERNELS ? support_kernels[other] : (fv_cuda_kernel){0};
}

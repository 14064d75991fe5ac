/* merge.c - see merge.h. */
#include "csrc/cuda/merge.h"

#include <string.h>

#include "csrc/cuda/queue.h"
#include "csrc/cuda/rows.h"
#include "csrc/cuda/view.h"
#include "csrc/status.h"
#include "kernels/shared/params_merge.h"
#include "kernels/shared/shape.h"

/* How many partials each row takes, in the order of the table. */
static const int32_t row_parts[] = {
#define FV_MERGE_ROW(name, parts) parts,
#include "kernels/shared/merge.def"
#undef FV_MERGE_ROW
};

enum { ROWS = sizeof row_parts / sizeof row_parts[0] };

/* The checks do not write to the caller's arrays outs and lses, so an unused stride may be anything
 * there. */
static fovea_tensor used_strides(const fovea_tensor *given) {
  fovea_tensor t = *given;
  for (int i = 0; i < 4; ++i) {
    if (t.shape[i] <= 1) t.stride[i] = 0;
  }
  return t;
}

static fv_merge_part make_part(const fovea_tensor *given_out, const fovea_tensor *given_lse) {
  const fovea_tensor out = used_strides(given_out), lse = used_strides(given_lse);
  return (fv_merge_part){fv_cuda_view(&out), fv_cuda_view(&lse), out.dtype,
                         fv_cuda_rows_aligned(&out)};
}

/* One lane per 8 elements, rounded up to a power of two, and at most a warp. */
static int32_t count_lanes(int64_t dim) {
  int32_t lanes = 1;
  while (lanes < 32 && lanes * 8 < dim) lanes *= 2;
  return lanes;
}

static void make_params(const fovea_merge_args *a, int32_t room, fv_merge_params *params) {
  const int64_t *shape = a->out.shape;
  params->head = (fv_merge_head){.merged = make_part(&a->out, &a->lse),
                                 .rows = shape[0] * shape[1] * shape[2],
                                 .len_q = shape[1],
                                 .heads = shape[2],
                                 .dim = (int32_t)shape[3],
                                 .count = a->count,
                                 .lanes = count_lanes(shape[3])};
  for (int32_t n = 0; n < a->count; ++n) {
    params->parts[n] = make_part(&a->outs[n], &a->lses[n]);
  }
  /* The launch copies `room` parts. Zeros keep bytes of our stack out of the unused ones. */
  memset(&params->parts[a->count], 0, (size_t)(room - a->count) * sizeof params->parts[0]);
}

fovea_status fv_choose_cuda_merge(const fv_merge_problem *problem, int32_t *row) {
  const int32_t count = problem->args.count;
  int32_t i = 0;
  while (i < ROWS && row_parts[i] < count) ++i;
  if (i == ROWS) {
    return fv_fail(FOVEA_UNSUPPORTED,
                   "count is %d: no CUDA kernel merges more than %d parts at a time; the CPU does",
                   (int)count, FV_MERGE_PARTS);
  }
  *row = FV_CUDA_MERGE_FIRST + i;
  return FOVEA_OK;
}

fovea_status fv_launch_cuda_merge(const fv_cuda_device *device, const fv_merge_problem *problem,
                                  fovea_stream stream) {
  const fovea_merge_args *a = &problem->args;
  const int64_t *shape = a->out.shape;
  fv_merge_params params;
  int32_t row = 0;
  /* Without elements and lse the tensors take no memory, so the product of extents may overflow. */
  if (shape[3] == 0 && a->lse.dtype == FOVEA_NONE) return FOVEA_OK;
  if (shape[0] == 0 || shape[1] == 0 || shape[2] == 0) return FOVEA_OK;
  FV_TRY(fv_choose_cuda_merge(problem, &row));
  make_params(a, row_parts[row - FV_CUDA_MERGE_FIRST], &params);
  const int64_t ctas = fv_ceil_div(params.head.rows, FV_MERGE_THREADS / params.head.lanes);
  const fv_cuda_launch launch = {
      .row = row,
      .grid = (int32_t)fv_min(ctas, (int64_t)FV_MERGE_RESIDENT * device->facts.sm_count),
      .threads = FV_MERGE_THREADS,
      .params = &params};
  return fv_queue_cuda(device, &launch, 1, stream);
}

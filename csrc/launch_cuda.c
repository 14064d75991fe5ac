/* launch_cuda.c - see launch_cuda.h. */
#include "launch_cuda.h"

#include "../kernels/params.h"
#include "../kernels/shape.h"
#include "context_cuda.h"
#include "module.h"
#include "row_cuda.h"

/* ---- Parameters ---- */

static fv_device_view device_view(const fovea_tensor *t) {
  if (t->dtype == FOVEA_NONE) return (fv_device_view){0};
  return (fv_device_view){t->data, t->stride[0], t->stride[1], t->stride[2]};
}

/* Whether all rows begin at multiples of 16 bytes. */
static uint32_t aligned_bit(const fovea_tensor *t, uint32_t bit) {
  int64_t odd = t->stride[0] | t->stride[1] | t->stride[2];
  return (uintptr_t)t->data % 16 == 0 && odd % 8 == 0 ? bit : 0;
}

/* The mask as [sequence, key]: the step from key to key takes the place of seq. */
static void set_mask(const fovea_tensor *mask, fv_attention_params *params) {
  if (mask->dtype == FOVEA_NONE) return;
  params->mask = (fv_device_view){mask->data, mask->stride[0], mask->stride[3], 0};
  params->mask_keys = mask->shape[3] == 1 ? INT32_MAX : (int32_t)mask->shape[3];
}

static fv_attention_params make_params(const fv_plan *plan, const fv_problem *problem) {
  const fovea_attention_args *a = &problem->args;
  static const float log2_e = 1.44269504f;
  fv_attention_params params = {
      .q = device_view(&a->q),
      .k = device_view(&a->k),
      .v = device_view(&a->v),
      .out = device_view(&a->out),
      .lse = device_view(&a->lse),
      .kv_lengths = a->kv_lengths,
      .errors = a->errors,
      .tiles = plan->tiles_bound,
      .row_tiles = fv_ceil_div(problem->rows * problem->group, plan->kernel->tile_q),
      .heads_kv = problem->heads_kv,
      .group = problem->group,
      .len_q = (int32_t)problem->rows,
      .len_kv = (int32_t)a->k.shape[1],
      .dim = problem->dim,
      .dim_v = problem->dim_v,
      .scale_log2e = problem->scale * log2_e,
  };
  set_mask(&a->mask, &params);
  if (a->causal) params.flags |= FV_FLAG_CAUSAL;
  if (a->alignment == FOVEA_ALIGN_TOP_LEFT) params.flags |= FV_FLAG_TOP_LEFT;
  params.aligned = aligned_bit(&a->q, FV_ALIGNED_Q) | aligned_bit(&a->k, FV_ALIGNED_K) |
                   aligned_bit(&a->v, FV_ALIGNED_V) | aligned_bit(&a->out, FV_ALIGNED_OUT);
  return params;
}

/* ---- The launch ---- */

static fovea_status launch(const fv_driver *driver, const fv_cuda_device *device,
                           const fv_plan *plan, const fv_problem *problem, CUstream stream) {
  CUfunction kernel;
  int32_t index = fv_cuda_row_index(plan->kernel);
  const fv_cuda_row *row = fv_cuda_row_at(index);
  FV_TRY(fv_context_need_device(driver, device, stream));
  FV_TRY(fv_module_kernel(driver, index, device->number, stream, &kernel));
  fv_attention_params params = make_params(plan, problem);
  void *arguments[] = {&params};
  CUlaunchConfig config = {.gridDimX = (unsigned)plan->workers,
                           .gridDimY = 1,
                           .gridDimZ = 1,
                           .blockDimX = (unsigned)row->threads,
                           .blockDimY = 1,
                           .blockDimZ = 1,
                           .sharedMemBytes = (unsigned)row->shared_bytes,
                           .hStream = stream};
  FV_DRIVER_TRY(driver, cuLaunchKernelEx, &config, kernel, arguments, NULL);
  return FOVEA_OK;
}

fovea_status fv_launch_cuda_attention(const fv_cuda_device *device, const fv_plan *plan,
                                      const fv_problem *problem, fovea_stream stream) {
  const fv_driver *driver;
  bool pushed;
  FV_TRY(fv_driver_open(&driver));
  fovea_status status = fv_context_enter(driver, device, stream, &pushed);
  bool queued = false;
  if (status == FOVEA_OK) {
    status = launch(driver, device, plan, problem, stream);
    queued = status == FOVEA_OK;
    status = fv_context_leave(driver, pushed, status);
  }
  /* The header knows two driver failures of a call: nothing was queued, or something was. */
  if (status == FOVEA_OUT_OF_MEMORY) status = FOVEA_DRIVER_ERROR;
  return queued && status != FOVEA_OK ? FOVEA_PARTIAL : status;
}

static fovea_status load_rows(const fv_driver *driver, const fv_cuda_device *device,
                              const fovea_limits *limits) {
  CUfunction kernel;
  for (int32_t row = 0; fv_cuda_row_at(row); ++row) {
    if (!fv_plan_cuda_can_choose(&device->facts, limits, row)) continue;
    FV_TRY(fv_module_kernel(driver, row, device->number, NULL, &kernel));
  }
  /* The limits say nothing of appending and merging, and so rule out none of it. */
  for (int32_t row = FV_CUDA_ATTENTION_ROWS; fv_cuda_kernel_at(row).name; ++row) {
    FV_TRY(fv_module_kernel(driver, row, device->number, NULL, &kernel));
  }
  return FOVEA_OK;
}

fovea_status fv_prepare_cuda(const fv_cuda_device *device, const fovea_limits *limits) {
  const fv_driver *driver;
  bool pushed;
  FV_TRY(fv_driver_open(&driver));
  FV_TRY(fv_context_enter(driver, device, NULL, &pushed));
  return fv_context_leave(driver, pushed, load_rows(driver, device, limits));
}

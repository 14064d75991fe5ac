/* launch_cuda.c - see launch_cuda.h.
 *
 * The context is the stream's. It is pushed only if it is not current, so that threads without a
 * context (Go, Rust) work and others pay nothing. The streams that belong to no context (NULL,
 * CU_STREAM_LEGACY, CU_STREAM_PER_THREAD) are those of the current context if that is of the
 * handle's device, else of the device's primary context. */
#include "launch_cuda.h"

#include "../kernels/params.h"
#include "../kernels/shape.h"
#include "driver.h"
#include "module.h"

/* ---- The context ---- */

static bool belongs_to_no_context(CUstream stream) {
  return stream == NULL || stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD;
}

/* The context that the call runs in; NULL: the current one. */
static fovea_status find_context(const fv_driver *driver, const fv_cuda_device *device,
                                 CUstream stream, CUcontext *context) {
  CUcontext current = NULL;
  CUdevice number = -1;
  *context = NULL;
  FV_DRIVER_TRY(driver, cuCtxGetCurrent, &current);
  if (!belongs_to_no_context(stream)) {
    FV_DRIVER_TRY(driver, cuStreamGetCtx, stream, context);
    if (*context == current) *context = NULL;
    return FOVEA_OK;
  }
  if (current == device->primary) return FOVEA_OK;
  if (current) FV_DRIVER_TRY(driver, cuCtxGetDevice, &number);
  if (number != device->number) *context = device->primary;
  return FOVEA_OK;
}

/* The current context is of the handle's device. */
static fovea_status need_device(const fv_driver *driver, const fv_cuda_device *device) {
  CUdevice number = -1;
  FV_DRIVER_TRY(driver, cuCtxGetDevice, &number);
  if (number == device->number) return FOVEA_OK;
  return fv_fail(FOVEA_BAD_ARGUMENT,
                 "stream belongs to CUDA device %d, must belong to the handle's, %d", number,
                 device->number);
}

/* Makes the stream's context current; *pushed says whether leave() has something to undo. */
static fovea_status enter(const fv_driver *driver, const fv_cuda_device *device, CUstream stream,
                          bool *pushed) {
  CUcontext context;
  *pushed = false;
  FV_TRY(find_context(driver, device, stream, &context));
  if (context) FV_DRIVER_TRY(driver, cuCtxPushCurrent, context);
  *pushed = context != NULL;
  return FOVEA_OK;
}

/* Undoes enter(), without losing the failure of what happened in between. */
static fovea_status leave(const fv_driver *driver, bool pushed, fovea_status status) {
  CUcontext context;
  if (!pushed) return status;
  CUresult result = driver->cuCtxPopCurrent(&context);
  if (result == CUDA_SUCCESS || status != FOVEA_OK) return status;
  return fv_driver_fail(driver, "cuCtxPopCurrent", result);
}

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

static void set_pages(const fv_problem *problem, fv_attention_params *params) {
  const fovea_pages *pages = &problem->args.pages;
  if (!problem->paged) return;
  params->pages = (fv_device_pages){.k_ids = pages->ids,
                                    .v_ids = pages->v_ids ? pages->v_ids : pages->ids,
                                    .offsets = pages->offsets,
                                    .row_stride = pages->row_stride,
                                    .count = pages->count,
                                    .pages = (int32_t)problem->args.k.shape[0],
                                    .page_len = (int32_t)problem->args.k.shape[1]};
}

/* In base 2. With a softcap the scores become tanh(scale * q.k / softcap) first, and exp(2 x) of it
 * is what the kernel needs. */
static void set_logits(const fv_problem *problem, fv_attention_params *params) {
  static const float log2_e = 1.44269504f;
  float softcap = problem->args.softcap;
  params->scale_log2e = (softcap > 0 ? softcap : problem->scale) * log2_e;
  params->softcap_scale = softcap > 0 ? 2 * log2_e * (problem->scale / softcap) : 0;
  params->sinks = problem->args.sinks;
}

static void set_positions(const fv_problem *problem, fv_attention_params *params) {
  const fovea_attention_args *a = &problem->args;
  params->q_position = a->q_position;
  params->kv_first = a->kv_first;
  params->kv_position = a->kv_position;
  params->key_stride = problem->kv_position_stride;
  params->window_left = problem->window_left;
  params->window_right = a->causal ? 0 : problem->window_right;
  if (a->alignment == FOVEA_ALIGN_TOP_LEFT) params->flags |= FV_FLAG_TOP_LEFT;
}

static fv_attention_params make_params(const fv_plan *plan, const fv_problem *problem) {
  const fovea_attention_args *a = &problem->args;
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
      .aligned = aligned_bit(&a->q, FV_ALIGNED_Q) | aligned_bit(&a->k, FV_ALIGNED_K) |
                 aligned_bit(&a->v, FV_ALIGNED_V) | aligned_bit(&a->out, FV_ALIGNED_OUT),
  };
  set_mask(&a->mask, &params);
  set_pages(problem, &params);
  set_positions(problem, &params);
  set_logits(problem, &params);
  return params;
}

/* ---- The launch ---- */

static fovea_status launch(const fv_driver *driver, const fv_cuda_device *device,
                           const fv_plan *plan, const fv_problem *problem, CUstream stream) {
  CUfunction kernel;
  int32_t index = fv_cuda_row_index(plan->kernel);
  const fv_cuda_row *row = fv_cuda_row_at(index);
  if (!belongs_to_no_context(stream)) FV_TRY(need_device(driver, device));
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
  fovea_status status = enter(driver, device, stream, &pushed);
  bool queued = false;
  if (status == FOVEA_OK) {
    status = launch(driver, device, plan, problem, stream);
    queued = status == FOVEA_OK;
    status = leave(driver, pushed, status);
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
  return FOVEA_OK;
}

fovea_status fv_prepare_cuda(const fv_cuda_device *device, const fovea_limits *limits) {
  const fv_driver *driver;
  bool pushed;
  FV_TRY(fv_driver_open(&driver));
  FV_TRY(enter(driver, device, NULL, &pushed));
  return leave(driver, pushed, load_rows(driver, device, limits));
}

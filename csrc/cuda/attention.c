/* attention.c - see attention.h. */
#include "csrc/cuda/attention.h"

#include "csrc/cuda/context.h"
#include "csrc/cuda/module.h"
#include "csrc/cuda/queue.h"
#include "csrc/cuda/rows.h"
#include "csrc/cuda/schedule.h"
#include "csrc/cuda/view.h"
#include "csrc/dtype.h"
#include "kernels/shared/params.h"
#include "kernels/shared/shape.h"

static const float log2_e = 1.44269504f;

/* ---- Parameters ---- */

/* Chunks of 16 codes may have an end of their own; those of eight 16-bit elements are whole. */
static uint32_t aligned_bit(const fovea_tensor *t, uint32_t bit) {
  const bool whole = fv_dtype_is_8bit(t->dtype) || t->shape[3] % FV_DIM_STEP == 0;
  return whole && fv_cuda_rows_aligned(t) ? bit : 0;
}

static fv_device_scale scale_of(const fovea_tensor *scale, int64_t dim) {
  if (scale->dtype == FOVEA_NONE) return (fv_device_scale){0};
  const int64_t blocks = scale->shape[3];
  return (fv_device_scale){.data = scale->data,
                           .batch = scale->shape[0] == 1 ? 0 : scale->stride[0],
                           .seq = scale->shape[1] == 1 ? 0 : scale->stride[1],
                           .head = scale->shape[2] == 1 ? 0 : scale->stride[2],
                           .block = scale->stride[3],
                           .blocks = (int32_t)blocks,
                           .block_len = (int32_t)(dim / blocks),
                           .type = scale->dtype};
}

/* The values of a sequence and kv head share a scale, unless it has blocks, or differs from token
 * to token or page to page. */
static void set_scales(const fv_problem *problem, fv_attention_params *params) {
  const fovea_attention_args *a = &problem->args;
  params->k_type = a->k.dtype;
  params->v_type = a->v.dtype;
  params->k_scale = scale_of(&a->k_scale, problem->dim);
  params->v_scale = scale_of(&a->v_scale, problem->dim_v);
  const fv_device_scale *of_v = &params->v_scale;
  const bool of_pages = problem->paged && of_v->batch != 0;
  if (of_v->blocks > 1 || of_v->seq != 0 || of_pages) params->flags |= FV_FLAG_VALUE_SCALES;
}

/* The mask as [sequence][key]: the view's stride of seq is the step from key to key. */
static void set_mask(const fovea_tensor *mask, fv_attention_params *params) {
  if (mask->dtype == FOVEA_NONE) return;
  params->mask = (fv_device_view){mask->data, mask->stride[0], mask->stride[3], 0};
  params->mask_keys = mask->shape[3] == 1 ? INT32_MAX : (int32_t)mask->shape[3];
}

static fv_device_plane plane_of(const fovea_tensor *t) {
  if (t->dtype == FOVEA_NONE) return (fv_device_plane){0};
  return (fv_device_plane){.data = t->data,
                           .sequence = t->stride[0],
                           .row = t->stride[1],
                           .head = t->stride[2],
                           .key = t->stride[3],
                           .rows = t->shape[1] == 1 ? INT32_MAX : (int32_t)t->shape[1],
                           .keys = t->shape[3] == 1 ? INT32_MAX : (int32_t)t->shape[3]};
}

static void set_tree(const fovea_tree *tree, fv_device_rules *rules) {
  rules->tree = tree->bits;
  rules->tree_words = tree->words;
  rules->tree_lengths = tree->lengths;
  rules->tree_starts = tree->starts;
}

/* Of the general class. Its scores become natural logits, so that biases can be added. */
static void set_rules(const fv_problem *problem, fv_attention_params *params) {
  const fovea_attention_args *a = &problem->args;
  const fovea_tensor *bias = &a->logits.bias;
  fv_device_rules *rules = &params->rules;
  rules->mask = plane_of(&a->visibility.mask);
  rules->bias = plane_of(bias);
  rules->bias_bytes = bias->dtype == FOVEA_F32 ? 4 : 2;
  rules->bias_bf16 = bias->dtype == FOVEA_BF16;
  rules->bias_scale = a->logits.bias_scale;
  rules->slopes = a->logits.alibi_slopes;
  rules->slope_stride = a->logits.alibi_stride;
  rules->distances = a->logits.distances.table;
  rules->distance_stride = a->logits.distances.head_stride;
  rules->distance_first = a->logits.distances.first;
  rules->distance_count = a->logits.distances.count;
  rules->prefix_lengths = a->visibility.prefix_lengths;
  rules->spans = a->visibility.spans;
  rules->span_left = problem->span_left;
  rules->span_right = problem->span_right;
  set_tree(&a->visibility.tree, rules);
  rules->scale = a->logits.softcap > 0 ? a->logits.softcap : problem->scale;
  params->scale_log2e = log2_e;
}

static void set_pages(const fv_problem *problem, fv_attention_params *params) {
  const fovea_pages *pages = &problem->args.sequences.pages;
  if (!problem->paged) return;
  params->pages = (fv_device_pages){.k_ids = pages->ids,
                                    .v_ids = pages->v_ids,
                                    .offsets = pages->offsets,
                                    .row_stride = pages->row_stride,
                                    .head_stride = pages->head_stride,
                                    .count = pages->count,
                                    .pages = (int32_t)problem->args.k.shape[0],
                                    .page_len = (int32_t)problem->args.k.shape[1]};
}

/* Factors for base 2. With a softcap the scores first become tanh(x), x = scale * q.k / softcap.
 * The kernel computes tanh(x) from exp(2 x), so its factor is 2 log2(e) * scale / softcap. */
static void set_logits(const fv_problem *problem, fv_attention_params *params) {
  float softcap = problem->args.logits.softcap;
  params->scale_log2e = (softcap > 0 ? softcap : problem->scale) * log2_e;
  params->softcap_scale = softcap > 0 ? 2 * log2_e * (problem->scale / softcap) : 0;
  params->sinks = problem->args.logits.sinks;
}

static void set_positions(const fv_problem *problem, fv_attention_params *params) {
  const fovea_attention_args *a = &problem->args;
  params->q_position = a->positions.q;
  params->kv_first = a->sequences.kv_first;
  params->kv_position = a->positions.kv;
  params->key_stride = problem->kv_position_stride;
  params->window_left = problem->window_left;
  params->window_right = problem->window_right;
  if (a->positions.alignment == FOVEA_ALIGN_TOP_LEFT) params->flags |= FV_FLAG_TOP_LEFT;
}

static void set_schedule(const fv_plan *plan, const fv_problem *problem,
                         fv_attention_params *params) {
  char *workspace = problem->args.workspace;
  const fv_cuda_plan *cuda = &plan->cuda;
  const fv_cuda_layout *layout = &cuda->layout;
  params->park_mask = cuda->parked_floats ? FV_PARK_KEYS - 1 : UINT32_MAX;
  if (cuda->parked_floats) params->parked = (float *)(workspace + layout->parked);
  if (!cuda->scheduled) return;
  fv_device_schedule *to = &params->schedule;
  params->flags |= cuda->cut;
  to->totals = (fv_placed_line *)(workspace + layout->totals);
  to->sequences = (fv_placed_sequence *)(workspace + layout->sequences);
  to->arrived = (uint32_t *)(workspace + layout->arrived);
  to->workers = plan->workers;
  for (int line = 0; line < FV_LINES; ++line) {
    to->lines[line] = (fv_device_line){.tiles = (fv_placed_tile *)(workspace + layout->tiles[line]),
                                       .arrived = to->arrived + to->places,
                                       .partials = (float *)(workspace + layout->partials[line]),
                                       .partial_floats = cuda->lines[line].partial_floats};
    to->places += cuda->lines[line].partials;
  }
}

static fv_attention_params make_params(const fv_plan *plan, const fv_problem *problem) {
  const fovea_attention_args *a = &problem->args;
  fv_attention_params params = {
      .q = fv_cuda_view(&a->q),
      .k = fv_cuda_view(&a->k),
      .v = fv_cuda_view(&a->v),
      .out = fv_cuda_view(&a->out),
      .lse = fv_cuda_view(&a->lse),
      .q_offsets = a->sequences.q_offsets,
      .q_lengths = a->sequences.q_lengths,
      .kv_offsets = a->sequences.kv_offsets,
      .kv_lengths = a->sequences.kv_lengths,
      .errors = a->errors,
      .sequences = problem->sequences,
      .tiles = plan->tiles_bound,
      .row_tiles = fv_ceil_div(problem->rows * problem->group, plan->kernel->tile_q),
      .tile_q = plan->tile_q,
      .tile_kv = plan->tile_kv,
      .heads_kv = problem->heads_kv,
      .group = problem->group,
      .len_q = (int32_t)problem->rows,
      .len_kv = (int32_t)a->k.shape[1],
      .dim = problem->dim,
      .dim_v = problem->dim_v,
      .aligned = aligned_bit(&a->q, FV_ALIGNED_Q) | aligned_bit(&a->k, FV_ALIGNED_K) |
                 aligned_bit(&a->v, FV_ALIGNED_V) | aligned_bit(&a->out, FV_ALIGNED_OUT),
  };
  set_scales(problem, &params);
  set_mask(&a->visibility.mask, &params);
  set_pages(problem, &params);
  set_positions(problem, &params);
  set_logits(problem, &params);
  if (fv_cuda_row_at(fv_cuda_row_index(plan->kernel))->general) set_rules(problem, &params);
  set_schedule(plan, problem, &params);
  return params;
}

/* ---- The launch ---- */

/* FOVEA_ALLOW_DEPENDENT_LAUNCH concerns the first launch, which follows the caller's work. The
 * second follows our own, so it may always start early: its kernel waits for the first. */
fovea_status fv_launch_cuda_attention(const fv_cuda_device *device, const fv_plan *plan,
                                      const fv_problem *problem, fovea_stream stream) {
  fv_attention_params params = make_params(plan, problem);
  int32_t index = fv_cuda_row_index(plan->kernel);
  bool early = problem->args.flags & FOVEA_ALLOW_DEPENDENT_LAUNCH;
  const fv_cuda_launch attend = {.row = index,
                                 .grid = plan->workers,
                                 .threads = fv_cuda_row_at(index)->threads,
                                 .early = plan->cuda.scheduled || early,
                                 .params = &params};
  const fv_cuda_launch launches[] = {{.row = FV_CUDA_PREPARE_FIRST,
                                      .grid = 1,
                                      .threads = FV_PREPARE_THREADS,
                                      .early = early,
                                      .params = &params},
                                     attend};
  if (plan->cuda.scheduled) return fv_queue_cuda(device, launches, 2, stream);
  return fv_queue_cuda(device, &attend, 1, stream);
}

static fovea_status load_rows(const fv_driver *driver, const fv_cuda_device *device,
                              const fovea_limits *limits) {
  CUfunction kernel;
  for (int32_t row = 0; fv_cuda_row_at(row); ++row) {
    if (!fv_plan_cuda_can_choose(&device->facts, limits, row)) continue;
    FV_TRY(fv_module_kernel(driver, row, device->number, NULL, &kernel));
  }
  /* The limits say nothing about the other kernels (prepare, append, merge), so all are loaded. */
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

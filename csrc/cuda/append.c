/* append.c - see append.h. */
#include "csrc/cuda/append.h"

#include "csrc/cuda/queue.h"
#include "csrc/cuda/rows.h"
#include "csrc/cuda/view.h"
#include "csrc/dtype.h"
#include "csrc/status.h"
#include "kernels/shared/params_append.h"
#include "kernels/shared/shape.h"

static const int32_t row_threads[] = {
#define FV_KV_APPEND_ROW(name, threads) threads,
#include "kernels/shared/kv_append.def"
#undef FV_KV_APPEND_ROW
};

/* Heads of tokens to write to both caches, at most: the host does not know packed lengths. 0 if
 * heads have no elements: those take no memory, so there may be 2^62 of them. */
static double count_heads(const fv_append_problem *problem) {
  const fovea_kv_append_args *a = &problem->args;
  const double tokens = (double)problem->rows * (problem->packed ? 1.0 : problem->sequences);
  const int sides = (a->k_new.shape[3] > 0) + (a->v_new.shape[3] > 0);
  return tokens * problem->heads_kv * sides;
}

/* Whether eight elements of any row of the cache are one store: of 8 bytes if they are bytes.
 * Unused strides must be 0. */
static bool has_aligned_rows(const fovea_tensor *cache) {
  if (!fv_dtype_is_8bit(cache->dtype)) return fv_cuda_rows_aligned(cache);
  const int64_t odd = cache->stride[0] | cache->stride[1] | cache->stride[2];
  return (uintptr_t)cache->data % 8 == 0 && odd % 8 == 0;
}

static fv_append_scale make_scale(const fovea_tensor *scale, const fovea_tensor *cache) {
  if (scale->dtype == FOVEA_NONE) return (fv_append_scale){0};
  return (fv_append_scale){.data = scale->data,
                           .batch = scale->stride[0],
                           .seq = scale->stride[1],
                           .head = scale->stride[2],
                           .block = scale->stride[3],
                           .block_len = (int32_t)(cache->shape[3] / scale->shape[3]),
                           .type = scale->dtype};
}

static fv_append_side make_side(const fovea_tensor *from, const fovea_tensor *to,
                                const fovea_tensor *scale, const int32_t *ids) {
  return (fv_append_side){.from = fv_cuda_view(from),
                          .to = fv_cuda_view(to),
                          .scale = make_scale(scale, to),
                          .ids = ids,
                          .from_type = from->dtype,
                          .to_type = to->dtype,
                          .dim = (int32_t)to->shape[3],
                          .aligned = (fv_cuda_rows_aligned(from) ? FV_APPEND_FROM_ALIGNED : 0) |
                                     (has_aligned_rows(to) ? FV_APPEND_TO_ALIGNED : 0)};
}

static bool is_table_aligned(const fovea_rope *rope) {
  return (uintptr_t)rope->cos % 16 == 0 && (uintptr_t)rope->sin % 16 == 0 && rope->stride % 4 == 0;
}

static void set_rope(const fovea_rope *rope, fv_append_params *params) {
  if (!rope->cos) return;
  params->cos = rope->cos;
  params->sin = rope->sin;
  params->rope_positions = rope->rows;
  params->rope_stride = rope->rows > 1 ? rope->stride : 0;
  params->sides[0].half = rope->rotary_dim / 2;
  if (rope->style == FOVEA_ROPE_INTERLEAVED) params->flags |= FV_APPEND_INTERLEAVED;
  if (is_table_aligned(rope)) params->flags |= FV_APPEND_TABLE_ALIGNED;
}

/* k is side 0 if present, since only keys are rotated. */
static void set_sides(const fovea_kv_append_args *a, fv_append_params *params) {
  const fovea_pages *pages = &a->sequences.pages;
  const fovea_tensor *cache = a->k_cache.dtype ? &a->k_cache : &a->v_cache;
  if (a->k_new.dtype) {
    params->sides[params->side_count++] =
        make_side(&a->k_new, &a->k_cache, &a->k_scale, pages->ids);
  }
  if (a->v_new.dtype) {
    params->sides[params->side_count++] =
        make_side(&a->v_new, &a->v_cache, &a->v_scale, pages->v_ids);
  }
  params->cache_rows = cache->shape[0];
  params->cache_slots = cache->shape[1];
}

static fv_append_params make_params(const fv_append_problem *problem) {
  const fovea_kv_append_args *a = &problem->args;
  fv_append_params params = {.new_offsets = a->sequences.q_offsets,
                             .kv_lengths = a->sequences.kv_lengths,
                             .page_offsets = a->sequences.pages.offsets,
                             .positions = a->rope.positions,
                             .slots = a->slots,
                             .errors = a->errors,
                             .sequences = problem->sequences,
                             .rows = problem->rows,
                             .page_stride = a->sequences.pages.row_stride,
                             .page_count = a->sequences.pages.count,
                             .heads = problem->heads_kv,
                             .flags = problem->packed ? FV_APPEND_PACKED : 0};
  set_sides(a, &params);
  set_rope(&a->rope, &params);
  return params;
}

fovea_status fv_choose_cuda_append(const fv_append_problem *problem, int32_t *row) {
  const fovea_kv_append_args *a = &problem->args;
  if (a->q.dtype) return fv_fail(FOVEA_UNSUPPORTED, "no CUDA kernel prepares q; the CPU does");
  if (a->k_norm.gain || a->v_norm.gain) {
    return fv_fail(FOVEA_UNSUPPORTED, "no CUDA kernel has %s; the CPU has",
                   a->k_norm.gain ? "k_norm" : "v_norm");
  }
  if (fv_dtype_is_blocks(a->k_cache.dtype) || fv_dtype_is_blocks(a->v_cache.dtype)) {
    return fv_fail(
        FOVEA_UNSUPPORTED, "no CUDA kernel appends to %s; the CPU does",
        fv_dtype_name(fv_dtype_is_blocks(a->k_cache.dtype) ? a->k_cache.dtype : a->v_cache.dtype));
  }
  if (a->sequences.q_lengths) {
    return fv_fail(FOVEA_UNSUPPORTED, "no CUDA kernel appends with q_lengths; the CPU does");
  }
  *row = FV_CUDA_APPEND_FIRST;
  return FOVEA_OK;
}

fovea_status fv_launch_cuda_append(const fv_cuda_device *device, const fv_append_problem *problem,
                                   fovea_stream stream) {
  const double heads = count_heads(problem);
  int32_t row = 0;
  if (problem->empty || heads == 0) return FOVEA_OK;
  FV_TRY(fv_choose_cuda_append(problem, &row));
  fv_append_params params = make_params(problem);
  const int32_t threads = row_threads[0], most = FV_APPEND_RESIDENT * device->facts.sm_count;
  const double ctas = heads / (threads / 32); /* one warp per head */
  const fv_cuda_launch launch = {.row = row,
                                 .grid = ctas < 1      ? 1
                                         : ctas < most ? (int32_t)ctas
                                                       : most,
                                 .threads = threads,
                                 .params = &params};
  return fv_queue_cuda(device, &launch, 1, stream);
}

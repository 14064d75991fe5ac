/* attend_row.c - what both ways through the backend do row by row: they mask before softmax, and
 * store the result after it. See attend.h. */
#include <math.h>
#include <string.h>

#include "csrc/cpu/attend.h"
#include "csrc/host/element.h"

/* ---- Masks ---- */

bool fv_needs_masks(const fv_attend_worker *w, const fv_seen_keys *seen) {
  return w->job->row_masks || fv_overlaps(seen->span, fv_tile_keys(w->keys));
}

void fv_hide_unseen(fv_attend_worker *w, const fv_row_mask *masks, int32_t rows) {
  fv_key_tile *keys = w->keys;
  uint8_t seen[FV_TILE_KV_MAX] = {0}, visible[FV_TILE_KV_MAX];
  for (int32_t r = 0; r < rows; ++r) {
    fv_find_visible(&masks[r], keys->live, keys->begin, keys->from, keys->to, visible, &w->errors);
    for (int32_t j = keys->from; j < keys->to; ++j) seen[j] |= visible[j];
  }
  for (int32_t j = keys->from; j < keys->to; ++j) {
    if (!seen[j]) keys->v[j] = fv_zero_row;
  }
}

static void mask_elements(fv_attend_worker *w, const fv_row_mask *mask, fv_tile_range keys,
                          float *scores) {
  int32_t from = keys.begin, to = keys.end;
  uint8_t visible[FV_TILE_KV_MAX];
  fv_find_visible(mask, w->keys->live, w->keys->begin, from, to, visible, &w->errors);
  if (w->job->scores_are_logits) fv_add_to_logits(mask, visible, w->keys->begin, from, to, scores);
  for (int32_t j = from; j < to; ++j) scores[j] = visible[j] ? scores[j] : -INFINITY;
}

void fv_mask_scores(fv_attend_worker *w, const fv_row_mask *mask, fv_range window,
                    fv_tile_range keys, float *scores) {
  const fv_attend_job *job = w->job;
  const fv_problem *p = job->problem;
  int32_t from = keys.begin, to = keys.end;
  if (job->scores_are_logits) {
    job->kernels->scale_scores(scores + from, to - from, p->scale, p->args.logits.softcap);
  }
  if (mask) {
    mask_elements(w, mask, keys, scores);
    return;
  }
  int64_t begin = w->keys->begin;
  int64_t low = fv_clamp(window.begin - begin, from, to);
  int64_t high = fv_clamp(window.end - begin, low, to);
  for (int64_t j = from; j < low; ++j) scores[j] = -INFINITY;
  for (int64_t j = high; j < to; ++j) scores[j] = -INFINITY;
  for (int64_t j = low; !w->keys->whole && j < high; ++j) {
    if (!w->keys->live[j]) scores[j] = -INFINITY; /* on a bad page */
  }
}

/* ---- Results ---- */

/* A row's sum, relative to exp(maximum). The maximum is a natural logit. */
typedef struct row_total {
  double maximum, sum;
} row_total;

/* Adds the sink to the sum, as a logit without a value. Returns the factor for out. */
static double add_sink(double sink, row_total *total) {
  double next = sink > total->maximum ? sink : total->maximum;
  if (next == -INFINITY) return 1;
  double rescale = exp(total->maximum - next);
  total->sum = total->sum * rescale + exp(sink - next);
  total->maximum = next;
  return rescale;
}

static void divide_by_scales(const fv_problem *p, fv_place place, int64_t head, float *values) {
  for (int32_t d = 0; d < p->dim_v; ++d) {
    values[d] /= fv_scale_at(&p->args.out_scale, place.outer, place.inner, head, d, p->dim_v);
  }
}

/* Writes sums * factor to out. */
static void store_out(const fv_attend_job *job, fv_place place, int64_t head, const double *sums,
                      double factor) {
  const fovea_tensor *out = &job->problem->args.out;
  int32_t dim_v = job->problem->dim_v;
  int64_t offset = fv_row_offset(out, place.outer, place.inner, head);
  if (out->dtype == FOVEA_F32 && !job->problem->args.out_scale.dtype) {
    job->kernels->scale_sums((float *)out->data + offset, sums, factor, dim_v);
    return;
  }
  float values[FV_DIM_V_MAX];
  job->kernels->scale_sums(values, sums, factor, job->dim_v);
  if (job->problem->args.out_scale.dtype) divide_by_scales(job->problem, place, head, values);
  if (fv_is_wide_dtype(out->dtype)) {
    uint16_t *to = (uint16_t *)out->data + offset, narrowed[FV_DIM_V_MAX];
    bool whole = dim_v % FV_DIM_STEP == 0; /* or the kernel would write past the row's end */
    job->kernels->narrow(whole ? to : narrowed, values, out->dtype, job->dim_v);
    if (!whole) memcpy(to, narrowed, (size_t)dim_v * sizeof *to);
    return;
  }
  for (int32_t d = 0; d < dim_v; ++d) fv_store_f32(out->dtype, out->data, offset + d, values[d]);
}

void fv_store_result(const fv_attend_job *job, const fv_sequence *sequence, int64_t position,
                     int64_t head, fv_row_state state, const double *out) {
  const fv_problem *p = job->problem;
  const fovea_tensor *lse = &p->args.lse;
  fv_place place = {sequence->q_batch, sequence->q_begin + position};
  row_total total = {state.maximum, state.sum};
  double rescale = 1;
  if (!job->scores_are_logits) total.maximum *= p->scale;
  if (p->args.logits.sinks) rescale = add_sink(p->args.logits.sinks[head], &total);

  /* A row whose scores are all NaN has the maximum -inf too, since NaN is never larger. Its sum is
   * NaN. */
  static const double nothing[FV_DIM_V_MAX];
  bool empty = total.maximum == -INFINITY && total.sum == 0;
  store_out(job, place, head, empty ? nothing : out, empty ? 1 : rescale / total.sum);
  if (lse->dtype) {
    double value = empty ? -INFINITY : total.maximum + log(total.sum);
    ((float *)lse->data)[fv_row_offset(lse, place.outer, place.inner, head)] = (float)value;
  }
}

/* reference.h - the judge: attention in double precision, the header's formula as loops. */
#ifndef FOVEA_CSRC_REFERENCE_REFERENCE_H
#define FOVEA_CSRC_REFERENCE_REFERENCE_H

#include "csrc/host/parallel.h"
#include "csrc/host/row_mask.h"
#include "csrc/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One output row in double precision, with the magnitudes that error bounds consist of. */
typedef struct fv_reference_row {
  double out[FV_DIM_V_MAX];
  double lse;
  double magnitude[FV_DIM_V_MAX]; /* sum_j w_j |v_j| */
  double noise[FV_DIM_V_MAX];     /* sqrt(sum_j max(w_j, weight_floor / sum)^2 v_j^2) */
  double spread[FV_DIM_V_MAX];    /* sum_j |v_j| over visible keys */
  double lowest[FV_DIM_V_MAX];    /* the least v whose weight may not be 0: see below */
  double highest[FV_DIM_V_MAX];   /* the largest such v */
  double logit;                   /* the largest sum of magnitudes in a visible logit, or |sink| */
  double dot;                     /* the largest |scale * q.k| of a visible key */
  double sum;                     /* sum_j exp(t_j - m), m = max_j t_j; both with the sink */
  int64_t visible;                /* keys seen */
  bool finite;                    /* every logit and value seen is finite */
} fv_reference_row;

/* Computes one row of one query head. weight_floor serves `noise`: the least exp(t_j - m) that
 * rounds like a normal number in the type of rounded probabilities; 0 if they are not rounded.
 * *errors collects bits.
 *
 * out lies between lowest and highest. They are the extremes of v over the visible keys whose
 * weight in f32 may not be 0, and of 0 if the sink's may not be. The other keys have logits more
 * than 104 below the largest, even with the errors of f32, so their weights are below 2^-150. Both
 * extremes are 0 if the row sees nothing. */
void fv_reference_attend(const fv_problem *problem, const fv_sequence *sequence, int64_t row,
                         int64_t head, double weight_floor, fv_reference_row *result,
                         uint32_t *errors);

/* The device FOVEA_DEVICE_REFERENCE. Its plan has the same kernel and tiles for every problem. */
void fv_plan_reference(int32_t threads, const fv_problem *problem, fv_plan *plan);
void fv_reference_attention(const fv_problem *problem, fv_parallel parallel);
void fv_reference_weights(const fv_weights_problem *problem, fv_parallel parallel);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CSRC_REFERENCE_REFERENCE_H */

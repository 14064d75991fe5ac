/* reference.h - the judge: attention in double precision, the header's formula as loops. */
#ifndef FV_REFERENCE_H
#define FV_REFERENCE_H

#include "csrc/host/parallel.h"
#include "csrc/host/row_mask.h"
#include "csrc/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One output row in double precision, with the magnitudes that error bounds are made of. */
typedef struct fv_reference_row {
  double out[FV_DIM_V_MAX];
  double lse;
  double magnitude[FV_DIM_V_MAX]; /* sum_j w_j |v_j| */
  double noise[FV_DIM_V_MAX];     /* sqrt(sum_j max(w_j, floor)^2 v_j^2) */
  double spread[FV_DIM_V_MAX];    /* sum_j |v_j| over visible keys */
  double lowest[FV_DIM_V_MAX];    /* the least v that may weigh something: see below */
  double highest[FV_DIM_V_MAX];   /* the largest */
  double logit;                   /* the largest sum of magnitudes behind a visible logit */
  double dot;                     /* the largest |scale * q.k| of a visible key */
  double sum;                     /* sum_j exp(t_j - max_j t_j), the sink included */
  int64_t visible;                /* keys seen */
  bool finite;                    /* every key and value seen is finite */
} fv_reference_row;

/* out lies between lowest and highest: those of the v of all visible keys whose weight in f32 need
 * not be 0, and 0 if there is a sink. Keys whose logits, as far as f32 can err, lie more than 104
 * below the largest have weights below 2^-150. Both are 0 if the row sees nothing.
 *
 * Computes row i of query head h. weight_floor: the least weight that rounds like a normal number
 * in the type that probabilities are rounded to (for `noise`); 0 if none. *errors collects bits. */
void fv_reference_attend(const fv_problem *problem, const fv_sequence *sequence, int64_t row,
                         int64_t head, double weight_floor, fv_reference_row *result,
                         uint32_t *errors);

/* The device FOVEA_DEVICE_REFERENCE, whose plan is the same for every problem. */
void fv_plan_reference(int32_t threads, const fv_problem *problem, fv_plan *plan);
void fv_reference_attention(const fv_problem *problem, fv_parallel parallel);
void fv_reference_weights(const fv_weights_problem *problem, fv_parallel parallel);

#ifdef __cplusplus
}
#endif

#endif /* FV_REFERENCE_H */

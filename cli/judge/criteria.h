/* criteria.h - when is a computed result right? Bounds on the error against double precision.
 *
 * u is the unit roundoff of the output's type, or of the type to which probabilities are rounded
 * if that is coarser. u32 = 2^-24, w are the weights, O is the exact output:
 *
 *   A = sum_j w_j |v_j|         what rounding is relative to
 *   R = sqrt(sum_j w_j^2 v_j^2)  how roundings of independent sign add up
 *   S = the largest sum of magnitudes behind a logit: scaled products, bias, ALiBi, sink
 *   M = the largest |scale q.k|
 *   n = visible keys
 *   L = max(8 S, D M)                    errors of logits in f32, in u32; D follows below
 *   N = max(8, sum(n, 8))                errors of weights and of sums over keys, in u32
 *   F = u32 (L + N) A                    all effects of f32 arithmetic
 *
 *   C1   each element    |e| <= u max(2 A, A + 2 |O|) + F
 *   C1s  each element    |e| <= u |O| + 4 u R + F
 *   C2   each row        ||e|| <= 1.5 (u sqrt(||O||^2 + ||R||^2) + ||F||)      dim_v >= 64
 *   C3   the tensor      the same with factor 0.8, or 1 if v is in blocks     >= 4096 elements
 *   C4   each lse        |e| <= u32 (L + N + 4 |lse|); -inf exactly
 *   C5   each element    |e| <= F, where probabilities stay in f32, as on the CPU;
 *                        if out is not f32, e is what one rounding to it does not explain
 *   C6   fp8 products    |e| <= A / 16, and ||e|| <= 0.04 ||O|| over the tensor
 *   C7   8-bit k or v    C1 and C1s against the dequantised cache; of q8_0 and q4_0, too: 11 bits
 *                        of a block's scale times 8 are exact in f32, so that nothing is added
 *   C8   v of one sign   |e| <= 2 units in the last place of the output's type, + F
 *   C9   append          bit by bit
 *   C10  hull            each element lies between the least and the largest v of its column, + H
 *
 * C1 is what rounding can do at most: weights are off by u w each, which is u A in the sum over v
 * and u |O| in the sum that divides it, and the result is rounded once more. Where values have one
 * sign, all three may be as large as u A; a row of some few keys comes near to that. Where
 * probabilities stay in f32, |O| does not count.
 *
 * Underflow adds to every bound on elements:
 *   - half the smallest step of the output's type;
 *   - half the smallest step of the probabilities' type for every key, times sum_j |v_j| / z. f16
 *     counts as if it had 11 more binades: a row's largest probability is stored as 2^11 or more.
 *     In bf16 it is 2^-122, as the largest is 2^-4 or more and what is below 2^-126 is 0;
 *   - half the smallest step of f32 for every key's product, n 2^-150 / z.
 *
 * Sums. f32 adds up blocks of at most 64 terms from zero, and at most 8 (of keys) or 9 (of dims)
 * such blocks, whatever the number of terms. Sums beyond that are added in double precision. An
 * addition is off by at most half a unit of its result. Among data that nobody made to order, a
 * chain of m equal terms is the worst: while the sum runs through one binade, each addition rounds
 * by the same amount. The upper half of the chain alone is then off by up to u32 (m / 2)^2:
 * u32 m / 4 relative to the sum m. The lower binades round by other amounts, and make it
 * u32 (m + 2) / 4 in all (10^6 terms tried: 16.5 u32 at m = 64). Terms of all sizes are off by some
 * sqrt(m) / 4. A path through a block and the sum of `blocks` blocks has at most
 * min(n + 1, 64 + blocks) terms. The roundings of each product and of the result add 2:
 *
 *   sum(n, blocks) = 2 + (min(n + 1, 64 + blocks) + 4) / 4
 *
 * This is at most 21 for keys and 21.25 for dims. Chains that are not cut exceed it from 100 terms
 * on. The CPU cuts a dot every 64 dims: D = sum(dim, 9). Tensor cores, the devices that round
 * probabilities, add all dims of a dot to one f32 sum: D = sum(dim, dim) = (dim + 13) / 4. Hardware
 * adds 8 or 16 products at a time and cuts off where this chain rounds. Fasi et al. (PeerJ CS 2021)
 * find some 28 units at 128 dims on an A100, and half that on Hopper; D is 35 there.
 *
 * An additive score has terms v tanh(q + k), and S has |v| min(1, |q| + |k|) for each: a rounding
 * of q + k does no more. tanh is off by 7 u32 and q + k by 1, all perhaps in one direction. So L is
 * larger by 8 S. A scale rounds q or k, and where they nearly cancel that moves the tanh by more
 * than its size: by u32 of theirs times the slope of tanh. S counts an eighth of this too.
 *
 * In N, sum(n, 8) is an alternative to 8, which bounds the errors of weights. Equal terms have
 * equal weights, whose errors cancel in out. In L, D M is an alternative to 8 S, which bounds the
 * errors of dots of mixed signs.
 *
 * The hull. out is a weighted mean of v, whatever became of the logits. The errors left are those
 * of the sums over keys, of weights and of products, and the rounding of weights for one of the
 * two sums. Relative to V, the largest |v| of the column:
 *
 *   H = (u32 (2 T + 3) + u') V + u (V + that)
 *
 * u' and u belong to the weights' and the output's types; u' = 0 where weights stay in f32. There
 * are T = min(n, 72) additions at most, each off by u32 of the sum so far. Here logits may be any
 * distance apart: a block in which one key's weight stands before 63 vanishing ones is off by all
 * of them. (Where S is that large, F covers it.) For large S, F is above V and only the hull
 * is left. Keys whose weight is certainly 0 do not count. With a sink, 0 counts as a value.
 *
 * Blanchard, Higham and Higham analyse the rounding errors of a softmax (IMA J. Numer. Anal. 2021).
 * The constants 2, 4, 1.5, 0.8 and 8 were fitted to emulated kernels, where the worst ratio
 * error / bound was 0.95 (C1), 0.8 (C1s), 0.82 (C2), 0.69 (C3), 0.43 (C4) and 0.33 (C5). */
#ifndef FOVEA_CLI_JUDGE_CRITERIA_H
#define FOVEA_CLI_JUDGE_CRITERIA_H

#include "csrc/problem.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum fv_criterion {
  FV_C1,
  FV_C1S,
  FV_C2,
  FV_C3,
  FV_C4,
  FV_C5,
  FV_C6,
  FV_C7,
  FV_C8,
  FV_C9,
  FV_C10,
  FV_CRITERIA
} fv_criterion;

const char *fv_criterion_name(fv_criterion criterion); /* "C1", "C1s", ... */

/* The first element that breaks a bound, if one does. */
typedef struct fv_bad_element {
  bool any;
  fv_criterion criterion;
  const char *tensor; /* "out", "lse", "weights", ... */
  int64_t index[4];   /* [batch, seq, head, dim] of the tensor */
  double got, expected;
} fv_bad_element;

typedef struct fv_verdict {
  double worst[FV_CRITERIA]; /* largest error / bound; above 1 fails */
  bool applies[FV_CRITERIA];
  int64_t compared; /* numbers looked at */
  int64_t exempt;   /* numbers without a bound: their row saw infinities or NaN */
  fv_bad_element first_bad;
} fv_verdict;

/* How a row is judged: not at all; by the reference; or, against expected tensors only, with
 * magnitudes that bound the row's own from above. */
typedef enum fv_row_judgement {
  FV_ROW_SKIPPED,
  FV_ROW_BY_REFERENCE,
  FV_ROW_BY_BOUNDS
} fv_row_judgement;

struct fv_sequence;
struct fv_reference_row;

/* Asked before each row, in order of sequence, row and head. For FV_ROW_BY_BOUNDS it fills in
 * *bounds; weight_floor is as in fv_reference_attend. */
typedef fv_row_judgement fv_choose_row(void *context, const struct fv_sequence *sequence,
                                       int64_t row, int64_t head, double weight_floor,
                                       struct fv_reference_row *bounds);

/* How the kernel under judgement rounds probabilities, and how much of a problem to look at. */
typedef struct fv_judge_options {
  uint32_t weights_dtype; /* FOVEA_F32 on the CPU; what the kernel table says elsewhere */
  int64_t rows_at_most;   /* per (sequence, head): rows evenly spread; 0: all */
  int64_t first_row;      /* with rows_at_most: where the spread begins, modulo its step */
  const fovea_tensor *expected_out; /* judge against these instead of the reference's out: */
  const fovea_tensor *expected_lse; /* f32, f16 or bf16, and f32; may be NULL */
  fv_choose_row *choose;            /* NULL: every row by the reference */
  void *context;
} fv_judge_options;

/* Judges args.out and args.lse of a problem that was computed. The verdict is added to *verdict,
 * which starts as zeros; *errors receives, per sequence, the bits the call should have reported
 * (NULL: not wanted). */
void fv_judge_attention(const fv_problem *problem, const fv_judge_options *options,
                        fv_verdict *verdict, uint32_t *errors);

/* Adds b to a: the larger ratios, the sums, the first bad element that any has. */
void fv_verdict_add(fv_verdict *a, const fv_verdict *b);

/* Notes one error against its bound, for checks of other functions. `at` says where it is and by
 * which criterion it is judged; beyond the bound, it becomes the first bad element unless there is
 * one. */
void fv_verdict_note(fv_verdict *verdict, const fv_bad_element *at, double error, double bound);

/* The largest difference between elements of two tensors of one shape; NaN if one has a NaN. */
double fv_largest_difference(const fovea_tensor *a, const fovea_tensor *b);

/* Right: something was compared, and no ratio is above 1. */
bool fv_verdict_passes(const fv_verdict *verdict);

#ifdef __cplusplus
}
#endif

#endif /* FOVEA_CLI_JUDGE_CRITERIA_H */

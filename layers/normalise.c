/* normalise.c - layer norm and RMS norm of tokens.
 *
 *   A token is walked in pieces, which lie on the stack whatever its width:
 *     layer   sum; sum of squared deviations from the mean; result
 *     RMS     sum of squares; result
 *
 * x + residual is rounded to f32, as the tensor would be that it stands for. All that follows is in
 * double until the result: a large mean then costs the small deviations no digits. */
#include <math.h>

#include "layers/fovea_layers.h"
#include "layers/span_list.h"
#include "layers/tokens.h"

enum { PIECE = 256, LANES = 8 };

/* Some elements of a token that lie side by side: of one head, from `first` on. */
typedef struct piece {
  int64_t token, head, first, count;
} piece;

static piece piece_at(const fovea_tensor *x, int64_t token, int64_t head, int64_t first) {
  int64_t left = x->shape[3] - first;
  return (piece){token, head, first, left < PIECE ? left : PIECE};
}

/* The piece after this one; its count is 0 after the last. */
static piece piece_after(const fovea_tensor *x, piece p) {
  int64_t next = p.first + p.count;
  if (next < x->shape[3]) return piece_at(x, p.token, p.head, next);
  if (p.head + 1 < x->shape[2]) return piece_at(x, p.token, p.head + 1, 0);
  return (piece){p.token, p.head, next, 0};
}

/* The piece as a token of its own. */
static fovea_tensor view_of(const fovea_tensor *t, piece p) {
  int64_t at = p.token / t->shape[1] * t->stride[0] + p.token % t->shape[1] * t->stride[1] +
               p.head * t->stride[2] + p.first;
  int64_t bytes = t->dtype == FOVEA_F32 ? 4 : 2;
  return fovea_contiguous((char *)t->data + at * bytes, (fovea_dtype)t->dtype, 1, 1, 1, p.count);
}

static void load(const fovea_normalise_args *args, piece p, float *to) {
  float residual[PIECE];
  fovea_tensor view = view_of(&args->x, p);
  fv_tokens_load(&view, 0, to);
  if (!args->residual.dtype) return;
  view = view_of(&args->residual, p);
  fv_tokens_load(&view, 0, residual);
  for (int64_t i = 0; i < p.count; ++i) to[i] += residual[i];
}

/* Partial sums by lane: the loop over lanes becomes vectors without changing any sum. */
static double sum_lanes(const double *sums) {
  double sum = 0;
  for (int lane = 0; lane < LANES; ++lane) sum += sums[lane];
  return sum;
}

static double sum_of(const float *x, int64_t count) {
  double sums[LANES] = {0};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    for (int lane = 0; lane < LANES; ++lane) sums[lane] += (double)x[i + lane];
  }
  for (; i < count; ++i) sums[0] += (double)x[i];
  return sum_lanes(sums);
}

static double squares_of(const float *x, int64_t count, double from) {
  double sums[LANES] = {0};
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    for (int lane = 0; lane < LANES; ++lane) {
      double deviation = (double)x[i + lane] - from;
      sums[lane] += deviation * deviation;
    }
  }
  for (; i < count; ++i) sums[0] += ((double)x[i] - from) * ((double)x[i] - from);
  return sum_lanes(sums);
}

static double mean_of_token(const fovea_normalise_args *args, int64_t token) {
  float x[PIECE];
  double sum = 0;
  for (piece p = piece_at(&args->x, token, 0, 0); p.count; p = piece_after(&args->x, p)) {
    load(args, p, x);
    sum += sum_of(x, p.count);
  }
  return sum / (double)fv_tokens_width(&args->x);
}

static double variance_of_token(const fovea_normalise_args *args, int64_t token, double mean) {
  float x[PIECE];
  double sum = 0;
  for (piece p = piece_at(&args->x, token, 0, 0); p.count; p = piece_after(&args->x, p)) {
    load(args, p, x);
    sum += squares_of(x, p.count, mean);
  }
  return sum / (double)fv_tokens_width(&args->x);
}

/* A piece's results. In place is safe: it has been read whole, and later passes do not return. */
static void write_piece(const fovea_normalise_args *args, piece p, double mean, double scale) {
  float x[PIECE];
  int64_t at = p.head * args->x.shape[3] + p.first;
  double unit = args->unit_offset ? 1 : 0;
  load(args, p, x);
  for (int64_t i = 0; i < p.count; ++i) {
    double gain = args->gain ? unit + (double)args->gain[at + i] : 1;
    double shift = args->shift ? (double)args->shift[at + i] : 0;
    x[i] = (float)(((double)x[i] - mean) * scale * gain + shift);
  }
  fovea_tensor out = view_of(&args->out, p);
  fv_tokens_store(&out, 0, x);
}

static void normalise_token(const fovea_normalise_args *args, int64_t token) {
  double mean = args->kind == FOVEA_NORMALISE_LAYER ? mean_of_token(args, token) : 0;
  double scale = 1 / sqrt(variance_of_token(args, token, mean) + (double)args->eps);
  for (piece p = piece_at(&args->x, token, 0, 0); p.count; p = piece_after(&args->x, p)) {
    write_piece(args, p, mean, scale);
  }
}

/* Heads that follow each other in all tensors are one: fewer, longer pieces. */
static void join_heads(fovea_normalise_args *args) {
  int64_t width = fv_tokens_width(&args->x);
  fovea_tensor x, residual = args->residual, out;
  if (!fv_tokens_split(&args->x, 1, width, &x) || !fv_tokens_split(&args->out, 1, width, &out)) {
    return;
  }
  if (residual.dtype && !fv_tokens_split(&args->residual, 1, width, &residual)) return;
  args->x = x;
  args->residual = residual;
  args->out = out;
}

/* ---- Rules ---- */

/* gain or shift: there for every element of a token, and not where results go. */
static fovea_status check_addresses(const fovea_normalise_args *args) {
  fv_span_list list;
  fv_span_list_begin(&list);
  fv_span_list_writes(&list, "out", &args->out, 1);
  fv_span_list_reads(&list, "x", &args->x, 1);
  fv_span_list_reads(&list, "residual", &args->residual, 1);
  fv_span_list_array(&list, "gain", args->gain, fv_tokens_width(&args->x));
  fv_span_list_array(&list, "shift", args->shift, fv_tokens_width(&args->x));
  return fv_span_list_check(&list);
}

static fovea_status check_numbers(const fovea_normalise_args *args) {
  FV_LAYERS_REQUIRE("", args->kind, <=, FOVEA_NORMALISE_RMS);
  FV_LAYERS_REQUIRE("", args->unit_offset, <=, 1);
  FV_LAYERS_REQUIRE("", args->reserved, ==, 0);
  if (args->unit_offset && !args->gain) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "unit_offset is 1, but gain is NULL");
  }
  if (args->eps >= 0 && isfinite(args->eps)) return FOVEA_OK;
  return fv_layers_fail(FOVEA_BAD_ARGUMENT, "eps is %g, must be finite and at least 0",
                        (double)args->eps);
}

static fovea_status check(const fovea_handle *handle, const fovea_normalise_args *given,
                          fovea_normalise_args *args) {
  FV_LAYERS_TRY(FV_LAYERS_COPY(args, given, fovea_normalise_args, out));
  FV_LAYERS_TRY(fv_layers_check_handle(handle));
  FV_LAYERS_TRY(check_numbers(args));
  FV_LAYERS_TRY(fv_tokens_check("", "x", &args->x, false));
  FV_LAYERS_TRY(fv_tokens_check("", "out", &args->out, false));
  FV_LAYERS_TRY(fv_tokens_check_shape("", "out", &args->out, args->x.shape));
  FV_LAYERS_TRY(fv_tokens_check_output("", "out", &args->out));
  if (args->residual.dtype) {
    FV_LAYERS_TRY(fv_tokens_check("", "residual", &args->residual, false));
    FV_LAYERS_TRY(fv_tokens_check_shape("", "residual", &args->residual, args->x.shape));
  }
  return check_addresses(args);
}

fovea_status fovea_normalise(fovea_handle *handle, const fovea_normalise_args *args,
                             fovea_stream stream) {
  fovea_normalise_args copy;
  (void)stream;
  FV_LAYERS_TRY(check(handle, args, &copy));
  if (!fv_tokens_width(&copy.x)) return FOVEA_OK;
  join_heads(&copy);
  for (int64_t token = 0; token < fv_tokens_count(&copy.x); ++token) normalise_token(&copy, token);
  return FOVEA_OK;
}

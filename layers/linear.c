/* linear.c - projections.
 *
 *   rows of x, widened if they are not f32 in even rows     at most 1024 at a time
 *   times the weight, by a BLAS
 *   plus bias, activation, residual, one rounding           while the rows are in a cache
 *
 * An out that is f32 in even rows is multiplied into directly, unless it is the residual too. */
#include "layers/linear.h"

#include <string.h>

#include "layers/activation.h"
#include "layers/product.h"
#include "layers/span_list.h"

/* ---- Rules ---- */

static fovea_status check_weight(const char *owner, const fovea_linear *linear, int64_t in,
                                 int64_t out) {
  const int64_t weight_shape[4] = {1, out, 1, in}, bias_shape[4] = {1, 1, 1, out};
  FV_LAYERS_TRY(fv_tokens_check(owner, "weight", &linear->weight, true));
  FV_LAYERS_TRY(fv_tokens_check_shape(owner, "weight", &linear->weight, weight_shape));
  if (!linear->bias.dtype) return FOVEA_OK;
  FV_LAYERS_TRY(fv_tokens_check(owner, "bias", &linear->bias, false));
  return fv_tokens_check_shape(owner, "bias", &linear->bias, bias_shape);
}

fovea_status fv_linear_check(const char *owner, const fovea_linear *linear, int64_t in,
                             int64_t out) {
  for (int i = 0; i < 7; ++i) {
    if (linear->reserved[i]) {
      return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%sreserved[%d] must be 0", owner, i);
    }
  }
  FV_LAYERS_REQUIRE(owner, linear->activation, <=, FOVEA_ACTIVATION_SIGMOID);
  if (linear->weight.dtype) return check_weight(owner, linear, in, out);
  if (linear->bias.dtype || linear->activation) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%sbias and activation need %sweight", owner, owner);
  }
  if (in == out) return FOVEA_OK;
  return fv_layers_fail(FOVEA_BAD_ARGUMENT,
                        "%sweight is absent, so tokens of %lld numbers must have %lld", owner,
                        (long long)in, (long long)out);
}

/* ---- The step ---- */

/* All at once if nothing has to be gathered; a BLAS counts rows in 32 bits. */
enum { DIRECT_ROWS = 1 << 20 };

static int64_t rows_at_a_time(const fovea_tensor *x, bool direct) {
  int64_t tokens = fv_tokens_count(x), most = direct ? DIRECT_ROWS : FV_PRODUCT_ROWS;
  return tokens < most ? tokens : most;
}

fv_linear_scratch fv_linear_take(fv_arena *arena, const fovea_linear *linear, const fovea_tensor *x,
                                 const fovea_tensor *out, bool steady) {
  fv_linear_scratch scratch = {.steady = steady};
  int64_t in = fv_tokens_width(x), width = fv_tokens_width(out), stride;
  int64_t rows = rows_at_a_time(x, false);
  if (!fv_tokens_are_rows(x, &stride)) scratch.x = fv_arena_take(arena, rows, in, sizeof(float));
  scratch.y = fv_arena_take(arena, rows, width, sizeof(float));
  scratch.bias = fv_arena_take(arena, 1, width, sizeof(float));
  scratch.residual = fv_arena_take(arena, 1, width, sizeof(float));
  if (linear->weight.dtype && fv_product_needs_scratch(&linear->weight, steady)) {
    scratch.weight = fv_arena_take(arena, FV_PRODUCT_OUTPUTS, in, sizeof(float));
  }
  return scratch;
}

/* A step under way: which tokens, and where their rows are. */
typedef struct step {
  const fovea_linear *linear;
  const fovea_tensor *x, *residual, *out;
  const fv_linear_scratch *scratch;
  const float *bias; /* NULL: none */
} step;

/* What follows the product, in place. */
static void finish_row(const step *s, int64_t token, float *row) {
  int64_t width = fv_tokens_width(s->out);
  if (s->bias) {
    for (int64_t o = 0; o < width; ++o) row[o] += s->bias[o];
  }
  fv_activate(s->linear->activation, row, width);
  if (!s->residual) return;
  fv_tokens_load(s->residual, token, s->scratch->residual);
  for (int64_t o = 0; o < width; ++o) row[o] += s->scratch->residual[o];
}

/* Rows of x in f32 from `first` on, and the distance from one to the next. */
static const float *rows_of_x(const step *s, int64_t first, int64_t rows, int64_t *stride) {
  float *data = fv_tokens_rows(s->x, stride);
  if (data) return data + first * *stride;
  *stride = fv_tokens_width(s->x);
  for (int64_t row = 0; row < rows; ++row) {
    fv_tokens_load(s->x, first + row, s->scratch->x + row * *stride);
  }
  return s->scratch->x;
}

static void multiply_rows(const step *s, int64_t first, int64_t rows, float *to, int64_t stride) {
  int64_t x_stride, width = fv_tokens_width(s->out);
  const float *x = rows_of_x(s, first, rows, &x_stride);
  if (!s->linear->weight.dtype) {
    for (int64_t row = 0; row < rows; ++row) {
      memmove(to + row * stride, x + row * x_stride, (size_t)width * sizeof *to);
    }
    return;
  }
  fv_product product = {.weight = &s->linear->weight,
                        .steady = s->scratch->steady,
                        .x = x,
                        .rows = rows,
                        .x_stride = x_stride,
                        .outputs = width,
                        .to = to,
                        .stride = stride,
                        .scratch = s->scratch->weight};
  fv_product_run(&product);
}

void fv_linear_run(const fovea_linear *linear, const fovea_tensor *x, const fovea_tensor *residual,
                   const fovea_tensor *out, const fv_linear_scratch *scratch) {
  int64_t tokens = fv_tokens_count(x), width = fv_tokens_width(out), stride;
  step s = {linear, x, residual && residual->dtype ? residual : NULL, out, scratch, NULL};
  if (!tokens || !width) return;
  if (linear->bias.dtype) {
    fv_elements_load(&linear->bias, 0, 1, width, scratch->bias);
    s.bias = scratch->bias;
  }
  float *direct = s.residual ? NULL : fv_tokens_rows(out, &stride);
  if (!direct) stride = width;
  int64_t some = rows_at_a_time(x, direct && !scratch->x);
  for (int64_t first = 0; first < tokens; first += some) {
    int64_t rows = tokens - first < some ? tokens - first : some;
    float *to = direct ? direct + first * stride : scratch->y;
    multiply_rows(&s, first, rows, to, stride);
    for (int64_t row = 0; row < rows; ++row) {
      finish_row(&s, first + row, to + row * stride);
      if (!direct) fv_tokens_store(out, first + row, to + row * stride);
    }
  }
}

/* ---- The calls ---- */

static fovea_status check(const fovea_handle *handle, const fovea_linear_args *given,
                          fovea_linear_args *args) {
  FV_LAYERS_TRY(FV_LAYERS_COPY(args, given, fovea_linear_args, workspace_bytes));
  FV_LAYERS_TRY(fv_layers_check_handle(handle));
  FV_LAYERS_TRY(fv_tokens_check("", "x", &args->x, false));
  FV_LAYERS_TRY(fv_tokens_check("", "out", &args->out, false));
  FV_LAYERS_REQUIRE("", args->out.shape[0], ==, args->x.shape[0]);
  FV_LAYERS_REQUIRE("", args->out.shape[1], ==, args->x.shape[1]);
  FV_LAYERS_TRY(fv_tokens_check_output("", "out", &args->out));
  if (args->residual.dtype) {
    FV_LAYERS_TRY(fv_tokens_check("", "residual", &args->residual, false));
    FV_LAYERS_TRY(fv_tokens_check_shape("", "residual", &args->residual, args->out.shape));
  }
  return fv_linear_check("linear.", &args->linear, fv_tokens_width(&args->x),
                         fv_tokens_width(&args->out));
}

static fovea_status check_addresses(const fovea_linear_args *args) {
  fv_span_list list;
  fv_span_list_begin(&list);
  fv_span_list_writes(&list, "out", &args->out, 1);
  fv_span_list_workspace(&list, args->workspace, args->workspace_bytes);
  fv_span_list_reads(&list, "x", &args->x, 0);
  fv_span_list_reads(&list, "residual", &args->residual, 1);
  fv_span_list_reads(&list, "linear.weight", &args->linear.weight, 0);
  fv_span_list_reads(&list, "linear.bias", &args->linear.bias, 0);
  return fv_span_list_check(&list);
}

static fv_linear_scratch take(fv_arena *arena, const fovea_linear_args *args) {
  return fv_linear_take(arena, &args->linear, &args->x, &args->out, false);
}

fovea_status fovea_linear_workspace(fovea_handle *handle, const fovea_linear_args *args,
                                    size_t *bytes) {
  fovea_linear_args copy;
  fv_arena arena = {0};
  if (!bytes) return fv_layers_fail(FOVEA_BAD_ARGUMENT, "bytes is NULL");
  FV_LAYERS_TRY(check(handle, args, &copy));
  take(&arena, &copy);
  *bytes = arena.used;
  return FOVEA_OK;
}

fovea_status fovea_linear_apply(fovea_handle *handle, const fovea_linear_args *args,
                                fovea_stream stream) {
  fovea_linear_args copy;
  fv_arena count = {0};
  (void)stream;
  FV_LAYERS_TRY(check(handle, args, &copy));
  take(&count, &copy);
  FV_LAYERS_TRY(fv_layers_check_workspace(copy.workspace, copy.workspace_bytes, count.used));
  FV_LAYERS_TRY(check_addresses(&copy));
  fv_arena arena = {.base = copy.workspace};
  fv_linear_scratch scratch = take(&arena, &copy);
  fv_linear_run(&copy.linear, &copy.x, &copy.residual, &copy.out, &scratch);
  return FOVEA_OK;
}

/* recurrent.c - GRU and LSTM over sequences.
 *
 *   x of some steps, of all sequences, times weight_x    one product
 *   each step: the states of all sequences times weight_h, the gates, the new states
 *
 * Step s of a sequence is its token s, or counted back from its last: so a sequence that is read
 * backwards gives the very products of the same sequence turned round. Rows of a product are
 * [step][sequence]. weight_h is widened once, since every step reads all of it. */
#include <math.h>
#include <string.h>

#include "layers/activation.h"
#include "layers/fovea_layers.h"
#include "layers/product.h"
#include "layers/span_list.h"

/* ---- Rules ---- */

static int64_t gates_of(uint32_t cell) {
  return cell == FOVEA_CELL_GRU ? 3 : 4;
}

static fovea_status check_weights(const fovea_recurrent_args *args) {
  int64_t gates = gates_of(args->cell), hidden = args->weight_h.shape[3];
  FV_LAYERS_TRY(fv_tokens_check("", "x", &args->x, false));
  FV_LAYERS_TRY(fv_tokens_check("", "weight_h", &args->weight_h, true));
  FV_LAYERS_TRY(fv_tokens_check("", "weight_x", &args->weight_x, true));
  const int64_t of_h[4] = {1, gates * hidden, 1, hidden};
  const int64_t of_x[4] = {1, gates * hidden, 1, fv_tokens_width(&args->x)};
  FV_LAYERS_TRY(fv_tokens_check_shape("", "weight_h", &args->weight_h, of_h));
  return fv_tokens_check_shape("", "weight_x", &args->weight_x, of_x);
}

/* A tensor that may be absent, and is of this shape if it is not. */
static fovea_status check_given(const char *name, const fovea_tensor *t, int64_t batch, int64_t len,
                                int64_t width) {
  const int64_t shape[4] = {batch, len, 1, width};
  if (!t->dtype) return FOVEA_OK;
  FV_LAYERS_TRY(fv_tokens_check("", name, t, false));
  return fv_tokens_check_shape("", name, t, shape);
}

static fovea_status check_shapes(const fovea_recurrent_args *args) {
  int64_t batch = args->x.shape[0], len = args->x.shape[1], hidden = args->weight_h.shape[3];
  int64_t outputs = args->weight_h.shape[1];
  FV_LAYERS_TRY(check_given("bias_x", &args->bias_x, 1, 1, outputs));
  FV_LAYERS_TRY(check_given("bias_h", &args->bias_h, 1, 1, outputs));
  FV_LAYERS_TRY(check_given("h_first", &args->h_first, batch, 1, hidden));
  FV_LAYERS_TRY(check_given("c_first", &args->c_first, batch, 1, hidden));
  FV_LAYERS_TRY(check_given("states", &args->states, batch, len, hidden));
  FV_LAYERS_TRY(check_given("h_last", &args->h_last, batch, 1, hidden));
  return check_given("c_last", &args->c_last, batch, 1, hidden);
}

static fovea_status check_outputs(const fovea_recurrent_args *args) {
  FV_LAYERS_TRY(fv_tokens_check_output("", "states", &args->states));
  FV_LAYERS_TRY(fv_tokens_check_output("", "h_last", &args->h_last));
  return fv_tokens_check_output("", "c_last", &args->c_last);
}

static fovea_status check_addresses(const fovea_recurrent_args *args) {
  fv_span_list list;
  fv_span_list_begin(&list);
  fv_span_list_writes(&list, "states", &args->states, 0);
  fv_span_list_writes(&list, "h_last", &args->h_last, 1);
  fv_span_list_writes(&list, "c_last", &args->c_last, 2);
  fv_span_list_workspace(&list, args->workspace, args->workspace_bytes);
  fv_span_list_reads(&list, "x", &args->x, 0);
  fv_span_list_reads(&list, "weight_x", &args->weight_x, 0);
  fv_span_list_reads(&list, "weight_h", &args->weight_h, 0);
  fv_span_list_reads(&list, "bias_x", &args->bias_x, 0);
  fv_span_list_reads(&list, "bias_h", &args->bias_h, 0);
  fv_span_list_reads(&list, "h_first", &args->h_first, 1);
  fv_span_list_reads(&list, "c_first", &args->c_first, 2);
  fv_span_list_array(&list, "lengths", args->lengths, args->x.shape[0]);
  return fv_span_list_check(&list);
}

static fovea_status check(const fovea_handle *handle, const fovea_recurrent_args *given,
                          fovea_recurrent_args *args) {
  FV_LAYERS_TRY(FV_LAYERS_COPY(args, given, fovea_recurrent_args, workspace_bytes));
  FV_LAYERS_TRY(fv_layers_check_handle(handle));
  if (args->cell != FOVEA_CELL_GRU && args->cell != FOVEA_CELL_LSTM) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "cell is %u, must be FOVEA_CELL_GRU or _LSTM",
                          args->cell);
  }
  FV_LAYERS_REQUIRE("", args->reverse, <=, 1);
  if (args->cell == FOVEA_CELL_GRU && (args->c_first.dtype || args->c_last.dtype)) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s is for an LSTM, but cell is FOVEA_CELL_GRU",
                          args->c_first.dtype ? "c_first" : "c_last");
  }
  FV_LAYERS_TRY(check_weights(args));
  FV_LAYERS_TRY(check_shapes(args));
  return check_outputs(args);
}

/* ---- A call under way ---- */

typedef struct recurrence {
  const fovea_recurrent_args *args;
  int64_t batch, len, in, hidden, outputs; /* outputs: of all gates */
  int64_t some;                            /* steps in a block */
  fovea_tensor weight_h;                   /* as a BLAS takes it */
  float *x;                                /* [some * batch][in]; NULL: x is used where it lies */
  float *from_x;                           /* [some * batch][outputs]: W x + b */
  float *from_h;                           /* [batch][outputs]: U h + c */
  float *h, *c;                            /* [batch][hidden] */
  float *bias_x, *bias_h;                  /* [outputs]; NULL: none */
  float *scratch;                          /* for weight_x; NULL: used where it lies */
} recurrence;

/* x with its rows in the order of products. */
static fovea_tensor by_step(const fovea_tensor *x) {
  fovea_tensor view = *x;
  view.shape[0] = x->shape[1], view.stride[0] = x->stride[1];
  view.shape[1] = x->shape[0], view.stride[1] = x->stride[0];
  return view;
}

static float *take_f32(fv_arena *arena, int64_t rows, int64_t width) {
  return fv_arena_take(arena, rows, width, sizeof(float));
}

static recurrence take(fv_arena *arena, const fovea_recurrent_args *args) {
  const fovea_tensor *weight_h = &args->weight_h, view = by_step(&args->x);
  recurrence r = {.args = args, .batch = args->x.shape[0], .len = args->x.shape[1]};
  int64_t stride;
  r.in = fv_tokens_width(&args->x);
  r.hidden = weight_h->shape[3];
  r.outputs = weight_h->shape[1];
  r.some = r.batch && r.batch < FV_PRODUCT_ROWS ? FV_PRODUCT_ROWS / r.batch : 1;
  if (r.some > r.len) r.some = r.len;
  r.weight_h = *weight_h;
  if (!fv_product_is_direct(weight_h)) {
    float *data = take_f32(arena, r.outputs, r.hidden);
    r.weight_h = fovea_contiguous(data, FOVEA_F32, 1, r.outputs, 1, r.hidden);
  }
  if (args->reverse || !fv_tokens_are_rows(&view, &stride)) {
    r.x = take_f32(arena, r.some * r.batch, r.in);
  }
  r.from_x = take_f32(arena, r.some * r.batch, r.outputs);
  r.from_h = take_f32(arena, r.batch, r.outputs);
  r.h = take_f32(arena, r.batch, r.hidden);
  if (args->cell == FOVEA_CELL_LSTM) r.c = take_f32(arena, r.batch, r.hidden);
  if (args->bias_x.dtype) r.bias_x = take_f32(arena, 1, r.outputs);
  if (args->bias_h.dtype) r.bias_h = take_f32(arena, 1, r.outputs);
  if (!fv_product_is_direct(&args->weight_x)) {
    r.scratch = take_f32(arena, FV_PRODUCT_OUTPUTS, r.in);
  }
  return r;
}

static int64_t length_of(const recurrence *r, int64_t sequence) {
  int64_t length = r->args->lengths ? r->args->lengths[sequence] : r->len;
  if (length < 0) return 0;
  return length < r->len ? length : r->len;
}

static int64_t longest(const recurrence *r) {
  int64_t most = 0;
  for (int64_t b = 0; b < r->batch; ++b) {
    if (length_of(r, b) > most) most = length_of(r, b);
  }
  return most;
}

/* The token of a sequence's step, counted within the tensor; -1: it has no such step. */
static int64_t token_of(const recurrence *r, int64_t sequence, int64_t step) {
  int64_t length = length_of(r, sequence);
  if (step >= length) return -1;
  return sequence * r->len + (r->args->reverse ? length - 1 - step : step);
}

static void load_states(const fovea_tensor *first, const recurrence *r, float *to) {
  if (!first->dtype) {
    memset(to, 0, (size_t)(r->batch * r->hidden) * sizeof *to);
    return;
  }
  for (int64_t b = 0; b < r->batch; ++b) fv_tokens_load(first, b, to + b * r->hidden);
}

static void prepare(const recurrence *r) {
  const fovea_recurrent_args *args = r->args;
  const fovea_tensor *w = &args->weight_h;
  load_states(&args->h_first, r, r->h);
  if (r->c) load_states(&args->c_first, r, r->c);
  if (r->bias_x) fv_tokens_load(&args->bias_x, 0, r->bias_x);
  if (r->bias_h) fv_tokens_load(&args->bias_h, 0, r->bias_h);
  if (fv_product_is_direct(w)) return;
  for (int64_t o = 0; o < r->outputs; ++o) {
    float *row = (float *)r->weight_h.data + o * r->hidden;
    fv_elements_load(w, o * w->stride[1], w->stride[3], r->hidden, row);
  }
}

static void add_bias(const float *bias, float *rows, int64_t count, int64_t width) {
  if (!bias) return;
  for (int64_t row = 0; row < count; ++row) {
    for (int64_t o = 0; o < width; ++o) rows[row * width + o] += bias[o];
  }
}

/* Rows of x from step `first` on. A row that is no step is 0, so that a product never reads what
 * lies past a length; where x is used as it lies, such a row spoils its own results alone. */
static const float *rows_of_x(const recurrence *r, int64_t first, int64_t steps, int64_t *stride) {
  const fovea_tensor view = by_step(&r->args->x);
  if (!r->x) return (const float *)fv_tokens_rows(&view, stride) + first * r->batch * *stride;
  *stride = r->in;
  for (int64_t row = 0; row < steps * r->batch; ++row) {
    float *to = r->x + row * r->in;
    int64_t token = token_of(r, row % r->batch, first + row / r->batch);
    if (token < 0) {
      memset(to, 0, (size_t)r->in * sizeof *to);
    } else {
      fv_tokens_load(&r->args->x, token, to);
    }
  }
  return r->x;
}

static void project_x(const recurrence *r, int64_t first, int64_t steps) {
  int64_t stride = 0;
  const float *x = rows_of_x(r, first, steps, &stride);
  fv_product product = {.weight = &r->args->weight_x,
                        .x = x,
                        .rows = steps * r->batch,
                        .x_stride = stride,
                        .outputs = r->outputs,
                        .to = r->from_x,
                        .stride = r->outputs,
                        .scratch = r->scratch};
  fv_product_run(&product);
  add_bias(r->bias_x, r->from_x, product.rows, r->outputs);
}

static void project_h(const recurrence *r) {
  fv_product product = {.weight = &r->weight_h,
                        .x = r->h,
                        .rows = r->batch,
                        .x_stride = r->hidden,
                        .outputs = r->outputs,
                        .to = r->from_h,
                        .stride = r->outputs};
  fv_product_run(&product);
  add_bias(r->bias_h, r->from_h, r->batch, r->outputs);
}

static void gru(int64_t hidden, const float *x, const float *u, float *h) {
  for (int64_t j = 0; j < hidden; ++j) {
    int64_t z_at = hidden + j, n_at = 2 * hidden + j;
    float r = fv_sigmoid(x[j] + u[j]), z = fv_sigmoid(x[z_at] + u[z_at]);
    float n = tanhf(x[n_at] + r * u[n_at]);
    h[j] = (1 - z) * n + z * h[j];
  }
}

static void lstm(int64_t hidden, const float *x, const float *u, float *h, float *c) {
  for (int64_t j = 0; j < hidden; ++j) {
    int64_t f_at = hidden + j, g_at = 2 * hidden + j, o_at = 3 * hidden + j;
    float i = fv_sigmoid(x[j] + u[j]), f = fv_sigmoid(x[f_at] + u[f_at]);
    float g = tanhf(x[g_at] + u[g_at]), o = fv_sigmoid(x[o_at] + u[o_at]);
    c[j] = f * c[j] + i * g;
    h[j] = o * tanhf(c[j]);
  }
}

/* Step `first + n`, whose x is row n of the block. */
static void take_step(const recurrence *r, int64_t first, int64_t n) {
  project_h(r);
  for (int64_t b = 0; b < r->batch; ++b) {
    const float *x = r->from_x + (n * r->batch + b) * r->outputs, *u = r->from_h + b * r->outputs;
    float *h = r->h + b * r->hidden;
    int64_t token = token_of(r, b, first + n);
    if (token < 0) continue;
    if (r->c) {
      lstm(r->hidden, x, u, h, r->c + b * r->hidden);
    } else {
      gru(r->hidden, x, u, h);
    }
    if (r->args->states.dtype) fv_tokens_store(&r->args->states, token, h);
  }
}

static void write_last(const recurrence *r) {
  const fovea_recurrent_args *args = r->args;
  memset(r->from_h, 0, (size_t)r->hidden * sizeof *r->from_h);
  for (int64_t b = 0; b < r->batch; ++b) {
    if (args->h_last.dtype) fv_tokens_store(&args->h_last, b, r->h + b * r->hidden);
    if (args->c_last.dtype) fv_tokens_store(&args->c_last, b, r->c + b * r->hidden);
    for (int64_t t = length_of(r, b); args->states.dtype && t < r->len; ++t) {
      fv_tokens_store(&args->states, b * r->len + t, r->from_h);
    }
  }
}

static void run(const recurrence *r) {
  if (!r->batch || !r->hidden) return;
  int64_t steps = longest(r);
  prepare(r);
  for (int64_t first = 0; first < steps; first += r->some) {
    int64_t now = steps - first < r->some ? steps - first : r->some;
    project_x(r, first, now);
    for (int64_t n = 0; n < now; ++n) take_step(r, first, n);
  }
  write_last(r);
}

/* ---- The calls ---- */

fovea_status fovea_recurrent_workspace(fovea_handle *handle, const fovea_recurrent_args *args,
                                       size_t *bytes) {
  fovea_recurrent_args copy;
  fv_arena arena = {0};
  if (!bytes) return fv_layers_fail(FOVEA_BAD_ARGUMENT, "bytes is NULL");
  FV_LAYERS_TRY(check(handle, args, &copy));
  take(&arena, &copy);
  *bytes = arena.used;
  return FOVEA_OK;
}

fovea_status fovea_recurrent(fovea_handle *handle, const fovea_recurrent_args *args,
                             fovea_stream stream) {
  fovea_recurrent_args copy;
  fv_arena count = {0};
  (void)stream;
  FV_LAYERS_TRY(check(handle, args, &copy));
  take(&count, &copy);
  FV_LAYERS_TRY(fv_layers_check_workspace(copy.workspace, copy.workspace_bytes, count.used));
  FV_LAYERS_TRY(check_addresses(&copy));
  fv_arena arena = {.base = copy.workspace};
  recurrence r = take(&arena, &copy);
  run(&r);
  return FOVEA_OK;
}

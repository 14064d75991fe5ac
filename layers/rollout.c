/* rollout.c - attention rollout (Abnar and Zuidema, "Quantifying Attention Flow in Transformers",
 * 2020).
 *
 *   for each sequence: R = I; for each layer: R = A R, in blocks of A's rows
 *
 * The first product is not made: it is A itself. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layers/fovea_layers.h"
#include "layers/product.h"
#include "layers/span_list.h"

/* ---- Rules ---- */

static fovea_status check_layer(const fovea_rollout_args *args, int32_t layer) {
  const fovea_tensor *w = &args->weights[layer], *out = &args->out;
  char name[32];
  const int64_t shape[4] = {out->shape[0], out->shape[1], w->shape[2], out->shape[1]};
  snprintf(name, sizeof name, "weights[%d]", (int)layer);
  FV_LAYERS_TRY(fv_tokens_check("", name, w, false));
  FV_LAYERS_TRY(fv_tokens_check_shape("", name, w, shape));
  if (!w->shape[2]) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "%s.shape[2] is 0, must be at least 1", name);
  }
  return FOVEA_OK;
}

static fovea_status check(const fovea_handle *handle, const fovea_rollout_args *given,
                          fovea_rollout_args *args) {
  FV_LAYERS_TRY(FV_LAYERS_COPY(args, given, fovea_rollout_args, workspace_bytes));
  FV_LAYERS_TRY(fv_layers_check_handle(handle));
  FV_LAYERS_REQUIRE("", args->count, >=, 1);
  if (!(args->residual >= 0 && args->residual < 1)) {
    return fv_layers_fail(FOVEA_BAD_ARGUMENT, "residual is %g, must be at least 0 and below 1",
                          (double)args->residual);
  }
  if (!args->weights) return fv_layers_fail(FOVEA_BAD_ARGUMENT, "weights is NULL");
  FV_LAYERS_TRY(fv_tokens_check("", "out", &args->out, false));
  FV_LAYERS_REQUIRE("", args->out.shape[2], ==, 1);
  FV_LAYERS_REQUIRE("", args->out.shape[3], ==, args->out.shape[1]);
  FV_LAYERS_TRY(fv_tokens_check_output("", "out", &args->out));
  for (int32_t layer = 0; layer < args->count; ++layer) {
    FV_LAYERS_TRY(check_layer(args, layer));
  }
  return FOVEA_OK;
}

/* Each layer by itself: there may be any number. */
static fovea_status check_addresses(const fovea_rollout_args *args) {
  for (int32_t layer = 0; layer < args->count; ++layer) {
    char name[32];
    fv_span_list list;
    snprintf(name, sizeof name, "weights[%d]", (int)layer);
    fv_span_list_begin(&list);
    fv_span_list_writes(&list, "out", &args->out, 0);
    fv_span_list_workspace(&list, args->workspace, args->workspace_bytes);
    fv_span_list_reads(&list, name, &args->weights[layer], 0);
    FV_LAYERS_TRY(fv_span_list_check(&list));
  }
  return FOVEA_OK;
}

/* ---- The steps ---- */

typedef struct rollout {
  const fovea_rollout_args *args;
  int64_t len;
  float *row;          /* [len]: a head's weights */
  float *block;        /* [FV_PRODUCT_ROWS][len]: rows of A */
  float *below, *next; /* [len][len]: R of the layers so far, and with one more */
} rollout;

static rollout take(fv_arena *arena, const fovea_rollout_args *args) {
  rollout r = {.args = args, .len = args->out.shape[0] ? args->out.shape[1] : 0};
  int64_t rows = r.len < FV_PRODUCT_ROWS ? r.len : FV_PRODUCT_ROWS;
  r.row = fv_arena_take(arena, 1, r.len, sizeof(float));
  r.block = fv_arena_take(arena, rows, r.len, sizeof(float));
  r.below = fv_arena_take(arena, r.len, r.len, sizeof(float));
  r.next = args->count > 1 ? fv_arena_take(arena, r.len, r.len, sizeof(float)) : NULL;
  return r;
}

/* The mean over heads of a row of weights. */
static void load_mean(const rollout *r, const fovea_tensor *w, int64_t sequence, int64_t i,
                      float *to) {
  int64_t at = sequence * w->stride[0] + i * w->stride[1];
  fv_elements_load(w, at, 1, r->len, to);
  for (int64_t head = 1; head < w->shape[2]; ++head) {
    fv_elements_load(w, at + head * w->stride[2], 1, r->len, r->row);
    for (int64_t j = 0; j < r->len; ++j) to[j] += r->row[j];
  }
  for (int64_t j = 0; j < r->len; ++j) to[j] /= (float)w->shape[2];
}

/* Row i of A_n. Without a residual a row of zeros has no sum to be divided by. */
static void load_row(const rollout *r, const fovea_tensor *w, int64_t sequence, int64_t i,
                     float *to) {
  float share = r->args->residual;
  double sum = 0;
  load_mean(r, w, sequence, i, to);
  for (int64_t j = 0; j < r->len; ++j) to[j] *= 1 - share;
  to[i] += share;
  for (int64_t j = 0; j < r->len; ++j) sum += (double)to[j];
  if (sum == 0) {
    to[i] = 1;
    return;
  }
  for (int64_t j = 0; j < r->len; ++j) to[j] /= (float)sum;
}

/* next = A below, of one layer. */
static void add_layer(const rollout *r, const fovea_tensor *w, int64_t sequence) {
  /* below[i][j] as the weight of input i to output j. */
  fovea_tensor below = fovea_contiguous(r->below, FOVEA_F32, 1, r->len, 1, r->len);
  below.stride[1] = 1;
  below.stride[3] = r->len;
  for (int64_t first = 0; first < r->len; first += FV_PRODUCT_ROWS) {
    int64_t rows = r->len - first < FV_PRODUCT_ROWS ? r->len - first : FV_PRODUCT_ROWS;
    for (int64_t n = 0; n < rows; ++n) {
      load_row(r, w, sequence, first + n, r->block + n * r->len);
    }
    fv_product product = {.weight = &below,
                          .x = r->block,
                          .rows = rows,
                          .x_stride = r->len,
                          .outputs = r->len,
                          .to = r->next + first * r->len,
                          .stride = r->len};
    fv_product_run(&product);
  }
}

static void run(rollout *r, int64_t sequence) {
  const fovea_rollout_args *args = r->args;
  for (int64_t i = 0; i < r->len; ++i) {
    load_row(r, &args->weights[0], sequence, i, r->below + i * r->len);
  }
  for (int32_t layer = 1; layer < args->count; ++layer) {
    add_layer(r, &args->weights[layer], sequence);
    float *done = r->next;
    r->next = r->below;
    r->below = done;
  }
  for (int64_t i = 0; i < r->len; ++i) {
    fv_tokens_store(&args->out, sequence * r->len + i, r->below + i * r->len);
  }
}

/* ---- The calls ---- */

fovea_status fovea_rollout_workspace(fovea_handle *handle, const fovea_rollout_args *args,
                                     size_t *bytes) {
  fovea_rollout_args copy;
  fv_arena arena = {0};
  if (!bytes) return fv_layers_fail(FOVEA_BAD_ARGUMENT, "bytes is NULL");
  FV_LAYERS_TRY(check(handle, args, &copy));
  take(&arena, &copy);
  *bytes = arena.used;
  return FOVEA_OK;
}

fovea_status fovea_rollout(fovea_handle *handle, const fovea_rollout_args *args,
                           fovea_stream stream) {
  fovea_rollout_args copy;
  fv_arena count = {0};
  (void)stream;
  FV_LAYERS_TRY(check(handle, args, &copy));
  take(&count, &copy);
  FV_LAYERS_TRY(fv_layers_check_workspace(copy.workspace, copy.workspace_bytes, count.used));
  FV_LAYERS_TRY(check_addresses(&copy));
  fv_arena arena = {.base = copy.workspace};
  rollout r = take(&arena, &copy);
  for (int64_t sequence = 0; r.len && sequence < copy.out.shape[0]; ++sequence) run(&r, sequence);
  return FOVEA_OK;
}

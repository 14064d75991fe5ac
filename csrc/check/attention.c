/* attention.c - the rules of fovea_attention, which those of weights (weights.c) begin with.
 *
 * Copies the caller's struct, proves the rules one by one and fills in the problem. The order is
 * the header's: the struct and its single fields, each tensor by itself, shapes, scales, packing,
 * paging, masks, arrays, workspace, overlap. The first broken rule ends the call, so a message
 * never depends on a later field.
 *
 * This runs in every call, decoding steps included, and must take well under a microsecond. So it
 * builds names and formats text only when a rule is broken. */
#include "csrc/check/check.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "csrc/check/fields.h"
#include "kernels/shared/sequence_rules.h"

enum { WORKSPACE_ALIGNMENT = 256 };

/* The kind of call that is checked. */
typedef enum purpose {
  USE_CALL,         /* work follows: addresses must be right */
  USE_SHAPE,        /* support, explain: pointers only say what is present */
  USE_WEIGHTS,      /* a call without v, out, lse and workspace */
  USE_WEIGHTS_SHAPE /* weights' support */
} purpose;

static bool is_weights(purpose use) {
  return use == USE_WEIGHTS || use == USE_WEIGHTS_SHAPE;
}

static bool has_addresses(purpose use) {
  return use == USE_CALL || use == USE_WEIGHTS;
}

/* ---- Single fields, in the order of the struct --------------------------------------------- */

static fovea_status check_window(const char *name, const fovea_window *window) {
  if (window->kind > FOVEA_WINDOW_LIMITED)
    return fv_fail(FOVEA_BAD_ARGUMENT, "%s.kind is %u, must be FOVEA_WINDOW_UNLIMITED or _LIMITED",
                   name, (unsigned)window->kind);
  if (window->kind == FOVEA_WINDOW_LIMITED && window->count < 0)
    return fv_fail(FOVEA_BAD_ARGUMENT, "%s.count is %d, must be at least 0; kind 0 has no limit",
                   name, (int)window->count);
  if (window->kind == FOVEA_WINDOW_UNLIMITED && window->count != 0)
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "%s.count is %d, must be 0 while kind is FOVEA_WINDOW_UNLIMITED; a window needs "
                   "kind FOVEA_WINDOW_LIMITED",
                   name, (int)window->count);
  return FOVEA_OK;
}

static fovea_status check_positions(const fovea_attention_args *args) {
  FV_REQUIRE_ONE_OF(args->positions.alignment, FOVEA_ALIGN_BOTTOM_RIGHT, FOVEA_ALIGN_TOP_LEFT);
  FV_REQUIRE(args->positions.kv_stride, >=, 0, "");
  FV_REQUIRE_ONE_OF(args->positions.selected, 0, 1);
  FV_REQUIRE(args->positions.reserved32, ==, 0, "");
  FV_REQUIRE_ZEROS("positions", &args->positions, reserved);
  return FOVEA_OK;
}

static fovea_status check_tree(const fovea_attention_args *args) {
  FV_REQUIRE(args->visibility.tree.words, >=, 0, "");
  FV_REQUIRE_ZEROS("visibility.tree", &args->visibility.tree, reserved);
  if (args->visibility.tree.bits != NULL) return FOVEA_OK;
  FV_REQUIRE_ABSENT(args->visibility.tree.lengths, "without tree.bits");
  FV_REQUIRE_ABSENT(args->visibility.tree.starts, "without tree.bits");
  FV_REQUIRE(args->visibility.tree.words, ==, 0, "without tree.bits there is no tree");
  return FOVEA_OK;
}

static fovea_status check_visibility(const fovea_attention_args *args) {
  FV_REQUIRE_ONE_OF(args->visibility.causal, 0, 1);
  FV_REQUIRE_ONE_OF(args->visibility.span_rule, FOVEA_SPAN_BESIDES, FOVEA_SPAN_WITHIN);
  if (args->visibility.spans == NULL)
    FV_REQUIRE(args->visibility.span_rule, ==, 0, "without visibility.spans");
  FV_TRY(check_window("visibility.window_left", &args->visibility.window_left));
  FV_TRY(check_window("visibility.window_right", &args->visibility.window_right));
  FV_TRY(check_tree(args));
  FV_REQUIRE_ZEROS("visibility", &args->visibility, reserved);
  return FOVEA_OK;
}

static fovea_status check_distances(const fovea_attention_args *args) {
  FV_REQUIRE(args->logits.distances.head_stride, >=, 0, "");
  FV_REQUIRE_ZEROS("logits.distances", &args->logits.distances, reserved);
  if (args->logits.distances.table != NULL) {
    FV_REQUIRE(args->logits.distances.count, >=, 1, "it counts the entries of a head");
    return FOVEA_OK;
  }
  FV_REQUIRE(args->logits.distances.head_stride, ==, 0, "without distances.table");
  FV_REQUIRE(args->logits.distances.first, ==, 0, "without distances.table");
  FV_REQUIRE(args->logits.distances.count, ==, 0, "without distances.table");
  return FOVEA_OK;
}

static fovea_status check_logits(const fovea_attention_args *args) {
  FV_REQUIRE_FACTOR(args->logits.scale);
  FV_REQUIRE_FACTOR(args->logits.softcap);
  FV_REQUIRE(args->logits.alibi_stride, >=, 0, "");
  if (args->logits.alibi_slopes == NULL)
    FV_REQUIRE(args->logits.alibi_stride, ==, 0, "without alibi_slopes there is no ALiBi");
  if (args->logits.bias.dtype == FOVEA_NONE)
    FV_REQUIRE_ABSENT(args->logits.bias_scale, "without logits.bias");
  FV_TRY(check_distances(args));
  FV_REQUIRE(args->logits.additive.head_stride, >=, 0, "");
  if (args->logits.additive.vector == NULL)
    FV_REQUIRE(args->logits.additive.head_stride, ==, 0, "without additive.vector");
  FV_REQUIRE_ZEROS("logits.additive", &args->logits.additive, reserved);
  FV_REQUIRE_ZEROS("logits", &args->logits, reserved);
  return FOVEA_OK;
}

static fovea_status check_fields(const fovea_attention_args *args) {
  FV_REQUIRE_FLAGS(args->flags, FOVEA_ALLOW_DEPENDENT_LAUNCH);
  FV_REQUIRE_ONE_OF(args->reproducible, FOVEA_REPRODUCIBLE_RUN, FOVEA_REPRODUCIBLE_BATCH,
                    FOVEA_REPRODUCIBLE_PHASE);
  FV_TRY(fv_check_sequences(&args->sequences));
  FV_TRY(check_positions(args));
  FV_TRY(check_visibility(args));
  FV_TRY(check_logits(args));
  FV_REQUIRE(args->sm_count, >=, 0, "");
  FV_REQUIRE(args->reserved, ==, 0, "");
  return FOVEA_OK;
}

/* ---- Each tensor by itself ----------------------------------------------------------------- */

static fv_name named(const char *text) {
  return (fv_name){text, -1};
}

static fovea_status check_tensors(fovea_attention_args *args, purpose use) {
  for (int i = 0; i < fv_attention_fields.tensor_count; ++i) {
    const fv_tensor_field *field = &fv_attention_fields.tensors[i];
    if (is_weights(use) && !field->in_weights)
      memset(fv_tensor_at(args, field), 0, sizeof(fovea_tensor));
    else
      FV_TRY(fv_check_tensor_field(field, args, has_addresses(use)));
  }
  return FOVEA_OK;
}

/* ---- Tensors against each other ------------------------------------------------------------ */

static fovea_status check_outputs(const fovea_attention_args *args) {
  FV_REQUIRE(args->out.shape[0], ==, args->q.shape[0], "");
  FV_REQUIRE(args->out.shape[1], ==, args->q.shape[1], "");
  FV_REQUIRE(args->out.shape[2], ==, args->q.shape[2], "");
  FV_REQUIRE(args->out.shape[3], ==, args->v.shape[3], "");
  if (args->lse.dtype == FOVEA_NONE) return FOVEA_OK;
  FV_REQUIRE(args->lse.shape[0], ==, args->q.shape[0], "");
  FV_REQUIRE(args->lse.shape[1], ==, args->q.shape[1], "");
  FV_REQUIRE(args->lse.shape[2], ==, args->q.shape[2], "");
  FV_REQUIRE(args->lse.shape[3], ==, 1, "");
  return FOVEA_OK;
}

static fovea_status check_shapes(const fovea_attention_args *args, purpose use) {
  FV_REQUIRE(args->q.shape[3], >=, 1, "");
  FV_REQUIRE(args->q.shape[3], <=, FV_DIM_MAX, "");
  FV_REQUIRE(args->k.shape[3], ==, args->q.shape[3], "");
  FV_REQUIRE_MULTIPLE(args->q.shape[2], args->k.shape[2], "");
  if (is_weights(use)) return FOVEA_OK;
  FV_REQUIRE(args->v.shape[0], ==, args->k.shape[0], "");
  FV_REQUIRE(args->v.shape[1], ==, args->k.shape[1], "");
  FV_REQUIRE(args->v.shape[2], ==, args->k.shape[2], "");
  FV_REQUIRE(args->v.shape[3], >=, 1, "");
  FV_REQUIRE(args->v.shape[3], <=, FV_DIM_V_MAX, "");
  return check_outputs(args);
}

static fovea_status check_scales(const fovea_attention_args *args) {
  FV_TRY(fv_view_check_scale(named("q_scale"), &args->q_scale, named("q"), &args->q));
  FV_TRY(fv_view_check_scale(named("k_scale"), &args->k_scale, named("k"), &args->k));
  FV_TRY(fv_view_check_scale(named("v_scale"), &args->v_scale, named("v"), &args->v));
  return fv_view_check_scale(named("out_scale"), &args->out_scale, named("out"), &args->out);
}

/* Finds the number of sequences, and which tensors are packed or paged. */
static fovea_status check_sequences(const fovea_attention_args *args, fv_problem *problem) {
  problem->q_packed = args->sequences.q_offsets != NULL;
  problem->kv_packed = args->sequences.kv_offsets != NULL;
  problem->paged = args->sequences.pages.ids != NULL;
  problem->sequences = args->sequences.count;
  if (problem->q_packed) {
    FV_REQUIRE(args->q.shape[0], ==, 1, "with q_offsets q is [1, total, heads_q, dim]");
  } else {
    if (args->sequences.count != 0)
      FV_REQUIRE(args->sequences.count, ==, args->q.shape[0], "without q_offsets it may be left 0");
    problem->sequences = args->q.shape[0];
  }
  if (problem->paged) return FOVEA_OK; /* k.shape[0] is the number of pages */
  const int64_t sequences = problem->sequences;
  if (problem->kv_packed)
    FV_REQUIRE(args->k.shape[0], ==, 1, "with kv_offsets k is [1, total, heads_kv, dim]");
  else
    FV_REQUIRE(args->k.shape[0], ==, sequences, "");
  return FOVEA_OK;
}

static fovea_status check_pages(const fovea_attention_args *args, const fv_problem *problem) {
  FV_TRY(fv_view_check_pages(&args->sequences, problem->sequences, args->k.shape[2], &args->k));
  if (!problem->paged) return FOVEA_OK;
  if (args->sequences.pages.head_lengths != NULL)
    FV_REQUIRE_ABSENT(args->sequences.kv_lengths, "with pages.head_lengths");
  else
    FV_REQUIRE_GIVEN(args->sequences.kv_lengths, "with pages.ids, or else pages.head_lengths");
  FV_REQUIRE_ABSENT(args->sequences.kv_offsets, "with pages.ids");
  FV_REQUIRE(args->k.shape[1], >=, 1, "with pages.ids it is the length of a page");
  return FOVEA_OK;
}

/* Selected keys have no positions, and so nothing that is said by position. */
static fovea_status check_selection(const fovea_attention_args *args, const fv_problem *problem) {
  static const char why[] = "with positions.selected: those keys have no positions";
  const int64_t rows = args->q.shape[1];
  if (!args->positions.selected) return FOVEA_OK;
  FV_REQUIRE(args->positions.alignment, ==, FOVEA_ALIGN_BOTTOM_RIGHT, why);
  FV_REQUIRE(args->positions.kv_stride, ==, 0, why);
  FV_REQUIRE_ABSENT(args->positions.q, why);
  FV_REQUIRE_ABSENT(args->positions.kv, why);
  FV_REQUIRE_ABSENT(args->sequences.kv_first, why);
  FV_REQUIRE(args->visibility.window_left.kind, ==, FOVEA_WINDOW_UNLIMITED, why);
  FV_REQUIRE(args->visibility.window_right.kind, ==, FOVEA_WINDOW_UNLIMITED, why);
  FV_REQUIRE_ABSENT(args->visibility.prefix_lengths, why);
  FV_REQUIRE_ABSENT(args->visibility.spans, why);
  FV_REQUIRE_ABSENT(args->visibility.tree.bits, why);
  FV_REQUIRE_ABSENT(args->logits.alibi_slopes, why);
  FV_REQUIRE_ABSENT(args->logits.distances.table, why);
  if (rows > 1 && !(problem->q_packed && rows == problem->sequences))
    FV_REQUIRE(args->visibility.causal, ==, 0,
               "with positions.selected, unless each sequence has one row");
  return FOVEA_OK;
}

/* The extents of a mask or bias. If only the device knows the number of rows or keys, the device
 * finds what lies outside (FOVEA_BAD_MASK). */
static fovea_status check_grid(const char *name, const fovea_tensor *grid,
                               const fv_problem *problem) {
  const fv_name owner = named(name);
  const fovea_attention_args *args = &problem->args;
  const int64_t sequences = problem->sequences;
  if (grid->dtype == FOVEA_NONE) return FOVEA_OK;
  if (grid->shape[0] != 1)
    FV_REQUIRE_AT(owner, grid, shape, 0, ==, sequences, "or 1, which broadcasts");
  if (grid->shape[1] != 1 && !problem->q_packed)
    FV_REQUIRE_AT(owner, grid, shape, 1, >=, args->q.shape[1], "or be 1, which broadcasts");
  if (grid->shape[2] != 1)
    FV_REQUIRE_AT(owner, grid, shape, 2, ==, args->q.shape[2], "or 1, which broadcasts");
  if (grid->shape[3] != 1 && !problem->kv_packed && !problem->paged &&
      args->sequences.kv_lengths == NULL)
    FV_REQUIRE_AT(owner, grid, shape, 3, >=, args->k.shape[1], "or be 1, which broadcasts");
  return FOVEA_OK;
}

/* ---- Memory -------------------------------------------------------------------------------- */

/* Checks the arrays. Lists all memory that the call reads, and its table of errors. */
static fovea_status check_arrays(fv_problem *problem, bool addresses, fv_spans *inputs) {
  const fv_fields *fields = &fv_attention_fields;
  inputs->count = 0;
  for (int i = 0; addresses && i < fields->tensor_count; ++i) {
    const fv_tensor_field *field = &fields->tensors[i];
    if (!field->rule.written)
      fv_view_add_span(named(field->name), fv_tensor_at(&problem->args, field), inputs);
  }
  for (int i = 0; i < fields->array_count; ++i) {
    const fv_array_field *field = &fields->arrays[i];
    const fv_wide elements = fv_attention_elements(problem, field);
    FV_TRY(fv_check_array_field(field, &problem->args, elements, addresses, inputs));
  }
  return FOVEA_OK;
}

/* A span that the call writes must not overlap another such span or an input. */
static fovea_status check_overlap(const fovea_attention_args *args, const fv_spans *inputs) {
  const uintptr_t begin = (uintptr_t)args->workspace;
  const fv_span out = fv_view_span(named("out"), &args->out);
  const fv_span lse = fv_view_span(named("lse"), &args->lse);
  const fv_span workspace = {named("workspace"), begin, begin + args->workspace_bytes};
  FV_TRY(fv_view_check_apart_all(&out, inputs));
  FV_TRY(fv_view_check_apart_all(&lse, inputs));
  FV_TRY(fv_view_check_apart_all(&workspace, inputs));
  FV_TRY(fv_view_check_apart(&out, &lse));
  FV_TRY(fv_view_check_apart(&workspace, &out));
  return fv_view_check_apart(&workspace, &lse);
}

static fovea_status check_workspace(const fovea_attention_args *args) {
  const uintptr_t begin = (uintptr_t)args->workspace;
  if (args->workspace_bytes > 0) FV_REQUIRE_GIVEN(args->workspace, "with workspace_bytes above 0");
  if (begin % WORKSPACE_ALIGNMENT != 0)
    return fv_fail(FOVEA_BAD_ARGUMENT, "workspace is %p, must be aligned to %d bytes",
                   args->workspace, WORKSPACE_ALIGNMENT);
  if (args->workspace_bytes > UINTPTR_MAX - begin)
    return fv_fail(FOVEA_BAD_ARGUMENT, "workspace_bytes is %zu, which leaves the address space",
                   args->workspace_bytes);
  return FOVEA_OK;
}

/* ---- The whole ----------------------------------------------------------------------------- */

static int64_t window_limit(const fovea_window *window) {
  return window->kind == FOVEA_WINDOW_LIMITED ? window->count : -1;
}

/* An upper bound on the keys of a sequence. */
static int64_t kv_capacity(const fv_problem *problem) {
  const int64_t extent = problem->args.k.shape[1];
  return problem->paged ? fv_capacity_of_pages(problem->args.sequences.pages.count, extent)
                        : extent;
}

static void resolve(fv_problem *problem, purpose use) {
  fovea_attention_args *args = &problem->args;
  const fovea_tensor *q = &args->q;
  problem->rows = q->shape[1];
  problem->heads_q = (int32_t)q->shape[2];
  problem->heads_kv = (int32_t)args->k.shape[2];
  problem->group = problem->heads_q == 0 ? 1 : problem->heads_q / problem->heads_kv;
  problem->dim = (int32_t)q->shape[3];
  problem->dim_v = is_weights(use) ? problem->dim : (int32_t)args->v.shape[3];
  problem->kv_capacity = kv_capacity(problem);
  problem->scale = args->logits.scale != 0.0f     ? args->logits.scale
                   : args->logits.additive.vector ? 1.0f
                                                  : (float)(1.0 / sqrt((double)problem->dim));
  problem->heads_differ =
      args->sequences.pages.head_stride > 0 || args->sequences.pages.head_lengths != NULL;
  if (args->positions.selected) args->visibility.causal = 0; /* all keys come before the row */
  problem->window_left = window_limit(&args->visibility.window_left);
  /* From here on causal is a window with a right side of 0. */
  problem->window_right =
      args->visibility.causal ? 0 : window_limit(&args->visibility.window_right);
  if (args->visibility.span_rule == FOVEA_SPAN_WITHIN) {
    problem->span_left = problem->window_left;
    problem->span_right = window_limit(&args->visibility.window_right);
  } else {
    problem->span_left = problem->span_right = -1;
  }
  if (!args->sequences.pages.v_ids) args->sequences.pages.v_ids = args->sequences.pages.ids;
  problem->kv_position_stride = args->positions.kv_stride == 0 ? 1 : args->positions.kv_stride;
  problem->empty = problem->sequences == 0 || q->shape[1] == 0 || q->shape[2] == 0;
}

static fovea_status check_attention(const fovea_attention_args *given, fv_problem *problem,
                                    purpose use, fv_spans *inputs) {
  fovea_attention_args *args = &problem->args;
  FV_TRY(FV_COPY_STRUCT(args, given, fovea_attention_args, detail_bytes));
  if (use != USE_CALL) {
    args->workspace = NULL;
    args->workspace_bytes = 0;
  }
  FV_TRY(check_fields(args));
  FV_TRY(check_tensors(args, use));
  FV_TRY(check_shapes(args, use));
  FV_TRY(check_scales(args));
  FV_TRY(check_sequences(args, problem));
  FV_TRY(check_pages(args, problem));
  FV_TRY(check_selection(args, problem));
  FV_TRY(check_grid("visibility.mask", &args->visibility.mask, problem));
  FV_TRY(check_grid("logits.bias", &args->logits.bias, problem));
  FV_TRY(check_arrays(problem, has_addresses(use), inputs));
  if (use == USE_CALL) {
    FV_TRY(check_workspace(args));
    FV_TRY(check_overlap(args, inputs));
  }
  resolve(problem, use);
  return FOVEA_OK;
}

fovea_status fv_check_attention(const fovea_attention_args *args, fv_problem *problem) {
  fv_spans inputs;
  return check_attention(args, problem, USE_CALL, &inputs);
}

fovea_status fv_check_attention_shape(const fovea_attention_args *args, fv_problem *problem) {
  fv_spans inputs;
  return check_attention(args, problem, USE_SHAPE, &inputs);
}

fovea_status fv_check_weighed(const fovea_attention_args *args, fv_problem *problem, bool addresses,
                              fv_spans *inputs) {
  return check_attention(args, problem, addresses ? USE_WEIGHTS : USE_WEIGHTS_SHAPE, inputs);
}

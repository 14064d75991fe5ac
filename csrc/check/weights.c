/* weights.c - the rules of fovea_attention_weights: those of its attention, then its own, in the
 * order of check/attention.c. */
#include "csrc/check/check.h"
#include "csrc/check/fields.h"
#include "kernels/shared/shape.h"

static fv_name named(const char *text) {
  return (fv_name){text, -1};
}

static fovea_status check_weights_fields(const fovea_weights_args *args) {
  FV_REQUIRE_GIVEN(args->attention, "");
  if (args->weights.dtype == FOVEA_NONE && args->mass.dtype == FOVEA_NONE &&
      args->statistics.dtype == FOVEA_NONE)
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "weights.dtype is none, as those of mass and statistics are: one output at "
                   "least is asked for");
  FV_REQUIRE_ONE_OF(args->kind, FOVEA_WEIGHTS_PROBABILITIES, FOVEA_WEIGHTS_SCALED,
                    FOVEA_WEIGHTS_SOFTCAPPED, FOVEA_WEIGHTS_LOGITS);
  if (args->weights.dtype == FOVEA_NONE) FV_REQUIRE(args->kind, ==, 0, "without weights");
  FV_REQUIRE_ONE_OF(args->last_rows, 0, 1);
  if (args->last_rows) FV_REQUIRE_ABSENT(args->rows, "with last_rows");
  FV_REQUIRE(args->row_count, >=, 0, "");
  FV_REQUIRE(args->row_count, <=, INT32_MAX, "");
  FV_REQUIRE_ONE_OF(args->mass_by_kv_head, 0, 1);
  FV_REQUIRE_ONE_OF(args->mass_accumulate, 0, 1);
  if (args->mass.dtype == FOVEA_NONE) {
    FV_REQUIRE(args->mass_by_kv_head, ==, 0, "without mass");
    FV_REQUIRE(args->mass_accumulate, ==, 0, "without mass");
  }
  if (args->mass_by_kv_head) FV_REQUIRE_ABSENT(args->heads, "with mass_by_kv_head");
  if (args->statistics.dtype == FOVEA_NONE)
    FV_REQUIRE_ABSENT(args->largest_keys, "without statistics");
  return FOVEA_OK;
}

static fovea_status check_weights_tensors(fovea_weights_args *args, bool addresses) {
  static const fv_view_rule any = {FV_DTYPES_PLAIN, true, true, FV_LAST_UNIT};
  static const fv_view_rule single = {FV_DTYPE_BIT(FOVEA_F32), true, true, FV_LAST_UNIT};
  FV_TRY(fv_view_check(named("weights"), &any, &args->weights, addresses));
  FV_TRY(fv_view_check(named("mass"), &single, &args->mass, addresses));
  return fv_view_check(named("statistics"), &single, &args->statistics, addresses);
}

/* Rows are counted by weights and statistics, by row_count, or not at all. */
static fovea_status count_rows(const fovea_weights_args *args, fv_weights_problem *problem) {
  const bool weights = args->weights.dtype != FOVEA_NONE;
  problem->row_count = args->row_count > 0 ? args->row_count : -1;
  if (weights) {
    if (args->row_count > 0) FV_REQUIRE(args->row_count, ==, args->weights.shape[1], "or be 0");
    problem->row_count = args->weights.shape[1];
  }
  if (args->statistics.dtype != FOVEA_NONE) {
    if (weights) FV_REQUIRE(args->statistics.shape[1], ==, args->weights.shape[1], "");
    if (args->row_count > 0) FV_REQUIRE(args->row_count, ==, args->statistics.shape[1], "or be 0");
    problem->row_count = args->statistics.shape[1];
  }
  if (problem->row_count >= 0) return FOVEA_OK;
  if (args->rows != NULL)
    FV_REQUIRE(args->row_count, >=, 1, "with rows, of which mass does not say how many");
  if (args->last_rows)
    FV_REQUIRE(args->row_count, >=, 1, "with last_rows, of which mass does not say how many");
  return FOVEA_OK;
}

/* The outputs agree in sequences and heads. */
static fovea_status check_weights_shapes(const fovea_weights_args *args,
                                         fv_weights_problem *problem) {
  const bool weights = args->weights.dtype != FOVEA_NONE, mass = args->mass.dtype != FOVEA_NONE;
  const bool statistics = args->statistics.dtype != FOVEA_NONE;
  const int64_t heads_q = problem->attention.heads_q, heads_kv = problem->attention.heads_kv;
  FV_TRY(count_rows(args, problem));
  if (mass) {
    if (weights) FV_REQUIRE(args->mass.shape[0], ==, args->weights.shape[0], "");
    if (weights) FV_REQUIRE(args->mass.shape[3], ==, args->weights.shape[3], "");
    FV_REQUIRE(args->mass.shape[1], ==, 1, "it adds up the rows");
    if (args->mass_by_kv_head)
      FV_REQUIRE(args->mass.shape[2], ==, heads_kv, "with mass_by_kv_head");
    else if (weights)
      FV_REQUIRE(args->mass.shape[2], ==, args->weights.shape[2], "or mass_by_kv_head be 1");
    problem->entries = args->mass.shape[0];
    problem->head_count = args->mass_by_kv_head ? heads_q : args->mass.shape[2];
  }
  if (weights) {
    if (args->mass_by_kv_head)
      FV_REQUIRE(args->weights.shape[2], ==, heads_q, "with mass_by_kv_head");
    problem->entries = args->weights.shape[0];
    problem->head_count = args->weights.shape[2];
  }
  if (statistics) {
    const int64_t sequences = problem->entries, heads = problem->head_count;
    if (weights || mass) {
      FV_REQUIRE(args->statistics.shape[0], ==, sequences, "as the other outputs have");
      FV_REQUIRE(args->statistics.shape[2], ==, heads, "as the other outputs have");
    }
    FV_REQUIRE(args->statistics.shape[3], ==, 4, "");
    problem->entries = args->statistics.shape[0];
    problem->head_count = args->statistics.shape[2];
  }
  return FOVEA_OK;
}

/* The arrays that choose, and the one that is written. The outputs lie apart from what is read and
 * from each other. */
static fovea_status check_weights_memory(const fovea_weights_args *args,
                                         const fv_weights_problem *problem, bool addresses,
                                         fv_spans *inputs) {
  const int64_t rows = fv_max(problem->row_count, 0);
  const fv_array chosen[] = {
      {"sequences", args->sequences, problem->entries, 4},
      {"rows", args->rows, rows, 4},
      {"heads", args->heads, problem->head_count, 4},
  };
  const fv_array keys = {"largest_keys", args->largest_keys,
                         (fv_wide)problem->entries * rows * problem->head_count, 4};
  fv_spans outputs = {0};
  FV_TRY(fv_view_check_arrays(chosen, 3, addresses, inputs));
  FV_TRY(fv_view_check_arrays(&keys, 1, addresses, &outputs));
  if (!addresses) return FOVEA_OK;
  fv_view_add_span(named("weights"), &args->weights, &outputs);
  fv_view_add_span(named("mass"), &args->mass, &outputs);
  fv_view_add_span(named("statistics"), &args->statistics, &outputs);
  for (int i = 0; i < outputs.count; ++i) {
    FV_TRY(fv_view_check_apart_all(&outputs.list[i], inputs));
    for (int other = 0; other < i; ++other)
      FV_TRY(fv_view_check_apart(&outputs.list[i], &outputs.list[other]));
  }
  return FOVEA_OK;
}

static bool has_elements(const fovea_tensor *t) {
  return t->dtype != FOVEA_NONE && t->shape[0] != 0 && t->shape[1] != 0 && t->shape[2] != 0 &&
         t->shape[3] != 0;
}

static fovea_status check_weights(const fovea_weights_args *given, fv_weights_problem *problem,
                                  bool addresses) {
  fovea_weights_args copy, *args = &copy;
  fv_spans inputs;
  FV_TRY(FV_COPY_STRUCT(args, given, fovea_weights_args, heads));
  FV_TRY(check_weights_fields(args));
  FV_TRY(fv_check_weighed(args->attention, &problem->attention, addresses, &inputs));
  FV_TRY(check_weights_tensors(args, addresses));
  FV_TRY(check_weights_shapes(args, problem));
  FV_TRY(check_weights_memory(args, problem, addresses, &inputs));
  problem->weights = args->weights;
  problem->mass = args->mass;
  problem->statistics = args->statistics;
  problem->largest_keys = args->largest_keys;
  problem->sequences = args->sequences;
  problem->rows = args->rows;
  problem->heads = args->heads;
  problem->kind = args->kind;
  problem->last_rows = args->last_rows != 0;
  problem->mass_by_kv_head = args->mass_by_kv_head != 0;
  problem->mass_accumulate = args->mass_accumulate != 0;
  /* Not by q: a number out of range selects zeros, which are written even if q has no rows. */
  problem->attention.empty = !has_elements(&args->weights) && !has_elements(&args->mass) &&
                             !has_elements(&args->statistics);
  return FOVEA_OK;
}

fovea_status fv_check_weights(const fovea_weights_args *args, fv_weights_problem *problem) {
  return check_weights(args, problem, true);
}

fovea_status fv_check_weights_shape(const fovea_weights_args *args, fv_weights_problem *problem) {
  return check_weights(args, problem, false);
}

/* append.c - the rules of fovea_kv_append, in the order of check/attention.c. */
#include <string.h>

#include "csrc/check/check.h"
#include "csrc/check/fields.h"

static fv_name named(const char *text) {
  return (fv_name){text, -1};
}

static bool is_given(const fovea_tensor *view) {
  return view->dtype != FOVEA_NONE;
}

static fovea_status check_fields(const fovea_kv_append_args *args) {
  FV_REQUIRE_FLAGS(args->flags, FOVEA_ALLOW_DEPENDENT_LAUNCH);
  FV_REQUIRE(args->reserved, ==, 0, "");
  FV_TRY(fv_check_sequences(&args->sequences));
  FV_REQUIRE_ABSENT(args->sequences.kv_offsets, "in an append: a cache is not packed");
  FV_REQUIRE_ABSENT(args->sequences.kv_first, "in an append");
  FV_REQUIRE(args->rope.rows, >=, 0, "");
  FV_REQUIRE(args->rope.stride, >=, 0, "");
  FV_REQUIRE(args->rope.rotary_dim, >=, 0, "");
  FV_REQUIRE_ONE_OF(args->rope.style, FOVEA_ROPE_HALF_SPLIT, FOVEA_ROPE_INTERLEAVED);
  FV_REQUIRE_ZEROS("rope", &args->rope, reserved);
  return FOVEA_OK;
}

static fovea_status check_tensors(fovea_kv_append_args *args, bool addresses) {
  for (int i = 0; i < fv_append_fields.tensor_count; ++i)
    FV_TRY(fv_check_tensor_field(&fv_append_fields.tensors[i], args, addresses));
  return FOVEA_OK;
}

static fovea_status check_pair(const char *new_name, const fovea_tensor *new_view,
                               const char *cache_name, const fovea_tensor *cache) {
  if (is_given(new_view) != is_given(cache))
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "%s.dtype is none although %s is given: a pair is given "
                   "or absent",
                   is_given(cache) ? new_name : cache_name,
                   is_given(cache) ? cache_name : new_name);
  for (int i = 2; i < 4; ++i) {
    const int64_t cache_extent = cache->shape[i];
    FV_REQUIRE_AT(named(new_name), new_view, shape, i, ==, cache_extent, "");
  }
  return FOVEA_OK;
}

static fovea_status check_shapes(const fovea_kv_append_args *args) {
  FV_TRY(check_pair("k_new", &args->k_new, "k_cache", &args->k_cache));
  FV_TRY(check_pair("v_new", &args->v_new, "v_cache", &args->v_cache));
  if (!is_given(&args->k_new) && !is_given(&args->v_new))
    return fv_fail(FOVEA_BAD_ARGUMENT, "k_new.dtype and v_new.dtype are none: nothing to append");
  if (is_given(&args->k_new) && is_given(&args->v_new)) {
    FV_REQUIRE(args->v_new.shape[0], ==, args->k_new.shape[0], "");
    FV_REQUIRE(args->v_new.shape[1], ==, args->k_new.shape[1], "");
    FV_REQUIRE(args->v_new.shape[2], ==, args->k_new.shape[2], "");
    FV_REQUIRE(args->v_cache.shape[0], ==, args->k_cache.shape[0], "");
    FV_REQUIRE(args->v_cache.shape[1], ==, args->k_cache.shape[1], "");
  }
  FV_TRY(fv_view_check_scale(named("k_scale"), &args->k_scale, named("k_cache"), &args->k_cache));
  return fv_view_check_scale(named("v_scale"), &args->v_scale, named("v_cache"), &args->v_cache);
}

static fovea_status check_sequences(const fovea_kv_append_args *args, fv_append_problem *problem) {
  const bool has_k = is_given(&args->k_new);
  const fv_name name = named(has_k ? "k_new" : "v_new");
  const fovea_tensor *tokens = has_k ? &args->k_new : &args->v_new;
  problem->packed = args->sequences.q_offsets != NULL;
  problem->rows = tokens->shape[1];
  problem->heads_kv = (int32_t)tokens->shape[2];
  problem->sequences = args->sequences.count;
  if (problem->packed) {
    FV_REQUIRE_AT(name, tokens, shape, 0, ==, 1, "with q_offsets it is [1, total, heads, dim]");
    return FOVEA_OK;
  }
  const int64_t batch = tokens->shape[0];
  if (args->sequences.count != 0)
    FV_REQUIRE(args->sequences.count, ==, batch, "without q_offsets it may be left 0");
  problem->sequences = batch;
  return FOVEA_OK;
}

/* Tokens go to slots, to pages, or to the rows of the cache. */
static fovea_status check_destination(const fovea_kv_append_args *args,
                                      fv_append_problem *problem) {
  const bool has_k = is_given(&args->k_cache);
  const fv_name name = named(has_k ? "k_cache" : "v_cache");
  const fovea_tensor *cache = has_k ? &args->k_cache : &args->v_cache;
  const int64_t sequences = problem->sequences;
  problem->paged = args->sequences.pages.ids != NULL;
  FV_TRY(fv_view_check_pages(&args->sequences, sequences, cache));
  if (args->slots != NULL) {
    FV_REQUIRE_ABSENT(args->sequences.kv_lengths, "with slots");
    FV_REQUIRE_ABSENT(args->sequences.pages.ids, "with slots");
    FV_REQUIRE_AT(name, cache, shape, 1, >=, 1, "with slots it is their divisor");
    return FOVEA_OK;
  }
  FV_REQUIRE_GIVEN(args->sequences.kv_lengths, "without slots");
  if (problem->paged)
    FV_REQUIRE_AT(name, cache, shape, 1, >=, 1, "with pages.ids it is the length of a page");
  else
    FV_REQUIRE_AT(name, cache, shape, 0, ==, sequences, "without pages.ids and slots");
  return FOVEA_OK;
}

static fovea_status check_rope(const fovea_kv_append_args *args) {
  const fovea_rope *rope = &args->rope;
  if (rope->cos == NULL) {
    FV_REQUIRE_ABSENT(rope->sin, "without rope.cos");
    FV_REQUIRE_ABSENT(rope->positions, "without rope.cos");
    FV_REQUIRE(rope->rows, ==, 0, "without rope.cos nothing is rotated");
    FV_REQUIRE(rope->rotary_dim, ==, 0, "without rope.cos nothing is rotated");
    return FOVEA_OK;
  }
  FV_REQUIRE_GIVEN(rope->sin, "with rope.cos");
  if (!is_given(&args->k_new))
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "rope.cos is given, must be NULL without k_new: only keys "
                   "are rotated");
  FV_REQUIRE(rope->rotary_dim, >=, 2, "with rope.cos");
  FV_REQUIRE_MULTIPLE(rope->rotary_dim, 2, "");
  FV_REQUIRE(rope->rotary_dim, <=, args->k_new.shape[3], "");
  if (rope->rows > 1)
    FV_REQUIRE(rope->stride, >=, rope->rotary_dim / 2, "each position has a row of its own");
  if (args->slots != NULL) FV_REQUIRE_GIVEN(args->rope.positions, "for RoPE with slots");
  return FOVEA_OK;
}

static fovea_status check_arrays(fv_append_problem *problem, bool addresses, fv_spans *inputs) {
  inputs->count = 0;
  for (int i = 0; i < fv_append_fields.array_count; ++i) {
    const fv_array_field *field = &fv_append_fields.arrays[i];
    const fv_wide elements = fv_append_elements(problem, field);
    FV_TRY(fv_check_array_field(field, &problem->args, elements, addresses, inputs));
  }
  return FOVEA_OK;
}

/* A cache must not overlap anything that the call reads. Tensors may interleave with it: pages
 * often hold their own scales. */
static fovea_status check_cache_apart(const char *name, const fovea_tensor *cache,
                                      const fovea_kv_append_args *args, const fv_spans *arrays) {
  const fv_name own = named(name);
  const fv_span span = fv_view_span(own, cache);
  FV_TRY(fv_view_check_disjoint(own, cache, named("k_new"), &args->k_new));
  FV_TRY(fv_view_check_disjoint(own, cache, named("v_new"), &args->v_new));
  FV_TRY(fv_view_check_disjoint(own, cache, named("k_scale"), &args->k_scale));
  FV_TRY(fv_view_check_disjoint(own, cache, named("v_scale"), &args->v_scale));
  return fv_view_check_apart_all(&span, arrays);
}

static fovea_status check_memory(fv_append_problem *problem, bool addresses) {
  const fovea_kv_append_args *args = &problem->args;
  fv_spans arrays;
  FV_TRY(check_arrays(problem, addresses, &arrays));
  if (!addresses) return FOVEA_OK;
  FV_TRY(check_cache_apart("k_cache", &args->k_cache, args, &arrays));
  FV_TRY(check_cache_apart("v_cache", &args->v_cache, args, &arrays));
  return fv_view_check_disjoint(named("k_cache"), &args->k_cache, named("v_cache"), &args->v_cache);
}

static fovea_status check_append(const fovea_kv_append_args *given, fv_append_problem *problem,
                                 bool addresses) {
  fovea_kv_append_args *args = &problem->args;
  FV_TRY(FV_COPY_STRUCT(args, given, fovea_kv_append_args, detail_bytes));
  FV_TRY(check_fields(args));
  FV_TRY(check_tensors(args, addresses));
  FV_TRY(check_shapes(args));
  FV_TRY(check_sequences(args, problem));
  FV_TRY(check_destination(args, problem));
  FV_TRY(check_rope(args));
  FV_TRY(check_memory(problem, addresses));
  if (!args->sequences.pages.v_ids) args->sequences.pages.v_ids = args->sequences.pages.ids;
  problem->empty = problem->sequences == 0 || problem->rows == 0 || problem->heads_kv == 0;
  return FOVEA_OK;
}

fovea_status fv_check_append(const fovea_kv_append_args *args, fv_append_problem *problem) {
  return check_append(args, problem, true);
}

fovea_status fv_check_append_shape(const fovea_kv_append_args *args, fv_append_problem *problem) {
  return check_append(args, problem, false);
}

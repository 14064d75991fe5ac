/* append.c - the rules of fovea_kv_append, in the order of check/attention.c. */
#include <float.h>
#include <string.h>

#include "csrc/check/check.h"
#include "csrc/check/fields.h"

static fv_name named(const char *text) {
  return (fv_name){text, -1};
}

static bool is_given(const fovea_tensor *view) {
  return view->dtype != FOVEA_NONE;
}

/* The numbers of a norm. A macro, so that messages name the room. */
#define CHECK_NORM(room)                                                                       \
  do {                                                                                         \
    FV_REQUIRE_ZEROS(#room, &args->room, reserved);                                            \
    FV_REQUIRE(args->room.stride, >=, 0, "");                                                  \
    FV_REQUIRE_ONE_OF(args->room.unit_offset, 0, 1);                                           \
    FV_REQUIRE_ONE_OF(args->room.scope, FOVEA_NORM_HEAD, FOVEA_NORM_TOKEN);                    \
    if (args->room.gain == NULL) {                                                             \
      FV_REQUIRE(args->room.stride, ==, 0, "without " #room ".gain nothing is normed");        \
      FV_REQUIRE(args->room.unit_offset, ==, 0, "without " #room ".gain");                     \
      FV_REQUIRE(args->room.scope, ==, 0, "without " #room ".gain");                           \
      FV_TRY(check_eps(#room, args->room.eps, args->room.eps == 0, "0 without a gain"));       \
    } else {                                                                                   \
      FV_TRY(check_eps(#room, args->room.eps, args->room.eps > 0 && args->room.eps <= FLT_MAX, \
                       "finite and above 0"));                                                 \
    }                                                                                          \
  } while (0)

static fovea_status check_eps(const char *room, float eps, bool good, const char *rule) {
  if (good) return FOVEA_OK;
  return fv_fail(FOVEA_BAD_ARGUMENT, "%s.eps is %g, must be %s", room, (double)eps, rule);
}

static fovea_status check_norm_fields(const fovea_kv_append_args *args) {
  CHECK_NORM(q_norm);
  CHECK_NORM(k_norm);
  CHECK_NORM(v_norm);
  return FOVEA_OK;
}

static fovea_status check_fields(const fovea_kv_append_args *args) {
  FV_REQUIRE_FLAGS(args->flags, FOVEA_ALLOW_DEPENDENT_LAUNCH);
  FV_REQUIRE(args->reserved, ==, 0, "");
  FV_TRY(fv_check_sequences(&args->sequences));
  FV_REQUIRE_ABSENT(args->sequences.kv_offsets, "in an append: a cache is not packed");
  FV_REQUIRE_ABSENT(args->sequences.kv_first, "in an append");
  FV_REQUIRE(args->sequences.pages.head_stride, ==, 0, "in an append all kv heads share ids");
  FV_REQUIRE_ABSENT(args->sequences.pages.head_lengths, "in an append");
  FV_REQUIRE(args->rope.rows, >=, 0, "");
  FV_REQUIRE(args->rope.stride, >=, 0, "");
  FV_REQUIRE(args->rope.rotary_dim, >=, 0, "");
  FV_REQUIRE_ONE_OF(args->rope.style, FOVEA_ROPE_HALF_SPLIT, FOVEA_ROPE_INTERLEAVED);
  FV_REQUIRE_ZEROS("rope", &args->rope, reserved);
  return check_norm_fields(args);
}

static fovea_status check_tensors(fovea_kv_append_args *args, bool addresses) {
  for (int i = 0; i < fv_append_fields.tensor_count; ++i)
    FV_TRY(fv_check_tensor_field(&fv_append_fields.tensors[i], args, addresses));
  return FOVEA_OK;
}

/* A tensor of new elements and where they go: both or none. */
static fovea_status check_both(const char *from_name, const fovea_tensor *from, const char *to_name,
                               const fovea_tensor *to) {
  if (is_given(from) == is_given(to)) return FOVEA_OK;
  return fv_fail(FOVEA_BAD_ARGUMENT,
                 "%s.dtype is none although %s is given: a pair is given "
                 "or absent",
                 is_given(to) ? from_name : to_name, is_given(to) ? to_name : from_name);
}

static fovea_status check_pair(const char *new_name, const fovea_tensor *new_view,
                               const char *cache_name, const fovea_tensor *cache) {
  FV_TRY(check_both(new_name, new_view, cache_name, cache));
  for (int i = 2; i < 4; ++i) {
    const int64_t cache_extent = cache->shape[i];
    FV_REQUIRE_AT(named(new_name), new_view, shape, i, ==, cache_extent, "");
  }
  return FOVEA_OK;
}

static fovea_status check_query(const fovea_kv_append_args *args) {
  FV_TRY(check_both("q", &args->q, "q_out", &args->q_out));
  if (!is_given(&args->q)) return FOVEA_OK;
  for (int i = 0; i < 4; ++i)
    FV_REQUIRE_AT(named("q_out"), &args->q_out, shape, i, ==, args->q.shape[i], "");
  if (is_given(&args->k_new)) {
    FV_REQUIRE(args->q.shape[0], ==, args->k_new.shape[0], "");
    FV_REQUIRE(args->q.shape[1], ==, args->k_new.shape[1], "");
    FV_REQUIRE(args->q.shape[3], ==, args->k_new.shape[3], "");
  } else if (is_given(&args->v_new)) {
    FV_REQUIRE(args->q.shape[0], ==, args->v_new.shape[0], "");
    FV_REQUIRE(args->q.shape[1], ==, args->v_new.shape[1], "");
  }
  return FOVEA_OK;
}

static fovea_status check_norms(const fovea_kv_append_args *args) {
  if (!is_given(&args->q)) FV_REQUIRE_ABSENT(args->q_norm.gain, "without q");
  if (!is_given(&args->k_new)) FV_REQUIRE_ABSENT(args->k_norm.gain, "without k_new");
  if (!is_given(&args->v_new)) FV_REQUIRE_ABSENT(args->v_norm.gain, "without v_new");
  return FOVEA_OK;
}

static fovea_status check_shapes(const fovea_kv_append_args *args) {
  FV_TRY(check_pair("k_new", &args->k_new, "k_cache", &args->k_cache));
  FV_TRY(check_pair("v_new", &args->v_new, "v_cache", &args->v_cache));
  if (!is_given(&args->k_new) && !is_given(&args->v_new) && !is_given(&args->q))
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "k_new.dtype, v_new.dtype and q.dtype are none: nothing to append or prepare");
  if (is_given(&args->k_new) && is_given(&args->v_new)) {
    FV_REQUIRE(args->v_new.shape[0], ==, args->k_new.shape[0], "");
    FV_REQUIRE(args->v_new.shape[1], ==, args->k_new.shape[1], "");
    FV_REQUIRE(args->v_new.shape[2], ==, args->k_new.shape[2], "");
    FV_REQUIRE(args->v_cache.shape[0], ==, args->k_cache.shape[0], "");
    FV_REQUIRE(args->v_cache.shape[1], ==, args->k_cache.shape[1], "");
  }
  FV_TRY(check_query(args));
  FV_TRY(check_norms(args));
  FV_TRY(fv_view_check_scale(named("k_scale"), &args->k_scale, named("k_cache"), &args->k_cache));
  FV_TRY(fv_view_check_scale(named("v_scale"), &args->v_scale, named("v_cache"), &args->v_cache));
  return fv_view_check_scale(named("q_scale"), &args->q_scale, named("q_out"), &args->q_out);
}

static fovea_status check_sequences(const fovea_kv_append_args *args, fv_append_problem *problem) {
  const bool has_k = is_given(&args->k_new), has_v = is_given(&args->v_new);
  const fv_name name = named(has_k ? "k_new" : has_v ? "v_new" : "q");
  const fovea_tensor *tokens = has_k ? &args->k_new : has_v ? &args->v_new : &args->q;
  problem->packed = args->sequences.q_offsets != NULL;
  problem->rows = tokens->shape[1];
  problem->heads_kv = (int32_t)(has_k || has_v ? tokens->shape[2] : 0);
  problem->heads_q = (int32_t)args->q.shape[2];
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

/* Queries alone go to no cache. */
static fovea_status check_no_destination(const fovea_kv_append_args *args, int64_t sequences) {
  FV_REQUIRE_ABSENT(args->slots, "without k_new and v_new");
  FV_REQUIRE_ABSENT(args->sequences.pages.ids, "without k_new and v_new");
  return fv_view_check_pages(&args->sequences, sequences, 1, &args->k_cache);
}

/* Tokens go to slots, to pages, or to the rows of the cache. */
static fovea_status check_destination(const fovea_kv_append_args *args,
                                      fv_append_problem *problem) {
  const bool has_k = is_given(&args->k_cache);
  const fv_name name = named(has_k ? "k_cache" : "v_cache");
  const fovea_tensor *cache = has_k ? &args->k_cache : &args->v_cache;
  const int64_t sequences = problem->sequences;
  problem->paged = args->sequences.pages.ids != NULL;
  if (!has_k && !is_given(&args->v_cache)) return check_no_destination(args, sequences);
  FV_TRY(fv_view_check_pages(&args->sequences, sequences, 1, cache));
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
  if (!is_given(&args->k_new) && !is_given(&args->q))
    return fv_fail(FOVEA_BAD_ARGUMENT,
                   "rope.cos is given, must be NULL without k_new and q: only keys and queries "
                   "are rotated");
  FV_REQUIRE(rope->rotary_dim, >=, 2, "with rope.cos");
  FV_REQUIRE_MULTIPLE(rope->rotary_dim, 2, "");
  if (is_given(&args->k_new)) FV_REQUIRE(rope->rotary_dim, <=, args->k_new.shape[3], "");
  if (is_given(&args->q)) FV_REQUIRE(rope->rotary_dim, <=, args->q.shape[3], "");
  if (rope->rows > 1)
    FV_REQUIRE(rope->stride, >=, rope->rotary_dim / 2, "each position has a row of its own");
  if (args->slots != NULL) FV_REQUIRE_GIVEN(args->rope.positions, "for RoPE with slots");
  if (rope->positions == NULL)
    FV_REQUIRE_GIVEN(args->sequences.kv_lengths, "for RoPE without positions");
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

static bool is_same_view(const fovea_tensor *a, const fovea_tensor *b) {
  return a->data == b->data && a->dtype == b->dtype &&
         memcmp(a->stride, b->stride, sizeof a->stride) == 0;
}

/* What is written must not overlap anything else, except that q_out may be q. Tensors may
 * interleave with it: pages often hold their own scales, and one matrix product makes q, k and v
 * side by side. */
static fovea_status check_apart(const fv_tensor_field *written, fovea_kv_append_args *args,
                                const fv_spans *arrays) {
  const fovea_tensor *view = fv_tensor_at(args, written);
  for (int i = 0; i < fv_append_fields.tensor_count; ++i) {
    const fv_tensor_field *field = &fv_append_fields.tensors[i];
    const fovea_tensor *other = fv_tensor_at(args, field);
    if (!is_given(other) || (field->rule.written && field <= written)) continue;
    if (view == &args->q_out && other == &args->q && is_same_view(view, other)) continue;
    FV_TRY(fv_view_check_disjoint(named(written->name), view, named(field->name), other));
  }
  const fv_span span = fv_view_span(named(written->name), view);
  return fv_view_check_apart_all(&span, arrays);
}

static fovea_status check_memory(fv_append_problem *problem, bool addresses) {
  fovea_kv_append_args *args = &problem->args;
  fv_spans arrays;
  FV_TRY(check_arrays(problem, addresses, &arrays));
  if (!addresses) return FOVEA_OK;
  for (int i = 0; i < fv_append_fields.tensor_count; ++i) {
    const fv_tensor_field *field = &fv_append_fields.tensors[i];
    if (field->rule.written && is_given(fv_tensor_at(args, field)))
      FV_TRY(check_apart(field, args, &arrays));
  }
  return FOVEA_OK;
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
  problem->empty = problem->sequences == 0 || problem->rows == 0 ||
                   (problem->heads_kv == 0 && problem->heads_q == 0);
  return FOVEA_OK;
}

fovea_status fv_check_append(const fovea_kv_append_args *args, fv_append_problem *problem) {
  return check_append(args, problem, true);
}

fovea_status fv_check_append_shape(const fovea_kv_append_args *args, fv_append_problem *problem) {
  return check_append(args, problem, false);
}

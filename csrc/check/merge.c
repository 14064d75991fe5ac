/* merge.c - the rules of fovea_merge.
 *
 * A call has any number of partials, so only the two outputs are copied and normalised. The
 * partials stay in the caller's arrays; each is checked as a copy that lives for one round of a
 * loop. */
#include <string.h>

#include "csrc/check/check.h"
#include "csrc/check/view.h"

static const fv_view_rule part_out = {FV_DTYPES_PLAIN, false, false, FV_LAST_UNIT};
static const fv_view_rule part_lse = {FV_DTYPE_BIT(FOVEA_F32), false, false, FV_LAST_UNIT};
static const fv_view_rule merged_out = {FV_DTYPES_PLAIN, false, true, FV_LAST_UNIT};
static const fv_view_rule merged_lse = {FV_DTYPE_BIT(FOVEA_F32), true, true, FV_LAST_UNIT};

static fovea_status check_host_array(const char *name, const fovea_tensor *array) {
  if ((uintptr_t)array % _Alignof(fovea_tensor) == 0) return FOVEA_OK;
  return fv_fail(FOVEA_BAD_ARGUMENT, "%s is %p, must be aligned to %d bytes", name,
                 (const void *)array, (int)_Alignof(fovea_tensor));
}

static fovea_status check_fields(const fovea_merge_args *args) {
  FV_REQUIRE(args->count, >=, 2, "");
  FV_REQUIRE(args->reserved, ==, 0, "");
  FV_REQUIRE_GIVEN(args->outs, "");
  FV_REQUIRE_GIVEN(args->lses, "");
  FV_TRY(check_host_array("outs", args->outs));
  return check_host_array("lses", args->lses);
}

/* The outputs by themselves; partials are later checked against their shape. */
static fovea_status check_merged(fovea_merge_args *args, bool addresses) {
  const fv_name lse_name = {"lse", -1};
  FV_TRY(fv_view_check((fv_name){"out", -1}, &merged_out, &args->out, addresses));
  FV_TRY(fv_view_check(lse_name, &merged_lse, &args->lse, addresses));
  if (args->lse.dtype == FOVEA_NONE) return FOVEA_OK;
  for (int i = 0; i < 3; ++i)
    FV_REQUIRE_AT(lse_name, &args->lse, shape, i, ==, args->out.shape[i], "");
  FV_REQUIRE(args->lse.shape[3], ==, 1, "");
  return FOVEA_OK;
}

static fovea_status check_part_shape(const fovea_merge_args *args, fv_name name,
                                     const fovea_tensor *part, int64_t last) {
  const fovea_tensor *out = &args->out;
  for (int i = 0; i < 3; ++i) FV_REQUIRE_AT(name, part, shape, i, ==, out->shape[i], "");
  FV_REQUIRE_AT(name, part, shape, 3, ==, last, "");
  return FOVEA_OK;
}

/* Whether both are one view of the same memory. Their unused strides are 0 by now. */
static bool is_same(const fovea_tensor *a, const fovea_tensor *b) {
  return a->data == b->data && a->dtype == b->dtype &&
         memcmp(a->stride, b->stride, sizeof a->stride) == 0;
}

/* A partial must not overlap an output. One exception: a single partial may be the very view of the
 * output of its kind (`own`), which is then merged in place. */
static fovea_status check_place(fv_name name, const fovea_tensor *part, fv_name own_name,
                                const fovea_tensor *own, fv_name other_name,
                                const fovea_tensor *other, bool *in_place) {
  FV_TRY(fv_view_check_disjoint(other_name, other, name, part));
  if (!*in_place && is_same(part, own)) {
    *in_place = true;
    return FOVEA_OK;
  }
  return fv_view_check_disjoint(own_name, own, name, part);
}

static fovea_status check_parts(const fovea_merge_args *args, bool addresses) {
  const fv_name out_name = {"out", -1}, lse_name = {"lse", -1};
  bool out_in_place = false, lse_in_place = false;
  for (int32_t n = 0; n < args->count; ++n) {
    const fv_name outs_name = {"outs", n}, lses_name = {"lses", n};
    fovea_tensor out = args->outs[n], lse = args->lses[n];
    FV_TRY(fv_view_check(outs_name, &part_out, &out, addresses));
    FV_TRY(check_part_shape(args, outs_name, &out, args->out.shape[3]));
    FV_TRY(fv_view_check(lses_name, &part_lse, &lse, addresses));
    FV_TRY(check_part_shape(args, lses_name, &lse, 1));
    if (!addresses) continue;
    FV_TRY(check_place(outs_name, &out, out_name, &args->out, lse_name, &args->lse, &out_in_place));
    FV_TRY(check_place(lses_name, &lse, lse_name, &args->lse, out_name, &args->out, &lse_in_place));
  }
  return FOVEA_OK;
}

static fovea_status check_merge(const fovea_merge_args *given, fv_merge_problem *problem,
                                bool addresses) {
  fovea_merge_args *args = &problem->args;
  FV_TRY(FV_COPY_STRUCT(args, given, fovea_merge_args, detail_bytes));
  FV_TRY(check_fields(args));
  FV_TRY(check_merged(args, addresses));
  if (addresses)
    FV_TRY(
        fv_view_check_disjoint((fv_name){"out", -1}, &args->out, (fv_name){"lse", -1}, &args->lse));
  return check_parts(args, addresses);
}

fovea_status fv_check_merge(const fovea_merge_args *args, fv_merge_problem *problem) {
  return check_merge(args, problem, true);
}

fovea_status fv_check_merge_shape(const fovea_merge_args *args, fv_merge_problem *problem) {
  return check_merge(args, problem, false);
}

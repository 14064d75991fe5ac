/* config.c - the rules of fovea_options and fovea_limits. */
#include <string.h>

#include "csrc/check/check.h"
#include "csrc/check/view.h"

/* Rows of all sequences, at most: INT32_MAX sequences of INT32_MAX rows each. */
static const int64_t total_last = (int64_t)INT32_MAX * INT32_MAX;

static int64_t at_most(int64_t value, int64_t last) {
  return value < last ? value : last;
}

static fovea_status check_dtypes(const fovea_limits *args) {
  static const char any[] = "any (0)";
  static const fv_name q = {"q", -1}, k = {"k", -1}, v = {"v", -1}, out = {"out", -1};
  FV_TRY(fv_view_check_dtype(q, "_dtype", FV_DTYPES_QUERY, any, args->q_dtype));
  FV_TRY(fv_view_check_dtype(k, "_dtype", FV_DTYPES_CACHE, any, args->k_dtype));
  FV_TRY(fv_view_check_dtype(v, "_dtype", FV_DTYPES_CACHE, any, args->v_dtype));
  return fv_view_check_dtype(out, "_dtype", FV_DTYPES_QUERY, any, args->out_dtype);
}

fovea_status fv_check_limits(const fovea_limits *limits, fovea_limits *copy) {
  fovea_limits *args = copy;
  const fv_name name = {"limits", -1};
  FV_TRY(FV_COPY_STRUCT(args, limits, fovea_limits, reserved));
  FV_TRY(check_dtypes(args));
  FV_REQUIRE(args->dim, >=, 0, "");
  FV_REQUIRE(args->dim_v, >=, 0, "");
  FV_REQUIRE(args->heads_q, >=, 1, "");
  FV_REQUIRE(args->heads_kv, >=, 1, "");
  FV_REQUIRE(args->sequences, >=, 1, "");
  FV_REQUIRE(args->total_q, >=, 1, "");
  FV_REQUIRE(args->len_kv, >=, 1, "");
  FV_REQUIRE(args->sm_count, >=, 0, "");
  for (int i = 0; i < 3; ++i) FV_REQUIRE_AT(name, args, reserved, i, ==, 0, "");
  /* Clamped: no call exceeds these values, so the bound stays valid, and products stay small. */
  args->dim = args->dim == 0 ? FV_DIM_MAX : (int32_t)at_most(args->dim, FV_DIM_MAX);
  args->dim_v = args->dim_v == 0 ? FV_DIM_V_MAX : (int32_t)at_most(args->dim_v, FV_DIM_V_MAX);
  args->sequences = at_most(args->sequences, INT32_MAX);
  args->total_q = at_most(args->total_q, total_last);
  args->len_kv = at_most(args->len_kv, INT32_MAX);
  return FOVEA_OK;
}

fovea_status fv_check_options(const fovea_options *options, fovea_options *copy) {
  static const fovea_options defaults = {sizeof defaults, 0, 0, 0, 0, NULL, NULL, NULL, NULL};
  fovea_options *args = copy;
  FV_TRY(FV_COPY_STRUCT(args, options == NULL ? &defaults : options, fovea_options, log_user));
  FV_REQUIRE_ONE_OF(args->device, FOVEA_DEVICE_AUTO, FOVEA_DEVICE_CPU, FOVEA_DEVICE_REFERENCE,
                    FOVEA_DEVICE_CUDA);
  FV_REQUIRE(args->ordinal, >=, 0, "");
  if (args->device == FOVEA_DEVICE_CPU || args->device == FOVEA_DEVICE_REFERENCE)
    FV_REQUIRE(args->ordinal, ==, 0, "only CUDA devices are numbered");
  FV_REQUIRE(args->threads, >=, 0, "0 takes as many as the process may use");
  FV_REQUIRE(args->threads, <=, FV_THREADS_MAX, "0 takes as many as the process may use");
  FV_REQUIRE(args->reserved, ==, 0, "");
  return FOVEA_OK;
}

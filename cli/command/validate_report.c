/* validate_report.c - see validate_report.h. */
#include "cli/command/validate_report.h"

#include <stdio.h>

#include "cli/command/report.h"

bool fv_validation_passes(const fv_validation *v) {
  if (v->totals->failed || v->totals->run == 0) return false;
  return !v->held_to_coverage || fv_totals_cover(v->totals);
}

/* If cases were left out, right results so far say nothing about them. */
static bool has_verdict(const fv_validation *v) {
  return !v->interrupted || v->totals->failed;
}

static void write_repeat(const fv_validation *v, char *text, size_t capacity) {
  snprintf(text, capacity, "fovea validate --device %s --seed %llu --case %lld", v->device,
           (unsigned long long)v->seed, (long long)v->totals->failures[0]);
}

/* ---- JSON ---- */

static json_t *coverage_json(const int64_t coverage[FV_FEATURE_COUNT]) {
  json_t *object = json_object();
  for (int f = 0; f < FV_FEATURE_COUNT; ++f) {
    json_object_set_new(object, fv_feature_name((fv_feature)f), json_integer(coverage[f]));
  }
  return object;
}

static json_t *kernels_json(const fv_totals *t) {
  json_t *object = json_object();
  for (int i = 0; i < t->kernel_count; ++i) {
    const fv_kernel_record *kernel = &t->kernels[i];
    json_object_set_new(object, kernel->name,
                        json_pack("{s:I, s:o}", "cases", (json_int_t)kernel->cases, "coverage",
                                  coverage_json(kernel->coverage)));
  }
  return object;
}

static void add_failure(const fv_totals *t, const char *repeat, json_t *report) {
  if (!t->failed) return;
  json_object_set_new(report, "reason", json_string(t->first_reason));
  json_object_set_new(report, "case", json_string(t->first_text));
  json_object_set_new(report, "repeat", json_string(repeat));
  json_t *failures = json_array();
  for (int i = 0; i < fv_totals_failures(t); ++i) {
    json_array_append_new(failures, json_integer(t->failures[i]));
  }
  json_object_set_new(report, "failures", failures);
}

static int report_json(const fv_validation *v, const fv_verdict *verdict, const char *repeat) {
  const fv_totals *t = v->totals;
  char digest[17];
  json_t *report =
      fv_report_json("validate", v->device, v->kernel, "all", v->seconds, verdict, repeat);
  if (!report) return fv_report_write(report);
  snprintf(digest, sizeof digest, "%016llx", (unsigned long long)t->digest);
  json_object_set_new(report, "pass",
                      has_verdict(v) ? json_boolean(fv_validation_passes(v)) : json_null());
  json_object_set_new(report, "cases", json_integer(t->run));
  json_object_set_new(report, "failed", json_integer(t->failed));
  json_object_set_new(report, "digest", json_string(digest));
  json_object_set_new(report, "seed", json_integer((json_int_t)v->seed));
  json_object_set_new(report, "empty_cells", json_integer(fv_totals_empty_cells(t, NULL)));
  json_object_set_new(report, "left_out", json_integer(t->left_out));
  json_object_set_new(report, "coverage", coverage_json(t->coverage));
  json_object_set_new(report, "kernels", kernels_json(t));
  add_failure(t, repeat, report);
  return fv_report_write(report);
}

/* ---- Text ---- */

static void print_left_out(const fv_totals *t, int drawn) {
  if (drawn == FV_FEATURE_COUNT) return;
  printf(
      "           %d features, %d pairs of dtypes, weights and appends of blocks, norms and "
      "queries left out, "
      "and %lld cases drawn: not supported\n",
      FV_FEATURE_COUNT - drawn, fv_totals_pairs_left_out(t), (long long)t->left_out);
}

static void print_cells(const fv_validation *v) {
  int64_t cells = fv_totals_empty_cells(v->totals, NULL);
  if (!cells) {
    printf("           every feature and every pair of features at least %d times\n",
           FV_COVERAGE_MIN);
    return;
  }
  printf("           %lld features and pairs fewer than %d times%s\n", (long long)cells,
         FV_COVERAGE_MIN, v->held_to_coverage ? "" : ", as expected of a run below 20000 cases");
  if (v->held_to_coverage) fv_totals_empty_cells(v->totals, stdout);
}

static void print_coverage(const fv_validation *v) {
  const fv_totals *t = v->totals;
  int drawn = 0;
  for (int f = 0; f < FV_FEATURE_COUNT; ++f) drawn += fv_feature_in(t->features, f);
  printf("coverage   %d features, %lld cases beyond two tiles, %lld with 4096 keys or more\n",
         drawn, (long long)t->beyond, (long long)t->long_keys);
  print_left_out(t, drawn);
  printf("           %lld merges, %lld weights, %lld appends\n", (long long)t->kinds[FV_CASE_MERGE],
         (long long)t->kinds[FV_CASE_WEIGHTS], (long long)t->kinds[FV_CASE_APPEND]);
  print_cells(v);
}

static void print_failures(const fv_totals *t) {
  const int kept = fv_totals_failures(t);
  if (kept < 2) return;
  printf("all        ");
  for (int i = 0; i < kept; ++i) printf("%s%lld", i ? ", " : "", (long long)t->failures[i]);
  printf(t->failed > kept ? ", ...\n" : "\n");
}

static int report_text(const fv_validation *v, const fv_verdict *verdict, const char *repeat) {
  const fv_totals *t = v->totals;
  printf("device     %s, %s\n", v->device, v->kernel);
  printf("cases      %lld in %.1f s, seed %llu, %lld failed\n", (long long)t->run, v->seconds,
         (unsigned long long)v->seed, (long long)t->failed);
  printf("digest     %016llx\n", (unsigned long long)t->digest);
  print_coverage(v);
  fv_report_print_verdict(verdict, repeat);
  if (t->failed) {
    printf("first      %s\n           %s\n", t->first_text, t->first_reason);
    print_failures(t);
    if (!t->first_bad.any) printf("repeat     %s\n", repeat); /* else it stands below "first bad" */
  }
  if (!t->run) printf("nothing was run: no case matches the filter\n");
  if (has_verdict(v)) printf("verdict    %s\n", fv_validation_passes(v) ? "right" : "WRONG");
  return fv_report_finish();
}

int fv_validation_report(const fv_validation *v, bool json) {
  char repeat[128];
  fv_verdict verdict = v->totals->verdict;
  verdict.first_bad = v->totals->first_bad;
  write_repeat(v, repeat, sizeof repeat);
  return json ? report_json(v, &verdict, repeat) : report_text(v, &verdict, repeat);
}

/* run_report.c - see run_report.h. */
#include "cli/command/run_report.h"

#include <stdio.h>
#include <string.h>

#include "cli/command/report.h"
#include "cli/flag_value.h"
#include "csrc/dtype.h"

static const char *outcome_name(fv_run_verdict outcome) {
  static const char *const names[] = {"right", "wrong", "not checked"};
  return names[outcome];
}

static bool is_sample(const fv_run_result *result) {
  return !result->why_not && result->judged < result->rows;
}

bool fv_run_output_is_npy(const char *path) {
  static const char ending[] = ".npy";
  size_t length = strlen(path), least = sizeof ending - 1;
  return length > least && !strcmp(path + length - least, ending);
}

/* ---- JSON ---- */

static json_t *compared_with(const fv_run_result *result) {
  if (result->why_not) return json_null();
  return json_string(result->against_file ? "file" : "reference");
}

static json_t *pass(fv_run_verdict outcome) {
  return outcome == FV_RUN_NOT_CHECKED ? json_null() : json_boolean(outcome == FV_RUN_RIGHT);
}

int fv_run_report_json(const fv_run_options *options, const fv_input *input,
                       const fv_run_result *result) {
  json_t *report = fv_report_json("run", fv_device_name(result->info.device),
                                  result->support.kernel, fv_dtype_name(input->dtype),
                                  result->seconds, &result->verdict, options->repeat);
  if (report) {
    json_object_set_new(report, "pass", pass(result->outcome));
    json_object_set_new(report, "verdict", json_string(outcome_name(result->outcome)));
    json_object_set_new(report, "compared_with", compared_with(result));
    json_object_set_new(report, "rows", json_integer(result->rows));
    json_object_set_new(report, "rows_checked", json_integer(result->judged));
    json_object_set_new(report, "rows_bounded", json_integer(result->bounded));
    json_object_set_new(report, "seed",
                        is_sample(result) ? json_integer(options->seed) : json_null());
    json_object_set_new(report, "not_checked",
                        result->why_not ? json_string(result->why_not) : json_null());
    json_object_set_new(report, "exempt", json_integer((json_int_t)result->verdict.exempt));
    json_object_set_new(report, "not_finite", json_integer(result->strange.count));
    json_object_set_new(report, "file", fv_report_string(input->label));
    json_t *distance = result->has_distance ? json_real(result->distance) : NULL;
    if (!distance) distance = json_null(); /* there is none, or it is NaN or infinite */
    json_object_set_new(report, "distance_to_file", distance);
  }
  return fv_report_write(report);
}

/* ---- Text ---- */

static void print_problem(const fv_input *input, const fv_run_result *result) {
  const fovea_tensor *q = &input->args.q, *k = &input->args.k;
  printf("file       %s\n", input->label);
  printf("shape      batch %lld, heads %lld/%lld, len %lld x %lld, dim %lld/%lld\n",
         (long long)q->shape[0], (long long)q->shape[2], (long long)k->shape[2],
         (long long)q->shape[1], (long long)k->shape[1], (long long)q->shape[3],
         (long long)input->args.v.shape[3]);
  printf("device     %s (%s), %s\n", fv_device_name(result->info.device), result->info.name,
         result->support.kernel);
  printf("dtype      %s\n", fv_dtype_name(input->dtype));
  printf("time       %.3f ms\n", result->seconds * 1e3);
}

static void print_checked(const fv_run_options *options, const fv_run_result *result) {
  if (result->why_not) {
    printf("checked    %s\n", result->why_not);
    return;
  }
  printf("against    %s\n",
         result->against_file ? "the results in the file" : "the double precision reference");
  if (!is_sample(result)) {
    printf("checked    all %lld rows\n", (long long)result->rows);
  } else {
    printf("checked    %lld of %lld rows, sample of seed %lld\n", (long long)result->judged,
           (long long)result->rows, (long long)options->seed);
  }
  if (result->bounded) {
    printf("bounded    the other %lld rows, against the file, without the reference\n",
           (long long)result->bounded);
  }
}

static void print_strange(const fv_not_finite *strange) {
  const int64_t *at = strange->first.index;
  if (!strange->count) return;
  printf("not finite %lld numbers, the first at %s[%lld, %lld, %lld", (long long)strange->count,
         strange->first.tensor, (long long)at[0], (long long)at[1], (long long)at[2]);
  if (!strcmp(strange->first.tensor, "out")) printf(", %lld", (long long)at[3]);
  printf("]: %g\n", strange->first.got);
}

int fv_run_report_text(const fv_run_options *options, const fv_input *input,
                       const fv_run_result *result) {
  static const char *const words[] = {"right", "WRONG", "not checked"};
  print_problem(input, result);
  print_checked(options, result);
  if (result->has_distance)
    printf("distance   %.3g at most from out in the file\n", result->distance);
  print_strange(&result->strange);
  if (!result->why_not) fv_report_print_verdict(&result->verdict, options->repeat);
  if (result->verdict.exempt) {
    printf("exempt     %lld numbers, whose rows see NaN or infinities\n",
           (long long)result->verdict.exempt);
  }
  if (options->output && fv_run_output_is_npy(options->output)) {
    printf("written    out alone; lse and the settings are for .safetensors\n");
  }
  printf("verdict    %s\n", words[result->outcome]);
  return fv_report_finish();
}
